"""What every image editor must do, whoever wrote it."""

import json
import pickle

import pytest
import skimage.data
import torch
from PIL import Image

from edit_servers import WORKFLOW, ComfyUi, OpenAi
from flowpaint import seams
from flowpaint.parts.editors import LookEditor
from flowpaint.types import Clip, Edit
from tiny_models import save_model

LOOKS = ["van gogh", "pencil", "watercolour", "oil", "cartoon", "golden hour", "noir", "cyberpunk"]
SIZES = [(16, 16), (37, 53), (64, 48), (5, 90)]


def photo(height, width):
    small = Image.fromarray(skimage.data.astronaut()).resize((width, height))
    return (
        torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(height, width, 3).permute(2, 0, 1).float() / 255
    )


def wanted(editor, image, **more):
    """An edit that `editor` takes: words, or a removal of what is in the middle."""
    if "removal" not in getattr(editor, "tasks", ()):
        return Edit(prompt="a statue", **more)
    _, height, width = image.shape
    mask = torch.zeros(1, 3, height, width)
    mask[..., height // 3 : height // 2 + 1, width // 3 : width // 2 + 1] = 1
    return Edit(mask=Clip.from_array(mask), remove=True, **more)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="module")
def servers():
    """Servers on this machine for the editors that ask one."""
    with OpenAi() as openai, ComfyUi(polls=1) as comfyui:
        yield {"openai": openai.url, "comfyui": comfyui.url}


@pytest.fixture(params=[*seams.names("editor"), *(f"looks: {name}" for name in LOOKS)])
def build(request, tmp_path, model, servers):
    """Makes the editor for frames of a given size: an editor led by a picture file gets one of that shape."""

    def made(height, width):
        kind, _, look = request.param.partition(": ")
        values = {}
        if look:
            values = {"looks": [[look, 1.0]]}
        elif kind == "diffusion":
            values = {"model": seams.build("model", "stable-diffusion", weights=model), "num_steps": 4}
        elif kind in ("style", "picture"):
            path = tmp_path / f"{height}x{width}.png"
            Image.fromarray(skimage.data.immunohistochemistry()).resize((2 * width, 2 * height)).save(path)
            values = {"picture": str(path)}
        elif kind == "fill":
            values = {"grow": 3}  # of a picture five pixels high something must stay known
        elif kind in servers:
            values = {"url": servers[kind]}
            if kind == "comfyui":
                (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW))
                values["workflow"] = str(tmp_path / "workflow.json")
        return seams.build("editor", kind, **values)

    return made


@pytest.mark.parametrize("height, width", SIZES)
def test_keeps_size_and_range(build, height, width):
    image = photo(height, width)
    before = image.clone()
    editor = build(height, width)
    edited = editor(image, wanted(editor, image), torch.Generator().manual_seed(1))
    assert edited.shape == image.shape and edited.dtype == torch.float32
    assert edited.isfinite().all() and edited.min() >= 0 and edited.max() <= 1
    assert torch.equal(image, before)


def test_same_seed_same_pixels(build):
    image, editor = photo(37, 53), build(37, 53)
    first, second = (editor(image, wanted(editor, image), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_strength_zero_is_the_source(build):
    image, editor = photo(37, 53), build(37, 53)
    assert torch.equal(editor(image, wanted(editor, image, strength=0.0), torch.Generator()), image)


def test_edits_something(build):
    image, editor = photo(64, 64), build(64, 64)
    assert (editor(image, wanted(editor, image), torch.Generator()) - image).abs().mean() > 0.01


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_takes_flat_pictures(build, level):
    image, editor = torch.full((3, 32, 32), level), build(32, 32)
    edited = editor(image, wanted(editor, image, keep_colors=True), torch.Generator())
    assert edited.isfinite().all() and edited.min() >= 0 and edited.max() <= 1


def test_is_an_image_editor(build):
    assert isinstance(build(16, 16), seams.ImageEditor)


def test_is_a_recipe(build):
    editor = build(16, 16)
    assert seams.from_dict(seams.to_dict(editor)) == editor
    assert pickle.loads(pickle.dumps(editor)) == editor
    assert len(pickle.dumps(editor)) < 10_000


def test_the_seed_keys_the_paper_of_a_drawing():
    image, editor = photo(64, 64), LookEditor(looks=(("pencil", 1.0),))
    assert not torch.equal(*(editor(image, Edit(prompt="a statue"), torch.Generator().manual_seed(seed)) for seed in (1, 2)))
