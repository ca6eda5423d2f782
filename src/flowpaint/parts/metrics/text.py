"""Metrics in the space of CLIP: agreement with the words, and likeness of frames to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...moments import Case, Moment
from ...seams import FeatureExtractor, Tally, default
from ...types import Measure, Score
from .rows import PictureRows, check_can, facts_of
from .tally import NOTHING

_NO_PROMPT = "needs a prompt"
_NO_SOURCE_PROMPT = "needs a prompt that describes the source"
_ONE_FRAME = "needs two frames of one shot"


@runtime_checkable
class Reading(FeatureExtractor, Protocol):
    """An extractor that reads words as well."""

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Features [N, D] of texts, in the space of the pictures'."""
        ...

    def unread(self, prompt: str) -> int:
        """How many tokens of a prompt are too many for the network."""
        ...


def clip_scores(pictures: Tensor, text: Tensor) -> Tensor:
    """cos(E_I(Y_k), E_T(target)) of each frame, [T], of features [T, D] and [D] (CLIPSIM: Wu et al., GODIVA, 2021).

    Not scaled: 100 times its mean is what torchmetrics and FlowVid's Pro-Ali print, and 2.5 times what Hessel et al. do.
    """
    return F.cosine_similarity(pictures.double(), text.double()[None], dim=1)


def adjacent_consistency(pictures: Tensor) -> Tensor:
    """cos(E_I(Y_k), E_I(Y_k+1)) of each two neighbours, [T - 1], of features [T, D] (Tem-Con: FateZero, ICCV 2023)."""
    return F.cosine_similarity(pictures[:-1].double(), pictures[1:].double(), dim=1)


def pair_consistency(pictures: Tensor, shots: Tensor | None = None) -> float | None:
    """Mean cosine over all frame pairs i < j, of features [T, D]; with `shots` [T], over pairs of the same shot alone.

    Xing et al., A survey on video diffusion models, 2023. None where there is no pair.
    """
    unit = F.normalize(pictures.double(), dim=1)
    shots = torch.zeros(len(unit)) if shots is None else shots
    total, count = 0.0, 0
    for shot in shots.unique():
        rows = unit[shots == shot]
        # The sum over all ordered pairs is the squared length of the sum: no matrix of T x T is needed.
        total += ((rows.sum(dim=0).square().sum() - rows.square().sum()) / 2).item()
        count += len(rows) * (len(rows) - 1) // 2
    return total / count if count else None


def frame_accuracy(pictures: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """1 for frames at least as near to the target's words as to the source's, else 0: [T], of features [T, D], [D], [D].

    Fram-Acc of FateZero, ICCV 2023, whose script counts a tie as success.
    """
    return (clip_scores(pictures, target) >= clip_scores(pictures, source)).double()


def clip_directions(result: Tensor, source: Tensor, target_text: Tensor, source_text: Tensor) -> Tensor:
    """cos(E_I(Y_k) - E_I(X_k), E_T(target) - E_T(source)) of each frame, [T]; NaN where picture or words do not change.

    The features [T, D], [T, D], [D], [D] are normalised first. Gal et al., StyleGAN-NADA, TOG 2022, equation 2.
    """
    moved = F.normalize(result.double(), dim=1) - F.normalize(source.double(), dim=1)
    said = F.normalize(target_text.double(), dim=0) - F.normalize(source_text.double(), dim=0)
    lengths = moved.norm(dim=1) * said.norm()
    return torch.where(lengths > 1e-9, (moved @ said) / lengths, torch.nan)


@dataclass(frozen=True, kw_only=True)
class ClipAgreement:
    """How well a result says what was asked for, and how alike its frames are, by CLIP.

    Likeness of frames rewards what does not move and saturates near 1: never rank by it alone.
    """

    extractor: FeatureExtractor = default("extractor", "clip")

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="clip_score",
            title="Agreement with the prompt (CLIP)",
            unit="",
            higher_is_better=True,
            source="CLIPSIM; times 100: Pro-Ali of FlowVid",
        ),
        Measure(
            name="tem_con",
            title="Likeness of neighbouring frames (CLIP)",
            unit="",
            higher_is_better=True,
            source="Tem-Con of FateZero, ICCV 2023; times 100: FlowVid, StableV2V",
        ),
        Measure(
            name="frame_consistency",
            title="Likeness of all frames (CLIP)",
            unit="",
            higher_is_better=True,
            source="Xing et al., survey of video diffusion, 2023: all pairs",
        ),
        Measure(
            name="fram_acc",
            title="Frames nearer to the prompt than to the source's",
            unit="",
            higher_is_better=True,
            source="Fram-Acc of FateZero, ICCV 2023; a tie counts",
        ),
        Measure(
            name="clip_direction",
            title="Change in the direction of the words (CLIP)",
            unit="",
            higher_is_better=True,
            source="Gal et al., StyleGAN-NADA, TOG 2022, equation 2",
        ),
    )

    def __post_init__(self) -> None:
        check_can(self.extractor, Reading, "reads no words")

    def __call__(self, case: Case) -> Tally:
        """A fresh tally. Raises `WeightsError` where the extractor has no weights."""
        assert isinstance(self.extractor, Reading)
        return _TextTally(case, self.extractor, facts_of(self.extractor))


class _TextTally:
    def __init__(self, case: Case, extractor: Reading, facts: Mapping[str, str | int | float]) -> None:
        self._case, self._extractor, self._facts = case, extractor, facts
        self._indices: list[int] = []
        self._result = PictureRows(extractor)
        self._source = PictureRows(extractor) if case.prompt and case.source_prompt else None

    def see(self, moment: Moment) -> None:
        self._indices.append(moment.index)
        self._result.add(moment.result)
        if self._source is not None:
            self._source.add(moment.source)

    def score(self) -> Score:
        if not self._indices:
            return Score(missing={one.name: NOTHING for one in ClipAgreement.measures})
        rows = self._result.all()
        series = {**self._by_words(rows), "tem_con": self._by_neighbours(rows)}
        series = {name: {at: value for at, value in row.items() if value == value} for name, row in series.items()}
        values = {name: sum(row.values()) / len(row) for name, row in series.items() if row}
        shots = torch.tensor([sum(cut <= index for cut in self._case.cuts) for index in self._indices])
        together = pair_consistency(rows, shots)
        if together is not None:
            values["frame_consistency"] = together
        reasons = self._reasons()
        return Score(
            values=values,
            series={name: row for name, row in series.items() if row},
            missing={one.name: reasons[one.name] for one in ClipAgreement.measures if one.name not in values},
            facts={**self._facts, "frames": len(self._indices)},
            warnings=self._warnings(),
        )

    def _by_words(self, rows: Tensor) -> dict[str, dict[int, float]]:
        """What needs a prompt, by frame."""
        case = self._case
        if not case.prompt:
            return {}
        target = self._extractor.text([case.prompt])[0].cpu()
        found = {"clip_score": clip_scores(rows, target)}
        if self._source is not None:
            words = self._extractor.text([case.source_prompt])[0].cpu()
            found["fram_acc"] = frame_accuracy(rows, target, words)
            found["clip_direction"] = clip_directions(rows, self._source.all(), target, words)
        return {name: dict(zip(self._indices, row.tolist(), strict=True)) for name, row in found.items()}

    def _by_neighbours(self, rows: Tensor) -> dict[int, float]:
        """Likeness of each frame to the one before it, not across cuts."""
        pairs = zip(self._indices, self._indices[1:], adjacent_consistency(rows).tolist(), strict=False)
        return {late: value for early, late, value in pairs if late == early + 1 and late not in self._case.cuts}

    def _reasons(self) -> dict[str, str]:
        both = _NO_PROMPT if not self._case.prompt else _NO_SOURCE_PROMPT if not self._case.source_prompt else NOTHING
        still = "the result equals the source, or the two prompts are alike" if both == NOTHING else both
        one = {"tem_con": _ONE_FRAME, "frame_consistency": _ONE_FRAME}
        return {"clip_score": _NO_PROMPT, "fram_acc": both, "clip_direction": still, **one}

    def _warnings(self) -> tuple[str, ...]:
        prompts = {"prompt": self._case.prompt, "source's prompt": self._case.source_prompt}
        beyond = {name: self._extractor.unread(prompt) for name, prompt in prompts.items() if prompt}
        return tuple(
            f"The last {count} tokens of the {name} are beyond what the network reads. Shorten it."
            for name, count in beyond.items()
            if count
        )
