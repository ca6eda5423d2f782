"""Synthetic clips whose motion is known exactly, and the rules every test runs under: few threads, no network.

`moving_square`, `textured_pan`: `Moving` (`.clip`, `.flow(a, b)`, `.mask(index)`). `cut`: `Cut` (`.clip`, `.frame`).
`still`: `Clip`. `textured`: a periodic picture, so that `textured.roll` is an exact shift. `shared`: a `Path`, or a skip.
`call`: one command of the command line; `negative`: a method that inverts colours.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read once, when torch starts its threads

import ipaddress
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from flowpaint import seams
from flowpaint.cli import main
from flowpaint.types import Clip, Flow

# One thread each where tests run in several processes (pytest-xdist), so that these do not wait for one another.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)

pytest_plugins = ("tiny_training", "unclosed")

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Moving:
    """A clip with its truth for any two of its frames."""

    clip: Clip
    flow: Callable[[int, int], Flow]  # (a, b): vectors [1, 2, H, W] in pixels and visibility [1, 1, H, W], a to b
    mask: Callable[[int], Tensor]  # of the moving thing: [1, 1, H, W], 1 inside


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A clip of two shots."""

    clip: Clip
    frame: int  # the first frame of the second shot


def smooth_texture(height: int, width: int, seed: int, waves: int = 3) -> Tensor:
    """A smooth random picture [3, H, W] in [0.1, 0.9], periodic in both directions: no wave is shorter than 1/`waves`."""
    rng = np.random.default_rng([20, seed])
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((3, height, width))
    for v in range(-waves, waves + 1):
        for u in range(waves + 1):
            phase = 2 * np.pi * (rng.random(3)[:, None, None] + u * x / width + v * y / height)
            picture += rng.normal(size=3)[:, None, None] * np.cos(phase)
    low, high = picture.min(axis=(1, 2), keepdims=True), picture.max(axis=(1, 2), keepdims=True)
    return torch.from_numpy(0.1 + 0.8 * (picture - low) / (high - low)).float()


def shifts(height: int, width: int, dx: float, dy: float) -> tuple[Tensor, Tensor]:
    """The vectors [1, 2, H, W] of one shift, and 1 where it ends inside the frame [1, 1, H, W]."""
    y, x = torch.meshgrid(torch.arange(height) + dy, torch.arange(width) + dx, indexing="ij")
    ends_inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return torch.tensor([dx, dy]).float()[None, :, None, None].repeat(1, 1, height, width), ends_inside[None, None].float()


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuses every connection that leaves this machine, as an unplugged cable would."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(family: int, address: object) -> None:
        if family == socket.AF_UNIX:
            return
        host = str(address[0]) if isinstance(address, tuple) else str(address)
        if host != "localhost" and not _is_loopback(host):
            raise ConnectionRefusedError(f"A test tried to reach {address}. Tests work without a network.")

    def guarded_connect(self: socket.socket, address: object) -> None:
        check(self.family, address)
        connect(self, address)  # type: ignore[arg-type]

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        check(self.family, address)
        return connect_ex(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_servers() -> Iterator[None]:
    """Closes the servers that a file of tests made in this process (`rest_parts.client`)."""
    yield
    if (parts := sys.modules.get("rest_parts")) is not None:
        parts.close_all()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of large shared files, skipped where it is absent."""
    folder = Path(os.environ.get("FLOWPAINT_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared files at {folder} (set FLOWPAINT_SHARED)")
    return folder


@pytest.fixture
def textured() -> Tensor:
    """A smooth random picture [1, 3, 64, 64], periodic."""
    return smooth_texture(64, 64, seed=1, waves=7)[None]


@pytest.fixture
def moving_square() -> Moving:
    """12 frames of 72x96: a textured square of 20 px moves (3, 1) px a frame over a textured ground at rest."""
    height, width, side, (dx, dy) = 72, 96, 20, (3, 1)
    ground, square = smooth_texture(height, width, seed=2, waves=8), smooth_texture(side, side, seed=3, waves=2).flip(0)

    def mask(index: int) -> Tensor:
        x, y = 12 + dx * index, 16 + dy * index
        inside = torch.zeros(1, 1, height, width)
        inside[..., y : y + side, x : x + side] = 1
        return inside

    def frame(index: int) -> Tensor:
        picture, inside = ground.clone(), mask(index)[0, 0].bool()
        picture[:, inside] = square.flatten(1)
        return picture

    def flow(a: int, b: int) -> Flow:
        moves = mask(a)  # the square never leaves the frame and nothing hides it; the ground is seen where no square covers it
        vectors = torch.tensor([dx * (b - a), dy * (b - a)]).float()[None, :, None, None] * moves
        return Flow(vectors=vectors, visibility=torch.maximum(moves, 1 - mask(b)))

    return Moving(clip=Clip.from_array(torch.stack([frame(i) for i in range(12)])), flow=flow, mask=mask)


@pytest.fixture
def textured_pan() -> Moving:
    """10 frames of 64x96: the content of the whole frame moves (-2, 1) px a frame."""
    height, width, num_frames, (dx, dy) = 64, 96, 10, (-2, 1)
    wide = smooth_texture(height + 32, width + 32, seed=4, waves=10)

    def frame(index: int) -> Tensor:
        top, left = 16 - dy * index, 2 - dx * index
        return wide[:, top : top + height, left : left + width]

    def flow(a: int, b: int) -> Flow:
        vectors, ends_inside = shifts(height, width, dx * (b - a), dy * (b - a))
        return Flow(vectors=vectors, visibility=ends_inside)

    clip = Clip.from_array(torch.stack([frame(i) for i in range(num_frames)]))
    return Moving(clip=clip, flow=flow, mask=lambda index: torch.ones(1, 1, height, width))


@pytest.fixture
def still() -> Clip:
    """8 equal frames of 64x80."""
    return Clip.from_array(smooth_texture(64, 80, seed=5, waves=6)[None].repeat(8, 1, 1, 1))


@pytest.fixture
def cut() -> Cut:
    """12 frames of 64x80, a slow pan, then another slow pan from frame 7 on."""
    first, second = (smooth_texture(64, 96, seed=seed, waves=8) for seed in (6, 7))
    second = 0.5 * second.flip(0)  # darker and in other colours, as another shot would be
    frames = [(first if index < 7 else second)[:, :, index : index + 80] for index in range(12)]
    return Cut(clip=Clip.from_array(torch.stack(frames)), frame=7)


# -------------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def negative(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A method called `negative` (of test_api.py), and plain wide output."""
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "negative": "test_api:Negative"})
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    yield
    if (module := sys.modules.get("test_api")) is not None:
        module.Negative.calls.clear()  # clips in it hold their files open


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs one command through `main`: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(one) for one in arguments])
        said = capsys.readouterr()
        return int(left.value.code or 0), said.out, said.err

    return run
