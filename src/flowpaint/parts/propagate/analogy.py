"""`Analogy`: source key frame : edited key frame :: source frame : edited frame.

Hertzmann et al., SIGGRAPH 2001, and Jamriska et al., SIGGRAPH 2019, state the problem; matching, transfer and layers are ours
(their modules say how). Matching runs at reduced size, transfer at full size, in strips that several threads share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...labels import describe
from ...parallel import each
from ...seams import FlowEstimator, Run, default
from ...types import Clip, Edit, Raw, check_shape, from_raw, to_raw
from ...warp import grid_of, resize, sample_at, warp
from .chain import Chain, State, check_keyframes
from .compose import Key, Placed, Rows, Shown, Tracked, displacement, filtered, render
from .layer import Known, carry
from .match import Matcher, confidence
from .raster import Sampler, enlarge, strips
from .regions import Regions
from .transfer import Transfer, Votes

_SIDES = {"draft": 160, "normal": 256, "best": 384}
_VOTES: dict[str, Votes] = {"draft": 1, "normal": 5, "best": 13}
_REST = 8192  # steps by which the rest of a result is kept for the next frame: 16 bits reach from -4 to 4
_Flows: TypeAlias = tuple[Tensor, Tensor]  # from a picture to another, and back


@dataclass(frozen=True, kw_only=True)
class Analogy:
    """Carries edited key frames to every frame by correspondence; needs no weights.

    `match_side`: short side (pixels) at which frames are compared, by quality if None. `search_every`: frames between
    exhaustive matches. `steadiness`: how much of what no filter explains of an edit is kept from the frame before, 0 to 1.
    """

    flow: FlowEstimator = default("flow", "dis")
    match_side: int | None = None
    search_every: int = 4
    steadiness: float = 0.8

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy: key frames exactly as given, [3, H, W] in [0, 1], the others in their likeness."""
        return self.with_trust(clip, keyframes, edit, run)[0]

    def with_trust(
        self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run
    ) -> tuple[Clip, Callable[[int], Tensor]]:
        """The edited clip, lazy, and how sure each pixel of a frame is: [1, 1, h, w] in [0, 1], at the size of matching.

        1 in key frames; elsewhere what matching says of itself (`match.confidence`), of the key frames on either side the better.
        """
        check_keyframes(clip, keyframes)
        chain = Chain(_Work(self, clip, keyframes, edit, run).advance, run, f"analogy/{run.offset}")
        return clip.with_frames(chain.read), lambda index: torch.from_numpy(chain.state(index)["trust"]) / 255


def _do(piece: Callable[[], Any]) -> Any:
    return piece()


@dataclass(frozen=True)
class _Before:
    """What the frame before left: the flow between it and this frame at matching size, and what it knew."""

    motion: _Flows
    small: Tensor  # the frame before
    now: Tensor  # this frame
    state: State


class _Work:
    """One run of `Analogy` over one clip."""

    def __init__(self, part: Analogy, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> None:
        self.part, self.clip, self.edit, self.run = part, clip, edit, run
        self.keyframes = keyframes
        self.keys = sorted(keyframes)
        self.votes = _VOTES[run.quality]
        side = min(part.match_side or _SIDES[run.quality], clip.height, clip.width)
        scale = side / min(clip.height, clip.width)
        self.small = (max(1, round(clip.height * scale)), max(1, round(clip.width * scale)))
        self.rows: list[Rows] = strips(clip.height, clip.width, run.device)
        self.prepared: dict[int, Key] = {}

    def advance(self, index: int, state: State) -> tuple[Raw, State]:
        """Frame `index`, and what the next one leans on."""
        with torch.no_grad():
            shown = Shown(self._full(self.clip.raw(index)))
            small = resize(shown.picture, *self.small)
            # Only what is near is kept. (No cache that holds a method of this object: a cycle frees its tensors late.)
            self.prepared = {k: self.prepared.get(k) or self._prepare(k) for k in self._near(index)}
            before, direct = self._flows(index, small, shown, state)
            tracks, bases = self._tracks(small, shown, before, direct)
            trust = torch.stack([one.sure for one in tracks.values()]).amax(dim=0)
            if index in self.keys:
                trust = torch.ones_like(trust)
            self.run.notes.frame(self.run.offset + index, confidence=trust.mean().item())
            raw, rest = self._pictures(index, shown, tracks, bases, before)
            return raw, self._remember(small, rest, trust, tracks)

    def _full(self, raw: Raw) -> Tensor:
        return from_raw(raw)[None].to(self.run.device).contiguous()

    def _near(self, index: int) -> dict[int, float]:
        """The key frames on either side of a frame, and how near each is: 1 at the key frame, 0 from six sevenths of the way
        to the other one on, where it no longer counts.
        """
        sides = [k for k in self.keys if k <= index][-1:] + [k for k in self.keys if k > index][:1]
        span = max(sides) - min(sides)
        near = {k: 1.0 if span == 0 else max(0.0, 1 - abs(index - k) / span * 7 / 6) for k in sides}
        return {k: share for k, share in near.items() if share > 0}

    def _prepare(self, index: int) -> Key:
        source = self._full(self.clip.raw(index))
        edited = self.keyframes[index][None].to(source)
        check_shape(keyframe=(edited, "1 3 H W"), frame=(source, "1 3 H W"))
        small, small_edited = resize(source, *self.small), resize(edited, *self.small)
        regions = Regions.find(small, small_edited, self.edit.extent)
        if regions.changes_shape:
            self.run.notes.warn(
                f"The edit of frame {self.run.offset + index} changes the object's outline, which correspondence cannot move. "
                "Use --method stablev2v with --object, or edit more frames by hand."
            )
        where = None if regions.is_global else resize(regions.clean(), *source.shape[-2:])
        return Key(
            source=source,
            edited=edited,
            described=describe(small),
            small=small,
            regions=regions,
            transfer=Transfer.measure(source, edited, where=where),
        )

    # -------------------------------------------------------------------------------------------------------- where things are

    def _flows(self, index: int, small: Tensor, shown: Shown, state: State) -> tuple[_Before | None, dict[int, _Flows]]:
        """Flow to the frame before; and to the key frames that are matched afresh. Meanwhile the frame's bank is filled."""
        old = torch.from_numpy(state["small"]).to(self.run.device) if state else None
        fresh = [k for k in self.prepared if self._searches(index) or f"{k}/towards" not in state]
        others = [old] if old is not None else []
        pairs = [*others, *(self.prepared[k].small for k in fresh)]
        *flows, _ = each(_do, [*(partial(self._both, small, one) for one in pairs), lambda: shown.bank])
        before = _Before(flows.pop(0), old, small, state) if old is not None else None
        return before, dict(zip(fresh, flows, strict=True))

    def _searches(self, index: int) -> bool:
        return index % self.part.search_every == 0

    def _both(self, a: Tensor, b: Tensor) -> _Flows:
        """Flow a to b, and b to a."""
        flow = self.part.flow(a, b)
        return flow.vectors, flow.reverse if flow.reverse is not None else self.part.flow(b, a).vectors

    def _tracks(
        self, small: Tensor, shown: Shown, before: _Before | None, direct: Mapping[int, _Flows]
    ) -> tuple[dict[int, Tracked], dict[int, list[Tensor]]]:
        """Where the frame is in the key frames; and, strip by strip, what each one's edit makes of it as a filter."""
        described = describe(small)
        coarse = {k: key.transfer.filter.coarse(shown.bank) for k, key in self.prepared.items()}
        tracking = [partial(self._track, key, k, (small, described), before, direct.get(k)) for k, key in self.prepared.items()]
        filtering = [partial(filtered, key, shown, coarse[k], rows) for k, key in self.prepared.items() for rows in self.rows]
        made = each(_do, [*tracking, *filtering])
        tracks = dict(zip(self.prepared, made, strict=False))
        count, pieces = len(self.rows), made[len(tracks) :]
        return tracks, {k: pieces[number * count : (number + 1) * count] for number, k in enumerate(tracks)}

    def _track(self, key: Key, name: int, frame: tuple[Tensor, Tensor], before: _Before | None, direct: _Flows | None) -> Tracked:
        """Where a frame, small and described, is in a key frame and back, from where it was one frame before."""
        small, described = frame
        grid = grid_of(small)
        towards, away = [], []
        if before is not None and f"{name}/towards" in before.state:
            old_towards, old_away = (torch.from_numpy(before.state[f"{name}/{one}"]).to(small) for one in ("towards", "away"))
            towards.append(warp(old_towards, before.motion[0]))
            away.append(old_away + sample_at(before.motion[1], old_away))
        if direct is not None:
            towards.append(grid + direct[0])
            away.append(grid + direct[1])
        match = Matcher(described, key.described)(towards, search=direct is not None)
        there = Matcher(key.described, described)
        if key.regions.is_global:
            back, carried = there.pick(away), None
        else:
            back = there(away, search=direct is not None)
            carried = carry(key.regions, match, back, small, self._known(name, before))
        return Tracked(match, back, confidence(match, back.field), carried)

    def _known(self, name: int, before: _Before | None) -> Known | None:
        """What the frame before knew of a local edit's parts, brought to this frame."""
        if before is None or f"{name}/apart" not in before.state:
            return None
        apart, old, bodies = (
            torch.from_numpy(before.state[one]).to(before.small) for one in (f"{name}/apart", "small", f"{name}/bodies")
        )
        return Known(apart, warp(old, before.motion[0]), warp(bodies, before.motion[0]))

    # --------------------------------------------------------------------------------------------------------------- pictures

    def _pictures(
        self,
        index: int,
        shown: Shown,
        tracks: Mapping[int, Tracked],
        bases: Mapping[int, list[Tensor]],
        before: _Before | None,
    ) -> tuple[Raw, Tensor]:
        """Frame `index`, and its rest [1, 3, H, W] in steps of `_REST`."""
        size = self.clip.height, self.clip.width
        placed = {k: Placed.of(track, *size) for k, track in tracks.items()}
        steady = None if before is None else self._steady(before)
        given = self.keyframes[index][None].to(shown.picture) if index in self.keys else None

        def piece(number: int) -> tuple[Raw, Tensor]:
            rows = self.rows[number]
            base, rest = self._fuse(index, shown, placed, {k: one[number] for k, one in bases.items()}, rows)
            if given is not None:
                picture = given[..., rows[0] : rows[1], :]
                rest = picture - base
            else:
                rest = steady(rest, rows) if steady else rest
                picture = base + rest
            return to_raw(picture[0], self.clip.bits), (rest * _REST).round_().clamp_(-32768, 32767).short()

        raws, rests = zip(*each(piece, range(len(self.rows))), strict=True)
        return np.concatenate(raws), torch.cat(rests, dim=2)

    def _fuse(
        self, index: int, shown: Shown, placed: Mapping[int, Placed], bases: Mapping[int, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Base and rest of `rows` as the key frames on either side have it, each by its confidence and its distance in time."""
        parts = {k: render(self.prepared[k], one, shown, bases[k], rows, self.votes) for k, one in placed.items()}
        if len(parts) == 1:
            return next(iter(parts.values()))
        near = self._near(index)
        weights = {k: (near[k] * (one.sure[..., rows[0] : rows[1], :] + 0.02)).square() for k, one in placed.items()}
        mass = sum(weights.values())
        base, rest = (sum(weights[k] * part[which] for k, part in parts.items()) / mass for which in (0, 1))
        return base, rest

    def _steady(self, before: _Before) -> Callable[[Tensor, Rows], Tensor] | None:
        """How the rest of a result is steadied: drawn to that of the frame before, as far as the flow explains the source."""
        if self.part.steadiness == 0:
            return None
        size = self.clip.height, self.clip.width
        grid = grid_of(before.small)
        sampler = Sampler(torch.from_numpy(before.state["rest"]).to(self.run.device).float().div_(_REST))
        miss = (warp(before.small, before.motion[0]) - before.now).square().sum(dim=1, keepdim=True)
        share = enlarge(self.part.steadiness * torch.exp(-miss / 0.005), *size)
        shift = displacement(grid + before.motion[0], *size)

        def steadied(rest: Tensor, rows: Rows) -> Tensor:
            cut = (..., slice(*rows), slice(None))
            place = shift[cut] + grid_of(rest)
            place[:, 1] += rows[0]
            return torch.lerp(rest, sampler(place), share[cut])

        return steadied

    def _remember(self, small: Tensor, rest: Tensor, trust: Tensor, tracks: Mapping[int, Tracked]) -> State:
        levels = (trust * 255).round().to(torch.uint8)
        kept = {"small": small, "rest": rest, "trust": levels}
        for key_index, track in tracks.items():
            kept[f"{key_index}/towards"] = track.match.field
            kept[f"{key_index}/away"] = track.back.field
            if track.carried is not None:
                kept[f"{key_index}/apart"] = track.carried.known.apart
                kept[f"{key_index}/bodies"] = track.carried.known.bodies
        return {name: one.cpu().numpy() for name, one in kept.items()}
