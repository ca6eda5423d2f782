"""Looks on raw pictures: the same as by way of tensors, to the bit or within one level."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
import torch

from flowpaint.parts.editors import LookEditor, StyleEditor
from flowpaint.parts.editors.colour_table import ColourTable
from flowpaint.parts.editors.grades import Grade
from flowpaint.parts.editors.looks import LOOKS, find
from flowpaint.seams import RawEditor, StatesSteadiness, steadiness_of
from flowpaint.types import Edit, from_raw, to_raw

GRADES = [one.name for one in LOOKS if isinstance(one.recipe, Grade)]
ONE_OF_10_BITS = 65535 / 1023


def photo(height=90, width=120, deep=False):
    """A photograph, with the whole range of colours in its lower part; not a multiple of any strip."""
    picture = skimage.data.astronaut()[:height, 100 : 100 + width].copy()
    noise = np.random.default_rng(0).integers(0, 256, (height // 3, width, 3))
    picture[-len(noise) :] = noise
    return picture.astype(np.uint16) * 256 + 77 if deep else picture


def look(*names, **weights):
    return LookEditor(looks=tuple((name, weights.get(name, 1.0)) for name in names))


def plain(editor, picture, edit):
    return to_raw(editor(from_raw(picture), edit, torch.Generator().manual_seed(1)), 8 if picture.dtype == np.uint8 else 16)


def raw(editor, picture, edit):
    before = picture.copy()
    made = editor.edit_raw(picture, edit, torch.Generator().manual_seed(1))
    assert np.array_equal(picture, before) and made.dtype == picture.dtype and made.shape == picture.shape
    return made


def distance(a, b):
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("name", GRADES)
def test_a_grade_on_raw_pictures_is_the_grade(name):
    recipe, editor, picture = find(name).recipe, look(name), photo()
    exact = not (recipe.vignette or recipe.glow)
    assert distance(raw(editor, picture, Edit()), plain(editor, picture, Edit())) <= (0 if exact else 1)


@pytest.mark.parametrize("name", GRADES)
def test_deep_pictures_are_within_a_level_of_ten_bits(name):
    picture = photo(deep=True)
    assert distance(raw(look(name), picture, Edit()), plain(look(name), picture, Edit())) <= ONE_OF_10_BITS


@pytest.mark.parametrize("name", ["golden hour", "cyberpunk", "dream"])
def test_a_glow_blurred_at_a_quarter_of_the_size_is_within_a_level(name):
    picture = np.concatenate([np.asarray(skimage.data.astronaut())] * 2, axis=1)[:, :701].repeat(2, axis=0)[:703]
    assert distance(raw(look(name), picture, Edit()), plain(look(name), picture, Edit())) <= 1


@pytest.mark.parametrize("names", [("vivid",), ("sepia",), ("warm", "matte"), ("sepia", "night"), ("vivid", "noir")])
@pytest.mark.parametrize("edit", [Edit(strength=0.4), Edit(keep_colors=True), Edit(strength=0.7, keep_colors=True)])
def test_strength_kept_colours_and_blends(names, edit):
    editor, picture = look(*names, warm=3.0), photo(30, 40)
    exact = edit.keep_colors or not any(find(name).recipe.vignette for name in names)
    assert distance(raw(editor, picture, edit), plain(editor, picture, edit)) <= (0 if exact else 1)


def test_a_blend_is_not_one_of_its_parts():
    picture = photo(30, 40)
    assert distance(raw(look("sepia", "night"), picture, Edit()), raw(look("sepia"), picture, Edit())) > 20


def test_strength_zero_is_the_source():
    for name in ("vivid", "sepia", "pencil"):
        assert np.array_equal(raw(look(name), photo(), Edit(strength=0.0)), photo())


@pytest.mark.parametrize("name", ["pencil", "van gogh"])
def test_painted_looks_take_raw_pictures_too(name):
    picture = photo(48, 64)
    assert np.array_equal(raw(look(name), picture, Edit()), plain(look(name), picture, Edit()))


def test_every_8_bit_colour_has_its_own_entry():
    """A function that tells all colours apart, on a picture that holds each of 65536 colours once."""
    table = ColourTable(lambda colours: colours.flip(0))
    values = np.arange(1 << 16, dtype=np.uint32) * 256 + np.arange(1 << 16, dtype=np.uint32) % 251
    picture = values.view(np.uint8).reshape(256, 256, 4)[..., :3]
    for _ in range(2):
        assert np.array_equal(table(np.ascontiguousarray(picture)), picture[..., ::-1])


def test_a_colour_is_worked_out_once():
    asked = []
    table = ColourTable(lambda colours: asked.append(colours.shape[-1]) or 1 - colours)
    picture = photo()
    first = table(picture)
    assert np.array_equal(first, 255 - picture) and sum(asked) >= len(np.unique(picture.reshape(-1, 3), axis=0))
    count = len(asked)
    assert np.array_equal(table(picture[::-1]), first[::-1]) and len(asked) == count


def test_threads_share_a_table():
    table = ColourTable(lambda colours: 1 - colours)
    pictures = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(16)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(table, pictures))
    assert all(np.array_equal(one, 255 - picture) for one, picture in zip(made, pictures, strict=True))


@pytest.mark.parametrize(
    ("names", "stated"),
    [
        (("sepia",), "pixelwise"),
        (("noir", "night"), "pixelwise"),
        (("golden hour",), "steady"),
        (("sepia", "dream"), "steady"),
        (("pencil",), "painted"),
        (("sepia", "van gogh"), "painted"),
        (("dream", "poster"), "painted"),
    ],
)
def test_a_blend_is_the_weakest_of_its_parts(names, stated):
    editor = look(*names)
    assert isinstance(editor, StatesSteadiness) and isinstance(editor, RawEditor)
    assert steadiness_of(editor) == stated


def test_an_editor_that_states_nothing_is_painted():
    assert steadiness_of(StyleEditor(picture="x.png")) == "painted"
