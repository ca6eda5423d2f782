"""What every image editor must do, whoever wrote it."""

import json
import pickle
from typing import get_args

import pytest
import skimage.data
import torch
from PIL import Image

from edit_servers import WORKFLOW, ComfyUi, OpenAi
from flowpaint import seams
from flowpaint.errors import InputError
from flowpaint.parts.editors import LookEditor
from flowpaint.types import Clip, Edit, Task
from tiny_editors import save_example, save_klein, save_lama, save_qwen
from tiny_models import save_model

LOOKS = ["van gogh", "pencil", "watercolour", "oil", "cartoon", "golden hour", "noir", "cyberpunk"]
SIZES = [(16, 16), (37, 53), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((64, 48), (5, 90)))]
PIPELINES = {  # editors through ready pipelines: how their tiny models are made
    "inpaint": lambda folder: save_model(folder, in_channels=9),
    "instruct-pix2pix": lambda folder: save_model(folder, in_channels=8),
    "paint-by-example": save_example,
    "qwen-image-edit": save_qwen,
    "flux2-klein": save_klein,
}
SIDES = {"qwen-image-edit": 64, "flux2-klein": 192}


def photo(height, width):
    small = Image.fromarray(skimage.data.astronaut()).resize((width, height))
    return (
        torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(height, width, 3).permute(2, 0, 1).float() / 255
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of each editor's tiny model, made when it is asked for."""
    root, made = tmp_path_factory.mktemp("editors"), {}

    def found(kind):
        if kind not in made:
            made[kind] = save_lama(root / "lama.onnx") if kind == "lama" else PIPELINES[kind](root / kind)
        return str(made[kind])

    return found


@pytest.fixture(scope="module", autouse=True)
def small_glances():
    """Qwen's pipeline looks at pictures of a megapixel, whatever it paints: here at less."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as pipeline

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "VAE_IMAGE_SIZE", 64 * 64)
        patch.setattr(pipeline, "CONDITION_IMAGE_SIZE", 56 * 56)
        yield


def asked(editor, height, width, **more):
    """An edit that `editor` takes, with words where it can; where it must be told where, in the middle of the picture."""
    tasks = getattr(editor, "tasks", {"words"})
    if "words" in tasks:
        return Edit(prompt="a statue", **more)
    if "instruction" in tasks:
        return Edit(prompt="make it a statue", instruct=True, **more)
    mask = torch.zeros(1, 3, height, width)
    mask[..., height // 4 : -(height // 4), width // 4 : -(width // 4)] = 1.0
    kind = {"reference": photo(40, 30)} if "reference" in tasks else {"remove": True}
    return Edit(mask=Clip.from_array(mask), **kind, **more)


@pytest.fixture(scope="module")
def servers():
    """Servers on this machine for the editors that ask one."""
    with OpenAi() as openai, ComfyUi(polls=1) as comfyui:
        yield {"openai": openai.url, "comfyui": comfyui.url}


@pytest.fixture(params=[*seams.names("editor"), *(f"looks: {name}" for name in LOOKS)])
def build(request, tmp_path, model, folders, servers):
    """Makes the editor for frames of a given size: an editor led by a picture file gets one of that shape."""

    def made(height, width):
        kind, _, look = request.param.partition(": ")
        values = {}
        if look:
            values = {"looks": [[look, 1.0]]}
        elif kind == "diffusion":
            values = {"model": seams.build("model", "stable-diffusion", weights=model), "num_steps": 4}
        elif kind == "lama":
            values = {"weights": folders(kind)}
        elif kind in PIPELINES:
            values = {"weights": folders(kind), "num_steps": 2, "dtype": "float32", "side": SIDES.get(kind, 0)}
        elif kind in ("style", "picture"):
            path = tmp_path / f"{height}x{width}.png"
            Image.fromarray(skimage.data.immunohistochemistry()).resize((2 * width, 2 * height)).save(path)
            values = {"picture": str(path)}
        elif kind == "fill":
            values = {"grow": 1}  # of a picture five pixels high something must stay known
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
    edited = editor(image, asked(editor, height, width), torch.Generator().manual_seed(1))
    assert edited.shape == image.shape and edited.dtype == torch.float32
    assert edited.isfinite().all() and edited.min() >= 0 and edited.max() <= 1
    assert torch.equal(image, before)


def test_same_seed_same_pixels(build):
    image, editor = photo(37, 53), build(37, 53)
    first, second = (editor(image, asked(editor, 37, 53), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


def test_strength_zero_is_the_source(build):
    image, editor = photo(37, 53), build(37, 53)
    assert torch.equal(editor(image, asked(editor, 37, 53, strength=0.0), torch.Generator()), image)


def test_edits_something(build):
    image, editor = photo(64, 64), build(64, 64)
    assert (editor(image, asked(editor, 64, 64), torch.Generator()) - image).abs().mean() > 0.01


@pytest.mark.parametrize("level", [0.0, *(pytest.param(level, marks=pytest.mark.slow) for level in (0.5, 1.0))])
def test_takes_flat_pictures(build, level):
    editor = build(32, 32)
    edited = editor(torch.full((3, 32, 32), level), asked(editor, 32, 32, keep_colors=True), torch.Generator())
    assert edited.isfinite().all() and edited.min() >= 0 and edited.max() <= 1


def test_does_only_the_tasks_it_names(build):
    image, editor = photo(32, 32), build(32, 32)
    tasks = getattr(editor, "tasks", None)
    assert tasks is None or tasks <= set(get_args(Task))
    ways = {
        "words": Edit(prompt="a statue"),
        "instruction": Edit(prompt="make it a statue", instruct=True),
        "reference": Edit(reference=image),
        "sketch": Edit(prompt="a statue", sketch=image),
        "removal": Edit(remove=True),
    }
    for task in set(get_args(Task)) - (tasks or set(get_args(Task))):
        with pytest.raises(InputError, match=f"asks for {task}"):
            editor(image, ways[task], torch.Generator())


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
