"""Which frames share a network call, in which order, and which of them only give context: windows and frame plans."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import torch

from ..errors import ConfigError
from ..seams import Run
from .levels import Step

Order: TypeAlias = Literal["window", "step"]

_PLAN_STREAM = -1  # frame number of the random stream that draws plans: no frame's noise has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The frames of one network call, in batch order. Those in `anchors` give context: what comes out for them is dropped.

    `role` is a name for strategies that treat calls differently ("full", "pivot", "key", "gap"). Raises `ConfigError` for no
    frames, repeated ones, or anchors that are not among them.
    """

    frames: tuple[int, ...]
    anchors: frozenset[int] = frozenset()
    role: str = "full"

    def __post_init__(self) -> None:
        if not self.frames or len(set(self.frames)) != len(self.frames) or not self.anchors <= set(self.frames):
            raise ConfigError(
                f"Frames {self.frames} with anchors {sorted(self.anchors)} make no window. "
                "Give each frame once, and anchors from among them."
            )

    @property
    def kept(self) -> tuple[int, ...]:
        """The frames whose result is kept."""
        return tuple(frame for frame in self.frames if frame not in self.anchors)

    @property
    def kept_rows(self) -> list[int]:
        """Where in the batch the kept frames are."""
        return [row for row, frame in enumerate(self.frames) if frame not in self.anchors]


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """The calls of every step. Order "window" finishes all steps of a window before the next begins; "step" takes one step of
    all windows, then the next, and averages the clean estimates of a frame that several windows keep.

    An anchor has the latents it had at this step where it was denoised: in order "window" it must be kept by an earlier
    window. `redraw(step, generator)` gives other windows at each step (order "step"). Raises `ConfigError` for frames out of
    range, lost, or kept twice in order "window", and for anchors that come too early.
    """

    num_frames: int
    windows: tuple[Window, ...] = ()
    order: Order = "window"
    redraw: Callable[[Step, torch.Generator], tuple[Window, ...]] | None = None

    def __post_init__(self) -> None:
        if self.redraw is None:
            self._check(self.windows)
        elif self.order == "window" or self.windows:
            raise ConfigError("Windows that are drawn anew at each step need the order 'step' and no fixed windows. Set it so.")

    def at(self, step: Step, run: Run) -> tuple[Window, ...]:
        """The windows of `step`; drawn from the run's seed and the step alone where they vary."""
        if self.redraw is None:
            return self.windows
        drawn = self.redraw(step, run.generator(_PLAN_STREAM, step.index + 1))
        self._check(drawn)
        return drawn

    def anchors_after(self, number: int) -> frozenset[int]:
        """The frames that windows after window `number` use as anchors."""
        return frozenset().union(*(window.anchors for window in self.windows[number + 1 :]))

    def _check(self, windows: Sequence[Window]) -> None:
        kept: list[int] = []
        for window in windows:
            early = window.anchors - set(kept) if self.order == "window" else ()
            if early:
                raise ConfigError(f"Frame {min(early)} is an anchor before it was denoised. Put the window that keeps it first.")
            kept.extend(window.kept)
            outside = [frame for frame in window.frames if not 0 <= frame < self.num_frames]
            if outside:
                raise ConfigError(f"Frame {outside[0]} is not one of {self.num_frames}. Plan windows for frames that are there.")
        lost = sorted(set(range(self.num_frames)) - set(kept))
        if lost:
            raise ConfigError(f"No window keeps frame {lost[0]}. Plan a window for every frame.")
        if self.order == "window" and len(kept) > self.num_frames:
            raise ConfigError("A frame is kept by two windows. Make it an anchor in one of them, or use the order 'step'.")


def one_window(num_frames: int) -> FramePlan:
    """All frames in one call."""
    return FramePlan(num_frames=num_frames, windows=(Window(frames=tuple(range(num_frames))),))


def chunks(num_frames: int, size: int, order: Order = "window") -> FramePlan:
    """`size` frames a call, the last one shorter. Raises `ConfigError` for a size below 1."""
    _at_least(size, 1)
    starts = range(0, num_frames, size)
    windows = tuple(Window(frames=tuple(range(start, min(start + size, num_frames)))) for start in starts)
    return FramePlan(num_frames=num_frames, windows=windows, order=order)


def anchor_chain(num_frames: int, size: int, tail: int = 1) -> FramePlan:
    """`size` frames, then `size` - 2 new ones at a time behind the first frame and the last of the window before.

    The index sets of FRESCO (Yang et al., CVPR 2024, section 4.3). A last window of fewer than `tail` new frames borrows from the
    one before, as far as they fit. Raises `ConfigError` for a size below 3.
    """
    _at_least(size, 3)
    starts = [0, *range(size, num_frames, size - 2)]
    if len(starts) > 1:
        starts[-1] -= max(0, min(tail, size - 2) - (num_frames - starts[-1]))
    ends = [*starts[1:], num_frames]
    windows = [Window(frames=tuple(range(ends[0])))]
    for start, end in zip(starts[1:], ends[1:], strict=True):
        windows.append(Window(frames=(0, start - 1, *range(start, end)), anchors=frozenset({0, start - 1})))
    return FramePlan(num_frames=num_frames, windows=tuple(windows))


def sequential(num_frames: int) -> FramePlan:
    """One new frame a call, behind the first frame and the one before it (Rerender-A-Video, Pix2Video)."""
    windows = [Window(frames=(0,))]
    for frame in range(1, num_frames):
        anchors = tuple(dict.fromkeys((0, frame - 1)))
        windows.append(Window(frames=(*anchors, frame), anchors=frozenset(anchors)))
    return FramePlan(num_frames=num_frames, windows=tuple(windows))


def prefixed(num_frames: int, size: int) -> FramePlan:
    """Frame 0 in front of every call of `size` frames (Text2Video-Zero). Raises `ConfigError` for a size below 2."""
    _at_least(size, 2)
    windows = [Window(frames=tuple(range(min(size, num_frames))))]
    for start in range(size, num_frames, size - 1):
        new = range(start, min(start + size - 1, num_frames))
        windows.append(Window(frames=(0, *new), anchors=frozenset({0})))
    return FramePlan(num_frames=num_frames, windows=tuple(windows))


def sliding(num_frames: int, size: int, stride: int) -> FramePlan:
    """Windows of `size` frames every `stride`, averaged at each step where they overlap (Gen-L-Video).

    The last window is moved back to end with the clip. Raises `ConfigError` unless 1 <= stride <= size.
    """
    _at_least(stride, 1)
    _at_least(size, stride)
    length = min(size, num_frames)
    starts = sorted({min(start, num_frames - length) for start in range(0, max(num_frames - size, 0) + stride, stride)})
    windows = tuple(Window(frames=tuple(range(start, start + length))) for start in starts)
    return FramePlan(num_frames=num_frames, windows=windows, order="step")


def random_chunks(num_frames: int, size: int) -> FramePlan:
    """Runs of `size` neighbouring frames whose borders are drawn anew at each step (VidToMe).

    Raises `ConfigError` for a size below 1.
    """
    _at_least(size, 1)

    def redraw(_: Step, generator: torch.Generator) -> tuple[Window, ...]:
        first = int(torch.randint(1, size + 1, (1,), generator=generator).item())
        edges = [0, *range(first, num_frames, size), num_frames]
        return tuple(Window(frames=tuple(range(a, b))) for a, b in pairwise(edges) if a < b)

    return FramePlan(num_frames=num_frames, order="step", redraw=redraw)


def _at_least(value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{value} frames are too few for this plan. Give {least} or more.")
