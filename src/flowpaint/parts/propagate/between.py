"""`Interpolated`: frames between key frames by an `Interpolator`, which sees the key pictures and nothing of the source."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...seams import Interpolator, Run, default
from ...types import Clip, Edit, Raw, check_shape, to_raw
from .chain import check_keyframes

_TOGETHER = 8  # frames made at a time at most, so that the motion between two key frames is not measured anew for each
_PIXELS = 2**23  # of them together, for memory


@dataclass(frozen=True, kw_only=True)
class Interpolated:
    """Frames between two key frames by `interpolator`, each at its share of the time between them; the source is not looked at.

    So it suits key frames that lie close together and an edit that moves otherwise than the source; where the source's motion is
    to be followed, `analogy` knows more. Before the first key frame and after the last one these pictures are shown unmoved, and
    a warning says so.
    """

    interpolator: Interpolator = default("interpolator", "blend")

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:  # noqa: ARG002
        """The edited clip, lazy. Times are the clip's own, so a variable rate is followed."""
        check_keyframes(clip, keyframes)
        first, last = min(keyframes), max(keyframes)
        sides = [f"before frame {run.offset + first}"] if first > 0 else []
        sides += [f"after frame {run.offset + last}"] if last < len(clip) - 1 else []
        if sides:
            run.notes.warn(
                f"Frames {' and '.join(sides)} have a key frame on one side only and show its picture unmoved: there is nothing "
                "to interpolate. Edit the first and the last frame of the shot, too."
            )
        return clip.with_frames(_Work(self.interpolator, clip, keyframes, run).read)


class _Work:
    """One run of `Interpolated` over one clip. A frame depends on its number alone: there is nothing to resume."""

    def __init__(self, interpolator: Interpolator, clip: Clip, keyframes: Mapping[int, Tensor], run: Run) -> None:
        self.interpolator, self.clip, self.keyframes, self.run = interpolator, clip, keyframes, run
        self.keys = sorted(keyframes)
        self.together = max(1, min(_TOGETHER, _PIXELS // (clip.height * clip.width)))
        self.start = 0
        self.made: list[Raw] = []  # frames from `start` on

    def read(self, index: int) -> Raw:
        """Frame `index`."""
        place = bisect_right(self.keys, index)
        left = self.keys[max(0, place - 1)]
        if index <= left or place == len(self.keys):
            return to_raw(self._key(left), self.clip.bits)
        if not self.start <= index < self.start + len(self.made):
            self.start = index - (index - left - 1) % self.together
            self.made = self._make(left, self.keys[place])
        return self.made[index - self.start].copy()

    def _make(self, left: int, right: int) -> list[Raw]:
        """Frames from `start` on, as many as are made together, between two key frames."""
        begin, end = self.clip.times[left], self.clip.times[right]
        numbers = range(self.start, min(self.start + self.together, right))
        shares = [float((self.clip.times[one] - begin) / (end - begin)) for one in numbers]
        a, b = (self._key(one).to(self.run.device) for one in (left, right))
        pictures = self.interpolator(a, b, shares)
        return [to_raw(one, self.clip.bits) for one in pictures]

    def _key(self, index: int) -> Tensor:
        picture = self.keyframes[index]
        check_shape(keyframe=(picture, f"3 {self.clip.height} {self.clip.width}"))
        return picture
