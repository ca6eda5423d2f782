"""The frames of a window, denoised together by an image model: each looks at the first one and at the one before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..networks.temporal import look_back
from ..seams import Run
from ..types import Edit
from .hooked import Denoised, Hooks, Site, State, hooked
from .plans import one_window
from .sampling import sample_frames
from .shortcuts import Shortcuts
from .translate import SolverChoice, Walk

if TYPE_CHECKING:
    from .model import LatentDiffusion


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a window is denoised: `num_steps` steps of `solver` under `guidance`, its gain taken back by `rescale` in [0, 1].

    Frames start each from noise of their own, or with `noise` "shared" from the same. `control_every`, `control_from`,
    `control_until` and `deep_every` are `Shortcuts`. Raises `ConfigError` as they do.
    """

    num_steps: int = 20
    guidance: float = 7.5
    rescale: float = 0.0
    solver: SolverChoice = "ddim"
    noise: Literal["shared", "per_frame"] = "per_frame"
    control_every: int = 1
    control_from: float = 0.0
    control_until: float = 1.0
    deep_every: int = 1

    def __post_init__(self) -> None:
        _ = self.shortcuts

    @property
    def shortcuts(self) -> Shortcuts:
        """What is not computed in every step."""
        return Shortcuts(
            control_every=self.control_every,
            control_from=self.control_from,
            control_until=self.control_until,
            deep_every=self.deep_every,
        )


def words_of(model: "LatentDiffusion", edits: Sequence[Edit], run: Run) -> Tensor:
    """The words of T frames, one row for all where they are the same: [2, L, D] or [2, T, L, D]."""
    same = len({(one.prompt, one.negative) for one in edits}) == 1
    return model.embed(edits[0] if same else edits, run.device, warn=run.notes.warn)


@torch.no_grad()
def denoise_bound(
    model: "LatentDiffusion",
    start: Tensor,
    steps: Walk,
    *,
    text: Tensor,
    controls: Sequence[Tensor],
    pace: Pace,
    on_denoised: Denoised,
    run: Run,
) -> Tensor:
    """The latents [T, C, h, w] at the end of `steps`, begun with `start` [T, C, h, w] at its first level.

    `text` is that of `words_of`; `controls` hold a map [T, 3, H, W] in [0, 1] for each ControlNet of `model`; `on_denoised` may
    change the clean estimate of each step. Attention to the first and the previous frame is FlowVid's (Liang et al., CVPR 2024,
    Eq. 3).
    """
    denoise = model.denoiser(text, controls, guidance=pace.guidance, rescale=pace.rescale, shortcuts=pace.shortcuts)
    hooks = Hooks(attention=_looking_back, denoised=on_denoised)
    with hooked(model, hooks, device=run.device):
        return sample_frames(
            lambda _: denoise,
            start,
            steps.times,
            one_window(len(start)),
            run=run,
            eta=steps.eta,
            solver=steps.solver,
            hooks=hooks,
        )


def _looking_back(q: Tensor, k: Tensor, v: Tensor, _site: Site, _state: State) -> Tensor:
    return look_back(q, k, v)
