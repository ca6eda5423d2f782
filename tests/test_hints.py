"""What FlowVid is told of a clip, against a pan whose flow is known to the pixel."""

import pytest
import torch

from flowpaint.errors import ShapeError
from flowpaint.hints import GRAY, filled, first_to_each, hint, joined, latent_mask
from flowpaint.parts.flow import DisFlow
from flowpaint.scenes import correspond, render, sample_scene
from flowpaint.types import Flow
from flowpaint.warp import visibility

STEP, HEIGHT, WIDTH = 6, 32, 48


def pan(count=5, step=STEP, seed=0):
    """A camera that moves right over noise, `step` pixels a frame: frame i shows at x what the first shows at x + step i."""
    wide = torch.rand(3, HEIGHT, WIDTH + step * count, generator=torch.Generator().manual_seed(seed))
    return torch.stack([wide[..., step * i : step * i + WIDTH] for i in range(count)])


def along_x(amount, count=1):
    return torch.tensor([float(amount), 0.0])[None, :, None, None].expand(count, 2, HEIGHT, WIDTH)


class Known:
    """The true flow of `frames`, but between frames further than `reach` apart what cannot be; `both` measures both ways."""

    def __init__(self, frames, reach=99, both=True):
        self.frames, self.reach, self.both, self.asked = frames, reach, both, []

    def __call__(self, a, b):
        i, j = (next(n for n, one in enumerate(self.frames) if torch.equal(one, picture[0])) for picture in (a, b))
        self.asked.append((i, j))
        far = abs(i - j) > self.reach
        there, back = along_x(-STEP * (j - i)), along_x(STEP * (j - i))
        there, back = (along_x(9), along_x(9)) if far else (there, back)
        return Flow(vectors=there, visibility=torch.ones(1, 1, HEIGHT, WIDTH), reverse=back if self.both else None)


def seen_of(i):
    """Of frame i, the columns that the first frame shows too."""
    return torch.arange(WIDTH) + STEP * i <= WIDTH - 1


# -------------------------------------------------------------------------------------------------------------------- flow


@pytest.mark.parametrize("both", [True, False])
def test_flow_is_measured_directly_and_both_ways(both):
    frames = pan()
    flow = Known(frames, both=both)
    found = first_to_each(frames, flow)
    assert found.chained == () and all(0 in pair for pair in flow.asked)
    for i in range(1, len(frames)):
        assert torch.equal(found.forward[i - 1], along_x(-STEP * i)[0]) and torch.equal(
            found.backward[i - 1], along_x(STEP * i)[0]
        )
        assert torch.equal(found.visibility[i - 1], seen_of(i).float().expand(1, HEIGHT, WIDTH))


def test_what_leaves_the_frame_is_hidden_though_both_flows_agree():
    """There and back agree at the edge, for flow is sampled with its edge repeated: only the frame says that it is left."""
    there, back = along_x(-STEP), along_x(STEP)
    assert visibility(back, there)[0, 0, :, -STEP:].max() == 0
    first = torch.rand(3, HEIGHT, WIDTH)
    warped, mask = hint(first, back, torch.ones(1, 1, HEIGHT, WIDTH))
    assert mask[1, 0, :, -STEP:].min() == 1 and mask[1, 0, :, :-STEP].max() == 0
    assert (warped[1, :, :, -STEP:] == GRAY).all()


def test_where_direct_flow_fails_it_goes_by_way_of_the_frame_before_and_says_so():
    frames = pan()
    found = first_to_each(frames, Known(frames, reach=1))
    assert found.chained == (2, 3, 4)
    for i in (1, 2, 3, 4):
        assert torch.allclose(found.backward[i - 1], along_x(STEP * i)[0]) and torch.allclose(
            found.forward[i - 1], along_x(-STEP * i)[0]
        )
        assert torch.equal(found.visibility[i - 1, 0, 0], seen_of(i).float())


def test_direct_flow_is_kept_where_it_explains_enough_or_more():
    frames = pan()
    assert first_to_each(frames, Known(frames, reach=1), least_seen=0.0).chained == ()
    assert first_to_each(frames, Known(frames), least_seen=1.0).chained == ()  # the chain is no better


def test_a_chain_sees_what_every_link_sees_and_follows_each_where_it_leads():
    frames = pan()
    true = Known(frames, reach=1)

    def hiding(a, b):
        """As if columns 0..23 of frame 1 were not in the first frame, and columns 30..33 of frame 2 not in frame 1."""
        found = true(a, b)
        back = found.reverse.clone()
        if true.asked[-1] == (0, 1):
            back[..., :24] += 9
        if true.asked[-1] == (1, 2):
            back[..., 30:34] -= 9
        return Flow(vectors=found.vectors, visibility=found.visibility, reverse=back)

    found = first_to_each(frames[:3], hiding, least_seen=0.6)
    assert found.chained == (2,)
    assert found.visibility[0, 0, 0].tolist() == [0.0] * 24 + [1.0] * 18 + [0.0] * 6
    assert found.visibility[1, 0, 0].tolist() == [0.0] * 18 + [1.0] * 12 + [0.0] * 4 + [1.0] * 2 + [0.0] * 12
    assert found.backward[1, 0, 0].tolist() == [21.0] * 18 + [12.0] * 12 + [3.0] * 4 + [12.0] * 14


def test_an_estimator_that_measures_gives_a_hint_like_the_frame():
    frames = torch.nn.functional.avg_pool2d(pan(3, step=1, seed=1).repeat_interleave(4, -1).repeat_interleave(4, -2), 5, 1, 2)
    found = first_to_each(frames, DisFlow())
    warped, mask = hint(frames[0], found.backward, found.visibility)
    seen = 1 - mask[1:]
    assert seen.mean() > 0.6
    still = ((frames[:1] - frames[1:]).abs() * seen).sum() / seen.sum()
    assert ((warped[1:] - frames[1:]).abs() * seen).sum() / seen.sum() < 0.3 * still


def test_a_scene_gives_its_own_frames_where_it_is_seen():
    scene, size = sample_scene(3, 0.3), (48, 64)
    shown = torch.stack([render(scene, time, size).rgb for time in (5.0, 6.0, 7.0)]).clamp(0, 1)
    back = [correspond(scene, time, 5.0, size) for time in (6.0, 7.0)]
    flow, visible = (torch.cat([getattr(one, name) for one in back]) for name in ("vectors", "visibility"))
    warped, mask = hint(shown[0], flow, visible)
    assert torch.equal(mask[1:], 1 - visible)
    error = ((warped - shown).abs() * (1 - mask))[1:].sum() / (1 - mask)[1:].sum()
    assert error < 0.6 * ((shown[:1] - shown[1:]).abs() * visible).sum() / visible.sum()


# -------------------------------------------------------------------------------------------------------------------- hint


def test_the_warped_frame_is_the_true_one_where_seen_and_gray_elsewhere():
    frames = pan()
    found = first_to_each(frames, Known(frames))
    warped, mask = hint(frames[0], found.backward, found.visibility)
    assert torch.equal(warped[0], frames[0]) and mask[0].max() == 0
    for i in range(1, len(frames)):
        seen = seen_of(i)
        assert torch.allclose(warped[i][..., seen], frames[i][..., seen], atol=1e-5)
        assert (warped[i][..., ~seen] == GRAY).all()
        assert torch.equal(mask[i, 0, 0], 1 - seen.float())


def test_the_mask_is_the_other_way_round_than_visibility():
    visible = torch.zeros(1, 1, HEIGHT, WIDTH)
    visible[..., :10] = 1.0
    _, mask = hint(torch.rand(3, HEIGHT, WIDTH), along_x(0), visible)
    assert torch.equal(mask[1:], 1 - visible)


def test_an_edited_first_frame_is_carried_by_the_sources_flow():
    frames = pan()
    found = first_to_each(frames, Known(frames))
    warped, mask = hint(1 - frames[0], found.backward, found.visibility)
    assert torch.allclose(warped * (1 - mask), (1 - frames) * (1 - mask), atol=1e-5)


# ----------------------------------------------------------------------------------------------------------- at latent size


def test_a_cell_is_marked_by_any_pixel_or_by_its_first():
    mask = torch.zeros(2, 1, 16, 24)
    mask[0, 0, 3, 12] = 1.0  # inside the second cell
    mask[1, 0, 8, 16] = 1.0  # the first pixel of the last cell
    most, nearest = latent_mask(mask), latent_mask(mask, pooling="nearest")
    assert most.shape == nearest.shape == (2, 1, 2, 3)
    assert most[0, 0].tolist() == [[0, 1, 0], [0, 0, 0]] and nearest[0].max() == 0
    assert most[1, 0].tolist() == nearest[1, 0].tolist() == [[0, 0, 0], [0, 0, 1]]


def test_sides_are_rounded_up():
    mask = torch.zeros(1, 1, 17, 9)
    mask[..., -1, -1] = 1.0
    for pooling in ("max", "nearest"):
        found = latent_mask(mask, pooling=pooling)
        assert found.shape == (1, 1, 3, 2)
    assert latent_mask(mask)[0, 0].tolist() == [[0, 0], [0, 0], [0, 1]]
    assert latent_mask(mask, cell=4).shape == (1, 1, 5, 3)


def test_conditions_are_joined_in_the_networks_order():
    f, g, m = torch.full((3, 4, 2, 2), 1.0), torch.full((4, 2, 2), 2.0), torch.full((3, 1, 2, 2), 3.0)
    whole = joined(f, g, m)
    assert whole.shape == (3, 9, 2, 2)
    assert [whole[:, channel].unique().tolist() for channel in range(9)] == [[1.0]] * 4 + [[2.0]] * 4 + [[3.0]]
    for place, part in enumerate((slice(0, 4), slice(4, 8), slice(8, 9))):
        kept = [1.0, 1.0, 1.0]
        kept[place] = 0.0
        told = joined(f, g, m, kept=kept)
        assert told[:, part].abs().max() == 0
        told[:, part] = whole[:, part]
        assert torch.equal(told, whole)


@pytest.mark.parametrize(
    "call",
    [
        lambda: hint(torch.rand(3, 8, 8), torch.zeros(2, 2, 8, 8), torch.ones(3, 1, 8, 8)),
        lambda: latent_mask(torch.ones(2, 8, 8)),
        lambda: joined(torch.zeros(2, 4, 2, 2), torch.zeros(3, 2, 2), torch.zeros(2, 1, 2, 2)),
        lambda: first_to_each(torch.rand(3, 8, 8), DisFlow()),
    ],
)
def test_other_shapes_are_refused(call):
    with pytest.raises(ShapeError):
        call()


# ---------------------------------------------------------------------------------------------------------------- holes


def test_holes_stay_gray_or_continue_what_is_around_them():
    ramp = torch.linspace(0, 1, 64).expand(2, 3, 48, 64).clone()
    mask = torch.zeros(2, 1, 48, 64)
    mask[1, :, 10:30, 20:40] = 1
    warped = torch.where(mask > 0, 0.5, ramp)
    assert torch.equal(filled(warped, mask, "gray"), warped)
    found = filled(warped, mask, "spread")
    assert torch.equal(found[mask.expand_as(found) == 0], ramp[mask.expand_as(found) == 0])
    error, before = ((one[1] - ramp[1]).abs() for one in (found, warped))
    assert error.max() < 0.12 and error.mean() < 0.2 * before.mean()
    everything = filled(torch.full((1, 3, 17, 33), 0.3), torch.ones(1, 1, 17, 33), "spread")
    assert torch.isfinite(everything).all()
    one = torch.ones(1, 1, 40, 50)
    one[..., 39, 0] = 0  # a single known pixel fills the whole
    constant = filled(torch.full((1, 3, 40, 50), 0.3), one, "spread")
    torch.testing.assert_close(constant, torch.full_like(constant, 0.3), atol=1e-5, rtol=0)
