"""Every registered part is a recipe and reads back; what is unknown is said with the nearest names."""

import dataclasses
import inspect
import json
import tomllib

import pytest

from flowpaint import seams
from flowpaint.api import describe, parts, toml
from flowpaint.errors import ConfigError

NAMES = [(kind, name) for kind in sorted(seams.table()) for name in seams.names(kind)]
NEEDED = {("editor", "style"): {"picture": "painting.jpg"}, ("editor", "picture"): {"picture": "edited.png"}}


@pytest.fixture(params=NAMES, ids=lambda pair: "-".join(pair))
def part(request):
    return seams.build(*request.param, **NEEDED.get(request.param, {}))


def test_is_a_frozen_dataclass_that_works_when_called(part):
    assert dataclasses.is_dataclass(part) and (callable(part) or hasattr(part, "denoiser") or hasattr(part, "map"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.anything = 1


def test_reads_back_from_plain_values(part):
    recipe = seams.to_dict(part)
    assert seams.from_dict(recipe) == part
    assert seams.from_dict(json.loads(json.dumps(recipe))) == part
    assert seams.from_dict(tomllib.loads(toml.dumps(recipe))) == part


@pytest.mark.slow
def test_a_typing_error_in_a_field_gives_the_nearest(part):
    recipe = seams.to_dict(part)
    for one in dataclasses.fields(part):
        if one.init:
            with pytest.raises(ConfigError, match=f"Nearest: .*'{one.name}'"):
                seams.from_dict({**recipe, one.name + "x": 1})


def test_every_field_can_be_set_to_what_it_is(part):
    for one in dataclasses.fields(part):
        value = getattr(part, one.name)
        if isinstance(value, (str, int, float, bool)):
            assert seams.override(part, one.name, str(value)) == part


@pytest.mark.slow
def test_is_described(part):
    kind, name = seams.to_dict(part)["kind"], seams.to_dict(part)["part"]
    found = next(one for one in describe(name) if one["kind"] == kind)
    assert [field["name"] for field in found["fields"]] == [one.name for one in dataclasses.fields(part)]
    assert found["doc"] == inspect.getdoc(type(part)) and found["doc"][0].isupper()
    assert tomllib.loads(found["recipe"])["part"] == name


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: seams.names("methd"), "'method'"),
        (lambda: seams.build("method", "analgy"), "'analogy'"),
        (lambda: seams.build("flow", "dis", prset="fast"), "'preset'"),
        (lambda: describe("analgy"), "'analogy'"),
        (lambda: seams.override(seams.build("flow", "dis"), "prest", "fast"), "'preset'"),
    ],
)
def test_unknown_names_give_the_nearest(call, nearest):
    with pytest.raises(ConfigError, match=nearest):
        call()


@pytest.mark.parametrize("value", ["quick", 3, None, ["fast"]])
def test_a_value_of_the_wrong_kind_is_refused(value):
    with pytest.raises(ConfigError, match="preset"):
        seams.build("flow", "dis", preset=value)


def test_every_kind_is_listed():
    assert parts() == {kind: seams.names(kind) for kind in seams.table()}
    assert parts("flow") == {"flow": seams.names("flow")}


def test_tuples_are_written_with_commas():
    model = seams.override(seams.build("model", "stable-diffusion"), "lora", "one.safetensors, two.safetensors")
    assert model.lora == ("one.safetensors", "two.safetensors")
    assert seams.override(model, "lora", "").lora == ()


@pytest.mark.parametrize("value", ["nan", "inf", "-Infinity", float("inf"), "1e999"])
def test_a_number_is_finite(value):
    with pytest.raises(ConfigError, match=r"ridge.*float"):
        seams.build("propagator", "analogy", ridge=value)
    assert seams.build("propagator", "analogy", ridge="1e-3").ridge == 1e-3
