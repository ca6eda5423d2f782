"""The deflicker benchmark: known flicker is laid over clean clips, so the steady video is known.

Material: real clips (the first frames of each, one shot) and procedural scenes. Each has two halves. Thresholds of the
method were set on `tuned`; `held` was only looked at afterwards, and its numbers are the ones to quote.

Kinds of flicker, all random numbers fixed by the clip's name and the kind. A gain of light is a factor on the values.

gain      each frame times 0.92..1.08               colour    each channel of each frame times 0.94..1.06
gamma     each frame to the power 0.85..1.15        contrast  each frame 0.85..1.15 around its own mean
noise     white noise, standard deviation 0.03      texture   band-passed noise fixed to its frame, 0.04
side      light from one side, random from frame to frame by up to 20 % at that side; `sway` is the same as a wave of 7
          frames with 12 %, `side weak` random by up to 5 %
bands     sine of 1.5 to 3.5 periods down the picture, 8 %, that rolls by 1/3, 1/5 or 1/6 period a frame (lamps at 100 or
          120 Hz before 24, 25 and 30 frames a second); `bands jump` has a random phase in each frame, `bands slow` rolls by
          1/12 period, `bands weak` has 2.5 %
lamp      a round light of a fifth of the short side that varies by up to 40 % from frame to frame, in the middle
none      nothing: a clean clip must stay clean

Lasting changes of light, which must stay (the truth has them): `switch` (a lamp of half the picture goes on), `sunset` (all darker
and redder by half over the clip), `dawn side` (one side brighter, steadily), `cut` (another clip follows).

    python scripts/bench_deflicker.py --clips CLIPS --half held
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import math
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from flowpaint import scenes, video
from flowpaint.methods.deflicker import Deflicker
from flowpaint.parts.flow import DisFlow
from flowpaint.seams import Run
from flowpaint.types import Clip, Edit
from flowpaint.warp import resize, warp

CLIPS = {
    "tuned": ("dog_corgi", "woman_running", "talkinghead", "breakdance", "carphone", "bigbuckbunny", "older_woman"),
    "held": ("wolf", "headturn", "cups", "boxer", "juggle", "man_walking", "old_man", "kitten", "bikes"),
}
SCENES = {"tuned": (0, 1, 2, 3), "held": (10, 11, 12, 13)}
BEGIN = {"bikes": 31}  # the first frame of a longer shot
Light = Callable[[Tensor, torch.Generator], Tensor]


def _uniform(count: int, low: float, high: float, generator: torch.Generator, channels: int = 1) -> Tensor:
    return low + (high - low) * torch.rand(count, channels, 1, 1, generator=generator)


def _across(clean: Tensor, generator: torch.Generator) -> Tensor:
    """A smooth rise from 0 at one side of the picture to 1 at the other, from a random direction: [1, 1, H, W]."""
    height, width = clean.shape[-2:]
    angle = 2 * math.pi * float(torch.rand(1, generator=generator))
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    along = (x * math.cos(angle) + y * math.sin(angle)) / (abs(math.cos(angle)) + abs(math.sin(angle)))
    return (0.5 - 0.5 * torch.cos(math.pi * (along + 1) / 2))[None, None]


def _gain(low: float, high: float, channels: int = 1) -> Light:
    return lambda clean, generator: clean * _uniform(len(clean), low, high, generator, channels)


def _gamma(clean: Tensor, generator: torch.Generator) -> Tensor:
    return clean ** _uniform(len(clean), 0.85, 1.15, generator)


def _contrast(clean: Tensor, generator: torch.Generator) -> Tensor:
    mean = clean.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (clean - mean) * _uniform(len(clean), 0.85, 1.15, generator)


def _noise(clean: Tensor, generator: torch.Generator) -> Tensor:
    return clean + 0.03 * torch.randn(clean.shape, generator=generator)


def _texture(clean: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(clean.shape, generator=generator)
    band = blur(noise, 1.0) - blur(noise, 4.0)
    return clean + band * (0.04 / band.std())


def _side(most: float) -> Light:
    def lit(clean: Tensor, generator: torch.Generator) -> Tensor:
        across = _across(clean, generator)
        return clean * (1 + _uniform(len(clean), -most, most, generator) * across)

    return lit


def _sway(clean: Tensor, generator: torch.Generator) -> Tensor:
    across = _across(clean, generator)
    phase = float(torch.rand(1, generator=generator))
    wave = torch.sin(2 * math.pi * (torch.arange(len(clean)) / 7 + phase))
    return clean * (1 + 0.12 * wave[:, None, None, None] * across)


def _bands(depth: float, speeds: tuple[float, ...] | None) -> Light:
    """Bands of `depth` that roll by one of `speeds` periods a frame; with None, each frame has a phase of its own."""

    def lit(clean: Tensor, generator: torch.Generator) -> Tensor:
        periods = 1.5 + 2 * float(torch.rand(1, generator=generator))
        phases = torch.rand(len(clean), generator=generator)
        if speeds is not None:
            speed = speeds[int(torch.randint(len(speeds), (1,), generator=generator))]
            phases = phases[0] + speed * torch.arange(len(clean))
        down = periods * torch.linspace(0, 1, clean.shape[-2])
        return clean * (1 + depth * torch.sin(2 * math.pi * (down[None] + phases[:, None])))[:, None, :, None]

    return lit


def _lamp(clean: Tensor, generator: torch.Generator) -> Tensor:
    height, width = clean.shape[-2:]
    short = min(height, width)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = 0.3 + 0.4 * torch.rand(2, generator=generator)
    spot = torch.exp(-((y - place[0] * height) ** 2 + (x - place[1] * width) ** 2) / (2 * (0.2 * short) ** 2))
    return clean * (1 + _uniform(len(clean), -0.4, 0.4, generator) * spot)


def _both(first: Light, second: Light) -> Light:
    return lambda clean, generator: second(first(clean, generator), generator)


FLICKER: dict[str, Light] = {
    "gain": _gain(0.92, 1.08),
    "colour": _gain(0.94, 1.06, channels=3),
    "gamma": _gamma,
    "contrast": _contrast,
    "noise": _noise,
    "texture": _texture,
    "side": _side(0.2),
    "side weak": _side(0.05),
    "sway": _sway,
    "bands": _bands(0.08, (1 / 3, 1 / 5, 1 / 6)),
    "bands jump": _bands(0.08, None),
    "bands slow": _bands(0.08, (1 / 12,)),
    "bands weak": _bands(0.025, (1 / 3, 1 / 5, 1 / 6)),
    "lamp": _lamp,
    "gain + bands": _both(_gain(0.92, 1.08), _bands(0.08, (1 / 3, 1 / 5, 1 / 6))),
    "colour + side": _both(_gain(0.94, 1.06, channels=3), _side(0.2)),
    "lamp + noise": _both(_lamp, _noise),
    "none": lambda clean, _: clean,
}


def _switch(clean: Tensor, generator: torch.Generator) -> Tensor:
    on = (torch.arange(len(clean)) >= len(clean) // 2).float()[:, None, None, None]
    return clean * (0.6 + 0.4 * on * _across(clean, generator))


def _sunset(clean: Tensor, _: torch.Generator) -> Tensor:
    course = torch.linspace(0, 1, len(clean))[:, None, None, None]
    return clean * (1 - course * torch.tensor([0.35, 0.5, 0.6])[:, None, None])


def _dawn_side(clean: Tensor, generator: torch.Generator) -> Tensor:
    return clean * (0.6 + 0.4 * torch.linspace(0, 1, len(clean))[:, None, None, None] * _across(clean, generator))


def _cut(clean: Tensor, _: torch.Generator) -> Tensor:
    half = len(clean) // 2
    return torch.cat((clean[:half], 1 - clean[half:].flip(-1)))


LASTING: dict[str, Light] = {"switch": _switch, "sunset": _sunset, "dawn side": _dawn_side, "cut": _cut}
KINDS = (*FLICKER, *LASTING)


def blur(image: Tensor, sigma: float) -> Tensor:
    """`image` [N, 3, H, W] under a Gaussian of `sigma` pixels."""
    reach = round(3 * sigma)
    weights = torch.exp(-torch.arange(-reach, reach + 1).square() / (2 * sigma**2))
    kernel = (weights / weights.sum()).expand(3, 1, 1, -1)
    across = F.conv2d(F.pad(image, (reach, reach, 0, 0), mode="reflect"), kernel, groups=3)
    return F.conv2d(F.pad(across, (0, 0, reach, reach), mode="reflect"), kernel.transpose(2, 3), groups=3)


def material(clips: Path | None, half: str, frames: int, side: int) -> Iterator[tuple[str, Tensor]]:
    """Name and clean frames [T, 3, H, W] of each clip of a half: real ones where there is a folder, and scenes."""
    if clips is not None:
        for name in CLIPS[half]:
            path = next(iter(sorted(clips.glob(f"{name}*"))), None)
            if path is None:
                raise SystemExit(f"No file of {clips} begins with {name!r}. Give a folder that holds it.")
            clip = video.read(path)[BEGIN.get(name, 0) :]
            clip = clip[: min(frames, len(clip))]
            scale = min(1.0, side / min(clip.height, clip.width))
            size = round(clip.height * scale), round(clip.width * scale)
            yield name, torch.cat([resize(frame[None], *size) for frame in clip])
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    for seed in SCENES[half]:
        size = (side, 4 * side // 3)
        yield f"scene {seed}", scenes.clip(scenes.sample_scene(seed, 0.5, photos), frames, size).frames


def flickering(clean: Tensor, name: str, kind: str) -> tuple[Tensor, Tensor]:
    """The clip with flicker or lasting light, and its truth, both [T, 3, H, W]; the same for the same name and kind."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {kind}".encode()))
    lit = ({**FLICKER, **LASTING}[kind])(clean, generator).clamp(0, 1)
    return lit, lit if kind in LASTING else clean


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one clip under one kind of flicker gave."""

    kind: str
    name: str
    before: float  # PSNR against the truth, dB
    after: float
    flicker: float  # energy of the error along the clean clip's motion that is left, share
    sharpness: float  # mean gradient of the result, share of the truth's
    change: float  # mean |result - input|, of 255
    worst_change: float  # the same of the frame that suffers most
    milliseconds: float  # processor time a frame

    @property
    def gained(self) -> float:
        return self.after - self.before


def psnr(a: Tensor, b: Tensor) -> float:
    """In dB; 99 where nothing differs."""
    return min(99.0, float(-10 * (a - b).square().mean().clamp_min(1e-10).log10()))


def measured(name: str, kind: str, clean: Tensor, flow: Tensor) -> Row:
    lit, truth = flickering(clean, name, kind)
    steady = Deflicker()(Clip.from_array(lit), Edit(), Run())
    began = time.process_time()
    after = steady.frames
    spent = 1000 * (time.process_time() - began) / len(after)
    before, truth = (Clip.from_array(one).frames for one in (lit, truth))
    change = 255 * (after - before).abs().mean(dim=(1, 2, 3))
    swing = [_energy(one - truth, flow) for one in (before, after)]
    return Row(
        kind=kind,
        name=name,
        before=psnr(before, truth),
        after=psnr(after, truth),
        flicker=swing[1] / swing[0] if swing[0] else math.nan,
        sharpness=_gradient(after) / _gradient(truth),
        change=float(change.mean()),
        worst_change=float(change.max()),
        milliseconds=spent,
    )


def _energy(error: Tensor, vectors: Tensor) -> float:
    """Of `error` [T, 3, H, W] minus the one before carried along the motion: what is seen to flicker."""
    return float((error[1:] - warp(error[:-1], vectors)).square().mean())


def _gradient(frames: Tensor) -> float:
    across, down = frames[..., :-1, 1:] - frames[..., :-1, :-1], frames[..., 1:, :-1] - frames[..., :-1, :-1]
    return float(torch.hypot(across, down).mean())


def report(rows: list[Row]) -> None:
    """Print one line a kind: means, and the clip that did worst."""
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        kinds[row.kind].append(row)
    print("\n| kind | clips | PSNR, dB | gained, mean | worst | flicker left | sharpness | ms/frame |\n|---|---|---|---|---|---|---|---|")
    for kind, some in kinds.items():
        if kind not in LASTING and kind != "none":
            worst = min(some, key=lambda row: row.gained)
            before, after, gained, left, sharp, spent = (
                sum(getattr(row, name) for row in some) / len(some)
                for name in ("before", "after", "gained", "flicker", "sharpness", "milliseconds")
            )
            print(
                f"| {kind} | {len(some)} | {before:.1f} -> {after:.1f} | {gained:+.1f} | {worst.gained:+.1f} ({worst.name}) "
                f"| {100 * left:.0f} % | {100 * sharp:.1f} % | {spent:.0f} |"
            )
    print("\n| must stay | clips | change, of 255 | worst clip | worst frame | PSNR, worst |\n|---|---|---|---|---|---|")
    for kind, some in kinds.items():
        if kind in LASTING or kind == "none":
            worst = max(some, key=lambda row: row.change)
            frame = max(some, key=lambda row: row.worst_change)
            mean = sum(row.change for row in some) / len(some)
            print(
                f"| {kind} | {len(some)} | {mean:.3f} | {worst.change:.3f} ({worst.name}) | {frame.worst_change:.2f} ({frame.name}) "
                f"| {min(row.after for row in some):.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos; without it only scenes")
    parser.add_argument("--half", default="held", choices=("tuned", "held"))
    parser.add_argument("--only", nargs="+", help="names of clips and scenes")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--side", type=int, default=256, help="short side at most")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rows = []
    for name, clean in material(chosen.clips, chosen.half, chosen.frames, chosen.side):
        if chosen.only and name not in chosen.only:
            continue
        flow = DisFlow()(clean[1:], clean[:-1]).vectors
        for kind in chosen.kinds:
            row = measured(name, kind, clean, flow)
            rows.append(row)
            print(
                f"{name}, {kind}: {row.before:.2f} -> {row.after:.2f} dB ({row.gained:+.2f}), flicker left {100 * row.flicker:.0f} %, "
                f"change {row.change:.3f}, {row.milliseconds:.0f} ms/frame",
                flush=True,
            )
    report(rows)


if __name__ == "__main__":
    main()
