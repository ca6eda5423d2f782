"""Wan with VACE: a video transformer that repairs the masked part of a control video (Jiang et al., ICCV 2025).

`WanVace` is the model, `VaceRepairer` FlowVid's idea on it: the warped pictures are the control video, what they do not show is
its mask, the edited pictures are references.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, ShapeError
from ..hints import GRAY, Hinted, Repaired
from ..seams import Run, default
from ..types import Edit, check_shape
from ..weights import warn as warn_of_weights
from . import wan
from .flow_matching import FlowSchedule, FlowSolverName, FlowUniPC
from .hooked import alone
from .levels import Level
from .loading import Place, Source
from .memory import Pad, bring, enough_memory
from .plans import one_window
from .sampling import Denoise, sample_frames
from .shortcuts import Shortcuts

Fill: TypeAlias = Literal["gray", "control"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STRIDE = 4  # frames in a latent frame; the first one has a single frame
_REFERENCES = -100  # streams of randomness of reference pictures, downwards: no frame's noise has them


@dataclass(frozen=True, kw_only=True)
class WanVace:
    """A video model of the family of Wan 2.1 with VACE.

    `weights` is a public name or a folder that diffusers saved. `control_scale` weighs what the control video says. `tile` lets
    pictures be encoded and decoded in tiles, `offload` keeps networks on the CPU while they rest. The autoencoder works in
    float32 whatever `dtype` is, and latents are float32 outside.
    Pictures are padded inside to whole patches; T frames become (T - 1) / 4 + 1 latent frames. Raises `ConfigError` for values
    outside their range; weights are read when first needed.
    """

    weights: str = ""
    control_scale: float = 1.0
    tile: bool = False
    offload: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype cannot be {self.dtype!r}. Choose one of {', '.join(_DTYPES)}.")
        if not math.isfinite(self.control_scale):
            raise ConfigError(f"control_scale cannot be {self.control_scale}. Give a number, such as 1.")

    # -------------------------------------------------------------------------------------------------------------- verbs

    def encode(self, frames: Tensor) -> Tensor:
        """Latents [n, C, h, w], float32, of a video [T, 3, H, W] in [0, 1], any size, T = 4 n - 3: the mode of the posterior."""
        check_shape(frames=(frames, "T 3 H W"))
        whole = self.length(len(frames))
        if whole != len(frames):
            raise ShapeError(f"A video of {len(frames)} frames has no whole latents. Repeat its end up to {whole}.")
        pad = self.pad(*frames.shape[-2:])
        network: Any = wan.vae(self._source, self._place(frames.device, "float32"))
        with torch.no_grad(), alone(network), self._memory("encoding", frames.shape):
            self._ready(network, frames.device)
            seen = pad.pad(frames.float()) * 2 - 1
            mean = network.encode(seen.transpose(0, 1)[None]).latent_dist.mean[0].float().transpose(0, 1)
            middle, spread = self._statistics(mean)
            found: Tensor = (mean - middle) / spread
            return found

    def decode(self, latents: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """The video [4 n - 3, 3, H, W] in [0, 1], float32, of latents [n, C, h, w]; `size` is (H, W) of the frames encoded."""
        check_shape(latents=(latents, "T C h w"))
        height, width = (side * self.cell for side in latents.shape[-2:])
        pad = self.pad(*(size or (height, width)))
        pad.check(height, width)
        network: Any = wan.vae(self._source, self._place(latents.device, "float32"))
        shape = (_STRIDE * (len(latents) - 1) + 1, 3, height, width)
        with torch.no_grad(), alone(network), self._memory("decoding", shape):
            self._ready(network, latents.device)
            middle, spread = self._statistics(latents.float())
            plain = (latents.float() * spread + middle).transpose(0, 1)[None]
            video = network.decode(plain, return_dict=False)[0][0].float().transpose(0, 1)
            return pad.unpad((video / 2 + 0.5).clamp(0.0, 1.0))

    def embed(self, edit: Edit, device: str | torch.device = "cpu", *, warn: Callable[[str], None] = warn_of_weights) -> Tensor:
        """The words of `edit` as [2, 512, D] in the network's type, row 0 its negative prompt, zeros after the words. What is too
        long is cut off, and `warn` is told what."""
        place = replace(self._place(device), home=False)
        with enough_memory("reading the prompt", 1, True, self.offload):
            return wan.embedded(self._source, place, (edit.negative, edit.prompt), warn)

    def conditions(self, video: Tensor, mask: Tensor, references: Tensor) -> Tensor:
        """What VACE is told, [A + n, 2 C + cell^2, h, w], float32, for a control `video` [T, 3, H, W] in [0, 1], T = 4 n - 3.

        `mask` [T, 1, H, W] is 1 where the model paints, `references` [A, 3, H, W] in [0, 1] show what it should look like. The
        channels are the latents of what is kept, gray elsewhere; of what is painted over, gray elsewhere; and the mask's pixels
        of each cell. References stand before the video, the last one first, as things that are kept (section 3.2).
        """
        check_shape(video=(video, "T 3 H W"), mask=(mask, "T 1 H W"), references=(references, "A 3 H W"))
        painted = mask > 0.5
        gray = torch.full_like(video, GRAY)
        kept, changed = (self.encode(torch.where(where, video, gray)) for where in (~painted, painted))
        folded = F.pixel_unshuffle(self.pad(*mask.shape[-2:]).pad(painted.float()), self.cell)
        # each latent frame takes the mask of the frame in its middle: the nearest of as many even parts of the whole time
        middle = [int((place + 0.5) * len(mask) / len(kept)) for place in range(len(kept))]
        told = torch.cat((kept, changed, folded[middle]), dim=1)
        first = [self._reference(one, told) for one in references.flip(0)]
        return torch.cat((*first, told))

    def denoiser(self, text: Tensor, conditions: Tensor, *, guidance: float = 5.0) -> Denoise:
        """denoise(x, level) -> x0 for `text` from `embed` and `conditions`, on whose device it works.

        x and x0 are latents [A + n, C, h, w], float32, references included. At guidance 1 only the prompt's row is run.
        """
        check_shape(text=(text, "2 L D"), conditions=(conditions, "T C h w"))
        network = wan.transformer(self._source, self._place(conditions.device))
        return _Denoiser(network, self, text, conditions, guidance)

    # -------------------------------------------------------------------------------------------------------------- facts

    def check(self) -> None:
        """Raises what a run would raise later: weights or parts that are missing, damaged, or of another model."""
        _ = self.schedule

    @property
    def schedule(self) -> FlowSchedule:
        """The noise levels that the model was trained with: plain values."""
        return wan.schedule(self._source)

    @property
    def cell(self) -> int:
        """Pixels on a side of a latent's cell: 8 in the published models."""
        return wan.cell(self._source)

    @property
    def side(self) -> int:
        """The short side in pixels of the videos that Wan's smaller models are meant for; no config says it."""
        return 480

    @property
    def multiple(self) -> int:
        """What the sides of padded pictures are multiples of: the transformer's patches, 16 in the published models."""
        return self.cell * wan.patch(self._source)

    def pad(self, height: int, width: int) -> Pad:
        """How frames of `height` x `width` are padded before they are encoded."""
        return Pad.to_multiple(self.multiple, height, width)

    def length(self, num_frames: int) -> int:
        """The number of frames, at least `num_frames`, that makes whole latent frames: 1, 5, 9 ..."""
        return _STRIDE * math.ceil((num_frames - 1) / _STRIDE) + 1

    # ------------------------------------------------------------------------------------------------------------ networks

    @property
    def _source(self) -> Source:
        return wan.source(self.weights)

    def _place(self, device: str | torch.device, dtype: str = "") -> Place:
        try:
            found = torch.empty(0, device=device).device  # "cuda" is "cuda:0", or whichever is chosen
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"There is no device {str(device)!r} here. Choose another, as in `--device cpu`.") from error
        return Place(device=found, dtype=_DTYPES[dtype or self.dtype], home=self.offload and found.type != "cpu")

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel of the autoencoder's latents, [C, 1, 1]."""
        network: Any = wan.vae(self._source, self._place(like.device, "float32"))
        mean, spread = (like.new_tensor(one)[:, None, None] for one in (network.config.latents_mean, network.config.latents_std))
        return mean, spread

    def _reference(self, picture: Tensor, told: Tensor) -> Tensor:
        latent = self.encode(picture[None])
        return torch.cat((latent, latent.new_zeros(1, told.shape[1] - latent.shape[1], *latent.shape[-2:])), dim=1)

    def _ready(self, network: Any, device: torch.device) -> None:
        network.use_tiling = self.tile  # another recipe may have left it otherwise: networks are shared
        if self.offload:
            bring(device, network)

    def _memory(self, verb: str, shape: tuple[int, ...]) -> AbstractContextManager[None]:
        doing = f"{verb} {shape[0]} frames of {shape[-1]}x{shape[-2]}"
        return enough_memory(doing, shape[0], self.tile, self.offload, together=True)


@dataclass(frozen=True, slots=True, eq=False)
class _Denoiser:
    network: nn.Module
    model: WanVace
    text: Tensor
    conditions: Tensor
    guidance: float

    def __call__(self, x: Tensor, t: Level) -> Tensor:
        """The denoised estimate of `x` [T, C, h, w] at `t`."""
        check_shape(x=(x, "T C h w"), conditions=(self.conditions, "T D h w"))
        shape = (_STRIDE * (len(x) - 1) + 1, 3, *(side * self.model.cell for side in x.shape[-2:]))
        with torch.no_grad(), alone(self.network), self.model._memory("denoising", shape):
            if self.model.offload:
                bring(x.device, self.network)
            velocity = self._velocity(x, t, self.text[1])
            if self.guidance != 1.0:  # one after the other: a video fills the memory by itself
                without = self._velocity(x, t, self.text[0])
                velocity = without + self.guidance * (velocity - without)
            return x.float() - t.sigma * velocity

    def _velocity(self, x: Tensor, t: Level, words: Tensor) -> Tensor:
        network: Any = self.network
        dtype = _DTYPES[self.model.dtype]
        scale = torch.full((len(network.config.vace_layers),), self.model.control_scale, device=x.device, dtype=dtype)
        said: Tensor = network(
            hidden_states=x.transpose(0, 1)[None].to(dtype),
            timestep=torch.tensor([int(t.t)], device=x.device),
            encoder_hidden_states=words[None].to(x.device, dtype),
            control_hidden_states=self.conditions.transpose(0, 1)[None].to(x.device, dtype),
            control_hidden_states_scale=scale,
            return_dict=False,
        )[0]
        return said[0].float().transpose(0, 1)


@dataclass(frozen=True, kw_only=True)
class VaceRepairer:
    """FlowVid's hints for Wan with VACE: a `Repairer` of whole windows.

    `num_steps` of the `solver` ("unipc", with which Wan's models come, or "euler") are run from noise, under classifier-free
    `guidance` (1: none). `shift` is that of the noise levels (None: the model's own, made for 480 pixels; 5 is Wan's advice for
    720). Where nothing of the edited pictures is seen the control video is gray, or with `fill` "control" it shows the
    control map there, which VACE was trained to follow, too: from the share `control_from` of the steps to `control_until`.
    The model hears the same words for a whole window: those of its first frame. Raises `ConfigError` and `InputError` for values
    outside their range.
    """

    model: WanVace = default("model", "wan-vace")
    num_steps: int = 30
    guidance: float = 5.0
    solver: FlowSolverName = "unipc"
    shift: float | None = None
    fill: Fill = "gray"
    control_from: float = 0.0
    control_until: float = 1.0

    def __post_init__(self) -> None:
        _ = self._shown
        for name, known in (("solver", ("unipc", "euler")), ("fill", ("gray", "control"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"The {name} {getattr(self, name)!r} is not known. Choose one of {', '.join(known)}.")
        if not math.isfinite(self.guidance):
            raise ConfigError(f"The guidance cannot be {self.guidance}. Give a number, such as 5.")
        self._solver(FlowSchedule(shift=1.0 if self.shift is None else self.shift))

    def check(self) -> None:
        """Raises what a run would raise later, for weights and steps that cannot be had."""
        self.model.check()
        self._solver(self.model.schedule)

    @torch.no_grad()
    def __call__(self, told: Hinted, run: Run) -> Repaired:
        """The repaired pictures of a window, of any length and size; equal seeds of `run` and equal frames give equal pictures.

        Frame 0 is painted anew like the others. Raises `ConfigError` for "control" without exactly one control map.
        """
        count, device = len(told.warped), told.warped.device
        text = self.model.embed(self._words(told, run), device, warn=run.notes.warn)
        rows = [min(row, count - 1) for row in range(self.model.length(count))]  # the last frame stands still

        @cache
        def denoise(fill: Fill) -> Denoise:
            filled = torch.where(told.mask > 0.5, self._filling(told, fill), told.warped)
            conditions = self.model.conditions(filled[rows], told.mask[rows], told.anchors)
            return self.model.denoiser(text, conditions, guidance=self.guidance)

        solver = self._solver(self.model.schedule)
        noise = self._noise(told, run)
        latents = sample_frames(
            lambda state: denoise(self.fill if self._shown.controlled(state) else "gray"),
            noise,
            solver.times,
            one_window(len(noise)),
            run=run,
            solver=solver if self.solver == "unipc" else None,
        )
        pictures = self.model.decode(latents[len(told.anchors) :], (told.warped.shape[-2], told.warped.shape[-1]))
        return Repaired(pictures=pictures[:count])

    @property
    def _shown(self) -> Shortcuts:
        return Shortcuts(control_from=self.control_from, control_until=self.control_until)

    def _solver(self, schedule: FlowSchedule) -> FlowUniPC:
        shifted = schedule if self.shift is None else replace(schedule, shift=self.shift)
        solver = FlowUniPC(schedule=shifted, num_steps=self.num_steps)
        _ = solver.times  # raises for steps that cannot be taken
        return solver

    def _words(self, told: Hinted, run: Run) -> Edit:
        first = told.edits[0]
        if any((one.prompt, one.negative) != (first.prompt, first.negative) for one in told.edits):
            run.notes.warn(
                f"The words change within frames {told.frames[0]} to {told.frames[-1]}, of which the video model hears one text: "
                f"{first.prompt!r}. Take shorter windows, or edit the parts apart."
            )
        return first

    def _filling(self, told: Hinted, fill: Fill) -> Tensor:
        if fill == "gray":
            return torch.full_like(told.warped, GRAY)
        if len(told.controls) != 1:
            raise ConfigError(
                f"There are {len(told.controls)} control maps, and VACE shows one where nothing else is seen. "
                "Give one condition, as in `--control depth`, or set fill=gray."
            )
        check_shape(warped=(told.warped, "T 3 H W"), control=(told.controls[0], "T 3 H W"))
        return told.controls[0].to(told.warped)

    def _noise(self, told: Hinted, run: Run) -> Tensor:
        """Noise [A + n, C, h, w], drawn on the CPU: a latent frame's hangs on the number of the first frame in it alone."""
        pad, cell = self.model.pad(*told.warped.shape[-2:]), self.model.cell
        size = wan.channels(self.model._source), (pad.height + pad.below) // cell, (pad.width + pad.right) // cell
        start, places = run.offset + told.frames[0], range((self.model.length(len(told.frames)) - 1) // _STRIDE + 1)
        frames = [run.offset + told.frames[max(0, _STRIDE * (place - 1) + 1)] for place in places]
        draws = [run.generator(start, _REFERENCES - place) for place in reversed(range(len(told.anchors)))]
        draws += [run.generator(frame) for frame in frames]
        return torch.stack([torch.randn(size, generator=one) for one in draws]).to(told.warped.device)
