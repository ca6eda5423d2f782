"""FRESCO end to end on a tiny random model of the real classes."""

from dataclasses import replace

import pytest
import torch

from flowpaint import seams
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.plans import anchor_chain
from flowpaint.diffusion.translate import fitted
from flowpaint.errors import ConfigError, InputError, ResourceError, WeightsError
from flowpaint.methods.fresco import Fresco
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip, Edit
from tiny_models import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return LatentDiffusion(weights=str(save_model(tmp_path_factory.mktemp("tiny") / "model")))


def fresco(model, **values):
    few = seams.build("consistency", "fresco", iterations=2)
    fields = {
        "model": model,
        "consistency": few,
        "saliency": None,
        "shortest": 2,
        "longest": 4,
        "num_steps": 4,
        "window": 3,
        "side": 128,
    }
    return Fresco(**{**fields, **values})


def frames_of(method, clip, prompt="a bronze statue", **values):
    run = {name: values.pop(name) for name in ("seed", "store", "progress") if name in values}
    return torch.stack(list(method(clip, Edit(prompt=prompt, **values), Run(**run))))


def keys_of(method, clip):
    """The key frames alone."""
    found = []
    shown = replace(method, propagate=lambda clip, keys, edit, run: found.append(keys) or clip)
    shown(clip, Edit(prompt="a bronze statue"), Run())
    return torch.stack([found[0][index] for index in found[0]])


@pytest.mark.slow
def test_every_frame_comes_back_changed_and_the_same_for_the_same_seed(model, textured_pan):
    clip = textured_pan.clip[:7]
    method = fresco(model)
    first = frames_of(method, clip, seed=3)
    assert first.shape == clip.frames.shape and torch.isfinite(first).all()
    assert (first - clip.frames).abs().mean() > 0.02
    assert torch.equal(first, frames_of(method, clip, seed=3))
    assert not torch.equal(first, frames_of(method, clip, seed=4))


def test_finished_key_frames_are_taken_from_the_store(model, textured_pan, monkeypatch):
    clip, store = textured_pan.clip[:5], MemoryStore()
    first = frames_of(fresco(model), clip, store=store)
    monkeypatch.setattr(LatentDiffusion, "encode", lambda *_: pytest.fail("it was translated again"))
    assert torch.equal(first, frames_of(fresco(model), clip, store=store))


@pytest.mark.slow
def test_each_part_of_the_consistency_counts(model, textured_pan):
    clip = textured_pan.clip[:5]
    whole = frames_of(fresco(model), clip)
    for name, value in (("attention", "none"), ("attention", "cross-frame"), ("optimise", False), ("compat", "paper")):
        consistency = replace(fresco(model).consistency, **{name: value})
        assert not torch.equal(whole, frames_of(fresco(model, consistency=consistency), clip)), name


@pytest.mark.slow
def test_the_background_is_smoothed_where_there_is_saliency(model, textured_pan):
    clip = textured_pan.clip[:5]

    def nothing(frames, hint=None):
        return torch.zeros_like(frames[:, :1])

    plain = frames_of(fresco(model), clip)
    assert not torch.equal(plain, frames_of(fresco(model, saliency=nothing), clip))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_few_frames_work(model, textured_pan, count):
    clip = textured_pan.clip[:count]
    assert frames_of(fresco(model), clip).shape == clip.frames.shape


def test_sizes_that_are_no_multiple_of_eight_come_back(model, moving_square):
    clip = moving_square.clip[:3]
    assert frames_of(fresco(model), clip).shape == clip.frames.shape


def plan(num_frames, size):
    return anchor_chain(num_frames, size, tail=3)


def test_windows_hold_on_to_the_first_frame_and_the_last_before():
    assert [one.frames for one in plan(5, 8).windows] == [(0, 1, 2, 3, 4)]
    found = plan(12, 6).windows
    assert [one.frames for one in found] == [(0, 1, 2, 3, 4, 5), (0, 5, 6, 7, 8), (0, 8, 9, 10, 11)]
    assert [sorted(one.anchors) for one in found] == [[], [0, 5], [0, 8]]
    assert [one.kept for one in plan(9, 8).windows] == [(0, 1, 2, 3, 4, 5), (6, 7, 8)], "a tail of one borrows two"
    for count in range(1, 40):
        for size in range(3, 10):
            windows = plan(count, size).windows
            assert sorted(frame for one in windows for frame in one.kept) == list(range(count))
            assert max(len(one.frames) for one in windows) <= size


@pytest.mark.slow
def test_a_run_goes_on_with_the_next_window(model, textured_pan, monkeypatch):
    """Killed in the second window: the first is not denoised again, and the pictures are those of an undisturbed run."""
    clip, method = textured_pan.clip[:9], fresco(model, num_steps=3)
    undisturbed = frames_of(method, clip)

    class Killed(Exception):
        pass

    store, calls = MemoryStore(), []

    def stop(stage, done, total):
        if stage == "denoise" and done == 3:  # of 2 steps a window
            raise Killed

    with pytest.raises(Killed):
        frames_of(method, clip, store=store, progress=stop)
    plain = LatentDiffusion.denoiser
    monkeypatch.setattr(LatentDiffusion, "denoiser", lambda *args, **told: calls.append(1) or plain(*args, **told))
    assert torch.equal(frames_of(method, clip, store=store), undisturbed)
    again = len(calls)
    calls.clear()
    frames_of(method, clip)
    assert 0 < again < len(calls)
    assert not [name for name in store._kept if "window" in name], "latents are dropped once their pictures are stored"


def test_memory_does_not_hold_all_key_frames(model, textured_pan):
    """A window's frames are read when it comes up, and pictures come from the store."""
    held = []

    def watched(clip):
        return clip.with_frames(lambda index: held.append(index) or clip.raw(index))

    clip = textured_pan.clip[:9]
    method = fresco(model, window=3, propagate=lambda clip, keys, edit, run: held.append(keys) or clip)
    method(watched(clip), Edit(prompt="a statue"), Run())
    pictures = held[-1]
    assert not isinstance(pictures, dict) and list(pictures) == sorted(pictures) and pictures[0].shape == clip.frame(0).shape
    with pytest.raises(KeyError):
        pictures[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"solver": "ddim"},
        {"solver": "unipc"},
        {"solver": "dpm++"},
        {"solver": "lcm"},
        {"noise": "per_frame"},
        {"shared_noise": True},
        {"posterior": "sample"},
        {"guidance": 1.0},
        {"strength": 1.0},
        {"placing": "official"},
    ],
    ids=str,
)
def test_every_setting_counts_and_is_repeatable(model, textured_pan, values):
    clip, alone = textured_pan.clip[:2], seams.build("consistency", "plain")
    plain, other, again = (keys_of(fresco(model, consistency=alone, **one), clip) for one in ({}, values, values))
    assert other.isfinite().all() and torch.equal(other, again)
    if "placing" not in values:
        assert not torch.equal(plain, other)


def test_what_is_drawn_does_not_hang_on_the_size_of_a_batch(model, textured_pan):
    clip, alone = textured_pan.clip[:5], seams.build("consistency", "plain")
    first, second = (keys_of(fresco(replace(model, batch=size), consistency=alone, posterior="sample"), clip) for size in (1, 3))
    torch.testing.assert_close(first, second, rtol=0, atol=2 / 255)


@pytest.mark.slow
def test_words_change_with_the_frames(model, textured_pan):
    clip, method = textured_pan.clip[:7], fresco(model, consistency=seams.build("consistency", "plain"), window=3)
    bronze, snow = (frames_of(method, clip, prompt=words) for words in ("a bronze statue", "a snowman"))
    both = frames_of(method, clip, prompt="a bronze statue", prompts={4: "a snowman"})
    assert torch.equal(both[0], bronze[0]) and torch.equal(both[-1], snow[-1]) and not torch.equal(bronze[-1], snow[-1])


def test_conditions_are_fitted_to_the_whole_clip(textured_pan):
    """Dim frames in a window of their own must not be drawn by a scale of their own."""

    class Scaled:
        """White where a frame is as bright as the brightest it was fitted to."""

        def __init__(self, top=None):
            self.top = top

        def fitted(self, frames):
            return Scaled(frames.max().item())

        def __call__(self, frames):
            return (frames / (self.top or frames.max())).clamp(0, 1)

    frames = textured_pan.clip[:9].frames
    frames[5:] *= 0.2
    control = fitted(Scaled(), Clip.from_array(frames), [0, 4, 8], (64, 96), "cpu")
    assert control.top == pytest.approx(frames.max().item(), abs=0.05)
    assert fitted(len, Clip.from_array(frames), [0], (64, 96), "cpu") is len, "one without a scale stays as it is"


@pytest.mark.slow
def test_strength_and_colours_of_the_edit(model, textured_pan):
    clip, method = textured_pan.clip[:2], fresco(model, consistency=seams.build("consistency", "plain"))
    whole, half, none = (frames_of(method, clip, strength=one) for one in (1.0, 0.5, 0.0))
    assert torch.equal(none, clip.frames)
    assert (half - clip.frames).abs().mean() < 0.7 * (whole - clip.frames).abs().mean()
    kept = frames_of(method, clip, keep_colors=True)
    assert not torch.equal(kept, whole)


def test_a_limit_of_memory_makes_windows_smaller(model, textured_pan, monkeypatch):
    monkeypatch.setattr("flowpaint.diffusion.memory._UNET", 1e4)
    monkeypatch.setattr("flowpaint.diffusion.memory._VAE", 1e4)
    monkeypatch.setattr("flowpaint.diffusion.memory._TEXT", 1e4)
    run = Run()
    limited = fresco(replace(model, limit="80MB"), window=8)
    result = limited(textured_pan.clip[:9], Edit(prompt="a statue"), run)
    assert len(list(result)) == 9
    assert any("Windows hold" in one for one in run.notes.warnings)


def test_what_cannot_be_done_is_refused_before_any_work(model, textured_pan):
    clip = textured_pan.clip[:3]
    with pytest.raises(InputError, match="prompt"):
        fresco(model)(clip, Edit(), Run())
    with pytest.raises(WeightsError):
        fresco(LatentDiffusion(weights="nowhere"))(clip, Edit(prompt="a statue"), Run())
    with pytest.raises(ConfigError, match="3 or more"):
        fresco(model, window=2)


def test_windows_that_do_not_fit_are_refused(model, textured_pan, monkeypatch):
    for name in ("_UNET", "_VAE", "_TEXT"):
        monkeypatch.setattr(f"flowpaint.diffusion.memory.{name}", 1e4)
    with pytest.raises(ResourceError, match="windows of 3"):
        fresco(replace(model, limit="30MB"))(textured_pan.clip[:9], Edit(prompt="a statue"), Run())
    run = Run()
    fresco(replace(model, limit="80GB"), window=12)(textured_pan.clip[:5], Edit(prompt="a statue"), run)
    assert not run.notes.warnings, "nothing is made smaller where there is room"


@pytest.mark.slow
def test_what_is_left_out_is_not_recorded(model, textured_pan):
    for values, kept in (
        ({"attention": "cross-frame"}, "queries"),
        ({"attention": "none", "optimise": True}, "queries"),
        ({"optimise": False}, "tokens"),
    ):
        held = []
        consistency = replace(fresco(model).consistency, **values)

        def watched(model, cues, text, consistency=consistency, held=held):
            hooks = consistency(model, cues, text)
            held.append(hooks.latents.__self__)
            return hooks

        frames_of(fresco(model, consistency=watched), textured_pan.clip[:2])
        assert not getattr(held[0].batch, kept), (values, kept)
