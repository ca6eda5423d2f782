"""FRESCO: zero-shot translation bound to correspondence within and between frames (Yang et al., CVPR 2024)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Literal

import torch
from torch import Tensor

from ..carry import finished
from ..diffusion.denoising import Denoiser
from ..diffusion.hooked import hooked
from ..diffusion.levels import Level, add_noise
from ..diffusion.model import LatentDiffusion
from ..diffusion.plans import anchor_chain
from ..diffusion.sampling import LoopState, frame_noise, sample_frames
from ..diffusion.translate import (
    Conditions,
    SolverChoice,
    check_translation,
    fitted,
    source_frames,
    walk,
    with_control,
    within_memory,
    working_size,
)
from ..enlarge import enlarge
from ..errors import ConfigError, InputError
from ..plan import Placing, by_difference, difference
from ..seams import Consistency, FlowEstimator, Propagator, Run, Segmenter, default
from ..types import Clip, Cues, Edit, from_raw, to_raw
from ..warp import resize
from . import keys

_LEAST = 3  # frames of a window: two to hold on to and a new one
_LEAST_SIDE = 128  # pixels, below which the deepest features have no statistics
_TAIL = 3  # new frames of a last window, where they fit
_ENCODINGS = -2  # streams of randomness of encodings, downwards: no frame's noise has them
_COMPARED_SIDE = 512  # short side at which neighbours are compared to place key frames


@dataclass(frozen=True, kw_only=True)
class Fresco:
    """Key frames translated together by an image model, then carried to every frame.

    Key frames lie `shortest` to `longest` frames apart, where the picture changes most (`placing`: `plan.by_difference`).
    `window` of them are denoised at once, later windows behind the first frame of all and the last of the window before.
    Pictures are denoised at a short side of `side` pixels (0: that of the model's training) and enlarged by the source's own
    detail. `num_steps` times `strength` steps of `solver` are run from the noised source; 1 starts from noise alone. ControlNets
    see `control`; `diffusion.translate.with_control` says which do.

    Frames start from the same noise, or with `noise` "per_frame" each from its own. Three more switches follow the released
    code where the paper differs, or the other way round: `shared_noise` draws the noise of a step for all frames at once (the
    paper), `posterior` "sample" encodes by lot and `placing` "official" places key frames as it does (the code).
    """

    model: LatentDiffusion = default("model", "stable-diffusion")
    control: Conditions = field(default=(), metadata={"kind": "condition"})
    flow: FlowEstimator = default("flow", "dis")
    saliency: Segmenter | None = default("segmenter", "motion")
    consistency: Consistency = default("consistency", "fresco")
    propagate: Propagator = default("propagator", "analogy")
    shortest: int = 5
    longest: int = 20
    placing: Placing = "gaps"
    window: int = 8
    num_steps: int = 20
    strength: float = 0.75
    solver: SolverChoice = "ddpm"
    guidance: float = 7.5
    side: int = 0
    noise: Literal["shared", "per_frame"] = "shared"
    shared_noise: bool = False
    posterior: Literal["mode", "sample"] = "mode"

    def __post_init__(self) -> None:
        if self.window < _LEAST or 0 < self.side < _LEAST_SIDE:
            raise ConfigError(
                f"Windows of {self.window} frames at {self.side} pixels cannot be translated. "
                f"Give {_LEAST} or more, and 0 or {_LEAST_SIDE} and more."
            )

    def check(self) -> None:
        """Raises what a run would raise later for steps, gaps, weights and ControlNets that cannot be or are not there."""
        by_difference([0.0], shortest=self.shortest, longest=self.longest, placing=self.placing)
        check_translation(self.model, self.control, self.solver, self.num_steps, self.strength)

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy: key frames are translated when the first frame is asked for.

        Raises `InputError` without words, `WeightsError` without a model, `ResourceError` for too little memory.
        """
        if not edit.words(0).strip():
            raise InputError("FRESCO needs words that say what the video should show. Give a prompt.")
        self.check()
        model, control = with_control(self.model, self.control)
        fitting = replace(self, control=control)._within(model, clip, run)
        differences = self._differences(clip, run)
        chosen = by_difference(differences, shortest=self.shortest, longest=self.longest, placing=self.placing)
        translated = Translation(fitting, clip, [key.index for key in chosen], edit, run)
        return self.propagate(clip, keys.Keys(clip, edit, translated.chosen, translated.picture), edit, run)

    def _within(self, model: LatentDiffusion, clip: Clip, run: Run) -> "Fresco":
        """This method with `model` and windows that fit into the model's limit of memory, where it has one."""
        size = working_size(model, clip.height, clip.width, self.side)
        fitting, window = within_memory(model, size, self.window, least=_LEAST, run=run)
        return replace(self, model=fitting, window=window)

    def _differences(self, clip: Clip, run: Run) -> list[float]:
        """How much each frame differs from the one before; 0 for the first."""
        found, before = [], None
        scale = min(1.0, _COMPARED_SIDE / min(clip.height, clip.width))
        size = max(1, round(clip.height * scale)), max(1, round(clip.width * scale))
        for index in range(len(clip)):
            small = resize(clip.frame(index)[None], *size)
            found.append(0.0 if before is None else difference(small, before).item())
            before = small
            run.progress("plan", index + 1, len(clip))
        return found


class Translation:
    """The key frames `chosen` of one clip, translated the first time that one is asked for. They are kept in the run's store.

    Inside, frames count among the key frames: 0 is the first of `chosen`.
    """

    def __init__(self, method: Fresco, clip: Clip, chosen: list[int], edit: Edit, run: Run) -> None:
        self.method, self.clip, self.chosen, self.edit, self.run = method, clip, chosen, edit, run
        self.size = working_size(method.model, clip.height, clip.width, method.side)
        self.control = [fitted(one, clip, chosen, self.size, run.device) for one in method.control]
        self.source = lru_cache(maxsize=1)(self._source)  # flow, controls and features of a window look at the same frames
        self.controls = lru_cache(maxsize=1)(self._controls)

    def picture(self, index: int) -> Tensor:
        """Key frame `index` of the clip, translated, at the clip's size: [3, H, W] in [0, 1]."""
        kept = self.run.store.get(self._name(index))
        if kept is None:
            self._translate()
            kept = self.run.store.get(self._name(index))
            assert kept is not None, "it was stored just now"
        source = self.clip.frame(index)
        large = enlarge(resize(source[None], *self.size)[0], from_raw(kept["picture"]), source)
        return finished(large, source, self.edit)

    def _name(self, index: int) -> str:
        return f"fresco {self.run.offset + index}"

    def _source(self, frames: tuple[int, ...]) -> Tensor:
        return source_frames(self.clip, [self.chosen[frame] for frame in frames], self.size, self.run.device)

    def _controls(self, frames: tuple[int, ...]) -> tuple[Tensor, ...]:
        return tuple(condition(self.source(frames)) for condition in self.control)

    @torch.no_grad()
    def _translate(self) -> None:
        """Denoise all key frames, window by window, and store their pictures."""
        method, model, run = self.method, self.method.model, self.run
        steps = walk(model.schedule, method.solver, method.num_steps, method.strength)
        text = self._text()
        parts = self._batches(1 if method.posterior == "sample" else 0)  # draws must not hang on the size of a batch
        encoded = torch.cat([model.encode(self.source(part), self._draw(part[0])) for part in parts])
        noise = frame_noise(run, range(len(self.chosen)), encoded, shared=method.noise == "shared")
        start = add_noise(encoded, steps.times[0].t, noise) if method.strength < 1 else noise
        cues = partial(self._cues, encoded, noise, steps.times[-1].t)
        hooks = method.consistency(model, cues, text)
        key, plan = f"fresco {run.offset}", anchor_chain(len(self.chosen), method.window, tail=_TAIL)
        with hooked(model, hooks, device=run.device):
            latents = sample_frames(
                partial(self._denoiser, text),
                start,
                steps.times,
                plan,
                run=run,
                eta=steps.eta,
                solver=steps.solver,
                hooks=hooks,
                shared_noise=method.shared_noise,
                key=key,
            )
        self._keep(latents)
        for number in range(len(plan.windows)):  # the pictures are stored
            run.store.drop(f"{key}-window-{number}")

    def _text(self) -> Tensor:
        """The words, one row for all key frames where they do not change: [2, L, D] or [2, N, L, D]."""
        edits = [self.edit.at(index) for index in self.chosen] if self.edit.prompts else self.edit
        return self.method.model.embed(edits, self.run.device, warn=self.run.notes.warn)

    def _denoiser(self, text: Tensor, state: LoopState) -> Denoiser:
        frames = state.frames
        words = text if text.ndim == 3 else text[:, list(frames)]
        return self.method.model.denoiser(words, self.controls(frames), guidance=self.method.guidance, frames=frames)

    def _cues(self, encoded: Tensor, noise: Tensor, level: Level, frames: tuple[int, ...]) -> Cues:
        """The cues of the window `frames`, in their order, compared in a ring: last to first."""
        method, chosen = self.method, self.source(frames)
        flow = method.flow(chosen, chosen.roll(-1, dims=0))
        back = flow.reverse if flow.reverse is not None else method.flow(chosen.roll(-1, dims=0), chosen).vectors
        return Cues(
            frames=chosen,
            forward=flow.vectors,
            backward=back,
            foreground=None if method.saliency is None else method.saliency(chosen),
            latents=encoded[list(frames)],
            noise=noise[list(frames)],
            level=level,
            guidance=method.guidance,
            draw=partial(self._draw, frames[0]),
        )

    def _keep(self, latents: Tensor) -> None:
        """Decode the key frames and store them."""
        for part in self._batches():
            pictures = self.method.model.decode(latents[list(part)], self.size)
            for frame, picture in zip(part, pictures, strict=True):
                self.run.store.put(self._name(self.chosen[frame]), {"picture": to_raw(picture, self.clip.bits)})

    def _batches(self, size: int = 0) -> Iterator[tuple[int, ...]]:
        """All key frames, `size` at a time; 0: as many as the model takes."""
        size = size or self.method.model.batch or self.method.window
        return (tuple(range(start, min(start + size, len(self.chosen)))) for start in range(0, len(self.chosen), size))

    def _draw(self, frame: int, step: int = 0) -> torch.Generator | None:
        """The randomness of an encoding at `step` of the loop, 0 before it; None where it is not drawn by lot."""
        return self.run.generator(_ENCODINGS - frame, step) if self.method.posterior == "sample" else None
