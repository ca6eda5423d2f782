"""Flicker and kept texture against closed forms and SciPy; samples of them over a long video."""

import numpy as np
import pytest
from scipy import ndimage

from flowpaint.texture import (
    Motion,
    Reference,
    Samples,
    edited_part,
    flicker,
    motion,
    on_grid,
    texture_energy,
    texture_kept,
    warp,
)

SIZE = (96, 128)


def noise(deviation=30.0, seed=0, size=SIZE):
    """Grey white noise about middle grey, periodic: float64 levels [H, W]."""
    return 128 + deviation * np.random.default_rng(seed).standard_normal(size)


def raw(levels, bits=16):
    """A grey picture of levels of 255, [H, W, 3]."""
    scale = 257 if bits == 16 else 1
    picture = np.clip(np.rint(levels * scale), 0, 255 * scale).astype(np.uint16 if bits == 16 else np.uint8)
    return np.ascontiguousarray(np.repeat(picture[..., None], 3, axis=2))


def soft(seed=0, sigma=2.0, size=SIZE):
    """A smooth periodic texture of about 30 levels of deviation."""
    blurred = ndimage.gaussian_filter(noise(1.0, seed, size) - 128, sigma, mode="wrap")
    return 128 + 30 * blurred / blurred.std()


def at_rest(size=SIZE):
    return Motion(back=np.zeros((*size, 2), np.float32), returns=np.ones(size, bool))


# ----------------------------------------------------------------------------------------------------------------- flicker


@pytest.mark.parametrize("bits", [8, 16])
def test_a_step_of_a_levels_is_a_flicker_of_a(bits):
    picture = soft()
    before, now = raw(picture, bits), raw(picture + 5, bits)
    found = motion(before, before)
    assert found.returns.all() and np.abs(found.back).max() < 0.05
    assert flicker(before, now, found) == pytest.approx(5, abs=0.05)
    assert flicker(now, before, found) == pytest.approx(5, abs=0.05), "no wrapping round of unsigned levels"
    assert flicker(before, before, found) < 0.05


def test_only_pixels_that_return_count():
    before, now, moved = raw(soft()), raw(soft()), at_rest()
    now[:, :64] = raw(soft() + 50)[:, :64]
    moved.returns[:, :64] = False
    assert flicker(before, now, moved) == 0
    moved.returns[:] = False
    assert np.isnan(flicker(before, now, moved))


def test_flicker_is_that_of_an_independent_sampler():
    rng = np.random.default_rng(3)
    before, now = (rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(2))
    back = rng.normal(0, 2, (*SIZE, 2)).astype(np.float32)
    moved = Motion(back=back, returns=rng.random(SIZE) > 0.3)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    places = [y + back[..., 1], x + back[..., 0]]
    sampled = np.stack(
        [ndimage.map_coordinates(before[..., one].astype(float), places, order=1, mode="nearest") for one in range(3)], -1
    )
    wanted = np.abs(now - sampled)[moved.returns].mean()
    assert flicker(before, now, moved) == pytest.approx(wanted, abs=0.05)  # OpenCV samples in steps of 1/32 pixel


def test_motion_is_where_a_shifted_texture_came_from():
    picture = soft(sigma=3.0)
    before, now = raw(picture, 8), raw(np.roll(picture, (2, 4), axis=(0, 1)), 8)
    found = motion(before, now)
    inner = found.back[16:-16, 16:-16]
    assert np.abs(np.median(inner, axis=(0, 1)) - (-4, -2)).max() < 0.1
    assert found.returns[16:-16, 16:-16].mean() > 0.95
    assert np.median(found.speed) == pytest.approx(np.hypot(4, 2), abs=0.1)
    assert flicker(before, now, found) < 1.5 < 10 < flicker(before, now, at_rest())


def test_what_was_not_there_before_does_not_return():
    before, now = soft(1, size=(96, 160)), soft(1, size=(96, 160))
    now[:, :80] = soft(2, size=(96, 80))
    found = motion(raw(before, 8), raw(now, 8))
    assert found.returns[:, 96:].mean() > 0.95 and found.returns[:, :64].mean() < 0.6


def test_the_way_back_is_asked_where_the_way_there_ends():
    """One texture slides 16 pixels over another: at its new rim the frame before shows the other, and moves otherwise."""
    sliding, ground = soft(1, sigma=3.0, size=(96, 240)), soft(2, sigma=3.0, size=(96, 240))
    before, now = ground.copy(), ground.copy()
    before[:, :120], now[:, :136] = sliding[:, 40:160], sliding[:, 24:160]
    found = motion(raw(before, 8), raw(now, 8))
    assert found.returns[:, 120:128].mean() > 0.9, "seen before, 16 pixels to the left"
    assert found.returns[:, 20:100].mean() > 0.95 and found.returns[:, 150:].mean() > 0.95


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 200), (200, 5)])
def test_small_pictures_have_a_motion_too(size):
    picture = raw(noise(size=size), 8)
    found = motion(picture, picture)
    assert found.back.shape == (*size, 2) and found.returns.shape == size
    assert flicker(picture, picture, found) < 0.5 and texture_energy(picture).shape == size


# ----------------------------------------------------------------------------------------------------------------- texture


@pytest.mark.parametrize("period", [5, 15])
def test_the_energy_of_a_wave_is_its_closed_form(period):
    amplitude, k = 40.0, 2 * np.pi / period
    wave = 128 + amplitude * np.cos(k * np.arange(150))[None, :] * np.ones((60, 1))
    gain = np.exp(-(k**2) / 2) - np.exp(-16 * k**2 / 2)
    inner = texture_energy(raw(wave))[20:-20, 30:-30]  # the window holds whole periods, so the mean of cos^2 is 1/2
    assert inner.mean() == pytest.approx((amplitude * gain) ** 2 / 2, rel=0.02)
    assert np.ptp(inner) < 0.02 * inner.mean()


def test_energy_is_that_of_scipy():
    picture = noise()
    band = ndimage.gaussian_filter(picture, 1, truncate=5) - ndimage.gaussian_filter(picture, 4, truncate=5)
    wanted = ndimage.uniform_filter(np.square(band), 15)
    found = texture_energy(raw(picture))
    assert np.abs(found - wanted)[30:-30, 30:-30].max() < 0.01 * wanted.mean()


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.5])
def test_a_blurred_texture_keeps_what_theory_says(sigma):
    """The band's energy in white noise is the integral of k (e^(-k^2/2) - e^(-8k^2))^2; a blur multiplies by e^(-s^2 k^2)."""
    picture = noise(size=(240, 320))
    blurred = ndimage.gaussian_filter(picture, sigma, mode="wrap")

    def energy(s):
        return 1 / (1 + s**2) - 2 / (8.5 + s**2) + 1 / (16 + s**2)

    kept = texture_kept(texture_energy(raw(blurred)), texture_energy(raw(picture)), np.ones(picture.shape, np.float32))
    assert kept == {name: pytest.approx(energy(sigma) / energy(0), rel=0.04) for name in ("fast", "still")}


def test_colour_and_light_are_no_texture():
    picture = noise(15.0)
    energy = texture_energy(raw(picture))
    assert np.allclose(texture_energy(raw(picture + 20)), energy, rtol=0.02)
    assert texture_energy(raw(np.full(SIZE, 200.0))).max() < 1e-6
    assert np.allclose(texture_energy(raw(picture, 8)), energy, rtol=0.05)


def test_fast_and_still_are_told_apart():
    alone = np.full((50, 100), 10, np.float32)
    speed = np.tile(np.arange(100, dtype=np.float32), (50, 1))
    made = np.where(speed >= 90, 2, np.where(speed < 40, 8, 5)).astype(np.float32)
    assert texture_kept(made, alone, speed) == {"fast": pytest.approx(0.2, abs=0.01), "still": pytest.approx(0.8, abs=0.01)}
    few = np.where(speed >= 98, 3, 0).astype(np.float32)  # less than a tenth moves
    assert texture_kept(np.where(speed >= 98, 1, 10).astype(np.float32), alone, few)["fast"] == pytest.approx(0.1)


def test_what_cannot_be_told_is_absent():
    alone, speed = np.full(SIZE, 10, np.float32), np.zeros(SIZE, np.float32)
    assert texture_kept(alone, alone, speed) == {"still": 1.0}, "nothing moves"
    assert texture_kept(alone, 0 * alone, speed + 1) == {}, "flat"
    assert texture_kept(alone, alone, speed, np.zeros(SIZE, bool)) == {}
    half = np.zeros(SIZE, bool)
    half[:, :64] = True
    made = np.where(half, 5, 100).astype(np.float32)
    assert texture_kept(made, alone, speed, half) == {"still": 0.5}


def test_the_edited_part_is_where_the_picture_changed():
    source, picture = soft(), soft()
    picture[20:70, 20:70] += 40
    found = edited_part(raw(source), raw(picture))
    assert found[25:65, 25:65].min() == 1 and found[:, 90:].max() == 0
    assert edited_part(raw(source), raw(source + 2)).max() == 0, "what a codec changes"


# ----------------------------------------------------------------------------------------------------------------- samples


def film(frames=40, seed=0):
    """A texture that pans a pixel a frame, and a result that flickers by 3 levels: raw pictures."""
    texture = soft(seed, size=(64, 64 + 96))
    sources = [raw(texture[:, index % 64 : index % 64 + 96], 8) for index in range(frames)]
    return sources, [raw(one[..., 0] + 3.0 * (index % 2), 8) for index, one in enumerate(sources)]


def seen(samples, sources, results, frames):
    for index in frames:
        samples.see(index, sources[index], results[index])
    return samples


def again(results, factor=4.0):
    """Frames edited by themselves have `factor` times the energy of the results."""
    return lambda index: Reference(factor * on_grid(texture_energy(results[index])))


def test_samples_measure_flicker_and_texture():
    sources, results = film()
    samples = seen(Samples(40), sources, results, range(40))
    source, result = samples.flicker()
    assert source < 1.5 and result == pytest.approx(3, abs=0.8)
    assert samples.texture(again(results)) == {
        "fast": pytest.approx(0.25), "still": pytest.approx(0.25), "frames": sorted(samples.textures),
    }  # fmt: skip
    assert samples.texture(lambda _: None) == {"fast": None, "still": None, "frames": []}


@pytest.mark.parametrize(
    ("frames", "pairs", "textures"), [(1, 0, 0), (2, 1, 1), (3, 2, 1), (40, 4, 1), (140, 14, 2), (5000, 16, 6)]
)
def test_what_is_sampled_is_bounded(frames, pairs, textures):
    samples = Samples(frames)
    assert (len(samples.pairs), len(samples.textures)) == (pairs, textures)
    assert samples.textures <= samples.pairs <= set(range(1, frames))
    if pairs > 2:
        gaps = np.diff([0, *sorted(samples.pairs), frames])
        assert gaps.max() <= 2 * frames / pairs, "spread over the whole video"


def test_no_pair_crosses_a_cut():
    cuts = set(range(0, 60, 2))
    assert not Samples(60, cuts).pairs & cuts and len(Samples(60, cuts).pairs) == 6
    assert Samples(8, range(8)).pairs == frozenset()
    sources, results = film(60)
    assert seen(Samples(60, range(60)), sources, results, range(60)).flicker() is None


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_interruption_changes_nothing(at):
    """It may fall between the two frames of a pair."""
    sources, results = film()
    whole = seen(Samples(40), sources, results, range(40))
    stop = min(whole.textures) + at
    first = seen(Samples(40), sources, results, range(stop))
    second = Samples(40)
    second.restore(range(stop), first.saved(range(stop)))
    seen(second, sources, results, range(stop, 40))
    assert second.flicker() == whole.flicker() and second.texture(again(results)) == whole.texture(again(results))


def test_frames_of_which_nothing_is_kept_are_let_go():
    sources, results = film(200)
    samples = seen(Samples(200), sources, results, range(200))
    kept = samples.saved(range(200))
    assert sum(one.nbytes for one in kept.values()) < 0.05 * 200 * sources[0].nbytes
    assert "sampled_source" not in kept


def test_a_video_with_gaps_is_not_compared_across_them():
    sources, results = film()
    samples = Samples(40)
    seen(samples, sources, results, [index for index in range(40) if index + 1 not in samples.pairs])
    assert samples.flicker() is None


def test_warping_by_nothing_is_exact():
    picture = raw(noise(), 8)
    assert (warp(picture, np.zeros((*SIZE, 2), np.float32)) == picture).all()
