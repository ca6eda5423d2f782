"""`RefinerTrainer`: the network that completes depth behind an object (StableV2V, Liu et al., arXiv 2411.11045, suppl. A)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import seams
from ..errors import ConfigError
from ..networks.refiner import MULTIPLE, Refiner, refiner_in
from ..seams import DepthCompleter, default
from .depth_edges import depth_edges
from .holes import Hole, Removal, blotted, changed, cropped, read_removal, removed, stretched, swapped, turned
from .loop import Batch
from .recipes import AdamW
from .shards import Sample, first_of

_SHOWN = 4  # clips
_COMPOSITE = 5.0  # how much more edges count in the hole (suppl. A)


@dataclass(frozen=True, kw_only=True)
class RefinerTrainer:
    """Trains the refiner on crops of `size` pixels of `frames` frames of `data synth --holes`, whose pictures have side `side`.

    Holes are what an object leaves where one of another shape comes instead; a share `removed` is all that it leaves, for another
    that comes later (half of them) or not at all; a share `blotted` are blobs by lot. So, unlike upstream, it is trained on what
    it is shown in use. All that belongs to a clip is mirrored and played backwards together.

    The loss is the absolute error in the hole and beyond it, each a mean over its own pixels, + `edge` times that of edges: the
    class-balanced cross entropy of edges drawn from the prediction, + 5 times the same in the hole, against Canny's on the truth
    smoothed by `sigma` pixels. `residual` adds the prediction to a harmonic fill. Weights begin as those in the folder `start`
    where one is given. Raises `ConfigError` for values that do not fit.
    """

    size: int = 64
    side: int = 96
    frames: int = 6
    removed: float = 0.5
    blotted: float = 0.2
    edge: float = 0.02
    sigma: float = 1.0
    residual: bool = True
    start: str = ""
    optimisation: AdamW = default("optimisation", "adamw")

    def __post_init__(self) -> None:
        shares = self.removed, self.blotted
        fits = self.size > 0 and self.size % MULTIPLE == 0 and self.size <= self.side and self.frames >= 1
        if not fits or min(shares) < 0 or sum(shares) > 1 or self.edge < 0 or self.sigma <= 0:
            raise ConfigError(
                f"Crops of {self.size} of {self.side} px, {self.frames} frames, shares {shares} (removed, blotted), edge "
                f"{self.edge} or sigma {self.sigma} do not train. Give crops of a multiple of {MULTIPLE}, shares of at most 1."
            )
        if self.optimisation.checkpointing:
            raise ConfigError("The refiner knows no checkpointing. Set optimisation.checkpointing to false.")

    def __call__(self, data: Path) -> "RefinerTask":
        """The network and the loss, ready to be trained on the shards in `data`."""
        torch.manual_seed(self.optimisation.seed)  # first weights are drawn from the global generator
        return RefinerTask(self, data)


class RefinerTask:
    """A refiner in training."""

    def __init__(self, trainer: RefinerTrainer, data: Path) -> None:
        self.trainer = trainer
        self.objective = _Completion(trainer)
        self._harmonic: DepthCompleter = seams.build("completer", "harmonic")
        rows = first_of(data, self.read, _SHOWN)
        self._shown = self._batch([swapped(one) for one in rows])

    @property
    def trained(self) -> nn.ModuleDict:
        """The network, as "refiner"."""
        return self.objective.trained

    def read(self, sample: Sample) -> Removal:
        """The removal in a sample. Raises ValueError where it is too short or too small."""
        row = read_removal(sample)
        if len(row.depth) < self.trainer.frames or min(row.depth.shape[-2:]) != self.trainer.side:
            raise ValueError(f"{sample.key} is {tuple(row.depth.shape)}")
        return row

    def rows(self, batch: int, progress: float) -> int:
        """As many as the recipe says."""
        del progress
        return batch

    def batch(self, rows: Sequence[Removal], generator: torch.Generator, progress: float) -> Batch:
        """`depth`, `hole`, `truth`, its `edges`, `start` (the harmonic fill), each [B, T, 1, H, W]; `shape` [B, 1, 1, H, W]."""
        del progress
        return self._batch([self._drawn(row, generator) for row in rows])

    def _drawn(self, row: Removal, generator: torch.Generator) -> Hole:
        trainer = self.trainer
        first = int(torch.randint(len(row.depth) - trainer.frames + 1, (1,), generator=generator))
        row = changed(row, lambda one: one[first : first + trainer.frames])
        row = stretched(turned(cropped(row, trainer.size, generator), generator), generator)
        lot = float(torch.rand(1, generator=generator))
        if lot < trainer.blotted:
            return blotted(row, generator)
        hole = swapped(row)
        if lot >= trainer.blotted + trainer.removed and bool(hole.hole.any()):
            return hole
        return removed(row, comes=lot < trainer.blotted + trainer.removed / 2)

    def _batch(self, holes: Sequence[Hole]) -> Batch:
        told = {name: torch.stack([getattr(one, name) for one in holes]) for name in ("depth", "hole", "shape", "truth")}
        truth = told["truth"].flatten(0, 1)
        edges = depth_edges(truth, sigma=self.trainer.sigma).view_as(told["truth"])
        start = torch.stack([self._harmonic(one.depth, one.hole, one.shape) for one in holes])
        return {**told, "edges": edges, "start": start}

    def show(self, trained: nn.ModuleDict) -> Tensor:
        """Depth without its hole, harmonic fill, completion, truth: the first and the last frame of each of a few clips."""
        network: Any = trained["refiner"]
        device = next(network.parameters()).device
        shown = {name: one.to(device) for name, one in self._shown.items()}
        depth, hole = shown["depth"], shown["hole"]
        found = network.filled(depth, hole, shown["shape"], shown["start"]).mean(dim=2, keepdim=True).clamp(0, 1)
        columns = (depth * (1 - hole), shown["start"], torch.where(hole > 0, found, depth), shown["truth"])
        pictures = torch.stack([one[:, [0, -1]] for one in columns], dim=2)
        return pictures.flatten(0, 2).expand(-1, 3, -1, -1).cpu()

    def export(self, trained: nn.ModuleDict, folder: Path) -> None:
        """The network as the part `refiner` reads it, in float16."""
        network: Any = trained["refiner"]
        network.save(folder)


class _Completion(nn.Module):
    """What the network says of the depth, against the truth."""

    def __init__(self, trainer: RefinerTrainer) -> None:
        super().__init__()
        self.trainer = trainer
        made = refiner_in(Path(trainer.start)) if trainer.start else Refiner(residual=trainer.residual, side=trainer.side)
        if made.residual != trainer.residual:
            raise ConfigError(f"{trainer.start} was trained with residual = {made.residual}. Set residual to the same.")
        self.trained = nn.ModuleDict({"refiner": made.train().requires_grad_(True)})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        network: Any = self.trained["refiner"]
        hole, truth = batch["hole"], batch["truth"]
        found = network.filled(batch["depth"], hole, batch["shape"], batch["start"]).float()
        error = (found - truth).abs().mean(dim=2, keepdim=True)
        inside, outside = _mean(error, hole), _mean(error, 1 - hole)
        edge = edge_loss(network.outlined(found).float(), batch["edges"], hole)
        return {
            "loss": inside + outside + self.trainer.edge * edge,
            "inside": inside,
            "outside": outside,
            "edge": edge,
            "harmonic": _mean((batch["start"] - truth).abs(), hole),
        }


def edge_loss(said: Tensor, edges: Tensor, hole: Tensor) -> Tensor:
    """Class-balanced cross entropy (Xie, Tu, ICCV 2015, Eq. 2) of `said`, before the sigmoid, and `edges`, plus 5 times that of
    edges taken from the truth outside the `hole`, which only what is in it adds to."""
    share = edges.mean()
    weight = torch.where(edges > 0, 1 - share, share)
    entropy = weight * F.binary_cross_entropy_with_logits(said, edges, reduction="none")
    return entropy.mean() + _COMPOSITE * (entropy * hole).mean()


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)
