"""Metrics on the feature maps of classifiers: perceptual distance, and whether the layout of the picture was kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor

from ...errors import WeightsError
from ...moments import Case, Moment
from ...seams import FeatureExtractor, Tally, default
from ...types import Measure
from ...weights import given, read_state, resolve, sha256_of
from .rows import check_can, facts_of
from .tally import FrameTally


@runtime_checkable
class MapExtractor(FeatureExtractor, Protocol):
    """An extractor that gives the maps on its way."""

    def maps(self, pictures: Tensor, layers: Sequence[str]) -> tuple[Tensor, ...]:
        """The maps [N, C, h, w] of layers by name, of pictures [N, 3, H, W] in [0, 1]."""
        ...

    @property
    def perceptual(self) -> tuple[str, ...]:
        """The five layers that LPIPS compares."""
        ...

    @property
    def least(self) -> int:
        """The smallest side of a picture, in pixels."""
        ...


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor], heads: Sequence[Tensor]) -> Tensor:
    """LPIPS [N] of the maps a, b [N, C, h, w] of several layers, with each layer's weights [C] (Zhang et al., CVPR 2018, eq. 1).

    sum over layers of the mean over locations of sum_c w_c (f_a - f_b)_c^2, f of length 1 along the channels.
    """
    total = a[0].new_zeros(len(a[0]))
    for one, other, head in zip(a, b, heads, strict=True):
        difference = (_unit(one) - _unit(other)).square()
        total = total + (difference * head[None, :, None, None]).sum(dim=1).mean(dim=(1, 2))
    return total


def _unit(maps: Tensor) -> Tensor:
    """Maps [N, C, h, w] of length 1 along the channels, with what torchmetrics adds so that 0 stays 0."""
    return maps / (maps.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()


def layout_distance(a: Tensor, b: Tensor) -> Tensor:
    """Spat-Con [N]: the mean squared difference of G(a) and G(b), the cosines between any two locations of maps [N, C, h, w].

    G = f^T f with f of length 1 along the channels, [h w, h w] (the spatial loss of FRESCO, CVPR 2024, on VGG's features). The
    mean, not the sum, over its entries: it does not grow with the picture.
    """
    first, second = (F.normalize(maps.flatten(2).double(), dim=1) for maps in (a, b))
    # |A'A - B'B|^2 = |AA'|^2 + |BB'|^2 - 2 |AB'|^2: matrices of channels stand in for those of locations, which are huge.
    alone, other, mixed = (one @ two.mT for one, two in ((first, first), (second, second), (first, second)))
    total = alone.square().sum(dim=(1, 2)) + other.square().sum(dim=(1, 2)) - 2 * mixed.square().sum(dim=(1, 2))
    return (total.clamp_min(0) / first.shape[-1] ** 2).float()


@lru_cache(maxsize=4)
def linear_heads(file: Path, *, pinned: bool = False) -> tuple[Tensor, ...]:
    """The weights [C] of LPIPS' five layers, on the CPU, from a state dict with the keys of lpips 0.1.

    `pinned` as in `read_state`. Raises `WeightsError` where they are not there.
    """
    state = read_state(file, pinned=pinned)
    names = [f"lin{layer}.model.1.weight" for layer in range(5)]
    if absent := [name for name in names if name not in state]:
        raise WeightsError(f"{file} lacks {absent[0]}. Give a file of LPIPS' linear heads, version 0.1.")
    return tuple(state[name].flatten().float() for name in names)


@dataclass(frozen=True, kw_only=True)
class Lpips:
    """Learned perceptual distance of the result to its source, frame by frame.

    `heads` is a file of LPIPS' linear heads; "" are those that come with torchmetrics.
    """

    extractor: FeatureExtractor = default("extractor", "alexnet")
    heads: str = ""

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="lpips",
            title="Perceptual distance to the source",
            unit="",
            higher_is_better=None,
            source="LPIPS 0.1, Zhang et al., CVPR 2018, equation 1",
        ),
    )

    def __post_init__(self) -> None:
        check_can(self.extractor, MapExtractor, "gives no maps")

    def __call__(self, case: Case) -> Tally:  # noqa: ARG002
        """A fresh tally. Raises `WeightsError` where the network or the heads have no weights."""
        extractor = self.extractor
        assert isinstance(extractor, MapExtractor)
        facts = facts_of(extractor)
        file = self._heads_file()
        heads = linear_heads(file, pinned=not self.heads)

        def look(moment: Moment) -> dict[str, float]:
            if min(moment.source.shape[-2:]) < extractor.least:
                return {}
            a, b = (extractor.maps(one, extractor.perceptual) for one in (moment.result, moment.source))
            wide = [len(head) for head in heads]
            if wide != [maps.shape[1] for maps in a]:
                raise WeightsError(f"{file} has heads of {wide} channels. Give those of {facts['network']}.")
            return {"lpips": perceptual_distance(a, b, [head.to(a[0].device) for head in heads]).item()}

        small = {"lpips": f"needs pictures of {extractor.least} pixels a side"}
        more = {"heads": file.name, "heads_sha256": sha256_of(file)[:12]}
        return FrameTally(self.measures, look, reasons=small, facts={**facts, **more})

    def check(self) -> None:
        """Raises what a run would raise later for want of the heads."""
        self._heads_file()

    def _heads_file(self) -> Path:
        if self.heads:
            return given(self.heads, network="LPIPS' heads", setting="lpips.heads")
        return resolve(f"lpips-{getattr(self.extractor, 'network', 'alexnet')}")


@dataclass(frozen=True, kw_only=True)
class SpatialConsistency:
    """Whether the layout of the source was kept: which places look like which others, by VGG."""

    extractor: FeatureExtractor = default("extractor", "vgg16")
    layer: str = "relu3_1"  # FRESCO does not say which

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="spat_con",
            title="Change of the layout",
            unit="",
            higher_is_better=False,
            source="Spat-Con of FRESCO, CVPR 2024, as a mean over pairs of places",
            digits=4,
        ),
    )

    def __post_init__(self) -> None:
        check_can(self.extractor, MapExtractor, "gives no maps")

    def __call__(self, case: Case) -> Tally:  # noqa: ARG002
        """A fresh tally. Raises `WeightsError` where the network has no weights."""
        extractor = self.extractor
        assert isinstance(extractor, MapExtractor)

        def look(moment: Moment) -> dict[str, float]:
            if min(moment.source.shape[-2:]) < extractor.least:
                return {}
            a, b = (extractor.maps(one, [self.layer])[0] for one in (moment.result, moment.source))
            return {"spat_con": layout_distance(a, b).item()}

        small = {"spat_con": f"needs pictures of {extractor.least} pixels a side"}
        facts = {**facts_of(extractor), "layer": self.layer, "norm": "mean over pairs of places"}
        return FrameTally(self.measures, look, reasons=small, facts=facts)
