"""FlowVid's windows: hints for each, one chained to the next, colours led back, and what is trusted of two results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ..carry import finished, within
from ..colour import calibrated, foretold, moments
from ..diffusion.translate import Conditions, fitted, source_frames
from ..enlarge import enlarge
from ..hints import GRAY, Fill, Hinted, Repaired, Repairer, filled, first_to_each, hint
from ..regression import ColourMap
from ..seams import FlowEstimator, Run
from ..smoothing import box, spread
from ..types import Clip, Edit, Raw, from_raw, to_raw
from ..warp import resize

Calibration: TypeAlias = Literal["none", "plain", "source-relative"]
Trust: TypeAlias = Callable[[int], Tensor]

_SEEN = 0.1  # of a frame that an anchor must show for the frame to lean on it
_LOST, _SURE = 0.15, 0.4  # trust up to which a propagated picture is replaced, and from which it stays
_COMPARABLE = 0.05  # of a frame that must be sure for a network's picture to be compared there
_MARGIN = 4.0  # by which that picture must be nearer there than what colours miss: `analogy` misses less than they do
_COMPARED = 128  # short side at which it is measured what colours tell of an edit
_FEATHER = 5  # pixels over which the edge of what is replaced fades


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """A frame of which the edited picture is known: both [3, h, w] in [0, 1]; its latent [C, h, w] where that is known better."""

    frame: int
    picture: Tensor
    source: Tensor
    latent: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """The key frames of one clip, repaired window by window when one is asked for, and kept in the run's store.

    `chains` are windows that follow each other, each chain beginning at one of the `edited` frames, pictures [3, H, W] in
    [0, 1] by number. Frames are worked on at `size`, windows made up to `window` frames by repeating the last one; `fill` is what
    holes show. With `plain` the repairer is also told the hints of the unedited clip.
    """

    clip: Clip
    edited: Mapping[int, Tensor]
    chains: Sequence[Sequence[tuple[int, ...]]]
    size: tuple[int, int]
    window: int
    control: Conditions
    flow: FlowEstimator
    repairer: Repairer
    encode: Callable[[Tensor], Tensor]  # pictures [N, 3, h, w] to latents like those of the repairer
    fill: Fill
    calibrate: Calibration
    plain: bool
    edit: Edit
    run: Run

    def picture(self, index: int) -> Tensor:
        """Key frame `index`, repaired, at the clip's size: [3, H, W] in [0, 1]."""
        kept = self.run.store.get(self._name(index))
        if kept is None:
            self._until(index)
            kept = self.run.store.get(self._name(index))
            assert kept is not None, "it was stored just now"
        source = self.clip.frame(index)
        large = enlarge(resize(source[None], *self.size)[0], from_raw(kept["picture"]), source)
        return finished(large, source, replace(self.edit, strength=1.0))  # the edited frames were mixed with their source

    def _name(self, index: int) -> str:
        return f"flowvid {self.run.offset + index}"

    @torch.no_grad()
    def _until(self, index: int) -> None:
        """Repair the windows that lead to frame `index` and are not done yet: behind one that is done all are."""
        chain = next(chain for chain in self.chains if any(index in window for window in chain))
        last = next(number for number, window in enumerate(chain) if index in window)
        first = next((number + 1 for number in range(last, -1, -1) if self._is_done(chain[number])), 0)
        for number in range(first, last + 1):
            self._keep(chain[number], self.repairer(self._told(chain[number]), self.run))
            self.run.progress("windows", number + 1, len(chain))

    def _is_done(self, window: tuple[int, ...]) -> bool:
        return all(self.run.store.get(self._name(one)) is not None for one in window[1:] if one not in self.edited)

    # ------------------------------------------------------------------------------------------------------------- telling

    def _told(self, window: tuple[int, ...]) -> Hinted:
        """What the repairer is told of `window`."""
        own = source_frames(self.clip, window, self.size, self.run.device)
        anchors = list(self._anchors(window, own))
        flows = [self._flow(one, window, own) for one in anchors]
        near = [sorted(range(len(anchors)), key=lambda one: abs(anchors[one].frame - frame)) for frame in window]
        warped, mask, nearest = laid([one.picture for one in anchors], flows, near)
        warped = filled(warped, mask, self.fill)
        rows = [min(row, len(window) - 1) for row in range(self.window)]
        frames, source = tuple(window[row] for row in rows), own[rows]
        told = Hinted(
            source=source,
            warped=warped[rows],
            mask=mask[rows],
            anchors=torch.stack([one.picture for one in anchors]),
            nearest=tuple(nearest[row] for row in rows),
            frames=frames,
            edits=tuple(self.edit.at(frame) for frame in frames),
            controls=tuple(condition(source) for condition in self._conditions),
            latents={number: one.latent for number, one in enumerate(anchors) if one.latent is not None},
        )
        if not self.plain:
            return told
        sources = [one.source for one in anchors]
        bare = filled(laid(sources, flows, near)[0], mask, self.fill)
        return replace(told, plain=replace(told, warped=bare[rows], anchors=torch.stack(sources), latents={}))

    @cached_property
    def _conditions(self) -> Conditions:
        """The conditions, with the scale of the whole clip where they have one."""
        frames = sorted({frame for chain in self.chains for window in chain for frame in window})
        return tuple(fitted(one, self.clip, frames, self.size, self.run.device) for one in self.control)

    def _anchors(self, window: tuple[int, ...], own: Tensor) -> Iterator[Anchor]:
        """The first frame of `window`, then edited frames inside it and the nearest ones on either side."""
        low, high = min(window), max(window)
        order = sorted(self.edited)
        inside = [one for one in order if low <= one <= high]
        around = [*[one for one in order if one < low][-1:], *inside, *[one for one in order if one > high][:1]]
        for frame in (window[0], *(one for one in around if one != window[0])):
            source = own[window.index(frame)] if frame in window else self._small(self.clip.frame(frame))
            if frame in self.edited:
                yield Anchor(frame=frame, picture=self._small(self.edited[frame]), source=source)
                continue
            kept = self.run.store.get(self._name(frame))
            assert kept is not None, "the window before has kept its last frame"
            latent = torch.from_numpy(kept["latent"]).to(own) if "latent" in kept else None
            yield Anchor(frame=frame, picture=from_raw(kept["picture"]).to(own), source=source, latent=latent)

    def _small(self, picture: Tensor) -> Tensor:
        return resize(picture[None].to(self.run.device), *self.size)[0]

    def _flow(self, anchor: Anchor, window: tuple[int, ...], own: Tensor) -> tuple[Tensor, Tensor]:
        """Flow from each frame of `window` to `anchor`, pixels [T, 2, h, w], and where they are seen in it, [T, 1, h, w].

        From the window's first frame it may go by way of the frames between; other anchors are seen directly or not at all.
        """
        rows = [row for row, frame in enumerate(window) if frame != anchor.frame]
        least = 0.5 if anchor.frame == window[0] else 0.0
        found = first_to_each(torch.cat((anchor.source[None], own[rows])), self.flow, least_seen=least)
        backward, seen = torch.zeros_like(own[:, :2]), torch.ones_like(own[:, :1])
        backward[rows], seen[rows] = found.backward, found.visibility
        return backward, seen

    # ------------------------------------------------------------------------------------------------------------- keeping

    def _keep(self, window: tuple[int, ...], made: Repaired) -> None:
        """Store the new frames of a window, their colours led back; with the last one its latent, for the next window.

        A frame stands there whole or not at all, and a window is done when all of them do.
        """
        last = window[-1]
        for row, frame in enumerate(window[1:], start=1):
            if frame in self.edited:
                continue
            picture = self._led_back(made.pictures[row], frame)
            arrays = {"picture": to_raw(picture, self.clip.bits)}
            if frame == last and made.latents is not None:
                arrays["latent"] = self._moved(made.latents[row], made.pictures[row], picture).cpu().numpy()
            self.run.store.put(self._name(frame), arrays)

    def _led_back(self, picture: Tensor, frame: int) -> Tensor:
        """`picture` [3, h, w] of `frame` with the colours of the nearest edited frame, or with what these have become."""
        if self.calibrate == "none":
            return picture
        key = min(self.edited, key=lambda one: (abs(one - frame), one))
        edited = self._small(self.edited[key])
        if self.calibrate == "plain":
            return calibrated(picture, *moments(edited))
        before, now = (self._small(self.clip.frame(one)) for one in (key, frame))
        return calibrated(picture, *foretold(edited, before, now))

    def _moved(self, latent: Tensor, decoded: Tensor, picture: Tensor) -> Tensor:
        """The latent [C, h, w] of `picture`, which was `decoded` from `latent` before its colours were led back.

        Only what that changed is encoded: what the autoencoder loses there and back is not lost again.
        """
        if torch.equal(decoded, picture):
            return latent
        before, after = self.encode(torch.stack((decoded, picture)))
        return torch.add(latent, after - before)


def laid(
    pictures: Sequence[Tensor], flows: Sequence[tuple[Tensor, Tensor]], near: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, list[int]]:
    """The pictures of several anchors laid onto T frames, the mask of what none shows, and for each frame the anchor it leans on.

    `pictures` are A of [3, h, w]; `flows` A of backward flow [T, 2, h, w], pixels, and visibility [T, 1, h, w]; `near` lists the
    anchors for each frame, the nearest first. Each pixel shows the nearest anchor in which it is seen: [T, 3, h, w], gray where
    the mask [T, 1, h, w] is 1. A frame leans on the nearest anchor that shows a tenth of it, else on anchor 0.
    """
    shown = [hint(picture, *flow) for picture, flow in zip(pictures, flows, strict=True)]
    warped, mask = torch.full_like(shown[0][0][1:], GRAY), torch.ones_like(shown[0][1][1:])
    nearest = []
    for row, order in enumerate(near):
        for number in order:
            picture, hidden = (one[row + 1] for one in shown[number])
            new = mask[row] * (1 - hidden)
            warped[row], mask[row] = torch.lerp(warped[row], picture, new), mask[row] * hidden
        nearest.append(next((one for one in order if float(1 - shown[one][1][row + 1].mean()) >= _SEEN), 0))
    return warped, mask, nearest


def composite(sure: Clip, trust: Trust, repaired: Clip, *, missed: float, lost: float) -> Clip:
    """`sure` where its `trust` [1, 1, h, w] in [0, 1] is high, else `repaired`, led to the colours around.

    What `sure` shows where it has no answer follows from the source's colours, and misses of the edit what these do not tell:
    `missed`, a mean square (`missed_by_colours`), and mostly less, for it also knows the edit around. So a frame of `repaired` is
    taken only if it differs from `sure`, where this is sure, by a quarter of that or less, and wholly from an eighth on; not at
    all where there is no such place to compare. It is taken to differ by no less than what its model has `lost` of the edited
    frame (`lost_in_latents`), for beside an edited frame both are that frame. Frames of which nothing is replaced stay as they
    are, to the bit.
    """

    def read(index: int) -> Raw:
        sureness = trust(index)
        doubt = ((_SURE - sureness) / (_SURE - _LOST)).clamp(0.0, 1.0)
        if missed == 0 or not bool((doubt > 0).any()):
            return sure.raw(index)
        base, picture = sure.frame(index)[None], repaired.frame(index)[None]
        gain = _gain(base, picture, (doubt <= 0).to(base), missed, lost)
        share = box(resize(gain * doubt.to(base), *base.shape[-2:]), _FEATHER)
        led = picture + spread(base - picture, (share <= 0).to(base))
        return to_raw(torch.lerp(base, led, share)[0].clamp(0.0, 1.0), sure.bits) if gain > 0 else sure.raw(index)

    return sure.with_frames(read)


def _gain(base: Tensor, picture: Tensor, sure: Tensor, missed: float, lost: float) -> float:
    """How far `picture` is to be trusted more than colours alone, 0 to 1: both [1, 3, H, W], `sure` [1, 1, h, w] is 0 or 1."""
    if float(sure.mean()) < _COMPARABLE:
        return 0.0
    a, b = (resize(one, *sure.shape[-2:]) for one in (base, picture))
    error = max(lost, float(((a - b).square().mean(dim=1, keepdim=True) * sure).sum() / sure.sum()))
    return min(max(missed / max(_MARGIN * error, 1e-8) - 1, 0.0), 1.0)


def lost_in_latents(edited: Mapping[int, Tensor], roundtrip: Callable[[Tensor], Tensor], size: tuple[int, int]) -> float:
    """What a model loses of the `edited` frames, pictures [3, H, W] in [0, 1] by number, at `size`: the mean square.

    `roundtrip` encodes and decodes pictures [1, 3, h, w].
    """
    small = [resize(picture[None], *size) for picture in edited.values()]
    return sum(float((roundtrip(one) - one).square().mean()) for one in small) / len(small)


def missed_by_colours(edited: Mapping[int, Tensor], clip: Clip) -> float:
    """What a map of colours misses of an edit, a mean square over the `edited` frames, pictures [3, H, W] in [0, 1] by number."""
    rests = []
    for index, picture in edited.items():
        before, after = (_compared(one) for one in (clip.frame(index), picture))
        rests.append(float((after - ColourMap.fit(before, after)(before).clamp(0.0, 1.0)).square().mean()))
    return sum(rests) / len(rests)


def _compared(picture: Tensor) -> Tensor:
    """`picture` [3, H, W] at a short side of at most 128: [1, 3, h, w]."""
    return within(picture, _COMPARED)[None]
