"""Metrics of painted videos: how much changes from frame to frame beyond motion, and how much of the paint is left."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import ConfigError
from ...moments import Case, Moment
from ...seams import Tally
from ...texture import PRESET, Motion, Preset, flicker, motion, texture_energy, texture_kept
from ...types import Measure, Raw, to_raw
from .tally import FrameTally

_ONE_FRAME = "needs two frames of one shot"
_NO_REFERENCE = (
    "needs the source edited frame by frame: give it (--frame-by-frame VIDEO). It is made where the recipe in the result names a "
    "built-in look, or a style picture that is here, and the mask, if there is one, is given"
)
_NOTHING_MOVES = "nothing moves, or what moves is flat in every frame edited by itself"
_FLAT = "the frames edited by themselves are flat"


@dataclass(frozen=True, kw_only=True)
class Flicker:
    """What changes from frame to frame beyond the source's motion: mean absolute difference to the frame before, warped.

    Only pixels count whose DIS flow, measured on the source both ways, returns to within one pixel. `preset` is that of DIS.
    The source's own flicker beside it is the floor: light, noise, and errors of the flow. Blur lowers it: read it beside the
    texture kept.
    """

    preset: Preset = PRESET

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="flicker",
            title="Flicker",
            unit="levels of 255",
            higher_is_better=False,
            source="mean |R_i - warp(R_i-1)| where the source's DIS flow returns within 1 px",
            digits=2,
        ),
        Measure(
            name="flicker_source",
            title="Flicker of the source",
            unit="levels of 255",
            higher_is_better=None,
            source="as the result's",
            digits=2,
        ),
    )

    def __call__(self, _: Case) -> Tally:
        """Return a fresh tally."""

        def look(moment: Moment) -> dict[str, float]:
            if moment.before is None:
                return {}
            before, now = moment.before, moment
            moved = _motion(now, self.preset)
            return {
                "flicker": flicker(_raw(before, "result"), _raw(now, "result"), moved),
                "flicker_source": flicker(_raw(before, "source"), _raw(now, "source"), moved),
            }

        facts = {"flow": f"dis, preset {self.preset}"}
        return FrameTally(self.measures, look, reasons={one.name: _ONE_FRAME for one in self.measures}, facts=facts)


@dataclass(frozen=True, kw_only=True)
class TextureKept:
    """How much of the texture that an editor paints on each frame the result still has: 1 is all, 0 none.

    The energy of the band between Gaussians of sigma 1 and 4 of luma, 15 x 15 means, is compared with that of the same frame
    edited by itself, in the fastest tenth and in the stillest 40 % of the pixels, inside the mask where there is one. `samples`
    frames are compared, evenly spread, 0 for all: each may cost a picture of the editor. Above 1: noise, or sharper paint.
    """

    samples: int = 12
    preset: Preset = PRESET

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="texture_kept_fast",
            title="Texture kept where motion is fast",
            unit="",
            higher_is_better=True,
            source="energy of G1 - G4 over that of the frame edited by itself, the fastest tenth",
            digits=2,
        ),
        Measure(
            name="texture_kept_still",
            title="Texture kept where all is still",
            unit="",
            higher_is_better=True,
            source="energy of G1 - G4 over that of the frame edited by itself, the stillest 40 %",
            digits=2,
        ),
    )

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ConfigError(f"{self.samples} frames cannot be compared. Give 1 and more, or 0 for all.")

    def __call__(self, case: Case) -> Tally:
        """Return a fresh tally."""
        ends = [index for index in range(1, len(case.source)) if index not in case.cuts]
        count = min(self.samples or len(ends), len(ends))
        chosen = {ends[(2 * one + 1) * len(ends) // (2 * count)] for one in range(count)}

        def look(moment: Moment) -> dict[str, float]:
            if moment.index not in chosen or moment.before is None or (alone := moment.alone) is None:
                return {}
            where = None if moment.mask is None else moment.mask[0, 0].cpu().numpy() > 0
            made, wanted = texture_energy(_raw(moment, "result")), texture_energy(to_raw(alone[0], 16))
            kept = texture_kept(made, wanted, _motion(moment, self.preset).speed, where)
            return {f"texture_kept_{name}": value for name, value in kept.items()}

        reasons = {one.name: _NO_REFERENCE if ends else _ONE_FRAME for one in self.measures}
        if case.frame_by_frame is not None and ends:
            reasons = {"texture_kept_fast": _NOTHING_MOVES, "texture_kept_still": _FLAT}
        return FrameTally(self.measures, look, reasons=reasons, facts={"flow": f"dis, preset {self.preset}"})


def _raw(moment: Moment, name: str) -> Raw:
    """The source or the result of a moment in 16 bits, which keep resized pictures whole."""
    return to_raw(getattr(moment, name)[0], 16)


def _motion(moment: Moment, preset: Preset) -> Motion:
    assert moment.before is not None
    return motion(_raw(moment.before, "source"), _raw(moment, "source"), preset)
