"""`Analogy`, the default method: edit a few frames, carry them to the rest by correspondence. No weights, any machine."""

from dataclasses import dataclass, field, replace

from ..seams import FlowEstimator, ImageEditor, Propagator, Run, default, steadiness_of
from ..types import Clip, Edit
from . import keys
from .every_frame import every_frame, suits


@dataclass(frozen=True, kw_only=True)
class Analogy:
    """Key frames, edited by hand or by `editor`, propagated to every frame.

    An editor is run again wherever more than `lost` of the picture is no longer that of its last key frame, and after
    `longest` frames in any case. One that is pixelwise or steady is applied to every frame, and nothing is propagated.
    """

    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    propagate: Propagator = default("propagator", "analogy")
    flow: FlowEstimator = default("flow", "dis")
    lost: float = 0.25
    longest: int = 120

    @property
    def takes_anchor(self) -> bool:
        """Whether key frames take their colours from the film's first frame: not those of an editor that gives equal colours."""
        return self.editor is None or steadiness_of(self.editor) == "painted"

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy. Raises `InputError` without an editor and without key frames."""
        if self.editor is None:
            return self.propagate(clip, keys.given(clip, edit), edit, run)
        if suits(edit, self.editor):
            return every_frame(clip, edit, self.editor, run)
        chosen = keys.place(clip, self.flow, lost=self.lost, longest=self.longest, run=run)
        pictures = keys.edited(clip, edit, self.editor, [key.index for key in chosen], run)
        # A look changes the whole picture, however faint it is.
        return self.propagate(clip, pictures, replace(edit, extent="global"), run)
