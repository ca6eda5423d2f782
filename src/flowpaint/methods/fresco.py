"""FRESCO: zero-shot translation bound to correspondence within and between frames (Yang et al., CVPR 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..diffusion.hooked import hooked
from ..diffusion.levels import Step, add_noise, noise_levels
from ..diffusion.model import LatentDiffusion
from ..diffusion.plans import anchor_chain
from ..diffusion.sampling import frame_noise, sample_frames
from ..errors import ConfigError, InputError
from ..plan import by_difference
from ..seams import Consistency, FlowEstimator, Propagator, Run, Segmenter, SpatialCondition, default
from ..types import Clip, Cues, Edit, from_raw, to_raw
from ..warp import resize
from . import keys

_TAIL = 3  # new frames of a last window, where they fit
_BLUR_SIDE = 64  # short side at which neighbours are compared to place key frames


@dataclass(frozen=True, kw_only=True)
class Fresco:
    """Key frames translated together by an image model, then carried to every frame.

    Key frames lie `shortest` to `longest` frames apart, where the picture changes most. `window` of them are denoised at once,
    later windows behind the first frame of all and the last of the window before. Pictures are denoised at a short side of
    `side` pixels. `num_steps` times `strength` steps are run from the noised source; 1 starts from noise alone. All frames
    start from the same noise; with `shared_noise` every step draws one for all, too, as the paper says and the released code
    does not.
    """

    model: LatentDiffusion = default("model", "stable-diffusion")
    control: SpatialCondition | None = default("condition", "softedge")  # for the model's ControlNets, where it has some
    flow: FlowEstimator = default("flow", "dis")
    saliency: Segmenter | None = default("segmenter", "motion")
    consistency: Consistency = default("consistency", "fresco")
    propagate: Propagator = default("propagator", "analogy")
    shortest: int = 5
    longest: int = 20
    window: int = 8
    num_steps: int = 20
    strength: float = 0.75
    guidance: float = 7.5
    side: int = 512
    shared_noise: bool = False

    def __post_init__(self) -> None:
        if self.window < 3 or self.side < 128:
            raise ConfigError(
                f"Windows of {self.window} frames at {self.side} pixels cannot be translated. Give 3 or more, and 128 or more."
            )

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy but for its key frames. Raises `InputError` without words, `WeightsError` without a model."""
        if not edit.prompt.strip():
            raise InputError("FRESCO needs words that say what the video should show. Give a prompt.")
        self.model.check()
        chosen = [key.index for key in by_difference(self._differences(clip, run), shortest=self.shortest, longest=self.longest)]
        pictures = {**self._translated(clip, chosen, edit, run), **(keys.given(clip, edit) if edit.keyframes else {})}
        return self.propagate(clip, pictures, edit, run)

    def _differences(self, clip: Clip, run: Run) -> list[float]:
        """Mean squared difference of each frame and the one before, at a small size; 0 for the first."""
        found, before = [], None
        for index in range(len(clip)):
            frame = clip.frame(index)[None]
            scale = min(1.0, _BLUR_SIDE / min(clip.height, clip.width))
            small = resize(frame, max(1, round(clip.height * scale)), max(1, round(clip.width * scale)))
            found.append(0.0 if before is None else (2 * (small - before)).square().mean().item())
            before = small
            run.progress("plan", index + 1, len(clip))
        return found

    def _translated(self, clip: Clip, chosen: list[int], edit: Edit, run: Run) -> dict[int, Tensor]:
        """The key frames `chosen`, translated: frame to picture [3, H, W] in [0, 1] of the clip's size."""
        kept = [run.store.get(f"fresco {run.offset + index}") for index in chosen]
        if all(one is not None for one in kept):
            return {index: from_raw(one["picture"]) for index, one in zip(chosen, kept, strict=True) if one is not None}
        source = self._source(clip, chosen, run)
        with torch.no_grad():
            text = self.model.embed(edit, run.device, warn=run.notes.warn)
            encoded = self.model.encode(source)
            schedule = replace(self.model.schedule, set_alpha_to_one=True)  # DDPM always lands on the clean picture
            times = noise_levels(self.num_steps, self.strength, schedule=schedule)
            noise = frame_noise(run, range(len(chosen)), encoded, shared=True)
            start = add_noise(encoded, times[0].t, noise) if self.strength < 1 else noise
            controls = self._controls(source)
            cues = _Measure(self, source, encoded, noise, times)
            hooks = self.consistency(self.model, cues, text)
            denoise = self.model.denoiser(text, controls, guidance=self.guidance, frames=range(len(chosen)))
            with hooked(self.model, hooks, device=run.device):
                latents = sample_frames(
                    lambda _: denoise,
                    start,
                    times,
                    anchor_chain(len(chosen), self.window, tail=_TAIL),
                    run=run,
                    eta=1.0,
                    hooks=hooks,
                    shared_noise=self.shared_noise,
                )
            made = self.model.decode(latents, (source.shape[-2], source.shape[-1]))
        found = {}
        for index, picture in zip(chosen, made, strict=True):
            raw = to_raw(resize(picture[None], clip.height, clip.width)[0], clip.bits)
            run.store.put(f"fresco {run.offset + index}", {"picture": raw})
            found[index] = from_raw(raw)
        return found

    def _source(self, clip: Clip, chosen: list[int], run: Run) -> Tensor:
        """The key frames of the source at the size at which they are denoised: [N, 3, h, w]."""
        scale = min(1.0, self.side / min(clip.height, clip.width))
        cell = self.model.cell
        height, width = (max(cell, round(side * scale / cell) * cell) for side in (clip.height, clip.width))
        return torch.cat([resize(clip.frame(index)[None].to(run.device), height, width) for index in chosen])

    def _controls(self, source: Tensor) -> tuple[Tensor, ...]:
        if not self.model.controlnets:
            return ()
        if self.control is None:
            raise ConfigError("The model has a ControlNet and the method no condition. Choose one, as in `--set control=canny`.")
        return (self.control(source),) * len(self.model.controlnets)


@dataclass(frozen=True)
class _Measure:
    """Measures the frames of a window when it comes up."""

    method: Fresco
    source: Tensor
    encoded: Tensor
    noise: Tensor
    times: Sequence[Step]

    def __call__(self, frames: tuple[int, ...]) -> Cues:
        """The cues of `frames`, in their order, compared in a ring: last to first."""
        chosen = self.source[list(frames)]
        flow = self.method.flow(chosen, chosen.roll(-1, dims=0))
        back = flow.reverse if flow.reverse is not None else self.method.flow(chosen.roll(-1, dims=0), chosen).vectors
        saliency = self.method.saliency
        return Cues(
            frames=chosen,
            forward=flow.vectors,
            backward=back,
            foreground=None if saliency is None else saliency(chosen),
            latents=self.encoded[list(frames)],
            noise=self.noise[list(frames)],
            level=self.times[-1].t,
            guidance=self.method.guidance,
        )
