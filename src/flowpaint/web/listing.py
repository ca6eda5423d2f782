"""What there is to choose from, and whether the server is well."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

import flowpaint

from . import models
from .document import TEXT
from .problems import Refusal, documented
from .service import Here, in_thread

router = APIRouter()


@router.get("/v1/methods", tags=["choices"], responses=documented())
async def methods(service: Here) -> models.Methods:
    """The methods that a job may name, with their settings."""
    return models.Methods.model_validate(await service.known("methods"))


@router.get("/v1/looks", tags=["choices"], responses=documented())
async def looks(service: Here) -> models.Looks:
    """The built-in looks that a prompt may name."""
    return models.Looks.model_validate(await service.known("looks"))


@router.get("/v1/models", tags=["choices"], responses=documented())
async def weights(service: Here) -> models.Models:
    """The weights that flowpaint knows, and whether they are here."""
    found: dict[str, Any] = await service.work("models", {}, commercial_only=service.settings.commercial_only)
    return models.Models.model_validate(found)


@router.get("/healthz", tags=["server"], responses=documented())
def health() -> models.Health:
    """The server is there."""
    return models.Health(version=str(flowpaint.__version__))


@router.get("/readyz", tags=["server"], responses=documented(503))
async def ready(service: Here) -> models.Health:
    """The server can take jobs: its store can be used, and what opens files is loaded."""
    await in_thread(service.store.counts)
    if not service.asks.ready():
        raise Refusal(503, "The server is still loading. Ask again in a second.", code=1, headers={"retry-after": "1"})
    return models.Health(version=str(flowpaint.__version__))


@router.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses=TEXT | documented())
async def metrics(service: Here) -> PlainTextResponse:
    """Figures for Prometheus."""
    text = await in_thread(service.meter.text)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
