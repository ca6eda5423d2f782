"""What the depth refiner learns from: removals with their truth, holes, edges, the loss; and that it learns."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage import feature

from flowpaint.errors import ConfigError
from flowpaint.networks.refiner import refiner_in
from flowpaint.scenes import edit, relief, render, sample_scene
from flowpaint.training.depth_edges import depth_edges
from flowpaint.training.holes import (
    Removal,
    blobs,
    blotted,
    changed,
    cropped,
    read_removal,
    removal,
    removals,
    removed,
    stretched,
    swapped,
    synth_holes,
    turned,
)  # fmt: skip
from flowpaint.training.loop import keyed
from flowpaint.training.refiner import RefinerTrainer, edge_loss
from flowpaint.training.shards import Sample
from tiny_training import exported, quiet, started

REFINER = {"part": "refiner", "size": 16, "side": 32, "frames": 2}


@pytest.fixture(scope="module")
def row():
    return removal(4, length=5, size=48)


@pytest.fixture(scope="module")
def tiny_holes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("holes") / "shards"
    assert synth_holes(folder, count=5, length=3, size=32, seed=1, progress=quiet) == 5
    return folder


# ------------------------------------------------------------------------------------------------------------------ the data


def test_relief_is_what_rendering_says():
    scene = sample_scene(7, 0.8)
    frame = render(scene, 11.5, (40, 56))
    depth, layers = relief(scene, 11.5, (40, 56))
    assert torch.equal(depth, frame.depth) and torch.equal(layers, frame.layers) and len(layers.unique()) > 1


@pytest.mark.parametrize("seed", range(4))
def test_an_object_leaves_and_what_is_behind_is_further(seed):
    row = removal(seed, length=3, size=40)
    gone = row.object > 0
    assert torch.equal(row.depth[~gone], row.behind[~gone]) and (row.depth[gone] > row.behind[gone]).all()
    assert gone[0].float().mean() >= 0.01 and row.swapped[0].mean() >= 0.01
    assert set(row.object.unique().tolist()) == {0.0, 1.0} == set(row.swapped.unique().tolist())
    again = removal(seed, length=3, size=40)
    assert all(torch.equal(getattr(row, name), getattr(again, name)) for name in ("depth", "behind", "object", "swapped"))


def test_what_is_behind_is_the_scene_without_the_object():
    rng = np.random.default_rng([117, 2, 0])
    scene = sample_scene(int(rng.integers(2**31)), float(rng.uniform(0.2, 1.0)))
    edited = edit(scene, "swap", int(rng.integers(2**31)))
    number = next(place for place, layer in enumerate(scene.layers) if layer != edited.layers[place])
    start, step = float(rng.uniform(0, 60)), float(rng.choice((0.5, 1.0, 2.0)))
    without = replace(scene, layers=tuple(layer for layer in scene.layers if layer != scene.layers[number]))
    found = removal(2, length=2, size=40)
    for frame in range(2):
        time = start + step * frame
        assert torch.equal(found.behind[frame], render(without, time, (40, 40)).depth)
        assert torch.equal(found.depth[frame], render(scene, time, (40, 40)).depth)
        assert torch.equal(found.swapped[frame], render(edited, time, (40, 40)).masks[number])


def test_removals_are_written_and_read(row):
    files = next(removals(1, length=5, size=48, seed=4))
    found = read_removal(Sample("0", files))
    for name in ("behind", "depth"):
        assert (getattr(found, name) - getattr(row, name)).abs().max() < 5e-4
    assert torch.equal(found.object, row.object) and torch.equal(found.swapped, row.swapped)
    with pytest.raises(KeyError):
        read_removal(Sample("0", {"json": b"{}"}))


def test_the_hole_is_what_the_other_shape_leaves_open(row):
    hole = swapped(row)
    gone, come = row.object > 0, row.swapped > 0
    assert not hole.hole[come].any() and hole.hole[gone & ~come].all() and hole.hole.sum() > (gone & ~come).sum()
    assert hole.hole.sum() < (gone & ~come).sum() * 3
    for frame in range(5):
        mean = row.depth[frame][gone[frame]].mean()
        assert torch.allclose(hole.depth[frame][come[frame]], mean, atol=1e-6)
    inside = hole.hole > 0
    assert torch.equal(hole.truth[inside], row.behind[inside]) and torch.equal(hole.truth[~inside], hole.depth[~inside])
    assert torch.equal(hole.shape, row.swapped[:1])
    bare = removed(row)
    assert torch.equal(removed(row, comes=True).shape, row.swapped[:1]) and torch.equal(removed(row, comes=True).hole, bare.hole)
    assert not bare.shape.any() and bare.hole[gone].all() and torch.equal(bare.truth[bare.hole > 0], row.behind[bare.hole > 0])


def test_an_object_out_of_sight_is_pasted_at_the_depth_it_had():
    depth = torch.linspace(0.2, 0.8, 4).view(4, 1, 1, 1).expand(4, 1, 6, 6).clone()
    gone, come = torch.zeros(4, 1, 6, 6), torch.ones(4, 1, 6, 6)
    gone[1, 0, 2:4, 2:4] = 1
    found = swapped(Removal(depth=depth, behind=depth, object=gone, swapped=come))
    assert found.depth[:, 0, 0, 0].tolist() == pytest.approx([0.0, 0.4, 0.4, 0.4]) and found.depth.isfinite().all()


def test_blobs_are_whole_and_slow_and_half_of_them_still():
    still, sizes = 0, []
    for seed in range(40):
        found = blobs(4, (48, 64), keyed(seed, 1))
        still += bool(torch.equal(found, found[:1].expand_as(found)))
        sizes.append(float(found.mean()))
        at = [(one[0] > 0).nonzero().float().mean(dim=0) for one in found if one.any()]
        edge = found[..., [0, -1]].any() or found[..., [0, -1], :].any()
        if len(at) == 4 and not edge:
            assert all((b - a).norm() < 3 * 48 / 384 + 0.3 for a, b in pairwise(at))
    assert 10 < still < 30 and 0.03 < sum(sizes) / 40 < 0.3
    hole = blotted(removal(4, length=3, size=32), keyed(3))
    assert torch.equal(hole.truth, hole.depth)


# -------------------------------------------------------------------------------------------------------------- augmentation


def numbered(frames=3, height=20, width=24):
    """A removal whose fields all say where a pixel came from."""
    place = torch.arange(frames * height * width).view(frames, 1, height, width).float()
    return Removal(depth=place, behind=place + 0.25, object=place + 0.5, swapped=place + 0.75)


def test_all_that_belongs_together_is_turned_together():
    row, kinds = numbered(), set()
    for seed in range(40):
        found = turned(row, keyed(seed))
        place = found.depth.long()
        assert torch.equal(place.sort().values.flatten().sort().values, torch.arange(place.numel()))
        for name, shift in (("behind", 0.25), ("object", 0.5), ("swapped", 0.75)):
            assert torch.equal(getattr(found, name), found.depth + shift)
        kinds.add((bool(place[0, 0, 0, 0] >= 20 * 24), bool(place[0, 0, 0, 0] % 24)))
    assert len(kinds) == 4, "backwards or not, mirrored or not"


def test_making_holes_and_mirroring_may_change_places(row):
    mirrored = changed(row, lambda one: one.flip(-1))
    for make in (swapped, removed):
        one, other = make(row), make(mirrored)
        assert all(torch.equal(getattr(one, name).flip(-1), getattr(other, name)) for name in ("hole", "shape"))
        pairs = ((one.depth, other.depth), (one.truth, other.truth))
        assert all(torch.allclose(first.flip(-1), second, atol=1e-6) for first, second in pairs)  # sums in another order


def test_crops_are_of_one_place_and_mostly_about_the_object(row):
    seen = 0
    for seed in range(20):
        found = cropped(row, 16, keyed(seed))
        assert found.depth.shape == (5, 1, 16, 16)
        seen += bool(found.object.any())
        place = cropped(numbered(), 16, keyed(seed))
        assert torch.equal(place.behind, place.depth + 0.25)
        assert torch.equal(place.depth[0, 0, 1] - place.depth[0, 0, 0], torch.full((16,), 24.0))
    assert seen == 20


def test_depth_is_stretched_as_one(row):
    spans = []
    for seed in range(20):
        found = stretched(row, keyed(seed))
        both = torch.cat((found.depth, found.behind))
        assert both.min() >= -1e-6 and both.max() <= 1 + 1e-6
        spans.append(float(both.max() - both.min()))
        scale = (found.depth[0, 0, 0] - found.behind[0, 0, 5]) / (row.depth[0, 0, 0] - row.behind[0, 0, 5])
        assert scale[scale.isfinite()].std() < 1e-2 * scale[scale.isfinite()].mean()
    assert min(spans) >= 0.3 and max(spans) - min(spans) > 0.3


# ------------------------------------------------------------------------------------------------------------------ the loss


def test_edges_are_nearly_those_of_another_program():
    for seed in range(3):
        depth = relief(sample_scene(seed, 0.9), 5.0, (96, 96))[0][None]
        mine = depth_edges(depth, sigma=1.5)[0, 0] > 0
        theirs = torch.from_numpy(feature.canny(depth[0, 0].numpy().astype(float), 1.5, 0.1, 0.2))
        assert theirs.sum() > 50

        def near(edges):
            return torch.nn.functional.max_pool2d(edges[None, None].float(), 3, 1, 1)[0, 0] > 0

        inner = torch.zeros(96, 96, dtype=torch.bool)
        inner[4:-4, 4:-4] = True  # the other one leaves the border out
        assert near(theirs)[mine & inner].float().mean() > 0.97 and near(mine)[theirs & inner].float().mean() > 0.97


def test_a_step_is_an_edge_one_pixel_wide_and_a_slope_is_none():
    step = torch.zeros(1, 1, 16, 20)
    step[..., 9:] = 0.3
    found = depth_edges(step, sigma=1.0)
    assert found.sum() == 16 and found[..., 8:10].sum() == 16
    assert not depth_edges(0.01 * torch.arange(20.0).expand(1, 1, 16, 20), sigma=1.0).any()
    faint = torch.zeros(1, 1, 16, 20)  # 8 * 0.4 * 0.05 = 0.16: between the thresholds
    faint[..., 9:] = 0.05
    assert not depth_edges(faint, sigma=1.0).any()
    faint[..., 9:] *= torch.linspace(6, 1, 16)[:, None]
    assert depth_edges(faint, sigma=1.0)[:, :, 15:].any(), "it hangs together with a strong one"


def test_the_loss_of_edges_is_balanced_and_counts_the_hole_more():
    edges, hole = torch.zeros(1, 1, 1, 4, 4), torch.zeros(1, 1, 1, 4, 4)
    edges[..., 0, :] = 1  # a quarter
    said = torch.zeros_like(edges)
    assert float(edge_loss(said, edges, hole)) == pytest.approx(math.log(2) * (0.25 * 0.75 + 0.75 * 0.25))
    hole[..., 0, :2] = 1
    wrong = said - 2 * hole
    base = float(edge_loss(wrong, edges, torch.zeros_like(hole)))
    more = float(edge_loss(wrong, edges, hole)) - base
    assert more == pytest.approx(5 * 2 / 16 * 0.75 * math.log1p(math.exp(2)), rel=1e-5)
    right = 20 * (2 * edges - 1)
    assert float(edge_loss(right, edges, hole)) < 1e-6, "one sigmoid, not two"


def test_the_loss_weighs_hole_and_rest_each_by_its_own_pixels(tiny_holes):
    task = RefinerTrainer(**{name: value for name, value in REFINER.items() if name != "part"})(tiny_holes)
    batch = task.batch([task.read(Sample("0", files)) for files in removals(3, length=3, size=32, seed=1)], keyed(5), 0.0)
    assert batch["depth"].shape == (3, 2, 1, 16, 16) and batch["shape"].shape == (3, 1, 1, 16, 16)
    hole, error = batch["hole"], (batch["start"] - batch["truth"]).abs()
    with torch.no_grad():
        found = task.objective(batch)  # begins as the harmonic fill
        torch.nn.init.constant_(task.trained["refiner"].last.bias, 0.125)
        moved = task.objective(batch)
    assert float(found["inside"]) == pytest.approx(float(error[hole > 0].mean()), rel=1e-4)
    assert float(found["outside"]) == pytest.approx(0, abs=1e-6)
    assert float(found["loss"]) == pytest.approx(float(found["inside"] + 0.02 * found["edge"]), rel=1e-5)
    assert float(moved["outside"]) == pytest.approx(0.125, rel=1e-4)
    wanted = (batch["start"] + 0.125 - batch["truth"]).abs()[hole > 0].mean()
    assert float(moved["inside"]) == pytest.approx(float(wanted), rel=1e-4)


# --------------------------------------------------------------------------------------------------------------- it learns


@pytest.mark.slow
def test_it_learns_one_batch_by_heart(tiny_holes):
    task = RefinerTrainer(size=24, side=32, frames=2, blotted=0.0, edge=0.0)(tiny_holes)
    batch = task.batch([task.read(Sample("0", files)) for files in removals(2, length=3, size=32, seed=1)], keyed(2), 0.0)
    optimiser = torch.optim.Adam(task.trained.parameters(), lr=1e-3)
    first = float(task.objective(batch)["inside"].detach())
    for _ in range(40):
        optimiser.zero_grad()
        found = task.objective(batch)
        found["loss"].backward()
        optimiser.step()
    assert first > 0.03 and float(found["inside"].detach()) < 0.3 * first


def test_a_run_writes_what_the_part_reads(tiny_holes, tmp_path):
    training = started(REFINER, tiny_holes, tmp_path, bf16=False, steps=2)
    folder = exported(training)
    network = refiner_in(folder)
    assert (network.side, network.residual) == (32, True) and network.last.weight.any()
    assert (tmp_path / "samples" / "step-000002.png").exists()
    shown = training.task.show(training.networks)
    assert shown.shape == (4 * 2 * 4, 3, 32, 32) and shown.min() >= 0 and shown.max() <= 1
    again = RefinerTrainer(size=16, side=32, frames=2, start=str(folder))(tiny_holes)
    assert torch.equal(again.trained["refiner"].last.weight, network.last.weight)
    with pytest.raises(ConfigError, match="residual"):
        RefinerTrainer(size=16, side=32, frames=2, start=str(folder), residual=False)(tiny_holes)


@pytest.mark.parametrize(
    "wrong", [{"size": 20}, {"size": 104}, {"frames": 0}, {"removed": 0.6, "blotted": 0.6}, {"removed": -0.1}, {"edge": -1.0}]
)
def test_values_that_do_not_train_are_refused(wrong):
    with pytest.raises(ConfigError, match="do not train"):
        RefinerTrainer(**wrong)
    with pytest.raises(ConfigError, match="checkpointing"):
        RefinerTrainer(optimisation=replace(RefinerTrainer().optimisation, checkpointing=True))
