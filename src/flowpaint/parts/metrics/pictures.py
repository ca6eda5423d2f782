"""Metrics that compare one picture with another: with its source, with the truth where it is known, outside the mask."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...colour import luma, to_lab
from ...moments import Case, Moment
from ...seams import Tally
from ...smoothing import dilate, gradient
from ...types import Measure
from ...warp import length
from .tally import FrameTally, mean_over

_CEILING = 100.0  # dB that stand for equal pictures, whose ratio is infinite
_SCALES = 5  # of MS-SSIM
_WINDOW = 11  # pixels of SSIM's Gaussian window
_NO_MASK = "needs a mask"
_NO_EXTRA = "needs torchmetrics: pip install 'flowpaint[metrics]'"
_ALL_MASKED = "the mask leaves nothing outside"


def psnr(a: Tensor, b: Tensor, where: Tensor | None = None) -> float:
    """10 log10(1 / MSE) in dB of two pictures [1, 3, h, w] in [0, 1], over the pixels `where` [1, 1, h, w] is 1.

    At most 100 dB, which stand for equality; NaN where no pixel counts.
    """
    error = mean_over((a - b).square(), where)
    return min(_CEILING, -10 * math.log10(max(error, 10 ** (-_CEILING / 10)))) if not math.isnan(error) else error


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity at each pixel, [1, 3, h, w] (Wang et al., TIP 2004; torchmetrics; Gaussian window, sigma 1.5)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    _, full = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    found: Tensor = full
    return found


def ms_ssim(a: Tensor, b: Tensor) -> float:
    """Multi-scale structural similarity (Wang et al., Asilomar 2003; torchmetrics), NaN below 161 pixels: five halvings of 11."""
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    if min(a.shape[-2:]) <= (_WINDOW - 1) * 2 ** (_SCALES - 1):
        return math.nan
    found: Tensor = multiscale_structural_similarity_index_measure(a, b, data_range=1.0)
    return found.item()


def has_torchmetrics() -> bool:
    """Whether the extra `metrics` is installed."""
    try:
        import torchmetrics  # noqa: F401
    except ImportError:
        return False
    return True


def _outside(mask: Tensor, reach: int = 0) -> Tensor:
    """1 at pixels farther than `reach` from where the mask lets anything change: [1, 1, h, w]."""
    return 1 - dilate((mask > 0).float(), reach) if reach else (mask <= 0).float()


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Likeness to the source: PSNR, SSIM, MS-SSIM, of the whole picture and outside the mask."""

    multiscale: bool = True  # measure MS-SSIM, which takes half of the time

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(name="psnr", title="PSNR to the source", unit="dB", higher_is_better=None, source="mean over frames", digits=2),
        Measure(name="ssim", title="SSIM to the source", unit="", higher_is_better=None, source="Wang et al., TIP 2004"),
        Measure(
            name="ms_ssim", title="MS-SSIM to the source", unit="", higher_is_better=None, source="Wang et al., Asilomar 2003"
        ),
        Measure(
            name="psnr_outside",
            title="PSNR outside the mask",
            unit="dB",
            higher_is_better=True,
            source="mean over frames; 100 dB stand for equality",
            digits=2,
        ),
        Measure(
            name="ssim_outside", title="SSIM outside the mask", unit="", higher_is_better=True, source="Wang et al., TIP 2004"
        ),
        Measure(
            name="ms_ssim_outside",
            title="MS-SSIM with the source put inside the mask",
            unit="",
            higher_is_better=True,
            source="Wang et al., Asilomar 2003",
        ),
    )

    def __call__(self, case: Case) -> Tally:
        """A fresh tally."""
        extra = has_torchmetrics()

        def look(moment: Moment) -> dict[str, float]:
            source, result, mask = moment.source, moment.result, moment.mask
            found = {"psnr": psnr(result, source)}
            full = ssim_map(result, source) if extra else None
            if full is not None:
                found["ssim"] = full.mean().item()
            if extra and self.multiscale:
                found["ms_ssim"] = ms_ssim(result, source)
            if mask is not None:
                found["psnr_outside"] = psnr(result, source, _outside(mask))
            if mask is not None and full is not None and mask.min() <= 0:
                # A window that reaches into the mask would judge what was meant to change.
                found["ssim_outside"] = mean_over(full, _outside(mask, _WINDOW // 2))
                if self.multiscale:
                    found["ms_ssim_outside"] = ms_ssim(torch.where(mask > 0, source, result), source)
            return found

        outside = _NO_MASK if case.mask is None else _ALL_MASKED
        large = f"needs {(_WINDOW - 1) * 2 ** (_SCALES - 1) + 1} pixels a side" if self.multiscale else "was not asked for"
        reasons = {
            "ssim": _NO_EXTRA,
            "ms_ssim": large if extra else _NO_EXTRA,
            "psnr_outside": outside,
            "ssim_outside": outside if extra or case.mask is None else _NO_EXTRA,
            "ms_ssim_outside": (f"{large} and something outside the mask" if extra else _NO_EXTRA) if case.mask else _NO_MASK,
        }
        return FrameTally(self.measures, look, reasons=reasons)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What changed outside the mask, where nothing should."""

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="outside_change",
            title="Change outside the mask",
            unit="levels of 255",
            higher_is_better=False,
            source="mean absolute difference to the source",
        ),
        Measure(
            name="outside_worst",
            title="Largest change outside the mask",
            unit="levels of 255",
            higher_is_better=False,
            source="largest absolute difference of a frame, mean over frames",
            digits=1,
        ),
    )

    def __call__(self, case: Case) -> Tally:
        """A fresh tally."""

        def look(moment: Moment) -> dict[str, float]:
            if moment.mask is None:
                return {}
            outside = _outside(moment.mask)
            change = 255 * (moment.result - moment.source).abs()
            if not outside.any():
                return {}
            return {"outside_change": mean_over(change, outside), "outside_worst": (change * outside).max().item()}

        reason = _NO_MASK if case.mask is None else _ALL_MASKED
        return FrameTally(self.measures, look, reasons={one.name: reason for one in self.measures})


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Likeness to the true edited video, where it is known; also in the part that frame 0 does not show."""

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="psnr_true", title="PSNR to the truth", unit="dB", higher_is_better=True, source="mean over frames", digits=2
        ),
        Measure(name="ssim_true", title="SSIM to the truth", unit="", higher_is_better=True, source="Wang et al., TIP 2004"),
        Measure(
            name="error_occluded",
            title="Error where frame 0 shows nothing",
            unit="levels of 255",
            higher_is_better=False,
            source="mean absolute error where the flow to frame 0 is not visible (unimatch's rule)",
            digits=2,
        ),
    )

    def __call__(self, case: Case) -> Tally:
        """A fresh tally."""
        extra = has_torchmetrics()

        def look(moment: Moment) -> dict[str, float]:
            truth = moment.reference
            if truth is None:
                return {}
            found = {"psnr_true": psnr(moment.result, truth)}
            if extra:
                found["ssim_true"] = ssim_map(moment.result, truth).mean().item()
            if moment.first is not moment:
                hidden = 1 - moment.estimator(moment.source, moment.first.source).visibility
                found["error_occluded"] = mean_over(255 * (moment.result - truth).abs(), hidden)
            return found

        absent = "the true edited video is not known"
        reasons = {one.name: absent for one in self.measures}
        if case.reference is not None:
            reasons = {"ssim_true": _NO_EXTRA, "error_occluded": "frame 0 shows everything"}
        return FrameTally(self.measures, look, reasons=reasons)


@dataclass(frozen=True, kw_only=True)
class EditStrength:
    """How far the result is from the source: a method must not win by doing nothing."""

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="edit_strength",
            title="Edit strength",
            unit="ΔE",
            higher_is_better=None,
            source="mean distance to the source in CIELAB (CIE 1976), inside the mask where there is one",
            digits=1,
        ),
    )

    def __call__(self, _: Case) -> Tally:
        """A fresh tally."""

        def look(moment: Moment) -> dict[str, float]:
            distance = (to_lab(moment.result) - to_lab(moment.source)).square().sum(dim=1, keepdim=True).sqrt()
            return {"edit_strength": mean_over(distance, moment.mask)}

        return FrameTally(self.measures, look, reasons={"edit_strength": "the mask has no foreground"})


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """How much fine detail there is."""

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="sharpness",
            title="Sharpness",
            unit="levels of 255 a pixel",
            higher_is_better=None,
            source="mean gradient of luma",
        ),
        Measure(
            name="sharpness_source", title="Sharpness of the source", unit="levels of 255 a pixel", higher_is_better=None,
            source="mean gradient of luma",
        ),
    )  # fmt: skip

    def __call__(self, _: Case) -> Tally:
        """A fresh tally."""
        return FrameTally(
            self.measures,
            lambda moment: {"sharpness": sharpness(moment.result), "sharpness_source": sharpness(moment.source)},
        )


def sharpness(picture: Tensor) -> float:
    """Mean length of the gradient of luma of a picture [1, 3, h, w], in levels of 255 a pixel."""
    return 255 / 2 * length(gradient(luma(picture))).mean().item()
