"""What a job would do and cost, without doing it."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Unpack

from ..methods.every_frame import suits
from ..seams import ImageEditor
from ..timecode import clock
from ..types import Edit
from ..video.encoding import resolve
from .files import check_writing, run_folder
from .job import WITHOUT_KEYS
from .prepare import Prepared, has_image_model
from .render import side_by_side
from .result import CHUNK, Result, Saving

# Seconds for a million pixels on two cores. Analogy from docs/benchmarks.md (0.98 at 720p, 1.4 at 512x512), colorize timed at
# 720p; the rest are guesses.
_FRAME_SECONDS = {"analogy": 1.2, "warp": 0.25, "freeze": 0.05, "frame-by-frame": 3.0, "deflicker": 1.2, "colorize": 0.5}
_APPLIED_SECONDS = 0.03  # a look that is applied to every frame as it is
_KEYFRAME_SECONDS = 3.0  # a look or a style on one picture
_READ_SECONDS = 0.06  # finding shots, encoding and measuring
_UNKNOWN = 2.0  # a method that is not in the table
_BASE_BYTES = 700 << 20  # Python, torch and the bundled networks
_FRAMES_HELD = 40  # float32 RGB pictures of full size that a method and the decoder hold at a time
_BYTES_A_PIXEL = 0.12  # of H.264 at crf 16; lossless codecs need some ten times that


def plan(result: Result, **saving: Unpack[Saving]) -> dict[str, Any]:
    """The shots, key frames, method, look, output and costs of a job, as plain values. Nothing is made or written.

    Seconds and memory are None where an image model works: they hang on the model and the machine, and are not estimated.
    Raises what `Result.save` would raise before it starts to work.
    """
    prepared, job = result.prepared, result.job
    clip = prepared.clip
    shown = side_by_side(clip, clip) if job.side_by_side else clip
    files = check_writing(job, shown, overwrite=saving.get("overwrite", False), warn=prepared.notes.warn)
    makes = getattr(prepared.method, "editor", None) is not None or has_image_model(prepared.method)
    edits = job.kind not in WITHOUT_KEYS and makes
    given = sorted(index + prepared.first for index in prepared.keyframes)
    bare = [shot.start + prepared.first for shot in prepared.shots if not any(index in shot for index in prepared.keyframes)]
    applied = edits and _is_applied(prepared)
    made = bare if edits and not applied else []
    return {
        "method": job.method.get("part", type(prepared.method).__name__),
        "look": job.look,
        "device": prepared.device,
        "frames": len(clip),
        "length": clock(clip.end - clip.times[0]),
        "shots": [
            {
                "first": shot.start + prepared.first,
                "last": shot[-1] + prepared.first,
                "from": clock(clip.times[shot.start] - prepared.begin),
                "kept": shot in prepared.passed,
            }
            for shot in prepared.shots
        ],
        "keyframes_given": given,
        "keyframes_made": made,
        "more_by_tracking": edits and not applied and hasattr(prepared.method, "lost"),
        "more_by_difference": edits and hasattr(prepared.method, "shortest"),
        "output": _output(files.video, shown.width, shown.height, result),
        "run_folder": str(saving.get("run") or run_folder(job.output)),
        "estimate": _costs(result, len(made)),
        "warnings": list(prepared.notes.warnings),
    }


def _is_applied(prepared: Prepared) -> bool:
    """Whether the method has its editor edit every frame as it is."""
    method, edit = prepared.method, Edit(keyframes=prepared.keyframes, finished=prepared.finished)
    editor = getattr(method, "editor", None)
    if not isinstance(editor, ImageEditor) or getattr(method, "takes_anchor", True) or not suits(edit, editor):
        return False
    return getattr(method, "propagate", None) is None


def _output(path: Path, width: int, height: int, result: Result) -> dict[str, Any]:
    if not path.suffix:
        return {"path": str(path), "codec": "png", "pixel_format": "rgb24", "width": width, "height": height}
    clip = result.prepared.clip
    shown = side_by_side(clip, clip) if result.job.side_by_side else clip
    target = resolve(shown, path, result.job.encoded())
    return {
        "path": str(path),
        "codec": target.codec,
        "pixel_format": target.pixel_format,
        "width": target.width,
        "height": target.height,
    }


def _costs(result: Result, num_made: int) -> dict[str, float | int | None]:
    prepared = result.prepared
    clip = prepared.clip
    pixels = clip.height * clip.width
    name = str(result.job.method.get("part", ""))
    a_frame = _APPLIED_SECONDS if _is_applied(prepared) else _FRAME_SECONDS.get(name, _UNKNOWN)
    seconds = len(clip) * (a_frame + _READ_SECONDS) + num_made * _KEYFRAME_SECONDS
    stored = Fraction(_BYTES_A_PIXEL) * pixels * len(clip)
    known = not has_image_model(prepared.method)
    return {
        "seconds": max(0.1, round(seconds * pixels / 1e6, 1)) if known else None,
        "memory_bytes": _BASE_BYTES + _FRAMES_HELD * pixels * 3 * 4 if known else None,
        "disk_bytes": int(stored * 2) + CHUNK * pixels // 8,  # the segments and the file made of them
    }
