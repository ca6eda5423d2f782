"""The shots benchmark: clips and procedural scenes joined in known ways, so every border is known.

Borders that must be found, each between two different clips (or scenes), both of which go on moving:

cut              from one frame to the next
cross-fade N     N mixed frames, N in 6..48; half of them with a constant rate, half with a soft begin and end
through black N  N frames down to black and up again, held for 0..6 black frames; the same `through white`

What must not be found: `plain` (the clips as they are), `flash` (1 to 3 white frames, some fading away), `exposure` (a jump or a
ramp of brightness), `lamp` (half of the picture gets brighter, at once or slowly), `blink` (down to black and up to the same
scene), `pan` (up to 0.3 of the width a frame over a still), `zoom` (a whip zoom of 6 to 10 frames), `shake`, `occluder` (something
large passes close to the camera), `scratches` (dust, scratches, noise).

Material: real clips and scenes in two halves; thresholds were set on `tuned`, `held` was only looked at afterwards. `--reels` adds
films as they are, with borders that were found by eye.

recall     share of the borders of a kind that were found: a cut at its very frame, a fade anywhere inside it
precision  share of what was found in clips of this kind that is a border
said       share of the fades found that were called a fade of the right kind
off        mean distance between a fade's border and its middle, in frames

    python scripts/bench_shots.py --clips CLIPS --half held
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

from flowpaint import scenes, video
from flowpaint.types import Clip
from flowpaint.video import Border, borders

Frames: TypeAlias = npt.NDArray[np.uint8]  # [T, H, W, 3]
Random: TypeAlias = np.random.Generator

SIZE = 144, 256  # height and width of everything here
CLIPS = {
    "tuned": ("dog_corgi", "woman_running", "talkinghead", "breakdance", "carphone", "bigbuckbunny", "older_woman"),
    "held": ("wolf", "headturn", "cups", "boxer", "juggle", "man_walking", "old_man", "kitten"),
}
STRAY = {"older_woman": 157}  # the clip's last frame is from another shot
SCENES = {"tuned": range(0, 8), "held": range(20, 28)}
LONGEST = 120  # frames of a clip
LENGTHS = 6, 8, 12, 16, 24, 32, 48
REELS = {"bikes_cuts": (30, 76, 137, 187, 242), "derived_hardcuts": (36, 72)}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A border that is there: at `frame`, or within the mixed frames `fade`."""

    frame: int
    fade: range = range(0)
    kind: str = "cut"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clip with its borders."""

    kind: str
    name: str
    frames: Frames
    truth: tuple[Truth, ...] = ()


@dataclass(kw_only=True)
class Tally:
    """What was found in all clips of a kind."""

    clips: int = 0
    borders: int = 0
    found: int = 0
    false: int = 0
    said: int = 0
    fades: int = 0
    off: list[float] = field(default_factory=list)
    misses: list[str] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------------------- material


def fitted(raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The middle of a picture at the benchmark's size."""
    height, width = SIZE
    scale = max(height / raw.shape[0], width / raw.shape[1])
    size = max(width, round(raw.shape[1] * scale)), max(height, round(raw.shape[0] * scale))
    large = cv2.resize(raw, size, interpolation=cv2.INTER_AREA)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    return large[top : top + height, left : left + width]


def material(clips: Path | None, half: str) -> dict[str, Frames]:
    """Name to frames of each clip and scene of a half."""
    found: dict[str, Frames] = {}
    for name in CLIPS[half] if clips is not None else ():
        clip = video.read(next(iter(sorted(clips.glob(f"{name}*")))))
        found[name] = np.stack([fitted(clip.raw(index)) for index in range(min(len(clip), LONGEST, STRAY.get(name, LONGEST)))])
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    for seed in SCENES[half]:
        clip = scenes.clip(scenes.sample_scene(seed, 0.3 + 0.1 * (seed % 8), photos), 72, SIZE)
        found[f"scene {seed}"] = np.stack([clip.raw(index) for index in range(len(clip))])
    return found


def looped(frames: Frames, length: int) -> Frames:
    """`length` frames, forwards and backwards again where the clip is too short: no jump."""
    order = np.concatenate([np.arange(len(frames)), np.arange(len(frames) - 2, 0, -1)])
    return frames[np.resize(order, length)]


# -------------------------------------------------------------------------------------------------------------- borders


def cut(a: Frames, b: Frames, rng: Random) -> tuple[Frames, tuple[Truth, ...]]:
    where = int(rng.integers(12, 50))
    return np.concatenate([looped(a, where), looped(b, int(rng.integers(12, 50)))]), (Truth(frame=where),)


def cross_fade(length: int) -> Callable[[Frames, Frames, Random], tuple[Frames, tuple[Truth, ...]]]:
    def joined(a: Frames, b: Frames, rng: Random) -> tuple[Frames, tuple[Truth, ...]]:
        before, after = (int(rng.integers(20, 45)) for _ in range(2))
        first, second = looped(a, before + length), looped(b, length + after)
        share = np.arange(1, length + 1) / (length + 1)
        if rng.random() < 0.5:
            share = share * share * (3 - 2 * share)
        mixed = mix(first[before:], second[:length], share)
        fade = range(before, before + length)
        middle = before + int(np.argmax(share >= 0.5))
        return np.concatenate([first[:before], mixed, second[length:]]), (Truth(frame=middle, fade=fade, kind="cross-fade"),)

    return joined


def mix(a: Frames, b: Frames, share: npt.NDArray[np.float64]) -> Frames:
    weight = share[:, None, None, None]
    return np.rint((1 - weight) * a + weight * b).astype(np.uint8)


def through(length: int, level: int, kind: str) -> Callable[[Frames, Frames, Random], tuple[Frames, tuple[Truth, ...]]]:
    def joined(a: Frames, b: Frames, rng: Random) -> tuple[Frames, tuple[Truth, ...]]:
        before, after, held = int(rng.integers(20, 45)), int(rng.integers(20, 45)), int(rng.integers(0, 7))
        half = length // 2
        first, second = looped(a, before + half), looped(b, half + after)
        plain = np.full_like(first[:half], level)
        down = np.arange(1, half + 1) / half
        parts = [
            first[:before],
            mix(first[before:], plain, down),
            np.full((held, *SIZE, 3), level, np.uint8),
            mix(plain, second[:half], down - 1 / half),
            second[half:],
        ]
        fade = range(before, before + 2 * half + held)
        return np.concatenate(parts), (Truth(frame=before + half + held // 2, fade=fade, kind=kind),)

    return joined


JOINS: dict[str, Callable[[Frames, Frames, Random], tuple[Frames, tuple[Truth, ...]]]] = {
    "cut": cut,
    **{f"cross-fade {length}": cross_fade(length) for length in LENGTHS},
    **{f"through black {length}": through(length, 0, "fade through black") for length in (8, 16, 32, 48)},
    **{f"through white {length}": through(length, 255, "fade through white") for length in (8, 16, 32)},
}

# ------------------------------------------------------------------------------------------------------------ no borders


def flash(a: Frames, rng: Random) -> Frames:
    frames = looped(a, 60)
    start, count, decays = int(rng.integers(10, 45)), int(rng.integers(1, 4)), rng.random() < 0.5
    share = [0.95] * count + [0.6, 0.35, 0.2, 0.1] * decays
    white = np.full_like(frames[: len(share)], 255)
    frames = frames.copy()
    frames[start : start + len(share)] = mix(frames[start : start + len(share)], white, np.array(share))
    return frames


def lit(frames: Frames, gain: npt.NDArray[np.floating]) -> Frames:
    return np.clip(np.rint(frames * gain), 0, 255).astype(np.uint8)


def course(rng: Random, low: float, high: float, count: int = 60) -> npt.NDArray[np.float64]:
    """From 1 to a random level in one frame or in up to 24."""
    start, ramp = int(rng.integers(15, 30)), int(rng.choice([1, 6, 12, 24]))
    return np.interp(np.arange(count), [start, start + ramp], [1.0, float(rng.uniform(low, high))])


def exposure(a: Frames, rng: Random) -> Frames:
    low, high = ((0.4, 0.65), (1.4, 1.9))[int(rng.integers(2))]
    return lit(looped(a, 60), course(rng, low, high)[:, None, None, None])


def lamp(a: Frames, rng: Random) -> Frames:
    side = np.linspace(1, 0, SIZE[1]) if rng.random() < 0.5 else np.linspace(0, 1, SIZE[1])
    gain = 0.6 * (1 + (course(rng, 1.5, 2.0)[:, None, None] - 1) * np.clip(2 * side - 0.5, 0, 1))
    return lit(looped(a, 60), gain[..., None])


def blink(a: Frames, rng: Random) -> Frames:
    down, start = int(rng.choice([4, 8, 12])), int(rng.integers(12, 20))
    at = [start, start + down, start + down + 3, start + 2 * down + 3]
    return lit(looped(a, 60), np.interp(np.arange(60), at, [1, 0.0, 0.0, 1])[:, None, None, None])


def wide(a: Frames, rng: Random) -> npt.NDArray[np.uint8]:
    """A still panorama: frames of the clip beside each other, mirrored so that they join."""
    picks = [a[int(rng.integers(len(a)))] for _ in range(6)]
    return np.concatenate([one if place % 2 == 0 else one[:, ::-1] for place, one in enumerate(picks)], axis=1)


def view(picture: npt.NDArray[np.uint8], left: float, top: float, zoom: float, smear: float = 0.0) -> npt.NDArray[np.uint8]:
    """What a camera sees of a still, smeared along the row by `smear` pixels."""
    height, width = SIZE
    matrix = np.array([[zoom, 0, left], [0, zoom, top]], np.float32)
    seen = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
    return cv2.blur(seen, (max(1, round(smear)), 1)) if smear > 1 else seen


def pan(a: Frames, rng: Random) -> Frames:
    """Rest, then a fast pan that starts and stops softly, then rest."""
    picture, speed = wide(a, rng), rng.uniform(0.05, 0.3) * SIZE[1]
    count = int(rng.integers(6, 20))
    steps = np.concatenate([np.zeros(20), speed * np.sin(np.pi * (np.arange(count) + 0.5) / count), np.zeros(20)])
    place = np.cumsum(steps)
    return np.stack([view(picture, left, 0, 1.0, smear=step / 2) for left, step in zip(place, steps, strict=True)])


def zoom(a: Frames, rng: Random) -> Frames:
    picture, count = cv2.resize(a[int(rng.integers(len(a)))], (2 * SIZE[1], 2 * SIZE[0]), interpolation=cv2.INTER_CUBIC), int(rng.integers(6, 11))
    scale = np.concatenate([np.full(20, 2.0), np.geomspace(2.0, rng.uniform(0.5, 0.9), count), np.full(20, np.nan)])
    scale[20 + count :] = scale[19 + count]
    if rng.random() < 0.5:
        scale = scale[::-1]
    return np.stack([view(picture, SIZE[1] * (1 - one / 2), SIZE[0] * (1 - one / 2), one) for one in scale])


def shake(a: Frames, rng: Random) -> Frames:
    frames = looped(a, 60)
    place = rng.normal(0, 0.04 * SIZE[1], (60, 2)) * (np.abs(np.arange(60) - 30) < 15)[:, None]
    return np.stack([view(frame, x, y, 1.0, smear=abs(x) / 2) for frame, (x, y) in zip(frames, place, strict=True)])


def occluder(a: Frames, rng: Random) -> Frames:
    """Something large and dark, with some texture, that crosses the picture in 8 to 24 frames."""
    frames, count = looped(a, 60).copy(), int(rng.integers(8, 25))
    width = rng.uniform(0.5, 0.9) * SIZE[1]
    coat = cv2.GaussianBlur(rng.normal(0, 60, (*SIZE, 3)), (0, 0), 4) + rng.uniform(20, 90, 3)
    coat = np.clip(coat, 0, 255).astype(np.uint8)
    x = np.arange(SIZE[1])
    for step in range(count):
        left = -width + (SIZE[1] + width) * step / (count - 1)
        cover = np.clip(np.minimum(x - left, left + width - x) / 6 + 0.5, 0, 1)[None, :, None]
        moved = np.roll(coat, round(left), axis=1)
        frames[18 + step] = np.rint((1 - cover) * frames[18 + step] + cover * moved).astype(np.uint8)
    return frames


def scratches(a: Frames, rng: Random) -> Frames:
    frames = looped(a, 60).astype(np.float32)
    frames += rng.normal(0, rng.uniform(4, 14), frames.shape)
    frames *= rng.uniform(0.9, 1.1, (60, 1, 1, 1))
    for frame in frames:
        for _ in range(int(rng.integers(0, 4))):
            frame[:, int(rng.integers(SIZE[1])) :][:, :2] += rng.choice([-90, 90])
        for _ in range(int(rng.integers(0, 6))):
            place = int(rng.integers(SIZE[1])), int(rng.integers(SIZE[0]))
            cv2.circle(frame, place, int(rng.integers(1, 9)), (20, 20, 20) if rng.random() < 0.5 else (235, 235, 235), -1)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


CALM: dict[str, Callable[[Frames, Random], Frames]] = {
    "plain": lambda a, _: a,
    "flash": flash,
    "exposure": exposure,
    "lamp": lamp,
    "blink": blink,
    "pan": pan,
    "zoom": zoom,
    "shake": shake,
    "occluder": occluder,
    "scratches": scratches,
}


def cases(pool: dict[str, Frames], kinds: Sequence[str], each: int) -> list[Case]:
    """The cases of all kinds: the same for the same material. Every clip takes part in each kind without borders."""
    found = []
    names = list(pool)
    for kind in kinds:
        rng = np.random.default_rng(zlib.crc32(kind.encode()))
        if kind in JOINS:
            for _ in range(each):
                a, b = rng.choice(len(names), 2, replace=False)
                frames, truth = JOINS[kind](pool[names[a]], pool[names[b]], rng)
                found.append(Case(kind=kind, name=f"{names[a]} to {names[b]}", frames=frames, truth=truth))
        else:
            for name in names:
                found.append(Case(kind=kind, name=name, frames=CALM[kind](pool[name], rng)))
    return found


# ------------------------------------------------------------------------------------------------------------- judgement


def judge(case: Case, found: Sequence[Border], tally: Tally) -> None:
    """Count what was found in a case."""
    tally.clips += 1
    tally.borders += len(case.truth)
    left = list(found)
    for truth in case.truth:
        fits = [one for one in left if one.frame == truth.frame or one.frame in truth.fade]
        if not fits:
            tally.misses.append(f"{case.name}: missed {truth.kind} at {truth.frame}")
            continue
        best = min(fits, key=lambda one: abs(one.frame - truth.frame))
        left.remove(best)
        tally.found += 1
        if truth.fade:
            tally.fades += 1
            tally.said += best.kind == truth.kind
            tally.off.append(abs(best.frame - truth.frame))
    tally.false += len(left)
    tally.misses += [f"{case.name}: false {one.kind} at {one.frame}" for one in left]


def report(tallies: dict[str, Tally]) -> None:
    """Print one line a kind."""
    print("| kind | clips | borders | recall | precision | said | off, frames | false a clip |\n|---|---|---|---|---|---|---|---|")
    for kind, one in tallies.items():
        recall = f"{one.found / one.borders:.2f}" if one.borders else ""
        precision = f"{one.found / (one.found + one.false):.2f}" if one.borders and one.found + one.false else ""
        said = f"{one.said / one.fades:.2f}" if one.fades else ""
        off = f"{np.mean(one.off):.1f}" if one.off else ""
        print(f"| {kind} | {one.clips} | {one.borders} | {recall} | {precision} | {said} | {off} | {one.false / one.clips:.2f} |")
    found, false, known = (sum(getattr(one, name) for one in tallies.values()) for name in ("found", "false", "borders"))
    print(f"\nIn all: recall {found / max(1, known):.3f}, precision {found / max(1, found + false):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos; without it only scenes")
    parser.add_argument("--half", default="held", choices=("tuned", "held"))
    parser.add_argument("--kinds", nargs="+", default=[*JOINS, *CALM], choices=[*JOINS, *CALM])
    parser.add_argument("--each", type=int, default=12, help="clips of each kind that has borders")
    parser.add_argument("--misses", action="store_true", help="list what was missed and what was found wrongly")
    parser.add_argument("--reels", action="store_true", help="also the films of the folder whose cuts are known")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    pool = material(chosen.clips, chosen.half)
    every = cases(pool, chosen.kinds, chosen.each)
    tallies: dict[str, Tally] = defaultdict(Tally)
    spent, frames = 0.0, 0
    for case in every:
        began = time.process_time()
        found = borders(Clip.from_array(case.frames))
        spent, frames = spent + time.process_time() - began, frames + len(case.frames)
        judge(case, found, tallies[case.kind])
    for name, starts in REELS.items() if chosen.reels and chosen.clips is not None else ():
        clip = video.read(next(iter(sorted(chosen.clips.glob(f"{name}*")))))
        reel = Case(kind=f"reel {name}", name=name, frames=np.zeros(0, np.uint8), truth=tuple(Truth(frame=one) for one in starts))
        judge(reel, borders(clip), tallies[reel.kind])
    report(tallies)
    print(f"{1000 * spent / frames:.2f} ms of processor time a frame of {SIZE[1]}x{SIZE[0]}")
    if chosen.misses:
        print(*(f"{kind}: {one}" for kind, tally in tallies.items() for one in tally.misses), sep="\n")


if __name__ == "__main__":
    main()
