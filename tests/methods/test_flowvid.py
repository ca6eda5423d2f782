"""FlowVid: what it tells of each window, what it keeps, how windows follow each other; end to end on tiny models."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from flowpaint import seams
from flowpaint.api.render import editor_of
from flowpaint.colour import moments
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.repair import ImageRepairer, TrainedRepairer
from flowpaint.diffusion.vace import WanVace
from flowpaint.errors import ConfigError, InputError, ResourceError, WeightsError
from flowpaint.hints import Repaired
from flowpaint.methods.flowvid import FlowVid
from flowpaint.methods.windows import composite, lost_in_latents, missed_by_colours
from flowpaint.parts.editors import DiffusionEditor
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip, Edit, Flow, to_raw
from tiny_models import save_model, save_video_model
from tiny_wan import save_wan


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return LatentDiffusion(weights=str(save_video_model(tmp_path_factory.mktemp("tiny") / "video")))


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    return LatentDiffusion(weights=str(save_model(tmp_path_factory.mktemp("tiny") / "image")))


def flowvid(model, **values):
    fields = {"model": model, "num_steps": 2, "window": 4, "side": 64, "stride": 2, "inject": "none"}
    return FlowVid(**{**fields, **values})


def edited(clip, *frames):
    """Those frames of `clip`, inverted."""
    return {frame: 1 - clip.frame(frame) for frame in frames}


def shown(method, clip, keyframes, **run):
    return torch.stack(list(method(clip, Edit(keyframes=keyframes), Run(**run))))


class Scripted:
    """A repairer without a network: what it is told is noted; it shows `made(told)`, by default the warped pictures."""

    def __init__(self, made=lambda told: told.warped, latents=None):
        self.told, self.made, self.latents = [], made, latents

    def __call__(self, told, run):
        self.told.append(told)
        return Repaired(pictures=self.made(told), latents=None if self.latents is None else self.latents(told))


def scripted(monkeypatch, *parts, **values):
    """A repairer that stands in the place of every other."""
    found = Scripted(*parts, **values)
    monkeypatch.setattr(FlowVid, "_repairer", lambda *_: found)
    return found


# ------------------------------------------------------------------------------------------------------------- end to end


_SLOW = [pytest.param(one, marks=pytest.mark.slow) for one in ({"inject": "noised"}, {"placing": "even"}, {"fill": "spread"})]


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"inject": "inverted"}, {"repair": "occluded"}, *_SLOW])
def test_every_frame_comes_back_and_the_edited_one_exactly(model, textured_pan, more):
    clip = textured_pan.clip[:5]
    method = flowvid(model, **more)
    first = shown(method, clip, edited(clip, 0), seed=3)
    assert first.shape == clip.frames.shape and torch.isfinite(first).all()
    assert (first[0] - (1 - clip.frame(0))).abs().max() < 1 / 255
    assert torch.equal(first, shown(method, clip, edited(clip, 0), seed=3))


@pytest.mark.slow
def test_seeds_and_injection_and_hints_and_words_count(model, textured_pan):
    clip, keys = textured_pan.clip[:3], edited(textured_pan.clip, 0)

    def last(prompt="a dog", seed=0, **more):
        method = flowvid(model, window=2, placing="even", propagate=_keys_alone, **more)
        return method(clip, Edit(prompt=prompt, keyframes=keys), Run(seed=seed)).frame(2)

    found = [last(), last(seed=1), last(prompt="a cat")]
    for more in (
        {"inject": "noised"}, {"inject": "inverted"}, {"inject": "inverted", "source_prompt": "a cat"},
        {"inject": "noised", "injected": 1.0}, {"hints": ("warp",)}, {"rescale": 0.7}, {"noise": "shared"}, {"calibrate": "none"},
    ):  # fmt: skip
        found.append(last(**more))
        if more != {"noise": "shared"}:  # the first of several frames shares its noise with itself
            assert not any(torch.equal(found[-1], one) for one in found[:-1]), more


def _one_by_one(clip, keyframes, edit, run):
    return clip.with_frames(lambda index: to_raw(keyframes[index], 8))


def _keys_alone(clip, keyframes, edit, run):
    return Clip.from_array(torch.stack([keyframes[max(one for one in keyframes if one <= index)] for index in range(len(clip))]))


def test_quality_best_takes_back_what_guidance_adds(model, textured_pan):
    clip, keys = textured_pan.clip[:4], edited(textured_pan.clip, 0)
    pace = flowvid(model)._repairer(model, Run(quality="best")).pace
    assert pace.rescale == 0.7 and flowvid(model)._repairer(model, Run()).pace.rescale == 0.0
    assert flowvid(model, rescale=0.2)._repairer(model, Run(quality="best")).pace.rescale == 0.2
    assert len(shown(flowvid(model), clip, keys, quality="best")) == 4


def test_an_image_model_is_bound_by_hand(image_model, textured_pan):
    clip, how = textured_pan.clip[:3], {"window": 3, "num_steps": 4, "propagate": _keys_alone}
    assert isinstance(flowvid(image_model)._repairer(image_model, Run()), ImageRepairer)
    first = shown(flowvid(image_model, **how), clip, edited(clip, 0))
    assert torch.isfinite(first).all() and torch.equal(first, shown(flowvid(image_model, **how), clip, edited(clip, 0)))
    for more in ({"held": 0.0}, {"strength": 1.0}):
        assert not torch.equal(first, shown(flowvid(image_model, **how, **more), clip, edited(clip, 0)))


@pytest.mark.slow
def test_wan_vace_is_a_back_end_too(tmp_path, textured_pan):
    clip, folder = textured_pan.clip[:4], save_wan(tmp_path / "wan")
    method = FlowVid(num_steps=2, window=3, side=64, placing="even", stride=1, propagate=_one_by_one).for_model(str(folder))
    assert isinstance(method.model, WanVace) and FlowVid().for_model("wan-vace-1.3b").model == WanVace(weights="wan-vace-1.3b")
    assert method.for_model("mini").model.weights == "mini-flowvid"
    method.check()
    store = MemoryStore()
    first = shown(method, clip, edited(clip, 0), store=store)
    assert torch.isfinite(first).all() and torch.equal(first, shown(method, clip, edited(clip, 0)))
    assert "latent" not in store.get("flowvid 2")  # its latents are no single frame's: windows are chained by the picture
    assert method._repairer(method.model, Run()).guidance == 5.0
    canny = seams.build("condition", "canny")
    assert not torch.equal(first, shown(replace(method, control=(canny,)), clip, edited(clip, 0)))
    with pytest.raises(WeightsError, match="gone"):
        FlowVid().for_model("wan-vace-1.3b").for_model(str(tmp_path / "gone")).check()


def test_an_image_model_edits_the_first_frame_itself(image_model, model, still):
    found = torch.stack(list(flowvid(image_model)(still[:3], Edit(prompt="a cat"), Run())))
    assert (found[0] - still.frame(0)).abs().mean() > 0.01
    assert isinstance(editor_of(flowvid(image_model)), DiffusionEditor)  # what --approve shows
    with pytest.raises(InputError, match="nothing to approve"):
        editor_of(flowvid(model))
    with pytest.raises(InputError, match="edits no picture by itself"):
        flowvid(model)(still, Edit(prompt="a cat"), Run())


def test_a_still_clip_without_an_edit_stays_the_same_under_a_true_repairer(monkeypatch, model, still):
    scripted(monkeypatch)
    found = shown(flowvid(model), still, {0: still.frame(0)})
    assert (found - still.frames).abs().max() <= 1.5 / 255


# ------------------------------------------------------------------------------------------- section 15, 9: edit = identity


def test_an_edit_that_changes_nothing_gives_the_source_where_it_was_seen(monkeypatch, model, moving_square):
    clip = moving_square.clip
    scripted(monkeypatch, lambda told: torch.where(told.mask > 0, told.source, told.warped))

    def truth(a, b):
        places = [[_place(clip, one) for one in frames] for frames in (a, b)]
        found = [moving_square.flow(p, q) for p, q in zip(*places, strict=True)]
        back = [moving_square.flow(q, p).vectors for p, q in zip(*places, strict=True)]
        vectors, seen = (torch.cat([getattr(one, name) for one in found]) for name in ("vectors", "visibility"))
        return Flow(vectors=vectors, visibility=seen, reverse=torch.cat(back))

    propagate = replace(seams.build("propagator", "analogy"), flow=truth)
    method = flowvid(model, flow=truth, propagate=propagate, placing="even", side=0, calibrate="none")
    found = torch.stack(list(method(clip, Edit(keyframes={0: clip.frame(0)}), Run())))
    error = (found - clip.frames).square().mean(dim=(1, 2, 3))
    assert float(-10 * torch.log10(error.max())) > 38


def _place(clip, frame):
    return min(range(len(clip)), key=lambda one: float((clip.frame(one) - frame).abs().sum()))


# ------------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 120, 121])
def test_every_frame_is_there_once_whatever_the_length(monkeypatch, model, length):
    clip = Clip.from_array(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).repeat(length, 1, 1, 1))
    told = scripted(monkeypatch).told
    handed = []
    method = flowvid(
        model, window=16, stride=4, placing="even", calibrate="none", flow=_nothing_moves,
        propagate=lambda clip, keys, edit, run: handed.append(keys) or clip,
    )  # fmt: skip
    assert len(method(clip, Edit(keyframes={0: clip.frame(0)}), Run())) == length
    keys = handed[0]
    assert list(keys) == sorted({*range(0, length, 4), length - 1})
    for index in keys:
        assert keys[index].shape == (3, 16, 16)
    new = [frame for one in told for frame in dict.fromkeys(one.frames[1:])]
    assert list(dict.fromkeys(new)) == [one for one in keys if one != 0]  # each once, in order
    assert all(len(one.frames) == 16 for one in told) and len(told) == -(-(len(keys) - 1) // 15)
    for before, after in pairwise(told):
        assert after.frames[0] == before.frames[-1]


def _nothing_moves(a, b):
    still = torch.zeros(len(a), 2, *a.shape[-2:])
    return Flow(vectors=still, visibility=torch.ones_like(still[:, :1]), reverse=still)


def test_windows_are_chained_by_the_latent_not_by_the_picture(monkeypatch, model, still):
    marks = iter(range(1, 9))
    found = scripted(monkeypatch, latents=lambda told: torch.full((len(told.frames), 4, 8, 10), float(next(marks))))
    method = flowvid(model, placing="even", stride=1, calibrate="none", window=3)
    list(method(still, Edit(keyframes=edited(still, 0)), Run()))
    assert [one.frames for one in found.told] == [(0, 1, 2), (2, 3, 4), (4, 5, 6), (6, 7, 7)]
    assert found.told[0].latents == {}
    for number, one in enumerate(found.told[1:], start=1):
        assert torch.equal(one.latents[0], torch.full((4, 8, 10), float(number)))


def test_the_latent_takes_only_what_calibration_changed(monkeypatch, model, still):
    scripted(monkeypatch, made=lambda told: told.warped * 0.5, latents=lambda told: torch.zeros(len(told.frames), 4, 8, 10))
    store = MemoryStore()
    method = flowvid(model, placing="even", stride=7, window=2, calibrate="plain")
    list(method(still, Edit(keyframes=edited(still, 0)), Run(store=store)))
    kept = store.get("flowvid 7")
    picture = torch.from_numpy(kept["picture"]).permute(2, 0, 1)[None] / 255
    before, after = (model.encode(one) for one in (edited(still, 0)[0][None] * 0.5, picture))
    torch.testing.assert_close(torch.from_numpy(kept["latent"]), (after - before)[0], atol=0.05, rtol=0.05)


def test_finished_windows_are_taken_from_the_store(monkeypatch, model, still):
    store = MemoryStore()
    first = shown(flowvid(model), still, edited(still, 0), store=store)
    monkeypatch.setattr(TrainedRepairer, "__call__", lambda *_: pytest.fail("it was repaired again"))
    assert torch.equal(first, shown(flowvid(model), still, edited(still, 0), store=store))


def test_windows_long_done_are_not_read_again(monkeypatch, model, still):
    scripted(monkeypatch)
    store, asked = MemoryStore(), []
    get = store.get
    monkeypatch.setattr(store, "get", lambda key: asked.append(key) or get(key))
    method = flowvid(model, placing="even", stride=1, window=2, propagate=_one_by_one)
    clip = method(still, Edit(keyframes=edited(still, 0)), Run(store=store))
    for index in range(7):
        clip.raw(index)
    asked.clear()
    clip.raw(7)
    assert set(asked) == {"flowvid 6", "flowvid 7"}


def test_a_run_that_was_killed_goes_on_bit_for_bit(monkeypatch, model, textured_pan):
    clip, keys = textured_pan.clip[:6], edited(textured_pan.clip, 0)
    method = flowvid(model, placing="even", stride=1, propagate=_one_by_one)
    whole = shown(method, clip, keys)
    store, real = MemoryStore(), TrainedRepairer.__call__
    calls = []

    def dies(self, told, run):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return real(self, told, run)

    with monkeypatch.context() as patch:
        patch.setattr(TrainedRepairer, "__call__", dies)
        with pytest.raises(KeyboardInterrupt):
            shown(method, clip, keys, store=store)
    assert store.get("flowvid 3") is not None and store.get("flowvid 4") is None
    assert torch.equal(whole, shown(method, clip, keys, store=store))


def test_frames_before_the_edited_one_are_repaired_too(monkeypatch, model, textured_pan):
    clip = textured_pan.clip
    found = scripted(monkeypatch)
    list(flowvid(model, placing="even", stride=3)(clip, Edit(keyframes=edited(clip, 6)), Run()))
    assert sorted(one.frames for one in found.told) == [(6, 3, 0, 0), (6, 9, 9, 9)]


# ------------------------------------------------------------------------------------------------------- several anchors


def test_each_pixel_is_told_of_the_nearest_edited_frame_that_shows_it(monkeypatch, model, moving_square):
    clip = moving_square.clip
    found = scripted(monkeypatch)
    keys = {0: torch.zeros_like(clip.frame(0)), 8: torch.ones_like(clip.frame(0))}
    list(flowvid(model, placing="even", stride=2, window=6, side=72)(clip, Edit(keyframes=keys), Run()))
    told = found.told[0]
    assert told.frames == (0, 2, 4, 6, 8, 10) and len(told.anchors) == 2
    assert told.nearest == (0, 0, 0, 1, 1, 1)  # 4 is as far from both: the first one counts
    near, far = told.warped[1], told.warped[3]
    square = moving_square.mask(0)[0, 0].bool()
    assert (near[:, ~moving_square.mask(2)[0, 0].bool()] < 0.5).float().mean() > 0.9  # mostly the black one
    assert near[:, square & ~moving_square.mask(2)[0, 0].bool()].mean() > 0.6  # what frame 0 hid, frame 8 shows
    assert (far > 0.5).float().mean() > 0.9
    assert float(told.mask[1].mean()) < 0.02
    assert torch.equal(told.warped[4], torch.ones_like(told.warped[4])) and told.mask[4].max() == 0


def test_edited_frames_come_back_as_they_were_given_and_begin_windows(monkeypatch, model, textured_pan):
    clip, keys = textured_pan.clip, edited(textured_pan.clip, 0, 3, 6)
    found = scripted(monkeypatch)
    result = shown(flowvid(model, placing="even", stride=3), clip, keys)
    for frame, picture in keys.items():
        assert (result[frame] - picture).abs().max() < 1 / 255
    assert [one.frames for one in found.told] == [(0, 3, 6, 9)]


def test_more_than_five_edited_frames_are_refused(model, textured_pan):
    with pytest.raises(InputError, match="6 edited frames in one shot"):
        flowvid(model)(textured_pan.clip, Edit(keyframes=edited(textured_pan.clip, *range(6))), Run())


# ----------------------------------------------------------------------------------------------------------- calibration


def dimming(frames=8):
    """A textured clip that loses light, and the frames an edit of it would have."""
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(4)) * 0.5 + 0.3
    light = torch.linspace(1.0, 0.6, frames)[:, None, None, None]
    return Clip.from_array(picture * light), light


@pytest.mark.parametrize(("calibrate", "factor"), [("plain", 1.0), ("source-relative", 0.6), ("none", 0.9)])
def test_colours_are_led_back_to_the_edited_frame_or_to_what_it_became(monkeypatch, model, calibrate, factor):
    clip, _ = dimming()
    scripted(monkeypatch, made=lambda told: told.anchors[:1].expand(len(told.frames), -1, -1, -1) * 0.9)
    method = flowvid(model, placing="even", stride=7, window=2, calibrate=calibrate, flow=_nothing_moves)
    result = shown(method, clip, {0: clip.frame(0)})
    mean, _ = moments(result[7])
    torch.testing.assert_close(mean, moments(clip.frame(0))[0] * factor, atol=0.01, rtol=0)


# ------------------------------------------------------------------------------------------------------------- composite


def doubtful_clip():
    """A clip, the same brighter by 0.1, and trust: full, none in a square, none anywhere."""
    base = Clip.from_array(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4)
    sure = torch.ones(1, 1, 32, 32)
    doubtful = sure.clone()
    doubtful[..., 10:20, 10:20] = 0
    return base, Clip.from_array((base.frames + 0.1).clamp(0, 1)), lambda index: (sure, doubtful, 0 * sure)[index]


def test_what_is_sure_stays_to_the_bit_and_what_is_not_is_replaced_without_a_seam():
    base, other, trust = doubtful_clip()
    found = composite(base, trust, other, missed=1.0, lost=0.0)
    assert (found.raw(0) == base.raw(0)).all()
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[14:46, 14:46] = False
    assert torch.equal(found.frame(1)[:, outside], base.frame(1)[:, outside])
    assert (found.frame(1) - base.frame(1)).abs().max() < 0.02  # a shift of colour is undone
    assert (found.raw(2) == base.raw(2)).all()  # nothing is sure there, so that nothing can be compared
    noise = Clip.from_array(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
    inside = composite(base, trust, noise, missed=1.0, lost=0.0).frame(1)[:, 24:36, 24:36]
    assert (inside - base.frame(1)[:, 24:36, 24:36]).abs().mean() > 0.1


@pytest.mark.parametrize(("missed", "taken"), [(0.0, 0.0), (0.038, 0.0), (0.06, 0.5), (0.1, 1.0)])
def test_a_picture_that_is_further_off_than_colours_alone_is_not_taken(missed, taken):
    base, _, trust = doubtful_clip()
    wrong = base.frames.clone()
    up = (torch.arange(64) % 8 < 4).float()[:, None]
    wrong += 0.1 * (2 * up - 1)  # its error is 0.01 everywhere, and no shift of colour
    found = composite(base, trust, Clip.from_array(wrong), missed=missed, lost=0.0)
    apart = (found.frame(1) - base.frame(1))[:, 26:34, 26:34].abs()
    assert float(apart.mean()) == pytest.approx(0.1 * taken, abs=0.022)
    assert taken > 0 or (found.raw(1) == base.raw(1)).all()
    coarse = composite(base, trust, Clip.from_array(wrong), missed=missed, lost=1.0)  # by a model that loses all
    assert (coarse.raw(1) == base.raw(1)).all()


def test_what_a_model_loses_is_measured_at_its_size(still):
    keys = {0: still.frame(0), 3: 1 - still.frame(3)}
    assert lost_in_latents(keys, lambda one: one, (32, 40)) == 0
    assert lost_in_latents(keys, lambda one: one + 0.1, (32, 40)) == pytest.approx(0.01, rel=1e-4)


def test_colours_tell_all_of_a_grade_and_little_of_a_drawing(textured_pan):
    clip = textured_pan.clip
    grade = {0: (clip.frame(0) * 0.5 + 0.2), 5: clip.frame(5) * 0.5 + 0.2}
    drawing = {0: (clip.frame(0) - clip.frame(0).roll(2, -1)).abs().mean(0).expand(3, -1, -1).mul(8).clamp(0, 1)}
    assert missed_by_colours(grade, clip) < 1e-5 and missed_by_colours({0: clip.frame(0)}, clip) < 1e-6
    assert missed_by_colours(drawing, clip) > 1e-3


def test_analogy_is_sure_of_the_edited_frame_and_not_of_what_it_does_not_show(moving_square):
    clip, keys = moving_square.clip, edited(moving_square.clip, 0)
    result, trust = seams.build("propagator", "analogy").with_trust(clip, keys, Edit(), Run())
    plain = seams.build("propagator", "analogy")(clip, keys, Edit(), Run())
    assert all((result.raw(index) == plain.raw(index)).all() for index in range(len(clip)))
    assert trust(0).min() == 1
    found, hidden = trust(6)[0, 0], moving_square.flow(6, 0).visibility[0, 0] == 0
    assert found.shape == hidden.shape and float(found.min()) >= 0 and float(found.max()) <= 1
    assert float(found[~hidden].mean()) > 0.7 > 0.4 > float(found[hidden].mean())


@pytest.mark.slow
def test_repair_occluded_leaves_what_analogy_is_sure_of(monkeypatch, model, moving_square):
    clip = moving_square.clip
    keys = {0: torch.rand(clip.frame(0).shape, generator=torch.Generator().manual_seed(1))}  # no colour tells it
    scripted(monkeypatch, made=lambda told: told.warped)
    monkeypatch.setattr("flowpaint.methods.windows.lost_in_latents", lambda *_: 0.0)  # a random model loses all
    analogy = torch.stack(list(seams.build("propagator", "analogy")(clip, keys, Edit(), Run())))
    found = shown(flowvid(model, repair="occluded", calibrate="none"), clip, keys)
    same = (found == analogy).all(dim=1)
    assert 0.5 < float(same.float().mean()) < 1.0
    with pytest.raises(ConfigError, match="tells where it is sure"):
        flowvid(model, repair="occluded", propagate=seams.build("propagator", "warp")).check()


# ------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "wrong", [{"window": 1}, {"stride": 0}, {"side": 32}, {"lost": 1.5}, {"injected": -0.1}, {"held": 2}, {"rescale": 3.0}]
)
def test_values_that_do_not_fit_are_refused(model, wrong):
    with pytest.raises(ConfigError, match="cannot be repaired"):
        flowvid(model, **wrong)


def test_what_is_missing_is_told(model, still, tmp_path):
    with pytest.raises(WeightsError, match=r"no-such-model"):
        flowvid(replace(model, weights="no-such-model")).check()
    with pytest.raises(InputError, match="edits no picture"):
        flowvid(model)(still, Edit(), Run())
    with pytest.raises(ResourceError, match="too little"):
        shown(flowvid(replace(model, limit="0.001GB")), still, edited(still, 0))


def test_mini_means_the_network_made_of_it():
    assert FlowVid().for_model("mini").model.weights == "mini-flowvid" == FlowVid().model.weights
    assert FlowVid().for_model("sd15").model.weights == "sd15"
