"""`Restyle`: paint is carried from frame to frame along the source's motion, and a little new paint is let in.

The recursion, for a picture P that an editor painted on frame b and the result R at the frame a before it:

    R_b = k warp(R_a) + (1 - k) P_b,     k = visibility of a's surfaces in b, times (1 - refresh) ^ (b - a)

Frames between a and b show R_a and R_b, each carried along composed displacements and weighted by visibility and nearness in
time, so that new paint comes gradually. Averages of two paintings lose contrast; it is restored to that of what was averaged.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import cv2
import numpy as np
from torch import Tensor

from ...parallel import background, each
from ...seams import FlowEstimator, Propagator, Run, default
from ...types import Clip, Edit, Raw, check_shape, to_raw
from .chain import Chain, State, check_keyframes
from .tracks import Array, Track, enlarged, measure_step, sample, shrink, tracks_to_first, tracks_to_last

_STROKE = 9  # pixels at a short side of 256 over which contrast is measured: a painted stroke is thinner
_MOST = 1.5  # contrast is raised by this factor at most: beyond it errors of the motion would show
_FLAT = 4.0  # levels squared: below this energy there is no contrast to restore
_FAINT = 1e-3  # weight of what is not visible: it counts where nothing else is known


@dataclass(frozen=True, kw_only=True)
class Restyle:
    """Carries paintings along the source's motion, recursively.

    `refresh`: share of new paint a frame. `spacing`: frames between two paintings at most; where key frames lie further
    apart, `base` makes pictures in between. A painting is due earlier where the last one is no longer seen in more than a share
    `lost` of the picture, or in more than `lost_locally` of some window of an eighth of its short side. `contrast`: how much of
    the contrast that averaging loses is restored, 0 to 1. `flow_side`: short side (pixels) at which
    motion is measured, and half the clip's at most.
    """

    flow: FlowEstimator = default("flow", "dis", preset="fine")
    base: Propagator = default("propagator", "analogy")
    refresh: float = 0.05
    spacing: int = 4
    lost: float = 0.15
    lost_locally: float = 0.85
    contrast: float = 0.3
    flow_side: int = 360

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:
        """Return the edited clip, lazy: key frames exactly as given, [3, H, W] in [0, 1], the others in their likeness."""
        return self.repaint(clip, keyframes, frozenset(keyframes), edit, run)

    def repaint(self, clip: Clip, paintings: Mapping[int, Tensor], exact: Collection[int], edit: Edit, run: Run) -> Clip:
        """Return the edited clip, lazy, led by `paintings` [3, H, W] in [0, 1]; those of frames `exact` are shown unchanged."""
        check_keyframes(clip, paintings)
        stops = stops_between(sorted(paintings), len(clip), self.spacing)
        base = self.base(clip, paintings, edit, run) if set(stops) - set(paintings) else None
        work = _Recursion(self, clip, _Lead(stops, paintings, frozenset(exact), base), run)
        return clip.with_frames(Chain(work.advance, run, f"restyle/{run.offset}").read)


@dataclass(frozen=True)
class _Lead:
    """The pictures that lead the result, at the frames `stops`: `paintings`, of which `exact` are shown, and frames of `base`."""

    stops: list[int]
    paintings: Mapping[int, Tensor]
    exact: frozenset[int]
    base: Clip | None

    def picture(self, index: int, clip: Clip) -> Raw:
        """Return the picture at a stop of `clip`."""
        if index not in self.paintings:
            assert self.base is not None
            return self.base.raw(index)
        picture = self.paintings[index]
        check_shape(keyframe=(picture, f"3 {clip.height} {clip.width}"))
        return to_raw(picture, clip.bits)


@dataclass(frozen=True)
class _Span:
    """What is known of the frames from one painting to the next before the result at the first one is known."""

    to_first: list[Track]
    to_last: list[Track]
    painting: Raw  # of the last frame


class _Recursion:
    """One run of `Restyle` over one clip."""

    def __init__(self, part: Restyle, clip: Clip, lead: "_Lead", run: Run) -> None:
        self.part, self.clip, self.lead, self.run = part, clip, lead, run
        self.next_stop = dict(pairwise(lead.stops))
        # At half size at most: motion that is finer than strokes tears them.
        scale = min(0.5, part.flow_side / min(clip.height, clip.width))
        self.size = clip.width, clip.height
        self.small = max(1, round(clip.width * scale)), max(1, round(clip.height * scale))
        self.scout = background("restyle")  # measures the next span while this one is composed
        self.ahead: dict[int, Future[_Span]] = {}
        self.made: dict[int, Raw] = {}  # frames of the span at hand

    def advance(self, index: int, state: State) -> tuple[Raw, State]:
        """Return frame `index` and the result at the last stop, on which the next frames lean."""
        if index == 0:
            picture = self.lead.picture(0, self.clip)
            return picture, {"result": picture, "stop": np.array(0)}
        if index not in self.made:
            self.made = self._span(int(state["stop"]), cast(Raw, state["result"]))
        made = self.made[index]
        return made, {"result": made, "stop": np.array(index)} if index in self.next_stop else state

    def _span(self, start: int, first: Raw) -> dict[int, Raw]:
        """Return the frames after the stop `start`, whose result is `first`, up to the next stop."""
        span, stop = self._measured(start), self.next_stop[start]
        if stop in self.next_stop:
            self._measure_ahead(stop)
        last = self._at_stop(first, span, stop)
        places = range(1, stop - start)
        between = each(lambda place: self._between(first, last, span, place), places)
        for place in range(1, stop - start + 1):
            seen = np.maximum(span.to_first[place].visibility, span.to_last[place].visibility)
            self.run.notes.frame(self.run.offset + start + place, confidence=float(seen.mean()))
        return {start + place: made for place, made in zip(places, between, strict=True)} | {stop: last}

    def _measured(self, start: int) -> _Span:
        self._measure_ahead(start)
        return self.ahead.pop(start).result()

    def _measure_ahead(self, start: int) -> None:
        if start not in self.ahead:
            self.ahead = {start: self.scout.submit(copy_context().run, self._measure, start)}

    def _measure(self, start: int) -> _Span:
        stop = self.next_stop[start]
        small = [shrink(self.clip.raw(index), self.small) for index in range(start, stop + 1)]
        steps = each(lambda pair: measure_step(*pair, self.part.flow), list(pairwise(small)))
        return _Span(tracks_to_first(small, steps), tracks_to_last(small, steps), self.lead.picture(stop, self.clip))

    def _at_stop(self, first: Raw, span: _Span, stop: int) -> Raw:
        """Return the result at `stop`: what was shown before, carried there, and some of the new painting."""
        if stop in self.lead.exact:
            return span.painting
        track = span.to_first[-1]
        kept = track.visibility * np.float32((1 - self.part.refresh) ** (len(span.to_first) - 1))
        return self._mix(self._carry(first, track), span.painting, kept, 1 - kept)

    def _between(self, first: Raw, last: Raw, span: _Span, place: int) -> Raw:
        """Return the frame `place` steps after `first`."""
        back, ahead = span.to_first[place], span.to_last[place]
        share = np.float32(place / (len(span.to_first) - 1))
        weights = (1 - share) * (back.visibility + _FAINT), share * (ahead.visibility + _FAINT)
        return self._mix(self._carry(first, back), self._carry(last, ahead), *weights)

    def _carry(self, picture: Raw, track: Track) -> Raw:
        return sample(picture, enlarged(track.displacement, self.size), cubic=True)

    def _mix(self, a: Raw, b: Raw, weight_a: Array, weight_b: Array) -> Raw:
        """Return the mean of two pictures [H, W, 3] by weights [h, w], with the contrast that they have themselves."""
        mean = np.asarray(cv2.GaussianBlur(weight_a / (weight_a + weight_b), (0, 0), 1.0), np.float32)
        mixed = _blend(a, b, self._full(mean))
        if self.part.contrast == 0:
            return mixed
        reach = 2 * round(_STROKE * min(self.size) / 512) + 1
        energy_a, energy_b, energy = (_energy(one, reach, self.small) for one in (a, b, mixed))
        wanted = mean * energy_a + (1 - mean) * energy_b
        gain = np.sqrt(np.clip((wanted + _FLAT) / (energy + _FLAT), 1, _MOST**2)).astype(np.float32)
        gain = 1 + np.float32(self.part.contrast) * (gain - 1)
        return _blend(mixed, cast(Raw, cv2.blur(mixed, (reach, reach))), self._full(gain))

    def _full(self, small: Array) -> Array:
        return np.asarray(cv2.resize(small, self.size, interpolation=cv2.INTER_LINEAR), np.float32)


def stops_between(keys: list[int], count: int, spacing: int) -> list[int]:
    """Return the frames that a picture leads: first, last, key frames, and others so that none lie more than `spacing` apart."""
    known = sorted({0, count - 1, *keys})
    stops = [known[0]]
    for before, after in pairwise(known):
        parts = -(-(after - before) // spacing)
        stops += [before + round(part * (after - before) / parts) for part in range(1, parts + 1)]
    return stops


def _blend(a: Raw, b: Raw, share: Array) -> Raw:
    """Return share * a + (1 - share) * b, [H, W, 3], for `share` [H, W], clipped to the range of the pictures."""
    if a.dtype == np.uint8:
        return cast(Raw, cv2.blendLinear(a, b, share, 1 - share))
    mixed = cv2.blendLinear(a.astype(np.float32), b.astype(np.float32), share, 1 - share)
    return np.clip(np.rint(mixed), 0, 65535).astype(np.uint16)


def _energy(picture: Raw, reach: int, size: tuple[int, int]) -> Array:
    """Return the energy of the fine part of luma, in levels of 255 squared, averaged over strokes: float32 at `size`."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if picture.dtype == np.uint16:
        luma *= 255.0 / 65535.0
    square = np.square(luma - cv2.blur(luma, (reach, reach)))
    return np.asarray(cv2.GaussianBlur(cv2.resize(square, size, interpolation=cv2.INTER_AREA), (0, 0), 4.0), np.float32)
