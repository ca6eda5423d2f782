"""FlowVid: the edited first frame, carried along the source's flow as a hint, is repaired by a video network
(Liang et al., CVPR 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from ..diffusion.bound import Pace
from ..diffusion.model import LatentDiffusion
from ..diffusion.repair import HINTS, Hint, ImageRepairer, Inject, TrainedRepairer
from ..diffusion.translate import Conditions, SolverChoice, check_translation, with_control, within_memory, working_size
from ..diffusion.vace import VaceRepairer, WanVace
from ..diffusion.wan import is_vace
from ..errors import ConfigError, InputError
from ..hints import Fill, Pooling, Repairer
from ..plan import in_windows
from ..runs import PrefixedStore
from ..seams import FlowEstimator, ImageEditor, Notes, Propagator, Run, build, default
from ..types import Clip, Edit
from . import keys, windows

_LEAST = 2  # frames of a window: one to hold on to and a new one
_LEAST_SIDE = 64
_MOST_ANCHORS = 5


def _model() -> LatentDiffusion:
    built: LatentDiffusion = build("model", "stable-diffusion", weights="mini-flowvid")
    return built


@dataclass(frozen=True, kw_only=True)
class FlowVid:
    """One frame is edited, by hand or by `editor`; a network repairs what the source's `flow` carries of it to key frames, and
    `propagate` makes the frames between them from both sides.

    What `model` is says how: FlowVid's own network ("mini-flowvid", or a folder that `flowpaint train flowvid` wrote), an image
    model that was not trained for it, whose frames are bound by hand, or Wan-VACE. Up to five frames may be edited: each frame
    is told of the nearest one that shows what it shows.

    Key frames come where `lost` of the picture is no longer that of the last one, `stride` / 2 to 2 `stride` frames apart; with
    `placing` "even" every `stride` frames (the paper). `window` of them are denoised at once, each window chained to the last
    frame of the one before, by its latent. Pictures are denoised at a short side of `side` pixels (0: the model's own).
    `calibrate` moves the colours of each to those of the edited frame ("plain", the paper's), or to what these have become in
    the source since then ("source-relative"). `repair` "occluded" takes the network's picture only where `propagate`, given the
    edited frames alone, is not confident of its own (`windows.composite`).

    `num_steps`, `guidance` (none: 7.5, Wan's 5), `rescale` (none: 0.7 with quality best, else 0), `solver`, `noise`:
    `diffusion.repair.Pace`; `control_every`, `control_until`, `deep_every`, which save work: `diffusion.shortcuts.Shortcuts`;
    `fill`: `hints.filled`; `hints`, `pooling`, `inject`, `injected`, `source_prompt`: `TrainedRepairer`; `strength`, `held`:
    `ImageRepairer`. With Wan-VACE a `control` fills the holes of the control video, which are gray without one.
    """

    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    model: LatentDiffusion | WanVace = field(default_factory=_model, metadata={"kind": "model"})
    control: Conditions = field(default=(), metadata={"kind": "condition"})
    flow: FlowEstimator = default("flow", "dis")
    propagate: Propagator = default("propagator", "analogy")
    repair: Literal["all", "occluded"] = "all"
    placing: Literal["adaptive", "even"] = "adaptive"
    stride: int = 4
    lost: float = 0.1
    window: int = 16
    num_steps: int = 20
    guidance: float | None = None
    rescale: float | None = None
    solver: SolverChoice = "ddim"
    noise: Literal["shared", "per_frame"] = "per_frame"
    control_every: int = 1
    control_until: float = 1.0
    deep_every: int = 1
    side: int = 0
    calibrate: windows.Calibration = "plain"
    hints: tuple[Hint, ...] = HINTS
    fill: Fill = "gray"
    pooling: Pooling = "nearest"
    inject: Inject = "inverted"
    injected: float = 0.5
    source_prompt: str = ""
    strength: float = 0.75
    held: float = 0.5

    def __post_init__(self) -> None:
        shares = self.lost, self.injected, self.strength, self.held, self.rescale or 0.0
        if self.window < _LEAST or self.stride < 1 or 0 < self.side < _LEAST_SIDE or not all(0 <= one <= 1 for one in shares):
            raise ConfigError(
                f"Windows of {self.window} frames, {self.stride} apart, at {self.side} pixels, with shares {shares} (lost, "
                f"injected, strength, held, rescale) cannot be repaired. Give {_LEAST} frames and a stride of 1 or more, 0 or "
                f"{_LEAST_SIDE} pixels and more, and shares from 0 to 1."
            )
        _ = self._pace(Run())  # refuses shortcuts that are none

    def for_model(self, weights: str) -> "FlowVid":
        """This method with the model that `weights` means to it: for the image model "mini" the network that was made of it."""
        if is_vace(weights):
            return replace(self, model=build("model", "wan-vace", weights=weights))
        name = "mini-flowvid" if weights == "mini" else weights
        if isinstance(self.model, LatentDiffusion):
            return replace(self, model=replace(self.model, weights=name))
        return replace(self, model=build("model", "stable-diffusion", weights=name))

    @property
    def first_editor(self) -> ImageEditor | None:
        """What edits the first frame where none is given: the editor, or an image model that also repairs."""
        if self.editor is not None or isinstance(self.model, WanVace) or self.model.binds_frames:
            return self.editor
        found: ImageEditor = build("editor", "diffusion", model=self.model, control=self.control, strength=self.strength)
        return found

    def check(self) -> None:
        """Raises what a run would raise later for steps, weights and ControlNets that cannot be or are not there."""
        if isinstance(self.model, WanVace):
            self._vace(self.model).check()
        else:
            check_translation(self.model, self.control, self.solver, self.num_steps, 1.0)
        if self.repair == "occluded" and not hasattr(self.propagate, "with_trust"):
            raise ConfigError("repair=occluded needs a propagator that tells where it is sure. Set propagate to analogy.")

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy: a window is repaired when the first of its frames is asked for.

        Raises `InputError` without an edited frame and with more than five, `WeightsError` without a model, `ResourceError` for
        too little memory.
        """
        anchors = self._anchors(clip, edit, run)
        self.check()
        if self.repair == "all":
            return self._repaired(clip, anchors, edit, run)
        told = Notes(warnings=run.notes.warnings)  # the rows of frames are those of the pass that is sure
        apart = replace(run, store=PrefixedStore(run.store, "between: "), notes=told)
        whole = edit if edit.keyframes else edit.whole()
        plain, trust = self.propagate.with_trust(clip, anchors, whole, run)  # type: ignore[attr-defined]  # see check
        size = working_size(self.model, clip.height, clip.width, self.side)
        return windows.composite(
            plain,
            trust,
            self._repaired(clip, anchors, edit, apart),
            missed=windows.missed_by_colours(anchors, clip),
            lost=windows.lost_in_latents(anchors, lambda one: self.model.decode(self.model.encode(one), size), size),
        )

    def _anchors(self, clip: Clip, edit: Edit, run: Run) -> Mapping[int, Tensor]:
        """The edited frames."""
        if len(edit.keyframes) > _MOST_ANCHORS:
            raise InputError(
                f"{len(edit.keyframes)} edited frames in one shot are more than the {_MOST_ANCHORS} that FlowVid looks at. "
                "Leave some out, or use --method analogy, which takes any number."
            )
        editor = self.editor if edit.keyframes else self.first_editor
        if editor is None and not edit.keyframes:
            raise InputError(
                f"No look is called {edit.prompt!r}, and this video model edits no picture by itself. Give an edited frame with "
                "--keyframe, name a look, or an image model that edits one with --set editor=diffusion."
            )
        return keys.edited(clip, edit, editor, [0], run) if editor is not None else keys.given(clip, edit)

    def _repaired(self, clip: Clip, anchors: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:
        """The network's clip."""
        chosen = self._places(clip, anchors, run)
        size = working_size(self.model, clip.height, clip.width, self.side)
        model, control, window = self._fitting(size, run)
        first = min(anchors)
        work = windows.Windows(
            clip=clip,
            edited=anchors,
            chains=[
                in_windows([one for one in chosen if one >= first], window),
                in_windows([one for one in reversed(chosen) if one <= first], window),
            ],
            size=size,
            window=window,
            control=control,
            flow=self.flow,
            repairer=self._repairer(model, run),
            encode=model.encode,
            fill=self.fill,
            calibrate=self.calibrate,
            plain=self.inject != "none",
            edit=edit,
            run=run,
        )

        def picture(index: int) -> Tensor:
            return anchors[index] if index in anchors else work.picture(index)

        # What a network paints anew is new everywhere.
        return self.propagate(clip, keys.Keys(clip, edit, chosen, picture), edit.whole(), run)

    def _places(self, clip: Clip, anchors: Mapping[int, Tensor], run: Run) -> list[int]:
        """The frames that the network repairs, those that were edited among them."""
        last = len(clip) - 1
        if self.placing == "even":
            placed = list(range(0, last + 1, self.stride))
        else:
            shortest, longest = max(1, self.stride // 2), 2 * self.stride
            found = keys.place(clip, self.flow, lost=self.lost, longest=longest, shortest=shortest, run=run)
            placed = [one.index for one in found]
        return sorted({0, last, *placed, *anchors})

    def _fitting(self, size: tuple[int, int], run: Run) -> tuple[LatentDiffusion | WanVace, Conditions, int]:
        """The model with its ControlNets, what they see, and how many frames a window holds within its limit of memory."""
        if isinstance(self.model, WanVace):
            return self.model, self.control, self.window
        model, control = with_control(self.model, self.control)
        fitting, window = within_memory(model, size, self.window, least=_LEAST, run=run)
        return fitting, control, window

    def _repairer(self, model: LatentDiffusion | WanVace, run: Run) -> Repairer:
        if isinstance(model, WanVace):
            return self._vace(model)
        pace = self._pace(run)
        if not model.binds_frames:
            return ImageRepairer(model=model, pace=pace, strength=self.strength, held=self.held)
        return TrainedRepairer(
            model=model,
            pace=pace,
            heard=self.hints,
            pooling=self.pooling,
            inject=self.inject,
            injected=self.injected,
            source_words=self.source_prompt,
        )

    def _pace(self, run: Run) -> Pace:
        return Pace(
            num_steps=self.num_steps,
            guidance=7.5 if self.guidance is None else self.guidance,
            rescale=(0.7 if run.quality == "best" else 0.0) if self.rescale is None else self.rescale,
            solver=self.solver,
            noise=self.noise,
            control_every=self.control_every,
            control_until=self.control_until,
            deep_every=self.deep_every,
        )

    def _vace(self, model: WanVace) -> VaceRepairer:
        return VaceRepairer(
            model=model,
            num_steps=self.num_steps,
            guidance=5.0 if self.guidance is None else self.guidance,
            fill="control" if self.control else "gray",
        )
