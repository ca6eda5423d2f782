"""Assets: videos and pictures that were uploaded, looked at once in a child, and may be named by jobs."""

import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

import flowpaint

from ..errors import FlowpaintError, InputError
from ..jobs.records import Asset
from . import models, uploads
from .document import BINARY, UPLOAD, binary
from .files import served
from .models import Key
from .problems import Refusal, documented
from .service import Here, Owner, Service, in_thread, shielded, tidy
from .uploads import File

router = APIRouter(prefix="/v1/assets", tags=["assets"])
_SCRUBBED = 600  # frames of an asset that are kept as pictures


async def take(service: Service, owner: str, file: File) -> Asset:
    """The asset that an uploaded file becomes. Raises `VideoError` for what is none, `Refusal` (507) without room."""
    limits = service.settings.limits
    name = tidy(file.name, "upload")
    await in_thread(service.check_room, file.bytes)
    told = {field: getattr(limits, field) for field in ("seconds", "frames", "pixels", "picture_bytes")}
    facts = await service.work("facts", {str(file.path): name}, path=str(file.path), limits=told)
    named = file.path.with_name(f"{file.path.name}{facts.pop('suffix')}")
    file.path.rename(named)
    kind = facts.pop("kind")
    asset = await shielded(lambda: service.store.add_asset(owner, name, named, kind, facts))
    service.meter.upload(kind, asset.bytes)
    return asset


def shown(asset: Asset) -> models.Asset:
    """An asset as answers have it."""
    plain = {field: getattr(asset, field) for field in ("id", "name", "kind", "bytes", "created")}
    return models.Asset(**plain, **asset.facts)


@router.post("", status_code=201, responses=documented(400, 413, 415, 422, 507), openapi_extra=UPLOAD)
async def upload(request: Request, service: Here, owner: Owner) -> models.Asset:
    """Take in a video or a picture: the part `file` of a form."""
    with uploads.place(service.store.folder / "incoming") as folder:
        form = await uploads.receive(request, folder, service.settings.limits)
        file = form.files.get("file")
        if file is None or len(form.files) > 1 or form.texts:
            raise Refusal(422, "The form must have one part, a file called `file`. Send each file by itself.")
        return shown(await take(service, owner, file))


@router.get("", responses=documented())
def list_assets(service: Here, owner: Owner) -> models.Assets:
    """What was uploaded, newest first."""
    return models.Assets(assets=[shown(one) for one in service.store.assets(owner)])


@router.get("/{key}", responses=documented(404, 422))
def get_asset(key: Key, service: Here, owner: Owner) -> models.Asset:
    """One asset."""
    return shown(service.store.asset(owner, key))


@router.delete("/{key}", status_code=204, responses=documented(404, 409, 422))
def delete_asset(key: Key, service: Here, owner: Owner) -> Response:
    """Delete an asset that no unfinished job reads."""
    service.store.asset(owner, key)
    try:
        service.store.remove_asset(owner, key)
    except InputError as error:
        raise conflict(error, service) from None
    return Response(status_code=204)


def conflict(error: InputError, service: Service) -> Exception:
    """The error itself where it tells of something unknown, else that the thing is not in the state for it (409)."""
    return error if type(error) is not InputError else Refusal(409, service.shown(str(error), {}))


@router.get("/{key}/content", response_class=Response, responses=binary(206, 304) | documented(404, 416, 422))
def content(request: Request, key: Key, service: Here, owner: Owner) -> Response:
    """The file as it was uploaded, or ranges of it."""
    asset = service.store.asset(owner, key)
    return served(request, asset.path, name=asset.name)


@router.get("/{key}/frames/{number}", response_class=Response, responses=BINARY["jpeg"] | documented(404, 416, 422))
async def one_frame(
    request: Request,
    key: Key,
    number: Annotated[int, InPath(ge=0, le=10_000_000)],
    service: Here,
    owner: Owner,
    side: Annotated[int, Query(ge=16, le=2048)] = 640,
) -> Response:
    """A frame as JPEG, its long side at most `side` pixels."""
    asset = await in_thread(service.store.asset, owner, key)
    folder = asset.path.parent / "frames"
    path = folder / f"{side}-{number}.jpg"
    if not path.exists():
        names = {str(asset.path): asset.name}
        made = folder / f"{secrets.token_hex(6)}.jpg"  # two may make the same one at a time
        try:
            await in_thread(_make_way, folder)
            await service.work("frame", names, path=str(asset.path), number=number, side=side, out=str(made))
            await in_thread(made.replace, path)
        except (FlowpaintError, FileNotFoundError):
            await in_thread(service.store.asset, owner, key)  # that is why, where it was deleted meanwhile
            raise
    return await in_thread(lambda: served(request, path, name=f"{asset.name}.{number}.jpg"))


def _make_way(folder: Path) -> None:
    """Keep the folder of an asset's frames small: the oldest go."""
    folder.mkdir(mode=0o700, exist_ok=True)
    pictures: list[tuple[float, Path]] = []
    for one in folder.iterdir():
        with suppress(FileNotFoundError):  # made, and renamed since
            pictures.append((one.stat().st_mtime, one))
    for _, old in sorted(pictures)[: max(0, len(pictures) - _SCRUBBED + 1)]:
        old.unlink(missing_ok=True)


@router.get("/{key}/shots", responses=documented(404, 422))
async def list_shots(key: Key, service: Here, owner: Owner) -> list[models.Shot]:
    """The shots of a video."""
    asset = await in_thread(service.store.asset, owner, key)
    file = asset.path.parent / "shots.json"
    found = await in_thread(_kept, file)
    if found is None:
        try:
            found = await service.alone(str(file), lambda: _find_shots(service, asset, file))
        except (FlowpaintError, FileNotFoundError):
            await in_thread(service.store.asset, owner, key)  # that is why, where it was deleted meanwhile
            raise
    return found


async def _find_shots(service: Service, asset: Asset, file: Path) -> list[models.Shot]:
    said = await service.work("shots", {str(asset.path): asset.name}, path=str(asset.path))
    found = [models.Shot.model_validate(one) for one in said["shots"]]
    await in_thread(_keep, file, found)
    return found


def _kept(file: Path) -> list[models.Shot] | None:
    """The shots that were found before, by this version of flowpaint."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        said: dict[str, Any] = json.loads(file.read_bytes())
        if said["version"] == flowpaint.__version__:
            return [models.Shot.model_validate(one) for one in said["shots"]]
    return None


def _keep(file: Path, shots: list[models.Shot]) -> None:
    said = {"version": flowpaint.__version__, "shots": [one.model_dump() for one in shots]}
    made = file.with_name(f"{secrets.token_hex(6)}.json")  # whole or not at all
    made.write_text(json.dumps(said))
    made.replace(file)
