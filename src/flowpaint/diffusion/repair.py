"""Two repairers of FlowVid's hints: the network that was trained to, and an image model that was not.

Both see what `flowpaint.hints.Hinted` tells of a window; how they differ is told where they are.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import Tensor, nn

from ..colour import apply_affine, fit_affine
from ..hints import Hinted, Pooling, Repaired, joined, latent_mask
from ..networks.temporal import look_back
from ..seams import Run
from ..types import Edit
from .bound import Pace, denoise_bound, words_of
from .denoising import Denoiser, SourceStream
from .hooked import Hooks, Site, State, hooked, sites
from .levels import Level, Step, add_noise
from .plans import one_window
from .sampling import LoopState, frame_noise, invert, sample_frames
from .translate import walk

if TYPE_CHECKING:
    from .model import LatentDiffusion

Inject: TypeAlias = Literal["none", "noised", "inverted"]
Hint: TypeAlias = Literal["warp", "first", "mask"]

HINTS: tuple[Hint, ...] = ("warp", "first", "mask")


@dataclass(frozen=True, kw_only=True)
class TrainedRepairer:
    """FlowVid's network (`model` has a video UNet), from noise alone, told the hints in channels beside the latents.

    `heard` are the hints that it is told; what is left out is zero, as in its training. `pooling` makes the mask of latents.
    With `inject` queries and keys of the source are put into the decoder's self-attentions in the first `injected` of the steps:
    the source runs as one more stream of the batch, told its own unedited hints and `source_words`, from its latents noised
    ("noised") or inverted with the same network ("inverted"). Only latents are kept for that, a few MB; stored queries and
    keys of Stable Diffusion would be some 400 MB a step.
    """

    model: "LatentDiffusion"
    pace: Pace = Pace()
    heard: tuple[Hint, ...] = HINTS
    pooling: Pooling = "nearest"
    inject: Inject = "none"
    injected: float = 0.5
    source_words: str = ""

    @torch.no_grad()
    def __call__(self, told: Hinted, run: Run) -> Repaired:
        """The repaired pictures and their latents."""
        model, pace = self.model, self.pace
        steps = walk(model.schedule, pace.solver, pace.num_steps, 1.0)
        concat = self._concat(told)
        noise = frame_noise(run, told.frames, concat[:, : model.channels], shared=pace.noise == "shared")
        source = None if self.inject == "none" else self._source(told, noise, steps.times, run)
        denoise = model.denoiser(
            words_of(model, told.edits, run),
            told.controls,
            concat=concat,
            guidance=pace.guidance,
            rescale=pace.rescale,
            source=source,
            shortcuts=pace.shortcuts,
        )
        with ExitStack() as laid:
            if source is not None:
                laid.enter_context(hooked(model, _injecting(model.unet(run.device)), device=run.device))

            def denoiser_of(state: LoopState) -> Denoiser:
                if source is not None and state.step >= source.steps:
                    laid.close()  # a network without hooks may run compiled
                return denoise

            latents = sample_frames(
                denoiser_of, noise, steps.times, one_window(len(noise)), run=run, eta=steps.eta, solver=steps.solver
            )
        return Repaired(pictures=model.decode(latents, _size(told)), latents=latents)

    def _concat(self, told: Hinted) -> Tensor:
        """The hints as channels: [T, 2 C + 1, h, w]."""
        anchors = self.model.encode(told.anchors)
        for number, better in told.latents.items():
            anchors[number] = better.to(anchors)
        mask = latent_mask(self.model.pad(*_size(told)).pad(told.mask), cell=self.model.cell, pooling=self.pooling)
        kept = tuple(float(one in self.heard) for one in HINTS)
        return joined(self.model.encode(told.warped), anchors[list(told.nearest)], mask, kept=kept)

    def _source(self, told: Hinted, noise: Tensor, times: tuple[Step, ...], run: Run) -> SourceStream:
        assert told.plain is not None, "who injects asks for the unedited hints"
        model, concat = self.model, self._concat(told.plain)
        words = model.embed(Edit(prompt=self.source_words), run.device, warn=run.notes.warn)
        encoded = model.encode(told.source)
        at: Callable[[Level], Tensor] = partial(_noised, encoded, noise)
        if self.inject == "inverted":
            found: dict[float, Tensor] = {}
            shortcuts = replace(self.pace.shortcuts, control_until=1.0)  # it begins at the steps that would be left out
            denoise = model.denoiser(words, told.controls, concat=concat, guidance=1.0, shortcuts=shortcuts)
            invert(denoise, encoded, times, on_step=lambda x, step: found.update({step.t.t: x}))
            at = partial(_looked_up, found)
        return SourceStream(latents=at, text=words[1:], steps=round(self.injected * len(times)), concat=concat)


@dataclass(frozen=True, kw_only=True)
class ImageRepairer:
    """A public image model with its ControlNets, without training: what FlowVid's network learnt is put in by hand.

    Every frame looks at the first and the previous one; denoising starts from the warped pictures, noised by `strength`, their
    holes filled by the source in the colours of the edit; where the warp is seen, the clean estimate is held to it in the first
    `held` of the steps, then let go, that what the flow got wrong can be mended.
    """

    model: "LatentDiffusion"
    pace: Pace = Pace()
    strength: float = 0.75
    held: float = 0.5

    @torch.no_grad()
    def __call__(self, told: Hinted, run: Run) -> Repaired:
        """The repaired pictures and their latents."""
        model, pace = self.model, self.pace
        steps = walk(model.schedule, pace.solver, pace.num_steps, self.strength)
        prior = model.encode(self._filled(told))
        if told.nearest[0] in told.latents:  # frame 0 is an anchor itself
            prior[0] = told.latents[told.nearest[0]].to(prior)
        seen = 1 - latent_mask(model.pad(*_size(told)).pad(told.mask), cell=model.cell, pooling="max")
        noise = frame_noise(run, told.frames, prior, shared=pace.noise == "shared")
        start = add_noise(prior, steps.times[0].t, noise) if self.strength < 1 else noise

        def hold(x0: Tensor, _eps: Tensor, state: State) -> Tensor:
            return torch.lerp(x0, prior, seen) if state.step < self.held * state.num_steps else x0

        latents = denoise_bound(
            model,
            start,
            steps,
            text=words_of(model, told.edits, run),
            controls=told.controls,
            pace=pace,
            on_denoised=hold,
            run=run,
        )
        return Repaired(pictures=model.decode(latents, _size(told)), latents=latents)

    def _filled(self, told: Hinted) -> Tensor:
        colours = fit_affine(told.source[0], told.anchors[told.nearest[0]])
        return torch.where(told.mask > 0, apply_affine(told.source, colours).clamp(0.0, 1.0), told.warped)


def _size(told: Hinted) -> tuple[int, int]:
    return told.source.shape[-2], told.source.shape[-1]


def _noised(encoded: Tensor, noise: Tensor, level: Level) -> Tensor:
    return add_noise(encoded, level, noise)


def _looked_up(found: Mapping[float, Tensor], level: Level) -> Tensor:
    return found[level.t]


def _inject(q: Tensor, k: Tensor, v: Tensor, _site: Site, state: State) -> Tensor | None:
    """Queries and keys of the source in every stream (PnP's substitution, as TokenFlow places it)."""
    if state.streams[0] != "source":
        return None
    return look_back(q[:1].expand_as(q), k[:1].expand_as(k), v)


def _injecting(network: nn.Module) -> Hooks:
    """At all self-attentions of the decoder but the first: layers 4 to 11 of Stable Diffusion's (PnP, section 4.2)."""
    decoder = [site for site in sites(network) if site.kind == "attention" and site.stage == "up"]
    chosen = {(site.index, site.layer) for site in decoder[1:]}
    return Hooks(attention=_inject, attention_at=lambda site: site.stage == "up" and (site.index, site.layer) in chosen)
