"""Editors through Qwen-Image-Edit and FLUX.2 klein: what they are shown and told, and that they do what diffusers does."""

import inspect
import shutil

import pytest
import torch
from diffusers import Flux2KleinPipeline, QwenImageEditPipeline, QwenImageEditPlusPipeline
from PIL import Image

from flowpaint import weights
from flowpaint.errors import ConfigError, InputError, LicenceError, WeightsError
from flowpaint.parts.editors import KleinEditor, QwenEditor, asked, klein, pipelines, qwen
from flowpaint.types import Edit, to_raw
from flowpaint.weights import Policy, keeping
from tiny_editors import save_klein, save_qwen, tokens


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    save_klein(root / "klein")
    save_qwen(root / "qwen")
    shutil.copytree(root / "qwen", root / "one")
    index = root / "one" / "model_index.json"
    index.write_text(index.read_text().replace("QwenImageEditPlusPipeline", "QwenImageEditPipeline"))
    return root


@pytest.fixture
def image():
    return torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def calls(monkeypatch):
    """What pipelines are asked for, in place of asking; each call must fit its pipeline's signature. They give grey."""
    seen = []

    def record(pipeline, **call):
        inspect.signature(type(pipeline).__call__).bind(pipeline, output_type="pt", **call)
        seen.append((type(pipeline), call))
        return torch.full((3, call["height"], call["width"]), 0.5)

    for module in (klein, qwen):
        monkeypatch.setattr(module, "run", record)
    return seen


def noise(seed=1):
    return torch.Generator().manual_seed(seed)


def build(kind, root, name="", **values):
    return kind(weights=str(root / (name or {KleinEditor: "klein", QwenEditor: "qwen"}[kind])), dtype="float32", **values)


BOTH = pytest.mark.parametrize("kind", [KleinEditor, QwenEditor])


# ------------------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("cell", [16, 32])
@pytest.mark.parametrize("height, width", [(1080, 1920), (1920, 1080), (37, 53), (480, 854), (1024, 1024), (5, 90), (3000, 20)])
def test_pictures_are_painted_at_the_models_area_in_their_shape(cell, height, width):
    rows, columns = asked.of_area(height, width, 1024, cell)
    assert rows % cell == columns % cell == 0 and rows * columns <= 1024**2
    assert rows * columns > 0.85 * 1024**2
    ratio = min(max(width / height, 1 / 8), 8)
    assert columns / rows == pytest.approx(ratio, rel=cell / min(rows, columns))
    assert max(rows, columns) <= 8 * min(rows, columns), "klein's pipeline refuses more"


def test_words_are_put_as_an_instruction_and_instructions_are_not_changed():
    assert "shows a bronze statue." in asked.told(Edit(prompt="a bronze statue"), "it")
    assert asked.told(Edit(prompt="make it snow", instruct=True), "it") == "make it snow"
    reference = torch.zeros(3, 8, 8)
    alone, named = (asked.told(Edit(prompt=words, reference=reference), "it") for words in ("", "a red bus"))
    assert "picture 2" in alone and named == f"{alone} The result shows a red bus."
    for edit in (Edit(), Edit(instruct=True)):
        with pytest.raises(InputError, match="Give a prompt"):
            asked.told(edit, "it")


# ----------------------------------------------------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    "kind, name, cls, least", [(KleinEditor, "", Flux2KleinPipeline, 192), (QwenEditor, "", QwenImageEditPlusPipeline, 64)]
)
def test_the_picture_is_shown_first_and_the_reference_second(root, calls, kind, name, cls, least):
    image, reference = torch.rand(3, 90, 120, generator=noise()), torch.ones(3, 50, 100)
    made = build(kind, root, side=least)(image, Edit(prompt="a bus", reference=reference), noise())
    ((found, call),) = calls
    first, second = call["image"]
    size = asked.of_area(90, 120, least, klein._CELL if kind is KleinEditor else qwen._CELL)
    assert found is cls and (first.height, first.width) == (call["height"], call["width"]) == size
    small = asked.resize(image[None], *size)[0]
    assert torch.equal(torch.tensor(list(first.tobytes())), torch.tensor(list(to_raw(small).tobytes())))
    assert second.getextrema() == ((255, 255),) * 3 and second.width > 1.5 * second.height
    assert "picture 2" in call["prompt"] and "a bus" in call["prompt"]
    assert made.shape == image.shape


def test_klein_takes_its_four_steps_without_guidance(root, calls, image):
    build(KleinEditor, root)(image, Edit(prompt="make it snow", instruct=True), noise())
    call = calls[0][1]
    assert (call["num_inference_steps"], call["guidance_scale"], call["prompt"]) == (4, 1.0, "make it snow")
    assert len(call["image"]) == 1 and (call["height"], call["width"]) == (1024, 1024)


@pytest.mark.parametrize("negative, given", [("", " "), ("blurred", "blurred")])
def test_qwens_guidance_has_something_to_lead_away_from(root, calls, image, negative, given):
    build(QwenEditor, root)(image, Edit(prompt="a bus", negative=negative), noise())
    call = calls[0][1]
    assert (call["true_cfg_scale"], call["negative_prompt"], call["num_inference_steps"]) == (4.0, given, 40)


def test_the_first_qwen_reads_one_picture(root, calls, image):
    editor = build(QwenEditor, root, "one")
    editor.check()
    editor(image, Edit(prompt="a bus"), noise())
    ((cls, call),) = calls
    assert cls is QwenImageEditPipeline and isinstance(call["image"], Image.Image)
    with pytest.raises(ConfigError, match="reads one picture"):
        editor(image, Edit(reference=image), noise())


# -------------------------------------------------------------------------------------------------------------- what is done


def test_klein_is_diffusers_own(root, image):
    theirs = Flux2KleinPipeline.from_pretrained(root / "klein")
    theirs.set_progress_bar_config(disable=True)
    shown = Image.fromarray(to_raw(image))
    call = {"prompt": "make it snow", "image": [shown], "height": 192, "width": 192, "num_inference_steps": 2}
    truth = theirs(**call, guidance_scale=1.0, generator=noise(), output_type="pt").images[0]
    editor = build(KleinEditor, root, side=192, num_steps=2)
    made = editor(image, Edit(prompt="make it snow", instruct=True), noise())
    assert theirs.config.is_distilled and (made - truth.clamp(0, 1)).abs().max() < 1e-5
    pipelined = pipelines.kept(klein._assembled, editor._found(), pipelines.place(image.device, "float32", False))
    assert pipelined.config.is_distilled


@pytest.mark.slow
@BOTH
def test_pictures_words_and_references_count(root, kind, image, monkeypatch):
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as pipeline

    monkeypatch.setattr(pipeline, "VAE_IMAGE_SIZE", 64 * 64)
    monkeypatch.setattr(pipeline, "CONDITION_IMAGE_SIZE", 56 * 56)
    editor = build(kind, root, side=192 if kind is KleinEditor else 64, num_steps=1)
    dark, light = torch.zeros(3, 64, 64), torch.ones(3, 64, 64)
    made = editor(image, Edit(prompt="a bus"), noise())
    for other, edit, seed in (
        (1 - image, Edit(prompt="a bus"), 1),
        (image, Edit(prompt="a horse in the snow"), 1),
        (image, Edit(prompt="a bus"), 2),
    ):
        assert not torch.equal(editor(other, edit, noise(seed)), made)
    first, second = (editor(image, Edit(reference=one), noise()) for one in (dark, light))
    assert not torch.equal(first, second)


def test_the_reader_makes_as_many_tokens_of_pictures_as_the_network_does(root):
    """Of patches of 14 x 14 pixels four by four are one token; the pictures stand in the order of the words."""
    from transformers import Qwen2VLImageProcessor

    reader = qwen._Reader(tokens(), Qwen2VLImageProcessor.from_pretrained(root / "qwen" / "processor"))
    pictures = [Image.new("RGB", (56, 28)), Image.new("RGB", (28, 28), "white")]
    text = "one <|vision_start|><|image_pad|><|vision_end|> two <|vision_start|><|image_pad|><|vision_end|> words"
    seen = reader(text=[text], images=pictures, padding=True, return_tensors="pt")
    assert seen["image_grid_thw"].tolist() == [[1, 2, 4], [1, 2, 2]] and seen["pixel_values"].shape == (12, 3 * 2 * 14 * 14)
    pad = "<|image_pad|>"
    assert tokens().decode(seen["input_ids"][0]) == text.replace(pad, f"{pad}{pad}", 1)
    assert seen["attention_mask"].shape == seen["input_ids"].shape and seen.to("cpu") is not None


# ------------------------------------------------------------------------------------------------------------- the weights


@BOTH
def test_weights_in_several_files_are_whole_or_refused(kind, root, tmp_path, image):
    editor = build(kind, root)
    found = editor._found()
    folder = shutil.copytree(found.path, tmp_path / "split")
    for file in (folder / "transformer").glob("*.safetensors"):
        file.unlink()
    cls = klein if kind is KleinEditor else qwen
    network = pipelines.kept(cls._assembled, found, pipelines.place(image.device, "float32", False)).transformer
    network.save_pretrained(folder / "transformer", max_shard_size="20KB")
    split = kind(weights=str(folder), dtype="float32")
    split.check()
    again = pipelines.network(type(network), split._found(), "transformer", pipelines.place(image.device, "float32", False))
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in network.state_dict().items())
    for name, said in (("damaged", "cannot be read"), ("lacking", "no transformer: ")):
        other = shutil.copytree(folder, tmp_path / name)
        shards = sorted((other / "transformer").glob("*.safetensors"))
        assert len(shards) > 2
        shards[1].write_bytes(b"\xff" * 400)
        if name == "lacking":
            shards[1].unlink()
        with pytest.raises(WeightsError, match=said):
            kind(weights=str(other)).check()


@BOTH
def test_the_published_ones_may_be_used_and_are_not_here(kind, root, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights.fetching._snapshot.cache_clear()
    with keeping(Policy(offline=True, commercial_only=True)):
        with pytest.raises(WeightsError, match=r"--set editor\.weights="):
            kind().check()
        with pytest.raises(LicenceError):
            kind(weights="black-forest-labs/FLUX.2-klein-9B").check()
        other = root / ("qwen" if kind is KleinEditor else "klein")
        with pytest.raises((ConfigError, WeightsError)):
            kind(weights=str(other)).check()
    weights.fetching._snapshot.cache_clear()


@pytest.mark.parametrize("kind, side", [(KleinEditor, 191), (QwenEditor, 63)])
def test_sides_that_pipelines_refuse_are_refused(kind, side):
    with pytest.raises(ConfigError, match="side"):
        kind(side=side)
    kind(side=side + 1)
