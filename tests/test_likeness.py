"""How far two looks are apart: zero for the same, the whole scale for opposites, and colours apart from strokes."""

import math

import pytest
import torch

from flowpaint.errors import ShapeError
from flowpaint.evaluation.held_out import Verdict, psnr, teachers
from flowpaint.evaluation.likeness import distance, likeness, nearest_look


def apart(a, b):
    return distance(likeness(a), likeness(b))


@pytest.fixture
def picture(textured):
    return textured[0]


def flat(*colour):
    return torch.tensor(colour)[:, None, None].expand(3, 32, 32).clone()


def test_rows_are_shares(picture):
    found = likeness(picture)
    assert found.shape[0] == 3 and torch.allclose(found.sum(dim=1), torch.ones(3)) and found.min() >= 0


def test_the_same_picture_is_no_distance_away(picture):
    assert apart(picture, picture) == pytest.approx(0, abs=1e-3)


def test_flat_pictures_of_other_colours_have_no_colour_in_common():
    assert apart(flat(0.0, 0.0, 0.0), flat(1.0, 1.0, 1.0)) == pytest.approx(
        1.0, abs=1e-5
    )  # colours all apart, no strokes in either


def test_a_colour_between_two_bins_counts_in_both():
    between = likeness(flat(0.1, 0.0, 0.0))[0]  # half way from bin 0 to bin 1 of six
    assert sorted(between.tolist())[-2:] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert apart(flat(0.1, 0.0, 0.0), flat(0.0, 0.0, 0.0)) == pytest.approx(math.sqrt(1 - math.sqrt(0.5)), abs=1e-4)


def test_turned_stripes_differ_in_their_strokes_alone():
    x = torch.arange(64) % 8 < 4
    across = x.float().expand(3, 64, 64)
    down = across.transpose(1, 2)
    colours, *strokes = (likeness(across) * likeness(down)).sqrt().sum(dim=1).tolist()
    assert colours == pytest.approx(1.0, abs=1e-5) and max(strokes) < 0.6


def test_mirrored_and_opposite_slopes_are_one_direction():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert apart(ramp, ramp.flip(-1)) == pytest.approx(0, abs=0.02)


def test_a_look_is_nearest_to_itself_through_noise_and_blur(picture):
    looks = ("sepia", "night", "neon", "pencil", "infrared")
    known = teachers(picture, looks)
    noise = 0.02 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    for look in looks:
        assert nearest_look((known[look] + noise).clamp(0, 1), known) == look


def test_other_shapes_are_refused():
    with pytest.raises(ShapeError):
        likeness(torch.zeros(1, 3, 4, 4))


def test_a_verdict_counts():
    met = {("a", "neon"): "neon", ("a", "sepia"): "night", ("b", "neon"): "neon", ("b", "sepia"): "sepia"}
    verdict = Verdict(nearest=met)
    assert verdict.share == 0.75 and verdict.hits("neon") == 2 and verdict.hits("sepia") == 1
    assert psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)) == pytest.approx(20.0)
