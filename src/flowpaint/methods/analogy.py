"""`Analogy`, the default method: edit a few frames, carry them to the rest by correspondence. No weights, any machine."""

from dataclasses import dataclass, field

from ..seams import FlowEstimator, ImageEditor, Propagator, Run, default
from ..types import Clip, Edit
from . import keys


@dataclass(frozen=True, kw_only=True)
class Analogy:
    """Key frames, edited by hand or by `editor`, propagated to every frame.

    An editor is run again wherever more than `lost` of the picture is no longer that of its last key frame, and after
    `longest` frames in any case.
    """

    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    propagate: Propagator = default("propagator", "analogy")
    flow: FlowEstimator = default("flow", "dis")
    lost: float = 0.25
    longest: int = 120

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy. Raises `InputError` without an editor and without key frames."""
        if self.editor is None:
            return self.propagate(clip, keys.given(clip, edit), edit, run)
        chosen = keys.place(clip, self.flow, lost=self.lost, longest=self.longest, run=run)
        pictures = keys.edited(clip, edit, self.editor, [key.index for key in chosen], run)
        return self.propagate(clip, pictures, edit.whole(), run)
