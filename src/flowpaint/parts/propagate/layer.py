"""Carrying the parts of a local edit to another frame.

Matching a frame to the key frame pixel by pixel tears a replaced object at its rim: what the edit added beyond the source's
outline lies over *background* and would move with it. So each edited part gets one motion of its own, measured inside it on
the key frame's grid, smoothed and carried outward. A layer's picture is laid over the frame along that motion; a recoloured
part needs only to know which pixels are its own.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ...labels import Labelled, refine, resemble
from ...smoothing import box, dilate, erode, extend, gaussian, spread
from ...warp import affine_motion, grid_of, inside, length, sample_at
from .match import Match, returns_to
from .regions import Region, Regions
from .silhouette import meet

_FOLLOWED = 0.35  # mean trust inside a part below which its own pixels do not tell its motion
_APART = 0.1  # share of it that moves apart from the background, above which they do all the same
_ADJOINING = 12  # pixels around it that do then
_ASTRAY = 0.05  # what a match costs more that does not lead back
_FIRST_REACH, _REACH = (12, 6), (5, 2)  # pixels by which an object may stand out from, or back from, where it is expected


@dataclass(frozen=True)
class Known:
    """What the frame before teaches: `apart` [1, 1, h, w], on the key frame's grid, 1 where its pixels do not move as the
    background does; on this frame's grid its `picture` [1, 3, h, w] and `bodies` [1, P, h, w], the source's object under
    each part.
    """

    apart: Tensor
    picture: Tensor
    bodies: Tensor


@dataclass(frozen=True)
class Carried:
    """Where the parts are in a frame, on its grid at matching size.

    `layer` [1, 1, h, w]: how much of a layer shows, of the key frame's points `place` [1, 2, h, w]; `surface` [1, 1, h, w]: a
    recoloured part of the source is seen here, of the key frame's points `field` [1, 2, h, w]. `known` is for the next frame.
    """

    layer: Tensor
    place: Tensor
    surface: Tensor
    field: Tensor
    known: Known


def carry(regions: Regions, match: Match, back: Match, frame: Tensor, known: Known | None) -> Carried:
    """The parts of an edit in `frame` [1, 3, h, w]: `match` says where it is in the key frame, `back` where that is in it.

    `known` is what the frame before left, carried along to this one.
    """
    grid = grid_of(frame)
    apart = stands_apart(regions, match, back, known.apart if known else None)
    motion, trust = back.field - grid, _trust(match, back)
    none = torch.zeros_like(trust)
    layer, place, surface, field, bodies = none, grid, none, match.field, []
    for number, part in enumerate(regions.parts):
        leads = _leading(part, apart, trust) if part.is_layer else torch.ones_like(trust)
        followed = _is_followed(part.mask, trust, apart)
        there = _invert(
            _part_motion(part.mask, motion, trust, leads) if followed else _adjoining_motion(part.mask, motion, trust)
        )
        body = none
        if part.outline:
            last = Labelled(known.picture, known.bodies[:, number : number + 1]) if known else None
            there, body = _follow_body(part, frame, key=regions.source, last=last, match=match, back=back, place=there)
        bodies.append(body)
        if part.is_layer:
            shows = sample_at(part.shown, there)
            shows = shows * inside(there - grid)  # nothing is known of a layer beyond the key frame's border
            if followed:
                shows = shows * (1 - _in_front(regions, match, apart) * sample_at(leads, there))
            place, layer = torch.where(shows > layer, there, place), torch.maximum(layer, shows)
        else:
            own = body if part.outline else _lies_within(part, match, back, there)
            # A pixel of the part whose match went astray, outside the part, takes the part's own motion.
            lost = (own > 0.5) & (sample_at(part.mask, field) < 0.5)
            field, surface = torch.where(lost, there, field), torch.maximum(surface, own)
    left = Known(apart, frame, torch.cat(bodies, dim=1) if bodies else none[:, :0])
    return Carried(layer, place, gaussian(surface, 0.7), field, left)


def _follow_body(
    part: Region, frame: Tensor, *, key: Tensor, last: Labelled | None, match: Match, back: Match, place: Tensor
) -> tuple[Tensor, Tensor]:
    """A part's motion `place`, a layer's bent to where its object is seen in `frame`; and that object, [1, 1, h, w] in [0, 1].

    What pixels resemble, in the source's `key` frame and in the frame before, says where the object may be and where it
    surely is; between the two its colours and its edges decide.
    """
    assert part.outline is not None
    returns = returns_to(match.field, back.field, 4.0)
    sure = torch.exp(-match.cost / 0.01) * returns
    held = sure * torch.exp(-(length(match.field - place) / 2.0).square())
    bent = meet(place, part.body, last.label, held) if part.is_layer and last else place
    laid = Labelled(sample_at(key, bent), sample_at(part.body, bent))
    matched, cost = sample_at(part.body, match.field), match.cost + _ASTRAY * (1 - returns)
    label = resemble(frame, [laid, last] if last else [laid], matched, cost)
    # What surely shows a point outside the object is not of it, whatever it resembles.
    label = label * (1 - sure * (1 - sample_at(dilate(part.body, 1), match.field)))
    found = part.outline.find(frame, label, *(_REACH if last else _FIRST_REACH))
    body = refine(frame, torch.maximum(found * (label > 0.1), (label > 0.8).float()))
    return (meet(place, part.body, body, held) if part.is_layer else place), body


def _lies_within(part: Region, match: Match, back: Match, there: Tensor) -> Tensor:
    """Pixels whose match lies in a recoloured part, and leads back or is where the part's motion puts it."""
    returns = returns_to(match.field, back.field, 4.0)
    return sample_at(dilate(part.mask, 1), match.field) * torch.maximum(returns, sample_at(part.mask, there))


def _leading(part: Region, apart: Tensor, trust: Tensor) -> Tensor:
    """Which pixels of a part tell its motion, [1, 1, h, w]. An added hat lies over background but follows the head: where some
    of a part moves apart from the background, that leads.
    """
    weight = _depth(part.mask).square() * trust
    front = ((apart * weight).sum() / (weight.sum() + 1e-8) - 0.08) / 0.10
    return torch.lerp(torch.ones_like(apart), apart, front.clamp(0, 1))


def _in_front(regions: Regions, match: Match, apart: Tensor) -> Tensor:
    """Pixels that show something of the source which was not edited and passes before the layer: [1, 1, h, w]."""
    unedited = apart * (1 - dilate(regions.mask, 3))
    sure = torch.exp(-match.cost / 0.005)
    seen = (sample_at(unedited, match.field) * sure > 0.5).float()
    return gaussian(dilate(erode(seen, 1), 2), 1.0)


def _depth(part: Tensor) -> Tensor:
    """Distance to the region's edge, 1 from 12 pixels on: [1, 1, h, w]."""
    distance = cv2.distanceTransform(part[0, 0].byte().cpu().numpy(), cv2.DIST_L2, 3)
    return torch.from_numpy(distance).to(part)[None, None].clamp(max=12.0) / 12.0


def stands_apart(regions: Regions, match: Match, back: Match, before: Tensor | None) -> Tensor:
    """1 where the key frame's pixels do not move as the background does: soft, [1, 1, h, w].

    The background's motion is taken to be affine. Where that holds no more (parallax, long after the key frame), what was
    known `before` stands.
    """
    motion = back.field - grid_of(back.field)
    background = _trust(match, back) * (1 - dilate(regions.mask, 4))
    now = torch.sigmoid((box(length(motion - affine_motion(motion, background)), 5) - 1.5) / 0.4)
    if before is None:
        return now
    fits = 1 - (now * background).sum() / (background.sum() + 1e-6)
    return torch.lerp(before, now, 0.5 * ((fits - 0.8) / 0.15).clamp(0, 1))


def _trust(match: Match, back: Match) -> Tensor:
    """How surely each of the key frame's pixels was found again: [1, 1, h, w] in [0, 1]."""
    return torch.exp(-back.cost / 0.01) * returns_to(back.field, match.field, 3.0)


def _is_followed(part: Tensor, trust: Tensor, apart: Tensor) -> bool:
    """Whether the source's own pixels inside a part tell its motion: they can be followed, or are no background."""
    inner = _depth(part).square()
    inner = inner / inner.sum().clamp(min=1e-6)
    return (inner * trust).sum().item() > _FOLLOWED or (inner * apart).sum().item() > _APART


def _adjoining_motion(part: Tensor, motion: Tensor, trust: Tensor) -> Tensor:
    """The affine motion, [1, 2, h, w], of what adjoins a part that was put over a background nobody can follow."""
    return affine_motion(motion, dilate(part, _ADJOINING) * trust.square() + 1e-6)


def _part_motion(part: Tensor, motion: Tensor, trust: Tensor, leads: Tensor) -> Tensor:
    """A part's motion everywhere, [1, 2, h, w]: affine, and as much of the smooth rest as its own pixels support."""
    weight = _depth(part).square() * trust * leads + 1e-6 * part
    affine = affine_motion(motion, weight)
    rest = motion - affine
    # A match that went astray is an outlier of the region's motion, not part of it.
    agrees = weight / (1 + (length(rest) / 4.0).square()).square()
    return affine + extend(rest, agrees, 6.0)


def scattered(match: Match) -> Tensor:
    """Return where each of the key frame's points is in the frame, [1, 2, h, w], as far as pixels of the frame point to it; between
    those, smoothly. Of several pixels the one with the lowest cost counts.
    """
    height, width = match.field.shape[-2:]
    order = match.cost.flatten().argsort(descending=True).cpu().numpy()
    x, y = (match.field[0].flatten(1).round().long().cpu().numpy())[:, order]
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = y[within] * width + x[within]
    found = np.zeros((3, height * width), np.float32)
    found[:2, place] = grid_of(match.field)[0].flatten(1).cpu().numpy()[:, order[within]]  # the last one written stays
    found[2, place] = 1
    points = torch.from_numpy(found).view(1, 3, height, width).to(match.field)
    return spread(points[:, :2], points[:, 2:])


def _invert(motion: Tensor) -> Tensor:
    """The field p -> q with q + motion(q) = p, by fixed-point iteration."""
    grid = grid_of(motion)
    place = grid
    for _ in range(8):
        place = grid - sample_at(motion, place)
    return place
