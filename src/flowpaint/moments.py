"""What a metric sees: a source and its result, frame by frame, streaming past once.

All metrics share one pass. What costs much (the flow) is measured when the first of them asks for it.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from torch import Tensor

from .errors import InputError
from .seams import FlowEstimator
from .types import Clip, Flow, from_raw
from .warp import resize


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """What is judged: `result` was made from `source`, both of the same size and length.

    `mask` (1 = where the edit may show), `result_mask` (1 = the edited object in the result) and `reference` (the true edited
    video, where it is known) are clips as long as the source, or of one frame that stands for all. `reference_frames` are
    those at which the truth counts, None for all. `frame_by_frame` is the source with every frame edited by itself.
    `cuts` are the first frames of shots: nothing is compared across them.
    Raises `InputError` where lengths or sizes differ, naming both.
    """

    source: Clip
    result: Clip
    prompt: str = ""
    source_prompt: str = ""
    mask: Clip | None = None
    result_mask: Clip | None = None
    reference: Clip | None = None
    reference_frames: frozenset[int] | None = None
    frame_by_frame: Clip | None = None
    cuts: frozenset[int] = frozenset()
    seconds_per_frame: float | None = None
    peak_memory: int | None = None  # bytes

    def __post_init__(self) -> None:
        source = self.source
        if len(self.result) != len(source):
            raise InputError(
                f"The source has {len(source)} frames and the result {len(self.result)}. "
                "Give two videos of the same length, or let the result be resampled."
            )
        for name in ("result", "mask", "result_mask", "reference", "frame_by_frame"):
            clip, called = getattr(self, name), name.replace("_", " ")
            if clip is None:
                continue
            if (clip.height, clip.width) != (source.height, source.width):
                raise InputError(
                    f"The source is {source.width}x{source.height} and the {called} {clip.width}x{clip.height}. "
                    "Give both in the same size, or let it be resampled."
                )
            if len(clip) != len(source) and (len(clip) != 1 or name == "frame_by_frame"):
                raise InputError(
                    f"The source has {len(source)} frames and the {called} {len(clip)}. "
                    f"Give {'' if name == 'frame_by_frame' else 'one frame for all, or '}one for each."
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """One frame of a case: pictures [1, 3, h, w] in [0, 1], masks [1, 1, h, w] in [0, 1].

    `before` is the moment of the frame before (its own `before` is None: memory stays flat), None at the first frame and at
    cuts; `first` that of frame 0 (itself there). `edit_alone` makes `alone`.
    """

    index: int
    source: Tensor
    result: Tensor
    mask: Tensor | None
    result_mask: Tensor | None
    reference: Tensor | None
    estimator: FlowEstimator
    before: "Moment | None" = None
    opening: "Moment | None" = field(default=None, repr=False)
    edit_alone: Callable[[], Tensor] | None = field(default=None, repr=False)

    @property
    def first(self) -> "Moment":
        """The moment of frame 0."""
        return self.opening or self

    @cached_property
    def alone(self) -> Tensor | None:
        """The source edited by itself at this frame, [1, 3, h, w], where that is known. It may cost a picture of an editor."""
        return None if self.edit_alone is None else self.edit_alone()

    @cached_property
    def flow(self) -> Flow:
        """The source's flow from the frame before to this one, `reverse` from this one to the frame before.

        Raises `ValueError` where there is no frame before.
        """
        return self._between("source")

    @cached_property
    def own_flow(self) -> Flow:
        """The result's own flow, likewise."""
        return self._between("result")

    def _between(self, name: str) -> Flow:
        if self.before is None:
            raise ValueError(f"frame {self.index} has no frame before it")
        flow = self.estimator(getattr(self.before, name), getattr(self, name))
        if flow.reverse is None:
            back = self.estimator(getattr(self, name), getattr(self.before, name)).vectors
            flow = Flow(vectors=flow.vectors, visibility=flow.visibility, reverse=back)
        return flow


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One pass over a case: `side` is the short side at which it is judged, None for full size."""

    flow: FlowEstimator
    side: int | None = None
    device: str = "cpu"

    def size(self, case: Case) -> tuple[int, int]:
        """Height and width at which `case` is judged."""
        height, width = case.source.height, case.source.width
        scale = min(1.0, (self.side or min(height, width)) / min(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def __call__(self, case: Case, frames: Collection[int] | None = None) -> Iterator[Moment]:
        """Every moment of `case` in order, or those of `frames` alone, each after the one before it."""
        opening: Moment | None = None
        before: Moment | None = None
        for index in range(len(case.source)):
            if frames is not None and index not in frames and index + 1 not in frames and index != 0:
                continue
            joined = before is not None and before.index == index - 1 and index not in case.cuts
            moment = Moment(
                index=index,
                estimator=self.flow,
                before=before if joined else None,
                opening=opening,
                source=self._picture(case.source, index, case),
                result=self._picture(case.result, index, case),
                mask=self._optional(case.mask, index, case, channels=1),
                result_mask=self._optional(case.result_mask, index, case, channels=1),
                reference=self._optional(case.reference, index, case) if _counts(case, index) else None,
                edit_alone=None if case.frame_by_frame is None else partial(self._picture, case.frame_by_frame, index, case),
            )
            if frames is None or index in frames:
                yield moment
            before = replace(moment, before=None, opening=None, edit_alone=None)  # alone: a chain would hold every frame
            opening = opening or before

    def _picture(self, clip: Clip, index: int, case: Case) -> Tensor:
        picture = from_raw(clip.raw(index if len(clip) > 1 else 0))[None].to(self.device)
        return resize(picture, *self.size(case))

    def _optional(self, clip: Clip | None, index: int, case: Case, channels: int = 3) -> Tensor | None:
        return None if clip is None else self._picture(clip, index, case)[:, :channels]


def _counts(case: Case, index: int) -> bool:
    """Whether the truth counts at a frame."""
    return case.reference_frames is None or index in case.reference_frames
