"""The nouns: clips, edits, flow, scores.

Everything here is data. Tensors follow one set of conventions: pictures are float32 [T, 3, H, W] in [0, 1], sRGB;
masks [T, 1, H, W] with 1 = edited; flow [N, 2, H, W] in pixels, (dx, dy), where `flow_ab` says that a's pixel (x, y) is
seen in b at (x + dx, y + dy). *Raw* pictures are numpy [H, W, 3], RGB, at the source's depth: uint8, or uint16 over the
full 0..65535 range for anything deeper.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .errors import InputError, ShapeError

Raw: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Bits = Literal[8, 16]
Extent = Literal["auto", "global", "local"]
Task = Literal["words", "instruction", "reference", "sketch", "removal"]
Steadiness = Literal["pixelwise", "steady", "painted"]


def check_shape(**tensors: tuple[Tensor, str]) -> None:
    """Raise `ShapeError` unless each tensor has the shape its letters promise.

    `check_shape(image=(image, "N C H W"), flow=(flow, "N 2 H W"))`: a number must match exactly, a letter must stand for
    the same length wherever it appears in the call.
    """
    bound: dict[str, int] = {}
    for name, (tensor, letters) in tensors.items():
        wanted = letters.split()
        fits = tensor.ndim == len(wanted) and all(
            size == (int(letter) if letter.isdigit() else bound.setdefault(letter, size))
            for letter, size in zip(wanted, tensor.shape, strict=True)
        )
        if not fits:
            known = {letter: size for letter, size in bound.items() if letter in wanted}
            raise ShapeError(f"{name} has shape {tuple(tensor.shape)}. Expected [{letters}] with {known or 'any sizes'}.")


def from_raw(raw: Raw) -> Tensor:
    """A raw picture [H, W, 3] as float32 [3, H, W] in [0, 1]."""
    top = 65535.0 if raw.dtype == np.uint16 else 255.0
    return torch.from_numpy(np.array(raw, np.float32)).permute(2, 0, 1).div_(top)  # a copy: raw frames may be read-only


def to_raw(picture: Tensor, bits: Bits = 8) -> Raw:
    """A picture [3, H, W], clipped to [0, 1], as raw [H, W, 3] of `bits` per channel."""
    check_shape(picture=(picture, "3 H W"))
    top = 255.0 if bits == 8 else 65535.0
    scaled = picture.detach().float().cpu().clamp(0.0, 1.0).mul(top).round_().permute(1, 2, 0).contiguous()
    return scaled.numpy().astype(np.uint8) if bits == 8 else scaled.numpy().astype(np.uint16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourTags:
    """How the numbers of a video mean colours: H.273 code points, 2 = unspecified; `range` 0 unspecified, 1 limited, 2 full."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    range: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The file a clip was read from. Sound, subtitles, chapters and metadata are copied from it when the clip is written."""

    path: Path
    whole: bool = True  # the clip shows the file from end to end: every packet is kept
    decoded: Any = field(default=None, compare=False, repr=False)  # of `video.read`: the file's frames, not decoded twice


class Clip:
    """Frames with their exact time stamps, decoded when asked for.

    `read(index)` gives one raw frame; `times` are the instants (seconds) at which frames appear, strictly rising, and `end`
    the instant at which the last one goes. Slices (`clip[4:12]`) and lists (`clip[[0, 8, 16]]`) are clips again and decode
    nothing. Raises `InputError` for times that do not rise.
    """

    __slots__ = ("_indices", "_read", "aspect", "bits", "codec", "colour", "end", "height", "origin", "times", "width")

    def __init__(
        self,
        read: Callable[[int], Raw],
        *,
        times: Sequence[Fraction],
        end: Fraction,
        height: int,
        width: int,
        bits: Bits = 8,
        colour: ColourTags | None = None,
        aspect: Fraction = Fraction(1),
        codec: str = "",
        origin: Origin | None = None,
        indices: Sequence[int] | None = None,
    ) -> None:
        self._read = read
        self._indices = tuple(range(len(times))) if indices is None else tuple(indices)
        self.times = tuple(times)
        self.end = end
        self.height, self.width = height, width
        self.bits = bits
        self.colour = colour or ColourTags()
        self.aspect = aspect  # of one sample, width / height
        self.codec = codec  # pixel format the frames were stored in, "" if none
        self.origin = origin
        if len(self._indices) != len(self.times) or not self.times:
            raise InputError(f"A clip needs one time stamp a frame and at least one frame, got {len(times)}. Check the range.")
        if any(late <= early for early, late in zip(self.times, (*self.times[1:], end), strict=True)):
            raise InputError("The time stamps of a clip must rise. Sort the frames by time first.")

    @classmethod
    def from_array(cls, frames: npt.NDArray[np.generic] | Tensor, fps: float | Fraction = 24) -> "Clip":
        """A clip over [T, H, W, 3] uint8 / uint16, or over a float tensor [T, 3, H, W] in [0, 1]."""
        if isinstance(frames, Tensor):
            check_shape(frames=(frames, "T 3 H W"))
            if not torch.isfinite(frames).all():
                raise InputError("Some values of the frames are not a number. Give pictures in [0, 1] without NaN.")
            frames = np.stack([to_raw(frame) for frame in frames])
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"An array of shape {frames.shape} and type {frames.dtype} is no clip. Give [T, H, W, 3] of uint8 or uint16."
            )
        array: Raw = frames  # type: ignore[assignment]
        step = 1 / Fraction(fps).limit_denominator(100_000)
        return cls(
            lambda index: array[index],
            times=[index * step for index in range(len(array))],
            end=len(array) * step,
            height=array.shape[1],
            width=array.shape[2],
            bits=8 if array.dtype == np.uint8 else 16,
        )

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        return f"Clip({len(self)} frames, {self.width}x{self.height}, {float(self.rate):.3f} fps, {self.bits} bit)"

    @overload
    def __getitem__(self, item: slice) -> "Clip": ...
    @overload
    def __getitem__(self, item: Sequence[int]) -> "Clip": ...
    def __getitem__(self, item: slice | Sequence[int]) -> "Clip":
        kept = range(len(self))[item] if isinstance(item, slice) else [range(len(self))[index] for index in item]
        if not kept:
            raise InputError(f"The range {item} holds none of the {len(self)} frames. Choose a range inside the clip.")
        joined = all(late == early + 1 for early, late in pairwise(kept))
        last = kept[-1]
        origin = self.origin if joined else None
        if origin is not None:
            origin = replace(origin, whole=origin.whole and len(kept) == len(self))
        return Clip(
            self._read,
            times=[self.times[index] for index in kept],
            end=self.times[last + 1] if last + 1 < len(self) else self.end,
            indices=[self._indices[index] for index in kept],
            **{**self._facts(), "origin": origin},  # type: ignore[arg-type]
        )

    def _facts(self) -> dict[str, object]:
        names = ("height", "width", "bits", "colour", "aspect", "codec", "origin")
        return {name: getattr(self, name) for name in names}

    def with_frames(self, read: Callable[[int], Raw]) -> "Clip":
        """A clip of the same length, time stamps, tags and origin that shows other frames: `read(index)` of this clip's index."""
        return Clip(read, times=self.times, end=self.end, **self._facts())  # type: ignore[arg-type]

    def raw(self, index: int) -> Raw:
        """Frame `index` as it was stored: [H, W, 3], uint8 or uint16."""
        return self._read(self._indices[index])

    def frame(self, index: int) -> Tensor:
        """Frame `index`: float32 [3, H, W] in [0, 1]."""
        return from_raw(self.raw(index))

    def __iter__(self) -> Iterator[Tensor]:
        return (self.frame(index) for index in range(len(self)))

    @property
    def frames(self) -> Tensor:
        """All frames of this clip at once: float32 [T, 3, H, W] in [0, 1]. Slice first: memory grows with T."""
        return torch.stack(list(self))

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average."""
        return len(self) / (self.end - self.times[0])

    def index_at(self, seconds: Fraction) -> int:
        """The frame on screen at `seconds` after the first one. Raises `InputError` outside the clip."""
        at = self.times[0] + seconds
        if not self.times[0] <= at < self.end:
            length = float(self.end - self.times[0])
            raise InputError(
                f"The clip is {length:.3f} s long and has nothing at {float(seconds):.3f} s. Choose an earlier time."
            )
        return bisect_right(self.times, at) - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flow:
    """Displacement between frame pairs. `vectors` [N, 2, H, W] in pixels; `visibility` [N, 1, H, W], 1 = seen in both.

    `reverse` [N, 2, H, W] is the flow the other way, on b's grid, where the estimator measured it too.
    """

    vectors: Tensor
    visibility: Tensor
    reverse: Tensor | None = None

    def __post_init__(self) -> None:
        check_shape(vectors=(self.vectors, "N 2 H W"), visibility=(self.visibility, "N 1 H W"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edit:
    """*What* is wanted of a clip.

    `prompts` maps frame numbers to the words that hold from that frame on, in place of `prompt`;
    `keyframes` maps frame numbers to edited pictures [3, H, W] in [0, 1] that already lie on their source frames;
    `mask` is a clip of one frame, or of as many as the source, whose first channel is 1 where the edit may show.
    `anchor` is one frame of the film before and after the edit, both [3, H, W]: shots edited apart take their colours from it.
    `colours` is a clip of as many frames as the source, of any size, that lends its colours.
    `finished` are the frames whose key pictures are as an editor leaves them: `strength` and `keep_colors` are in them already.

    `objects` are masks of the source's objects that the edit is about, each a clip like `mask`; `new_object` is the mask [1,
    H, W] of what the first edited picture shows in their place, where that is known. With `instruct` the words say what to
    change, not what will be seen. `reference` [3, h, w] shows what the object shall look like, `sketch` [3, h, w] how it is
    drawn, dark on light, both of any size; with `remove` it shall be gone. `depth` is a clip of as many frames as the source
    whose first channel is the source's depth, 1 = near, of any size.
    """

    prompt: str = ""
    negative: str = ""
    prompts: Mapping[int, str] = field(default_factory=dict)
    keyframes: Mapping[int, Tensor] = field(default_factory=dict)
    mask: Clip | None = None
    anchor: tuple[Tensor, Tensor] | None = None
    colours: Clip | None = None
    extent: Extent = "auto"  # was the whole picture edited, or a part of it?
    strength: float = 1.0  # 0 = the source, 1 = the whole edit
    keep_colors: bool = False
    finished: frozenset[int] = frozenset()
    objects: tuple[Clip, ...] = ()
    new_object: Tensor | None = None
    instruct: bool = False
    reference: Tensor | None = None
    sketch: Tensor | None = None
    remove: bool = False
    depth: Clip | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise InputError(f"The strength {self.strength} is outside 0..1. Give 0 for the source, 1 for the whole edit.")
        if sum((self.instruct, self.reference is not None, self.sketch is not None, self.remove)) > 1:
            raise InputError("An instruction, a reference, a sketch and a removal are different edits. Ask for one of them.")
        for picture in self.keyframes.values():
            check_shape(keyframe=(picture, "3 H W"))

    @property
    def task(self) -> Task:
        """What kind of edit of a picture it is: which editors can do it (`flowpaint.seams.ImageEditor`)."""
        if self.instruct:
            return "instruction"
        if self.reference is not None:
            return "reference"
        if self.sketch is not None:
            return "sketch"
        return "removal" if self.remove else "words"

    def words(self, frame: int) -> str:
        """The words that hold at `frame`."""
        begun = [start for start in self.prompts if start <= frame]
        return self.prompts[max(begun)] if begun else self.prompt

    def at(self, frame: int) -> "Edit":
        """The edit of one frame: its words and its mask alone."""
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[[frame]]
        return replace(self, prompt=self.words(frame), prompts={}, mask=mask)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cues:
    """What was measured on the source frames of one window before any noise: N frames, the last followed by the first.

    `frames` [N, 3, H, W] in [0, 1]; `forward` [N, 2, H, W] from each frame to the next, `backward` [N, 2, H, W] from the next
    back, pixels; `foreground` [N, 1, H, W] in [0, 1], 1 = subject. `latents` [N, C, h, w] are the encoded frames and `noise`
    what is added to them where the source itself is shown to the network, at `level` (of the diffusion core). `draw(step)` is
    the randomness with which a picture is encoded after a step of the loop; None takes the posterior's mode.
    """

    frames: Tensor
    forward: Tensor
    backward: Tensor
    latents: Tensor
    noise: Tensor
    level: Any
    foreground: Tensor | None = None
    guidance: float = 7.5
    draw: Callable[[int], torch.Generator | None] | None = None

    def __post_init__(self) -> None:
        check_shape(
            frames=(self.frames, "N 3 H W"),
            forward=(self.forward, "N 2 H W"),
            backward=(self.backward, "N 2 H W"),
            latents=(self.latents, "N C h w"),
            noise=(self.noise, "N C h w"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aligned:
    """T frames of a clip whose object took another shape, with what is known of them before any network paints.

    `first` [3, H, W] is frame 0 as edited or made before; `source` [T, 3, H, W] are the unedited frames, `background`
    [T, 3, H, W] the same without the object. `anchor` [3, H, W] is the first edited frame of the whole clip, the new object's
    colours continued beyond its outline; what a frame's new object shows at (x, y), it shows at `place` [T, 2, H, W], (x, y) in
    pixels. `mask` [T, 1, H, W] is where the new object is seen, soft at its rim, `depth` [T, 1, H, W] the depth of the edited
    scene, 1 = near. `frames` are the frames' numbers in the clip. Pictures, masks and depth are in [0, 1].
    """

    first: Tensor
    source: Tensor
    background: Tensor
    anchor: Tensor
    place: Tensor
    mask: Tensor
    depth: Tensor
    frames: tuple[int, ...]

    def __post_init__(self) -> None:
        check_shape(
            first=(self.first, "3 H W"),
            source=(self.source, "T 3 H W"),
            background=(self.background, "T 3 H W"),
            anchor=(self.anchor, "3 H W"),
            place=(self.place, "T 2 H W"),
            mask=(self.mask, "T 1 H W"),
            depth=(self.depth, "T 1 H W"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number that a metric gives, and what a reader is told of it. `higher_is_better` is None where neither is."""

    name: str  # as in files: "psnr_outside"
    title: str  # as on a page: "PSNR outside the mask"
    unit: str  # "dB", "levels of 255", "px", or "" for a plain number
    higher_is_better: bool | None
    source: str  # the paper and equation, or the library
    digits: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a metric found, by the names of its measures.

    `values` hold one number for the clip, `series` one a frame (number of the frame to value) where there is one, `missing`
    why there is no number, `facts` what a number cannot be read without (network, layer, number of samples), `warnings` what
    makes it doubtful. No value is NaN.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
