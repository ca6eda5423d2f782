"""Settings in a model's folder hold for whatever part takes that model, and what was said goes before them."""

import json

import pytest

from flowpaint.api.choose import choose_method
from flowpaint.errors import WeightsError
from flowpaint.weights import suited

SETTINGS = {"guidance": 2.5, "solver": "unipc", "consistency.adain_eps": 1e-5, "consistency.background": False, "nobody.has": 1}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "sampling.json").write_text(json.dumps(SETTINGS))
    return str(tmp_path)


def chosen(method, *settings):
    return choose_method(method, settings=settings)[0]


def test_a_method_takes_what_suits_its_model(model):
    method = chosen("fresco", f"model.weights={model}")
    assert (method.guidance, method.solver) == (2.5, "unipc")
    assert (method.consistency.adain_eps, method.consistency.background) == (1e-5, False)
    assert method.strength == chosen("fresco").strength


@pytest.mark.parametrize("name", ["analogy", "frame-by-frame"])
def test_an_editor_of_pictures_takes_it_too(name, model):
    editor = chosen(name, f"model.weights={model}").editor
    assert (editor.guidance, editor.solver) == (2.5, "unipc")


@pytest.mark.parametrize("swap", [False, True])
def test_what_was_said_goes_first(model, swap):
    said = ["guidance=3", f"model.weights={model}", "consistency.adain_eps=1"]
    method = chosen("fresco", *(reversed(said) if swap else said))
    assert (method.guidance, method.solver, method.consistency.adain_eps) == (3.0, "unipc", 1.0)
    assert not method.consistency.background


def test_another_part_in_place_has_none_of_these_fields(model):
    method = chosen("fresco", "consistency=plain", f"model.weights={model}")
    assert method.guidance == 2.5
    assert not hasattr(method.consistency, "adain_eps")


def test_a_model_without_settings_changes_nothing(tmp_path):
    plain = chosen("fresco")
    there = chosen("fresco", f"model.weights={tmp_path}")
    assert (there.guidance, there.solver, there.consistency) == (plain.guidance, plain.solver, plain.consistency)
    assert suited("sd15") == suited("nobody/nothing") == suited(str(tmp_path / "one.safetensors")) == {}


def test_mini_brings_its_own():
    assert float(suited("mini")["guidance"]) < 7.5
    assert chosen("fresco", "model.weights=mini").guidance == float(suited("mini")["guidance"])


@pytest.mark.parametrize("text", ["{", "[1]", '{"guidance": [1]}', '{"guidance": null}'])
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "sampling.json").write_text(text)
    with pytest.raises(WeightsError, match=r"sampling\.json is no table of settings"):
        suited(str(tmp_path))
