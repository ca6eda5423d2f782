"""Local edits: where they are, of what kind, and what happens to an outline."""

from dataclasses import replace

import pytest
import torch

from flowpaint.parts.propagate.outline import Outline
from flowpaint.parts.propagate.regions import Regions
from flowpaint.scenes import Layer, Scene, edit_mask, render
from flowpaint.scenes.depths import Level
from flowpaint.scenes.motion import Curve, Motion
from flowpaint.scenes.shapes import Blob, Polygon
from flowpaint.scenes.textures import Flat, Noise, Styled
from flowpaint.warp import pixel_grid

SIZE = (96, 128)
GROUND = Layer(
    name="ground", texture=Noise(seed=1, finest=0.05, colour=(0.35, 0.5, 0.6), contrast=0.08), depth=Level(nearness=0.1)
)
DISC = Layer(
    name="disc",
    texture=Noise(seed=2, finest=0.05, colour=(0.75, 0.35, 0.3), contrast=0.08),
    depth=Level(nearness=0.5),
    shape=Blob(size=0.24),
    motion=Motion(x=Curve(powers=(-0.15, 0.04)), y=Curve(powers=(0.05, -0.02))),
)
SCENE = Scene(layers=(GROUND, DISC))
GREEN = ((0.1, 0.2, 0.3), (0.9, 0.3, 0.1), (0.1, 0.4, 0.2))
RECOLOURED = replace(DISC, texture=Styled(texture=DISC.texture, matrix=GREEN))
COSTUME = replace(DISC, texture=Noise(seed=9, finest=0.1, colour=(0.2, 0.2, 0.15), contrast=0.12))


def shown(*layers, time=0):
    return render(Scene(layers=layers), time, SIZE).rgb[None]


def mask(layer=1, time=0):
    return render(SCENE, time, SIZE).masks[layer][None]


def overlap(a, b):
    return float((a * b).sum() / torch.maximum(a, b).sum())


# ----------------------------------------------------------------------------------------------------------------- regions


def test_a_recolouring_is_found_where_it_is():
    regions = Regions.find(shown(GROUND, DISC), shown(GROUND, RECOLOURED), "local")
    assert not regions.is_global and not regions.changes_shape
    (part,) = regions.parts
    truth = edit_mask(SCENE, Scene(layers=(GROUND, RECOLOURED)), 0, SIZE)[None]
    assert overlap(regions.mask, truth) > 0.93 and torch.equal(part.mask, regions.mask)
    assert (regions.mask * truth).sum() > 0.97 * truth.sum(), "nothing of the edit lies outside"
    assert not part.is_layer, "the source's own surface in another colour"
    assert part.outline is not None


def test_another_texture_is_a_layer():
    regions = Regions.find(shown(GROUND, DISC), shown(GROUND, COSTUME), "local")
    (part,) = regions.parts
    assert part.is_layer and not regions.changes_shape
    assert overlap(part.mask, mask()) > 0.9


def test_two_edits_are_two_parts():
    other = replace(DISC, name="other", depth=Level(nearness=0.7), shape=Blob(size=0.12), motion=Motion(x=Curve(powers=(0.4,))))
    source = shown(GROUND, DISC, other)
    edited = shown(GROUND, RECOLOURED, replace(other, texture=Noise(seed=5, finest=0.1, colour=(0.1, 0.2, 0.6))))
    regions = Regions.find(source, edited, "local")
    assert sorted(part.is_layer for part in regions.parts) == [False, True]
    assert torch.equal(sum(part.mask for part in regions.parts), regions.mask)


def test_the_user_s_word_counts():
    source = shown(GROUND, DISC)
    assert Regions.find(source, shown(GROUND, RECOLOURED), "global").is_global
    assert not Regions.find(source, 1 - source, "local").is_global
    untouched = Regions.find(source, source, "auto")
    assert not untouched.is_global and untouched.mask.max() == 0 and untouched.parts == ()


def test_fine_noise_everywhere_makes_no_edit():
    source = shown(GROUND, DISC)
    noisy = source + 0.03 * torch.randn(source.shape, generator=torch.Generator().manual_seed(1))
    assert Regions.find(source, noisy, "local").mask.max() == 0
    edited = shown(GROUND, RECOLOURED) + (noisy - source)
    assert overlap(Regions.find(source, edited, "local").mask, mask()) > 0.75


def test_a_drift_of_all_colours_beside_a_local_edit_is_not_the_edit():
    source = shown(GROUND, DISC)
    edited = 0.97 * shown(GROUND, RECOLOURED) + 0.02
    assert overlap(Regions.find(source, edited, "local").mask, mask()) > 0.75
    faint = 0.93 * source + 0.13 * mask()
    assert overlap(Regions.find(source, faint, "local").mask, mask()) > 0.75


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_a_region_goes_on_to_where_the_edit_ends_however_faintly(strength):
    """Its middle is clear, its rim fades over 20 pixels: an edit that stopped at the clear part would have an edge."""
    y, x = pixel_grid(*SIZE)[0].flip(0)
    share = ((34 - torch.hypot(x - 64, y - 48)) / 20).clamp(0, 1)
    source = shown(GROUND)
    edited = torch.lerp(source, torch.tensor([0.9, 0.3, 0.1])[None, :, None, None].expand_as(source), strength * share)
    found = Regions.find(source, edited, "local").mask[0, 0] > 0
    changed = (edited - source).abs().amax(dim=1)[0]
    assert changed[~found].max() < 0.02


def test_another_outline_is_noticed():
    star = Polygon(corners=((0.0, -0.26), (0.07, -0.05), (0.24, 0.1), (0.0, 0.06), (-0.24, 0.1), (-0.07, -0.05)))
    plain = replace(GROUND, texture=Noise(seed=1, finest=0.2, colour=(0.35, 0.5, 0.6), contrast=0.03))
    source = shown(plain, DISC)
    swapped = Regions.find(source, shown(plain, replace(COSTUME, shape=star)), "local")
    assert swapped.changes_shape and not swapped.is_global
    assert not Regions.find(source, shown(plain, RECOLOURED), "local").changes_shape
    assert not Regions.find(source, shown(plain, replace(COSTUME, shape=Blob(size=0.28))), "local").changes_shape


def test_ground_seen_through_an_added_ring_was_not_uncovered():
    plain = replace(GROUND, texture=Noise(seed=1, finest=0.2, colour=(0.35, 0.5, 0.6), contrast=0.03))
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    away = torch.hypot(x - 40, y - 50)
    source = shown(plain)
    edited = torch.where((away > 4) & (away < 11), torch.tensor([0.9, 0.2, 0.1])[:, None, None], source)
    regions = Regions.find(source, edited, "local")
    assert len(regions.parts) == 1 and regions.mask[0, 0, 50, 40] == 1, "the hole is closed"
    assert not regions.changes_shape


# ----------------------------------------------------------------------------------------------------------------- outline


def test_a_coloured_disc_is_found_again():
    outline = Outline.learn(shown(GROUND, DISC), mask())
    assert outline is not None
    for time in (0, 2, 4):
        truth = mask(time=time)
        for dx, dy in ((0, 0), (5, -3), (-4, 4)):  # expected a few pixels beside
            found = outline.find(shown(GROUND, DISC, time=time), truth.roll((dx, dy), dims=(-1, -2)))
            assert overlap(found, truth) > 0.9
            assert set(found.unique().tolist()) == {0.0, 1.0}


def test_nothing_expected_nothing_found():
    outline = Outline.learn(shown(GROUND, DISC), mask())
    assert outline.find(shown(GROUND, DISC), torch.zeros(1, 1, *SIZE)).max() == 0


def test_what_colour_does_not_tell_apart_has_no_outline():
    assert Outline.learn(shown(GROUND, DISC), torch.ones(1, 1, *SIZE)) is None
    assert Outline.learn(torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1)), mask()) is None
    hat = torch.zeros(1, 1, *SIZE)
    hat[..., 60:80, 100:118] = 1  # over nothing but ground
    assert Outline.learn(shown(GROUND, DISC), hat) is None


def test_an_outline_is_the_same_every_time():
    one, two = (Outline.learn(shown(GROUND, DISC), mask()) for _ in range(2))
    assert (one.background == two.background).all() and (one.foreground == two.foreground).all()


@pytest.mark.parametrize("colour", [(0.9, 0.9, 0.9), (0.05, 0.05, 0.05)])
def test_flat_pictures_are_no_trouble(colour):
    ground, disc = replace(GROUND, texture=Flat(colour=(0.5, 0.5, 0.5))), replace(DISC, texture=Flat(colour=colour))
    regions = Regions.find(shown(ground), shown(ground, disc), "local")
    assert overlap(regions.mask, mask()) > 0.8 and len(regions.parts) == 1
