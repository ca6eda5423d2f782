"""Key frames for methods that edit a few frames and carry them to the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..colour import apply_affine, fit_affine, keep_colors, match_statistics, statistics
from ..errors import InputError
from ..plan import KeyFrame, by_tracking
from ..seams import FlowEstimator, ImageEditor, Run
from ..types import Clip, Edit, Flow, from_raw, to_raw
from ..warp import resize

_TRACKING_SIDE = 128  # short side at which key frames are placed


def place(clip: Clip, flow: FlowEstimator, *, lost: float, longest: int, run: Run) -> list[KeyFrame]:
    """Where an editor that can be run again should edit `clip`: a fast pass over small frames."""
    scale = min(1.0, _TRACKING_SIDE / min(clip.height, clip.width))
    size = max(1, round(clip.height * scale)), max(1, round(clip.width * scale))

    def neighbours() -> Iterator[Flow]:
        before: Tensor | None = None
        for index in range(len(clip)):
            frame = resize(clip.frame(index)[None], *size)
            if before is not None:
                yield flow(frame, before)
            before = frame
            run.progress("plan", index + 1, len(clip))

    return by_tracking(neighbours(), lost=lost, longest=longest)


def given(clip: Clip, edit: Edit) -> dict[int, Tensor]:
    """The key pictures that came with the edit, mixed with their source as it asks. Raises `InputError` where there are none."""
    if not edit.keyframes:
        raise InputError("There is neither a look nor a key frame. Name a look, or give an edited picture with --keyframe.")
    for index, picture in edit.keyframes.items():
        if not 0 <= index < len(clip) or picture.shape[-2:] != (clip.height, clip.width):
            raise InputError(
                f"The key picture of frame {index} does not fit {clip}. Give one of the clip's size for a frame of it."
            )
    return {index: _mixed(picture, clip.frame(index), edit) for index, picture in sorted(edit.keyframes.items())}


def _mixed(picture: Tensor, source: Tensor, edit: Edit) -> Tensor:
    whole = keep_colors(picture, source) if edit.keep_colors else picture
    return torch.lerp(source, whole.to(source), edit.strength).clamp(0.0, 1.0)


def edited(clip: Clip, edit: Edit, editor: ImageEditor, indices: list[int], run: Run) -> Mapping[int, Tensor]:
    """The frames `indices` edited by `editor` when they are asked for, together with those that came with the edit."""
    own = given(clip, edit) if edit.keyframes else {}
    return _EditedKeys(clip, edit, editor, pictures={**dict.fromkeys(indices), **own}, run=run)


class _EditedKeys(Mapping[int, Tensor]):
    """`pictures` holds those that came with the edit, and None where the editor is to make one."""

    def __init__(self, clip: Clip, edit: Edit, editor: ImageEditor, *, pictures: Mapping[int, Tensor | None], run: Run) -> None:
        self.clip, self.edit, self.editor, self.pictures, self.run = clip, edit, editor, pictures, run

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        own = self.pictures[index]
        return self._edit(index) if own is None else own

    def _edit(self, index: int) -> Tensor:
        """The picture, from the store where an earlier run left it."""
        kept = self.run.store.get(f"key {index}")
        if kept is not None:
            return from_raw(kept["picture"])
        source = self.clip.frame(index).to(self.run.device)
        # One generator for all key frames: paper and bristles must not shimmer between them.
        made = self.editor(source, replace(self.edit, keyframes={}), self.run.generator())
        picture = to_raw(_anchored(made, source, self.edit), self.clip.bits)
        self.run.store.put(f"key {index}", {"picture": picture})
        return from_raw(picture)


def _anchored(picture: Tensor, source: Tensor, edit: Edit) -> Tensor:
    """`picture` with the mean and spread of colour that the edit of the film's anchor frame foretells for `source`."""
    if edit.anchor is None:
        return picture
    before, after = (one.to(source) for one in edit.anchor)
    mean, spread = statistics(apply_affine(source, fit_affine(before, after)).clamp(0.0, 1.0))
    return torch.lerp(picture, match_statistics(picture, mean, spread), 0.5).clamp(0.0, 1.0)
