"""`serve`: the web server with its workers, until it is told to stop."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

import uvicorn

from ..errors import InputError
from ..jobs import Crew
from ..jobs.locks import Lock
from ..jobs.store import check_data_folder
from .app import create_app
from .settings import Settings
from .wire import Impatient, allow_connections

_BACKLOG = 512
_ROOM = 0.9  # of the quota, to which the data folder is cleared: the rest is for the next uploads
_LEAVE = 3  # seconds for requests under way, once told to stop; streams of events would never end


def serve(settings: Settings, *, workers: int = 1, tell: Callable[[str], None] = lambda _: None) -> None:
    """Answer requests, and have jobs done by `workers` processes, until interrupted; `tell` gets the address.

    Raises `InputError` for an address that cannot be listened on, and where another server has the data folder.
    """
    allow_connections()
    with _alone(settings), _listening(settings) as listener:
        host, port = listener.getsockname()[:2]
        app = create_app(replace(settings, port=port))
        limits = settings.limits
        kept = int(_ROOM * limits.quota_bytes)
        crew = Crew(settings.data, workers=workers, seconds=limits.job_seconds, quota=kept, memory=limits.worker_bytes, tell=tell)
        config = uvicorn.Config(
            app,
            http=Impatient,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_LEAVE,
        )
        signal.signal(signal.SIGTERM, _told_to_stop)  # uvicorn sends itself again what it got, once it has left
        crew.start()
        try:
            tell(f"flowpaint is at http://{f'[{host}]' if ':' in host else host}:{port}. Ctrl-C ends it; jobs are kept.")
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return
        finally:
            crew.stop()


def _told_to_stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Inside, no other server has the data folder."""
    check_data_folder(settings.data)
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The data folder {settings.data} cannot be made ({error.strerror}). Choose another --data.") from error
    with Lock(settings.data / "server.lock").tried() as is_ours:
        if not is_ours:
            raise InputError(f"{settings.data} is served already. Use that server, or another folder with --data.")
        yield


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """A socket that listens where the settings say."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise InputError(f"{settings.host}:{settings.port} cannot be listened on ({why}). Choose another --port.") from error
    with listener:
        yield listener
