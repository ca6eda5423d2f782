"""How far work spreads over machines: a simulation of 1 to 1,000 workers from measured stage times, checked on 2 real ones.

    python scripts/simulate_scaling.py                        from the times in `MEASURED`, a table for a batch and for one film
    python scripts/simulate_scaling.py --measure              the same from times that are measured here first
    python scripts/simulate_scaling.py --straggle 0.5 --deaths 0.5 --seed 3

A *batch* is many clips, one an item: a worker fetches, edits, encodes and uploads. A *film* is one clip, a shot an item: a worker
fetches the source once, edits, and sends raw frames to the film's own process, which measures and encodes them one after the
other. Workers may straggle (each item's edit takes a lognormal multiple, mean 1) and die (exponential times): the item goes on
from its last finished chunk on a new worker. Hand-out is as in `flowpaint.parts.execute`: in order, at most so many items
a worker ahead of what was taken: two for the shots of a film, a thousand for a batch (`--ahead` gives it another).
"""

import argparse
import heapq
import json
import math
import os
import random
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

CHUNK = 48  # frames that are safe at once


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of the stages of one kind of job, and the sizes that move. Measured on one kind of machine with one thread each."""

    start: float  # a worker: process, imports, cluster
    warm: float  # its first item more than others: weights, caches
    item: float  # each item: opening, shots, report
    edit: float  # each frame
    write: float  # each frame: encoding and measuring it
    raw_bytes: int  # of a frame through the store
    coded_bytes: int  # of a frame in a file, in or out


# `--measure` on two cores that others used as well (load 2.6), one thread a worker: analogy with a look, normal quality,
# 320x180, 8 clips of 16 frames.
MEASURED = Times(start=5.64, warm=0.04, item=0.143, edit=0.114, write=0.0098, raw_bytes=172_800, coded_bytes=1_754)


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that is no property of the job."""

    workers: int
    straggle: float = 0.3  # sigma of the lognormal
    deaths: float = 0.1  # a worker and hour
    worker_rate: float = 100e6  # bytes a second between a worker and the object store or the film's process
    store_rate: float = 5e9  # bytes a second of the object store in all
    driver_rate: float = 1e9  # bytes a second into the film's own process
    ahead: int = 2  # items a worker that may be done before they are taken
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a simulated run came to."""

    seconds: float
    items: int
    busy: float  # worker seconds in which frames were edited that count
    moved: float  # bytes over the network
    deaths: int
    last: float  # when the last worker was done; the rest is the film's own process

    def rate(self, workers: int) -> float:
        """Items an hour and worker."""
        return 3600 * self.items / self.seconds / workers


def simulate(times: Times, frames: Sequence[int], world: World, *, film: bool) -> Told:
    """A run over items of so many frames each."""
    run = _Run(times, frames, world, film=film)
    return run.told()


class _Run:
    """One run as events: (time, order, what, worker, item)."""

    def __init__(self, times: Times, frames: Sequence[int], world: World, *, film: bool) -> None:
        self.times, self.frames, self.world, self.film = times, list(frames), world, film
        self.lot = random.Random(world.seed)
        self.slow = [self._slow() for _ in frames]
        self.done_frames = [0] * len(frames)  # safe in the store
        self.finished = [math.inf] * len(frames)
        self.next, self.taken, self.writer = 0, 0, 0.0
        self.again: list[int] = []
        self.events: list[tuple[float, int, str, int, int]] = []
        self.order, self.moving, self.deaths, self.moved, self.busy, self.last = 0, 0, 0, 0.0, 0.0, 0.0
        self.cold = [True] * world.workers
        self.idle: list[int] = []
        for worker in range(world.workers):
            self._push(times.start, "free", worker, -1)

    def told(self) -> Told:
        """The end of it."""
        while self.events:
            now, _, what, worker, item = heapq.heappop(self.events)
            if what == "free":
                self.idle.append(worker)
            elif what == "done":
                self._done(now, worker, item)
            elif what == "dead":
                self.deaths += 1
                self.again.append(item)
                self.cold[worker] = True
                self._push(now + self.times.start, "free", worker, -1)
            self._take(now)
            self._hand_out(now)
        end = max(self.writer, self.last)
        return Told(seconds=end, items=len(self.frames), busy=self.busy, moved=self.moved, deaths=self.deaths, last=self.last)

    def _slow(self) -> float:
        sigma = self.world.straggle
        return self.lot.lognormvariate(-sigma * sigma / 2, sigma) if sigma else 1.0

    def _push(self, when: float, what: str, worker: int, item: int) -> None:
        self.order += 1
        heapq.heappush(self.events, (when, self.order, what, worker, item))

    def _done(self, now: float, worker: int, item: int) -> None:
        self.finished[item], self.last = now, now
        self.moving -= 1
        self.idle.append(worker)

    def _take(self, now: float) -> None:
        """What the consumer takes, in order; the process of a film is busy writing each."""
        while self.taken < len(self.frames) and self.finished[self.taken] <= now:
            if self.film:
                if self.writer > now:  # still writing the one before
                    self._push(self.writer, "wake", -1, -1)
                    return
                spent = self.frames[self.taken] * (self.times.write + self.times.raw_bytes / self.world.driver_rate)
                self.writer = now + spent
                self._push(self.writer, "wake", -1, -1)
            self.taken += 1

    def _hand_out(self, now: float) -> None:
        while self.idle:
            if self.again:
                item = self.again.pop()
            elif self.next < min(len(self.frames), self.taken + self.world.ahead * self.world.workers):
                item, self.next = self.next, self.next + 1
                self.moving += 1
            else:
                return
            self._begin(now, self.idle.pop(), item)

    def _begin(self, now: float, worker: int, item: int) -> None:
        times, left = self.times, self.frames[item] - self.done_frames[item]
        sent = left * (times.raw_bytes if self.film else 2 * times.coded_bytes)
        if self.film and self.cold[worker]:
            sent += sum(self.frames) * times.coded_bytes  # the whole source, once a worker
        shared = self.world.driver_rate if self.film else self.world.store_rate
        rate = min(self.world.worker_rate, shared / max(1, min(self.moving, self.world.workers)))
        each = times.edit * self.slow[item] + (0.0 if self.film else times.write)
        before = times.item + (times.warm if self.cold[worker] else 0.0)
        self.cold[worker] = False
        spent = before + left * each + sent / rate
        dies = self.lot.expovariate(self.world.deaths / 3600) if self.world.deaths else math.inf
        if dies < spent:
            made = max(0.0, dies - before) / (each + sent / rate / max(left, 1))
            safe = min(left, int(made // CHUNK) * CHUNK)
            self.done_frames[item] += safe
            self._count(safe, each, sent * safe / max(left, 1))
            self._push(now + dies, "dead", worker, item)
        else:
            self._count(left, each, sent)
            self._push(now + spent, "done", worker, item)

    def _count(self, frames: int, each: float, sent: float) -> None:
        self.busy += frames * each
        self.moved += sent


# -------------------------------------------------------------------------------------------------------------- measuring


def _clips(folder: Path, count: int, frames: int, size: tuple[int, int]) -> list[Path]:
    from flowpaint import scenes, video

    paths = []
    for number in range(count):
        paths.append(folder / f"clip{number}.mp4")
        video.write(scenes.clip(scenes.sample_scene(number, 0.3), frames, size), paths[-1])
    return paths


def _real(folder: Path, clips: Iterable[Path], workers: int) -> tuple[float, list[dict[str, object]], list[Mapping[str, float]]]:
    """Seconds of a real batch on Ray, its rows, and the stage times in their reports."""
    from flowpaint.jobs.batch import Batch, run_batch
    from flowpaint.jobs.rows import read_rows
    from flowpaint.parts.execute import RayExecutor

    table = folder / f"jobs{workers}.csv"
    lines = [f"{clip},van gogh,{folder}/out{workers}-{clip.name}" for clip in clips]
    table.write_text("\n".join(["input,prompt,output", *lines]) + "\n")
    rows = read_rows(table, cache=folder)
    begun = time.perf_counter()
    outcomes = run_batch(rows, Batch(cache=folder), RayExecutor(workers=workers))
    spent = time.perf_counter() - begun
    for one in outcomes:
        if one.state != "done":
            raise SystemExit(f"{one.output}: {one.message}")
    reports = [json.loads(Path(one.output).with_suffix(".json").read_text())["seconds"] for one in outcomes]
    return spent, [asdict(one) for one in outcomes], reports


def measure(count: int = 16, frames: int = 24, size: tuple[int, int] = (180, 320)) -> Times:
    """Stage times of this machine, from a real batch on one worker; a second on two says how well they predict it."""
    import ray

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = _clips(folder, count, frames, size)
        alone, rows, reports = _real(folder, clips, 1)
        ray.shutdown()
        spent = [float(str(row["seconds"])) for row in rows]
        total = count * frames
        edit = sum(one["edit"] for one in reports) / total
        write = sum(one.get("write", 0.0) + one.get("measure", 0.0) for one in reports) / total
        rest = [
            whole - one["edit"] - one.get("write", 0.0) - one.get("measure", 0.0)
            for whole, one in zip(spent, reports, strict=True)
        ]
        item = sorted(rest[1:])[len(rest[1:]) // 2]
        coded = sum(clip.stat().st_size for clip in clips) / total
        times = Times(
            start=round(alone - sum(spent), 3), warm=round(max(0.0, rest[0] - item), 3), item=round(item, 3), edit=round(edit, 4),
            write=round(write, 4), raw_bytes=size[0] * size[1] * 3, coded_bytes=round(coded),
        )  # fmt: skip
        print(f"measured: {times}")
        print(f"1 worker: {alone:.2f} s for {count} clips of {frames} frames; load of the machine {os.getloadavg()[0]:.1f}")
        both, rows, reports = _real(folder, clips, 2)
        ray.shutdown()
        again = sum(one["edit"] for one in reports) / total
    quiet = World(workers=2, straggle=0.0, deaths=0.0)
    for label, one in (("", times), (", with the edit time of that run", replace(times, edit=again))):
        guess = simulate(one, [frames] * count, quiet, film=False).seconds
        print(f"2 workers{label}: predicted {guess:.2f} s, real {both:.2f} s, error {100 * (guess - both) / both:+.0f} %")
    return times


# -------------------------------------------------------------------------------------------------------------------- table


def table(times: Times, frames: Sequence[int], world: World, *, film: bool) -> None:
    """Print a row for each number of workers, and where adding workers stops paying."""
    print(f"{'one film, shots' if film else 'batch, clips'}: {len(frames)} items, {sum(frames)} frames")
    print("workers   hours     items/h/worker  efficiency  moved GB  deaths  waits for")
    best, stops = 0.0, None
    for workers in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        told = simulate(times, frames, replace(world, workers=workers), film=film)
        rate = told.rate(workers)
        best = best or rate
        share = rate / best
        if share < 0.5 and stops is None:
            stops = workers
        limit = "the film's process" if film and told.seconds > 1.02 * told.last else "workers"
        cells = f"{workers:7d} {told.seconds / 3600:9.3f} {rate:15.1f} {share:10.0%}"
        print(f"{cells} {told.moved / 1e9:10.1f} {told.deaths:7d}  {limit}")
    print(f"half the efficiency is gone at {stops} workers" if stops else "more than half the efficiency is kept throughout")
    if film:
        per_frame = times.write + times.raw_bytes / world.driver_rate
        print(
            f"the film's process keeps up with {times.edit / per_frame:.0f} workers: {times.edit} s / {per_frame:.4f} s a frame"
        )
    print()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--measure", action="store_true", help="measure the stage times here first")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--shots", type=int, default=1_000, help="of the one film")
    parser.add_argument("--frames", type=int, nargs=2, default=(24, 240), help="shortest and longest item, drawn evenly in log")
    parser.add_argument("--straggle", type=float, default=World.straggle, help="sigma of the lognormal")
    parser.add_argument("--deaths", type=float, default=World.deaths, help="a worker and hour")
    parser.add_argument("--ahead", type=int, help="items a worker; for the batch only")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    times = measure() if given.measure else MEASURED
    lot = random.Random(given.seed)
    low, high = (math.log(one) for one in given.frames)
    lengths = [round(math.exp(lot.uniform(low, high))) for _ in range(given.items)]
    world = World(workers=1, straggle=given.straggle, deaths=given.deaths, seed=given.seed)
    print(f"{times}\n{world}\n")
    table(times, lengths, replace(world, ahead=given.ahead or 1000), film=False)
    table(times, lengths[: given.shots], world, film=True)


if __name__ == "__main__":
    main()
