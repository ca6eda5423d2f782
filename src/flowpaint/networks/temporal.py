"""What makes an image network one of video: attention to the first and the previous frame, and attention along time.

FlowVid (Liang et al., CVPR 2024), section 4.1; the layers are those of Tune-A-Video (Wu et al., ICCV 2023), section 3.2.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError

Position = Literal["sinusoidal", "none"]

FRAMES = "num_frames"  # of a clip: its name on the way from the network to its blocks


def look_back(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What each frame finds in the first and the previous one: [S, T, heads, L, d], for q, k, v of that shape.

    The keys of frame i are those of frame 0, then those of frame i - 1; frame i does not see itself. FlowVid, Eq. 3.
    """
    streams, num_frames = q.shape[:2]

    def found(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)).unflatten(
            0, (streams, -1)
        )
        return out

    # Frames 0 and 1 would see frame 0 twice: equal keys twice leave the mean that softmax weighs as it is.
    near = min(num_frames, 2)
    begun = found(q[:, :near], *(one[:, :1].expand(-1, near, -1, -1, -1) for one in (k, v)))
    if num_frames == near:
        return begun
    pairs = (torch.cat((one[:, :1].expand(-1, num_frames - 2, -1, -1, -1), one[:, 1:-1]), dim=3) for one in (k, v))
    return torch.cat((begun, found(q[:, 2:], *pairs)), dim=1)


class FirstAndPrevious:
    """Self-attention of a transformer block whose keys and values are those of the first and the previous frame.

    A processor of diffusers without fields: it reads `num_frames` of the attention that calls it. One frame alone gives what the
    stock self-attention gives, bit by bit.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # noqa: ARG002 - as processors are called
    ) -> Tensor:
        """Tokens [S * T, L, C] of tokens [S * T, L, C]. Raises `ConfigError` for a mask, or tokens of another kind to look at."""
        if encoder_hidden_states is not None or attention_mask is not None:
            raise ConfigError("Attention between frames takes no attention_mask and no other tokens. Leave them out.")

        def heads(projected: Tensor) -> Tensor:
            split: Tensor = projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2).unflatten(0, (-1, attn.num_frames))
            return split

        q, k, v = (heads(project(hidden_states)) for project in (attn.to_q, attn.to_k, attn.to_v))
        seen = look_back(q, k, v).flatten(0, 1).transpose(1, 2).flatten(2)
        out: Tensor = attn.to_out[1](attn.to_out[0](seen))
        return out


def frame_positions(num_frames: int, width: int) -> Tensor:
    """Sines and cosines [T, C], float32, by which a network tells frames 0..T-1 apart (Vaswani et al., 2017, section 3.5)."""
    rates = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(num_frames)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width]


class TemporalAttention(nn.Module):
    """Self-attention of every place over all frames of a clip, added to what comes in; before training it adds zero.

    `width` channels, `heads` heads; where the frames are is told by sines added behind the norm, or not at all.
    """

    def __init__(self, width: int, heads: int, position: Position) -> None:
        super().__init__()
        self.heads, self.position = heads, position
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = nn.Linear(width, width)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, tokens: Tensor, num_frames: int) -> Tensor:
        """Tokens [S * T, L, C] of tokens [S * T, L, C], for clips of T = `num_frames` frames."""
        length = tokens.shape[1]
        seen = self.norm(tokens).unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(0, 1)  # [S * L, T, C]
        if self.position == "sinusoidal":
            seen = seen + frame_positions(num_frames, tokens.shape[2]).to(seen)
        q, k, v = (to(seen).unflatten(-1, (self.heads, -1)).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        told: Tensor = self.to_out(mixed).unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)
        return tokens + told


def lay_time_in(block: Any, position: Position) -> None:
    """Give a transformer block of diffusers attention to the first and the previous frame, and attention along time at its end.

    For good: the block must be its caller's own. It is then told `num_frames` among its `cross_attention_kwargs`.
    """
    block.attn1.set_processor(FirstAndPrevious())
    block.temporal = TemporalAttention(block.attn1.query_dim, block.attn1.heads, position)
    block.register_forward_pre_hook(_receive, with_kwargs=True)
    block.register_forward_hook(_mix)


# The number of frames travels as an argument and is laid down only when a block begins: a block that is computed again for its
# gradients (checkpointing) gets the same arguments, whatever the network has run since.
def _receive(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = next(one for one in (*args, *kwargs.values()) if isinstance(one, dict) and FRAMES in one)
    rest = {name: value for name, value in given.items() if name != FRAMES}  # processors complain of what they do not know
    block.num_frames = block.attn1.num_frames = given[FRAMES]
    return tuple(rest if one is given else one for one in args), {
        name: rest if one is given else one for name, one in kwargs.items()
    }


def _mix(block: Any, _args: tuple[Any, ...], output: Tensor) -> Tensor:
    mixed: Tensor = block.temporal(output, block.num_frames)
    return mixed
