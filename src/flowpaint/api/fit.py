"""Key pictures laid onto their frames, and what is said of those that do not match.

A picture shows its frame if its edges agree with the frame's (`MATCHING`), or if it stands out from chance: a look that leaves
little of the scene has edges of its own, yet fits better where it lies than shifted. Where the numbers come from, and how often
they err, by kind: docs/benchmarks.md. Frames of a clip that hardly moves agree with each other: there the misfit that
`register` leaves tells.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..register import agreement, register, stands_out
from ..types import Clip
from ..warp import resize
from .first import Approved

ASPECT_SLACK = 0.03  # a key picture may be off by so much in shape
MATCHING = 0.25  # agreement of edges from which on a picture shows its frame
_STANDS_OUT = 6.5  # deviations above chance from which on a picture with less agreement shows its frame all the same
_SHIFT = 1.0  # pixels of misfit left above which a key picture does not lie on its frame
_CLEARLY = 0.1  # agreement by which another frame must be better to be named


@dataclass(frozen=True, kw_only=True, eq=False)
class Laid:
    """A key picture [3, H, W] in place on frame `number` of the input: how well the edges of both agree
    (`flowpaint.register.agreement`) `before` and after a drift was undone, the misfit left in pixels, what was said of the
    drift, and whether it `stands_out` from chance. One that is `approved` is what the run itself would make, and matches;
    `finished` if with all that is asked for now.
    """

    name: str
    number: int
    picture: Tensor
    before: float
    agreement: float
    residual: float
    drift: str = ""
    stands_out: bool = False
    approved: bool = False
    finished: bool = False

    @property
    def matches(self) -> bool:
        """Whether it shows its frame, and lies on it."""
        return self.approved or (self.shows and self.residual <= _SHIFT)

    @property
    def shows(self) -> bool:
        """Whether it shows its frame."""
        return self.agreement >= MATCHING or self.stands_out

    def to_dict(self) -> dict[str, Any]:
        """Its row of the report."""
        return {
            "frame": self.number,
            "picture": self.name,
            "agreement_before": round(self.before, 3),
            "agreement": round(self.agreement, 3),
            "residual": round(self.residual, 2),
            "moved": bool(self.drift),
            "matches": self.matches,
        }


def lay(given: Tensor | Approved, source: Tensor, *, name: str, number: int) -> Laid:
    """A key picture at the size of its frame and in place. Raises `InputError` for another shape."""
    picture = given.picture if isinstance(given, Approved) else given
    height, width = source.shape[-2:]
    aspect = picture.shape[-1] * height / (picture.shape[-2] * width)
    if abs(aspect - 1) > ASPECT_SLACK:
        raise InputError(
            f"{name} is {picture.shape[-1]}x{picture.shape[-2]}, another shape than the video's {width}x{height}. "
            "Crop it to the shape of the video; the size does not matter."
        )
    fitted = resize(picture[None], height, width)[0]
    if isinstance(given, Approved):  # registering would take strokes for a drift
        score = agreement(fitted, source)
        return Laid(
            name=name,
            number=number,
            picture=fitted,
            before=score,
            agreement=score,
            residual=0.0,
            approved=True,
            finished=given.finished,
        )
    found = register(fitted, source)
    return Laid(
        name=name,
        number=number,
        picture=found.picture,
        before=found.before,
        agreement=found.after,
        residual=found.residual,
        drift=found.message if found.moved else "",
        stands_out=found.after < MATCHING and stands_out(found.picture, source) >= _STANDS_OUT,
    )


def check_matches(laid: Mapping[int, Laid], clip: Clip, *, strict: bool, warn: Callable[[str], None]) -> None:
    """Tells of the pictures that were moved, and of those that do not match their frames of `clip`.

    Raises `InputError` for the latter where that is to be `strict`.
    """
    for index, one in laid.items():
        name = Path(one.name).name
        if one.matches:
            if one.drift:
                warn(f"{name} was moved onto frame {one.number}: {one.drift}")
            continue
        message = f"{_misfit(one, name)}{_better(index, laid, clip) or _ADVICE}"
        if strict:
            raise InputError(message)
        warn(message)


_ADVICE = " The result would smear: let the editor keep the picture's layout, and give it for the frame that was edited."


def _misfit(one: Laid, name: str) -> str:
    if not one.shows:
        return (
            f"{name} does not show what frame {one.number} shows: the score of their edges is {one.agreement:.2f}, "
            f"where {MATCHING} is the least."
        )
    return (
        f"{name} lies {one.residual:.1f} px beside frame {one.number} on average, and no shift, turn or zoom puts it in place; "
        f"{_SHIFT:g} px is the most (the score of their edges is {one.agreement:.2f}, {MATCHING} is the least)."
    )


def _better(index: int, laid: Mapping[int, Laid], clip: Clip) -> str:
    """A question where the picture fits another key frame's source clearly better than its own, else nothing."""
    own = laid[index]
    others = {number: agreement(own.picture, clip.frame(number)) for number in laid if number != index}
    best = max(others, key=lambda number: others[number], default=index)
    if others.get(best, 0.0) < max(MATCHING, own.agreement + _CLEARLY):
        return ""
    return (
        f" It fits frame {laid[best].number} (score {others[best]:.2f}) better than frame {own.number}, for which it was given: "
        "were they swapped?"
    )
