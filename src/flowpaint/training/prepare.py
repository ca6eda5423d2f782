"""Videos to shards of clips, in parallel."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import InputError
from ..seams import Executor
from .clips import ClipCutter, scene_clips
from .shards import ShardWriter

Progress = Callable[[str, int, int], None]


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
            f"No shot of these videos lasts {cutter.length} frames, {cutter.stride} apart. Ask for fewer, or give other videos."
        )
    return written


def synth_clips(output: Path, *, count: int, length: int = 8, size: int = 256, seed: int = 0, progress: Progress) -> int:
    """The number of clips of procedural scenes written to `output`, with exact flow, visibility and depth."""
    with ShardWriter(output, size=32) as shards:
        for number, files in enumerate(scene_clips(count, length=length, size=size, seed=seed)):
            shards.write(files)
            progress("clips", number + 1, count)
    return count
