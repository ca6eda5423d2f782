"""`EbSynth`: key frames carried by guided patch synthesis, done by the program of that name (Fiser et al., SIGGRAPH 2016).

Jamriska et al., SIGGRAPH 2019, say how a video is stylised with it; weights and order are those of FRESCO (Yang et al.,
CVPR 2024), which runs a version of the program that also writes its matching error. The stock program writes none, so ours is
measured here: what its guides cost at the place in the key frame to which our own flow leads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError
from ...seams import FlowEstimator, Run, default
from ...smoothing import box, extend
from ...types import Clip, Edit, Flow, Raw, check_shape, from_raw, to_raw
from ...warp import grid_of, sample_at, warp
from .chain import KEPT, Chain, State, check_keyframes
from .guides import edges, picture_of_places
from .merge import choose, merge
from .program import Bytes, Guide, find, synthesise


@dataclass(frozen=True, kw_only=True)
class EbSynth:
    """Carries key frames by the external program EbSynth, forward and backward, and merges both directions.

    `program`: its path, or its name on PATH. `colour`, `edge`, `temporal`, `position`: weights of the guides. `uniformity`,
    `patch`, `votes`, `matches`: its own options (-uniformity, -patchsize, -searchvoteiters, -patchmatchiters). `gradients`:
    the merged picture takes on the gradients of the better direction. `limit`: seconds that one frame may take.
    """

    flow: FlowEstimator = default("flow", "dis")
    program: str = "ebsynth"
    colour: float = 6.0
    edge: float = 0.5
    temporal: float = 0.5
    position: float = 2.0
    uniformity: float = 3500.0
    patch: int = 5
    votes: int = 12
    matches: int = 6
    gradients: bool = True
    limit: float = 600.0

    def __post_init__(self) -> None:
        if self.patch < 3 or self.patch % 2 == 0:
            raise ConfigError(f"Patches of {self.patch} pixels cannot be matched. Give an odd number, 3 or more.")
        if self.limit <= 0:
            raise ConfigError(f"No frame is finished within {self.limit:g} s. Give a limit above 0.")

    def check(self) -> None:
        """Raise `ConfigError` where the program is missing or not executable."""
        find(self.program)

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:  # noqa: ARG002
        """The edited clip, lazy. Before the first key frame and after the last one, that one alone is carried.

        Pictures carried backward wait in the run's store for their turn, with 5 bytes a pixel. Raises `ConfigError`
        without the program; reading raises `WorkError` where it fails.
        """
        check_keyframes(clip, keyframes)
        work = _Work(self, find(self.program), clip, keyframes, run)
        if clip.bits > 8:
            run.notes.warn(
                "EbSynth works in 8 bits, so frames between key frames show no finer steps. Use propagate=analogy for those."
            )
        return clip.with_frames(Chain(work.advance, run, work.name).read)

    def options(self) -> tuple[str, ...]:
        """The program's own options, as words."""
        values = {"uniformity": self.uniformity, "patchsize": self.patch}
        values |= {"searchvoteiters": self.votes, "patchmatchiters": self.matches}
        return tuple(word for name, value in values.items() for word in (f"-{name}", f"{value:g}"))


@dataclass(frozen=True)
class _Key:
    """A key frame as guides see it: pictures [1, C, H, W] in [0, 1], the edited one in steps of 8 bits."""

    source: Tensor
    edited: Tensor
    edges: Tensor
    places: Tensor


@dataclass(frozen=True)
class _Carried:
    """A frame as it was made from one key frame."""

    picture: Bytes
    shift: Tensor  # [1, 2, H, W]: from each pixel to its place in the key frame, pixels
    error: Tensor  # [1, 1, H, W]: what the guides cost there


class _Work:
    """One run of `EbSynth` over one clip."""

    def __init__(self, part: EbSynth, program: str, clip: Clip, keyframes: Mapping[int, Tensor], run: Run) -> None:
        self.part, self.program, self.clip, self.run = part, program, clip, run
        self.keyframes = keyframes
        self.keys = sorted(keyframes)
        self.name = f"ebsynth/{run.offset}"
        self.prepared: dict[int, _Key] = {}

    def advance(self, index: int, state: State) -> tuple[Raw, State]:
        """Frame `index`, and what the next one leans on: nothing where that is a key frame."""
        self.run.store.drop(self._kept(index - KEPT * self.run.chunk))
        if index in self.keys:
            self.run.store.drop(self._reached(index))
            return to_raw(self._given(index), self.clip.bits), {}
        left = max((key for key in self.keys if key < index), default=None)
        right = min((key for key in self.keys if key > index), default=None)
        self.prepared = {key: self.prepared.get(key) or self._prepare(key) for key in (left, right) if key is not None}
        with torch.no_grad():
            if left is None:
                assert right is not None
                return self._raw(self._backward(index, right)[0]), {}
            flow = self._flow(index, index - 1)
            known = (cast(Bytes, state["picture"]), self._tensor(state["shift"])) if state else None
            ahead = self._carry(index, left, flow, known)
            kept: State = {"picture": ahead.picture, "shift": ahead.shift.cpu().numpy()}
            if right is None:
                return self._raw(ahead.picture), kept
            picture, error = self._backward(index, right)
            share = (index - left) / (right - left)
            chosen = choose(ahead.error, self._tensor(error), share, self._stays(state, flow))
            before, after = (from_raw(one)[None].to(self.run.device) for one in (ahead.picture, picture))
            merged = merge(before, after, chosen, share, gradients=self.part.gradients)
            return to_raw(merged[0], self.clip.bits), kept | {"chosen": chosen.cpu().numpy()}

    def _given(self, index: int) -> Tensor:
        picture = self.keyframes[index]
        check_shape(keyframe=(picture, f"3 {self.clip.height} {self.clip.width}"))
        return picture

    def _frame(self, index: int) -> Tensor:
        return self.clip.frame(index)[None].to(self.run.device)

    def _flow(self, a: int, b: int) -> Flow:
        return self.part.flow(self._frame(a), self._frame(b))

    def _tensor(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(array).to(self.run.device)

    def _raw(self, picture: Bytes) -> Raw:
        return picture if self.clip.bits == 8 else to_raw(from_raw(picture), self.clip.bits)

    def _prepare(self, index: int) -> _Key:
        source = self._frame(index)
        edited = from_raw(to_raw(self._given(index)))[None].to(source)
        return _Key(source, edited, edges(source), picture_of_places(torch.zeros_like(source[:, :2])))

    def _stays(self, state: State, flow: Flow) -> Tensor:
        """Where the frame before had chosen what comes backward, as seen from this one."""
        if "chosen" not in state:
            return torch.zeros_like(flow.visibility, dtype=torch.bool)
        return (warp(self._tensor(state["chosen"]).to(flow.vectors), flow.vectors) > 0.5) & (flow.visibility > 0.5)

    def _carry(self, index: int, key_index: int, flow: Flow, known: tuple[Bytes, Tensor] | None) -> _Carried:
        """Frame `index` made from the key frame `key_index`, over the neighbour to which `flow` leads.

        `known` are that neighbour's picture and shift; None where it is the key frame.
        """
        key, frame = self.prepared[key_index], self._frame(index)
        before = key.edited if known is None else from_raw(known[0])[None].to(frame)
        shift = torch.zeros_like(flow.vectors) if known is None else known[1]
        shift = _filled(flow.vectors + warp(shift, flow.vectors), flow.visibility)
        moved = _filled(warp(before, flow.vectors), flow.visibility)
        part, target_edges = self.part, edges(frame)
        guides = (
            Guide(_bytes(key.source), _bytes(frame), part.colour),
            Guide(_bytes(key.edges), _bytes(target_edges), part.edge),
            Guide(_bytes(key.edited), _bytes(moved), part.temporal),
            Guide(_bytes(key.places), _bytes(picture_of_places(shift)), part.position),
        )
        picture = synthesise(self.program, _bytes(key.edited), guides, part.options(), limit=part.limit)
        place = grid_of(shift) + shift
        pairs = ((part.colour, key.source, frame), (part.edge, key.edges, target_edges), (part.temporal, key.edited, moved))
        miss = sum(weight * (sample_at(there, place) - here).square().mean(1, keepdim=True) for weight, there, here in pairs)
        return _Carried(picture, shift, box(cast(Tensor, miss), part.patch))

    def _backward(self, index: int, right: int) -> tuple[Bytes, np.ndarray[tuple[int, ...], np.dtype[np.float16]]]:
        """Picture and error of frame `index` as made from the key frame `right` after it.

        All frames from there down to `index` are made at once, for each leans on the one after it, and kept: frames are asked
        for in the other order.
        """
        store = self.run.store
        if (found := store.get(self._kept(index))) is None:
            start, known = self._resumed(index, right)
            for one in range(start - 1, index - 1, -1):
                made = self._carry(one, right, self._flow(one, one + 1), known)
                known = made.picture, made.shift
                found = {"picture": made.picture, "error": made.error.cpu().numpy().astype(np.float16)}
                store.put(self._kept(one), found)
                store.put(self._reached(right), {"index": np.asarray(one), "shift": made.shift.cpu().numpy()})
                self.run.progress("backward", start - one, start - index)
        assert found is not None
        return found["picture"], found["error"]

    def _resumed(self, index: int, right: int) -> tuple[int, tuple[Bytes, Tensor] | None]:
        """The frame after `index` from which the way down can go on, with its picture and shift."""
        reached = self.run.store.get(self._reached(right))
        if reached is not None and int(reached["index"]) > index:
            last = self.run.store.get(self._kept(int(reached["index"])))
            if last is not None:
                return int(reached["index"]), (last["picture"], self._tensor(reached["shift"]))
        return right, None

    def _kept(self, index: int) -> str:
        return f"{self.name}/backward/{index}"

    def _reached(self, right: int) -> str:
        return f"{self.name}/backward from {right}"


def _filled(values: Tensor, seen: Tensor) -> Tensor:
    """`values` [1, C, H, W] where they are `seen` [1, 1, H, W], and carried there from around where they are not."""
    if seen.min() > 0.5:
        return values
    unit = max(1.0, min(values.shape[-2:]) / 256)
    return torch.where(seen > 0.5, values, extend(values, (seen > 0.5).to(values), 3 * unit))


def _bytes(picture: Tensor) -> Bytes:
    """A picture [1, 3, H, W] or [1, 1, H, W] in [0, 1] as bytes [H, W, 3] or [H, W]."""
    shown = picture[0].clamp(0.0, 1.0).mul(255).round().byte().cpu().permute(1, 2, 0)
    return shown.squeeze(-1).contiguous().numpy()
