"""Where a frame's pixels are in the frames around it, measured so that flicker does not disturb it."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ...seams import FlowEstimator
from ...smoothing import smooth_on_grid
from ...types import Flow
from ...warp import chain, inside, resize, warp

_SHORT_SIDES = 128, 288  # pictures smaller than the first are measured whole, larger ones at half size up to the second
_CUT = 0.3  # a smaller share of pixels found again: the shot ends here
_AROUND = 16  # of the short side: the standard deviation over which light is evened out
_ALIKE = 0.5  # correlation of two frames laid onto each other; less, and the shot ends here too


class Motion:
    """Flow from one frame to those around it: neighbours measured once, the rest chained. Small pictures, kept for a while.

    `source(index)` is a frame [1, 3, H, W] in [0, 1]; `reach` how many frames around a frame will be asked for.
    """

    def __init__(self, source: Callable[[int], Tensor], length: int, flow: FlowEstimator, *, reach: int) -> None:
        self.length = length
        self._source, self._flow = source, flow
        self.small = lru_cache(maxsize=2 * reach + 1)(self._small)
        self._pair = lru_cache(maxsize=2 * reach + 1)(self._measure)

    def around(self, index: int, radius: int) -> dict[int, Flow]:
        """Offset -> flow from frame `index` to frame `index + offset`, for |offset| <= radius, up to a cut or the clip's end.

        [1, 2, h, w] in pixels of the small pictures, with visibility [1, 1, h, w] in 0..1.
        """
        found: dict[int, Flow] = {}
        for way in (-1, 1):
            last = None
            for step in range(1, radius + 1):
                at = index + way * step
                if not 0 <= at < self.length:
                    break
                hop = self._pair(min(at, at - way))[0 if way > 0 else 1]
                last = hop if last is None else _onwards(last, hop)
                if last.visibility.mean() < _CUT:
                    break
                found[way * step] = last
        return found

    def onwards(self, index: int) -> Flow | None:
        """Return the flow from frame `index` to the next one, None where a cut lies between."""
        flow = self._pair(index)[0]
        return flow if flow.visibility.mean() >= _CUT else None

    def _small(self, index: int) -> Tensor:
        picture = self._source(index)
        height, width = picture.shape[-2:]
        short, (least, most) = min(height, width), _SHORT_SIDES
        scale = min(1.0, max(least, min(short / 2, most)) / short)
        return resize(picture, round(height * scale), round(width * scale))

    def _measure(self, index: int) -> tuple[Flow, Flow]:
        """Flow from frame `index` to the next one, and back."""
        here, after = even_tone(self.small(index)), even_tone(self.small(index + 1))
        vectors = self._flow(torch.cat((here, after)), torch.cat((after, here))).vectors
        there, back = vectors[:1], vectors[1:]
        # Between smooth pictures flow finds a way there and back whatever they show.
        alike = _correlation(here, warp(after, there)) > _ALIKE
        return _seen(there, back, alike), _seen(back, there, alike)


def even_tone(pictures: Tensor) -> Tensor:
    """Return luma [N, 3, h, w] of one mean and one contrast all over, so that a change of light is no motion, wherever it is.

    Bands of light over a plain wall would else be followed like a texture.
    """
    luma = (pictures * pictures.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(dim=1, keepdim=True)
    sigma = min(luma.shape[-2:]) / _AROUND
    detail = luma - smooth_on_grid(luma, sigma)
    spread = smooth_on_grid(detail.square(), sigma).sqrt()
    return (0.5 + 0.18 * detail / (spread + 0.03)).clamp(0, 1).expand(-1, 3, -1, -1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Of two even-toned pictures; towards 1 where both are nearly flat, for there is nothing to tell them apart by."""
    a, b = a - a.mean(), b - b.mean()
    return ((a * b).mean() + 1e-3) / ((a.square().mean() * b.square().mean()).sqrt() + 1e-3)


def _seen(there: Tensor, back: Tensor, alike: Tensor) -> Flow:
    # Wider than the rules of `warp.visibility`: noise makes flow wander in flat places, where it does no harm, and the
    # filters look at the colours as well.
    miss = _length(there + warp(back, there))
    seen = (miss < 1.5 + 0.1 * _length(there)) & inside(there) & alike
    return Flow(vectors=there, visibility=seen.to(there.dtype))


def _length(vectors: Tensor) -> Tensor:
    return torch.hypot(vectors[:, :1], vectors[:, 1:])


def _onwards(flow_ab: Flow, flow_bc: Flow) -> Flow:
    vectors = chain(flow_ab.vectors, flow_bc.vectors)
    seen = flow_ab.visibility * warp(flow_bc.visibility, flow_ab.vectors) * inside(vectors)
    return Flow(vectors=vectors, visibility=seen)
