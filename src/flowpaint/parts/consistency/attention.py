"""FRESCO-guided self-attention over projected queries, keys and values: spatial, across frames, along token paths.

All tensors are [S N, heads, L, d]: S streams of N frames of L tokens. Streams never see one another.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...types import check_shape
from .paths import TokenPaths


def guided(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    reference: tuple[Tensor, Tensor] | None = None,
    unseen: Tensor | None = None,
    paths: TokenPaths | None = None,
    spatial_temperature: float = 5.0,
    temporal_temperature: float = 5.0,
) -> Tensor:
    """FRESCO's attention: [S N, heads, L, d], before the output projection (CVPR 2024, section 3.2).

    Each stage is on when its argument is given: `reference`, queries and keys of the source at the same site [S N, heads, L, d];
    `unseen`, bool [N, L], tokens that serve as keys and values for all frames; `paths`. Without any it is plain self-attention;
    N is that of `unseen` or `paths`.
    """
    check_shape(q=(q, "B H L D"), k=(k, "B H L D"), v=(v, "B H L D"))
    query = q
    if reference is not None:
        query = spatial_guided(q, *reference, temperature=spatial_temperature)
    if unseen is None:
        out = F.scaled_dot_product_attention(query, k, v)
    else:
        out = cross_frame(query, k, v, unseen)
    if paths is not None:
        # The raw queries, not the spatially guided ones.
        out = temporal_guided(q, k, out, paths, temperature=temporal_temperature)
    return out


def spatial_guided(q: Tensor, source_q: Tensor, source_k: Tensor, *, temperature: float = 5.0) -> Tensor:
    """Queries averaged as the source's tokens attend to one another: softmax(Qs Ks^T / (temperature sqrt d)) Q, as `q`.

    All [B, heads, L, d]; each row by itself.
    """
    check_shape(q=(q, "B H L D"), source_q=(source_q, "B H L D"), source_k=(source_k, "B H L D"))
    scale = 1.0 / (temperature * math.sqrt(q.shape[-1]))
    return F.scaled_dot_product_attention(source_q, source_k, q, scale=scale)


def cross_frame(q: Tensor, k: Tensor, v: Tensor, unseen: Tensor) -> Tensor:
    """All frames attend to the same tokens, those of `unseen` bool [N, L]: [S N, heads, L, d] as q, k, v.

    One list of keys and values a stream: it is not copied per frame.
    """
    check_shape(q=(q, "B H L D"), k=(k, "B H L D"), v=(v, "B H L D"), unseen=(unseen, "N L"))
    num_frames = len(unseen)
    query = _streams(q, num_frames).transpose(1, 2)  # [S, heads, N, L, d]
    keys, values = (_streams(x, num_frames).permute(0, 2, 1, 3, 4)[:, :, unseen] for x in (k, v))
    out = F.scaled_dot_product_attention(query.flatten(2, 3), keys, values)
    seen: Tensor = out.unflatten(2, query.shape[2:4]).transpose(1, 2).flatten(0, 1)
    return seen


def temporal_guided(q: Tensor, k: Tensor, v: Tensor, paths: TokenPaths, *, temperature: float = 5.0) -> Tensor:
    """Each token averaged along its path: softmax(Q K^T / (temperature sqrt d)) V over the frames joined to it.

    All [S N, heads, L, d]; every token is among its own keys, so one that is alone keeps its value.
    """
    check_shape(q=(q, "B H L D"), k=(k, "B H L D"), v=(v, "B H L D"), tokens=(paths.tokens, "N L"))
    num_frames = len(paths.tokens)
    frame = torch.arange(num_frames, device=q.device)[:, None]

    def along(x: Tensor) -> Tensor:
        """[L, S, heads, N, d]: the tokens of each path, frame by frame."""
        return _streams(x, num_frames)[:, frame, :, paths.tokens].permute(1, 2, 3, 0, 4)

    # Written out: the fused kernels do not launch for more than 65535 sequences, and N x N is tiny.
    scale = 1.0 / (temperature * math.sqrt(q.shape[-1]))
    score = (along(q) * scale) @ along(k).transpose(-1, -2)
    score = score.masked_fill(~paths.joined[:, None, None], -torch.inf)
    mixed = score.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ along(v)
    back = mixed.permute(3, 0, 1, 2, 4)[frame, paths.paths]  # [N, L, S, heads, d]
    return back.permute(2, 0, 3, 1, 4).flatten(0, 1)


def _streams(x: Tensor, num_frames: int) -> Tensor:
    """[S N, heads, L, d] as [S, N, heads, L, d]."""
    split: Tensor = x.unflatten(0, (-1, num_frames))
    return split
