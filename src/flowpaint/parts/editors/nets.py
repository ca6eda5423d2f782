"""The three style networks: 26 painted styles in one net, and any picture as the style. ONNX Runtime, CPU."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from ...warp import resize
from ...weights import resolve

Code = npt.NDArray[np.float32]  # [1, 1, 1, 100]: a style as the arbitrary-style net sees it

STYLES = 26
_SQUARE = 384  # the transfer net's only size
_GLANCE = 256  # the size at which a style picture is looked at


def _session(name: str) -> onnxruntime.InferenceSession:
    return opened(resolve(name))


@cache
def opened(path: Path) -> onnxruntime.InferenceSession:
    """The network in an ONNX file, one session a process. Raises what ONNX Runtime does for a damaged file."""
    onnxruntime.disable_telemetry_events()  # for versions that do not know the variable of `flowpaint.telemetry`
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2  # that sleep when idle: spinning ones starve torch on few cores
    options.inter_op_num_threads = 1
    # The arena would keep the largest picture's activations, 800 MB at 720p, for as long as the session lives.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def painted_in(picture: Tensor, shares: dict[int, float]) -> Tensor:
    """`picture` [3, H, W] in [0, 1] in a blend of the 26 styles, `shares` by index with sum 1: same shape and range.

    Conditional instance normalisation (Dumoulin et al., ICLR 2017): the blend is one of style vectors, not of pictures.
    """
    height, width = picture.shape[-2:]
    vector = np.zeros(STYLES, np.float32)
    vector[list(shares)] = list(shares.values())
    # The net halves the picture twice, and its outermost pixels see only padding: mirror a margin, then cut it off.
    margin = min(12, height - 1, width - 1)
    below, right = (-(height + 2 * margin) % 4, -(width + 2 * margin) % 4)
    grown = F.pad(picture[None].cpu(), (margin, margin, margin, margin), mode="reflect")
    grown = F.pad(grown, (0, right, 0, below), mode="replicate")
    out = _session("multistyle26").run(None, {"image": grown.float().numpy(), "style_weights": vector})[0]
    cut = torch.from_numpy(np.asarray(out))[0, :, margin : margin + height, margin : margin + width]
    return cut.clamp(0.0, 1.0).to(picture.device)


def style_code(picture: Tensor) -> Code:
    """The style of `picture` [3, H, W] in [0, 1]: the 100 numbers that the transfer net is steered by (Ghiasi et al., 2017)."""
    seen = resize(picture[None].cpu(), _GLANCE, _GLANCE).permute(0, 2, 3, 1).contiguous().numpy()
    return np.asarray(_session("style-predict").run(None, {"style_image": seen})[0], np.float32)


def styled(picture: Tensor, code: Code) -> Tensor:
    """`picture` [3, H, W] in [0, 1] by `code`: same shape and range.

    The net knows one size, 384 x 384. The whole picture, squeezed into it, gives the tones; overlapping tiles at the picture's
    own size give the strokes. Tiles normalise their own statistics and would differ in tone, so only their fine part is taken.
    """
    height, width = picture.shape[-2:]
    whole = resize(_one_square(resize(picture[None], _SQUARE, _SQUARE)[0], code)[None], height, width)[0]
    if min(height, width) < _SQUARE:
        return whole
    total, weight = torch.zeros_like(picture), torch.zeros_like(picture[:1])
    ramp = (torch.linspace(-1, 1, _SQUARE, device=picture.device).abs().neg() + 1.02).clamp_max(0.5)
    share = (ramp[:, None] * ramp)[None]
    for top in _starts(height):
        for left in _starts(width):
            window = (slice(None), slice(top, top + _SQUARE), slice(left, left + _SQUARE))
            total[window] += share * _one_square(picture[window], code)
            weight[window] += share
    strokes = total / weight
    return (strokes + _low(whole) - _low(strokes)).clamp(0.0, 1.0)


def _one_square(square: Tensor, code: Code) -> Tensor:
    feed = {"content_image": square.permute(1, 2, 0)[None].contiguous().cpu().numpy(), "mobilenet_conv/Conv/BiasAdd": code}
    out = torch.from_numpy(np.asarray(_session("style-transform").run(None, feed)[0]))
    return out[0].permute(2, 0, 1).clamp(0.0, 1.0).to(square)


def _starts(length: int) -> list[int]:
    """Where tiles begin along an axis: evenly spread, overlapping by a quarter or more."""
    count = 1 + -(-(length - _SQUARE) // (_SQUARE * 3 // 4))
    return [round(place * (length - _SQUARE) / max(count - 1, 1)) for place in range(count)]


def _low(picture: Tensor) -> Tensor:
    """The tones of `picture` [3, H, W] without its strokes."""
    height, width = picture.shape[-2:]
    small = resize(picture[None], max(1, height // 24), max(1, width // 24))
    return F.interpolate(small, size=(height, width), mode="bicubic", align_corners=False)[0]
