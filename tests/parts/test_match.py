"""Correspondence: known shifts exactly, known scenes nearly, and jumps that flow cannot follow."""

import math

import pytest
import torch

from flowpaint.labels import describe
from flowpaint.parts.flow import DisFlow
from flowpaint.parts.propagate.match import Match, Matcher, confidence, rescale
from flowpaint.scenes import Layer, Scene, correspond, render
from flowpaint.scenes.camera import Camera
from flowpaint.scenes.depths import Level
from flowpaint.scenes.motion import Curve, Motion
from flowpaint.scenes.shapes import Blob
from flowpaint.scenes.textures import Noise
from flowpaint.warp import grid_of, pixel_grid

SIZE = (64, 80)


def shift(dx, dy, height=64, width=64):
    return torch.tensor([dx, dy], dtype=torch.float32)[None, :, None, None].expand(1, 2, height, width)


def noise(seed, height=64, width=80):
    """Smooth detail at every scale: nothing in it repeats."""
    generator = torch.Generator().manual_seed(seed)
    scales = [torch.rand(1, 3, height // size, width // size, generator=generator) for size in (4, 8, 16)]
    picture = sum(torch.nn.functional.interpolate(one, size=(height, width), mode="bicubic") for one in scales)
    return (picture - picture.min()) / (picture.max() - picture.min())


def rate(speed):
    return Curve(powers=(0.0, speed))


def scene():
    """A disc that crosses a ground that zooms: up to 4 px a frame at 64."""
    ground = Layer(name="ground", texture=Noise(seed=1, finest=0.05), depth=Level(nearness=0.1))
    disc = Layer(
        name="disc",
        texture=Noise(seed=2, finest=0.05, colour=(0.7, 0.35, 0.4)),
        depth=Level(nearness=0.5),
        shape=Blob(size=0.22),
        motion=Motion(x=rate(0.05), y=rate(-0.02), angle=rate(0.03)),
    )
    return Scene(layers=(ground, disc), camera=Camera(log_zoom=rate(0.01)))


# ------------------------------------------------------------------------------------------------------------- descriptors


def test_a_picture_is_described_by_colour_and_twice_its_gradient():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    ramp = (0.03 * x + 0.01 * y).expand(1, 3, 12, 16)
    described = describe(ramp)
    assert described.shape == (1, 5, 12, 16) and torch.equal(described[:, :3], ramp)
    inner = described[0, 3:, 1:-1, 1:-1]
    assert torch.allclose(inner[0], torch.tensor(0.06), atol=1e-6) and torch.allclose(inner[1], torch.tensor(0.02), atol=1e-6)


# ---------------------------------------------------------------------------------------------------------------- matching


def test_descent_finds_a_step_exactly():
    key = noise(1)
    frame = key.roll(1, dims=-1)  # frame(p) = key(p - (1, 0))
    match = Matcher(describe(frame), describe(key))([grid_of(key)], search=False)
    inner = (..., slice(8, -8), slice(8, -8))
    exact = (match.field - grid_of(key) + shift(1, 0, *SIZE)).norm(dim=1, keepdim=True) < 1e-4
    assert exact[inner].float().mean() > 0.9
    assert match.cost[inner].median() < 1e-8


def test_descent_never_makes_a_match_dearer():
    key = noise(1)
    matcher = Matcher(describe(key.roll((4, -3), dims=(-1, -2))), describe(key))
    start = grid_of(key) + torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(2))
    found = matcher([start], search=True)
    assert (found.cost <= matcher.pick([start]).cost).all()


@pytest.mark.parametrize("dx, dy", [(7, -4), (-11, 9)])
def test_the_right_candidate_is_taken_and_kept(dx, dy):
    key = noise(1)
    frame = key.roll((dx, dy), dims=(-1, -2))
    grid = grid_of(key)
    candidates = [grid, grid - shift(dx, dy, *SIZE), grid + shift(dx, dy, *SIZE)]
    match = Matcher(describe(frame), describe(key))(candidates, search=True)
    inner = (..., slice(16, -16), slice(16, -16))
    assert torch.allclose(match.field[inner], candidates[1][inner], atol=1e-4)


def test_the_exhaustive_match_finds_a_jump_beyond_the_reach_of_flow():
    (dx, dy), size = (40, -24), (128, 160)
    key = noise(2, *size)
    frame = key.roll((dx, dy), dims=(-1, -2))
    described = describe(frame), describe(key)
    grid = grid_of(key)
    seen = (..., slice(24, size[0] + dy - 24), slice(dx + 24, size[1] - 24))  # in both, and not beside the seam

    def right(field):
        return ((field - grid + shift(dx, dy, *size)).norm(dim=1) < 0.5)[seen].float().mean()

    flow = grid + DisFlow()(frame, key).vectors
    assert right(flow) < 0.5
    assert right(Matcher(*described)([flow], search=False).field) < 0.5
    assert right(Matcher(*described)([grid], search=True).field) > 0.95


def test_the_exhaustive_match_comes_near_whatever_the_jump():
    """Where the jump is no multiple of its cells, descent has the rest to do."""
    (dx, dy), size = (29, -18), (128, 160)
    key = noise(2, *size)
    frame = key.roll((dx, dy), dims=(-1, -2))
    grid = grid_of(key)
    match = Matcher(describe(frame), describe(key))([grid + DisFlow()(frame, key).vectors], search=True)
    error = (match.field - grid + shift(dx, dy, *size)).norm(dim=1)
    assert error[..., 24 : size[0] + dy - 24, dx + 24 : size[1] - 24].median() < 3  # 34 px before


def test_a_scene_s_correspondence_is_found():
    one = scene()
    for time in (2, 4):
        key, frame = (render(one, at, SIZE).rgb[None] for at in (0, time))
        truth = correspond(one, time, 0, SIZE)
        flow = DisFlow()(frame, key)
        match = Matcher(describe(frame), describe(key))([grid_of(key) + flow.vectors], search=True)
        error = (match.field - grid_of(key) - truth.vectors).norm(dim=1, keepdim=True)[truth.visibility > 0]
        assert error.median() < 0.5 and (error < 2).float().mean() > 0.85
        assert error.quantile(0.9) < 0.8 * (flow.vectors - truth.vectors).norm(dim=1, keepdim=True)[
            truth.visibility > 0
        ].quantile(0.9)
        back = Matcher(describe(key), describe(frame))([grid_of(key) + flow.reverse], search=False)
        trust = confidence(match, back.field)
        assert trust.min() >= 0 and trust.max() <= 1
        assert trust[truth.visibility > 0].mean() > 0.55
        assert trust[truth.visibility == 0].mean() < trust[truth.visibility > 0].mean() - 0.3


def test_a_field_is_left_only_for_a_clear_gain():
    """A field that stays where it was does not flicker: the margin keeps the first candidate."""
    cost = torch.full((1, 1, 4, 4), 1.0)
    first, second = Match(shift(0, 0, 4, 4), cost), Match(shift(1, 0, 4, 4), 0.9 * cost)
    assert torch.equal(first.better(second).field, second.field) and torch.equal(first.better(second).cost, second.cost)
    assert torch.equal(first.better(second, margin=0.8).field, first.field)
    # Among candidates for the whole matcher: the second is better, but by less than a fifth.
    frame = noise(3)
    key = describe(frame)
    slightly = Matcher(key, key + 0.05 * noise(5)[:, :1])
    first, second = (slightly.pick([grid_of(frame) + off]).cost for off in (0.02, 0.0))
    assert (second / first).median() > 0.9
    field = slightly([grid_of(frame) + 0.02, grid_of(frame)], search=False).field
    assert ((field - grid_of(frame) - 0.02).abs() < 1e-4).float().mean() > 0.9


def test_pick_takes_the_better_candidate_pixel_by_pixel():
    key = noise(6)
    frame = key.clone()
    frame[..., 40:] = key.roll(4, dims=-1)[..., 40:]
    grid = grid_of(key)
    picked = Matcher(describe(frame), describe(key)).pick([grid, grid - shift(4, 0, *SIZE)])
    assert torch.equal(picked.field[..., :36], grid[..., :36])
    assert torch.equal(picked.field[..., 44:], (grid - shift(4, 0, *SIZE))[..., 44:])


def test_a_flat_surface_keeps_its_field():
    """Nothing tells one point of a black area from another, so nothing is gained by going elsewhere."""
    frame = noise(7)
    frame[..., 20:50, 20:60] = 0.0
    match = Matcher(describe(frame), describe(frame))([grid_of(frame)], search=True)
    assert (match.field - grid_of(frame)).abs().max() < 0.01


@pytest.mark.parametrize("height, width", [(16, 16), (37, 53), (5, 90)])
def test_any_size_can_be_searched(height, width):
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    match = Matcher(describe(picture), describe(picture))([grid_of(picture)], search=True)
    assert match.field.shape == (1, 2, height, width) and match.field.isfinite().all()
    assert (match.field - grid_of(picture)).abs().max() < 1e-3


# --------------------------------------------------------------------------------------------------------------- rescaling


@pytest.mark.parametrize("height, width", [(64, 80), (128, 160), (101, 67), (17, 33)])
def test_an_enlarged_identity_is_the_identity(height, width):
    assert torch.allclose(rescale(pixel_grid(*SIZE), height, width), pixel_grid(height, width), atol=1e-4)


@pytest.mark.parametrize("height, width", [(128, 160), (192, 120)])
def test_an_enlarged_shift_is_the_scaled_shift(height, width):
    enlarged = rescale(pixel_grid(*SIZE) + shift(3, -2, *SIZE), height, width)
    expected = pixel_grid(height, width) + shift(3 * width / 80, -2 * height / 64, height, width)
    assert torch.allclose(enlarged, expected, atol=1e-4)


def test_an_enlarged_field_shows_the_same_place():
    """A zoom about the corner of the picture, (x + 0.5) -> 0.8 (x + 0.5), is the same map at every size."""

    def zoom(grid):
        return 0.8 * (grid + 0.5) - 0.5

    enlarged = rescale(zoom(pixel_grid(*SIZE)), 128, 160)
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(enlarged[inner], zoom(pixel_grid(128, 160))[inner], atol=1e-3)


# -------------------------------------------------------------------------------------------------------------- confidence


def test_confidence_falls_with_cost_and_with_what_does_not_return():
    grid = pixel_grid(*SIZE)
    free, dear = torch.zeros(1, 1, *SIZE), torch.full((1, 1, *SIZE), 0.02)
    assert torch.allclose(confidence(Match(grid, free), grid), torch.ones(1, 1, *SIZE), atol=1e-5)
    assert torch.allclose(confidence(Match(grid, dear), grid), torch.tensor(math.exp(-1)).expand(1, 1, *SIZE), atol=1e-4)
    off = confidence(Match(grid, free), grid + shift(3, 0, *SIZE))
    assert torch.allclose(off, torch.tensor(math.exp(-1)).expand(1, 1, *SIZE), atol=1e-4)
    moved = confidence(Match(grid + shift(5, 2, *SIZE), free), grid - shift(5, 2, *SIZE))
    assert torch.allclose(moved[..., :-6, :-9], torch.ones(1, 1, *SIZE)[..., :-6, :-9], atol=1e-4)
    assert moved[..., -2:].max() < 0.5, "what left the frame does not return"
