"""Pictures and clips to learn from: the same for the same seed, with the truth that scenes have."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from flowpaint import seams, video
from flowpaint.errors import InputError, VideoError
from flowpaint.parts.execute import LocalExecutor
from flowpaint.training.clips import ClipCutter, prepare_clips, synth_clips
from flowpaint.training.latents import encode_pictures
from flowpaint.training.pictures import from_bytes, in_look, photographs, picture, to_bytes
from flowpaint.training.shards import ShardWriter, read_shard
from flowpaint.types import Clip
from flowpaint.warp import warp
from tiny_training import LOOKS, quiet


def samples(folder):
    return [one for path in sorted(folder.glob("*.tar")) for one in read_shard(path)[0]]


def array(sample, name):
    return torch.from_numpy(np.load(io.BytesIO(sample.files[f"{name}.npy"]))).float()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    levels = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(levels).save(folder / "noise.png")
    (folder / "photos.toml").write_text('"noise.png" = {subject = "noise"}\n')
    return folder


def test_pictures_are_the_same_for_the_same_seed_and_of_both_kinds(photos):
    known = photographs(photos)
    found = [picture(seed, known, 48) for seed in range(16)]
    assert {one.origin for one in found} == {"scene", "noise.png"}
    assert all(one.rgb.shape == (3, 48, 48) and one.rgb.min() >= 0 and one.rgb.max() <= 1 for one in found)
    assert all(torch.equal(one.rgb, picture(seed, known, 48).rgb) for seed, one in enumerate(found))
    assert {one.origin for one in (picture(seed, (), 48) for seed in range(8))} == {"scene"}
    assert all(one.subject == "noise" for one in found if one.origin != "scene")


def test_photographs_that_cannot_be_read_are_told(photos, tmp_path):
    with pytest.raises(VideoError, match=r"photos\.toml"):
        photographs(tmp_path)
    (photos / "photos.toml").write_text('"missing.png" = {subject = "nothing"}\n')
    with pytest.raises(VideoError, match=r"missing\.png"):
        photographs(photos)


def test_files_keep_every_level():
    rgb = torch.arange(256).view(1, 16, 16).expand(3, -1, -1) / 255
    assert torch.equal(from_bytes(to_bytes(rgb)), rgb)
    assert torch.equal(from_bytes(to_bytes(rgb[:1])), rgb)


def test_samples_hold_a_look_its_words_and_the_edges_of_the_source(tiny_pictures):
    found = samples(tiny_pictures)
    assert len(found) == 4 * (1 + len(LOOKS))
    plain, *painted = found[: 1 + len(LOOKS)]
    source = from_bytes(plain.files["picture.webp"])
    softedge = seams.build("condition", "softedge")(source[None])[0, :1]
    for look, sample in zip(LOOKS, painted, strict=True):
        told = json.loads(sample.files["json"])
        assert told["look"] == look and told["subject"] == json.loads(plain.files["json"])["subject"]
        expected = in_look(source, look, told["seed"])
        assert (from_bytes(sample.files["picture.webp"]) - expected).abs().max() < 0.04  # the source itself was rounded
        assert (from_bytes(sample.files["softedge.webp"]) - softedge).abs().mean() < 0.01
        assert set(from_bytes(sample.files["canny.webp"]).unique().tolist()) <= {0.0, 1.0}


def test_latents_are_those_of_the_autoencoder(tiny_pictures, tiny_latents, tiny_autoencoder):
    from flowpaint.training.standard import autoencoder as read

    network = read(tiny_autoencoder).eval()
    before, after = samples(tiny_pictures), samples(tiny_latents)
    assert len(before) == len(after) and "picture.webp" not in after[0].files
    for old, new in zip(before[:3], after[:3], strict=True):
        with torch.no_grad():
            expected = network.encode(from_bytes(old.files["picture.webp"])[None] * 2 - 1).latent_dist.mode()[0]
        assert torch.allclose(array(new, "latent"), expected, atol=2e-3, rtol=2e-3)
        assert old.files["json"] == new.files["json"] and old.files["canny.webp"] == new.files["canny.webp"]


def test_bfloat16_errs_by_thousandths(tiny_pictures, tiny_latents, tiny_autoencoder, tmp_path):
    encode_pictures(tiny_pictures, tmp_path, base=tiny_autoencoder, bf16=True, progress=quiet)
    pairs = zip(samples(tiny_latents), samples(tmp_path), strict=True)
    errors = torch.stack([(array(a, "latent") - array(b, "latent")).abs().mean() for a, b in pairs])
    assert 0 < errors.mean() < 0.02  # of a deviation of 1


def test_broken_pictures_are_left_out(tmp_path, tiny_autoencoder):
    with ShardWriter(tmp_path / "in") as shards:
        shards.write({"picture.webp": b"no picture", "json": b"{}"})
        shards.write({"picture.webp": to_bytes(torch.rand(3, 64, 64)), "json": b"{}"})
    assert encode_pictures(tmp_path / "in", tmp_path / "out", base=tiny_autoencoder, progress=quiet) == 1


def test_clips_of_scenes_carry_exact_flow(tmp_path):
    assert synth_clips(tmp_path, count=3, length=3, size=48, seed=4, progress=quiet) == 3
    for sample in samples(tmp_path):
        frames, backward, seen = (array(sample, name) for name in ("frames", "backward", "visibility"))
        assert frames.shape == (3, 3, 48, 48) and backward.shape == (2, 2, 48, 48)
        seen, depth = seen / 255, array(sample, "depth") / 255
        first = warp(frames[:1].expand(2, -1, -1, -1) / 255, backward)
        error = ((first - frames[1:] / 255).abs() * seen).mean(dim=1).sum() / seen.sum().clamp_min(1)
        still = ((frames[:1] - frames[1:]) / 255).abs().mean()
        assert error < max(0.06, 0.9 * still)
        assert depth.shape == (3, 1, 48, 48) and 0 < depth.max() <= 1


@pytest.fixture
def film(tmp_path, cut):
    path = tmp_path / "film.mp4"
    video.write(cut.clip, path)
    return path, cut


def test_videos_are_cut_at_shots_and_measured(film, tiny_autoencoder, tmp_path):
    path, cut = film
    cutter = ClipCutter(length=3, strides=(2,), size=64, base=tiny_autoencoder)
    count = prepare_clips([path], tmp_path / "out", cutter=cutter, executor=LocalExecutor(), progress=quiet)
    found = samples(tmp_path / "out")
    assert len(found) == count > 1
    for sample in found:
        start = json.loads(sample.files["json"])["start"]
        assert not start < cut.frame <= start + 4, "a clip goes across the cut"
        assert array(sample, "frames").shape == (3, 3, 64, 64) and array(sample, "latents").shape == (3, 4, 8, 8)
        assert array(sample, "forward").shape == array(sample, "backward").shape == (2, 2, 64, 64)
        assert set(array(sample, "visibility").unique().tolist()) <= {0.0, 255.0}


def test_flow_goes_from_the_first_frame(tmp_path, textured):
    frames = [textured[0].roll(2 * number, dims=-1) for number in range(6)]
    path = tmp_path / "pan.mp4"
    video.write(Clip.from_array(torch.stack(frames)), path)
    cutter = ClipCutter(length=3, strides=(1,), size=64)
    files = cutter(path)[0]
    forward = np.load(io.BytesIO(files["forward.npy"]))
    backward = np.load(io.BytesIO(files["backward.npy"]))
    assert np.median(forward[1, 0]) == pytest.approx(4, abs=0.3)
    assert np.median(backward[1, 0]) == pytest.approx(-4, abs=0.3)


def test_videos_too_short_for_a_clip_are_told(film, tmp_path):
    with pytest.raises(InputError, match="No shot of these videos lasts 500 frames"):
        prepare_clips([film[0]], tmp_path / "out", cutter=ClipCutter(length=500), executor=LocalExecutor(), progress=quiet)
    with pytest.raises(InputError, match="Give 2, 1 and 16"):
        ClipCutter(length=1)
