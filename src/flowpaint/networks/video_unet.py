"""FlowVid's network: any UNet of Stable Diffusion 1.x or 2.x inflated to clips (Liang et al., CVPR 2024, section 4.1)."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn

from ..errors import ConfigError, ShapeError
from .temporal import FRAMES, Position, lay_time_in

_KNOWN = {"CrossAttnDownBlock2D", "DownBlock2D", "UNetMidBlock2DCrossAttn", "UNetMidBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
_Stock: Any = UNet2DConditionModel  # diffusers' own types do not say that it is a module
_Init = TypeVar("_Init", bound=Callable[..., None])


class WidenedConv(nn.Conv2d):
    """A convolution that reads `joined` more channels behind its own, with weights of their own, zero before training.

    The sum of both is one convolution of all channels; kept apart, zero weights change not a bit of what the old ones give.
    """

    def __init__(self, channels: int, joined: int, width: int, kernel: int) -> None:
        super().__init__(channels, width, kernel, padding=kernel // 2)
        self.more = nn.Conv2d(joined, width, kernel, padding=kernel // 2, bias=False)
        nn.init.zeros_(self.more.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width, h, w] of x [N, channels + joined, h, w]."""
        added: Tensor = self.more(x[:, self.in_channels :])
        return super().forward(x[:, : self.in_channels]) + added


def _also_of_the_stock(init: _Init) -> _Init:
    """`init`, whose signature names the arguments of the stock network too: from it diffusers reads what a config may hold."""
    own, stock = (inspect.signature(one).parameters.values() for one in (init, UNet2DConditionModel.__init__))
    named = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in stock if one.name != "self"]
    init.__signature__ = inspect.Signature([*named, *more])  # type: ignore[attr-defined]
    return init


class VideoUNet(_Stock):  # type: ignore[misc]
    """A stock UNet with layers put in between, so that the frames of a clip see each other; its blocks are the stock ones.

    Every self-attention looks at the first and the previous frame, every transformer block ends with an attention along time,
    convolutions stay within a frame, and the first one reads `in_channels` channels, of which the stock UNet knows the first
    `image_channels`: in order z_t, the latent of the warped first frame, that of the first frame, the mask. The stock tensors
    keep their names and their values; with the new ones at zero, one frame gives what the stock UNet gives, bit by bit.
    `position` tells the attention along time where the frames are, of which "sinusoidal" tells at most `max_frames` apart.

    Its config is the stock UNet's with these fields beside, so what asks a UNet's config for widths or sizes may ask this one.
    Processors that others lay over `attn1` (diffusers' own, or those of hooks) replace the look at the other frames.
    Raises `ConfigError` for kinds of blocks that it does not know.
    """

    binds_frames: ClassVar[bool] = True  # all frames of a clip must go through together, and their number be told

    @_also_of_the_stock
    def __init__(self, *, image_channels: int = 4, position: Position = "sinusoidal", max_frames: int = 32, **stock: Any) -> None:
        super().__init__(**stock)
        self.register_to_config(image_channels=image_channels, position=position, max_frames=max_frames)
        self._check()
        joined = self.config.in_channels - image_channels
        width, kernel = self.config.block_out_channels[0], self.config.conv_in_kernel
        self.conv_in = WidenedConv(image_channels, joined, width, kernel)
        for block in [one for one in self.modules() if isinstance(one, BasicTransformerBlock)]:
            lay_time_in(block, position)

    def _check(self) -> None:
        config = self.config
        kinds = {*config.down_block_types, *config.up_block_types, config.mid_block_type} - {None}
        if kinds - _KNOWN:
            raise ConfigError(f"Blocks of kind {sorted(kinds - _KNOWN)[0]} cannot be inflated. Choose a UNet of SD 1.x or 2.x.")
        only = config.only_cross_attention
        only = any(only) if isinstance(only, list | tuple) else only
        if config.dual_cross_attention or config.mid_block_only_cross_attention or only:
            raise ConfigError("A UNet with dual or only cross-attention cannot be inflated. Choose a UNet of SD 1.x or 2.x.")
        if config.position not in ("sinusoidal", "none"):
            raise ConfigError(f"position cannot be {config.position!r}. Choose 'sinusoidal' or 'none'.")
        if not 0 < config.image_channels < config.in_channels:
            raise ConfigError(
                f"Of {config.in_channels} channels {config.image_channels} cannot be the image's. Give some, but not all."
            )

    @classmethod
    def inflated(
        cls, unet: UNet2DConditionModel, *, joined: int = 0, position: Position = "sinusoidal", max_frames: int = 32
    ) -> "VideoUNet":
        """The network of the stock `unet`: a copy of its weights with new layers, in its type, on its device, in its mode.

        `joined` channels are read beside the latents; 0: twice the latents' and one. Raises `ConfigError` for a UNet that
        cannot be inflated, or has adapters in it.
        """
        stock: Any = unet
        config = _plain(stock)
        channels = config["in_channels"]
        config["in_channels"] += joined or 2 * config["out_channels"] + 1
        network = cls(**config, image_channels=channels, position=position, max_frames=max_frames)
        told = network.load_state_dict(stock.state_dict(), strict=False)
        odd = {*told.unexpected_keys, *(set(told.missing_keys) - network.new_names)}
        if odd:
            raise ConfigError(
                f"The UNet is not as its config says: see {sorted(odd)[0]}. Take LoRAs and adapters out before inflating it."
            )
        return _placed(network, stock)

    # ----------------------------------------------------------------------------------------------------------- what is new

    @property
    def new_names(self) -> frozenset[str]:
        """The names of the tensors that the stock UNet does not have."""
        return frozenset(name for name in self.state_dict() if name.startswith("conv_in.more.") or ".temporal." in name)

    # --------------------------------------------------------------------------------------------------------------- running

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        *,
        num_frames: int = 0,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        return_dict: bool = True,
        **more: Any,
    ) -> UNet2DConditionOutput | tuple[Tensor]:
        """What the network predicts for `sample`, without the channels joined to it, in the same layout.

        `sample` [B, T, in_channels, h, w], or [B * T, in_channels, h, w] with `num_frames` T: clips one after another (as
        streams of guidance are), which never mix. `timestep` one number, or one for each clip or row; `encoder_hidden_states`
        [B, L, D], [B * T, L, D] or [B, T, L, D]. All else, a ControlNet's residuals among it, is as in the stock network, with
        B * T rows. Raises `ShapeError` where the number of frames is not told or does not fit, `ConfigError` for too many.
        """
        split = sample.ndim == 5
        frames = sample.shape[1] if split else num_frames
        rows = sample.flatten(0, 1) if split else sample
        if frames < 1 or len(rows) % frames or (split and num_frames not in (0, frames)):
            raise ShapeError(
                f"A sample {tuple(sample.shape)} is no clips of {num_frames} frames. Give [B, T, C, h, w], or num_frames."
            )
        if self.config.position != "none" and frames > self.config.max_frames:
            raise ConfigError(f"A clip has {frames} frames, the network tells {self.config.max_frames} apart. Give fewer.")
        text = encoder_hidden_states
        told = {
            "timestep": _for_rows(timestep, frames, len(rows)) if isinstance(timestep, Tensor) else timestep,
            "encoder_hidden_states": text.flatten(0, 1) if text.ndim == 4 else _for_rows(text, frames, len(rows)),
            "cross_attention_kwargs": {**(cross_attention_kwargs or {}), FRAMES: frames},
        }
        out: Tensor = super().forward(rows, **told, **more, return_dict=False)[0]
        out = out.unflatten(0, (-1, frames)) if split else out
        return UNet2DConditionOutput(sample=out) if return_dict else (out,)


def _for_rows(told: Tensor, num_frames: int, num_rows: int) -> Tensor:
    """What is told of each clip, told of each of its frames."""
    clips = told.ndim > 0 and len(told) * num_frames == num_rows
    return told.repeat_interleave(num_frames, dim=0) if clips else told


def widened(controlnet: ControlNetModel, channels: int) -> ControlNetModel:
    """A stock ControlNet that reads `channels` channels, with the weights of `controlnet` and zero for the new channels.

    It stays an image network, which runs on the frames as rows (FlowVid, section 4.1). Raises `ConfigError` for fewer channels.
    """
    cls: Any = ControlNetModel
    known: Any = controlnet
    config = _plain(known)
    before = config["in_channels"]
    if channels < before:
        raise ConfigError(f"A ControlNet of {before} channels cannot be widened to {channels}. Give {before} or more.")
    wide = cls(**{**config, "in_channels": channels})
    state = known.state_dict()
    weight = state["conv_in.weight"]
    grown = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    grown[:, :before] = weight
    wide.load_state_dict({**state, "conv_in.weight": grown})
    placed: ControlNetModel = _placed(wide, known)
    return placed


def _plain(network: Any) -> dict[str, Any]:
    """The arguments that a network of diffusers was made with."""
    return {name: value for name, value in dict(network.config).items() if not name.startswith("_")}


_Network = TypeVar("_Network")


def _placed(network: _Network, like: Any) -> _Network:
    """`network` in the type, on the device and in the mode of `like`."""
    made: Any = network
    nn.Module.to(made, device=like.device, dtype=like.dtype)  # diffusers' own warns of layers kept in float32, of which are none
    made.train(like.training)
    return network
