"""The baselines: `WarpChain` carries the key frame along the flow and nothing else, `Freeze` shows it unmoved."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor

from ...seams import FlowEstimator, Run, default
from ...types import Clip, Edit, Raw, check_shape, from_raw, to_raw
from ...warp import warp
from .chain import Chain, State, check_keyframes


@dataclass(frozen=True, kw_only=True)
class WarpChain:
    """Each result is the one before, warped along the source's flow; it starts anew at every key frame."""

    flow: FlowEstimator = default("flow", "dis")

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:  # noqa: ARG002
        """The edited clip, lazy. Before the first key frame, that one is carried backwards in a single step."""
        check_keyframes(clip, keyframes)
        for picture in keyframes.values():
            check_shape(keyframe=(picture, f"3 {clip.height} {clip.width}"))
        first = min(keyframes)

        def advance(index: int, state: State) -> tuple[Raw, State]:
            if index in keyframes:
                raw = to_raw(keyframes[index], clip.bits)
            else:
                source = first if index < first else index - 1
                before = to_raw(keyframes[first], clip.bits) if index < first else cast(Raw, state["result"])
                flow = self.flow(*(clip.frame(one)[None].to(run.device) for one in (index, source)))
                with torch.no_grad():
                    moved = warp(from_raw(before)[None].to(run.device), flow.vectors)
                raw = to_raw(moved[0], clip.bits)
            return raw, {"result": raw}

        return clip.with_frames(Chain(advance, run, f"warp/{run.offset}").read)


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """Every frame shows the last key frame before it, or the first one."""

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:  # noqa: ARG002
        """The edited clip, lazy."""
        check_keyframes(clip, keyframes)
        order = sorted(keyframes)

        @lru_cache(maxsize=1)
        def shown(key: int) -> Raw:
            check_shape(keyframe=(keyframes[key], f"3 {clip.height} {clip.width}"))
            return to_raw(keyframes[key], clip.bits)

        return clip.with_frames(lambda index: shown(order[max(0, bisect_right(order, index) - 1)]).copy())
