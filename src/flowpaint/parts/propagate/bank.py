"""What an edit is as a filter of the picture: a map of colours, and weights of a bank of local features, learnt from one pair.

    H(S) = clip(G(S) + sum over levels of W d + V |grad| + U (S - guided(S)))

G is a smooth map of colours. The bank splits the picture S into bands d of detail (a Laplacian pyramid: Burt, Adelson, 1983),
the gradient of luma and its length at the three finest levels, and what an edge-preserving smoothing takes away (guided
filters, computed at half size: He, Sun, 2015). Weights are met by least squares, in closed form. So a filter that smooths,
sharpens, draws lines or makes a relief is met by its own answer on every frame, and detail that an edit did not keep is dropped.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ...regression import ColourMap
from ...warp import resize
from .raster import box, by_opencv, double, halve, luma

_LEVELS = 5  # bands of detail: the coarsest is of structures of some 32 pixels
_EDGES = 3  # levels whose gradients count
_GUIDES = ((1, 0.003), (2, 0.01))  # radius, in pixels at half size, and variance below which is smoothed
_SAMPLES = 130_000  # pixels that the weights are fitted to, about
_RIDGE = 1e-4
_ROUNDS = 3  # of guessing what was clipped
_CLIPPED = 0.5 / 255
_FITTED_SIDE = 512  # short side at which the map of colours is fitted


@dataclass(frozen=True)
class Bank:
    """A picture's features, level by level; those of the finest are made when asked for."""

    size: tuple[int, int]  # of the picture
    levels: tuple[Tensor, ...]  # [1, 3, h, w] each: the picture, its sides filled up, then half, a quarter ... the size
    light: Tensor  # [1, 1, H + 2, W + 2], its luma with a rim
    edges: tuple[Tensor, ...]  # [1, 3, h, w] of levels 1 and on: gradient of luma, and its length
    guides: tuple[tuple[Tensor, Tensor], ...]  # at level 1: guided(S) = slope * luma + offset, [1, 3, h, w] each

    @classmethod
    def of(cls, picture: Tensor) -> "Bank":
        """Return the bank of `picture` [1, 3, H, W] in [0, 1]."""
        height, width = picture.shape[-2:]
        step = 2**_LEVELS
        if height % step or width % step:
            picture = F.pad(picture, (0, -width % step, 0, -height % step), mode="replicate")
        levels = [picture]
        for _ in range(_LEVELS):
            levels.append(halve(levels[-1]))
        edges = tuple(_edges(F.pad(luma(one), (1, 1, 1, 1), mode="replicate")) for one in levels[1:_EDGES])
        guides = tuple(_guide(levels[1], radius, variance) for radius, variance in _GUIDES)
        light = F.pad(luma(picture), (1, 1, 1, 1), mode="replicate")
        return cls((height, width), tuple(levels), light, edges, guides)


def _edges(light: Tensor) -> Tensor:
    """The gradient of `light` [1, 1, h + 2, w + 2], and its length: [1, 3, h, w]."""
    across = light[..., 1:-1, 2:] - light[..., 1:-1, :-2]
    down = light[..., 2:, 1:-1] - light[..., :-2, 1:-1]
    return torch.cat([across, down, torch.sqrt(across * across + down * down)], dim=1)


def _guide(picture: Tensor, radius: int, variance: float) -> tuple[Tensor, Tensor]:
    """The guided filter of `picture` by its luma, as slope and offset [1, 3, h, w]."""
    size, light = 2 * radius + 1, luma(picture)
    mean, mean_light = box(picture, size), box(light, size)
    spread = box(light * light, size) - mean_light * mean_light
    slope = (box(picture * light, size) - mean * mean_light) / (spread + variance)
    return box(slope, size), box(mean - slope * mean_light, size)


class _Colours:
    """A map of colours, looked up quickly."""

    def __init__(self, colours: ColourMap) -> None:
        self._map = colours
        self._tables: tuple[npt.NDArray[np.float32], ...] = ()
        if by_opencv(colours.nodes):
            # A slab of red and green for each step of blue, one below the other, and the same one step farther.
            nodes = colours.nodes[0].permute(3, 1, 2, 0).numpy()
            slabs = np.concatenate([nodes, np.zeros_like(nodes[..., :1])], axis=-1)
            count = len(slabs)
            farther = slabs[[*range(1, count), count - 1]]
            self._tables = tuple(np.ascontiguousarray(one.reshape(count * count, count, 4)) for one in (slabs, farther))

    def __call__(self, picture: Tensor) -> Tensor:
        """Return `picture` [1, 3, H, W] with its colours mapped."""
        if not self._tables:
            return self._map(picture)
        count = self._map.nodes.shape[-1]
        red, green, blue = (picture[0] * (count - 1)).unbind()
        slab = blue.floor().clamp_(0, count - 2)
        x, y = green.numpy(), (red + slab * count).numpy()
        near, far = (cv2.split(cv2.remap(one, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)) for one in self._tables)
        made, share = torch.empty_like(picture), blue - slab
        for place in range(3):
            torch.lerp(torch.from_numpy(near[place]), torch.from_numpy(far[place]), share, out=made[0, place])
        return made


@dataclass(frozen=True)
class Filter:
    """An edit as a filter. All weights are [3, 3]: what a feature's three channels add to each colour."""

    colours: _Colours  # G, and all else that is linear in a pixel's own colour
    bands: tuple[Tensor, ...]
    edges: tuple[Tensor, ...]
    guides: tuple[Tensor, ...]

    @classmethod
    def fit(cls, bank: Bank, edited: Tensor, weights: Tensor | None = None) -> "Filter":
        """Return the filter that turns the picture of `bank` into `edited` [1, 3, H, W]; `weights` [1, 1, H, W] of its pixels."""
        height, width = bank.size
        source = bank.levels[0][..., :height, :width]
        scale = min(1.0, _FITTED_SIDE / min(bank.size))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        colours = ColourMap.fit(resize(source, *size), resize(edited, *size), None if weights is None else resize(weights, *size))
        # An odd step meets every place of the pyramid's cells.
        step = next(one for one in range(1, 99, 2) if height * width <= one * one * _SAMPLES)
        cut = (..., slice(None, None, step), slice(None, None, step))
        columns = _columns(bank, step)
        count = torch.ones_like(source[:, :1][cut]) if weights is None else weights[cut] + 1e-6
        found = _solve(columns, colours(source)[cut], edited[cut], count)
        blocks = found[:-1].unflatten(0, (-1, 3)).transpose(1, 2).unbind()  # [3, 3] each: from a feature to a colour
        bands, edges, guides = blocks[:_LEVELS], blocks[_LEVELS : _LEVELS + _EDGES], blocks[_LEVELS + _EDGES :]
        own = bands[0] + torch.stack(guides).sum(dim=0)
        nodes = colours.nodes
        steps = torch.linspace(0, 1, nodes.shape[-1], device=nodes.device)
        cube = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"))[None]
        linear = torch.einsum("ck,bkxyz->bcxyz", own, cube) + found[-1][None, :, None, None, None]
        return cls(_Colours(ColourMap(nodes + linear)), bands, edges, guides)

    def coarse(self, bank: Bank) -> tuple[Tensor, Tensor]:
        """Return what the coarser levels give, at half size, [1, 3, h, w]: to add, and to take away times the luma."""
        levels, told = bank.levels, torch.zeros_like(bank.levels[-1])
        for level in range(_LEVELS - 1, 0, -1):
            told = double(told - _mix(self.bands[level], levels[level + 1])) + _mix(self.bands[level], levels[level])
            if level < _EDGES:
                told = told + _mix(self.edges[level], bank.edges[level - 1])
        told = told - _mix(self.bands[0], levels[1])
        slope = torch.zeros_like(told)
        for weights, (part, offset) in zip(self.guides, bank.guides, strict=True):
            told, slope = told - _mix(weights, offset), slope + _mix(weights, part)
        return told, slope

    def __call__(self, bank: Bank, coarse: tuple[Tensor, Tensor], rows: tuple[int, int] | None = None) -> Tensor:
        """Return the `rows`, from (even) and to, of the filtered picture of `bank`, in [0, 1]: [1, 3, h, W].

        `coarse` is `self.coarse(bank)`.
        """
        height, width = bank.size
        top, bottom = rows or (0, height)
        light = bank.light[..., top : bottom + 2, :]
        made = self.colours(bank.levels[0][..., top:bottom, :])
        made += _mix(self.edges[0], _edges(light))
        made += double(coarse[0], (top, bottom))
        made -= double(coarse[1], (top, bottom)) * light[..., 1:-1, 1:-1]
        return made.clamp_(0.0, 1.0)[..., :width]


def _mix(weights: Tensor, feature: Tensor) -> Tensor:
    """Each pixel's three channels of `feature` [1, 3, h, w] times `weights` [3, 3]."""
    height, width = feature.shape[-2:]
    return (weights @ feature.reshape(3, -1)).view(1, 3, height, width)


def _columns(bank: Bank, step: int) -> Tensor:
    """Every feature of `bank` at every `step`th pixel: [K, pixels]."""
    height, width = bank.size

    def full(feature: Tensor, level: int) -> Tensor:
        for _ in range(level):
            feature = double(feature)
        return feature[0, :, :height:step, :width:step].flatten(1)

    levels, light = bank.levels, bank.light
    columns = [full(levels[level] - double(levels[level + 1]), level) for level in range(_LEVELS)]
    columns += [full(one, level) for level, one in enumerate((_edges(light), *bank.edges))]
    own, own_light = full(levels[0], 0), full(light[..., 1:-1, 1:-1], 0)
    columns += [own - full(slope, 1) * own_light - full(offset, 1) for slope, offset in bank.guides]
    return torch.cat([*columns, torch.ones_like(own_light)])


def _solve(columns: Tensor, mapped: Tensor, edited: Tensor, count: Tensor) -> Tensor:
    """The weights [K, 3] of `columns` [K, n] by which `mapped` nears `edited`, [1, 3, h, w] both, each pixel `count`ed.

    What the edit clipped lies anywhere beyond: there the fit is its own guess, made anew a few times (a censored regression).
    """
    start, wanted, weight = mapped[0].flatten(1), edited[0].flatten(1), count.flatten()[None]
    weighted = columns * (weight / weight.sum())
    normal = (weighted @ columns.T).double()
    normal += _RIDGE * torch.eye(len(columns), dtype=torch.float64, device=columns.device)
    target = wanted
    for turn in range(_ROUNDS + 1):
        found = torch.linalg.solve(normal, (weighted @ (target - start).T).double()).float()
        if turn < _ROUNDS:
            guess = start + found.T @ columns
            beyond = ((wanted <= _CLIPPED) & (guess < 0)) | ((wanted >= 1 - _CLIPPED) & (guess > 1))
            target = torch.where(beyond, guess, wanted)
    return found
