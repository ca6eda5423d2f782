"""Key frames for methods that edit a few frames and carry them to the rest."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..carry import finished
from ..colour import apply_affine, fit_affine, match_statistics, statistics
from ..errors import InputError
from ..plan import KeyFrame, by_tracking
from ..seams import FlowEstimator, ImageEditor, RawEditor, Run, steadiness_of
from ..types import Clip, Edit, Flow, Raw, from_raw, to_raw
from ..warp import resize

_TRACKING_SIDE = 128  # short side at which key frames are placed


def place(
    clip: Clip, flow: FlowEstimator, *, lost: float, longest: int, run: Run, shortest: int = 1, lost_locally: float = 1.0
) -> list[KeyFrame]:
    """Return where an editor that can be run again should edit `clip`: a fast pass over small frames."""
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

    return by_tracking(neighbours(), lost=lost, lost_locally=lost_locally, longest=longest, shortest=shortest)


def given(clip: Clip, edit: Edit) -> dict[int, Tensor]:
    """The key pictures that came with the edit, mixed with their source as it asks unless they are finished.

    Raises `InputError` where there are none.
    """
    if not edit.keyframes:
        raise InputError("There is neither a look nor a key frame. Name a look, or give an edited picture with --keyframe.")
    for index, picture in edit.keyframes.items():
        if not 0 <= index < len(clip) or picture.shape[-2:] != (clip.height, clip.width):
            raise InputError(
                f"The key picture of frame {index} does not fit {clip}. Give one of the clip's size for a frame of it."
            )
    return {
        index: picture if index in edit.finished else finished(picture, clip.frame(index), edit)
        for index, picture in sorted(edit.keyframes.items())
    }


class Keys(Mapping[int, Tensor]):
    """Key pictures [3, H, W] in [0, 1] by frame: those that came with the edit, others made by `make(frame)` when asked for.

    None is held: `make` reads them from a store.
    """

    def __init__(self, clip: Clip, edit: Edit, indices: Iterable[int], make: Callable[[int], Tensor]) -> None:
        self._own = given(clip, edit) if edit.keyframes else {}
        self._indices = sorted({*indices, *self._own})
        self._make = make

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Tensor:
        if index in self._own:
            return self._own[index]
        if index not in self._indices:
            raise KeyError(index)
        return self._make(index)


def edited(clip: Clip, edit: Edit, editor: ImageEditor, indices: list[int], run: Run) -> Keys:
    """The frames `indices` edited by `editor` when they are asked for, together with those that came with the edit."""

    def make(index: int) -> Tensor:
        """The picture, from the store where an earlier run left it."""
        kept = run.store.get(f"key {index}")
        if kept is not None:
            return from_raw(kept["picture"])
        picture = edited_frame(clip, index, edit, editor, run)
        run.store.put(f"key {index}", {"picture": picture})
        return from_raw(picture)

    return Keys(clip, edit, indices, make)


def edited_frame(clip: Clip, index: int, edit: Edit, editor: ImageEditor, run: Run) -> Raw:
    """Return frame `index` of `clip` edited by `editor`, raw [H, W, 3]."""
    alone = replace(edit.at(index), keyframes={})
    # One generator for all frames: paper and bristles must not shimmer between them.
    if edit.anchor is None and isinstance(editor, RawEditor) and steadiness_of(editor) != "painted":
        return editor.edit_raw(clip.raw(index), alone, run.generator())
    source = clip.frame(index).to(run.device)
    return to_raw(_anchored(editor(source, alone, run.generator()), source, edit), clip.bits)


def _anchored(picture: Tensor, source: Tensor, edit: Edit) -> Tensor:
    """`picture` with the mean and spread of colour that the edit of the film's anchor frame foretells for `source`."""
    if edit.anchor is None:
        return picture
    before, after = (one.to(source) for one in edit.anchor)
    mean, spread = statistics(apply_affine(source, fit_affine(before, after)).clamp(0.0, 1.0))
    return torch.lerp(picture, match_statistics(picture, mean, spread), 0.5).clamp(0.0, 1.0)
