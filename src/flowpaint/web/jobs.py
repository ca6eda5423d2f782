"""Jobs: asked for, looked at, approved, cancelled, and what they made."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from ..errors import InputError
from ..jobs.records import Record, State
from . import asked, models, problems, views
from .assets import conflict
from .document import APPROVAL, ASKED, binary
from .files import served
from .models import Key
from .problems import Refusal, documented
from .service import Here, Owner, Service, in_thread, media_type, shielded

router = APIRouter(prefix="/v1", tags=["jobs"])
ASPECT_SLACK = 0.03  # that of `flowpaint.api`, the import of which takes too long here
Name = Annotated[str, InPath(pattern=r"^(video|report|sheet|first|preview|candidates)$")]


@router.post("/jobs", status_code=202, responses=documented(400, 404, 409, 413, 415, 422, 507), openapi_extra=ASKED)
async def submit(
    request: Request,
    response: Response,
    service: Here,
    owner: Owner,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> models.Job:
    """Ask for an edit. The video and pictures are assets, or come as files of a form with the job as its part `job`.

    Whoever got no answer may ask again with the same Idempotency-Key, and gets the job that is there.
    """
    once, before = idempotency_key, None
    if once is not None:
        before = await in_thread(service.store.asked, owner, once)
    if before is None:
        await in_thread(_check_queue, service, owner)
    wanted, posted = await asked.read(request, service, owner, before)
    if before is not None:
        response.headers["location"] = f"/v1/jobs/{before.id}"
        return await views.job(before, service)
    planned = await asked.planned(wanted, service, owner)
    made = await shielded(
        lambda: service.store.submit(
            owner,
            planned.job,
            request=posted,
            name=planned.name,
            priority=wanted.priority,
            approve=wanted.approve,
            once=once,
            reads=[Path(path).parent.name for path in planned.names],
        )
    )
    if made.request == posted:  # else it was asked for just now, with files that became other assets
        service.commands.learn(made, planned.command)
    response.headers["location"] = f"/v1/jobs/{made.id}"
    return await views.job(made, service)


def _check_queue(service: Service, owner: str) -> None:
    most = service.settings.limits.jobs_queued
    if service.store.counts(owner).get("queued", 0) >= most:
        raise Refusal(429, f"{most} jobs are queued. Wait until some are done.", headers={"retry-after": "30"})
    service.check_room(0)


@router.post("/plans", responses=documented(400, 404, 409, 413, 415, 422, 507), openapi_extra=ASKED)
async def plan(request: Request, service: Here, owner: Owner) -> models.Plan:
    """What a job would do and cost, without doing it: what `flowpaint edit --dry-run` says."""
    wanted, _ = await asked.read(request, service, owner)
    planned = await asked.planned(wanted, service, owner)
    output = service.settings.data.absolute() / "incoming" / f"result{planned.name[planned.name.rindex('.') :]}"
    found = await service.work("plan", planned.names, job=planned.job, output=str(output))
    del found["run_folder"]
    found["output"]["path"] = planned.name
    return models.Plan.model_validate({**service.plain(found, planned.names), "command": planned.command})


@router.get("/jobs", responses=documented(422))
async def list_jobs(
    service: Here,
    owner: Owner,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    before: Annotated[float | None, Query(allow_inf_nan=False)] = None,
) -> models.Jobs:
    """Jobs, newest first: of one state, or `created` before a time."""
    records = await in_thread(lambda: service.store.jobs(owner, state=state, limit=limit, before=before))
    return models.Jobs(jobs=await views.jobs(records, service))


@router.get("/jobs/{key}", responses=documented(404, 422))
async def get_job(key: Key, service: Here, owner: Owner) -> models.Job:
    """One job, as it is now."""
    return await views.job(await in_thread(service.store.get, owner, key), service)


@router.post("/jobs/{key}/approve", responses=documented(404, 409, 413, 415, 422), openapi_extra=APPROVAL)
async def approve(request: Request, key: Key, service: Here, owner: Owner) -> models.Job:
    """Let a job that waits go on: with its first frame, with another one (`seed`), or with a picture (`keyframe`)."""
    wanted = await _approval(request)
    if wanted.seed is not None and wanted.keyframe is not None:
        raise Refusal(422, "There are both a seed and a key frame. Give one of them, or nothing to accept the first frame.")
    found = await in_thread(service.store.get, owner, key)
    picture = None
    if wanted.keyframe is not None:
        picture = await in_thread(_first_frame, service, found, wanted.keyframe)
    try:
        made = await shielded(lambda: service.store.approve(owner, key, seed=wanted.seed, keyframe=picture))
    except InputError as error:
        raise conflict(error, service) from None
    return await views.job(made, service)


def _first_frame(service: Service, job: Record, key: str) -> Path:
    """The picture that is to be a job's first frame. Raises `Refusal` for what would end the job: a video, another shape."""
    given = service.store.asset(job.owner, key)
    if job.state != "waiting":  # the store will say so; the video may be gone
        return given.path.absolute()
    source = service.store.asset(job.owner, Path(job.job["input"]).parent.name).facts
    if given.kind != "picture":
        raise Refusal(422, f"{given.name} is a {given.kind}. Give the edited first frame as a picture.")
    height, width = given.facts["height"], given.facts["width"]
    if abs(width * source["height"] / (height * source["width"]) - 1) > ASPECT_SLACK:
        raise Refusal(
            422,
            f"{given.name} is {width}x{height}, another shape than the video's {source['width']}x{source['height']}. "
            "Crop it to the shape of the video; the size does not matter.",
        )
    return given.path.absolute()


async def _approval(request: Request) -> models.Approval:
    body = await request.body()
    kind = media_type(request)
    if kind not in ("application/json", "") or (not kind and body):
        raise Refusal(415, f"A body of type {kind!r} is not taken. Send application/json.")
    try:
        return models.Approval.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise problems.invalid(error) from None


@router.delete(
    "/jobs/{key}",
    response_model=models.Job,
    responses={**documented(404, 409, 422), 204: {"description": "The job had ended, and is removed with its files"}},
)
async def delete_job(key: Key, service: Here, owner: Owner) -> Response:
    """Cancel a job that has not ended; remove one that has, with its files."""
    found = await in_thread(service.store.get, owner, key)
    if not found.has_ended:
        ended = await shielded(service.store.cancel, owner, key)
        return JSONResponse((await views.job(ended, service)).model_dump(mode="json"))
    try:
        await shielded(service.store.remove, owner, key)
    except InputError as error:
        raise conflict(error, service) from None
    return Response(status_code=204)


@router.get("/jobs/{key}/artifacts/{name}", response_class=Response, responses=binary(206, 304) | documented(404, 416, 422))
def artifact(request: Request, key: Key, name: Name, service: Here, owner: Owner) -> Response:
    """A file that a job made, or ranges of it."""
    record = service.store.get(owner, key)
    path, _ = views.artifacts(record).get(name, (None, 0))
    if path is None:
        raise Refusal(404, f"The job {key} has no {name} now. Its `artifacts` say what it has.")
    return served(request, path, name=views.file_name(record, name, path))
