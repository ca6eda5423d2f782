"""`Fresco`: FRESCO's consistency, laid into the four hooks of the diffusion core (Yang et al., CVPR 2024)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from ...diffusion.hooked import Hooks, Site, State, When, during
from ...diffusion.model import LatentDiffusion
from ...diffusion.sampling import LoopState, add_noise
from ...types import Cues
from .attention import guided
from .background import background_map, smooth_pictures
from .losses import unit_tokens
from .optimise import optimised
from .paths import TokenPaths, token_paths
from .ring import Ring, ring, unseen_tokens
from .switches import SWITCHES, Active, Compat, Switches, Turned, active

_SHALLOW = 1  # attention sites: decoder blocks at full and half size of the latent
_LEAST = 2  # cells on a side below which a map has no statistics


@dataclass(frozen=True, kw_only=True)
class Fresco(Turned):
    """Attention and decoder features bound to the source's correspondences within and between frames.

    `compat` chooses the released code's numbers, the paper's, the released ones as far as a CPU can afford them, or what a model
    as small as `mini` wants; "auto" takes "official" on a GPU and "cpu" on a CPU. Each number can be set alone: see `Switches`.
    The stages of the attention, the optimisation and the background can each be left out.
    """

    compat: Compat = "auto"
    attention: Literal["all", "cross-frame", "none"] = "all"
    optimise: bool = True
    background: bool = True

    def __post_init__(self) -> None:
        for known in SWITCHES.values():
            self.turn(known)  # a value out of range is told at once

    def switches(self, device: torch.device) -> Switches:
        """The numbers that hold on `device`."""
        compat = ("cpu" if device.type == "cpu" else "official") if self.compat == "auto" else self.compat
        return self.turn(SWITCHES[compat])

    def __call__(self, model: LatentDiffusion, cues: Callable[[tuple[int, ...]], Cues], text: Tensor) -> Hooks:
        """Hooks for a loop over windows of `model` under the words `text` [2, L, D].

        `cues` measures the frames of a window when it comes up: [N, ...] in the window's order.
        """
        work = _Work(self, self.switches(text.device), model, cues, text)
        return Hooks(
            attention=work.attend if self.attention != "none" else None,
            features=work.features if self.optimise else None,
            latents=work.latents,
            denoised=work.denoised if self.background else None,
            attention_at=lambda site: site.stage == "up" and site.depth <= _SHALLOW,
        )


@dataclass(kw_only=True)
class _Batch:
    """What is known of the window at work."""

    number: int
    cues: Cues
    ring: Ring
    background: Tensor | None
    unseen: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    paths: dict[tuple[int, int], TokenPaths] = field(default_factory=dict)
    queries: dict[Site, tuple[Tensor, Tensor]] = field(default_factory=dict)  # of the source: q, k [S N, heads, L, d]
    tokens: dict[int, Tensor] = field(default_factory=dict)  # by block: unit tokens of the source [S N, h w, C]


class _Work:
    """One run of `Fresco` over the windows of a clip. Only the window at work is in memory."""

    def __init__(
        self,
        part: Fresco,
        switches: Switches,
        model: LatentDiffusion,
        cues: Callable[[tuple[int, ...]], Cues],
        text: Tensor,
    ) -> None:
        self.part, self.switches, self.cues, self.text = part, switches, cues, text
        self.model = model
        self.plain = replace(model, controlnets=(), control_scale=())  # the reference pass knows no control
        self.batch: _Batch | None = None
        self.recording = False

    def latents(self, x: Tensor, state: State, when: When) -> Tensor:
        """Before the first call of a window: measure it, and record the source's attention and features."""
        if when == "before" and (self.batch is None or self.batch.number != state.window):
            self.batch = self._measured(state)
            self._record(state)
        return x

    def _measured(self, state: State) -> _Batch:
        cues = self.cues(state.frames)
        near = ring(cues.frames, cues.forward, cues.backward)
        still = None
        if self.part.background and cues.foreground is not None:
            still = background_map(cues.foreground, growth=self.switches.saliency_growth)
        return _Batch(number=state.window, cues=cues, ring=near, background=still)

    def _record(self, state: State) -> None:
        """One pass of the network over the source at the last noise level, without any of what FRESCO does."""
        batch = self._now
        noisy = add_noise(batch.cues.latents, batch.cues.level, batch.cues.noise)
        self.recording = True
        try:
            with during(state):
                denoise = self.plain.denoiser(self.text, guidance=batch.cues.guidance)
                denoise(noisy, batch.cues.level)
        finally:
            self.recording = False

    @property
    def _now(self) -> _Batch:
        assert self.batch is not None, "the loop calls `latents` first"
        return self.batch

    def attend(self, q: Tensor, k: Tensor, v: Tensor, site: Site, state: State) -> Tensor | None:
        """FRESCO-guided attention of [S, N, heads, L, d], or None while the source is recorded."""
        batch = self._now
        flat = [one.flatten(0, 1) for one in (q, k, v)]
        every = self.part.attention == "all"
        if self.recording:
            if every:
                batch.queries[site] = (flat[0], flat[1])
            return None
        now = self._active(state)
        if not now.spatial:
            batch.queries.clear()  # their time is over
        size = site.height, site.width
        if size not in batch.unseen:
            batch.unseen[size] = unseen_tokens(batch.ring.seen_backward, *size)
        paths = None
        if every and now.temporal and q.shape[1] > 1:
            if size not in batch.paths:
                batch.paths[size] = token_paths(batch.cues.frames, batch.ring.backward, batch.ring.seen_backward, size)
            paths = batch.paths[size]
        out = guided(
            *flat,
            reference=batch.queries[site] if every and now.spatial else None,
            unseen=batch.unseen[size],
            paths=paths,
            spatial_temperature=self.switches.spatial_temperature,
            temporal_temperature=self.switches.temporal_temperature,
        )
        return state.split(out)

    def features(self, h: Tensor, site: Site, state: State) -> Tensor:
        """Decoder features [S, N, C, h, w], optimised while it is their time."""
        batch, flat = self._now, h.flatten(0, 1)
        if min(flat.shape[-2:]) < _LEAST:
            return h
        if self.recording:
            if self.switches.spatial_weight > 0:
                batch.tokens[site.index] = unit_tokens(flat.float())
            return h
        if not self._active(state).optimise:
            return h
        source = batch.tokens.get(site.index)
        found = optimised(flat, batch.ring, source, switches=self.switches, background=batch.background)
        return state.split(found)

    def denoised(self, x0: Tensor, eps: Tensor, state: State) -> Tensor:
        """The clean estimate [N, C, h, w], the background of its picture smoothed along the flow in the steps for that."""
        del eps
        batch = self._now
        if batch.background is None or not self._active(state).background:
            return x0
        pictures = self.model.decode(x0)
        smooth = smooth_pictures(pictures, batch.ring, batch.background, growth=self.switches.occlusion_growth)
        draw = batch.cues.draw
        return self.model.encode(smooth.clamp(0.0, 1.0), draw and draw(state.step + 1)).to(x0)

    def _active(self, state: State) -> Active:
        assert isinstance(state, LoopState)
        first = state.at.index - state.step
        return active(self.switches, state.at.index, num_steps=state.at.count, first=first, t=state.at.t.t)
