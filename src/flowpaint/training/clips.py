"""Clips with what a video model learns from: flow to and from the first frame, visibility, depth, latents."""

import io
import json
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import video
from ..errors import InputError, VideoError
from ..hints import first_to_each
from ..scenes import correspond, render, sample_scene
from ..seams import Executor, FlowEstimator, SpatialCondition, default
from ..types import check_shape
from ..warp import resize
from .captions import scene_subject
from .latents import encoded
from .pictures import photographs
from .shards import ShardWriter
from .standard import autoencoder, frozen

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class ClipCutter:
    """Cuts videos into training clips of `length` frames, none across a cut, each from where the one before ended, of squares of
    `size` pixels from the middle. How many frames they are apart is drawn by lot from those of `strides` that the shot has room
    for (FlowVid, section 5.1: 2, 4 or 8).

    `flow` measures between the first frame and each other one, and by way of the frame before where that explains less than
    half; `depth`, if any, is a condition that gives depth maps; `base`, if any, is the folder of a model whose autoencoder adds
    latents. A file `videos.toml` beside the videos says what they show, if it is there: "name.mp4" = {subject = "a tree"}.
    """

    length: int = 8
    strides: tuple[int, ...] = (2, 4, 8)
    size: int = 256
    flow: FlowEstimator = default("flow", "dis")
    depth: SpatialCondition | None = field(default=None, metadata={"kind": "condition"})
    base: str = ""

    def __post_init__(self) -> None:
        if self.length < 2 or not self.strides or min(self.strides) < 1 or self.size < 16:
            raise InputError(
                f"Clips of {self.length} frames, {self.strides} apart, {self.size} px are none. Give 2, 1 and 16 or more."
            )

    def __call__(self, path: Path) -> list[dict[str, bytes]]:
        """The clips of a video as files of samples: see `clip_files`. Raises `VideoError` where it cannot be read."""
        clip = video.read(path)
        network = frozen(autoencoder(self.base)) if self.base else None
        rng = np.random.default_rng([113, zlib.crc32(path.name.encode())])
        told = {"origin": path.name, "subject": subject_of(path)}
        samples = []
        for shot in video.shots(clip):
            for start, stride in self._places(shot, rng):
                numbers = [start + stride * place for place in range(self.length)]
                frames = torch.stack([_square(clip.frame(number), self.size) for number in numbers])
                samples.append(self._files(frames, network, {**told, "start": start, "stride": stride}))
        return samples

    def _places(self, shot: range, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """First frame and stride of each clip in a shot."""
        start = shot.start
        while fitting := [one for one in self.strides if start + (self.length - 1) * one < shot.stop]:
            stride = int(rng.choice(fitting))
            yield start, stride
            start += self.length * stride

    def _files(self, frames: Tensor, network: Any, told: dict[str, Any]) -> dict[str, bytes]:
        found = first_to_each(frames, self.flow)
        depth = self.depth(frames)[:, :1] if self.depth is not None else None
        latents = torch.cat([encoded(network, one[None]) for one in frames]) if network is not None else None
        arrays = {"forward": found.forward, "backward": found.backward, "visibility": found.visibility}
        more = {name: one for name, one in (("depth", depth), ("latents", latents)) if one is not None}
        return clip_files(frames, {**arrays, **more}, {**told, "chained": list(found.chained)})


def subject_of(path: Path) -> str:
    """What the video `path` shows in the words of `videos.toml` beside it; "a video" where that says nothing.

    Raises `VideoError` for a list that cannot be read.
    """
    listed = path.parent / "videos.toml"
    if not listed.exists():
        return "a video"
    try:
        told = tomllib.loads(listed.read_text("utf-8")).get(path.name, {})
        return str(told.get("subject", "a video"))
    except (OSError, ValueError, AttributeError) as error:
        raise VideoError(
            f'{listed} cannot be read ({error}). List the videos in it: "name.mp4" = {{subject = "a tree in the wind"}}.'
        ) from error


def clip_files(frames: Tensor, arrays: Mapping[str, Tensor], told: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a sample: `frames.npy` uint8 [T, 3, H, W], one `.npy` for each of `arrays`, and `told` as `json`.

    `forward` [T - 1, 2, H, W] goes from the first frame to each other one, `backward` from each other to the first, in pixels;
    `visibility` [T - 1, 1, H, W] is 1 where the other frame's pixel is seen in the first; `depth` [T, 1, H, W] in [0, 1],
    1 = near; `latents` [T, C, h, w]. Visibility and depth are kept as uint8 of 255, the others as float16.
    """
    check_shape(frames=(frames, "T 3 H W"))
    files = {"frames.npy": _bytes((frames * 255).round().byte())}
    for name, array in arrays.items():
        level = name in ("visibility", "depth")
        files[f"{name}.npy"] = _bytes((array * 255).round().byte() if level else array.half())
    return {**files, "json": json.dumps(dict(told)).encode()}


def scene_clips(
    count: int, *, length: int, size: int, seed: int, photos: Path | None = None, strides: Sequence[int] = (1, 2, 4)
) -> Iterator[dict[str, bytes]]:
    """The files of `count` clips of procedural scenes, with exact flow, visibility and depth: see `clip_files`.

    The photographs that `photos.toml` in the folder `photos` lists are textures among others. Scenes move up to five times as
    fast as films do, so their frames are `strides` apart, nearer than films' are.
    """
    known = [one.pixels for one in photographs(photos)] if photos is not None else []
    for number in range(seed, seed + count):
        rng = np.random.default_rng([110, number])
        scene = sample_scene(number, float(rng.uniform(0.2, 1.0)), known)
        start, step = float(rng.uniform(0, 60)), int(rng.choice(strides))
        times = [start + step * place for place in range(length)]
        shown = [render(scene, time, (size, size)) for time in times]
        there = [correspond(scene, times[0], time, (size, size)) for time in times[1:]]
        back = [correspond(scene, time, times[0], (size, size)) for time in times[1:]]
        arrays = {
            "forward": torch.cat([one.vectors for one in there]),
            "backward": torch.cat([one.vectors for one in back]),
            "visibility": torch.cat([one.visibility for one in back]),
            "depth": torch.stack([one.depth for one in shown]),
        }
        told = {"origin": "scene", "seed": number, "stride": step, "subject": scene_subject(scene)}
        yield clip_files(torch.stack([one.rgb for one in shown]).clamp(0, 1), arrays, told)


def prepare_clips(videos: Sequence[Path], output: Path, *, cutter: ClipCutter, executor: Executor, progress: Progress) -> int:
    """The number of clips that `cutter` found in `videos` and that were written to `output`.

    Raises `InputError` where no video holds a clip, and what `executor` raises for one that fails.
    """
    written = 0
    with ShardWriter(output, size=32) as shards:
        for number, samples in enumerate(executor.map(cutter, list(videos), str)):
            for files in samples:
                shards.write(files)
                written += 1
            progress("clips", number + 1, len(videos))
    if not written:
        raise InputError(
            f"No shot of these videos lasts {cutter.length} frames, {min(cutter.strides)} apart. Ask for fewer, or give others."
        )
    return written


def synth_clips(
    output: Path, *, count: int, length: int = 8, size: int = 256, seed: int = 0, photos: Path | None = None, progress: Progress
) -> int:
    """The number of clips of procedural scenes written to `output`, with exact flow, visibility and depth: see `scene_clips`."""
    with ShardWriter(output, size=32) as shards:
        for number, files in enumerate(scene_clips(count, length=length, size=size, seed=seed, photos=photos)):
            shards.write(files)
            progress("clips", number + 1, count)
    return count


def _square(frame: Tensor, size: int) -> Tensor:
    """The middle square of a frame [3, H, W] at `size` pixels."""
    side = min(frame.shape[1:])
    top, left = (frame.shape[1] - side) // 2, (frame.shape[2] - side) // 2
    return resize(frame[None, :, top : top + side, left : left + side], size, size)[0].clamp(0, 1)


def _bytes(array: Tensor) -> bytes:
    content = io.BytesIO()
    np.save(content, array.cpu().numpy())
    return content.getvalue()
