"""RAFT: optical flow by correlating all pairs of pixels and refining step by step (Teed and Deng, ECCV 2020), small and large.

Written from the paper (section 3 and its appendix). The names of the parameters are those of the authors' files; what the paper
leaves open and the weights need (the order of channels, where the edges are) is said beside the lines.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ResourceError, WeightsError
from ..types import check_shape
from ..warp import grid_of, sample_at

Size = Literal["small", "large"]
Norm = Literal["batch", "instance", "none"]
CELL = 8  # pixels a side of what the network computes one vector for
LEVELS = 4  # of the pyramid
LEAST = CELL * 2**LEVELS  # pixels a side, below which the coarsest level would be a single cell and know no place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Widths:
    """Numbers of channels of one size of the network, and how far it looks around at each level of the pyramid, in cells."""

    stages: tuple[int, int, int]
    features: int
    hidden: int
    context: int
    radius: int
    correlation: tuple[int, ...]  # of the motion encoder's convolutions
    flow: tuple[int, int]
    motion: int
    head: int


_WIDTHS: dict[Size, _Widths] = {
    "small": _Widths(
        stages=(32, 64, 96), features=128, hidden=96, context=64, radius=3, correlation=(96,), flow=(64, 32), motion=82, head=128
    ),
    "large": _Widths(
        stages=(64, 96, 128), features=256, hidden=128, context=128, radius=4, correlation=(256, 192), flow=(128, 64), motion=128,
        head=256,
    ),
}  # fmt: skip


class Raft(nn.Module):
    """The network without weights; `fill` takes them. `small` has 990,162 parameters, `large` 5,257,536.

    Memory grows with the square of the area: every cell of 8x8 pixels is compared with every other, which takes
    4/3 * 4 * (H W / 64)^2 bytes a pair, 70 MB at 640x360, 1.1 GB at 1280x720 and 5.6 GB at 1920x1080.
    """

    def __init__(self, size: Size = "small") -> None:
        super().__init__()
        self.size: Size = size
        self.widths = _WIDTHS[size]
        self.fnet = _Encoder(size, "instance", self.widths.features)
        norm: Norm = "none" if size == "small" else "batch"
        self.cnet = _Encoder(size, norm, self.widths.hidden + self.widths.context)
        self.update_block = _Update(size)

    def forward(self, a: Tensor, b: Tensor, num_updates: int = 12) -> Tensor:
        """Flow a to b [N, 2, H, W] in pixels, of pictures a, b [N, 3, H, W] in [0, 1], any size, after so many refinements.

        Raises `ResourceError` where memory runs out.
        """
        return self.both(a, b, num_updates, back=False)[0]

    def both(self, a: Tensor, b: Tensor, num_updates: int = 12, *, back: bool = True) -> tuple[Tensor, ...]:
        """Flow a to b and, with `back`, b to a, as `forward` gives each; what they share is computed once."""
        check_shape(a=(a, "N 3 H W"), b=(b, "N 3 H W"))
        left, right, top, bottom = margins(*a.shape[-2:])
        # The edge is repeated and shared out to both sides, so that no side of the picture has more of it.
        pair = F.pad(torch.cat([a, b]).float() * 2 - 1, (left, right, top, bottom), mode="replicate")
        num = len(a)
        with _memory(*pair.shape[-2:]):
            features_a, features_b = self.fnet(pair).chunk(2)
            context = self.cnet(pair if back else pair[:num])
            found = [self._refined(Pyramid(features_a, features_b, self.widths.radius), context[:num], num_updates)]
            if back:
                found.append(self._refined(Pyramid(features_b, features_a, self.widths.radius), context[num:], num_updates))
        height, width = a.shape[-2:]
        return tuple(flow[..., top : top + height, left : left + width] for flow in found)

    def _refined(self, pyramid: "Pyramid", context: Tensor, num_updates: int) -> Tensor:
        """The flow of the padded pictures: it starts at zero and is corrected `num_updates` times (section 3.3)."""
        hidden, given = context.split([self.widths.hidden, self.widths.context], dim=1)
        hidden, given = hidden.tanh(), given.relu()
        start = grid_of(hidden).expand(len(hidden), -1, -1, -1)
        flow = torch.zeros_like(start)
        for _ in range(num_updates):
            hidden, change = self.update_block(hidden, given, pyramid(start + flow), flow)
            flow = flow + change
        return self.update_block.enlarged(hidden, flow)

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights from a state dict with the authors' names, with or without `module.`, or torchvision's.

        Raises `WeightsError` where a tensor is missing, left over, or of another shape.
        """
        given, mine = authors_names(state), self.state_dict()
        given |= {name: value for name, value in mine.items() if name.endswith("num_batches_tracked")}  # of training alone
        wrong = [f"lacks {name}" for name in mine if name not in given]
        wrong += [f"has a tensor {name} too many" for name in given if name not in mine]
        wrong += [
            f"has {name} in the shape {tuple(given[name].shape)}, not {tuple(value.shape)}"
            for name, value in mine.items()
            if name in given and given[name].shape != value.shape
        ]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise WeightsError(
                f"These are no weights of RAFT ({self.size}): the file {wrong[0]}{more}. Give that of its authors or torchvision."
            )
        self.load_state_dict(given)


def raft_of(state: Mapping[str, Tensor]) -> Raft:
    """The network, small or large, that the tensors of a state dict are of. Raises `WeightsError` where they are of none."""
    names = authors_names(state)
    network = Raft("large" if any(name.startswith("update_block.gru.convz1") for name in names) else "small")
    network.fill(names)
    return network


def margins(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to add at the left, right, top and bottom: to whole cells, and to no less than `LEAST`."""
    across, down = (max(LEAST, -(-side // CELL) * CELL) - side for side in (width, height))
    return across // 2, across - across // 2, down // 2, down - down // 2


@contextmanager
def _memory(height: int, width: int) -> Iterator[None]:
    """Inside, running out of memory becomes `ResourceError`."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ResourceError(
            f"Memory ran out while RAFT compared all pixels of two pictures of {width}x{height}. Give it a smaller `side`."
        ) from error


# --------------------------------------------------------------------------------------------------------------- correlation


class Pyramid:
    """How alike each cell of a is to every cell of b, at four scales of b (section 3.2).

    `levels`: [N h w, 1, h / 2^k, w / 2^k], the dot products of features [N, C, h, w] over the square root of C, averaged over
    2x2 cells from level to level.
    """

    def __init__(self, features_a: Tensor, features_b: Tensor, radius: int) -> None:
        num, channels, height, width = features_a.shape
        scaled = features_a.flatten(2).transpose(1, 2) / channels**0.5  # before the product, which is too large for a second copy
        products = scaled @ features_b.flatten(2)
        self.levels = [products.reshape(num * height * width, 1, height, width)]
        for _ in range(LEVELS - 1):
            self.levels.append(F.avg_pool2d(self.levels[-1], 2))
        reach = torch.arange(-radius, radius + 1, dtype=torch.float32, device=features_a.device)
        # Neighbours run over x first, then over y: so the weights have it.
        self.around = torch.stack(torch.meshgrid(reach, reach, indexing="ij"))[None]

    def __call__(self, points: Tensor) -> Tensor:
        """Correlations about `points` [N, 2, h, w], (x, y) in cells of b: [N, levels * (2 radius + 1)^2, h, w], 0 outside."""
        num, _, height, width = points.shape
        each = points.permute(0, 2, 3, 1).reshape(-1, 2, 1, 1)
        found = [sample_at(level, each / 2**k + self.around, "zero") for k, level in enumerate(self.levels)]
        return torch.cat([one.reshape(num, height, width, -1) for one in found], dim=-1).permute(0, 3, 1, 2)


# ------------------------------------------------------------------------------------------------------------------ encoders


def _norm(norm: Norm, channels: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


class _Encoder(nn.Module):
    """Pictures [N, 3, H, W] in [-1, 1] to [N, C, H / 8, W / 8]: a convolution and three stages of two residual blocks."""

    def __init__(self, size: Size, norm: Norm, channels: int) -> None:
        super().__init__()
        block = _Bottleneck if size == "small" else _Residual
        first, *_, last = stages = _WIDTHS[size].stages
        self.conv1 = nn.Conv2d(3, first, 7, stride=2, padding=3)
        self.norm1 = _norm(norm, first)
        self.layer1 = nn.Sequential(block(first, first, norm, stride=1), block(first, first, norm, stride=1))
        self.layer2 = nn.Sequential(block(first, stages[1], norm, stride=2), block(stages[1], stages[1], norm, stride=1))
        self.layer3 = nn.Sequential(block(stages[1], last, norm, stride=2), block(last, last, norm, stride=1))
        self.conv2 = nn.Conv2d(last, channels, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        passed = self.norm1(self.conv1(pictures)).relu()
        encoded: Tensor = self.conv2(self.layer3(self.layer2(self.layer1(passed))))
        return encoded


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a short cut."""

    def __init__(self, before: int, after: int, norm: Norm, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.norm1, self.norm2 = _norm(norm, after), _norm(norm, after)
        self.downsample: nn.Sequential | None = None
        if stride > 1:
            self.norm3 = _norm(norm, after)  # known by two names in the authors' files
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride), self.norm3)

    def forward(self, x: Tensor) -> Tensor:
        passed = self.norm1(self.conv1(x)).relu()
        passed = self.norm2(self.conv2(passed)).relu()
        short = x if self.downsample is None else self.downsample(x)
        added: Tensor = short + passed
        return added.relu()


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, a quarter as wide inside, beside a short cut."""

    def __init__(self, before: int, after: int, norm: Norm, *, stride: int) -> None:
        super().__init__()
        inside = after // 4
        self.conv1 = nn.Conv2d(before, inside, 1)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride=stride, padding=1)
        self.conv3 = nn.Conv2d(inside, after, 1)
        self.norm1, self.norm2, self.norm3 = _norm(norm, inside), _norm(norm, inside), _norm(norm, after)
        self.downsample: nn.Sequential | None = None
        if stride > 1:
            self.norm4 = _norm(norm, after)
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride), self.norm4)

    def forward(self, x: Tensor) -> Tensor:
        passed = self.norm1(self.conv1(x)).relu()
        passed = self.norm2(self.conv2(passed)).relu()
        passed = self.norm3(self.conv3(passed)).relu()
        short = x if self.downsample is None else self.downsample(x)
        added: Tensor = short + passed
        return added.relu()


# --------------------------------------------------------------------------------------------------------------- refinement


class _Update(nn.Module):
    """One refinement: correlations and flow become features, a gated recurrent unit remembers, a head corrects (section 3.3)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        widths = _WIDTHS[size]
        self.encoder = _Motion(widths)
        self.gru = _Gru(widths.hidden, widths.context + widths.motion, "whole" if size == "small" else "separable")
        self.flow_head = _FlowHead(widths.hidden, widths.head)
        self.mask: nn.Module | None = None
        if size == "large":
            self.mask = nn.Sequential(
                nn.Conv2d(widths.hidden, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 9 * CELL * CELL, 1)
            )  # fmt: skip

    def forward(self, hidden: Tensor, given: Tensor, correlations: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.gru(hidden, torch.cat([given, self.encoder(correlations, flow)], dim=1))
        return hidden, self.flow_head(hidden)

    def enlarged(self, hidden: Tensor, flow: Tensor) -> Tensor:
        """`flow` [N, 2, h, w] in cells as [N, 2, 8 h, 8 w] in pixels."""
        if self.mask is not None:
            return convex(flow * CELL, 0.25 * self.mask(hidden))  # a quarter: to balance gradients, and trained so
        height, width = (CELL * side for side in flow.shape[-2:])
        return F.interpolate(flow * CELL, size=(height, width), mode="bilinear", align_corners=True)


def convex(flow: Tensor, weights: Tensor) -> Tensor:
    """`flow` [N, 2, h, w] at 8 times the size: each fine vector a convex combination of the 3x3 coarse ones around (section 3.3).

    `weights` [N, 9 * 64, h, w] are logarithms: of the nine neighbours in reading order, for each the 8x8 pixels of the cell.
    """
    num, _, height, width = flow.shape
    shares = weights.view(num, 1, 9, CELL, CELL, height, width).softmax(dim=2)
    around = F.unfold(flow, 3, padding=1).view(num, 2, 9, 1, 1, height, width)
    fine = (shares * around).sum(dim=2)  # [N, 2, 8, 8, h, w]
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(num, 2, CELL * height, CELL * width)


class _Motion(nn.Module):
    """Features of the motion so far, the flow itself as the last two channels."""

    def __init__(self, widths: _Widths) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(LEVELS * (2 * widths.radius + 1) ** 2, widths.correlation[0], 1)
        self.convc2 = nn.Conv2d(*widths.correlation, 3, padding=1) if len(widths.correlation) == 2 else None
        self.convf1 = nn.Conv2d(2, widths.flow[0], 7, padding=3)
        self.convf2 = nn.Conv2d(*widths.flow, 3, padding=1)
        self.conv = nn.Conv2d(widths.correlation[-1] + widths.flow[1], widths.motion - 2, 3, padding=1)

    def forward(self, correlations: Tensor, flow: Tensor) -> Tensor:
        alike = self.convc1(correlations).relu()
        if self.convc2 is not None:
            alike = self.convc2(alike).relu()
        moved = self.convf2(self.convf1(flow).relu()).relu()
        return torch.cat([self.conv(torch.cat([alike, moved], dim=1)).relu(), flow], dim=1)


class _Gru(nn.Module):
    """A gated recurrent unit of convolutions (Eqs. 3 to 6): 3x3 ones, or separable ones, 1x5 and then 5x1."""

    def __init__(self, hidden: int, given: int, kind: Literal["whole", "separable"]) -> None:
        super().__init__()
        kernels = {"": (3, 3)} if kind == "whole" else {"1": (1, 5), "2": (5, 1)}
        self.passes = tuple(kernels)
        for which, kernel in kernels.items():
            for gate in "zrq":
                padding = (kernel[0] // 2, kernel[1] // 2)
                self.add_module(f"conv{gate}{which}", nn.Conv2d(hidden + given, hidden, kernel, padding=padding))

    def forward(self, hidden: Tensor, given: Tensor) -> Tensor:
        for which in self.passes:
            update, reset, candidate = (self.get_submodule(f"conv{gate}{which}") for gate in "zrq")
            joined = torch.cat([hidden, given], dim=1)
            share = update(joined).sigmoid()
            kept = reset(joined).sigmoid() * hidden
            hidden = (1 - share) * hidden + share * candidate(torch.cat([kept, given], dim=1)).tanh()
        return hidden


class _FlowHead(nn.Module):
    """The correction of the flow, in cells."""

    def __init__(self, hidden: int, inside: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, inside, 3, padding=1)
        self.conv2 = nn.Conv2d(inside, 2, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        change: Tensor = self.conv2(self.conv1(hidden).relu())
        return change


# --------------------------------------------------------------------------------------------------------------------- names

_RENAMED = (  # torchvision's names of the same tensors, in the authors' words
    (r"^feature_encoder\.", "fnet."),
    (r"^context_encoder\.", "cnet."),
    (r"^([fc]net)\.convnormrelu\.0\.", r"\1.conv1."),
    (r"^([fc]net)\.convnormrelu\.1\.", r"\1.norm1."),
    (r"^([fc]net)\.conv\.", r"\1.conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
    (r"^update_block\.motion_encoder\.convcorr(\d)\.0\.", r"update_block.encoder.convc\1."),
    (r"^update_block\.motion_encoder\.convflow(\d)\.0\.", r"update_block.encoder.convf\1."),
    (r"^update_block\.motion_encoder\.conv\.0\.", "update_block.encoder.conv."),
    (r"^update_block\.recurrent_block\.convgru(\d)\.conv([zrq])\.", r"update_block.gru.conv\2\1."),
    (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
    (r"^mask_predictor\.conv\.", "update_block.mask.2."),
)


def authors_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state dict by the names of RAFT's authors: it may have these, in a `module.` or not, or torchvision's."""
    found = {}
    for name, value in state.items():
        for pattern, plain in ((r"^module\.", ""), *_RENAMED):
            name = re.sub(pattern, plain, name)
        found[name] = value
    if not any(name.startswith("update_block.mask") for name in found):  # small: one recurrent unit, which has no number
        found = {re.sub(r"(\.gru\.conv[zrq])1\.", r"\1.", name): value for name, value in found.items()}
    for name, value in tuple(found.items()):  # the norm of a short cut is one module with two names, of which files may have one
        for pattern, other in ((r"\.downsample\.1\.", ".norm3."), (r"\.norm3\.", ".downsample.1.")):
            found.setdefault(re.sub(pattern, other, name), value)
    return found
