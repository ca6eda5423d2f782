"""Settings that suit a model, kept beside its weights: what a small one wants is not what Stable Diffusion wants."""

import json
from pathlib import Path

from ..errors import WeightsError
from .bundled import here

SUITED = "sampling.json"


def suited(name: str) -> dict[str, str]:
    """Paths of fields below the part that holds the model called `name`, and the values that suit it: {"guidance": "2.0"}.

    They stand in `sampling.json` in the model's folder. Of what is not here yet, and of a file, there are none. Raises
    `WeightsError` where that file is no flat table of values.
    """
    table = (here(name) or Path()) / SUITED
    if not table.is_file():
        return {}
    try:
        return {path: _text(value) for path, value in json.loads(table.read_text("utf-8")).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise WeightsError(f'{table} is no table of settings ({error}). Write {{"guidance": 2.0}}, or remove it.') from error


def _text(value: object) -> str:
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError(f"{value!r} is no single value")
