"""Clips as FlowVid learns from them: what is encoded, what befalls the hints, and what is refused."""

import io
import json

import numpy as np
import pytest
import torch

from flowpaint import api, seams, video
from flowpaint.errors import ConfigError, InputError, VideoError, WeightsError
from flowpaint.hints import hint
from flowpaint.parts.execute import LocalExecutor
from flowpaint.training.clips import ClipCutter, clip_files, scene_clips, subject_of
from flowpaint.training.hinted import HintMaker, RawClip, encode_clips, painted
from flowpaint.training.latents import encoded
from flowpaint.training.pictures import from_bytes, in_look
from flowpaint.training.reading import read_hinted
from flowpaint.training.shards import Sample, ShardWriter, read_shard
from flowpaint.training.standard import autoencoder, frozen
from flowpaint.types import Clip, Flow
from tiny_training import quiet

EXACT = {"styled": 0.0, "grow": 0, "shake": 0.0, "tint": 0.0, "copies": 1}


def samples(folder):
    return [one for path in sorted(folder.glob("*.tar")) for one in read_shard(path)[0]]


def array(sample, name):
    return torch.from_numpy(np.load(io.BytesIO(sample.files[f"{name}.npy"]))).float()


def made(source, base, **how):
    return [Sample("0", files) for path in sorted(source.glob("*.tar")) for files in HintMaker(base=base, **how)(path)]


def parts(clip):
    """First frame, backward flow and visibility of a raw clip."""
    return array(clip, "frames")[0] / 255, array(clip, "backward"), array(clip, "visibility") / 255


def test_latents_are_of_the_frames_and_of_the_warped_first_one(tiny_clips, tiny_family):
    network = frozen(autoencoder(tiny_family))
    clips = samples(tiny_clips)
    found = made(tiny_clips, tiny_family, **EXACT)
    assert len(found) == len(clips) == 2
    for clip, sample in zip(clips, found, strict=True):
        frames = array(clip, "frames") / 255
        warped, mask = hint(*parts(clip))
        assert 0 < mask.mean() < 0.9
        row = read_hinted(sample, ("softedge", "canny"), 3)
        assert torch.allclose(row.latents, encoded(network, frames), atol=4e-3, rtol=2e-3)
        assert torch.allclose(row.hint, encoded(network, warped), atol=4e-3, rtol=2e-3)
        assert torch.equal(row.hint[0], row.latents[0]) and torch.equal(row.occluded, mask)
        for name, control in row.controls.items():
            expected = seams.build("condition", name)(frames)[:, :1]
            assert (control - expected).abs().max() < 0.003 + 1 / 255
        assert (row.look, row.subject) == ("", json.loads(clip.files["json"])["subject"])


def test_a_styled_clip_is_painted_in_all_frames_and_keeps_its_edges(tiny_clips, tiny_family):
    network = frozen(autoencoder(tiny_family))
    clip = samples(tiny_clips)[0]
    plain = made(tiny_clips, tiny_family, **EXACT)[0]
    sample = made(tiny_clips, tiny_family, **{**EXACT, "styled": 1.0}, looks=("sepia",))[0]
    row = read_hinted(sample, (), 3)
    painted = torch.stack([in_look(one, "sepia", 0) for one in array(clip, "frames") / 255])
    warped, _ = hint(painted[0], *parts(clip)[1:])
    assert row.look == "sepia"
    assert torch.allclose(row.latents, encoded(network, painted), atol=0.02)
    assert torch.allclose(row.hint, encoded(network, warped), atol=0.02)
    assert sample.files["canny.webp"] == plain.files["canny.webp"] and sample.files["occluded.npy"] == plain.files["occluded.npy"]


def test_strokes_stay_where_the_first_frame_put_them(tiny_family, tmp_path, textured):
    frames = torch.stack([textured[0, :, :64, :64].roll(-6 * number, dims=-1) for number in range(3)])
    backward = torch.stack([torch.tensor([6.0 * number, 0.0])[:, None, None].expand(2, 64, 64) for number in (1, 2)])
    raw = RawClip(frames=frames, backward=backward, visible=torch.ones(2, 1, 64, 64), controls={}, told={})
    found = painted(raw, "pencil", 5)
    anew = torch.stack([in_look(one, "pencil", 5) for one in frames])
    carried, mask = hint(anew[0], raw.backward, raw.visible)
    assert 0.05 < mask.mean() < 0.2 and torch.equal(found[0], anew[0])
    assert torch.equal(found * (1 - mask), carried * (1 - mask)) and torch.equal(found * mask, anew * mask)
    assert not torch.allclose(found, anew, atol=0.05)
    assert torch.equal(painted(raw, "sepia", 5), torch.stack([in_look(one, "sepia", 5) for one in frames]))
    with ShardWriter(tmp_path) as shards:
        arrays = {"forward": -backward, "backward": backward, "visibility": raw.visible}
        shards.write(clip_files(frames, arrays, {"subject": "a pan"}))
    row = read_hinted(made(tmp_path, tiny_family, **{**EXACT, "styled": 1.0}, looks=("pencil",))[0], (), 3)
    apart = (row.latents - row.hint)[1:, :, :, :5].abs().mean()  # far from what is hidden
    assert apart < 0.03  # painted anew: 0.16


def test_copies_differ_and_are_the_same_again(tiny_clips, tiny_family):
    how = {"copies": 3, "styled": 0.0}
    first, again = made(tiny_clips, tiny_family, **how), made(tiny_clips, tiny_family, **how)
    assert [one.files for one in first] == [one.files for one in again]
    hints = [one.files["hint.npy"] for one in first]
    assert len(set(hints)) == len(hints) == 6
    assert len({one.files["latents.npy"] for one in first}) == 2  # a clip's frames are its own
    assert made(tiny_clips, tiny_family, **how, seed=1)[0].files["hint.npy"] != hints[0]


# ------------------------------------------------------------------------------------------------------------- augmentation

FIRST = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
STILL = torch.zeros(2, 2, 64, 64)


def seen_but(top):
    visible = torch.ones(2, 1, 64, 64)
    visible[..., top : top + 4, 20:30] = 0.0
    return visible


def befallen(seed, visible=None, **how):
    maker = HintMaker(**{**EXACT, **how})
    return maker.hinted(FIRST, STILL, seen_but(30) if visible is None else visible, np.random.default_rng(seed))


def test_what_is_hidden_grows_by_some_pixels():
    sizes = set()
    for seed in range(12):
        warped, mask = befallen(seed, grow=5)
        rows, columns = (mask[1, 0].amax(dim=axis).nonzero()[[0, -1], 0].tolist() for axis in (1, 0))
        radius = 30 - rows[0]
        sizes.add(radius)
        assert rows == [30 - radius, 33 + radius] and columns == [20 - radius, 29 + radius]
        assert (warped[1, :, mask[1, 0] == 1] == 0.5).all() and mask[0].max() == 0
        assert torch.allclose(warped[1] * (1 - mask[1]), FIRST * (1 - mask[1]), atol=1e-5)
    assert sizes <= set(range(6)) and {0, 5} < sizes


def test_colours_of_what_is_warped_err_within_bounds_but_not_the_first_frame():
    errors = []
    for seed in range(12):
        warped, mask = befallen(seed, tint=0.1)
        assert torch.equal(warped[0], FIRST)
        error = ((warped[1] - FIRST) * (1 - mask[1])).abs().max()
        errors.append(float(error))
        assert error <= 0.1 * (1 + FIRST.max()) + 1e-5
    assert max(errors) > 0.03 and len(set(errors)) == 12


def test_flow_errs_smoothly_by_about_its_deviation():
    ramp = torch.arange(64.0) / 64
    maker = HintMaker(**{**EXACT, "shake": 2.0})
    shifts = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        warped, mask = maker.hinted(ramp.expand(3, 64, 64), STILL, torch.ones(2, 1, 64, 64), rng)
        shift = (warped[1, 0] - ramp) * 64
        inner = slice(12, 52)
        assert mask[1, 0, inner, inner].max() == 0
        assert (shift[inner, inner].diff(dim=1).abs()).max() < 1.0  # neighbours err alike
        shifts.append(shift[inner, inner])
    deviation = torch.stack(shifts).square().mean().sqrt()
    assert 2.0 / 3**0.5 * 0.5 < deviation < 2.0 / 3**0.5 * 1.2  # the amount is drawn evenly up to 2: its root mean square


def test_nothing_befalls_a_hint_by_default_of_zero():
    warped, mask = befallen(0)
    plain, hidden = hint(FIRST, STILL, seen_but(30))
    assert torch.equal(warped, plain) and torch.equal(mask, hidden)


# ------------------------------------------------------------------------------------------------------------------- shards


def test_depth_is_the_clips_own(tiny_clips, tiny_family):
    sample = made(tiny_clips, tiny_family, **EXACT, conditions=("depth",))[0]
    depth = read_hinted(sample, ("depth",), 3).controls["depth"]
    assert torch.allclose(depth, array(samples(tiny_clips)[0], "depth") / 255, atol=1e-6)


def test_broken_clips_are_left_out_and_shards_without_any_refused(tiny_clips, tiny_family, tmp_path):
    good = dict(samples(tiny_clips)[0].files)
    flow = io.BytesIO()
    np.save(flow, np.zeros((1, 2, 64, 64), np.float16))
    broken = [{**good, "frames.npy": b"nothing"}, {**good, "backward.npy": flow.getvalue()}, {"frames.npy": good["frames.npy"]}]
    for name, files in (("some", [*broken, good]), ("none", broken)):
        with ShardWriter(tmp_path / name) as shards:
            for one in files:
                shards.write(one)
    maker = HintMaker(base=tiny_family, copies=1)
    how = {"maker": maker, "executor": LocalExecutor(), "progress": quiet}
    assert encode_clips([tmp_path / "some"], tmp_path / "out", **how) == 1
    with pytest.raises(InputError, match="No clip in"):
        encode_clips([tmp_path / "none"], tmp_path / "other", **how)


def test_what_cannot_be_encoded_is_told(tiny_clips, tiny_pictures, tiny_family, tmp_path):
    path = next(tiny_clips.glob("*.tar"))
    with pytest.raises(WeightsError, match="has no vae"):
        HintMaker()(path)
    with pytest.raises(InputError, match="holds pictures"):
        HintMaker(base=tiny_family)(next(tiny_pictures.glob("*.tar")))
    with ShardWriter(tmp_path) as shards:
        shards.write(next(scene_clips(1, length=2, size=44, seed=0)))
    with pytest.raises(InputError, match="multiples of 8"):
        HintMaker(base=tiny_family)(tmp_path / "000000.tar")
    for wrong in ({"copies": 0}, {"styled": 1.5}, {"grow": -1}, {"tint": -0.1}, {"looks": ()}):
        with pytest.raises(ConfigError, match="make no hints"):
            HintMaker(**wrong)


def test_samples_that_do_not_fit_are_broken(tiny_hints):
    sample = samples(tiny_hints)[0]
    assert read_hinted(sample, (), 2).occluded.shape == (2, 1, 64, 64)
    with pytest.raises(ValueError, match="of which 4 frames cannot be read"):
        read_hinted(sample, (), 4)
    bad = io.BytesIO()
    np.save(bad, np.full((3, 4, 8, 8), np.nan, np.float16))
    with pytest.raises(ValueError, match="not finite"):
        read_hinted(Sample("0", {**sample.files, "hint.npy": bad.getvalue()}), (), 3)
    with pytest.raises(KeyError):
        read_hinted(sample, ("depth",), 3)


def test_prepare_knows_clips_from_pictures(tiny_clips, tiny_pictures, tiny_family, tmp_path):
    one = ["copies=1", "styled=0"]
    with ShardWriter(tmp_path / "again") as shards:
        shards.write(samples(tiny_clips)[0].files)
    count = api.prepare([tiny_clips], tmp_path / "a", model=tiny_family, settings=one, device="cpu")
    found = samples(tmp_path / "a")
    assert count == len(found) == 2 and "hint.npy" in found[0].files
    assert {json.loads(one.files["json"])["look"] for one in found} == {""}
    assert api.prepare([tiny_clips, tmp_path / "again"], tmp_path / "both", model=tiny_family, settings=one, device="cpu") == 3
    with pytest.raises(InputError, match="one or more hold no clips"):
        api.prepare([tiny_clips, tiny_pictures], tmp_path / "b", model=tiny_family, device="cpu")
    with pytest.raises(InputError, match="nothing can be set"):
        api.prepare([tiny_pictures], tmp_path / "b", model=tiny_family, settings=["copies=1"], device="cpu")
    with pytest.raises(InputError, match="no model was named"):
        api.prepare([tiny_clips], tmp_path / "c")


# -------------------------------------------------------------------------------------------------------------------- clips


@pytest.fixture
def long_pan(tmp_path, textured):
    path = tmp_path / "pan.mp4"
    video.write(Clip.from_array(torch.stack([textured[0].roll(number, dims=-1) for number in range(90)])), path)
    return path


class Blind:
    """Finds flow between neighbours alone."""

    def __call__(self, a, b):
        near = (a - b).abs().mean() < 0.9 * (a - b.roll(8, -1)).abs().mean()
        lost = torch.full((1, 2, *a.shape[-2:]), 0.0 if near else 9.0)
        return Flow(vectors=lost, visibility=torch.ones(1, 1, *a.shape[-2:]), reverse=lost)


def test_strides_are_drawn_by_lot_from_those_that_fit(long_pan):
    files = ClipCutter(length=3, size=32)(long_pan)
    told = [json.loads(one["json"]) for one in files]
    assert {one["stride"] for one in told} == {2, 4, 8}
    assert [one["start"] for one in told[1:]] == [one["start"] + 3 * one["stride"] for one in told[:-1]]
    last = told[-1]
    assert last["start"] + 2 * last["stride"] < 90 and last["start"] + 3 * last["stride"] + 2 * 2 >= 90
    assert {json.loads(one["json"])["stride"] for one in ClipCutter(length=3, strides=(5,), size=32)(long_pan)} == {5}


def test_chained_flow_is_told():
    cutter = ClipCutter(length=4, size=32, flow=Blind())
    wide = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(0))
    ramp = torch.nn.functional.avg_pool2d(wide, 9, 1, 4)
    frames = torch.stack([ramp[..., 3 * i : 3 * i + 32] for i in range(4)])
    told = json.loads(cutter._files(frames, None, {})["json"])
    assert told["chained"] == [one for one in told["chained"] if one >= 2] != []


def test_a_video_is_called_what_its_list_says(tmp_path):
    assert subject_of(tmp_path / "one.mp4") == "a video"
    (tmp_path / "videos.toml").write_text('"one.mp4" = {subject = "a rabbit"}\n')
    assert (subject_of(tmp_path / "one.mp4"), subject_of(tmp_path / "two.mp4")) == ("a rabbit", "a video")
    (tmp_path / "videos.toml").write_text("one.mp4 = ")
    with pytest.raises(VideoError, match=r"videos\.toml"):
        subject_of(tmp_path / "one.mp4")


def test_photographs_are_textures_of_scenes(tmp_path):
    from PIL import Image

    levels = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "noise.png")
    (tmp_path / "photos.toml").write_text('"noise.png" = {subject = "noise"}\n')
    plain, textured = (list(scene_clips(4, length=2, size=32, seed=0, photos=one)) for one in (None, tmp_path))
    assert [one["frames.npy"] == two["frames.npy"] for one, two in zip(plain, textured, strict=True)].count(False) >= 2
    words = [json.loads(one["json"])["subject"] for one in textured]
    assert any("painted" in one for one in words)


def test_webp_strips_hold_the_maps_one_below_the_other(tiny_hints):
    sample = samples(tiny_hints)[0]
    assert from_bytes(sample.files["softedge.webp"]).shape == (3, 3 * 64, 64)
    row = read_hinted(sample, ("softedge",), 2)
    assert row.controls["softedge"].shape == (2, 1, 64, 64)
    assert torch.equal(row.controls["softedge"][1, 0], from_bytes(sample.files["softedge.webp"])[0, 64:128])
