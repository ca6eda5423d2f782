"""Edits that are applied to every frame as they are: by editors whose pictures do not flicker."""

from dataclasses import replace

from ..seams import ImageEditor, Run, steadiness_of
from ..types import Clip, Edit, to_raw
from . import keys


def suits(edit: Edit, editor: ImageEditor) -> bool:
    """Return whether `edit` is to be applied to every frame: its editor is pixelwise or steady, and no picture made elsewhere
    is to be carried to other frames (a finished key picture is the editor's own).
    """
    return steadiness_of(editor) != "painted" and edit.keyframes.keys() <= edit.finished


def every_frame(clip: Clip, edit: Edit, editor: ImageEditor, run: Run) -> Clip:
    """Return `clip` with every frame edited by itself when it is asked for; key pictures are shown as they are given.

    The edit's anchor is not used: one function of colour gives all shots the same colours already.
    """
    given = {index: to_raw(picture, clip.bits) for index, picture in (keys.given(clip, edit) if edit.keyframes else {}).items()}
    alone = replace(edit, keyframes={}, anchor=None)
    run.notes.facts["steadiness"] = steadiness_of(editor)
    return clip.with_frames(lambda index: given[index] if index in given else keys.edited_frame(clip, index, alone, editor, run))
