"""Local or global: an edit of a part is found out, and no filter of the whole picture is taken for one."""

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from flowpaint.parts.metrics.known_filters import FILTERS
from flowpaint.parts.propagate.extent import changed
from flowpaint.parts.propagate.regions import Regions
from flowpaint.types import from_raw

PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


def photo(name):
    pixels = getattr(skimage.data, name)()
    scale = 192 / min(pixels.shape[:2])
    return cv2.resize(pixels, (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)), interpolation=cv2.INTER_AREA)


def found(source, edited, extent="auto"):
    return Regions.find(from_raw(source)[None], from_raw(edited)[None], extent)


def ellipse(shape, centre, axes):
    share = np.zeros(shape[:2], np.float32)
    middle = round(centre[0] * shape[1]), round(centre[1] * shape[0])
    cv2.ellipse(share, middle, tuple(round(one * min(shape[:2])) for one in axes), 20, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(share, (0, 0), 1.0)[..., None]


def within(source, made, *shares):
    share = np.maximum.reduce(shares)
    return (source + share * (made.astype(float) - source)).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("kind", FILTERS)
def test_a_filter_of_the_whole_picture_is_global(name, kind):
    source = photo(name)
    regions = found(source, FILTERS[kind](source))
    assert regions.is_global, regions.decision
    assert regions.mask.min() == 1 and regions.parts == ()


def vignette(picture):
    y, x = (np.linspace(-1, 1, side) for side in picture.shape[:2])
    light = np.clip(1.2 - 0.7 * (y[:, None] ** 2 + x[None] ** 2), 0.2, 2)[..., None]
    return (picture * light).clip(0, 255).astype(np.uint8)


def snow(picture):
    """Everything a little paler, and flakes: what an image model calls winter."""
    rng, flakes = np.random.default_rng(5), np.zeros(picture.shape[:2], np.float32)
    for x, y, size in zip(
        rng.integers(picture.shape[1], size=250), rng.integers(picture.shape[0], size=250), rng.integers(1, 3, 250)
    ):
        cv2.circle(flakes, (int(x), int(y)), int(size), 0.9, -1)
    share = cv2.GaussianBlur(flakes, (0, 0), 0.7)[..., None]
    return ((picture * 0.92 + 20) * (1 - share) + 255 * share).clip(0, 255).astype(np.uint8)


OTHERS = {
    "vignette": vignette,
    "snow": snow,
    "highlights cut": lambda picture: np.minimum(picture, 170).astype(np.uint8),
    "shadows raised": lambda picture: np.where(picture < 90, picture + (90 - picture) // 2, picture).astype(np.uint8),
    "blur": lambda picture: cv2.GaussianBlur(picture, (0, 0), 3),
    "faint": lambda picture: (picture * 0.97 + 4).astype(np.uint8),
}


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("kind", OTHERS)
def test_other_filters_are_global_too(name, kind):
    source = photo(name)
    regions = found(source, OTHERS[kind](source))
    assert regions.is_global, regions.decision


CHANGES = {
    "recoloured": FILTERS["hue"],
    "painted": FILTERS["style"],
    "blurred": lambda picture: cv2.GaussianBlur(picture, (0, 0), 4),
    "replaced": lambda picture: np.ascontiguousarray(photo("immunohistochemistry")[: picture.shape[0], : picture.shape[1]]),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("two", [False, True])
def test_a_part_whose_like_was_left_alone_is_local(kind, two):
    source = photo("grass")[..., None].repeat(3, 2) if kind == "" else photo("chelsea")
    shares = [ellipse(source.shape, (0.35, 0.5), (0.2, 0.28)), *([ellipse(source.shape, (0.75, 0.4), (0.12, 0.16))] * two)]
    made = CHANGES[kind](source)
    if made.shape != source.shape:
        made = np.pad(made, [(0, a - b) for a, b in zip(source.shape, made.shape, strict=True)], mode="reflect")
    regions = found(source, within(source, made, *shares))
    assert not regions.is_global, regions.decision
    truth = torch.from_numpy(np.maximum.reduce(shares)[..., 0] > 0.5)
    agreed = (regions.mask[0, 0] > 0) & truth
    assert agreed.sum() > 0.8 * truth.sum()


def test_a_noisy_local_edit_is_local():
    source = photo("chelsea")
    share = ellipse(source.shape, (0.4, 0.5), (0.2, 0.3))
    edited = within(source, CHANGES["painted"](source), share).astype(float)
    edited += np.random.default_rng(1).normal(0, 4, source.shape)
    assert not found(source, edited.clip(0, 255).astype(np.uint8)).is_global


def test_a_colour_of_its_own_may_have_been_filtered():
    """Nothing else in the picture is red: whether a filter turned reds blue cannot be told."""
    source = photo("chelsea") // 2 + np.array([0, 60, 60], np.uint8)
    red = np.zeros_like(source) + np.array([220, 20, 20], np.uint8)
    share = ellipse(source.shape, (0.4, 0.5), (0.2, 0.3))
    source = within(source, red, share)
    assert found(source, within(source, source[..., ::-1], share)).is_global


def test_what_was_decided_is_said():
    source = photo("chelsea")
    share = ellipse(source.shape, (0.4, 0.5), (0.2, 0.3))
    decision = found(source, within(source, FILTERS["style"](source), share)).decision
    assert decision.is_local and decision.share == pytest.approx((share > 0.5).mean(), rel=0.15)
    assert str(decision).startswith("local (few regions changed") and "of the picture changed" in str(decision)
    forced = found(source, within(source, FILTERS["style"](source), share), "global").decision
    assert str(forced).startswith("global (as was asked for)")
    scattered = found(source, FILTERS["median"](source)).decision
    assert str(scattered).startswith("global (")
    assert changed(from_raw(source)[None], from_raw(source)[None]) == 0
