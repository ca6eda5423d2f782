"""Completing a picture: a hole is filled with what the rest of the picture shows, texture and all, without weights.

Every patch over the hole is matched with the known patch most like it, and the matches vote for the colours of the hole; both
are repeated, coarse to fine (Wexler, Shechtman, Irani, TPAMI 2007, sections 3 and 4). The matches are found by handing good ones
to neighbours and trying random ones (PatchMatch: Barnes et al., SIGGRAPH 2009, section 3), here for all patches at once. At last
the filled part takes on the light of its rim, by what the matches get wrong there (a membrane: Pérez et al., SIGGRAPH 2003).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError
from .smoothing import box, dilate, spread
from .types import check_shape

_RADIUS = 3  # of a patch: 7 x 7 pixels
_NARROW = 4  # pixels from its rim to the middle of a hole at which no coarser look is needed
_SMALLEST = 20  # pixels of the short side of the coarsest look
_FALLOFF = 1.3  # by which a pixel counts less for each step away from what is known (Wexler et al., section 3.1)
_FARTHEST = 12  # steps after which it counts no less
_ROUNDS = (12, 6, 4, 3, 2)  # of matching and voting, coarsest look first; later ones have as many as the last
_LARGE = 640  # pixels of the short side above which a look only repeats the matches of a coarser one, finer
_SHARP = 0.2  # share of the patches' typical misfit at which a vote counts little in the last round
_PLAIN = 1e-5  # misfit, of black to white squared, below which patches are as good as equal
_TILTED = 0.8  # share of the differences about a hole that a plane must explain to be taken for its light
_SEAM = 9  # pixels over which the misfit of the rim is averaged: light, not texture


def complete(picture: Tensor, hole: Tensor, *, seed: int = 0) -> Tensor:
    """`picture` [1, 3, H, W] in [0, 1] with its `hole` filled: [1, 3, H, W] in [0, 1]; what is known stays to the bit.

    `hole` [1, 1, H, W] is 1 (above 0.5) where nothing is known; what `picture` holds there does not count. Work is done on
    the CPU. The same `seed` fills the same. Where hardly anything is known, no 7x7 pixels together, the hole is filled smoothly.
    Raises `InputError` where nothing is known at all.
    """
    check_shape(picture=(picture, "1 3 H W"), hole=(hole, "1 1 H W"))
    missing = hole > 0.5
    if missing.all():
        raise InputError("The hole is the whole picture, and nothing is known to fill it with. Give a smaller hole.")
    if not missing.any():
        return picture
    gap, whole = missing.float().cpu(), picture.float().cpu()  # gathering from scattered places is a processor's work
    slope = _slope(whole, gap)
    known = (whole - slope) * (1 - gap)
    looks = _looks(known, gap)
    generator = torch.Generator().manual_seed(seed)
    field: Tensor | None = None
    filled = spread(known, 1 - gap)
    for number, look in enumerate(reversed(looks)):
        # Without matches of a coarser look, or enough known in it to have any, what is known is continued smoothly at first.
        work = _Work.of(*look, guess=spread(look[0], 1 - look[1]) if field is None else None)
        if work is not None:
            rounds = _ROUNDS[min(number, len(_ROUNDS) - 1)]
            field, filled = _fill(work, field, rounds, generator, last=number == len(looks) - 1)
    return torch.where(missing, (filled + slope).clamp(0, 1).to(picture), picture)


def _slope(picture: Tensor, hole: Tensor) -> Tensor:
    """The plane of colours about `hole`, [1, 3, H, W]: of a sky or a wall in slanting light; 0 where there is none.

    No patch elsewhere has the brightness of the hole then, but with the plane taken away every patch has.
    """
    height, width = hole.shape[-2:]
    near = (dilate(hole, max(8, min(height, width) // 8)) - hole).flatten()[:, None]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    basis = torch.stack([torch.ones(height * width), x.flatten(), y.flatten()], dim=1)
    colours = picture[0].flatten(1).T
    normal = (near * basis).T @ basis + 1e-6 * near.sum() * torch.eye(3)
    answer = torch.linalg.solve(normal, (near * basis).T @ colours)
    plane = basis @ answer
    rest, spread_out = ((near * (colours - one).square()).sum() for one in (plane, (near * colours).sum(0) / near.sum()))
    tilted = plane - (near * plane).sum(0) / near.sum()
    share = 1 - rest / spread_out.clamp_min(1e-12)
    return (tilted if share > _TILTED else torch.zeros_like(tilted)).T.reshape(1, 3, height, width)


def _looks(picture: Tensor, hole: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The picture, 0 in its hole, and the hole, each time half as large: until the hole is narrow."""
    looks = [(picture * (1 - hole), hole)]
    while min(picture.shape[-2:]) >= 2 * _SMALLEST and _depth(hole, _NARROW + 1).max() > _NARROW:
        height, width = picture.shape[-2:]
        odd = (0, width % 2, 0, height % 2)
        known = F.avg_pool2d(F.pad(1 - hole, odd), 2)
        picture = F.avg_pool2d(F.pad(picture * (1 - hole), odd), 2) / known.clamp_min(1e-6)
        hole = (known < 0.5).float()
        if hole.all():
            break
        looks.append((picture * (1 - hole), hole))
    return looks


def _depth(hole: Tensor, most: int) -> Tensor:
    """Steps from each pixel of `hole` [1, 1, H, W] to what is known, at most `most`: [1, 1, H, W], 0 outside the hole."""
    depth, rest = torch.zeros_like(hole), hole
    for _ in range(most):
        depth = depth + rest
        rest = -dilate(-rest, 1) if rest.any() else rest
    return depth


@dataclass
class _Work:
    """One look at a picture, with a border of `_RADIUS` pixels about it in which nothing counts; places are flat indices.

    `colours` [P, 3]; `weights` [P], how much a pixel counts in a comparison; `allowed` bool [P], patches wholly known;
    `sources` [S] their places; `targets` [N] the places of patches that reach into the hole; `gaps` [G] the pixels of the hole.
    """

    colours: Tensor
    weights: Tensor
    allowed: Tensor
    sources: Tensor
    targets: Tensor
    gaps: Tensor
    size: tuple[int, int]  # with the border

    @classmethod
    def of(cls, known: Tensor, hole: Tensor, *, guess: Tensor | None) -> "_Work | None":
        """The look at `known` [1, 3, h, w] with a `hole` [1, 1, h, w]; None where no patch is wholly known."""
        border = (_RADIUS,) * 4
        start = known if guess is None else torch.lerp(known, guess, hole)
        inside = F.pad(torch.ones_like(hole), border)
        weights = inside * F.pad(_FALLOFF ** -_depth(hole, _FARTHEST), border)
        gap = F.pad(hole, border)
        allowed = (dilate(torch.maximum(gap, 1 - inside), _RADIUS) == 0).flatten()
        if not allowed.any():
            return None
        return cls(
            colours=F.pad(start, border)[0].flatten(1).T.contiguous(),
            weights=weights.flatten(),
            allowed=allowed,
            sources=allowed.nonzero().flatten(),
            targets=(dilate(gap, _RADIUS) * inside).flatten().nonzero().flatten(),
            gaps=gap.flatten().nonzero().flatten(),
            size=(gap.shape[-2], gap.shape[-1]),
        )

    def offsets(self) -> list[int]:
        """Of the pixels of a patch from its middle, in flat places."""
        reach = range(-_RADIUS, _RADIUS + 1)
        return [self.size[1] * y + x for y in reach for x in reach]

    def misfit(self, at: Tensor, source: Tensor) -> Tensor:
        """The mean squared difference [n] of the patches `at` [n] and `source` [n]; infinite where the source is not known."""
        total, mass = torch.zeros(len(at)), torch.full((len(at),), 1e-8)
        source = torch.where(self.allowed[source], source, self.sources[0])
        for offset in self.offsets():
            weight = self.weights[at + offset]
            total += weight * (self.colours[at + offset] - self.colours[source + offset]).square().sum(dim=1)
            mass += weight
        return total / mass / 3


def _fill(work: _Work, before: Tensor | None, rounds: int, generator: torch.Generator, *, last: bool) -> tuple[Tensor, Tensor]:
    """The field of matches of one look, flat places [h, w] with border, and the filled picture [1, 3, h, w]."""
    pixels = work.size[0] * work.size[1]
    large = before is not None and min(work.size) > _LARGE
    field = torch.full((pixels,), -1)
    if before is None:
        draw = torch.randint(len(work.sources), (len(work.targets),), generator=generator)
        field[work.targets] = work.sources[draw]
    else:
        field[work.targets] = _finer(before, work, generator)
        # The matches of the coarser look vote first: what is compared next is then as sharp as this look.
        _vote(work, field, torch.full((pixels,), _PLAIN), work.gaps, sharp=False)
    cost = torch.full((pixels,), torch.inf)
    for turn in range(1 if large else rounds):
        cost[work.targets] = work.misfit(work.targets, field[work.targets])
        if not large:
            for _ in range(2 if before is None else 1):
                _hand_on(work, field, cost)
                _try(work, field, cost, generator, widest=before is None)
        _vote(work, field, cost, work.gaps, sharp=last and turn == (1 if large else rounds) - 1)
    if last:
        _join(work, field, cost)
    shown = work.colours.T.reshape(1, 3, *work.size)[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return field.reshape(work.size), shown


def _finer(before: Tensor, work: _Work, generator: torch.Generator) -> Tensor:
    """The matches [N] of a look half as large, at this one."""
    width = work.size[1]
    y, x = work.targets // width - _RADIUS, work.targets % width - _RADIUS
    rows, columns = before.shape
    old = before[(y // 2 + _RADIUS).clamp(max=rows - 1 - _RADIUS), (x // 2 + _RADIUS).clamp(max=columns - 1 - _RADIUS)]
    up, left = old // columns - _RADIUS, old % columns - _RADIUS
    there = (2 * up + y % 2 + _RADIUS).clamp(0, work.size[0] - 1) * width + (2 * left + x % 2 + _RADIUS).clamp(0, width - 1)
    lost = (old < 0) | ~work.allowed[there]
    draw = torch.randint(len(work.sources), (len(there),), generator=generator)
    return torch.where(lost, work.sources[draw], there)


def _better(work: _Work, field: Tensor, cost: Tensor, which: Tensor, candidate: Tensor) -> None:
    """Takes `candidate` [n] for those of the targets `which` [n] that it fits better."""
    good = (candidate >= 0) & (candidate < len(work.allowed))
    good &= work.allowed[candidate.clamp(0, len(work.allowed) - 1)] & (candidate != field[which])
    which, candidate = which[good], candidate[good]
    if len(which):
        found = work.misfit(which, candidate)
        wins = found < cost[which]
        field[which[wins]], cost[which[wins]] = candidate[wins], found[wins]


def _hand_on(work: _Work, field: Tensor, cost: Tensor) -> None:
    """What fits a neighbour, moved along, may fit here (propagation)."""
    width = work.size[1]
    for step in (1, -1, width, -width, 4, -4, 4 * width, -4 * width):
        near = (work.targets + step).clamp(0, len(field) - 1)
        other = field[near]
        _better(work, field, cost, work.targets, torch.where(other >= 0, other - step, -1))


def _try(work: _Work, field: Tensor, cost: Tensor, generator: torch.Generator, *, widest: bool) -> None:
    """Random places about the matches, ever nearer (random search)."""
    height, width = work.size
    reach = max(height, width) if widest else 16
    while reach >= 1:
        now = field[work.targets]
        shift = torch.randint(-reach, reach + 1, (2, len(now)), generator=generator)
        y, x = now // width + shift[0], now % width + shift[1]
        fits = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        _better(work, field, cost, work.targets, torch.where(fits, y * width + x, -1))
        reach //= 3 if widest else 4


def _voted(work: _Work, field: Tensor, cost: Tensor, at: Tensor, *, sharp: bool) -> tuple[Tensor, Tensor]:
    """What the patches over the pixels `at` [n] show there, [n, 3], and how much they count, [n]."""
    typical = cost[work.targets].quantile(0.75) if len(work.targets) < 2**24 else cost[work.targets].median()
    scale = 2 * (_SHARP if sharp else 1.0) * typical.clamp_min(_PLAIN)
    # The middle of a patch says how far inside the hole it lies; what the best ones say must not vanish by rounding.
    votes = torch.where(field >= 0, work.weights * (torch.exp(-(cost / scale).clamp(max=40.0)) + 1e-12), 0.0)
    total, mass = torch.zeros(len(at), 3), torch.zeros(len(at))
    for offset in work.offsets():
        patch = at - offset  # whose pixel at `offset` this is
        vote = votes[patch]
        total += vote[:, None] * work.colours[(field[patch] + offset).clamp(0)]
        mass += vote
    return total / mass.clamp_min(1e-30)[:, None], mass


def _vote(work: _Work, field: Tensor, cost: Tensor, at: Tensor, *, sharp: bool) -> None:
    work.colours[at] = _voted(work, field, cost, at, sharp=sharp)[0]


def _join(work: _Work, field: Tensor, cost: Tensor) -> None:
    """Gives the filled part the light of its rim: what the matches get wrong there, averaged, is spread over the hole."""
    height, width = work.size
    gap = torch.zeros(height * width)
    gap[work.gaps] = 1
    hole = gap.reshape(1, 1, height, width)
    inside = F.pad(torch.ones(1, 1, height - 2 * _RADIUS, width - 2 * _RADIUS), (_RADIUS,) * 4)
    rim = ((dilate(hole, 1) - hole) * inside).flatten()
    at = rim.nonzero().flatten()
    if len(at) == 0:
        return
    shown, mass = _voted(work, field, cost, at, sharp=False)
    wrong = torch.zeros(height * width, 3)
    wrong[at] = (work.colours[at] - shown) * (mass > 0)[:, None]
    weight = rim.reshape(1, 1, height, width)
    light = box(wrong.T.reshape(1, 3, height, width), _SEAM) / box(weight, _SEAM).clamp_min(1e-6)
    change = spread(light * weight, weight)[0].flatten(1).T
    work.colours[work.gaps] = work.colours[work.gaps] + change[work.gaps]
