"""The depth refiner: its size, deformable convolution against loops, what reaches what, files, and the part around it."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from flowpaint.errors import ConfigError, ShapeError, WeightsError
from flowpaint.networks.refiner import Refiner, deformed, refiner_in
from flowpaint.parts.complete import Harmonic, Refined
from flowpaint.parts.complete.refiner import parts


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return Refiner(residual=False).eval().requires_grad_(False)


def clip(frames=4, height=32, width=40, seed=0):
    draw = torch.Generator().manual_seed(seed)
    depth = torch.rand(frames, 1, height, width, generator=draw)
    hole = torch.zeros_like(depth)
    hole[:, :, 8:20, 10:28] = 1
    return depth, hole, hole[:1].roll(5, dims=-1)


# -------------------------------------------------------------------------------------------------------------- the network


def test_it_has_as_many_numbers_as_the_published_one(network):
    assert sum(one.numel() for one in network.parameters()) == 5_081_588
    assert sum(one.numel() for one in network.edges.parameters()) == 3 * 16 * 9 + 16 + 2 * (16 * 16 * 9 + 16) + 17
    assert not list(network.buffers())


@pytest.mark.parametrize("batch, frames, height, width", [(1, 1, 8, 8), (2, 3, 16, 24), (1, 5, 40, 8)])
def test_shapes(network, batch, frames, height, width):
    told = torch.rand(batch, 5, frames, height, width, generator=torch.Generator().manual_seed(2))
    found = network(told)
    assert found.shape == (batch, frames, 3, height, width) and found.isfinite().all()
    assert network.outlined(found).shape == (batch, frames, 1, height, width)
    alone = network(told[:1])
    assert torch.allclose(alone, found[:1], atol=1e-5), "clips of a batch are apart"


def test_sides_that_are_no_multiples_are_refused(network):
    with pytest.raises(ShapeError, match="44x32"):
        network(torch.zeros(1, 5, 2, 32, 44))
    with pytest.raises(ShapeError):
        network(torch.zeros(1, 4, 2, 32, 32))


def test_what_is_seen_in_one_frame_reaches_all_others_either_way(network):
    told = torch.rand(1, 5, 8, 16, 16, generator=torch.Generator().manual_seed(3))
    found = network(told)
    for changed, far in ((0, 7), (7, 0)):  # further than the convolutions in time reach
        other = told.clone()
        other[:, :, changed] = 1 - other[:, :, changed]
        assert (network(other)[:, far] - found[:, far]).abs().max() > 1e-4
    back = network(told.flip(2))
    assert back.shape == found.shape and back.isfinite().all() and torch.equal(network(told.flip(2).flip(2)), found)


def test_the_second_pass_knows_the_first_and_the_order_of_time(network):
    x = torch.randn(1, 5, 128, 4, 4, generator=torch.Generator().manual_seed(4))
    backward = [*network.recurrence._passed(0, [(one,) for one in x.unbind(1)[::-1]])]
    alone = network.recurrence._passed(0, [(x[:, 4],), (x[:, 3],)])
    assert torch.allclose(backward[0], alone[0], atol=1e-5) and torch.allclose(backward[1], alone[1], atol=1e-5)
    seen = []
    hook = network.recurrence.join[1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network.recurrence(x)
    hook.remove()
    for frame in range(5):
        assert torch.equal(seen[frame][:, :128], x[:, frame])
        assert torch.allclose(seen[frame][:, 128:256], backward[4 - frame], atol=1e-5)
    assert not seen[0][:, 256:].any() and seen[1][:, 256:].any()


def test_states_of_two_frames_before_are_aligned_and_both_ways_merged(network):
    x = torch.randn(1, 5, 128, 4, 4, generator=torch.Generator().manual_seed(4))
    given = []
    hook = network.recurrence.align[0].register_forward_pre_hook(lambda _, one: given.append(one))
    states = network.recurrence._passed(0, [(one,) for one in x.unbind(1)])
    hook.remove()
    assert len(given) == 4 and not given[0][2].any()
    for frame in range(1, 5):
        previous, current, before = given[frame - 1]
        assert torch.equal(previous, states[frame - 1]) and torch.equal(current, x[:, frame])
        assert frame == 1 or torch.equal(before, states[frame - 2])
    later = network.recurrence._passed(0, [(one,) for one in x.unbind(1)[::-1]])[::-1]
    earlier = network.recurrence._passed(1, list(zip(x.unbind(1), later, strict=True)))
    merged = [network.recurrence.merge(torch.cat(pair, dim=1)) for pair in zip(later, earlier, strict=True)]
    assert torch.allclose(network.recurrence(x), x + torch.stack(merged, dim=1), atol=1e-5)


def test_depth_in_the_hole_is_hidden(network):
    depth, hole, shape = (one[None] for one in clip())
    found = network.filled(depth, hole, shape, depth)
    assert torch.equal(network.filled(torch.where(hole > 0, 0.7, depth), hole, shape, depth), found)
    assert not torch.equal(network.filled(depth, hole, 1 - shape, depth), found), "the shape counts"


def test_a_new_residual_network_adds_nothing():
    depth, hole, shape = (one[None] for one in clip())
    start = torch.rand(depth.shape, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert torch.equal(Refiner().filled(depth, hole, shape, start), start.expand(-1, -1, 3, -1, -1))


# --------------------------------------------------------------------------------------------------- deformable convolution


def loops(x, weight, bias, offsets, shares):
    """The same, number by number (Zhu et al., CVPR 2019, Eq. 1)."""
    number, channels, height, width = x.shape
    groups, each = offsets.shape[1], channels // offsets.shape[1]
    found = torch.zeros(number, len(weight), height, width, dtype=x.dtype)

    def at(n, c, y, x_):
        total = 0.0
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x_), math.floor(x_) + 1):
                if 0 <= row < height and 0 <= column < width:
                    total += (1 - abs(y - row)) * (1 - abs(x_ - column)) * float(x[n, c, row, column])
        return total

    for n in range(number):
        for y in range(height):
            for x_ in range(width):
                read = torch.zeros(channels, 9, dtype=x.dtype)
                for g in range(groups):
                    for tap in range(9):
                        dx, dy = offsets[n, g, tap, :, y, x_].tolist()
                        for c in range(g * each, (g + 1) * each):
                            value = at(n, c, y + tap // 3 - 1 + dy, x_ + tap % 3 - 1 + dx)
                            read[c, tap] = value * float(shares[n, g, tap, y, x_])
                found[n, :, y, x_] = (weight.flatten(2) * read).sum(dim=(1, 2)) + bias
    return found


@pytest.mark.parametrize("height, width", [(4, 5), (1, 3)])
def test_deformed_convolution_is_what_loops_say(height, width):
    draw = torch.Generator().manual_seed(5)
    x, weight, bias = (torch.randn(size, generator=draw) for size in ((2, 6, height, width), (4, 6, 3, 3), (4,)))
    offsets = 2.5 * torch.randn(2, 3, 9, 2, height, width, generator=draw)
    shares = torch.rand(2, 3, 9, height, width, generator=draw)
    assert torch.allclose(deformed(x, weight, bias, offsets, shares), loops(x, weight, bias, offsets, shares), atol=1e-4)


def test_without_displacement_it_is_a_convolution():
    draw = torch.Generator().manual_seed(6)
    x, weight, bias = (torch.randn(size, generator=draw) for size in ((2, 32, 7, 6), (8, 32, 3, 3), (8,)))
    offsets, shares = torch.zeros(2, 16, 9, 2, 7, 6), torch.ones(2, 16, 9, 7, 6)
    wanted = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    assert torch.allclose(deformed(x, weight, bias, offsets, shares), wanted, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------------- its files


def test_it_is_written_in_half_and_comes_back(network, tmp_path):
    network.save(tmp_path)
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 10.2e6
    found = refiner_in(tmp_path)
    assert (found.residual, found.side) == (False, 96) and not any(one.requires_grad for one in found.parameters())
    pairs = zip(found.state_dict().items(), network.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b.half().float()) for (name, a), (other, b) in pairs)


def test_other_files_are_refused(network, tmp_path):
    with pytest.raises(WeightsError, match=r"Give one of them|model\.safetensors"):
        Refined(weights=str(tmp_path / "nowhere"))(*clip())
    with pytest.raises(WeightsError, match="has no weights"):
        Refined().check()
    network.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"side": 96}))
    with pytest.raises(WeightsError, match="residual"):
        refiner_in(tmp_path)
    network.save(tmp_path)
    state = {name: one.clone() for name, one in network.state_dict().items()}
    state.pop("recurrence.merge.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="no weights of the depth refiner"):
        refiner_in(tmp_path)


# ----------------------------------------------------------------------------------------------------------------- the part


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A residual network that adds nothing: what the part makes of it must be the harmonic fill."""
    folder = tmp_path_factory.mktemp("fresh")
    Refiner(side=32).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def drawn(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    network.save(folder)
    return str(folder)


@pytest.mark.parametrize("frames, height", [(1, 32), (3, 30), (9, 27)])
def test_with_nothing_added_it_is_the_harmonic_fill(fresh, frames, height):
    depth, hole, shape = clip(frames, height, 37)
    found = Refined(weights=fresh, chunk=4, overlap=2)(depth, hole, shape)
    assert (found - Harmonic()(depth, hole, shape)).abs().max() < 1e-6


def test_larger_depth_is_completed_small_and_a_plane_comes_back(fresh):
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    depth = (0.1 + 0.004 * y + 0.003 * x).expand(2, 1, 96, 128)
    hole = torch.zeros_like(depth)
    hole[:, :, 30:61, 40:83] = 1
    found = Refined(weights=fresh)(torch.where(hole > 0, 1.0, depth), hole, hole[:1])
    assert (found - depth).abs().max() < 2e-3 and torch.equal(found[hole == 0], depth[hole == 0])


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9, 10, 11, 23, 40])
@pytest.mark.parametrize("chunk, overlap", [(8, 0), (8, 2), (8, 4), (1, 0), (5, 2)])
def test_parts_cover_every_frame_once(count, chunk, overlap):
    total, found = torch.zeros(count), parts(count, chunk, overlap)
    for start, stop, share in found:
        assert 0 < stop - start <= chunk and len(share) == stop - start and (share > 0).all()
        total[start:stop] += share
    assert torch.allclose(total, torch.ones(count))
    assert len(found) == max(1, math.ceil((count - overlap) / (chunk - overlap)))


def test_a_long_clip_is_done_in_parts(drawn):
    depth, hole, shape = clip(10)
    assert not torch.equal(Refined(weights=drawn)(depth, hole, 1 - shape), Refined(weights=drawn)(depth, hole, shape))
    whole = Refined(weights=drawn)(depth, hole, shape)
    cut = Refined(weights=drawn, chunk=6, overlap=2)(depth, hole, shape)
    first = Refined(weights=drawn)(depth[:6], hole[:6], shape)
    assert torch.allclose(cut[:4], first[:4], atol=1e-6) and not torch.allclose(cut, whole, atol=1e-4)


def test_values_that_do_not_fit_are_refused():
    for wrong in ({"chunk": 0, "overlap": 0}, {"chunk": 8, "overlap": 5}, {"overlap": -1}, {"side": -1}):
        with pytest.raises(ConfigError, match="are none"):
            Refined(**wrong)
