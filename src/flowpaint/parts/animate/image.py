"""`ImageAnimator`: an image model whose frames are bound by attention paints a clip from its first frame and depth."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ...diffusion.bound import Pace, denoise_bound, words_of
from ...diffusion.hooked import State
from ...diffusion.levels import add_noise
from ...diffusion.model import LatentDiffusion
from ...diffusion.sampling import frame_noise
from ...diffusion.translate import Conditions, SolverChoice, walk, with_control, within_memory, working_size
from ...errors import ConfigError
from ...seams import Run, SpatialCondition, build, to_dict
from ...types import Aligned, Edit
from ...warp import resize
from ...weights import suited
from .render import at_full_size, carried_noise, rendered

_LEAST_SIDE = 64
_STRENGTH, _SMALL_STRENGTH, _GUIDANCE = 0.75, 0.35, 7.5


def _model() -> LatentDiffusion:
    built: LatentDiffusion = build("model", "stable-diffusion", weights="mini")
    return built


@dataclass(frozen=True, kw_only=True)
class ImageAnimator:
    """Frames of a chunk, denoised together from a coarse render: the edited picture, moved, over the background.

    Each looks at the first frame, which is held, and at the one before. `strength` is the share of the noise range that the
    render is thrown back to; 1 starts from noise alone (none: 0.35 for small models such as "mini", 0.75 for others). Noise is
    carried with the object, shared by all frames, or each has its own.

    A ControlNet is shown the aligned depth where it was made for depth, as is the public one that a model without any gets; else
    its own condition (`control` names it, as in `diffusion.translate.with_control`), `drawn` of the depth, of the render, or of
    both, the stronger line of the two. `control_scale` weighs it, from the share `control_from` of the steps to `control_until`.
    Pictures are denoised at a short side of `side` pixels (0: the model's own). `num_steps`, `guidance` (none: what suits the
    model, else 7.5), `rescale`, `solver`: `diffusion.bound.Pace`.
    """

    model: LatentDiffusion = field(default_factory=_model, metadata={"kind": "model"})
    control: Conditions = field(default=(), metadata={"kind": "condition"})
    drawn: Literal["depth", "render", "both"] = "both"
    control_scale: float = 1.0
    control_from: float = 0.0
    control_until: float = 1.0
    strength: float | None = None
    noise: Literal["carried", "shared", "per_frame"] = "carried"
    num_steps: int = 20
    guidance: float | None = None
    rescale: float = 0.0
    solver: SolverChoice = "ddim"
    window: int = 16
    side: int = 0

    def __post_init__(self) -> None:
        shares = self.strength or 0.0, self.rescale
        if self.window < 2 or 0 < self.side < _LEAST_SIDE or not all(0 <= one <= 1 for one in shares):
            raise ConfigError(
                f"Windows of {self.window} frames at {self.side} pixels, strength {self.strength} and rescale {self.rescale} "
                f"make no video. Give 2 frames or more, 0 or {_LEAST_SIDE} pixels and more, and shares from 0 to 1."
            )
        self._pace(7.5)

    @property
    def uses_depth(self) -> bool:
        """Whether a ControlNet is shown the depth, or lines of it, in any step."""
        return self.drawn != "render" and self.control_scale != 0 and self.control_from < self.control_until

    def _pace(self, guidance: float) -> Pace:
        return Pace(
            num_steps=self.num_steps,
            guidance=guidance,
            rescale=self.rescale,
            solver=self.solver,
            control_from=self.control_from,
            control_until=self.control_until,
        )

    def check(self) -> None:
        """Raises what a run would raise later for steps, weights, ControlNets and conditions that cannot be or are not there."""
        model, seen = self._equipped()
        walk(model.schedule, self.solver, self.num_steps, self._chosen()[0])
        for condition in seen:
            if not _is_depth(condition) and (check := getattr(condition, "check", None)) is not None:
                check()
        model.check()

    @torch.no_grad()
    def __call__(self, told: Aligned, edit: Edit, run: Run) -> Tensor:
        """The pictures [T, 3, H, W] in [0, 1] of a chunk, frame 0 the given one.

        Raises `WeightsError` without a model, `ConfigError` without a ControlNet, `ResourceError` for too little memory.
        """
        coarse = rendered(told)
        if len(coarse) == 1:
            return coarse
        model, seen = self._equipped()
        size = working_size(model, coarse.shape[-2], coarse.shape[-1], self.side)
        model, _ = within_memory(model, size, len(coarse), least=len(coarse), run=run)
        strength, guidance = self._chosen()
        steps = walk(model.schedule, self.solver, self.num_steps, strength)
        small = resize(coarse, *size).to(run.device)
        prior = model.encode(small)
        noise = self._noise(told, prior, run)
        start = add_noise(prior, steps.times[0].t, noise) if steps.times else prior
        if strength == 1:
            start[1:] = noise[1:]

        def hold(x0: Tensor, _eps: Tensor, _state: State) -> Tensor:
            return torch.cat((prior[:1], x0[1:]))

        latents = denoise_bound(
            model,
            start,
            steps,
            text=words_of(model, [edit.at(frame) for frame in told.frames], run),
            controls=self._maps(seen, told, small),
            pace=self._pace(guidance),
            on_denoised=hold,
            run=run,
        )
        return at_full_size(told, coarse, model.decode(latents, size).to(coarse))

    def _chosen(self) -> tuple[float, float]:
        """Strength and guidance: the fields, or what suits the model."""
        known = suited(self.model.weights)  # only small models have such a table: what they paint anew is worse than the render
        strength = (_SMALL_STRENGTH if known else _STRENGTH) if self.strength is None else self.strength
        return strength, float(known.get("guidance", _GUIDANCE)) if self.guidance is None else self.guidance

    def _equipped(self) -> tuple[LatentDiffusion, Conditions]:
        """The model with its ControlNets, weighed, and the condition that each of them sees."""
        bare = not (self.control or self.model.controlnets or self.model.own_controlnet)
        model, seen = with_control(self.model, (build("condition", "depth"),) if bare else self.control)
        if self.drawn == "render" and any(_is_depth(one) for one in seen):
            raise ConfigError("A ControlNet of depth cannot be shown the render. Set drawn=depth, or give one that sees edges.")
        scales = model.control_scale or (1.0,) * len(model.controlnets)
        return replace(model, control_scale=tuple(self.control_scale * one for one in scales)), seen

    def _noise(self, told: Aligned, like: Tensor, run: Run) -> Tensor:
        if self.noise == "per_frame":
            return frame_noise(run, told.frames, like)
        shared = frame_noise(run, told.frames, like, shared=True)
        return carried_noise(shared[0], told) if self.noise == "carried" else shared.clone()

    def _maps(self, seen: Conditions, told: Aligned, small: Tensor) -> list[Tensor]:
        """What each ControlNet is shown: [T, 3, h, w] in [0, 1] at the size of the render `small` [T, 3, h, w]."""
        depth = resize(told.depth, *small.shape[-2:]).expand(-1, 3, -1, -1).to(small)
        maps = []
        for condition in seen:
            if _is_depth(condition):
                maps.append(depth)
                continue
            shown = {"depth": (depth,), "render": (small,), "both": (depth, small)}[self.drawn]
            maps.append(torch.stack([condition(one) for one in shown]).amax(dim=0))
        return maps


def _is_depth(condition: SpatialCondition) -> bool:
    return bool(to_dict(condition)["part"] == "depth")
