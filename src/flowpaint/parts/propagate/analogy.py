"""`Analogy`: source key frame : edited key frame :: source frame : edited frame.

Hertzmann et al., SIGGRAPH 2001, and Jamriska et al., SIGGRAPH 2019, state the problem; matching, transfer and layers are ours
(their modules say how). Matching runs at reduced size, transfer at full size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from ...labels import describe
from ...seams import FlowEstimator, Run, default
from ...types import Clip, Edit, Raw, check_shape, from_raw, to_raw
from ...warp import grid_of, resize, sample_at, warp
from .beside import fading, untouched
from .chain import Chain, State, check_keyframes
from .compose import Key, Tracked, render
from .layer import Known, carry
from .match import Matcher, confidence, rescale
from .regions import Regions
from .transfer import Transfer, Votes

_SIDES = {"draft": 160, "normal": 256, "best": 384}
_VOTES: dict[str, Votes] = {"draft": 1, "normal": 5, "best": 13}


@dataclass(frozen=True, kw_only=True)
class Analogy:
    """Carries edited key frames to every frame by correspondence; needs no weights.

    `match_side`: short side (pixels) at which frames are compared, by quality if None. `search_every`: frames between
    exhaustive matches. `steadiness`: how far the previous result fills in where nothing in the key frame fits.
    """

    takes_extent: ClassVar[bool] = True

    flow: FlowEstimator = default("flow", "dis")
    match_side: int | None = None
    search_every: int = 4
    ridge: float = 5e-4
    steadiness: float = 0.7

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
        self.prepared: dict[int, Key] = {}

    def advance(self, index: int, state: State) -> tuple[Raw, State]:
        """Frame `index`, and what the next one leans on."""
        with torch.no_grad():
            frame = self._full(self.clip.raw(index))
            small = resize(frame, *self.small)
            before = torch.from_numpy(state["small"]).to(self.run.device) if state else None
            motion = self._both(small, before) if before is not None else None
            # Only what is near is kept. (No cache that holds a method of this object: a cycle frees its tensors late.)
            self.prepared = {k: self.prepared.get(k) or self._prepare(k) for k in self._near(index)}
            tracks = {k: self._track(k, index, small, motion, state) for k in self.prepared}
            if index in self.keys:
                result, trust = self._full(to_raw(self.keyframes[index], self.clip.bits)), torch.ones_like(frame[:, :1])
            else:
                result, trust = self._fuse(index, frame, tracks)
                result = self._settle(result, trust, small, motion, state)
            self.run.notes.frame(self.run.offset + index, confidence=trust.mean().item())
            raw = to_raw(result[0], self.clip.bits)
            return raw, self._remember(small, raw, trust, tracks)

    def _full(self, raw: Raw) -> Tensor:
        return from_raw(raw)[None].to(self.run.device)

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
        number, decision = self.run.offset + index, regions.decision
        self.run.notes.frame(number, changed=round(decision.share, 4), local=float(decision.is_local))
        self.run.notes.facts[f"extent of frame {number}"] = str(decision)
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
            transfer=Transfer.measure(source, edited, ridge=self.part.ridge, where=where),
            same=untouched(source, edited) if regions.is_global else None,
        )

    def _both(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Flow a to b, and b to a."""
        flow = self.part.flow(a, b)
        return flow.vectors, flow.reverse if flow.reverse is not None else self.part.flow(b, a).vectors

    def _track(self, key_index: int, index: int, small: Tensor, motion: tuple[Tensor, Tensor] | None, state: State) -> Tracked:
        """Where frame `index` is in the key frame and back, from where it was one frame before."""
        key = self.prepared[key_index]
        direct, reverse = self._both(small, key.small)
        grid = grid_of(small)
        towards, away = [grid + direct], [grid + reverse]
        if motion is not None and f"{key_index}/towards" in state:
            old_towards, old_away = (torch.from_numpy(state[f"{key_index}/{name}"]).to(small) for name in ("towards", "away"))
            towards.insert(0, warp(old_towards, motion[0]))
            away.insert(0, old_away + sample_at(motion[1], old_away))
        described, regions = describe(small), key.regions
        search = index % self.part.search_every == 0 or len(towards) == 1
        match = Matcher(described, key.described)(towards, search=search)
        there = Matcher(key.described, described)
        if regions.is_global:
            back, carried = there.pick(away), None
        else:
            back = there(away, search=search)
            carried = carry(regions, match, back, small, self._known(key_index, motion, state))
        return Tracked(match, back, confidence(match, back.field), carried)

    def _known(self, key_index: int, motion: tuple[Tensor, Tensor] | None, state: State) -> Known | None:
        """What the frame before knew of a local edit's parts, brought to this frame."""
        if motion is None or f"{key_index}/apart" not in state:
            return None
        names = (f"{key_index}/apart", "small", f"{key_index}/bodies")
        apart, before, bodies = (torch.from_numpy(state[name]).to(motion[0]) for name in names)
        return Known(apart, warp(before, motion[0]), warp(bodies, motion[0]))

    def _fuse(self, index: int, frame: Tensor, tracks: Mapping[int, Tracked]) -> tuple[Tensor, Tensor]:
        """What the key frames on either side say, each by its confidence and its distance in time."""
        total, mass, best = torch.zeros_like(frame), torch.zeros_like(frame[:, :1]), torch.zeros_like(frame[:, :1])
        for key_index, near in self._near(index).items():
            beside = fading(index - key_index)
            picture, trust = render(self.prepared[key_index], tracks[key_index], frame, self.votes, beside)
            weight = (near * (trust + 0.02)).square()
            total, mass, best = total + weight * picture, mass + weight, torch.maximum(best, trust)
        return total / mass, best

    def _settle(self, result: Tensor, trust: Tensor, small: Tensor, motion: tuple[Tensor, Tensor] | None, state: State) -> Tensor:
        """The previous result, carried along the flow, where the key frame has no answer and the flow is sure of itself."""
        if motion is None or self.part.steadiness == 0:
            return result
        height, width = result.shape[-2:]
        miss = (warp(torch.from_numpy(state["small"]).to(small), motion[0]) - small).square().sum(dim=1, keepdim=True)
        alike = resize(torch.exp(-miss / 0.005), height, width)
        place = rescale(grid_of(motion[0]) + motion[0], height, width)
        before = sample_at(from_raw(cast(Raw, state["result"]))[None].to(result), place)
        return result + self.part.steadiness * (1 - trust) * alike * (before - result)

    def _remember(self, small: Tensor, raw: Raw, trust: Tensor, tracks: Mapping[int, Tracked]) -> State:
        levels = (resize(trust, *self.small) * 255).round().to(torch.uint8)
        state: dict[str, np.ndarray[Any, Any]] = {"small": small.cpu().numpy(), "result": raw, "trust": levels.cpu().numpy()}
        for key_index, track in tracks.items():
            state[f"{key_index}/towards"] = track.match.field.cpu().numpy()
            state[f"{key_index}/away"] = track.back.field.cpu().numpy()
            if track.carried is not None:
                state[f"{key_index}/apart"] = track.carried.known.apart.cpu().numpy()
                state[f"{key_index}/bodies"] = track.carried.known.bodies.cpu().numpy()
        return state
