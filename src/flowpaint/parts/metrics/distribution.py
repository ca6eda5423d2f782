"""Metrics between distributions of features: of frames, of windows of frames, of classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ... import seams
from ...errors import ConfigError, InputError, ShapeError
from ...moments import Case, Moment
from ...seams import FeatureExtractor, Tally, default
from ...types import Measure, Score
from .rows import ClipRows, PictureRows, all_missing, facts_of, few
from .tally import NOTHING

_LEAST_FRAMES = 10  # that I3D sees something in


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of samples a [N, D] and b [M, D], N, M of 2 and more; at least 0.

    Dowson and Landau, 1982; FID: Heusel et al., NeurIPS 2017, equation 6. Covariances are unbiased. With A'A = S_a and
    B'B = S_b the last trace is the sum of the singular values of A B': no root of a matrix, and no square of its condition.
    """
    first, second = (_factor(rows) for rows in (a, b))
    mean = (a.double().mean(dim=0) - b.double().mean(dim=0)).square().sum()
    roots = torch.linalg.svdvals(first @ second.mT).sum()
    return max(0.0, float(mean + first.square().sum() + second.square().sum() - 2 * roots))


def _factor(rows: Tensor) -> Tensor:
    """A [min(N, D), D], float64, with A'A = the unbiased covariance of rows [N, D]."""
    if len(rows) < 2:
        raise ShapeError(f"{len(rows)} samples have no covariance. Give two and more.")
    centred = (rows.double() - rows.double().mean(dim=0)) / (len(rows) - 1) ** 0.5
    if len(rows) > rows.shape[1]:
        centred = torch.linalg.qr(centred, mode="r").R
    found: Tensor = centred
    return found


def frechet_of_moments(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """The same from means [D] and covariances [D, D], such as those published for a data set; by eigenvalues, in float64."""
    values, vectors = torch.linalg.eigh(covariance_a.double())
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    middle = root @ covariance_b.double() @ root
    roots = torch.linalg.eigvalsh((middle + middle.mT) / 2).clamp_min(0).sqrt().sum()
    spread = covariance_a.double().trace() + covariance_b.double().trace() - 2 * roots
    return max(0.0, float((mean_a.double() - mean_b.double()).square().sum() + spread))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """The unbiased squared MMD of samples a [N, D], b [M, D] under the kernel (x.y / D + 1)^3; it may be below 0.

    Binkowski et al., ICLR 2018, equation 4 (KID); Unterthiner et al., 2018 (KVD).
    """
    if min(len(a), len(b)) < 2:
        raise ShapeError(f"{len(a)} and {len(b)} samples are too few to compare. Give two and more of each.")
    a, b = a.double(), b.double()
    alone, other, mixed = ((one @ two.mT / one.shape[1] + 1).pow(3) for one, two in ((a, a), (b, b), (a, b)))

    def without_itself(kernel: Tensor) -> Tensor:
        return (kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))

    return (without_itself(alone) + without_itself(other) - 2 * mixed.mean()).item()


def kernel_distance_of_subsets(a: Tensor, b: Tensor, *, subsets: int, size: int, seed: int = 0) -> float:
    """The mean of `kernel_distance` over random subsets of `size` samples, or that of all samples where there are no more."""
    if min(len(a), len(b)) <= size:
        return kernel_distance(a, b)
    source = torch.Generator().manual_seed(seed)

    def some(rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=source)[:size]]

    return sum(kernel_distance(some(a), some(b)) for _ in range(subsets)) / subsets


def inception_score(probabilities: Tensor, splits: int = 1) -> tuple[float, float]:
    """exp(mean KL(p(y|x) || p(y))) of class probabilities [N, K]: its mean and deviation over `splits` runs of rows.

    Salimans et al., NeurIPS 2016. 1 (nothing is told apart) to K. Raises `ShapeError` for fewer rows than splits.
    """
    if not 1 <= splits <= len(probabilities):
        raise ShapeError(f"{len(probabilities)} rows cannot be split into {splits}. Give as many rows as splits.")
    scores = []
    for rows in probabilities.double().tensor_split(splits):
        mean = rows.mean(dim=0, keepdim=True)
        divergence = torch.xlogy(rows, rows) - torch.xlogy(rows, mean)  # 0 log 0 = 0
        scores.append(divergence.sum(dim=1).mean().exp())
    found = torch.stack(scores)
    return found.mean().item(), found.std(correction=0).item()


@dataclass(frozen=True, kw_only=True)
class FrechetPictures:
    """How unlike the frames of the result are, as a set, to those of the source: FID, and KID, which few frames do not bias.

    KID is the mean over `subsets` of `subset_size` frames where there are more than that.
    """

    extractor: FeatureExtractor = default("extractor", "inception")
    subsets: int = 100
    subset_size: int = 1000

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="fid",
            title="Fréchet distance of the frames (FID)",
            unit="",
            higher_is_better=False,
            source="Heusel et al., NeurIPS 2017, equation 6",
            digits=2,
        ),
        Measure(
            name="kid",
            title="Kernel distance of the frames (KID)",
            unit="",
            higher_is_better=False,
            source="Binkowski et al., ICLR 2018, equation 4",
            digits=4,
        ),
    )

    def __post_init__(self) -> None:
        if self.subsets < 1 or self.subset_size < 2:
            raise ConfigError(f"{self.subsets} subsets of {self.subset_size} frames tell nothing. Give 1 of 2 and more.")

    def __call__(self, case: Case) -> Tally:  # noqa: ARG002
        """A fresh tally. Raises `WeightsError` where the extractor has no weights."""
        return _PictureTally(self, facts_of(self.extractor))


class _PictureTally:
    def __init__(self, metric: FrechetPictures, facts: Mapping[str, str | int | float]) -> None:
        self._metric, self._facts = metric, facts
        self._source, self._result = PictureRows(metric.extractor), PictureRows(metric.extractor)

    def see(self, moment: Moment) -> None:
        self._source.add(moment.source)
        self._result.add(moment.result)

    def score(self) -> Score:
        source, result = self._source.all(), self._result.all()
        if len(source) < 2:
            return Score(missing=all_missing(["fid", "kid"], "needs two frames" if len(source) else NOTHING))
        samples, dimensions = source.shape
        size = min(samples, self._metric.subset_size)
        kid = kernel_distance_of_subsets(source, result, subsets=self._metric.subsets, size=size)
        return Score(
            values={"fid": frechet_distance(source, result), "kid": kid},
            facts={**self._facts, "samples": samples, "dimensions": dimensions, "kid_subset": size},
            warnings=few(samples, dimensions, "FID"),
        )


@dataclass(frozen=True, kw_only=True)
class FrechetClips:
    """How unlike windows of the result are to those of the source: FVD, and KVD, which few windows do not bias.

    Windows of `frames` start every `stride` frames and do not cross cuts.
    """

    extractor: FeatureExtractor = default("extractor", "i3d")
    frames: int = 16
    stride: int = 8

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="fvd",
            title="Fréchet distance of windows (FVD)",
            unit="",
            higher_is_better=False,
            source="Unterthiner et al., 2018",
            digits=1,
        ),
        Measure(
            name="kvd",
            title="Kernel distance of windows (KVD)",
            unit="",
            higher_is_better=False,
            source="Unterthiner et al., 2018; unbiased",
            digits=4,
        ),
    )

    def __post_init__(self) -> None:
        if self.frames < _LEAST_FRAMES or self.stride < 1:
            raise ConfigError(
                f"Windows of {self.frames} frames every {self.stride} cannot be compared. "
                f"Give {_LEAST_FRAMES} frames and more, and a stride of 1 and more."
            )

    def __call__(self, case: Case) -> Tally:
        """A fresh tally. Raises `WeightsError` where the extractor has no weights."""
        return _ClipTally(self, case, facts_of(self.extractor))


class _ClipTally:
    def __init__(self, metric: FrechetClips, case: Case, facts: Mapping[str, str | int | float]) -> None:
        self._metric, self._facts = metric, facts
        self._source, self._result = (
            ClipRows(metric.extractor, frames=metric.frames, stride=metric.stride) for _ in ("source", "result")
        )
        self._frames = _Frames(case)

    def see(self, moment: Moment) -> None:
        joined = self._frames.joined(moment)
        self._source.add(moment.source, joined=joined)
        self._result.add(moment.result, joined=joined)

    def score(self) -> Score:
        metric, source, result = self._metric, self._source.all(), self._result.all()
        if len(source) < 2:
            count, long = self._frames.count, metric.frames
            reason = f"needs two windows of {long} frames in one shot or more; {count} frames hold {len(source)}"
            if 0 < count < _LEAST_FRAMES:
                reason = f"needs {_LEAST_FRAMES} frames, got {count}"
            return Score(missing=all_missing(["fvd", "kvd"], reason if count else NOTHING))
        samples, dimensions = source.shape
        sampled = {"samples": samples, "dimensions": dimensions, "window": metric.frames, "stride": metric.stride}
        return Score(
            values={"fvd": frechet_distance(source, result), "kvd": kernel_distance(source, result)},
            facts={**self._facts, **sampled},
            warnings=few(samples, dimensions, "FVD"),
        )


class _Frames:
    """Which frames follow the last one in the same shot, and how many there were."""

    def __init__(self, case: Case) -> None:
        self._cuts, self._last, self.count = case.cuts, -2, 0

    def joined(self, moment: Moment) -> bool:
        follows = moment.index == self._last + 1 and moment.index not in self._cuts
        self._last = moment.index
        self.count += 1
        return follows


Outputs = Literal["probabilities", "logits"]


def as_probabilities(rows: Tensor, outputs: Outputs) -> Tensor:
    """Class probabilities [N, K] of what a classifier gives. Raises `InputError` for rows that are none though they should be."""
    if outputs == "logits":
        return rows.double().softmax(dim=1)
    sums = rows.double().sum(dim=1)
    if rows.min() < 0 or (sums - 1).abs().max() > 1e-3:
        raise InputError(
            f"The classifier's rows do not sum to 1 but to {sums[0].item():.4g}: they are no probabilities. "
            "Set `outputs=logits`, or let it give classes (`extractor.flags`)."
        )
    return rows.double() / sums[:, None]


def _classes(network: str) -> FeatureExtractor:
    """A classifier: how many classes it has is not known beforehand."""
    extractor: FeatureExtractor = field(
        default_factory=lambda: seams.build("extractor", network, width=0), metadata={"kind": "extractor"}
    )
    return extractor


@dataclass(frozen=True, kw_only=True)
class InceptionScore:
    """How sure a classifier is of each frame, and how much it sees in all of them. The extractor must give classes."""

    extractor: FeatureExtractor = _classes("inception")
    outputs: Outputs = "probabilities"
    splits: int = 1  # published numbers have 10, of thousands of pictures

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="inception_score",
            title="Inception score of the frames",
            unit="",
            higher_is_better=True,
            source="Salimans et al., NeurIPS 2016",
        ),
    )

    def __post_init__(self) -> None:
        _check_splits(self.splits)

    def __call__(self, case: Case) -> Tally:  # noqa: ARG002
        """A fresh tally. Raises `WeightsError` where the extractor has no weights."""
        rows = PictureRows(self.extractor)
        return _ClassTally(self, "frames", rows, lambda moment: rows.add(moment.result))


@dataclass(frozen=True, kw_only=True)
class VideoInceptionScore:
    """How sure a classifier of actions is of each window of frames, and how much it sees in all of them."""

    extractor: FeatureExtractor = _classes("c3d")
    outputs: Outputs = "logits"
    splits: int = 1
    frames: int = 16
    stride: int = 8

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="video_inception_score",
            title="Inception score of windows of frames",
            unit="",
            higher_is_better=True,
            source="Saito et al., TGAN, ICCV 2017: C3D on UCF-101",
        ),
    )

    def __post_init__(self) -> None:
        _check_splits(self.splits)
        if self.frames < 1 or self.stride < 1:
            raise ConfigError(f"Windows of {self.frames} frames every {self.stride} are none. Give 1 and more of both.")

    def __call__(self, case: Case) -> Tally:
        """A fresh tally. Raises `WeightsError` where the extractor has no weights."""
        rows, frames = ClipRows(self.extractor, frames=self.frames, stride=self.stride), _Frames(case)
        what = f"windows of {self.frames} frames"
        return _ClassTally(self, what, rows, lambda moment: rows.add(moment.result, joined=frames.joined(moment)))


class _ClassTally:
    def __init__(
        self,
        metric: InceptionScore | VideoInceptionScore,
        what: str,
        rows: PictureRows | ClipRows,
        add: Callable[[Moment], None],
    ) -> None:
        self._metric, self._what, self._rows, self._add = metric, what, rows, add
        self._facts = facts_of(metric.extractor)

    def see(self, moment: Moment) -> None:
        self._add(moment)

    def score(self) -> Score:
        metric, rows = self._metric, self._rows.all()
        name = metric.measures[0].name
        least = max(2, metric.splits)
        if len(rows) < least:
            return Score(missing={name: f"needs {least} {self._what}, got {len(rows)}"})
        value, deviation = inception_score(as_probabilities(rows, metric.outputs), metric.splits)
        samples, classes = rows.shape
        more = {"splits": metric.splits, "deviation": deviation} if metric.splits > 1 else {"splits": 1}
        return Score(
            values={name: value},
            facts={**self._facts, "samples": samples, "classes": classes, **more},
            warnings=few(samples, classes, metric.measures[0].title),
        )


def _check_splits(splits: int) -> None:
    if splits < 1:
        raise ConfigError(f"{splits} splits leave nothing. Give 1 or more.")
