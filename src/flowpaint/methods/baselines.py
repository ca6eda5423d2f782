"""Baselines under the same interface, to judge methods by: `Warp`, `Freeze` and `FrameByFrame`."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from ..errors import InputError
from ..seams import ImageEditor, Propagator, Run, default
from ..types import Clip, Edit
from . import keys


@dataclass(frozen=True, kw_only=True)
class Warp:
    """The first frame edited and pushed along the optical flow from frame to frame. Falls apart within seconds."""

    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    propagate: Propagator = default("propagator", "warp")

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy. Raises `InputError` without an editor and without key frames."""
        pictures = keys.edited(clip, edit, self.editor, [0], run) if self.editor else keys.given(clip, edit)
        return self.propagate(clip, pictures, edit, run)


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """The edited first frame, shown throughout."""

    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    propagate: Propagator = default("propagator", "freeze")

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy. Raises `InputError` without an editor and without key frames."""
        pictures = keys.edited(clip, edit, self.editor, [0], run) if self.editor else keys.given(clip, edit)
        return self.propagate(clip, pictures, edit, run)


@dataclass(frozen=True, kw_only=True)
class FrameByFrame:
    """Every frame edited alone. Sharp, and it flickers."""

    takes_anchor: ClassVar[bool] = False  # from the film's first frame
    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy. Raises `InputError` without an editor."""
        editor = self.editor
        if editor is None:
            raise InputError("The method frame-by-frame edits every frame, so it needs a look. Name one, or give --style.")
        if edit.keyframes.keys() - edit.finished:  # finished ones are what it makes itself
            run.notes.warn("The method frame-by-frame edits every frame, so key frames are not used. Take another, like analogy.")
        alone = replace(edit, keyframes={}, anchor=None)
        return clip.with_frames(lambda index: keys.edited_frame(clip, index, alone, editor, run))
