"""RAFT: what it computes against direct sums, what files of weights it takes, and how well it does on a pair with known truth."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from flowpaint import seams, weights
from flowpaint.errors import ConfigError, ResourceError, ShapeError, WeightsError
from flowpaint.networks import raft as network
from flowpaint.networks.raft import Pyramid, Raft, authors_names, convex, margins, raft_of
from flowpaint.parts.flow import ByDistance, DisFlow, RaftFlow
from flowpaint.types import Flow
from flowpaint.warp import visibility
from flowpaint.weights import Policy, keeping


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(size="small", seed=0):
    """A network with random weights, its corrections small enough to stay in the picture."""
    torch.manual_seed(seed)
    return Raft(size).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def published(shared):
    file = shared / "weights" / "raft_small.pth"
    if not file.is_file():
        pytest.skip(f"no weights of RAFT at {file}")
    return file


@pytest.fixture(scope="module")
def state(published):
    return torch.load(published, map_location="cpu", weights_only=True)


@pytest.fixture
def pickles():
    with keeping(Policy(allow_pickle=True)):
        yield


# ------------------------------------------------------------------------------------------------------------- what it computes


def test_the_pyramid_holds_products_of_features_and_their_means():
    a, b = random(2, 5, 16, 24, seed=1), random(2, 5, 16, 24, seed=2)
    levels = Pyramid(a, b, radius=1).levels
    assert [tuple(one.shape) for one in levels] == [(2 * 384, 1, 16 >> k, 24 >> k) for k in range(4)]
    for n, (y, x), (v, u) in [(0, (3, 7), (0, 0)), (1, (15, 23), (4, 20)), (1, (0, 5), (15, 23))]:
        row = n * 384 + y * 24 + x
        assert levels[0][row, 0, v, u].item() == pytest.approx((a[n, :, y, x] @ b[n, :, v, u]).item() / 5**0.5, abs=1e-5)
        for k in (1, 2, 3):
            cell = b[n, :, (v >> k) << k : ((v >> k) + 1) << k, (u >> k) << k : ((u >> k) + 1) << k].mean(dim=(1, 2))
            assert levels[k][row, 0, v >> k, u >> k].item() == pytest.approx((a[n, :, y, x] @ cell).item() / 5**0.5, abs=1e-5)


def looked_up(level, x, y):
    """One correlation map [h, w] at a point, bilinear, nothing outside: a direct sum."""
    total = 0.0
    for v in range(level.shape[0]):
        for u in range(level.shape[1]):
            total += max(0.0, 1 - abs(x - u)) * max(0.0, 1 - abs(y - v)) * level[v, u].item()
    return total


def test_the_lookup_is_the_direct_sum_in_the_order_that_the_weights_have():
    pyramid = Pyramid(random(1, 4, 16, 16, seed=3), random(1, 4, 16, 16, seed=4), radius=2)
    points = 16 * torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(5))
    points[0, :, 0, 0] = torch.tensor([-1.5, 30.0])
    found = pyramid(points)
    assert found.shape == (1, 4 * 25, 16, 16)
    for y, x in [(0, 0), (3, 9), (15, 1)]:
        for k, (dx, dy) in [(0, (0, 0)), (0, (2, -1)), (1, (-2, 1)), (2, (1, 0)), (3, (0, -1))]:
            px, py = (points[0, :, y, x] / 2**k).tolist()
            wanted = looked_up(pyramid.levels[k][y * 16 + x, 0], px + dx, py + dy)
            channel = 25 * k + 5 * (dx + 2) + dy + 2  # x outside, y inside
            assert found[0, channel, y, x].item() == pytest.approx(wanted, abs=1e-4)


def test_convex_enlarging_is_the_direct_sum():
    flow, logs = random(1, 2, 3, 4, seed=6), random(1, 9 * 64, 3, 4, seed=7)
    found, padded = convex(flow, logs), F.pad(flow, (1, 1, 1, 1))
    assert found.shape == (1, 2, 24, 32)
    for y, x in [(0, 0), (23, 31), (10, 17), (13, 8)]:
        cell, within = (y // 8, x // 8), (y % 8) * 8 + x % 8
        shares = torch.stack([logs[0, 64 * i + within, *cell] for i in range(9)]).softmax(0)
        around = padded[0, :, cell[0] : cell[0] + 3, cell[1] : cell[1] + 3].flatten(1)
        assert torch.allclose(found[0, :, y, x], around @ shares, atol=1e-6)
    assert convex(torch.ones(1, 2, 5, 5), logs.new_zeros(1, 576, 5, 5))[..., 8:-8, 8:-8].allclose(torch.ones(()))


def test_the_last_step_is_eight_times_as_large():
    flow = torch.arange(6.0).expand(1, 2, 5, 6)
    found = tiny().update_block.enlarged(random(1, 96, 5, 6), flow)
    assert torch.allclose(found, 8 * torch.linspace(0, 5, 48).expand(1, 2, 40, 48), atol=1e-5)  # corners on corners, as trained
    large, hidden = tiny("large").update_block, random(1, 128, 5, 6, seed=11)
    assert torch.allclose(large.enlarged(hidden, flow), convex(8 * flow, large.mask(hidden) / 4), atol=1e-5)


def test_the_network_sees_black_as_minus_one_and_white_as_one():
    net, seen = tiny(), []
    for encoder in (net.fnet, net.cnet):
        encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(torch.zeros(1, 3, 128, 128), torch.ones(1, 3, 128, 128), 1)
    assert torch.equal(seen[0][0], -torch.ones(3, 128, 128)) and torch.equal(seen[0][1], torch.ones(3, 128, 128))
    assert torch.equal(seen[1], -torch.ones(1, 3, 128, 128)), "the context is that of the first"


def test_the_recurrent_unit_is_that_of_the_paper():
    unit = network._Gru(3, 2, "separable").eval()
    hidden, given = random(1, 3, 6, 7, seed=8), random(1, 2, 6, 7, seed=9)
    now = hidden
    for which, padding in (("1", (0, 2)), ("2", (2, 0))):

        def conv(gate, x, which=which, padding=padding):
            layer = unit.get_submodule(f"conv{gate}{which}")
            return F.conv2d(x, layer.weight, layer.bias, padding=padding)

        z = torch.sigmoid(conv("z", torch.cat([now, given], 1)))  # Eq. 3
        r = torch.sigmoid(conv("r", torch.cat([now, given], 1)))  # Eq. 4
        q = torch.tanh(conv("q", torch.cat([r * now, given], 1)))  # Eq. 5
        now = (1 - z) * now + z * q  # Eq. 6
    assert torch.allclose(unit(hidden, given), now, atol=1e-6)


@pytest.mark.parametrize("height, width", [(1, 1), (5, 90), (128, 136), (129, 250), (436, 1024)])
def test_margins_make_whole_cells_shared_out_to_both_sides(height, width):
    left, right, top, bottom = margins(height, width)
    assert (height + top + bottom) % 8 == (width + left + right) % 8 == 0
    assert height + top + bottom == max(128, -(-height // 8) * 8) and 0 <= right - left <= 1 and 0 <= bottom - top <= 1


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_batch_is_its_pairs_one_by_one_and_back_is_forward_exchanged(size):
    net, a = tiny(size), torch.rand(2, 3, 41, 133, generator=torch.Generator().manual_seed(1))
    b = a.roll((2, 3), dims=(-1, -2)).flip(0)
    whole = net(a, b, 3)
    assert whole.shape == (2, 2, 41, 133) and whole.isfinite().all() and whole.abs().max() > 0.01
    assert torch.allclose(whole, torch.cat([net(one[None], two[None], 3) for one, two in zip(a, b, strict=True)]), atol=1e-3)
    there, back = net.both(a, b, 3)
    assert torch.allclose(there, whole, atol=1e-3) and torch.allclose(back, net(b, a, 3), atol=1e-3)
    assert torch.equal(whole, net(a, b, 3)), "the same twice"
    assert not torch.allclose(whole, net(a, b, 2), atol=1e-3), "each update counts"


def test_margins_are_taken_off_again():
    net = tiny()
    a, b = (torch.rand(1, 3, 132, 150, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    left, right, top, bottom = margins(132, 150)
    padded = [F.pad(one, (left, right, top, bottom), mode="replicate") for one in (a, b)]
    assert margins(*padded[0].shape[-2:]) == (0, 0, 0, 0)
    assert torch.equal(net(a, b, 2), net(*padded, 2)[..., top : top + 132, left : left + 150])


def test_pictures_of_two_sizes_are_refused_and_memory_is_said(monkeypatch):
    with pytest.raises(ShapeError):
        tiny()(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40))

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(network, "Pyramid", full)
    with pytest.raises(ResourceError, match=r"136x128.*side"):
        tiny()(torch.zeros(1, 3, 100, 131), torch.zeros(1, 3, 100, 131))


# -------------------------------------------------------------------------------------------------------------------- weights


def test_names_and_shapes_are_those_of_the_published_file(state):
    mine = {f"module.{name}": tuple(value.shape) for name, value in Raft("small").state_dict().items()}
    assert mine == {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize(("size", "count"), [("small", 990_162), ("large", 5_257_536)])
def test_it_has_as_many_parameters_as_torchvision_says(size, count):
    assert sum(value.numel() for value in Raft(size).parameters()) == count


LARGE = {  # some of the authors' names, for there is no file of theirs here
    "fnet.conv1.weight": (64, 3, 7, 7),
    "fnet.layer2.0.conv1.weight": (96, 64, 3, 3),
    "fnet.layer3.0.downsample.0.weight": (128, 96, 1, 1),
    "fnet.conv2.weight": (256, 128, 1, 1),
    "cnet.norm1.running_var": (64,),
    "cnet.layer2.0.norm3.weight": (96,),
    "cnet.layer2.0.downsample.1.weight": (96,),
    "cnet.layer3.1.norm2.bias": (128,),
    "cnet.conv2.weight": (256, 128, 1, 1),
    "update_block.encoder.convc1.weight": (256, 324, 1, 1),
    "update_block.encoder.convc2.weight": (192, 256, 3, 3),
    "update_block.encoder.convf1.weight": (128, 2, 7, 7),
    "update_block.encoder.convf2.weight": (64, 128, 3, 3),
    "update_block.encoder.conv.weight": (126, 256, 3, 3),
    "update_block.gru.convz1.weight": (128, 384, 1, 5),
    "update_block.gru.convq2.weight": (128, 384, 5, 1),
    "update_block.flow_head.conv1.weight": (256, 128, 3, 3),
    "update_block.flow_head.conv2.weight": (2, 256, 3, 3),
    "update_block.mask.0.weight": (256, 128, 3, 3),
    "update_block.mask.2.weight": (576, 256, 1, 1),
}


def test_the_large_one_has_the_names_of_the_paper_s_code():
    mine = {name: tuple(value.shape) for name, value in Raft("large").state_dict().items()}
    assert LARGE.items() <= mine.items()
    assert not any("norm" in name for name in mine if name.startswith("fnet")), "norms of instances have no weights"


VISION = {  # torchvision's names
    "small": {
        "feature_encoder.convnormrelu.0.weight": "fnet.conv1.weight",
        "feature_encoder.layer2.0.convnormrelu3.0.bias": "fnet.layer2.0.conv3.bias",
        "feature_encoder.layer2.0.downsample.0.weight": "fnet.layer2.0.downsample.0.weight",
        "context_encoder.conv.bias": "cnet.conv2.bias",
        "update_block.motion_encoder.convcorr1.0.weight": "update_block.encoder.convc1.weight",
        "update_block.motion_encoder.convflow2.0.weight": "update_block.encoder.convf2.weight",
        "update_block.motion_encoder.conv.0.weight": "update_block.encoder.conv.weight",
        "update_block.recurrent_block.convgru1.convz.weight": "update_block.gru.convz.weight",
        "update_block.flow_head.conv2.bias": "update_block.flow_head.conv2.bias",
    },
    "large": {
        "context_encoder.convnormrelu.1.running_mean": "cnet.norm1.running_mean",
        "context_encoder.layer1.1.convnormrelu2.1.weight": "cnet.layer1.1.norm2.weight",
        "context_encoder.layer3.0.downsample.1.running_var": "cnet.layer3.0.downsample.1.running_var",
        "update_block.motion_encoder.convcorr2.0.bias": "update_block.encoder.convc2.bias",
        "update_block.recurrent_block.convgru2.convr.weight": "update_block.gru.convr2.weight",
        "mask_predictor.convrelu.0.weight": "update_block.mask.0.weight",
        "mask_predictor.conv.bias": "update_block.mask.2.bias",
    },
}


def vision_names(state):
    """The state dict of a `Raft` under torchvision's names, written the other way round than the code reads them."""
    found = {}
    for name, value in state.items():
        if "norm3" in name:
            continue  # the twin of downsample.1
        head, tail = name.rsplit(".", 1)
        parts = head.split(".")
        if parts[0] in ("fnet", "cnet"):
            parts[0] = {"fnet": "feature_encoder", "cnet": "context_encoder"}[parts[0]]
            last = parts[-1]
            if len(parts) == 2:
                parts[1] = {"conv1": "convnormrelu.0", "norm1": "convnormrelu.1", "conv2": "conv"}[last]
            elif last.startswith("conv"):
                parts[-1] = f"convnormrelu{last[4]}.0"
            elif last.startswith("norm"):
                parts[-1] = f"convnormrelu{last[4]}.1"
        elif parts[1] == "encoder":
            inner = {"convc": "convcorr", "convf": "convflow"}.get(parts[2][:5])
            parts[1:] = ["motion_encoder", f"{inner}{parts[2][5]}.0" if inner else "conv.0"]
        elif parts[1] == "gru":
            parts[1:] = ["recurrent_block", f"convgru{parts[2][5:] or 1}", parts[2][:5]]
        elif parts[1] == "mask":
            parts = ["mask_predictor", "convrelu.0" if parts[2] == "0" else "conv"]
        found[".".join([*parts, tail])] = value
    return found


@pytest.mark.parametrize("size", ["small", "large"])
def test_torchvision_s_names_are_read_as_well(size):
    state = tiny(size, seed=3).state_dict()
    theirs = vision_names(state)
    assert {*VISION[size]} <= {*theirs} and not {*theirs} & {name for name in state if "flow_head" not in name}
    for name, mine in VISION[size].items():
        assert theirs[name] is state[mine] and mine in authors_names({**theirs})
    read = raft_of(theirs)
    assert read.size == size and all(torch.equal(value, state[name]) for name, value in read.state_dict().items())


def test_what_training_alone_needs_may_be_missing_and_one_name_of_two_is_enough():
    state = tiny("large").state_dict()
    fewer = {name: value for name, value in state.items() if "num_batches" not in name and ".downsample.1." not in name}
    assert all(torch.equal(value, state[name]) for name, value in raft_of(fewer).state_dict().items())


BAD = {
    "lacks fnet.conv1.bias. ": lambda state: state.pop("fnet.conv1.bias"),
    "lacks .*and 1 more": lambda state: [state.pop(f"cnet.conv2.{one}") for one in ("bias", "weight")],
    "a tensor head.bias too many": lambda state: state.update({"head.bias": torch.zeros(2)}),
    r"fnet.conv1.bias in the shape \(3,\), not \(32,\)": lambda state: state.update({"fnet.conv1.bias": torch.zeros(3)}),
}


@pytest.mark.parametrize("told", BAD)
def test_files_that_do_not_fit_are_refused(tmp_path, told):
    state = tiny().state_dict()
    BAD[told](state)
    save_file(state, tmp_path / "mine.safetensors")
    picture = torch.rand(1, 3, 16, 16)
    with pytest.raises(WeightsError, match=told):
        RaftFlow(weights=str(tmp_path / "mine.safetensors"))(picture, 1 - picture)


def test_weights_come_by_name_or_file_and_pickles_by_consent(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("raft-small", "raft-large"):
        with keeping(Policy(offline=True)), pytest.raises(WeightsError, match=r"raft_(small|large).*flow\.weights"):
            RaftFlow(weights=name).check()
        record = weights.known(name)
        assert record.role == "flow" and record.licence.name == "BSD-3-Clause" and record.licence.commercial
    for name, told in [("raft-medium", "raft-small or raft-large"), ("vgg16", "called 'vgg16'"), ("no.safetensors", "no file")]:
        with pytest.raises(WeightsError, match=told):
            RaftFlow(weights=name).check()
    torch.save(tiny().state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="--allow-pickle"):
        RaftFlow(weights=str(tmp_path / "mine.pth")).check()
    with keeping(Policy(allow_pickle=True)):
        RaftFlow(weights=str(tmp_path / "mine.pth")).check()


# ------------------------------------------------------------------------------------------------------------------- the part


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A file of random weights."""
    file = tmp_path_factory.mktemp("raft") / "random.safetensors"
    save_file(tiny().state_dict(), file)
    return str(file)


class Seen(Raft):
    """Notes the sizes of the pictures that it gets; everything moves a tenth of their width right and one pixel down."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def both(self, a, b, num_updates=12, *, back=True):
        self.sizes.append((*a.shape[-2:], num_updates))
        flow = a.new_tensor([a.shape[-1] / 10, a.shape[-2] / 50])[None, :, None, None].expand(1, 2, *a.shape[-2:])
        return flow, -flow


@pytest.mark.parametrize(
    ("side", "height", "width", "wanted"),
    [
        (432, 720, 1280, (432, 768)),
        (432, 1280, 720, (768, 432)),
        (432, 300, 400, (300, 400)),
        (432, 128, 192, (256, 384)),
        (432, 20, 300, (80, 1200)),
        (200, 100, 100, (200, 200)),
        (200, 300, 600, (200, 400)),
        (0, 20, 900, (20, 900)),
        (432, 1, 64, (4, 256)),
    ],
)
def test_the_size_that_it_is_seen_at(monkeypatch, untrained, side, height, width, wanted):
    net = Seen()
    monkeypatch.setattr("flowpaint.parts.flow.raft._network", lambda *_, **__: net)
    a = torch.rand(2, 3, height, width)
    flow = RaftFlow(weights=untrained, side=side, updates=5)(a, 1 - a)
    assert net.sizes == [(*wanted, 5)] * 2
    assert flow.vectors.shape == flow.reverse.shape == (2, 2, height, width)
    truth = torch.tensor([width / 10, height / 50])[None, :, None, None].expand(2, 2, height, width)
    assert torch.allclose(flow.vectors, truth, atol=1e-3) and torch.allclose(flow.reverse, -truth, atol=1e-3)


def test_visibility_is_by_its_rule_and_equal_frames_have_no_flow(untrained):
    a, b = (torch.rand(1, 3, 64, 80, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    for rule in ("unimatch", "sundaram"):
        flow = RaftFlow(weights=untrained, rule=rule, updates=2)(a, b)
        assert torch.equal(flow.visibility, visibility(flow.vectors, flow.reverse, rule)) and flow.vectors.abs().max() > 0
    mixed = RaftFlow(weights=untrained, updates=2)(torch.cat([a, a]), torch.cat([a, b]))
    assert mixed.vectors[0].abs().max() == 0 and mixed.visibility[0].min() == 1
    assert torch.allclose(mixed.vectors[1:], RaftFlow(weights=untrained, updates=2)(a, b).vectors, atol=1e-4)


def test_the_network_is_read_once(untrained, monkeypatch):
    calls = []
    read = weights.read_state
    monkeypatch.setattr("flowpaint.parts.flow.raft.read_state", lambda *args, **more: calls.append(1) or read(*args, **more))
    from flowpaint.parts.flow.raft import _network

    _network.cache_clear()
    a = torch.rand(1, 3, 32, 32)
    for updates in (1, 2):
        RaftFlow(weights=untrained, updates=updates, side=0)(a, 1 - a)
    assert len(calls) == 1


@pytest.mark.parametrize("fields", [{"updates": 0}, {"side": -1}])
def test_fields_that_cannot_be_are_refused(fields):
    with pytest.raises(ConfigError):
        RaftFlow(**fields)


def error_on_motorcycle(estimate):
    """Mean length of the error of the vectors that `estimate` gives, in pixels, where the truth is known."""
    data = pytest.importorskip("skimage.data")
    left, right, disparity = data.stereo_motorcycle()
    a, b = (torch.from_numpy(one.copy()).permute(2, 0, 1)[None] / 255 for one in (left, right))
    known = np.isfinite(disparity) & (disparity > 0)
    assert known.mean() > 0.9
    across = torch.from_numpy(
        np.where(known, -disparity, 0)
    )  # what the left camera sees at x, the right one sees at x - disparity
    truth = torch.stack([across, torch.zeros_like(across)])[None]
    return (estimate(a, b) - truth).norm(dim=1)[0][torch.from_numpy(known)].mean().item()


@pytest.mark.slow
def test_the_published_weights_on_a_pair_with_truth(state):
    assert error_on_motorcycle(raft_of(state).eval().requires_grad_(False)) <= 2.0  # 1.87; the floor asked for is 2.2
    assert 2.4 < error_on_motorcycle(lambda a, b: DisFlow()(a, b).vectors) < 2.9  # 2.65


@pytest.mark.slow
def test_the_side_costs_some_of_it(published, pickles):
    found = [
        error_on_motorcycle(lambda a, b, side=side: RaftFlow(weights=str(published), side=side)(a, b).vectors)
        for side in (0, 432, 256)
    ]
    assert found == sorted(found) and found[0] <= 2.0 and found[1] <= 2.3 and found[2] <= 3.2  # 1.87, 2.19, 3.02


def test_nearly_equal_noise_hardly_moves(published, pickles):
    noise = torch.rand(1, 3, 48, 70, generator=torch.Generator().manual_seed(6))
    flow = RaftFlow(weights=str(published))(noise, (noise + 0.002).clamp(0, 1))
    assert 0 < flow.vectors.abs().max() < 0.2


# ---------------------------------------------------------------------------------------------------------- chosen by distance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fixed:
    """Vectors of one length; the first `shares[n]` rows of ten are visible in pair n, which is known by its brightness."""

    shares: tuple[int, ...] = (10,)
    length: float = 1.0
    one_way: bool = False

    def __call__(self, a, b):
        number = a[:, 0, 0, 0].round().int().tolist()
        seen = torch.zeros(len(a), 1, 10, 10)
        for row, index in enumerate(number):
            seen[row, :, : self.shares[index]] = 1
        vectors = self.length * (1 + a[:, :1].expand(-1, 2, -1, -1))
        return Flow(vectors=vectors, visibility=seen, reverse=None if self.one_way else -vectors)


PAIRS = torch.arange(4.0)[:, None, None, None].expand(4, 3, 10, 10)


def test_pairs_that_the_near_one_explains_too_little_go_to_the_far_one():
    near, far = Fixed(shares=(10, 6, 7, 2)), Fixed(shares=(1, 2, 3, 4), length=5.0)
    flow = ByDistance(near=near, far=far, least=0.7)(PAIRS, PAIRS)
    assert flow.vectors[:, 0, 0, 0].tolist() == [1, 2 * 5, 3, 4 * 5]
    assert flow.visibility.mean(dim=(1, 2, 3)).tolist() == pytest.approx([1, 0.2, 0.7, 0.4])
    assert torch.equal(flow.reverse, -flow.vectors)
    kept = near(PAIRS, PAIRS)
    ByDistance(near=lambda a, b: kept, far=far)(PAIRS, PAIRS)
    assert torch.equal(kept.vectors, near(PAIRS, PAIRS).vectors), "what the near one gave is not written to"
    one = ByDistance(near=near, far=dataclasses.replace(far, one_way=True))(PAIRS, PAIRS)
    assert one.reverse is None, "half of the pairs have no way back"
    for least, lengths in [(0.0, [1, 2, 3, 4]), (1.0, [1, 10, 15, 20])]:
        assert ByDistance(near=near, far=far, least=least)(PAIRS, PAIRS).vectors[:, 1, 5, 5].tolist() == lengths


def test_what_the_near_one_does_not_need_is_not_asked(textured):
    def never(a, b):
        pytest.fail("the far one was asked")

    flow = ByDistance(far=never)(textured, textured.roll(2, dims=-1))
    assert torch.equal(flow.vectors, DisFlow()(textured, textured.roll(2, dims=-1)).vectors)
    with pytest.raises(ConfigError):
        ByDistance(least=1.5)


def test_by_distance_takes_its_parts_by_name():
    part = seams.override(seams.build("flow", "by-distance"), "far.updates", "20")
    assert part.far == RaftFlow(updates=20) and part.near == DisFlow() and part.least == 0.7
    assert seams.from_dict(seams.to_dict(part)) == part
