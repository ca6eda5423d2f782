"""A small edited picture at the size of its source, with the source's edges.

    E = r' + t (G(S) + (r - G(s))' + A' (S - s') - r')

S is the source, s and r the small source and the small result, ' enlarges plainly. G is what the edit is as a function of colour
alone and A the local regression of the rest on the source, as the propagator `analogy` has them: joint upsampling (Kopf et al.,
SIGGRAPH 2007) by the local linear model of the guided filter (He, Sun, Tang, ECCV 2010). t is how much of the detail so
predicted is true, measured one octave down, where the truth is known: a look that paints textures over gets none of them back.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .regression import ColourMap, regress
from .smoothing import box
from .types import check_shape
from .warp import resize

_WINDOW, _RIDGE = 7, 1e-3  # of the regression; the window is in pixels of the small pictures
_TRUST_WINDOW = 15
_NOTHING = 1e-5  # squared detail, of 1, below which there is none to be trusted or not
_ROUNDS = 2  # of back-projection


def enlarge(small_source: Tensor, small_result: Tensor, source: Tensor) -> Tensor:
    """The result [3, H, W] in [0, 1] that `small_result` [3, h, w] would be at the size of `source` [3, H, W].

    `small_source` [3, h, w] is the source at the small size; all in [0, 1]. Made small again by `flowpaint.warp.resize`, the
    result is `small_result` to about a level of 8 bits: what the edit added stays as coarse as it is, and the edges of the source
    that it kept become sharp. A source that is no larger has nothing to give: the result is resized plainly.
    """
    check_shape(small_source=(small_source, "3 h w"), small_result=(small_result, "3 h w"), source=(source, "3 H W"))
    (height, width), (rows, columns) = source.shape[-2:], small_source.shape[-2:]
    if height < rows or width < columns or (height, width) == (rows, columns):
        return resize(small_result[None], height, width)[0]
    s, r, full = small_source[None], small_result[None], source[None]
    plain = _enlarged(r, height, width)
    made = torch.lerp(plain, _predicted(s, r, full), resize(_trust(s, r), height, width)).clamp(0.0, 1.0)
    for _ in range(_ROUNDS):  # iterative back-projection (Irani, Peleg, CVGIP 1991)
        made = (made + _enlarged(r - resize(made, rows, columns), height, width)).clamp(0.0, 1.0)
    return made[0]


def _predicted(s: Tensor, r: Tensor, full: Tensor) -> Tensor:
    """The result at the size of `full` as colours and local slopes predict it: [1, 3, H, W]."""
    height, width = full.shape[-2:]
    colours = ColourMap.fit(s, r)
    rest = r - colours(s)
    slopes = box(regress(s, rest, _WINDOW, _RIDGE).flatten(1, 2), 3)
    detail = full - _enlarged(s, height, width)
    made = colours(full).add_(_enlarged(rest, height, width))
    for channel in range(3):  # one at a time: all slopes at full size at once would be the largest tensor here
        made.addcmul_(resize(slopes[:, channel::3], height, width), detail[:, channel : channel + 1])
    return made


def _trust(s: Tensor, r: Tensor) -> Tensor:
    """Which share of the predicted detail is in the result: [1, 1, h, w] in [0, 1], from predicting `r` from half its size."""
    rows, columns = s.shape[-2:]
    half = max(1, rows // 2), max(1, columns // 2)
    plain = _enlarged(resize(r, *half), rows, columns)
    predicted, true = _predicted(resize(s, *half), resize(r, *half), s) - plain, r - plain
    agreement = box((predicted * true).sum(dim=1, keepdim=True), _TRUST_WINDOW)
    power = box(predicted.square().sum(dim=1, keepdim=True), _TRUST_WINDOW)
    return ((agreement + _NOTHING) / (power + _NOTHING)).clamp(0.0, 1.0)


def _enlarged(picture: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(picture, size=(height, width), mode="bicubic", align_corners=False)
