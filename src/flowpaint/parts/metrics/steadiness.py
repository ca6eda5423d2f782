"""Metrics over time: warp errors, what alternates, drift of colour; and what a result cost."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ...colour import luma
from ...moments import Case, Moment
from ...seams import Tally
from ...types import Flow, Measure, Score
from ...warp import length, visibility, warp
from .tally import FrameTally, mean_over

_LAI = "Lai et al., ECCV 2018"
_ROUNDING = 1e-3  # x 1e-5: a warp error below it is that of float32
_ONE_FRAME = "needs two frames of one shot"


def motion_boundary(flow: Tensor) -> Tensor:
    """1 where `flow` [1, 2, h, w] jumps: |grad u|^2 + |grad v|^2 > 0.01 |w|^2 + 0.002 (Lai et al.), one-pixel differences."""
    across = torch.zeros_like(flow)
    down = torch.zeros_like(flow)
    across[..., :, :-1] = flow[..., :, 1:] - flow[..., :, :-1]
    down[..., :-1, :] = flow[..., 1:, :] - flow[..., :-1, :]
    change = across.square().sum(dim=1, keepdim=True) + down.square().sum(dim=1, keepdim=True)
    return (change > 0.01 * flow.square().sum(dim=1, keepdim=True) + 0.002).to(flow)


def seen_by_lai(flow: Flow) -> Tensor:
    """1 where a pixel of the earlier frame is seen in the later one and not at a motion boundary: [1, 1, h, w]."""
    assert flow.reverse is not None
    return visibility(flow.vectors, flow.reverse, rule="sundaram") * (1 - motion_boundary(flow.vectors))


def warp_errors(before: Tensor, now: Tensor, flow: Flow) -> dict[str, float]:
    """Errors of `now` laid onto `before` [1, 3, h, w] along `flow`, which leads from before to now.

    `mse` and `l1`, per channel, over the pixels that both show (`seen_by_lai`); `_all`: over all that land in the frame.
    """
    return _errors(before, now, flow, *_compared(flow))


def _errors(before: Tensor, now: Tensor, flow: Flow, seen: Tensor, landed: Tensor) -> dict[str, float]:
    difference = warp(now, flow.vectors) - before
    return {
        "mse": mean_over(difference.square(), seen),
        "mse_all": mean_over(difference.square(), landed),
        "l1": mean_over(difference.abs(), seen),
        "l1_all": mean_over(difference.abs(), landed),
    }


def _compared(flow: Flow) -> tuple[Tensor, Tensor]:
    """1 where a pixel is compared because both frames show it, and where it lands in the frame at all: [1, 1, h, w] each."""
    landed = _landed(flow.vectors)
    return seen_by_lai(flow) * landed, landed


def _landed(vectors: Tensor) -> Tensor:
    """1 where the flow ends inside the frame: [1, 1, h, w]."""
    return warp(torch.ones_like(vectors[:, :1]), vectors, outside="zero").ge(1 - 1e-4).to(vectors)


def _measure(name: str, title: str, *, better: bool | None = False, unit: str = "x 1e-5", source: str = _LAI) -> Measure:
    return Measure(name=name, title=title, unit=unit, higher_is_better=better, source=source, digits=2)


@dataclass(frozen=True, kw_only=True)
class WarpError:
    """What is left after neighbours are laid onto each other along a flow, in variants that are never mixed.

    `src`: along the source's flow; `self`: along the result's own (the only choice where the shape changes). The
    source's own error beside them is the noise floor of flow and film. A frozen video has no `self` error and blur lowers
    all of them: the motion ratio and the sharpness tell.
    """

    own: bool = True  # measure the result's own flow too, which costs as much again

    measures: ClassVar[tuple[Measure, ...]] = (
        _measure("we_src", "Warp error, source flow, where seen"),
        _measure("we_src_all", "Warp error, source flow, everywhere"),
        _measure("we_src_l1", "Warp error L1, source flow, where seen", unit="levels of 255"),
        _measure("we_floor", "The source's own warp error, where seen", better=None),
        _measure("we_floor_l1", "The source's own warp error L1, where seen", better=None, unit="levels of 255"),
        _measure("we_ratio", "Warp error over the source's own", unit=""),
        _measure("we_self", "Warp error, own flow, where seen"),
        _measure("we_self_all", "Warp error, own flow, everywhere"),
        _measure("we_self_l1", "Warp error L1, own flow, where seen", unit="levels of 255"),
        _measure("motion_ratio", "Motion over the source's", better=None, unit="", source="mean length of flow"),
        _measure("we_coverage", "Share of pixels compared", better=None, unit=""),
    )

    def __call__(self, _: Case) -> Tally:
        """A fresh tally."""
        return _WarpTally(self)


class _WarpTally:
    """Means over pairs; ratios are of the means, as pairs may hold no motion at all."""

    def __init__(self, part: WarpError) -> None:
        self._part = part
        self._motion = [0.0, 0.0]
        self._estimator = ""
        self._frames = FrameTally(part.measures, self._look)

    def see(self, moment: Moment) -> None:
        self._estimator = repr(moment.estimator)
        self._frames.see(moment)

    def _look(self, moment: Moment) -> dict[str, float]:
        before = moment.before
        if before is None:
            return {}
        flow = moment.flow
        seen, landed = _compared(flow)
        floor = _errors(before.source, moment.source, flow, seen, landed)
        errors = _errors(before.result, moment.result, flow, seen, landed)
        found = {
            "we_src": 1e5 * errors["mse"],
            "we_src_all": 1e5 * errors["mse_all"],
            "we_src_l1": 255 * errors["l1"],
            "we_floor": 1e5 * floor["mse"],
            "we_floor_l1": 255 * floor["l1"],
            "we_coverage": seen.mean().item(),
        }
        if self._part.own:
            own = moment.own_flow
            errors = warp_errors(before.result, moment.result, own)
            found |= {"we_self": 1e5 * errors["mse"], "we_self_all": 1e5 * errors["mse_all"], "we_self_l1": 255 * errors["l1"]}
            self._motion[0] += length(own.vectors).mean().item()
            self._motion[1] += length(flow.vectors).mean().item()
        return found

    def score(self) -> Score:
        found = self._frames.score()
        values, missing = dict(found.values), dict.fromkeys(found.missing, _ONE_FRAME)
        if values.get("we_floor", 0.0) > _ROUNDING:
            values["we_ratio"] = values["we_src"] / values["we_floor"]
            missing.pop("we_ratio")
        elif "we_floor" in values:
            missing["we_ratio"] = "the source has no warp error"
        if not self._part.own:
            missing |= {name: "the result's own flow was not measured" for name in missing if "self" in name or "motion" in name}
        elif self._motion[1] > 0:
            values["motion_ratio"] = self._motion[0] / self._motion[1]
            missing.pop("motion_ratio")
        elif "we_src" in values:
            missing["motion_ratio"] = "nothing moves in the source"
        return Score(values=values, series=found.series, missing=missing, facts={"flow": self._estimator})


@dataclass(frozen=True, kw_only=True)
class PixelMse:
    """Mean squared difference of neighbours aligned by the source's flow, pictures in [0, 1] (Pix2Video).

    Which flow, which pixels and which range are not stated there: here the source's, both variants, and [0, 1].
    """

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="pixel_mse", title="Pixel-MSE, where seen", unit="", higher_is_better=False, digits=5,
            source="Ceylan et al., ICCV 2023; unimatch's visibility",
        ),
        Measure(
            name="pixel_mse_all", title="Pixel-MSE, everywhere", unit="", higher_is_better=False, digits=5,
            source="Ceylan et al., ICCV 2023",
        ),
    )  # fmt: skip

    def __call__(self, _: Case) -> Tally:
        """A fresh tally."""

        def look(moment: Moment) -> dict[str, float]:
            if moment.before is None:
                return {}
            error = (warp(moment.result, moment.flow.vectors) - moment.before.result).square()
            return {"pixel_mse": mean_over(error, moment.flow.visibility), "pixel_mse_all": error.mean().item()}

        return FrameTally(self.measures, look, reasons={one.name: _ONE_FRAME for one in self.measures})


@dataclass(frozen=True, kw_only=True)
class Alternation:
    """What jumps to and fro from frame to frame, beyond what the source does.

    With r_t = Y_t - W(Y_t-1), luma minus the luma before warped along the source's flow, it is the root mean square of
    (r_t - W(r_t-1)) / 4 where both are seen: a second difference in time, whose gain is 1 for what alternates every frame and 0
    for what grows evenly. A square wave of amplitude a has an alternation of a.
    """

    measures: ClassVar[tuple[Measure, ...]] = (
        _measure("alternation", "Alternation", unit="levels of 255", source="temporal second difference along the source's flow"),
        _measure(
            "alternation_source", "Alternation of the source", unit="levels of 255", better=None,
            source="temporal second difference along its flow",
        ),
    )  # fmt: skip

    def __call__(self, _: Case) -> Tally:
        """Return a fresh tally."""
        return _AlternationTally(self.measures)


class _AlternationTally:
    def __init__(self, measures: tuple[Measure, ...]) -> None:
        reasons = {one.name: "needs three frames of one shot" for one in measures}
        self._frames = FrameTally(measures, self._look, reasons=reasons)
        self._last: tuple[int, Tensor, Tensor] | None = None  # frame, residuals [1, 2, h, w], where they are known

    def see(self, moment: Moment) -> None:
        self._frames.see(moment)

    def _look(self, moment: Moment) -> dict[str, float]:
        last, self._last = self._last, None
        if moment.before is None:
            return {}
        back, there = moment.flow.reverse, moment.flow.vectors
        assert back is not None
        seen = visibility(back, there)
        now = torch.cat([luma(moment.result), luma(moment.source)], dim=1)
        before = torch.cat([luma(moment.before.result), luma(moment.before.source)], dim=1)
        residual = now - warp(before, back)
        self._last = moment.index, residual, seen
        if last is None or last[0] != moment.index - 1:
            return {}
        both = seen * (warp(last[2], back) > 0.99)
        jump = 255 * (residual - warp(last[1], back)) / 4
        result, source = (math.sqrt(mean_over(one.square(), both)) for one in jump.split(1, dim=1))
        return {"alternation": result, "alternation_source": source}

    def score(self) -> Score:
        return self._frames.score()


@dataclass(frozen=True, kw_only=True)
class ColourDrift:
    """How colours wander from those of frame 0, beside the source's own wandering; and the largest jump between neighbours."""

    measures: ClassVar[tuple[Measure, ...]] = (
        _measure("drift_mean", "Drift of the mean colour", unit="levels of 255", source="|mean_t - mean_0|, over channels"),
        _measure(
            "drift_mean_source", "The source's own drift of the mean colour", unit="levels of 255", better=None,
            source="as the result's",
        ),
        _measure("drift_spread", "Drift of the contrast", unit="levels of 255", source="|deviation_t - deviation_0|"),
        _measure(
            "drift_spread_source", "The source's own drift of the contrast", unit="levels of 255", better=None,
            source="as the result's",
        ),
        _measure(
            "seam_jump", "Largest jump of the mean colour", unit="levels of 255",
            source="between neighbours, less the source's own",
        ),
    )  # fmt: skip

    def __call__(self, _: Case) -> Tally:
        """A fresh tally."""
        return _DriftTally(self.measures)


class _DriftTally:
    def __init__(self, measures: tuple[Measure, ...]) -> None:
        self._frames = FrameTally(measures, self._look)
        self._first: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}

    def see(self, moment: Moment) -> None:
        self._frames.see(moment)

    def _look(self, moment: Moment) -> dict[str, float]:
        now = {name: _statistics(getattr(moment, name)) for name in ("result", "source")}
        self._first = self._first or now
        off = {name: (now[name] - self._first[name]).abs().mean(dim=1) for name in now}
        found = {
            "drift_mean": off["result"][0].item(),
            "drift_mean_source": off["source"][0].item(),
            "drift_spread": off["result"][1].item(),
            "drift_spread_source": off["source"][1].item(),
        }
        if moment.before is not None:
            jump = {name: (now[name] - self._before[name])[0].abs().mean().item() for name in now}
            found["seam_jump"] = max(0.0, jump["result"] - jump["source"])
        self._before = now
        return found

    def score(self) -> Score:
        """As ever; a jump counts at its largest, not on average. Frame 0 has not drifted, and does not count."""
        found = self._frames.score()
        values, missing = dict(found.values), dict(found.missing)
        for name, row in found.series.items():
            later = [value for index, value in row.items() if index > min(row)]
            if name == "seam_jump":
                values[name] = max(row.values())
            elif later:
                values[name] = math.fsum(later) / len(later)
            else:
                missing[name] = _ONE_FRAME
                del values[name]
        missing.update({"seam_jump": _ONE_FRAME} if "seam_jump" not in values else {})
        return Score(values=values, series=found.series, missing=missing)


def _statistics(picture: Tensor) -> Tensor:
    """Mean and standard deviation of each channel of [1, 3, h, w]: [2, 3], levels of 255."""
    return 255 * torch.stack([picture.mean(dim=(0, 2, 3)), picture.std(dim=(0, 2, 3), unbiased=False)])


@dataclass(frozen=True, kw_only=True)
class ShapeConsistency:
    """Whether the edited object has the shape it should have: the mask against the object found in the result."""

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(
            name="shape_iou", title="Shape consistency", unit="", higher_is_better=True,
            source="intersection over union of the mask and the result's mask, mean over frames",
        ),
    )  # fmt: skip

    def __call__(self, case: Case) -> Tally:
        """A fresh tally."""

        def look(moment: Moment) -> dict[str, float]:
            if moment.mask is None or moment.result_mask is None:
                return {}
            wanted, found = moment.mask > 0.5, moment.result_mask > 0.5
            union = (wanted | found).sum().item()
            return {"shape_iou": (wanted & found).sum().item() / union} if union else {}

        given = case.mask is not None and case.result_mask is not None
        reason = "the masks have no foreground" if given else "needs a mask and the object's mask in the result"
        return FrameTally(self.measures, look, reasons={"shape_iou": reason})


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the result cost to make, where that was recorded."""

    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(name="seconds_per_frame", title="Seconds a frame", unit="s", higher_is_better=False, source="wall time"),
        Measure(
            name="peak_memory", title="Peak memory", unit="MiB", higher_is_better=False, source="of the process", digits=0
        ),
    )  # fmt: skip

    def __call__(self, case: Case) -> Tally:
        """A fresh tally."""
        memory = None if case.peak_memory is None else case.peak_memory / 2**20
        return _Recorded({"seconds_per_frame": case.seconds_per_frame, "peak_memory": memory})


class _Recorded:
    """Numbers that were known before any frame was seen."""

    def __init__(self, known: dict[str, float | None]) -> None:
        self._known = known

    def see(self, moment: Moment) -> None:
        pass

    def score(self) -> Score:
        values = {name: value for name, value in self._known.items() if value is not None}
        return Score(values=values, missing={name: "was not recorded" for name in self._known if name not in values})
