"""Features gathered while pictures pass by: a few pictures at a time are held, then only their rows of numbers."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ...errors import ConfigError
from ...seams import FeatureExtractor

Facts = Mapping[str, str | int | float]
_HELD = 8  # pictures that wait for the network


@runtime_checkable
class Fitting(FeatureExtractor, Protocol):
    """An extractor that resizes first: what waits for it is small, whatever the size of the pictures."""

    def fit(self, pictures: Tensor) -> Tensor:
        """Pictures [N, 3, H, W] in [0, 1] at the network's size."""
        ...

    def rows(self, fitted: Tensor) -> Tensor:
        """Features [N, D] of what `fit` gave: [N, 3, h, w], or clips [N, T, 3, h, w] of it."""
        ...


@runtime_checkable
class Telling(Protocol):
    """An extractor that says what it is."""

    def facts(self) -> Facts:
        """Network, file and hash of the weights. Raises `WeightsError` without weights."""
        ...


def facts_of(extractor: FeatureExtractor) -> dict[str, str | int | float]:
    """What is known of an extractor. Raises `WeightsError` where its weights are missing."""
    return dict(extractor.facts()) if isinstance(extractor, Telling) else {"network": type(extractor).__name__}


def check_can(extractor: FeatureExtractor, kind: type, wanted: str) -> None:
    """Raise `ConfigError` unless the extractor is of a `kind`, which in words does what is `wanted`."""
    if not isinstance(extractor, kind):
        raise ConfigError(f"{type(extractor).__name__} {wanted}. Choose another extractor.")


class PictureRows:
    """The features of pictures."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self._waiting: list[Tensor] = []
        self._rows: list[Tensor] = []

    def add(self, picture: Tensor) -> None:
        """Take in a picture [1, 3, h, w] in [0, 1]."""
        self._waiting.append(fitted(self._extractor, picture))
        if len(self._waiting) == _HELD:
            self._see()

    def all(self) -> Tensor:
        """The features [N, D] of every picture so far, float32 on the CPU; [0, 0] of none."""
        if self._waiting:
            self._see()
        return torch.cat(self._rows) if self._rows else torch.empty(0, 0)

    def _see(self) -> None:
        self._rows.append(rows_of(self._extractor, torch.cat(self._waiting)))
        self._waiting = []


class ClipRows:
    """The features of windows of `frames` neighbouring frames, a new one every `stride` frames."""

    def __init__(self, extractor: FeatureExtractor, *, frames: int, stride: int) -> None:
        self._extractor, self._frames, self._stride = extractor, frames, stride
        self._window: list[Tensor] = []
        self._until = 0  # frames to wait for before the next window is full
        self._rows: list[Tensor] = []

    def add(self, picture: Tensor, *, joined: bool) -> None:
        """Take in a picture [1, 3, h, w] in [0, 1], `joined` if it follows the last one in the same shot."""
        if not joined:
            self._window, self._until = [], self._frames
        self._window = [*self._window, fitted(self._extractor, picture)][-self._frames :]
        self._until -= 1
        if self._until == 0:
            self._rows.append(rows_of(self._extractor, torch.cat(self._window)[None]))
            self._until = self._stride

    def all(self) -> Tensor:
        """The features [N, D] of every whole window so far, float32 on the CPU; [0, 0] of none."""
        return torch.cat(self._rows) if self._rows else torch.empty(0, 0)


def fitted(extractor: FeatureExtractor, picture: Tensor) -> Tensor:
    """A picture [1, 3, h, w] as small as the extractor takes it."""
    return extractor.fit(picture) if isinstance(extractor, Fitting) else picture


def rows_of(extractor: FeatureExtractor, pictures: Tensor) -> Tensor:
    """Features [N, D] of what `fitted` gave, float32 on the CPU."""
    found = extractor.rows(pictures) if isinstance(extractor, Fitting) else extractor(pictures)
    return found.float().cpu()


def few(samples: int, dimensions: int, what: str) -> tuple[str, ...]:
    """A warning where there are too few samples to know a distribution of that many dimensions."""
    if samples > dimensions:
        return ()
    told = f"{samples} samples, {dimensions} dimensions: {what} is dominated by how few samples there are."
    return (f"{told} Do not compare it with published numbers.",)


def all_missing(names: Sequence[str], reason: str) -> dict[str, str]:
    """The same reason for every measure."""
    return dict.fromkeys(names, reason)
