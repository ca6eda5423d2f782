"""`I2vgenAnimator`: I2VGen-XL with a Ctrl-Adapter paints a clip from its first frame and depth (StableV2V, arXiv:2411.11045)."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...diffusion.i2vgen import Control, I2vgenXl
from ...diffusion.model import LatentDiffusion
from ...diffusion.plans import one_window
from ...diffusion.sampling import frame_noise, sample_frames
from ...diffusion.shortcuts import Shortcuts
from ...diffusion.translate import SolverChoice, walk, working_size
from ...errors import ConfigError
from ...seams import Run, build, default
from ...types import Aligned, Edit
from ...warp import resize
from .render import at_full_size, rendered

_LEAST_SIDE = 64


def _control() -> LatentDiffusion:
    built: LatentDiffusion = build("model", "stable-diffusion", weights="sd15", controlnets=("depth-sd15",))
    return built


@dataclass(frozen=True, kw_only=True)
class I2vgenAnimator:
    """The paper's own stage 3: from noise, the first frame given, the aligned depth shown to a ControlNet of an image model.

    `control` is that image model, of which the ControlNet and the text encoder are used; what the ControlNet says, the
    Ctrl-Adapter `adapter` (a file, or its folder) tells the video network, weighed by `control_scale`, from the share
    `control_from` of the steps to `control_until`. Pictures are denoised at a short side of `side` pixels (0: 512). `num_steps`,
    `guidance`, `rescale`, `solver`: `diffusion.bound.Pace`.
    """

    model: I2vgenXl = default("model", "i2vgen-xl")
    control: LatentDiffusion = field(default_factory=_control, metadata={"kind": "model"})
    adapter: str = ""
    control_scale: float = 1.0
    control_from: float = 0.0
    control_until: float = 1.0
    num_steps: int = 50
    guidance: float = 9.0
    rescale: float = 0.0
    solver: SolverChoice = "ddim"
    window: int = 16
    side: int = 0

    def __post_init__(self) -> None:
        _ = self._shown
        if self.window < 2 or 0 < self.side < _LEAST_SIDE or not 0 <= self.rescale <= 1:
            raise ConfigError(
                f"Windows of {self.window} frames at {self.side} pixels with rescale {self.rescale} make no video. Give 2 frames "
                f"or more, 0 or {_LEAST_SIDE} pixels and more, and a share from 0 to 1."
            )

    @property
    def uses_depth(self) -> bool:
        """Whether the depth is shown in any step."""
        return self.control_scale != 0 and self.control_from < self.control_until

    @property
    def _shown(self) -> Shortcuts:
        return Shortcuts(control_from=self.control_from, control_until=self.control_until)

    def check(self) -> None:
        """Raises what a run would raise later for steps, weights, a ControlNet or an adapter that cannot be or are not there."""
        self.model.check()
        walk(self.model.schedule, self.solver, self.num_steps, 1.0)
        if self.uses_depth:
            self._told(torch.zeros(1, 3, 8, 8), torch.zeros(2, 1, 1)).check()

    @torch.no_grad()
    def __call__(self, told: Aligned, edit: Edit, run: Run) -> Tensor:
        """The pictures [T, 3, H, W] in [0, 1] of a chunk, frame 0 the given one. Raises `WeightsError` without a model."""
        coarse = rendered(told)
        if len(coarse) == 1:
            return coarse
        model, words = self.model, edit.at(told.frames[0])
        size = working_size(model, coarse.shape[-2], coarse.shape[-1], self.side)
        first = resize(told.first[None], *size).to(run.device)
        steps = walk(model.schedule, self.solver, self.num_steps, 1.0)
        latent = model.encode(first)
        text = model.embed(words, run.device, warn=run.notes.warn)
        denoise = model.denoiser(
            text,
            latent,
            model.see(first[0]),
            guidance=self.guidance,
            rescale=self.rescale,
            control=self._shows(told, words, size, run) if self.uses_depth else None,
        )
        noise = frame_noise(run, told.frames, latent)
        plan = one_window(len(noise))
        latents = sample_frames(lambda _: denoise, noise, steps.times, plan, run=run, eta=steps.eta, solver=steps.solver)
        return at_full_size(told, coarse, model.decode(latents, size).to(coarse))

    def _shows(self, told: Aligned, words: Edit, size: tuple[int, int], run: Run) -> Control:
        depth = resize(told.depth, *size).to(run.device).expand(-1, 3, -1, -1)
        control = self._told(depth, self.control.embed(words, run.device, warn=run.notes.warn))
        control.check()
        return control

    def _told(self, maps: Tensor, text: Tensor) -> Control:
        scales = self.control.control_scale or (1.0,) * len(self.control.controlnets)
        model = replace(self.control, control_scale=tuple(self.control_scale * one for one in scales))
        return Control(model=model, adapter=self.adapter, maps=maps, text=text, shortcuts=self._shown)
