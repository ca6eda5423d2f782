"""RIFE 4.6: its published tensors, what each of them does where that has a closed form, and numbers of another program."""

import pytest
import torch
from safetensors.torch import save_file

from conftest import smooth_texture
from flowpaint.errors import ShapeError, WeightsError
from flowpaint.networks.rife import MULTIPLE, Network, rife_of
from flowpaint.parts.interpolate import Rife
from flowpaint.warp import warp
from flowpaint.weights import Policy, keeping
from rife_state import constant, published_shapes, waves


@pytest.fixture(scope="module")
def pictures():
    a = smooth_texture(64, 96, seed=8, waves=6)[None]
    return a, a.roll((2, 3), (-2, -1))


def looked(state):
    return rife_of(state).eval().requires_grad_(False)


# ------------------------------------------------------------------------------------------------------------- the tensors


def test_it_has_the_published_tensors():
    shapes = published_shapes()
    assert {name: tuple(value.shape) for name, value in Network().state_dict().items()} == shapes
    assert len(shapes) == 120
    assert sum(one.numel() for one in Network().parameters()) == 5_306_256


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_comes_back(prefix):
    state = waves()
    teacher = {f"{prefix}teacher.conv0.0.0.weight": torch.zeros(3)}  # of training alone
    network = rife_of({f"{prefix}{name}": value for name, value in state.items()} | teacher)
    found = network.state_dict()
    assert list(found) == list(state) and all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("block1.convblock.3.beta"), r"lacks block1\.convblock\.3\.beta\. "),
        (lambda state: [state.pop(name) for name in list(state)[:2]], r"lacks block0\.conv0\.0\.0\.weight \(and 1 more\)"),
        (lambda state: state.update({"block2.lastconv.0.weight": torch.zeros(96, 20, 4, 4)}), r"\(96, 20, 4, 4\), not \(96, 24"),
        (lambda state: state.update({"encode.cnn0.weight": torch.zeros(1)}), r"encode\.cnn0\.weight too many"),
        (lambda state: state.update({"block4.conv0.0.0.bias": torch.zeros(1)}), r"block4\.conv0\.0\.0\.bias too many"),
    ],
)
def test_other_networks_are_refused(change, said):
    state = waves()
    change(state)
    with pytest.raises(WeightsError, match=said) as refused:
        rife_of(state)
    assert "RIFE 4.6" in str(refused.value)


def test_files_of_both_kinds_give_the_same(tmp_path, pictures):
    state = {f"module.{name}": value for name, value in waves().items()}
    torch.save(state, tmp_path / "flownet.pkl")
    save_file(state, tmp_path / "flownet.safetensors")
    a, b = (one[0] for one in pictures)
    with pytest.raises(WeightsError, match="--allow-pickle"):
        Rife(weights=str(tmp_path / "flownet.pkl"))(a, b, [0.5])
    with keeping(Policy(allow_pickle=True)):
        first = Rife(weights=str(tmp_path / "flownet.pkl"))(a, b, [0.5])
    assert torch.equal(first, Rife(weights=str(tmp_path / "flownet.safetensors"))(a, b, [0.5]))
    assert torch.allclose(first[0], looked(waves())(*pictures, 0.5)[0].clamp(0, 1), atol=1e-6)


# -------------------------------------------------------------------------------------------------------- what it computes


def test_a_network_that_sees_nothing_gives_the_mean(pictures):
    found = looked(constant())(*pictures, 0.3)
    assert torch.allclose(found, (pictures[0] + pictures[1]) / 2, atol=1e-6)


def test_each_block_adds_its_share_in_its_own_pixels(pictures):
    numbers = {f"block{k}": torch.tensor([0.5, -0.25, 0.125, 1.0, 0.3]) * (k + 1) for k in range(4)}
    flow, mask = looked(constant(**{name: one.tolist() for name, one in numbers.items()})).motion(*pictures, 0.5)
    wanted = sum(scale * one for scale, one in zip((8, 4, 2, 1), numbers.values(), strict=True))
    assert torch.allclose(flow, wanted[None, :4, None, None].expand_as(flow), atol=1e-5)
    assert torch.allclose(mask, torch.tensor(0.3 * (1 + 2 + 3 + 4)), atol=1e-5), "the mask is no length"


@pytest.mark.parametrize("mask, which", [(40.0, 0), (-40.0, 1)])
def test_the_mask_is_high_for_the_first_picture(pictures, mask, which):
    found = looked(constant(block3=(3.0, -2.0, -1.0, 4.0, mask)))(*pictures, 0.5)
    shift = torch.tensor([(3.0, -2.0), (-1.0, 4.0)][which])[None, :, None, None].expand(1, 2, 64, 96)
    assert torch.allclose(found, warp(pictures[which], shift), atol=1e-5)


def test_what_the_blocks_are_shown(pictures):
    network, seen = looked(constant(block0=(0.5, -0.25, 0.125, 1.0, 0.3), block1=(0.0, 0.0, 1.0, 0.0, 0.2))), []
    for k in range(4):
        block = getattr(network, f"block{k}")
        block.conv0.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    a, b = pictures
    network(a, b, 0.7)
    assert [tuple(one.shape) for one in seen] == [(1, 7, 8, 12), (1, 12, 16, 24), (1, 12, 32, 48), (1, 12, 64, 96)]
    assert torch.allclose(seen[0][:, :3, 1, 2], a[:, :, 11:13, 19:21].mean((2, 3)), atol=1e-5), "not averaged over the whole cell"
    assert torch.allclose(seen[0][:, 3:6, 1, 2], b[:, :, 11:13, 19:21].mean((2, 3)), atol=1e-5)
    assert all(torch.equal(one[:, 6], torch.full_like(one[:, 6], 0.7)) for one in seen)
    flow = torch.tensor([4.0, -2.0, 1.0, 8.0])  # 8 pixels a unit
    for scale, one, more in zip((4, 2, 1), seen[1:], ((0, 0, 0, 0), (0, 0, 4, 0), (0, 0, 4, 0)), strict=True):
        now = flow + torch.tensor(more)
        assert torch.allclose(one[0, 8:, 3, 3], now / scale, atol=1e-5), "the flow so far, in the pixels of the block"
    assert seen[1][0, 7].allclose(torch.tensor(0.3)) and seen[3][0, 7].allclose(torch.tensor(0.5)), "the mask so far"
    last = flow + torch.tensor([0.0, 0.0, 4.0, 0.0])
    for place, picture, shift in ((0, a, last[:2]), (3, b, last[2:])):
        wanted = warp(picture, shift[None, :, None, None].expand(1, 2, 64, 96))
        assert torch.allclose(seen[3][:, place : place + 3], wanted, atol=1e-5)


def test_numbers_of_another_program(pictures):
    """With the weights `waves`, an implementation by others in the layout of the published one gave these numbers."""
    network = looked(waves())
    found = {
        0.25: [[0.370021, 0.650077, 0.528906], [0.440700, 0.420587, 0.447620], [0.508164, 0.405802, 0.514337]],
        0.70: [[0.388578, 0.652313, 0.528771], [0.418749, 0.424591, 0.444763], [0.471794, 0.395758, 0.465248]],
    }
    for time, numbers in found.items():
        made = network(*pictures, time)[0, :, [5, 30, 63], [7, 40, 95]].T
        assert torch.allclose(made, torch.tensor(numbers), atol=2e-4)
    flow, _ = network.motion(*pictures, 0.25)
    assert torch.allclose(flow[0, :, 30, 40], torch.tensor([-1.834217, 0.420159, -4.393575, -0.380318]), atol=2e-3)


@pytest.mark.parametrize("height, width", [(64, 96), (50, 70), (1, 33), (32, 8)])
def test_sides_are_padded_with_their_edge_and_cut_again(height, width):
    network, a = looked(waves()), torch.rand(2, 1, 3, height, width, generator=torch.Generator().manual_seed(3))
    found = network(a[0], a[1], 0.5)
    assert found.shape == (1, 3, height, width)
    rows = torch.arange(-(-height // MULTIPLE) * MULTIPLE).clamp(max=height - 1)
    columns = torch.arange(-(-width // MULTIPLE) * MULTIPLE).clamp(max=width - 1)
    large = network(*a[..., rows[:, None], columns], 0.5)
    assert torch.allclose(found, large[..., :height, :width], atol=1e-5)


def test_pairs_are_worked_on_alone(pictures):
    network = looked(waves())
    both = network(torch.cat(pictures), torch.cat(pictures[::-1]), 0.5)
    assert torch.allclose(both[1:], network(*pictures[::-1], 0.5), atol=1e-4)
    with pytest.raises(ShapeError):
        network(pictures[0], pictures[1][..., :64], 0.5)
