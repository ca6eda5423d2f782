"""What was not trained comes along from the base: its parts, its settings, and an index that names them."""

import json

import pytest

from flowpaint.training.family import complete


@pytest.fixture
def base(tmp_path):
    for part in ("unet", "vae", "controlnet"):
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "config.json").write_text(f'"old {part}"')
    (tmp_path / "base" / "sampling.json").write_text('{"guidance": 2.0}')
    return tmp_path / "base"


def test_what_is_new_stays_and_what_is_missing_comes(base, tmp_path):
    made = tmp_path / "made"
    (made / "unet").mkdir(parents=True)
    (made / "unet" / "config.json").write_text('"new unet"')
    complete(made, base)
    assert [(made / part / "config.json").read_text() for part in ("unet", "vae")] == ['"new unet"', '"old vae"']
    assert json.loads((made / "sampling.json").read_text()) == {"guidance": 2.0}
    index = json.loads((made / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionControlNetPipeline"
    assert index["unet"] == ["diffusers", "UNet2DConditionModel"] and "tokenizer" not in index


def test_settings_of_an_image_model_do_not_come_along_unasked(base, tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    complete(made, base, suited=False, unet=("mine", "VideoUNet"))
    assert not (made / "sampling.json").exists()
    assert json.loads((made / "model_index.json").read_text())["unet"] == ["mine", "VideoUNet"]


def test_without_a_base_only_what_is_there_is_named(tmp_path):
    (tmp_path / "vae").mkdir()
    complete(tmp_path, None)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKL"] and "unet" not in index
    assert index["_class_name"] == "StableDiffusionPipeline"
