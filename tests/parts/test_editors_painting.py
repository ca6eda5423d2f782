"""Editors that paint with Stable Diffusion: where they are told to paint, with what, and that they do what diffusers does."""

import dataclasses
import inspect
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    PaintByExamplePipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file

from flowpaint import weights
from flowpaint.diffusion import loading
from flowpaint.errors import ConfigError, InputError, LicenceError, MissingExtraError, ResourceError, WeightsError
from flowpaint.parts.conditions import CannyEdges, DepthAnything
from flowpaint.parts.editors import ExampleEditor, InpaintEditor, InstructEditor, asked, example, inpaint, instruct, pipelines
from flowpaint.types import Clip, Edit
from flowpaint.weights import Policy, keeping
from tiny_editors import save_example
from tiny_models import save_controlnet, save_model, tiny_controlnet, tiny_unet

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers' schedulers


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("painters")
    save_model(root / "inpaint", in_channels=9)
    save_model(root / "plain")
    save_model(root / "instruct", in_channels=8)
    save_example(root / "example")
    save_controlnet(root / "control", tiny_unet())  # the published ones read latents alone, too
    return root


@pytest.fixture
def image():
    return torch.rand(3, 64, 48, generator=torch.Generator().manual_seed(3))


def noise(seed=1):
    return torch.Generator().manual_seed(seed)


def masked(height, width, box, frames=1):
    """A mask, 1 within rows and columns of `box`."""
    mask = torch.zeros(frames, 3, height, width)
    mask[0, :, box[0] : box[1], box[2] : box[3]] = 1.0
    return Clip.from_array(mask)


@pytest.fixture
def calls(monkeypatch):
    """What pipelines are asked for, in place of asking; each call must fit its pipeline's signature. They give grey."""
    seen = []

    def record(pipeline, **call):
        inspect.signature(type(pipeline).__call__).bind(pipeline, output_type="pt", **call)
        seen.append((type(pipeline), call))
        return torch.full_like(call["image"][0], 0.5)

    for module in (inpaint, instruct, example):
        monkeypatch.setattr(module, "run", record)
    return seen


# ------------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("kernel, times, reach", [(19, 9, 81), (9, 1, 4), (15, 1, 7)])
def test_a_mask_grows_as_by_opencvs_square(kernel, times, reach):
    mask = np.zeros((240, 300), np.uint8)
    mask[100:103, 120:150] = mask[200, 10] = 1
    dilated = cv2.dilate(mask, np.ones((kernel, kernel), np.uint8), iterations=times)
    assert torch.equal(asked.grown(torch.from_numpy(mask).float()[None], reach)[0], torch.from_numpy(dilated).float())


def test_a_mask_that_does_not_grow_is_the_same():
    mask = (torch.rand(1, 9, 7, generator=noise()) > 0.5).float()
    assert torch.equal(asked.grown(mask, 0), mask)


@pytest.mark.parametrize("size, pixels", [((480, 854), 81), ((854, 480), 81), ((1080, 1920), 182), ((16, 16), 3)])
def test_growth_goes_with_the_size_of_the_picture(size, pixels):
    assert asked.reach(torch.zeros(3, *size), 81) == pixels


def test_a_smaller_mask_covers_every_pixel_of_the_larger():
    mask = torch.zeros(1, 64, 64)
    mask[0, 17, 40] = 1
    small = asked.shrunk(mask, 8, 8)
    assert small.sum() == 1 and small[0, 0, 2, 5] == 1


def test_what_was_painted_is_laid_into_the_mask_and_nowhere_else():
    image, painted = torch.zeros(3, 40, 60), torch.ones(3, 40, 60)
    mask = torch.zeros(1, 40, 60)
    mask[0, 15:20, 30:40] = 1
    area = asked.grown(mask, 6)
    laid = asked.laid(painted, image, area, 6)
    assert (laid[:, area[0] == 0] == 0).all(), "outside to the bit"
    assert (laid[:, mask[0] == 1] == 1).all(), "all of it where the edit is"
    ramp = laid[0, 17, 24:31]
    assert (ramp.diff() > 0).all() and ramp[0] == pytest.approx(1 / 7)
    assert torch.equal(asked.laid(painted, image, mask, 0)[:1], mask), "nothing was grown: a hard rim"


def test_the_pictures_rim_is_no_rim_of_the_mask():
    mask = torch.zeros(1, 20, 20)
    mask[0, :, :10] = 1
    laid = asked.laid(torch.ones(3, 20, 20), torch.zeros(3, 20, 20), asked.grown(mask, 4), 4)
    assert (laid[:, :, :10] == 1).all() and (laid[:, :, 14:] == 0).all()


# ---------------------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize("grow, reach", [(None, 11), (0, 0), (5, 5)])  # 81 at 480 lines are 10.8 at 64
def test_inpainting_is_told_to_keep_all_but_the_grown_mask(root, calls, grow, reach):
    image = torch.rand(3, 64, 96, generator=noise())
    edit = Edit(prompt="a cat", negative="a dog", mask=masked(64, 96, (30, 34, 40, 44), frames=2))
    made = InpaintEditor(weights=str(root / "inpaint"), grow=grow, num_steps=7, guidance=3.0)(image, edit, noise())
    ((kind, call),) = calls
    hole = torch.zeros(64, 96)
    hole[30 - reach : 34 + reach, 40 - reach : 44 + reach] = 1
    assert kind is StableDiffusionInpaintPipeline and torch.equal(call["mask_image"][0, 0], hole)
    assert (call["prompt"], call["negative_prompt"]) == ("a cat", "a dog")
    assert (call["num_inference_steps"], call["guidance_scale"]) == (7, 3.0)
    assert torch.equal(call["image"][0], image) and (call["height"], call["width"]) == (64, 96)
    assert torch.equal(made[:, hole == 0], image[:, hole == 0])
    assert (made[:, 30:34, 40:44] - 0.5).abs().max() < 1e-6


def test_without_a_mask_everything_is_painted(root, calls, image):
    made = InpaintEditor(weights=str(root / "inpaint"))(image, Edit(prompt="a cat"), noise())
    assert (calls[0][1]["mask_image"] == 1).all() and (made - 0.5).abs().max() < 1e-6


def test_large_pictures_are_painted_small_and_carried_back(root, calls):
    image = torch.rand(3, 150, 210, generator=noise())
    edit = Edit(prompt="a cat", mask=masked(150, 210, (60, 70, 90, 110)))
    made = InpaintEditor(weights=str(root / "inpaint"), side=64, grow=2)(image, edit, noise())
    call = calls[0][1]
    assert call["image"].shape == (1, 3, 64, 88) and call["mask_image"].shape == (1, 1, 64, 88)
    assert made.shape == image.shape
    hole = torch.nn.functional.interpolate(call["mask_image"], size=(150, 210), mode="nearest")[0, 0]
    assert (hole[58:72, 88:112] == 1).all() and hole.mean() < 0.05
    assert torch.equal(made[:, :50], image[:, :50])


def test_a_mask_of_another_size_is_brought_to_the_pictures(root, calls):
    edit = Edit(prompt="a cat", mask=masked(32, 24, (8, 16, 6, 12)))
    InpaintEditor(weights=str(root / "inpaint"), grow=0)(torch.rand(3, 64, 48), edit, noise())
    hole = calls[0][1]["mask_image"][0, 0]
    assert (hole[17:31, 13:23] == 1).all() and (hole[:15] == 0).all() and (hole[33:] == 0).all()


def test_half_of_the_strength_is_halfway(root, calls, image):
    half = InpaintEditor(weights=str(root / "inpaint"))(image, Edit(prompt="a cat", strength=0.5), noise())
    assert (half - (image + 0.5) / 2).abs().max() < 1e-6


def test_a_controlnet_looks_at_the_unedited_picture(root, calls, image):
    editor = InpaintEditor(
        weights=str(root / "inpaint"), controlnet=str(root / "control"), control=CannyEdges(), control_scale=0.7
    )
    editor.check()
    editor(image, Edit(prompt="a cat", mask=masked(64, 48, (30, 34, 20, 24))), noise())
    ((kind, call),) = calls
    assert kind is StableDiffusionControlNetInpaintPipeline and call["controlnet_conditioning_scale"] == 0.7
    assert torch.equal(call["control_image"], CannyEdges()(image[None]))
    assert call["mask_image"].sum() == (4 + 2) ** 2, "9 pixels at 480 lines are 1 at 48: far less than without"


@pytest.mark.parametrize("paper", [0.95, 0.05], ids=["dark on light", "light on dark"])
def test_a_sketch_is_shown_as_white_lines_on_black(root, calls, image, paper):
    sketch = torch.full((3, 128, 96), paper)
    sketch[:, 60:68, 20:40] = 1 - paper
    edit = Edit(prompt="a cat", sketch=sketch, mask=masked(64, 48, (20, 40, 5, 30)))
    InpaintEditor(weights=str(root / "inpaint"), scribble=str(root / "control"))(image, edit, noise())
    ((kind, call),) = calls
    lines = torch.full((64, 48), 0.05)
    lines[30:34, 10:20] = 0.95
    assert kind is StableDiffusionControlNetInpaintPipeline
    assert (call["control_image"][0] - lines).abs().max() < 1e-6


@pytest.mark.parametrize(
    "sketch, said", [(torch.rand(3, 64, 64), "shapes differ"), (torch.ones(3, 64, 48), "no lines"), (torch.rand(3, 64), "shape")]
)
def test_a_drawing_that_shows_nothing_or_does_not_fit_is_refused(root, calls, image, sketch, said):
    editor = InpaintEditor(weights=str(root / "inpaint"), scribble=str(root / "control"))
    with pytest.raises(InputError, match=said):
        editor(image, Edit(prompt="a cat", sketch=sketch), noise())
    assert not calls


def test_the_public_controlnet_of_a_condition_is_found_and_the_condition_of_a_public_controlnet(root, monkeypatch):
    monkeypatch.setattr(loading, "public_controlnet", lambda found, kind: weights.controlnet_for(kind, "1"))
    found = loading.source(str(root / "inpaint"), "")
    assert InpaintEditor(control=DepthAnything())._net(found) == "depth-sd15"
    assert InpaintEditor()._net(found) == ""
    assert InpaintEditor(controlnet="depth-sd15-v10")._condition() == DepthAnything()
    with pytest.raises(ConfigError, match="sees is not known"):
        InpaintEditor(controlnet="scribble-sd15")._condition()


@pytest.mark.slow
def test_instructions_come_with_the_guidance_of_stablev2v(root, calls, image):
    InstructEditor(weights=str(root / "instruct"))(image, Edit(prompt="make it snow", instruct=True), noise())
    ((kind, call),) = calls
    assert kind is StableDiffusionInstructPix2PixPipeline and call["prompt"] == "make it snow"
    assert (call["guidance_scale"], call["image_guidance_scale"], call["num_inference_steps"]) == (9.0, 1.0, 50)


def test_a_reference_is_stretched_to_what_the_eye_sees(root, calls, image):
    wide = torch.zeros(3, 40, 90)
    wide[:, :, 45:] = 1.0
    edit = Edit(reference=wide, mask=masked(64, 48, (30, 34, 20, 24)))
    made = ExampleEditor(weights=str(root / "example"), grow=4)(image, edit, noise())
    ((kind, call),) = calls
    seen = call["example_image"]
    mean, deviation = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])  # of CLIP
    assert kind is PaintByExamplePipeline and seen.shape == (1, 3, 32, 32)
    for channel in range(3):
        dark, light = -mean[channel] / deviation[channel], (1 - mean[channel]) / deviation[channel]
        assert (seen[0, channel, :, :14] - dark).abs().max() < 1e-4 and (seen[0, channel, :, 18:] - light).abs().max() < 1e-4
    hole = torch.zeros(64, 48)
    hole[26:38, 16:28] = 1
    assert torch.equal(call["mask_image"][0, 0], hole) and torch.equal(call["image"][0], image * 2 - 1)
    assert torch.equal(made[:, hole == 0], image[:, hole == 0])


@pytest.mark.parametrize(
    "build, edit, said",
    [
        (lambda root: InpaintEditor(weights=f"{root}/inpaint"), Edit(prompt=" "), "needs words"),
        (lambda root: InstructEditor(weights=f"{root}/instruct"), Edit(instruct=True), "needs an instruction"),
        (lambda root: ExampleEditor(weights=f"{root}/example"), Edit(reference=torch.rand(3, 9, 9)), "must be told where"),
        (lambda root: ExampleEditor(weights=f"{root}/example"), Edit(reference=torch.rand(1, 9, 9)), "reference has shape"),
        (
            lambda root: InpaintEditor(weights=f"{root}/inpaint"),
            Edit(prompt="a cat", mask=Clip.from_array(torch.zeros(1, 3, 64, 48))),
            "marks nothing",
        ),
    ],
)
def test_what_is_missing_is_said(root, calls, image, build, edit, said):
    with pytest.raises(InputError, match=said):
        build(root)(image, edit, noise())
    assert not calls


@pytest.mark.parametrize(
    "kind, values",
    [
        (InpaintEditor, {"num_steps": 0}),
        (InpaintEditor, {"guidance": float("nan")}),
        (InpaintEditor, {"grow": -1}),
        (InstructEditor, {"image_guidance": 0.5}),
        (ExampleEditor, {"dtype": "float8"}),
    ],
)
def test_values_that_cannot_be_are_refused(kind, values):
    with pytest.raises(ConfigError):
        kind(**values)


# -------------------------------------------------------------------------------------------------------- what is done


def plainly(cls, folder, **more):
    """A pipeline as diffusers reads it by itself."""
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_diffusers_version": "0.30.0"}))
    made = cls.from_pretrained(folder, safety_checker=None, **more)
    made.set_progress_bar_config(disable=True)
    return made


def test_inpainting_is_diffusers_own(root, image):
    theirs = plainly(StableDiffusionInpaintPipeline, root / "inpaint", feature_extractor=None)
    theirs.scheduler = UniPCMultistepScheduler.from_config(theirs.scheduler.config)
    call = {"prompt": "a cat", "image": image[None], "mask_image": torch.ones(1, 1, 64, 48), "height": 64, "width": 48}
    truth = theirs(**call, num_inference_steps=3, guidance_scale=9.0, generator=noise(), output_type="pt").images[0]
    made = InpaintEditor(weights=str(root / "inpaint"), num_steps=3)(image, Edit(prompt="a cat"), noise())
    assert (made - truth).abs().max() < 1e-5
    other = InpaintEditor(weights=str(root / "inpaint"), num_steps=3)(image, Edit(prompt="a dog"), noise())
    assert (made - other).abs().max() > 1e-3


def test_instructions_are_followed_by_diffusers_own(root, image):
    theirs = plainly(StableDiffusionInstructPix2PixPipeline, root / "instruct", feature_extractor=None, image_encoder=None)
    theirs.scheduler = EulerAncestralDiscreteScheduler.from_config(theirs.scheduler.config)
    call = {"prompt": "a cat", "image": image[None], "num_inference_steps": 3, "guidance_scale": 9.0, "image_guidance_scale": 1.0}
    truth = theirs(**call, generator=noise(), output_type="pt").images[0]
    edit = Edit(prompt="a cat", instruct=True)
    made = InstructEditor(weights=str(root / "instruct"), num_steps=3)(image, edit, noise())
    assert (made - truth).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["inpaint", "plain", "example"])
def test_the_mask_steers(root, image, kind):
    """What is under the mask is not seen; what is beside it is; outside everything stays."""
    box = (16, 48, 16, 32)
    if kind == "example":
        editor, edit = ExampleEditor(weights=str(root / kind), grow=0, num_steps=2), {"reference": torch.ones(3, 32, 32)}
    else:
        editor, edit = InpaintEditor(weights=str(root / kind), grow=0, num_steps=2), {"prompt": "a cat"}
    edit = Edit(**edit, mask=masked(64, 48, box))
    inside = (slice(None), slice(*box[:2]), slice(*box[2:]))
    under, beside = image.clone(), image.clone()
    under[inside] = 0.9 - 0.8 * under[inside]
    beside[:, :8] = 1 - beside[:, :8]
    made, same, other = (editor(one, edit, noise()) for one in (image, under, beside))
    if kind != "plain":  # a model that was not trained for masks starts from the whole picture's latents
        assert torch.equal(made[inside], same[inside])
    assert (made[inside] - other[inside]).abs().max() > 1e-5
    outside = torch.ones(64, 48, dtype=torch.bool)
    outside[inside[1:]] = False
    assert torch.equal(made[:, outside], image[:, outside]) and not torch.equal(made[inside], image[inside])


def test_a_reference_is_seen(root, image):
    editor, mask = ExampleEditor(weights=str(root / "example"), num_steps=2), masked(64, 48, (16, 48, 16, 32))
    pictures = torch.zeros(3, 32, 32), torch.ones(3, 32, 32)
    first, second = (editor(image, Edit(reference=one, mask=mask), noise()) for one in pictures)
    assert (first - second).abs().max() > 1e-4


def test_a_sketch_is_followed(root, image):
    editor = InpaintEditor(weights=str(root / "inpaint"), scribble=str(root / "control"), num_steps=2)
    sketches = torch.ones(2, 3, 64, 48)
    sketches[0, :, 30:34] = sketches[1, :, :, 20:24] = 0.0
    first, second = (editor(image, Edit(prompt="a cat", sketch=one), noise()) for one in sketches)
    plain = editor(image, Edit(prompt="a cat"), noise())
    assert (first - second).abs().max() > 1e-4 and (first - plain).abs().max() > 1e-4


def test_half_precision_works(root, image):
    editor = InpaintEditor(weights=str(root / "inpaint"), num_steps=2, dtype="bfloat16")
    made = editor(image, Edit(prompt="a cat"), noise())
    whole = dataclasses.replace(editor, dtype="float32")(image, Edit(prompt="a cat"), noise())
    assert made.dtype == torch.float32 and 0 < (made - whole).abs().mean() < 0.05


# ------------------------------------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda root: InpaintEditor(weights=f"{root}/instruct"), "cannot paint into a mask.* 8 channels"),
        (lambda root: InstructEditor(weights=f"{root}/inpaint"), "follows no instructions.* 9 channels"),
        (lambda root: ExampleEditor(weights=f"{root}/cut"), "a model for StableDiffusionPipeline"),
        (lambda root: InpaintEditor(weights=f"{root}/inpaint", controlnet=f"{root}/narrow"), "of another family"),
        (lambda root: InpaintEditor(weights=f"{root}/inpaint", controlnet=f"{root}/control"), "sees is not known"),
        (lambda root: InpaintEditor(weights=f"{root}/inpaint", control=DepthAnything()), "no public ControlNet for 'depth'"),
    ],
)
def test_weights_of_another_kind_are_refused_before_they_are_read(root, tmp_path, monkeypatch, build, said):
    monkeypatch.setattr(inpaint, "kept", None)
    for name in ("inpaint", "instruct", "example", "control"):
        (tmp_path / name).symlink_to(root / name)
    tiny_controlnet(tiny_unet(cross=24)).save_pretrained(tmp_path / "narrow")
    shutil.copytree(root / "example", tmp_path / "cut")
    index = tmp_path / "cut" / "model_index.json"
    index.write_text(index.read_text().replace("PaintByExample", "StableDiffusion"))
    with pytest.raises(ConfigError, match=said):
        build(tmp_path).check()


@pytest.mark.parametrize("kind", [InpaintEditor, InstructEditor, ExampleEditor])
def test_missing_weights_are_said_with_a_setting_of_the_editor(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights.fetching._snapshot.cache_clear()
    with keeping(Policy(offline=True, commercial_only=True)):  # the published ones may be used
        for name in (kind().weights, "nowhere", ""):
            with pytest.raises(WeightsError, match=r"--set editor\.weights="):
                kind(weights=name).check()
        with pytest.raises(LicenceError):
            kind(weights="owner/unheard-of").check()
    weights.fetching._snapshot.cache_clear()


@pytest.mark.parametrize(
    "net, said", [({"controlnet": "nowhere"}, r"editor\.controlnet="), ({"scribble": "no"}, r"editor\.scribble=")]
)
def test_missing_controlnets_are_said_with_a_setting_of_the_editor(root, image, net, said):
    editor = InpaintEditor(weights=str(root / "inpaint"), control=CannyEdges(), **net)
    edit = Edit(prompt="a cat", sketch=image) if "scribble" in net else Edit(prompt="a cat")
    with keeping(Policy(offline=True)), pytest.raises(WeightsError, match=said):
        editor(image, edit, noise())


def test_pickles_are_read_where_that_is_allowed_alone(root, tmp_path, image):
    """The published Paint by Example is pickles."""
    folder = shutil.copytree(root / "example", tmp_path / "pickled")
    names = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}
    for part, name in names.items():
        file = folder / part / f"{name}.safetensors"
        torch.save(load_file(file), file.with_name(f"{name.replace('model', 'pytorch_model') if name == 'model' else name}.bin"))
        file.unlink()
    editor = ExampleEditor(weights=str(folder), num_steps=2)
    with pytest.raises(WeightsError, match="--allow-pickle"):
        editor.check()
    edit = Edit(reference=image, mask=masked(64, 48, (16, 48, 16, 32)))
    with keeping(Policy(allow_pickle=True)):
        made = editor(image, edit, noise())
    safe = dataclasses.replace(editor, weights=str(root / "example"))(image, edit, noise())
    assert (made - safe).abs().max() < 1e-4


def test_a_network_that_lacks_tensors_is_refused(root, tmp_path, image):
    folder = shutil.copytree(root / "example", tmp_path / "lacking")
    file = folder / "image_encoder" / "model.safetensors"
    state = load_file(file)
    state.pop("proj_out.weight")
    from safetensors.torch import save_file

    save_file(state, file, metadata={"format": "pt"})
    edit = Edit(reference=image, mask=masked(64, 48, (16, 48, 16, 32)))
    with pytest.raises(WeightsError, match=r"lacks 1 tensors, such as proj_out\.weight"):
        ExampleEditor(weights=str(folder), num_steps=2)(image, edit, noise())


# ------------------------------------------------------------------------------------------------------------- keeping


def test_a_pipeline_is_made_once_and_forgotten_when_asked(root):
    found, where = loading.source(str(root / "inpaint"), ""), pipelines.place(torch.device("cpu"), "float32", False)
    first = pipelines.kept(inpaint._assembled, found, where, "")
    assert pipelines.kept(inpaint._assembled, found, where, "") is first
    assert first.safety_checker is None and first._progress_bar_config == {"disable": True}
    pipelines.release()
    assert pipelines.kept(inpaint._assembled, found, where, "") is not first


def test_offload_is_for_other_devices_and_needs_accelerate(monkeypatch):
    assert not pipelines.place(torch.device("cpu"), "float32", True).home
    where = pipelines.place(torch.device("cuda"), "float16", True)
    assert where.home and where.start == torch.device("cpu") and where.dtype == torch.float16
    assert not pipelines.place(torch.device("cuda"), "float16", False).home
    moved = []

    class Pipeline:
        def set_progress_bar_config(self, disable):
            assert disable

        def enable_model_cpu_offload(self, device):
            moved.append(device)

    pipelines.kept(lambda found, place, control: Pipeline(), None, where)
    assert moved == [torch.device("cuda")]
    monkeypatch.setattr(pipelines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="accelerate"):
        pipelines.kept(lambda found, place, control: Pipeline(), None, where)


def test_running_out_of_memory_says_what_to_lower():
    def exhausted(**call):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

    with pytest.raises(ResourceError, match=r"editor\.offload=true"):
        pipelines.run(exhausted)

    def broken(**call):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        pipelines.run(broken)
