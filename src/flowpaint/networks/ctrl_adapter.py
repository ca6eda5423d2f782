"""Ctrl-Adapter: what an image model's ControlNet says, made fit for a video network (Lin et al., ICLR 2025, arXiv:2404.09967).

One adapter stands behind each of the ControlNet's residuals: a residual layer and a transformer of each frame, each followed by
one along time, blended by a learned weight. Weights are one file of tensors, by these names, as they are published (k counts the
residuals from 0 on, `mid_block_adapter` is that of the middle, b counts its blocks):

    down_blocks_adapter.{k}.resnet_time_embedding.linear_{1,2}        norm  proj_in  proj_out
    down_blocks_adapter.{k}.transformer_time_embedding.linear_{1,2}
    down_blocks_adapter.{k}.{spatial,temporal}_resnets.{b}            as ResnetBlock2D, TemporalResnetBlock of diffusers
    down_blocks_adapter.{k}.{spatial,temporal}_attentions.{b}         as (Temporal)BasicTransformerBlock of diffusers
    down_blocks_adapter.{k}.{resnets,transformers}_time_mixer.{b}.mix_factor

Nothing else is needed: the sizes of all layers follow from these tensors.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import AlphaBlender, ResnetBlock2D, TemporalResnetBlock
from torch import Tensor, nn

from ..errors import ConfigError, WeightsError
from ..types import check_shape
from ..weights import read_state

_HEAD = 64  # channels of a head of attention, where there are so many
_DOWN, _MID = "down_blocks_adapter", "mid_block_adapter"


class Adapter(nn.Module):
    """The adapter of one residual of `channels`, with transformers `inner` wide that look at tokens `cross` wide, in `blocks`."""

    def __init__(self, channels: int, inner: int, cross: int, blocks: int = 1) -> None:
        super().__init__()
        heads, head = max(1, channels // _HEAD), min(_HEAD, channels)
        layer: Any = {"in_channels": channels, "out_channels": channels, "temb_channels": channels, "eps": 1e-6}
        sight: Any = {"num_attention_heads": heads, "attention_head_dim": head, "cross_attention_dim": cross}
        self.resnet_time_proj = Timesteps(channels, True, downscale_freq_shift=0)
        self.resnet_time_embedding = TimestepEmbedding(channels, channels)
        self.transformer_time_proj = Timesteps(channels, True, downscale_freq_shift=0)
        self.transformer_time_embedding = TimestepEmbedding(channels, inner)
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.spatial_resnets = nn.ModuleList(ResnetBlock2D(**layer, use_in_shortcut=True) for _ in range(blocks))
        self.temporal_resnets = nn.ModuleList(TemporalResnetBlock(**layer) for _ in range(blocks))
        self.spatial_attentions = nn.ModuleList(BasicTransformerBlock(inner, **sight) for _ in range(blocks))
        self.temporal_attentions = nn.ModuleList(TemporalBasicTransformerBlock(inner, inner, **sight) for _ in range(blocks))
        self.resnets_time_mixer = nn.ModuleList(AlphaBlender(0.5, "learned") for _ in range(blocks))
        self.transformers_time_mixer = nn.ModuleList(AlphaBlender(0.5, "learned") for _ in range(blocks))

    def forward(self, x: Tensor, t: Tensor, image: Tensor, num_frames: int) -> Tensor:
        """What the video network is told, [S T, C, h, w], of a residual `x` [S T, C, h, w] of S clips of T = `num_frames` frames.

        `t` is the diffusion time, a number in a tensor; `image` [1, L, D] are the tokens that attention looks at.
        """
        when = self.resnet_time_embedding(self.resnet_time_proj(t.reshape(1)).to(x.dtype))
        number = torch.arange(num_frames, device=x.device)
        place = self.transformer_time_embedding(self.transformer_time_proj(number).to(x.dtype))
        for block in range(len(self.spatial_resnets)):
            x = self._layers(x, when, num_frames, block)
            x = x + self._sight(x, place, image.to(x.dtype), block)
        return x

    def _layers(self, x: Tensor, when: Tensor, num_frames: int, block: int) -> Tensor:
        """The residual layers: of each frame, then along time."""
        flat: Tensor = self.spatial_resnets[block](x, when.expand(len(x), -1))
        clip = flat.unflatten(0, (-1, num_frames)).transpose(1, 2)  # [S, C, T, h, w]
        along = self.temporal_resnets[block](clip, when.expand(len(clip), num_frames, -1))
        mixed: Tensor = self.resnets_time_mixer[block](x_spatial=clip, x_temporal=along)
        return mixed.transpose(1, 2).flatten(0, 1)

    def _sight(self, x: Tensor, place: Tensor, image: Tensor, block: int) -> Tensor:
        """What the transformers add: of each frame, then along time, where `place` [T, inner] tells the frames apart."""
        height, width = x.shape[-2:]
        tokens = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))  # [S T, h w, inner]
        flat = self.spatial_attentions[block](tokens, encoder_hidden_states=image.expand(len(x), -1, -1))
        numbered = flat + place.repeat(len(x) // len(place), 1)[:, None]
        seen = image.expand(len(x) // len(place) * height * width, -1, -1)
        along = self.temporal_attentions[block](numbered, num_frames=len(place), encoder_hidden_states=seen)
        mixed: Tensor = self.transformers_time_mixer[block](x_spatial=flat, x_temporal=along)
        told: Tensor = self.proj_out(mixed).transpose(1, 2).unflatten(2, (height, width))
        return told


class CtrlAdapter(nn.Module):
    """Adapters for all residuals of a ControlNet: `channels` of those on the way down, that of the middle one last."""

    def __init__(self, channels: Sequence[int], inner: int, cross: int, blocks: int = 1) -> None:
        super().__init__()
        *down, middle = (Adapter(one, inner, cross, blocks) for one in channels)
        self.down_blocks_adapter, self.mid_block_adapter = nn.ModuleList(down), middle

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each residual, the middle one last."""
        every: list[Any] = [*self.down_blocks_adapter, self.mid_block_adapter]
        return tuple(int(one.norm.num_channels) for one in every)

    def forward(self, residuals: Sequence[Tensor], t: Tensor, image: Tensor, num_frames: int) -> list[Tensor]:
        """What the video network's skips and, at the end, its middle are told: as `residuals`, each [S T, C, h, w]."""
        every = [*self.down_blocks_adapter, self.mid_block_adapter]
        return [one(x, t, image, num_frames) for one, x in zip(every, residuals, strict=True)]

    @classmethod
    def read(cls, path: Path) -> "CtrlAdapter":
        """The adapters in a file of weights, float32. Raises `WeightsError` for one that is no Ctrl-Adapter, or not whole."""
        state = read_state(path)
        try:
            with torch.device("meta"):
                made = cls(**_sizes(state))
            made.load_state_dict(state, strict=True, assign=True)
        except (KeyError, ValueError, RuntimeError) as error:
            told = str(error).strip().splitlines()
            raise WeightsError(
                f"{path} is no whole Ctrl-Adapter with layers of space and time: {' '.join(told[:2])}. Give the file of one."
            ) from error
        return made.float()


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes of the layers of the adapters whose tensors these are."""
    count = len({name.split(".")[1] for name in state if name.startswith(f"{_DOWN}.")})
    places = [*(f"{_DOWN}.{place}" for place in range(count)), _MID]
    first = places[0]
    return {
        "channels": [len(state[f"{one}.norm.weight"]) for one in places],
        "inner": len(state[f"{first}.proj_in.weight"]),
        "cross": state[f"{first}.spatial_attentions.0.attn2.to_k.weight"].shape[1],
        "blocks": len({name.split(".")[3] for name in state if name.startswith(f"{first}.spatial_resnets.")}),
    }


@contextmanager
def told(network: nn.Module, residuals: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the video UNet `network` adds `residuals` [S T, C, h, w] to its skips, the last one to its middle; afterwards,
    after an error too, it is as it was.

    For networks that take no residuals as arguments, such as diffusers' I2VGenXLUNet. Raises `ConfigError` for residuals that are
    not as many as its skips.
    """
    *skips, middle = residuals
    blocks = list(network.get_submodule("up_blocks").children())
    counts = [len(list(block.get_submodule("resnets").children())) for block in blocks]
    if sum(counts) != len(skips):
        raise ConfigError(f"There are {len(skips)} residuals for {sum(counts)} skips. Choose an adapter made for this model.")

    def joining(own: Sequence[Tensor]) -> Any:
        def join(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            given = kwargs["res_hidden_states_tuple"]
            check_shape(skip=(given[0], "B C h w"), residual=(own[0], "B C h w"))
            return args, {**kwargs, "res_hidden_states_tuple": tuple(a + b for a, b in zip(given, own, strict=True))}

        return join

    with ExitStack() as undo:
        end = len(skips)
        for block, count in zip(blocks, counts, strict=True):  # the first block upwards takes the last skips
            hook = joining(skips[end - count : end])
            undo.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)
            end -= count
        mid = network.get_submodule("mid_block")
        undo.callback(mid.register_forward_hook(lambda _module, _args, output: output + middle).remove)
        yield
