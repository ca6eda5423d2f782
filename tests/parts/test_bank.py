"""An edit learnt as a filter: filters whose answer is known, learnt on one picture and asked for on another."""

import math

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from flowpaint.parts.propagate import bank as bank_module
from flowpaint.parts.propagate import raster
from flowpaint.parts.propagate.bank import Bank, Filter
from flowpaint.smoothing import gaussian, gradient
from flowpaint.types import from_raw, to_raw
from flowpaint.warp import resize

MATRIX = torch.tensor([[0.6, 0.3, -0.1], [0.1, 0.5, 0.2], [0.0, -0.2, 0.8]])


def photo(height=160, width=200, picture=skimage.data.astronaut):
    return resize(from_raw(picture())[None], height, width)


def recoloured(picture):
    return torch.einsum("ij,njhw->nihw", MATRIX, picture) + 0.1


def blurred(picture):
    return gaussian(picture, 2.0)


def sharpened(picture):
    return (picture + 0.8 * (picture - gaussian(picture, 1.5))).clamp(0, 1)


def relief(picture):
    """A relief of luma, in grey: half of it is clipped."""
    slope = gradient(picture.mean(dim=1, keepdim=True))
    return (0.3 + 3 * slope.sum(dim=1, keepdim=True)).clamp(0, 1).expand(-1, 3, -1, -1)


def drawn(picture):
    """Dark lines where luma changes."""
    edge = gradient(gaussian(picture.mean(dim=1, keepdim=True), 0.7)).norm(dim=1, keepdim=True)
    return (gaussian(picture, 1.5) - 1.2 * edge).clamp(0, 1)


def median(picture):
    """Fine structure removed, edges kept."""
    return from_raw(cv2.medianBlur(to_raw(picture[0]), 7))[None]


FILTERS = {"recoloured": 38, "blurred": 38, "sharpened": 38, "relief": 30, "drawn": 30, "median": 29}


def learnt(source, edited, weights=None):
    return Filter.fit(Bank.of(source), edited, weights)


def answer(learnt, picture):
    bank = Bank.of(picture)
    return learnt(bank, learnt.coarse(bank))


def psnr(a, b):
    return -10 * math.log10(max(float((a - b).square().mean()), 1e-12))


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_learnt_on_one_picture_holds_for_another(name):
    make, source, other = globals()[name], photo(), photo(picture=skimage.data.coffee)
    found = answer(learnt(source, make(source)), other)
    assert psnr(found, make(other).clamp(0, 1)) > FILTERS[name]
    assert found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("name", ["blurred", "sharpened", "relief", "drawn", "median"])
def test_the_bank_meets_what_colours_alone_do_not(name):
    make, source, other = globals()[name], photo(), photo(picture=skimage.data.coffee)
    colours = bank_module.ColourMap.fit(source, make(source))
    assert psnr(answer(learnt(source, make(source)), other), make(other)) > psnr(colours(other), make(other)) + 3


def test_no_edit_is_no_filter():
    for picture in (photo(), photo(picture=skimage.data.coffee)):
        assert (answer(learnt(photo(), photo()), picture) - picture).abs().max() < 0.01


def test_detail_that_an_edit_does_not_keep_is_dropped():
    """Strokes of its own over smooth colours: on another picture the filter shows the colours, not that picture's detail."""
    source, other = photo(), photo(picture=skimage.data.coffee)
    strokes = torch.rand(source.shape, generator=torch.Generator().manual_seed(3))
    found = answer(learnt(source, 0.7 * gaussian(source, 4.0) + 0.3 * gaussian(strokes, 1.0)), other)

    def detail(picture):
        return (gaussian(picture, 0.7) - gaussian(picture, 2.0)).square().mean()

    assert detail(found) < 0.05 * detail(other)
    assert psnr(gaussian(found, 4.0), gaussian(0.7 * gaussian(other, 4.0) + 0.15, 4.0)) > 30


def test_what_was_clipped_does_not_mislead():
    """The same relief, with and without values beyond black and white: learnt from either, it is the same."""
    source, other = photo(), photo(picture=skimage.data.coffee)
    assert psnr(answer(learnt(source, relief(source)), other), relief(other)) > 30
    black = (relief(source) == 0).float().mean()
    assert black > 0.1, "there is something clipped"


def test_weights_say_which_pixels_count():
    source, other = photo(), photo(picture=skimage.data.coffee)
    edited = sharpened(source)
    edited[..., :100] = torch.rand(1, 3, 160, 100, generator=torch.Generator().manual_seed(4))
    weights = torch.zeros(1, 1, 160, 200)
    weights[..., 100:] = 1
    told = psnr(answer(learnt(source, edited, weights), other), sharpened(other))
    assert told > 33 and told > psnr(answer(learnt(source, edited), other), sharpened(other)) + 5


@pytest.mark.parametrize("height, width", [(160, 200), (37, 53), (5, 90), (16, 16), (161, 33)])
def test_rows_are_those_of_the_whole(height, width):
    source = photo(height, width)
    found = learnt(source, drawn(source))
    bank = Bank.of(photo(height, width, skimage.data.coffee))
    coarse = found.coarse(bank)
    whole = found(bank, coarse)
    assert whole.shape == (1, 3, height, width)
    for top in range(0, height, 12):
        rows = (top, min(top + 12, height))
        assert torch.allclose(found(bank, coarse, rows), whole[..., slice(*rows), :], atol=1e-6)


def test_opencv_and_torch_agree(monkeypatch):
    source, other = photo(), photo(picture=skimage.data.coffee)
    edited = drawn(source)
    fast = answer(learnt(source, edited), other)
    for module in (raster, bank_module):
        monkeypatch.setattr(module, "by_opencv", lambda picture: False)
    slow = answer(learnt(source, edited), other)
    assert (fast - slow).abs().max() < 4e-3
    assert (fast - slow).abs().mean() < 1e-4


def test_large_pictures_are_fitted_to_some_of_their_pixels(monkeypatch):
    source = photo(200, 240)
    seen = []
    solve = bank_module._solve

    def watched(columns, *rest):
        seen.append(columns.shape[1])
        return solve(columns, *rest)

    monkeypatch.setattr(bank_module, "_SAMPLES", 8000)
    monkeypatch.setattr(bank_module, "_solve", watched)
    found = answer(learnt(source, sharpened(source)), source)
    assert seen == [math.ceil(200 / 3) * math.ceil(240 / 3)]
    assert psnr(found, sharpened(source)) > 38


def test_a_flat_picture_is_no_trouble():
    flat = torch.full((1, 3, 40, 40), 0.3)
    found = answer(learnt(flat, torch.full_like(flat, 0.6)), flat)
    assert np.isfinite(found.numpy()).all() and (found - 0.6).abs().max() < 0.02
