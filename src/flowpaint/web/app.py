"""`create_app`: the whole server as one ASGI application."""

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import flowpaint

from ..jobs.records import Unknown
from ..jobs.store import JobStore
from . import assets, events, jobs, listing, login, problems
from .children import Asks, Children
from .document import describe
from .guard import Guard
from .metrics import Meter
from .service import Service
from .settings import Settings
from .views import Commands


def create_app(settings: Settings, *, asks: Asks | None = None) -> FastAPI:
    """The application: jobs over HTTP, and the page where there is one. Jobs are done by workers, which are not started here.

    `asks` does what opens files, children of a process of its own if it is not given. `app.state.service.close()` ends it and
    closes the store, which the application itself does where it is shut down. Raises `WorkError` for a data folder that cannot
    be used.
    """
    store = JobStore(settings.data.absolute())
    children = Children(settings.limits) if asks is None else asks
    meter = Meter(store)
    service = Service(settings=settings, store=store, asks=children, meter=meter, commands=Commands())

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        del app
        try:
            children.start()
            yield
        finally:
            service.close()

    app = FastAPI(
        title="flowpaint",
        version=str(flowpaint.__version__),
        description="Edits of whole videos, as jobs. The same jobs as those of the command line and the page.",
        docs_url=None,  # its scripts come from another site
        redoc_url=None,
        lifespan=running,
        redirect_slashes=False,
    )
    app.state.service = service
    routers = (assets.router, jobs.router, events.router, listing.router, login.router)
    app.state.routes = [route for router in routers for route in router.routes]
    for router in routers:
        app.include_router(router)
    problems.add_handlers(app, Unknown)
    describe(app, settings)
    app.add_middleware(Guard, settings=settings, meter=meter)
    if importlib.util.find_spec("flowpaint.web.page") is not None:
        importlib.import_module("flowpaint.web.page").mount(app, settings)
    return app
