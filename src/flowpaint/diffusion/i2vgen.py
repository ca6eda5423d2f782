"""I2VGen-XL: a video UNet that begins with a given picture (Zhang et al., arXiv:2311.04145), led by a ControlNet through a
Ctrl-Adapter (Lin et al., ICLR 2025)."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, WeightsError
from ..seams import build
from ..types import Edit, check_shape
from ..weights import I2VGEN_XL, model_folder
from ..weights import warn as warn_of_weights
from .denoising import rescaled
from .hooked import State, alone, current
from .i2vgen_networks import adapter, adapter_file, image_encoder, unet
from .levels import Level, Schedule, to_x0
from .loading import Place, Source, config, read_config
from .memory import Pad, bring, enough_memory
from .shortcuts import Shortcuts
from .text import embedded

if TYPE_CHECKING:
    from .model import LatentDiffusion

_CLASS = "I2VGenXLUNet"
_NO_SHORTCUTS = Shortcuts()
_EARLY = 1  # layers of the text encoder that are left out at its end: so it was trained


@dataclass(frozen=True, kw_only=True)
class I2vgenXl:
    """The model in the folder `weights`, or of that public name, as diffusers saves it.

    `batch`, `tile`, `offload`, `dtype` are those of `LatentDiffusion`; all frames of a clip go through the UNet together. `fps`
    is the rate that the network is told. Raises `ConfigError` for values outside their range; weights are read when first needed.
    """

    weights: str = ""
    fps: int = 16
    batch: int = 8
    tile: bool = False
    offload: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        _ = self._still
        if self.fps < 1:
            raise ConfigError(f"fps cannot be {self.fps}. Give a number of frames a second, such as 16.")

    # -------------------------------------------------------------------------------------------------------------- verbs

    def encode(self, frames: Tensor) -> Tensor:
        """Latents [T, C, h, w], float32, of frames [T, 3, H, W] in [0, 1], any size: the mode of the posterior."""
        _ = self._source
        return self._still.encode(frames)

    def decode(self, latents: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Frames [T, 3, H, W] in [0, 1], float32, of latents [T, C, h, w]; `size` (H, W) is that of the frames encoded."""
        return self._still.decode(latents, size)

    def embed(self, edit: Edit, device: str | torch.device = "cpu", *, warn: Callable[[str], None] = warn_of_weights) -> Tensor:
        """The words of `edit` as [2, L, D] in the network's type, row 0 its negative prompt. What is too long is cut off, and
        `warn` is told what."""
        place = replace(self._place(device), home=False)
        with enough_memory("reading the prompt", 2, True, self.offload):
            return embedded(self._source, place, (), (edit.negative, edit.prompt), warn, skip=_EARLY)

    def see(self, picture: Tensor) -> Tensor:
        """What CLIP sees in the middle square of `picture` [3, H, W] in [0, 1]: [1, D], in the network's type."""
        check_shape(picture=(picture, "3 H W"))
        place, told = self._place(picture.device), read_config(self._source.path / "feature_extractor/preprocessor_config.json")
        network: Any = image_encoder(self._source, place)
        side = int(network.config.image_size)
        short = min(picture.shape[-2:])
        top, left = ((length - short) // 2 for length in picture.shape[-2:])
        middle = picture[None, :, top : top + short, left : left + short]
        seen = F.interpolate(middle, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        mean, spread = (picture.new_tensor(told[name])[None, :, None, None] for name in ("image_mean", "image_std"))
        with torch.no_grad(), alone(network):
            if self.offload:
                bring(picture.device, network)
            found: Tensor = network(((seen - mean) / spread).to(place.dtype)).image_embeds
            return found

    def denoiser(
        self,
        text: Tensor,
        first: Tensor,
        image: Tensor,
        *,
        guidance: float = 9.0,
        rescale: float = 0.0,
        control: "Control | None" = None,
    ) -> "I2vgenDenoiser":
        """denoise(x, level) -> x0 for `text` from `embed`; x and x0 are latents [T, C, h, w], float32, of a whole clip.

        `first` [1, C, h, w] are the latents of its first frame, on whose device it works, `image` is what `see` said of it.
        `control` says more through a ControlNet. At guidance 1 only the prompt's row is run.
        """
        check_shape(text=(text, "2 L D"), first=(first, "1 C h w"), image=(image, "1 E"))
        network = unet(self._source, self._place(first.device))
        return I2vgenDenoiser(network, self, (text, first, image), (guidance, rescale), control)

    # -------------------------------------------------------------------------------------------------------------- facts

    def check(self) -> None:
        """Raises what a run would raise later: weights or parts that are missing, damaged, or of another model."""
        _ = self.schedule

    @property
    def schedule(self) -> Schedule:
        """The noise levels that the model was trained with, and what it predicts: plain values."""
        _ = self._source
        return self._still.schedule

    @property
    def cell(self) -> int:
        """Pixels on a side of a latent's cell: 8 in the published model."""
        return self._still.cell

    @property
    def side(self) -> int:
        """The short side in pixels at which its Ctrl-Adapters were trained; no config says it."""
        return 512

    def pad(self, height: int, width: int) -> Pad:
        """How frames of `height` x `width` are padded before they are encoded."""
        return self._still.pad(height, width)

    # ------------------------------------------------------------------------------------------------------------ networks

    @property
    def _still(self) -> "LatentDiffusion":
        """The autoencoder, which is that of an image model."""
        how: Any = {"batch": self.batch, "tile": self.tile, "offload": self.offload, "dtype": self.dtype}
        found: LatentDiffusion = build("model", "stable-diffusion", weights=self.weights, own_control=False, **how)
        return found

    @property
    def _source(self) -> Source:
        if not self.weights:
            raise WeightsError("No video model was chosen. Give a name or a folder, as in `--set model.weights=/path`.")
        folder = model_folder(self.weights, I2VGEN_XL, setting="model.weights")
        found = Source(path=folder, shape=folder)
        kind = config(found, "unet").get("_class_name")
        if kind != _CLASS:
            raise ConfigError(f"The UNet of {self.weights} is a {kind}. Choose a model with {_CLASS}.")
        return found

    def _place(self, device: str | torch.device) -> Place:
        found = torch.empty(0, device=device).device
        return Place(device=found, dtype=getattr(torch, self.dtype), home=self.offload and found.type != "cpu")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Control:
    """Maps that lead the clip: `maps` [T, 3, H, W] in [0, 1], shown to the one ControlNet of `model` under its `text` [2, L, D],
    translated for the video UNet by the Ctrl-Adapter in `adapter` (a file, or a folder), in the steps that `shortcuts` allow."""

    model: "LatentDiffusion"
    adapter: str
    maps: Tensor
    text: Tensor
    shortcuts: Shortcuts = _NO_SHORTCUTS

    def check(self) -> None:
        """Raises `WeightsError` for an adapter or a ControlNet that is not there, `ConfigError` for another number of them."""
        self.model.check()
        if len(self.model.controlnets) != 1:
            raise ConfigError(
                f"There are {len(self.model.controlnets)} ControlNets for one Ctrl-Adapter. Give one, by `control.controlnets`."
            )
        adapter_file(self.adapter)


@dataclass(frozen=True, slots=True, eq=False)
class I2vgenDenoiser:
    """See `I2vgenXl.denoiser`."""

    network: nn.Module
    model: I2vgenXl
    told: tuple[Tensor, Tensor, Tensor]  # words, latents of the first frame, what CLIP sees in it
    pull: tuple[float, float]  # guidance, and how much of its gain is taken back
    control: Control | None

    def __call__(self, x: Tensor, t: Level) -> Tensor:
        """The denoised estimate of `x` [T, C, h, w] at `t`."""
        check_shape(x=(x, "T C h w"), first=(self.told[1], "1 C h w"))
        guidance, rescale = self.pull
        kept = slice(1, None) if guidance == 1.0 else slice(None)
        doing = f"denoising {len(x)} frames of {x.shape[-1] * self.model.cell}x{x.shape[-2] * self.model.cell}"
        with torch.no_grad(), enough_memory(doing, len(x), self.model.tile, self.model.offload, together=True):
            rows = self._rows(x, t, kept)
        said = rows[-1]
        if len(rows) == 2:
            said = rows[0] + guidance * (rows[1] - rows[0])
            if rescale:
                said = rescaled(said, rows[1], rescale)
        return to_x0(said, x.float(), t, self.model.schedule.prediction)

    def _rows(self, x: Tensor, t: Level, kept: slice) -> Tensor:
        """What the network says without the prompt and with it, [2 or 1, T, C, h, w], float32."""
        dtype = getattr(torch, self.model.dtype)
        text, first, image = self.told
        words = text[kept].to(x.device, dtype)
        rows, time = len(words), torch.tensor(round(t.t), device=x.device)
        clip = x.to(dtype).transpose(0, 1)[None].expand(rows, -1, -1, -1, -1)
        seen = torch.stack((torch.zeros_like(image), image))[kept].to(x.device, dtype)
        residuals = self._residuals(x, time, kept, current())
        network: Any = self.network
        with alone(network):
            if self.model.offload:
                bring(x.device, network)
            with residuals:
                said: Tensor = network(
                    clip,
                    time,
                    fps=torch.full((rows,), self.model.fps, device=x.device),
                    image_latents=begun(first, len(x)).to(dtype).expand(rows, -1, -1, -1, -1),
                    image_embeddings=seen,
                    encoder_hidden_states=words,
                    return_dict=False,
                )[0]
        return said.float().transpose(1, 2)

    def _residuals(self, x: Tensor, time: Tensor, kept: slice, state: State) -> Any:
        """A context in which the network is told what the ControlNet says; of nothing where it says nothing now."""
        control = self.control
        if control is None or not control.shortcuts.controlled(state):
            return nullcontext()
        from ..networks.ctrl_adapter import told

        ((network, scale),) = control.model.controls(x.device)
        if scale == 0:
            return nullcontext()
        said = self._seen(network, scale, x, time, kept)
        place = self.model._place(x.device)
        translator = adapter(adapter_file(control.adapter), place)
        if tuple(one.shape[1] for one in said) != translator.channels:
            raise ConfigError(
                f"The Ctrl-Adapter was made for residuals of {translator.channels} channels, the ControlNet gives "
                f"{tuple(one.shape[1] for one in said)}. Choose one that was made for it."
            )
        with alone(translator):
            if self.model.offload:
                bring(x.device, translator)
            image = self.told[2][None].to(x.device, place.dtype)  # of the picture in both rows, as it was trained
            return told(self.network, translator([one.to(place.dtype) for one in said], time, image, len(x)))

    def _seen(self, network: Any, scale: float, x: Tensor, time: Tensor, kept: slice) -> list[Tensor]:
        """The ControlNet's residuals [S T, C, h, w], the middle one last."""
        control = self.control
        assert control is not None, "it is asked for its residuals"
        words = control.text[kept]
        maps = self.model.pad(*control.maps.shape[-2:]).pad(control.maps).to(x.device, network.dtype)
        check_shape(x=(x, "T C h w"), maps=(maps, "T 3 H W"))
        with alone(network):
            if control.model.offload:
                bring(x.device, network)
            skips, middle = network(
                x.to(network.dtype).repeat(len(words), 1, 1, 1),
                time,
                encoder_hidden_states=words.to(x.device, network.dtype).repeat_interleave(len(x), dim=0),
                controlnet_cond=maps.repeat(len(words), 1, 1, 1),
                conditioning_scale=scale,
                return_dict=False,
            )
        return [*skips, middle]


def begun(first: Tensor, num_frames: int) -> Tensor:
    """What the network reads beside the latents, [1, C, T, h, w]: `first` [1, C, h, w], then a plane of k / (T - 1) for each
    later frame k."""
    shares = torch.linspace(0.0, 1.0, num_frames, device=first.device)[1:, None, None, None].expand(-1, *first.shape[1:])
    return torch.cat((first, shares.to(first))).transpose(0, 1)[None]
