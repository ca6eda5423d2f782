"""Every point at which something can be exchanged, on one page; beside it `Run` and the table of names with recipes.

A *part* is a frozen dataclass: its fields are its configuration and calling it does its work. It needs nothing from here to
conform. A *recipe* is a part as nested plain values: `{"part": "dis", "preset": "fast"}`, and reads back to an equal part.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar, get_args, runtime_checkable

import torch
from torch import Tensor

from ..errors import ConfigError, FlowpaintError
from ..table import TABLE
from ..types import Aligned, Clip, Cues, Edit, Flow, Measure, Raw, Score, Steadiness
from .recipes import build, default, from_dict, names, override, part_class, table, to_dict
from .run import MemoryStore, Notes, Run, Store

if TYPE_CHECKING:
    from ..diffusion.hooked import Hooks
    from ..diffusion.model import LatentDiffusion
    from ..moments import Case, Moment

QUICK = 8  # frames

__all__ = [
    "QUICK",
    "TABLE",
    "Consistency",
    "DepthCompleter",
    "Executor",
    "FeatureExtractor",
    "FlowEstimator",
    "ImageEditor",
    "ImageToVideo",
    "Interpolator",
    "MemoryStore",
    "Method",
    "Metric",
    "Notes",
    "Propagator",
    "RawEditor",
    "Repainter",
    "RepeatableEditor",
    "Run",
    "Segmenter",
    "SpatialCondition",
    "StatesSteadiness",
    "Store",
    "Tally",
    "build",
    "default",
    "from_dict",
    "names",
    "override",
    "part_class",
    "steadiness_of",
    "table",
    "to_dict",
]


@runtime_checkable
class ImageEditor(Protocol):
    """Turns one picture into its edited version, the same size, the same for the same generator state.

    One that does more than follow words that say how the picture shall look has `tasks`, a set of `flowpaint.types.Task`: which
    kinds of edit (`Edit.task`) it takes. One that is told where by `Edit.mask` paints there and around; what it must not touch,
    its caller puts back. One that knows where the object that it painted is may offer `with_mask(image, edit, generator)`: the
    picture, and that object's mask [1, H, W] or None.
    """

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The edited picture [3, H, W] in [0, 1] of `image` [3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class StatesSteadiness(Protocol):
    """An `ImageEditor` that states how its pictures of neighbouring frames agree. One that states nothing counts as painted.

    *Pixelwise*: each pixel is a function of the source's colour at that pixel and of the pixel's place. *Steady*: a filter that
    measurably flickers no more than a function of colour (docs/looks.md has the measure). *Painted*: all others. Methods apply
    the first two to every frame as they are.
    """

    @property
    def steadiness(self) -> Steadiness:
        """What the editor is; of a blend, the weakest of its parts."""
        ...


@runtime_checkable
class RawEditor(Protocol):
    """An `ImageEditor` that also edits raw pictures, faster than by way of tensors."""

    def edit_raw(self, picture: Raw, edit: Edit, generator: torch.Generator) -> Raw:
        """Return the edited picture [H, W, 3] of `picture` [H, W, 3], of the same type.

        It differs from what calling the editor gives, rounded, by at most one level of 8 bits, or one of 10 bits where
        `picture` is uint16.
        """
        ...


def steadiness_of(editor: ImageEditor) -> Steadiness:
    """Return what `editor` states of itself, "painted" where it states nothing. Raise `ConfigError` for another word."""
    stated: Steadiness = getattr(editor, "steadiness", "painted")
    if stated not in get_args(Steadiness):
        raise ConfigError(
            f"{type(editor).__name__} states the steadiness {stated!r}. An editor is {', '.join(get_args(Steadiness))}."
        )
    return stated


@runtime_checkable
class FlowEstimator(Protocol):
    """Measures where what a shows is seen in b."""

    def __call__(self, a: Tensor, b: Tensor) -> Flow:
        """Flow a to b with visibility, for pictures a, b [N, 3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class SpatialCondition(Protocol):
    """Draws what of a clip an edit has to keep, for a ControlNet. What it measures to do so, it measures per clip.

    One that measures may offer `fitted(frames) -> SpatialCondition`: itself with the scale of `frames`, for parts of a clip.
    """

    def __call__(self, frames: Tensor) -> Tensor:
        """Control maps [T, 3, H, W] in [0, 1] of `frames` [T, 3, H, W] in [0, 1]."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Finds the object of a clip. A `hint` [1 or T, 1, H, W] in [0, 1] is 1 about where it is."""

    def __call__(self, frames: Tensor, hint: Tensor | None = None) -> Tensor:
        """Masks [T, 1, H, W] in [0, 1], 1 = object, of `frames` [T, 3, H, W] in [0, 1]; 0 everywhere where there is none."""
        ...


@runtime_checkable
class Consistency(Protocol):
    """Binds the frames of a window together while they are denoised."""

    def __call__(self, model: "LatentDiffusion", cues: Callable[[tuple[int, ...]], Cues], text: Tensor) -> "Hooks":
        """Hooks for a loop over windows of `model` under the words `text`; `cues` measures a window's frames when asked."""
        ...


@runtime_checkable
class Propagator(Protocol):
    """Carries edited key frames to every frame of one shot."""

    def __call__(self, clip: Clip, keyframes: Mapping[int, Tensor], edit: Edit, run: Run) -> Clip:
        """The edited clip; `keyframes` maps frame numbers of `clip` to pictures [3, H, W] in [0, 1], returned exactly."""
        ...


@runtime_checkable
class RepeatableEditor(ImageEditor, Protocol):
    """An editor of pictures that gives equal pictures for equal frames, and may be run again and again within one clip.

    `repeats_after` is the number of frames after which another picture is worth its time. Up to `QUICK` it runs here, within
    seconds: it is then run on a few more frames of a finished video, too, to measure what was kept of its texture.
    """

    @property
    def repeats_after(self) -> int:
        """Frames between two pictures."""
        ...


@runtime_checkable
class Repainter(Protocol):
    """A propagator that is led by the pictures of a repeatable editor and does not show them as they are.

    A picture is due where more than a share `lost` of the frame, or `lost_locally` of a small window, is no longer that of the
    last one, and after `spacing` frames.
    """

    @property
    def lost(self) -> float:
        """Share of the picture, 0 to 1."""
        ...

    @property
    def lost_locally(self) -> float:
        """Share of a window, 0 to 1."""
        ...

    @property
    def spacing(self) -> int:
        """Frames between two pictures at most."""
        ...

    def repaint(self, clip: Clip, paintings: Mapping[int, Tensor], exact: Collection[int], edit: Edit, run: Run) -> Clip:
        """Return the edited clip, led by `paintings` [3, H, W] in [0, 1]; those of the frames `exact` are shown exactly."""
        ...


@runtime_checkable
class Interpolator(Protocol):
    """Makes the pictures between two."""

    def __call__(self, a: Tensor, b: Tensor, times: Sequence[float]) -> Tensor:
        """Pictures [len(times), 3, H, W] in [0, 1] between a and b [3, H, W] in [0, 1]: time 0 is a, 1 is b, exactly."""
        ...


@runtime_checkable
class DepthCompleter(Protocol):
    """Fills holes of depth maps."""

    def __call__(self, depth: Tensor, hole: Tensor, shape: Tensor) -> Tensor:
        """`depth` [T, 1, H, W] in [0, 1], 1 = near, filled where `hole` [T, 1, H, W] is 1, elsewhere the same to the bit.

        `shape` [1, 1, H, W] is 1 where the edited object is in frame 0 (StableV2V, Eq. 9).
        """
        ...


@runtime_checkable
class ImageToVideo(Protocol):
    """Makes a video of its first frame, led by depth and motion: chunk by chunk, each begun by the last frame of the one before.

    `window` is how many frames it makes at once, the first of which is given; 1 means that every frame is made by itself, and
    that its picture is not given. `uses_depth` says whether it looks at the depth.
    """

    @property
    def window(self) -> int:
        """Frames of a chunk; the last chunk of a clip may be shorter."""
        ...

    @property
    def uses_depth(self) -> bool:
        """Whether `Aligned.depth` counts."""
        ...

    def __call__(self, told: Aligned, edit: Edit, run: Run) -> Tensor:
        """The pictures [T, 3, H, W] in [0, 1] of a chunk, whose frame 0 is `told.first` to the bit, with a window above 1.

        Equal seeds of `run` and equal frames give equal pictures.
        """
        ...


@runtime_checkable
class Method(Protocol):
    """*How*: a clip and an edit become an edited clip of the same length, size and time stamps."""

    def __call__(self, clip: Clip, edit: Edit, run: Run) -> Clip:
        """The edited clip, lazy."""
        ...


@runtime_checkable
class FeatureExtractor(Protocol):
    """A network that sees: one row of numbers for each picture or clip."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """Features [N, D], float32, of pictures [N, 3, H, W], or of clips [N, T, 3, H, W], in [0, 1], any size."""
        ...


class Tally(Protocol):
    """One metric at work on one case. It keeps little of what it saw: memory does not grow with the size of the pictures."""

    def see(self, moment: "Moment") -> None:
        """Take in the next moment."""
        ...

    def score(self) -> Score:
        """What was found. Without a frame seen, every measure is missing, with the reason."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Judges a result. Every frame is shown once, in order; several metrics share the pass."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The numbers it can give."""
        ...

    def __call__(self, case: "Case", /) -> Tally:
        """A fresh tally for `case`."""
        ...


Item = TypeVar("Item")
Made = TypeVar("Made")


@runtime_checkable
class Executor(Protocol):
    """Does independent pieces of work, here or elsewhere.

    Work that is a dataclass with a field `store` reaches, wherever it is done, the store that the caller put there: an executor
    that works on other machines puts a proxy in its place, whose `get`, `put` and `drop` go to the caller's machine. Such a
    store must pickle (`flowpaint.runs.FolderStore` does). Arrays travel whole, so pictures should go as integers.
    """

    def map(self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]) -> Iterator[Made]:
        """What `work` makes of each of `items`, in their order.

        `key` names an item. The first failure is raised as `WorkError` with that name; errors of ours pass as they are.
        """
        ...

    def tried(
        self, work: Callable[[Item], Made], items: Sequence[Item], key: Callable[[Item], str]
    ) -> Generator[Made | FlowpaintError, None, None]:
        """As `map`, but what failed stops nothing: in its place in the order stands the error that `map` would raise."""
        ...
