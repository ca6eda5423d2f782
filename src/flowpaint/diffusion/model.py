"""`LatentDiffusion`: autoencoder, denoiser and text encoder behind four verbs (Rombach et al., CVPR 2022)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..types import Edit, check_shape
from ..weights import warn as warn_of_weights
from . import loading
from .compiling import COMPILED, Compiled, check_compiled
from .denoising import Conditions, Denoiser, Networks, SourceStream
from .freeu import FreeU
from .hooked import alone
from .levels import Schedule
from .loading import Place, Source
from .lora import Loras, chosen_loras
from .lora_check import check_loras
from .memory import Pad, Size, affordable, bring, enough_memory, num_bytes
from .shortcuts import Shortcuts
from .text import embedded

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_NO_SHORTCUTS = Shortcuts()


@dataclass(frozen=True, kw_only=True)
class LatentDiffusion:
    """A model of the families of Stable Diffusion 1.x and 2.x.

    `weights` is a public name, a folder that diffusers saved, or one `.safetensors` file; beside such a file `shape` names the
    folder of its configs and tokenizer (default: the folder of the file's name, else the public one of its family).
    `controlnets` and `lora` are names or files, each with a scale (default 1); `own_control` lets the ControlNet in the model's
    own folder be used unasked; `freeu` is (b1, b2, s1, s2), see `lay_freeu`.
    `batch` frames go through a network at once (0: all; frames that look at each other always go together), `tile` decodes in
    tiles, `offload` keeps networks on the CPU while they rest; `limit` ("8GB") leaves these three to `within`. Latents are
    float32 outside, whatever `dtype` is.
    `compiled` runs the UNet and its ControlNets through torch.compile, "graphs" as CUDA graphs too, which takes minutes once; in
    steps in which a strategy has hooks in the UNet, it runs as it is. `channels_last` lays out weights as convolutions in half
    precision on a GPU like them.
    Pictures are padded inside to multiples of `multiple`. Raises `ConfigError` for values outside their range; weights are read
    when first needed.
    """

    weights: str = ""
    shape: str = ""
    controlnets: tuple[str, ...] = ()
    own_control: bool = True
    control_scale: tuple[float, ...] = ()
    lora: tuple[str, ...] = ()
    lora_scale: tuple[float, ...] = ()
    freeu: FreeU | None = None
    batch: int = 8
    tile: bool = False
    offload: bool = False
    limit: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    multiple: int = 8
    compiled: Compiled = "none"
    channels_last: bool = False

    def __post_init__(self) -> None:
        for names, scales in (("controlnets", "control_scale"), ("lora", "lora_scale")):
            known, given = len(getattr(self, names)), len(getattr(self, scales))
            if given not in (0, known):
                raise ConfigError(f"{scales} has {given} values for {known} {names}. Give one for each, or none.")
        if self.batch < 0:
            raise ConfigError(f"batch cannot be {self.batch}. Give the number of frames, or 0 for all.")
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype cannot be {self.dtype!r}. Choose one of {', '.join(_DTYPES)}.")
        if self.limit:
            num_bytes(self.limit)
        if self.compiled not in COMPILED:
            raise ConfigError(f"compiled cannot be {self.compiled!r}. Choose one of {', '.join(COMPILED)}.")
        if self.compiled != "none" and self.offload:
            raise ConfigError("Compiled networks cannot rest on the CPU. Set model.compiled=none, or do without offload.")
        if self.multiple < 8 or self.multiple % 8:
            raise ConfigError(f"multiple cannot be {self.multiple}. Give 8, 64 or another multiple of 8.")

    # -------------------------------------------------------------------------------------------------------------- verbs

    def encode(self, frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents [T, C, h, w], float32, of frames [T, 3, H, W] in [0, 1], any size: h and w are those of the padded frames.

        The mode of the posterior, or with a `generator` (on the CPU) a sample of it.
        """
        check_shape(frames=(frames, "T 3 H W"))
        pad = self.pad(*frames.shape[-2:])
        network: Any = self._vae(frames.device)
        with torch.no_grad(), alone(network), self._memory("encoding", frames.shape):
            self._ready(network, frames.device)
            parts = []
            for part in frames.split(self._pictures(len(frames))):
                seen = (pad.pad(part.float()) * 2 - 1).to(network.dtype)
                found = network.encode(seen).latent_dist
                parts.append(torch.stack((found.mean.float(), found.std.float())))
            mean, deviation = torch.cat(parts, dim=1)
            if generator is not None:  # drawn in one piece on the CPU: neither batch nor device change it
                mean = mean + deviation * torch.randn(mean.shape, generator=generator).to(mean.device)
            latents: Tensor = (mean - (network.config.shift_factor or 0.0)) * network.config.scaling_factor
            return latents

    def decode(self, latents: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Frames [T, 3, H, W] in [0, 1], float32, of latents [T, C, h, w]; `size` (H, W) is that of the frames encoded."""
        check_shape(latents=(latents, "T C h w"))
        height, width = (side * self.cell for side in latents.shape[-2:])
        pad = self.pad(*(size or (height, width)))
        pad.check(height, width)
        network: Any = self._vae(latents.device)
        with torch.no_grad(), alone(network), self._memory("decoding", (len(latents), 3, height, width)):
            self._ready(network, latents.device)
            parts = []
            for part in latents.split(self._pictures(len(latents))):
                plain = part.float() / network.config.scaling_factor + (network.config.shift_factor or 0.0)
                picture = network.decode(plain.to(network.dtype), return_dict=False)[0].float()
                parts.append(pad.unpad((picture / 2 + 0.5).clamp(0.0, 1.0)))
            return torch.cat(parts)

    def embed(
        self,
        edit: Edit | Sequence[Edit],
        device: str | torch.device = "cpu",
        *,
        warn: Callable[[str], None] = warn_of_weights,
    ) -> Tensor:
        """The words of `edit` as [2, L, D] in the network's type, row 0 its negative prompt; of several edits, one a frame,
        [2, T, L, D]. What is too long is cut off, and `warn` is told what."""
        edits = [edit] if isinstance(edit, Edit) else list(edit)
        prompts = (*(one.negative for one in edits), *(one.prompt for one in edits))
        self._check_loras(warn)
        place = replace(self._place(device), home=False)
        with self._memory("reading the prompt", (len(prompts),)):
            rows: Tensor = embedded(self._source, place, self._loras, prompts, warn).unflatten(0, (2, len(edits)))
        return rows[:, 0] if isinstance(edit, Edit) else rows

    def denoiser(
        self,
        text: Tensor,
        controls: Sequence[Tensor] = (),
        *,
        concat: Tensor | None = None,
        image: Tensor | None = None,
        guidance: float = 7.5,
        rescale: float = 0.0,
        source: SourceStream | None = None,
        frames: Sequence[int] = (),
        shortcuts: Shortcuts = _NO_SHORTCUTS,
    ) -> Denoiser:
        """denoise(x, t) -> x0 for `text` from `embed`, on whose device it works: see `Conditions` for what it may be told.

        Raises `ConfigError` for conditions that the networks do not take.
        """
        device = text.device
        check_compiled(self.compiled, device)
        networks = Networks(
            unet=self.unet(device),
            controlnets=self.controls(device),
            schedule=self.schedule,
            dtype=_DTYPES[self.dtype],
            cell=self.cell,
            batch=self.batch,
            multiple=self.multiple,
            offload=self.offload,
            compiled=self.compiled,
        )
        told = Conditions(
            text=text,
            controls=controls,
            concat=concat,
            image=image,
            guidance=guidance,
            rescale=rescale,
            source=source,
            frames=tuple(frames),
            shortcuts=shortcuts,
        )
        return Denoiser(networks, told)

    # -------------------------------------------------------------------------------------------------------------- facts

    @property
    def schedule(self) -> Schedule:
        """The noise levels that the model was trained with, and what it predicts: plain values."""
        return loading.schedule(self._source)

    @property
    def cell(self) -> int:
        """Pixels on a side of a latent's cell: 8 in the published models."""
        return int(2 ** (len(self._config("vae")["block_out_channels"]) - 1))

    @property
    def side(self) -> int:
        """The short side in pixels of the pictures that it was trained on: 512 where its config does not say."""
        return int(self._config("unet").get("sample_size") or 64) * self.cell

    @property
    def channels(self) -> int:
        """Channels of a latent: 4 in the published models."""
        return int(self._config("unet").get("out_channels", 4))

    @property
    def binds_frames(self) -> bool:
        """Its network is one of clips: it sees the frames of a window together, and reads hints beside latents (FlowVid's)."""
        return loading.is_video(self._source)

    def pad(self, height: int, width: int) -> Pad:
        """How frames of `height` x `width` are padded before they are encoded."""
        return Pad.to_multiple(max(self.multiple, self.cell), height, width)

    def latent_shape(self, frames: Tensor) -> tuple[int, int, int, int]:
        """The shape [T, C, h, w] of the latents of frames [T, 3, H, W]."""
        pad = self.pad(*frames.shape[-2:])
        sides = (pad.height + pad.below) // self.cell, (pad.width + pad.right) // self.cell
        return (len(frames), self.channels, *sides)

    def unet(self, device: str | torch.device = "cpu") -> nn.Module:
        """The network that denoises, as `denoiser` and `hooked` use it. It is shared: change it through `hooked` alone."""
        self._check_loras()
        return loading.unet(self._source, self._place(device), self._loras, self.freeu)

    def controls(self, device: str | torch.device = "cpu") -> tuple[tuple[nn.Module, float], ...]:
        """The ControlNets with their scales. They are shared, as is the UNet."""
        scales, place = self.control_scale or (1.0,) * len(self.controlnets), self._place(device)
        found = (loading.controlnet(name, self._source, place) for name in self.controlnets)
        return tuple(zip(found, scales, strict=True))

    def check(self) -> None:
        """Raises what a run would raise later: weights, parts, ControlNets or LoRAs that are missing or do not fit.

        Nothing large is kept.
        """
        self._check_loras()
        loading.check_changes(self._source)
        loading.check_controlnets(self.controlnets, self._source)
        _ = self.schedule

    @property
    def own_controlnet(self) -> str:
        """The ControlNet that lies in the model's own folder, or "" where there is none or it is not wanted."""
        return loading.own_controlnet(self._source) if self.own_control else ""

    def public_controlnet(self, kind: str) -> str | None:
        """The name of the published ControlNet of the model's family that sees maps of `kind` ("canny"); None without one."""
        return loading.public_controlnet(self._source, kind)

    def within(self, height: int, width: int, *, together: bool = False) -> "LatentDiffusion":
        """This model with the batch, tiling and offload that its limit allows for frames of `height` x `width`.

        With `together`, a batch is of frames that a strategy of consistency binds, which takes more. Raises `ResourceError`
        where not even one frame fits.
        """
        if not self.limit:
            return self
        size = Size(height, width, num_controlnets=len(self.controlnets), half=self.dtype != "float32", together=together)
        batch, tile, offload = affordable(num_bytes(self.limit), size)
        return replace(self, limit="", batch=batch, tile=tile or self.tile, offload=offload or self.offload)

    # ------------------------------------------------------------------------------------------------------------ networks

    @property
    def _source(self) -> Source:
        return loading.source(self.weights, self.shape)

    @property
    def _loras(self) -> Loras:
        return chosen_loras(self.lora, self.lora_scale)

    def _check_loras(self, warn: Callable[[str], None] = warn_of_weights) -> None:
        for sentence in check_loras(self._loras, self._source):
            warn(sentence)

    def _config(self, part: str) -> dict[str, Any]:
        return loading.config(self._source, part)

    def _place(self, device: str | torch.device) -> Place:
        try:
            found = torch.empty(0, device=device).device  # "cuda" is "cuda:0", or whichever is chosen
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"There is no device {str(device)!r} here. Choose another, as in `--device cpu`.") from error
        home = self.offload and found.type != "cpu"
        return Place(device=found, dtype=_DTYPES[self.dtype], home=home, channels_last=self.channels_last)

    def _vae(self, device: torch.device) -> nn.Module:
        place = self._place(device)
        if self._config("vae").get("force_upcast", False) and self.dtype == "float16" and self._overflows:
            place = replace(place, dtype=torch.float32)
        return loading.vae(self._source, place)

    @property
    def _overflows(self) -> bool:
        """The autoencoder leaves float16's range. That of SD 1.x and 2.x (scale 0.18215) does not, though its config says so."""
        return abs(float(self._config("vae").get("scaling_factor", 0.18215)) - 0.18215) > 1e-4

    def _pictures(self, count: int) -> int:
        """How many of `count` pictures the autoencoder takes at once: each holds as much as three frames in the UNet."""
        return max(1, self.batch // 3) if self.batch else count

    def _ready(self, network: Any, device: torch.device) -> None:
        network.use_tiling = self.tile  # another recipe may have left it otherwise: networks are shared
        if self.offload:
            bring(device, network)

    def _memory(self, verb: str, shape: Sequence[int]) -> AbstractContextManager[None]:
        size = min(self._pictures(shape[0]), shape[0])
        what = f"{verb} {size} frames of {shape[-1]}x{shape[-2]}" if len(shape) == 4 else verb
        return enough_memory(what, self.batch or size, self.tile, self.offload)
