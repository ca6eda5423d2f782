"""`VaceAnimator`: Wan with VACE paints a clip from its first frame and a video of depth (Jiang et al., ICCV 2025)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...diffusion.flow_matching import FlowSolverName
from ...diffusion.translate import working_size
from ...diffusion.vace import VaceRepairer, WanVace
from ...errors import ConfigError
from ...hints import GRAY, Hinted
from ...seams import Run, default
from ...types import Aligned, Edit
from ...warp import resize
from .render import at_full_size, rendered

_LEAST_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class VaceAnimator:
    """The control video shows the first frame, which is kept, and then the aligned depth, which is painted over.

    Depth is weighed by `control_scale` (0: gray, 1: whole) and shown from the share `control_from` of the steps to
    `control_until`; how far the model follows the control video at all is `model.control_scale`. With `reference` the first
    edited frame of the whole clip is shown beside it, too. Pictures are denoised at a short side of `side` pixels (0: the model's
    own), chunks made up to 4 k + 1 frames inside. `num_steps`, `guidance`, `solver`, `shift`: `diffusion.vace.VaceRepairer`.
    """

    model: WanVace = default("model", "wan-vace")
    control_scale: float = 1.0
    control_from: float = 0.0
    control_until: float = 1.0
    reference: bool = False
    num_steps: int = 30
    guidance: float = 5.0
    solver: FlowSolverName = "unipc"
    shift: float | None = None
    window: int = 17
    side: int = 0

    def __post_init__(self) -> None:
        if self.window < 2 or 0 < self.side < _LEAST_SIDE or not 0 <= self.control_scale <= 1:
            raise ConfigError(
                f"Windows of {self.window} frames at {self.side} pixels with depth of weight {self.control_scale} make no video. "
                f"Give 2 frames or more, 0 or {_LEAST_SIDE} pixels and more, and a weight from 0 to 1."
            )
        _ = self._painter

    @property
    def uses_depth(self) -> bool:
        """Whether the depth is shown in any step."""
        return self.control_scale != 0 and self.control_from < self.control_until

    @property
    def _painter(self) -> VaceRepairer:
        return VaceRepairer(
            model=self.model,
            num_steps=self.num_steps,
            guidance=self.guidance,
            solver=self.solver,
            shift=self.shift,
            fill="control" if self.uses_depth else "gray",
            control_from=self.control_from,
            control_until=self.control_until,
        )

    def check(self) -> None:
        """Raises what a run would raise later, for weights and steps that cannot be had."""
        self._painter.check()

    @torch.no_grad()
    def __call__(self, told: Aligned, edit: Edit, run: Run) -> Tensor:
        """The pictures [T, 3, H, W] in [0, 1] of a chunk, frame 0 the given one. Raises `WeightsError` without a model."""
        coarse = rendered(told)
        if len(coarse) == 1:
            return coarse
        size = working_size(self.model, coarse.shape[-2], coarse.shape[-1], self.side)
        small, depth = (resize(one, *size).to(run.device) for one in (coarse, told.depth))
        mask = torch.ones_like(depth)
        mask[0] = 0
        anchors = resize(told.anchor[None], *size).to(run.device)
        hinted = Hinted(
            source=resize(told.source, *size).to(run.device),
            warped=small,
            mask=mask,
            anchors=anchors if self.reference else anchors[:0],
            nearest=(0,) * len(small),
            frames=told.frames,
            edits=tuple(edit.at(frame) for frame in told.frames),
            controls=(torch.lerp(torch.full_like(small, GRAY), depth.expand_as(small), self.control_scale),),
        )
        return at_full_size(told, coarse, self._painter(hinted, run).pictures.to(coarse))
