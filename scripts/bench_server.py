"""How the server stands a crowd and bad luck: many jobs from many clients while things are killed, full and broken.

    python scripts/bench_server.py load [--jobs 200] [--clients 8] [--workers 2] [--calm] [--disk DIR]
    python scripts/bench_server.py start

`load` serves a fresh data folder, lets clients send broken uploads, films of 8 frames (160x120) and jobs over REST, kills workers
and the server now and then (kill -9), and fills the disk for a while where `--disk` is a small file system of its own. Then it
holds every answer that the server gave against what the store says and what the files show. `start` measures how long a start
takes to the first answer and to a page. The last line is JSON.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import requests

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import torch

from flowpaint import api, scenes, video

FRAMES, HEIGHT, WIDTH = 8, 120, 160
PROMPTS = ("van gogh", "expressionist", "pencil", "stained glass")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """`flowpaint serve` as a process that can be killed and started again."""

    data: Path
    workers: int
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None
    starts: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Seconds until /healthz answers."""
        command = [sys.executable, "-m", "flowpaint", "serve", "--port", str(self.port), "--data", str(self.data)]
        log = (self.data.parent / "server.log").open("ab")
        begun = time.monotonic()
        self.process = subprocess.Popen([*command, "--workers", str(self.workers)], stderr=log)
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.url}/healthz", timeout=1).ok:
                    break
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended with {self.process.returncode}; see {log.name}")
            time.sleep(0.02)
        self.starts.append(time.monotonic() - begun)
        return self.starts[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)

    def worker_pids(self) -> list[int]:
        found = []
        for path in self.data.glob("worker-*.pid"):
            with contextlib.suppress(ValueError, OSError):
                found.append(int(path.read_text()))
        return [pid for pid in found if Path(f"/proc/{pid}").exists()]


def resident(pid: int) -> int:
    """Bytes of memory that a process holds, 0 where it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


# ------------------------------------------------------------------------------------------------------------- clients


@dataclass
class Client:
    """Somebody who uploads a film, breaks some uploads, and asks for jobs; asks again where no answer comes."""

    server: Server
    number: int
    jobs: int
    film: Path
    accepted: dict[str, str] = field(default_factory=dict)  # what was asked for, and the job that was answered
    refused: list[int] = field(default_factory=list)  # status of broken uploads
    full: int = 0  # answers that the disk is full
    lost: int = 0  # requests without an answer
    errors: list[str] = field(default_factory=list)  # answers that should not have been

    def run(self) -> None:
        luck = random.Random(self.number)
        asset = self._asset(self.film.read_bytes(), "film.mp4")
        for index in range(self.jobs):
            if luck.random() < 0.15:
                self._break(luck)
            wish = {"input": asset, "prompt": luck.choice(PROMPTS), "name": f"c{self.number}-{index}.mp4"}
            wish |= {"priority": luck.choice((0, 0, 0, 5))}
            key = f"{self.number}-{index}"
            answer = self._ask("POST", "/v1/jobs", json=wish, headers={"Idempotency-Key": key})
            self.accepted[key] = answer.json()["id"]
            time.sleep(luck.uniform(0, 12))  # so that bad luck meets requests, too

    def _asset(self, content: bytes, name: str) -> str:
        return self._ask("POST", "/v1/assets", files={"file": (name, content)}).json()["id"]

    def _ask(self, verb: str, path: str, **more: object) -> requests.Response:
        """The answer, asked for until there is one: servers die, disks fill and limits pass."""
        while True:
            try:
                answer = requests.request(verb, self.server.url + path, timeout=60, **more)
            except requests.RequestException:
                self.lost += 1
                time.sleep(0.5)
                continue
            if answer.status_code in (507, 503, 429):
                self.full += answer.status_code == 507
                time.sleep(1.0)
                continue
            if not answer.ok:
                self.errors.append(f"{verb} {path}: {answer.status_code} {answer.text}")
                raise SystemExit
            return answer

    def _break(self, luck: random.Random) -> None:
        """An upload that is cut off, no film at all, or a connection dropped in the middle."""
        whole = self.film.read_bytes()
        kind = luck.randrange(3)
        if kind < 2:
            content = whole[: len(whole) // 2] if kind == 0 else luck.randbytes(5000)
            with contextlib.suppress(requests.RequestException):
                self.refused.append(
                    requests.post(f"{self.server.url}/v1/assets", files={"file": ("x.mp4", content)}, timeout=60).status_code
                )
            return
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.server.port), 5) as wire:
            head = "POST /v1/assets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            wire.sendall(f"{head}Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; name=file".encode())


# -------------------------------------------------------------------------------------------------------------- bad luck


@dataclass
class Luck:
    """Kills workers and the server at random, and fills the disk once."""

    server: Server
    disk: Path | None
    ended: threading.Event = field(default_factory=threading.Event)
    workers_killed: int = 0
    servers_killed: int = 0
    full_seconds: float = 0.0

    def run(self) -> None:
        luck = random.Random(1)
        begun = time.monotonic()
        next_server, fill_at = begun + 20, begun + 30
        while not self.ended.wait(luck.uniform(4, 9)):
            for pid in luck.sample(pids := self.server.worker_pids(), min(1, len(pids))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.workers_killed += 1
            if time.monotonic() > next_server:
                self.server.kill()
                self.servers_killed += 1
                time.sleep(luck.uniform(0.2, 2))
                self.server.start()
                next_server = time.monotonic() + luck.uniform(20, 40)
            if self.disk is not None and fill_at is not None and time.monotonic() > fill_at:
                self._fill(12.0)
                fill_at = None

    def _fill(self, seconds: float) -> None:
        filler = self.disk / "filler"
        begun = time.monotonic()
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        time.sleep(seconds)
        filler.unlink()
        self.full_seconds = time.monotonic() - begun


@dataclass
class Watch:
    """Asks for the list of jobs four times a second, and looks at the memory of all processes."""

    server: Server
    ended: threading.Event = field(default_factory=threading.Event)
    answers: list[float] = field(default_factory=list)
    memory: list[tuple[float, int, int]] = field(default_factory=list)  # seconds, server, largest worker

    def run(self) -> None:
        begun = time.monotonic()
        while not self.ended.wait(0.25):
            asked = time.perf_counter()
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.server.url}/v1/jobs", params={"limit": 20}, timeout=30).ok:
                    self.answers.append(time.perf_counter() - asked)
            workers = [resident(pid) for pid in self.server.worker_pids()]
            self.memory.append((time.monotonic() - begun, resident(self.server.process.pid), max(workers, default=0)))


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


# ------------------------------------------------------------------------------------------------------------------ load


def load(given: argparse.Namespace) -> dict[str, object]:
    place = Path(tempfile.mkdtemp(dir=given.disk))
    films = []
    for number in range(given.clients):
        clip = scenes.clip(scenes.sample_scene(number), FRAMES, (HEIGHT, WIDTH))
        films.append(Path(tempfile.mkdtemp()) / "film.mp4")
        video.write(clip, films[-1])
    server = Server(place / "data", given.workers)
    server.data.mkdir()
    server.start()
    begun = time.monotonic()
    share = given.jobs // given.clients
    clients = [Client(server, number, share, film) for number, film in enumerate(films)]
    luck, watch = Luck(server, given.disk), Watch(server)
    threads = [threading.Thread(target=one.run) for one in clients]
    beside = [threading.Thread(target=watch.run)] + ([] if given.calm else [threading.Thread(target=luck.run)])
    for thread in [*threads, *beside]:
        thread.start()
    for thread in threads:
        thread.join()
    asked = time.monotonic() - begun
    while (left := unfinished(server)) and time.monotonic() - begun < given.minutes * 60:
        print(f"{time.monotonic() - begun:5.0f} s, {left} jobs left", file=sys.stderr)
        time.sleep(5)
    seconds = time.monotonic() - begun
    luck.ended.set()
    watch.ended.set()
    for thread in beside:
        thread.join()
    found = judged(server, clients, films)
    found |= {
        "seconds": round(seconds, 1),
        "asking_seconds": round(asked, 1),
        "workers_killed": luck.workers_killed,
        "servers_killed": luck.servers_killed,
        "disk_full_seconds": round(luck.full_seconds, 1),
        "errors": [error for one in clients for error in one.errors],
        "requests_without_answer": sum(one.lost for one in clients),
        "answers_disk_full": sum(one.full for one in clients),
        "broken_uploads": dict(Counter(str(status) for one in clients for status in one.refused)),
        "start_seconds": [round(one, 2) for one in server.starts],
        "list_ms": {f"p{share}": round(1000 * percentile(watch.answers, share / 100), 1) for share in (50, 95, 99)},
        "list_asked": len(watch.answers),
        "memory_mib": flatness(watch.memory),
    }
    server.stop()
    return found


def flatness(rows: list[tuple[float, int, int]]) -> dict[str, list[int]]:
    """The median memory of server and largest worker in each fifth of the time, MiB."""
    parts = np.array_split(np.array([row[1:] for row in rows if row[1]], float) / 2**20, 5)
    return {
        name: [round(float(np.median(part[:, column]))) for part in parts] for column, name in enumerate(("server", "worker"))
    }


def unfinished(server: Server) -> int:
    states = ("queued", "running", "waiting")
    with contextlib.suppress(requests.RequestException):
        answers = [requests.get(f"{server.url}/v1/jobs", params={"state": one, "limit": 500}, timeout=30) for one in states]
        if all(one.ok for one in answers):
            return sum(len(one.json()["jobs"]) for one in answers)
    return -1


def judged(server: Server, clients: list[Client], films: list[Path]) -> dict[str, object]:
    """What became of the jobs: by the server's list, and by the files."""
    jobs = {one["id"]: one for one in requests.get(f"{server.url}/v1/jobs", params={"limit": 500}, timeout=60).json()["jobs"]}
    asked = [key for one in clients for key in one.accepted.values()]
    done = [jobs[key] for key in asked if jobs.get(key, {}).get("state") == "done"]
    failed = [jobs[key] for key in asked if jobs.get(key, {}).get("state") == "failed"]
    twice, wrong, differing = 0, 0, 0
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // server.workers))  # as workers have; bits hang on it
    alone: dict[tuple[int, str], np.ndarray] = {}
    for one in done:
        twice += ends(requests.get(f"{server.url}/v1/jobs/{one['id']}/events", timeout=60).text) != 1
        href = next(a["href"] for a in one["artifacts"] if a["name"] == "video")
        path = Path(tempfile.mkdtemp()) / "got.mp4"
        path.write_bytes(requests.get(server.url + href, timeout=60).content)
        got = frames(path)
        number = int(one["name"].split("-")[0][1:])
        key = (number, one["prompt"])
        if key not in alone:
            out = path.with_name("alone.mp4")
            api.edit(films[number], one["prompt"]).save(out)
            alone[key] = frames(out)
        wrong += len(got) != FRAMES
        differing += not np.array_equal(got, alone[key])
    return {
        "jobs": len(asked),
        "unknown_to_the_server": sum(key not in jobs for key in asked),
        "jobs_nobody_asked_for": len(set(jobs) - set(asked)),
        "done": len(done),
        "failed_with_reason": sum(bool(one["error"] and one["error"]["message"]) for one in failed),
        "reasons": sorted({one["error"]["message"] for one in failed}),
        "neither": len(asked) - len(done) - len(failed),
        "done_twice": twice,
        "wrong_length": wrong,
        "not_as_undisturbed": differing,
        "attempts": {str(n): [one["attempt"] for one in done].count(n) for n in sorted({one["attempt"] for one in done})},
    }


def ends(stream: str) -> int:
    """How often a stream of events says that the job is done."""
    blocks = [dict(line.split(": ", 1) for line in block.splitlines() if ": " in line[1:]) for block in stream.split("\n\n")]
    return sum(one.get("event") == "state" and json.loads(one["data"])["state"] == "done" for one in blocks)


def frames(path: Path) -> np.ndarray:
    clip = video.read(path)
    return np.stack([clip.raw(index) for index in range(len(clip))])


# ----------------------------------------------------------------------------------------------------------------- start


def start(given: argparse.Namespace) -> dict[str, object]:
    """Seconds from the command to the first answer, and to a page in Chromium that can be used."""
    from playwright.sync_api import sync_playwright

    found = next(path for name in ("chromium", "google-chrome") if (path := shutil.which(name)))
    healthy, usable = [], []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(given.times):
            server = Server(Path(tempfile.mkdtemp()) / "data", 1)
            server.data.mkdir()
            begun = time.monotonic()
            healthy.append(round(server.start(), 2))
            page = browser.new_page()
            page.goto(server.url)
            page.wait_for_selector("#fp-run", timeout=60_000)
            usable.append(round(time.monotonic() - begun, 2))
            page.close()
            server.stop()
        browser.close()
    return {"healthz_s": healthy, "page_s": usable}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    crowd = commands.add_parser("load")
    crowd.add_argument("--jobs", type=int, default=200)
    crowd.add_argument("--clients", type=int, default=8)
    crowd.add_argument("--workers", type=int, default=2)
    crowd.add_argument("--minutes", type=float, default=15)
    crowd.add_argument("--calm", action="store_true", help="nothing is killed or full")
    crowd.add_argument("--disk", type=Path, help="a small file system for the data, filled up for a while")
    begin = commands.add_parser("start")
    begin.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    found = load(given) if given.command == "load" else start(given)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
