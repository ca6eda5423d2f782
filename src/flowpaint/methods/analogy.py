"""`Analogy`, the default method: edit a few frames, carry them to the rest by correspondence. No weights, any machine."""

from dataclasses import dataclass, field, replace

from ..seams import FlowEstimator, ImageEditor, Propagator, Repainter, RepeatableEditor, Run, build, default, steadiness_of
from ..types import Clip, Edit
from . import keys
from .every_frame import every_frame, suits

_LOST, _LONGEST = 0.25, 120  # for editors that are slow, or that nobody wants to run often


@dataclass(frozen=True, kw_only=True)
class Analogy:
    """Key frames, edited by hand or by `editor`, propagated to every frame.

    One that is pixelwise or steady is applied to every frame, unless a propagator is named. Pictures of others are carried:
    `propagate` None takes `restyle` for an editor that can be run again at will, and `analogy` for all else. An editor is run
    again wherever more than `lost` of the picture is no longer that of its last key frame, and after `longest` frames in any
    case; None takes the propagator's values for an editor that is quick, else 0.25 and what the editor says, or 120.
    """

    editor: ImageEditor | None = field(default=None, metadata={"kind": "editor"})
    propagate: Propagator | None = field(default=None, metadata={"kind": "propagator"})
    flow: FlowEstimator = default("flow", "dis")
    lost: float | None = None
    longest: int | None = None

    @property
    def takes_anchor(self) -> bool:
        """Whether key frames take their colours from the film's first frame: not those of an editor that gives equal colours."""
        return self.editor is None or steadiness_of(self.editor) == "painted"

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """Return the edited clip, lazy. Raises `InputError` without an editor and without key frames."""
        propagate = self.propagator()
        if self.editor is None:
            return propagate(clip, keys.given(clip, edit), edit, run)
        if self.propagate is None and suits(edit, self.editor):
            return every_frame(clip, edit, self.editor, run)
        # A look changes the whole picture, however faint it is.
        edit = replace(edit, extent="global")
        pictures = self._pictures(clip, edit, run, propagate)
        if isinstance(propagate, Repainter):
            return propagate.repaint(clip, pictures, edit.keyframes.keys(), edit, run)
        return propagate(clip, pictures, edit, run)

    def propagator(self) -> Propagator:
        """Return the propagator that is used: the one named, else the one that suits the editor."""
        if self.propagate is not None:
            return self.propagate
        chosen: Propagator = build("propagator", "restyle" if isinstance(self.editor, RepeatableEditor) else "analogy")
        return chosen

    def _pictures(self, clip: Clip, edit: Edit, run: Run, propagate: Propagator) -> keys.Keys:
        """Return the pictures of the frames that the editor is to edit, made when asked for."""
        assert self.editor is not None
        repeats_after = self.editor.repeats_after if isinstance(self.editor, RepeatableEditor) else _LONGEST
        lost, lost_locally, longest, last = _LOST, 1.0, repeats_after, set[int]()
        if isinstance(propagate, Repainter) and repeats_after <= propagate.spacing:
            lost, lost_locally, longest = propagate.lost, propagate.lost_locally, propagate.spacing
            last = {len(clip) - 1}  # every stretch of frames lies between two paintings
        chosen = keys.place(
            clip,
            self.flow,
            lost=lost if self.lost is None else self.lost,
            lost_locally=lost_locally,
            longest=longest if self.longest is None else self.longest,
            run=run,
        )
        return keys.edited(clip, edit, self.editor, sorted({key.index for key in chosen} | last), run)
