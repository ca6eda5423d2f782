"""Trainers at tiny sizes, as fixtures: pictures of 64 pixels, latents of 8 x 8, some ten thousand numbers, a few steps."""

from pathlib import Path

import pytest

from flowpaint import seams
from flowpaint.parts.execute import LocalExecutor
from flowpaint.training.clips import synth_clips
from flowpaint.training.hinted import HintMaker, encode_clips
from flowpaint.training.latents import encode_pictures
from flowpaint.training.loop import Training
from flowpaint.training.records import Records
from flowpaint.training.synth import synth_pictures

HOW = {"steps": 4, "batch": 3, "warmup": 1, "save_every": 2, "log_every": 1, "show_every": 4}
LOOKS = ("sepia", "night", "neon")

AUTOENCODER = {"part": "autoencoder", "widths": [16, 20, 24, 32], "channels": 4, "size": 32}
IMAGE = {
    "part": "image", "widths": [16, 32], "head": 8, "groups": 8, "text_width": 16, "text_layers": 1, "crop": 4,
    "looks": list(LOOKS), "late": 0.5, "quiet": 0.5,
}  # fmt: skip
CONTROL = {"part": "control", "embedding": [4, 4, 8, 8], "crop": 4, "looks": list(LOOKS), "quiet": 0.5}

FLOWVID = {"part": "flowvid", "frames": 3, "crop": 4, "embedding": [4, 4, 8, 8], "looks": list(LOOKS), "late": 0.5}


def quiet(*_):
    pass


def started(recipe, data, run, **how):
    """A training of the trainer that `recipe` describes."""
    trainer = seams.from_dict({"kind": "trainer", "optimisation": {"part": "adamw", **HOW, **how}, **recipe})
    return Training(trainer(data), trainer.optimisation, data=data, records=Records(run, seams.to_dict(trainer)))


def exported(training):
    """The folder with the weights of a training that is run to its end."""
    folder = training.records.folder / "export"
    training.task.export(training.run(quiet, quiet), folder)
    return folder


@pytest.fixture(scope="session")
def tiny_pictures(tmp_path_factory) -> Path:
    """Shards of pictures of 64 pixels, in three looks."""
    folder = tmp_path_factory.mktemp("pictures") / "shards"
    synth_pictures(folder, photos=None, count=4, looks=LOOKS, size=64, progress=quiet)
    return folder


@pytest.fixture(scope="session")
def tiny_autoencoder(tiny_pictures, tmp_path_factory) -> str:
    """A folder with an autoencoder that was trained for four steps."""
    return str(exported(started(AUTOENCODER, tiny_pictures, tmp_path_factory.mktemp("vae"))))


@pytest.fixture(scope="session")
def tiny_latents(tiny_pictures, tiny_autoencoder, tmp_path_factory) -> Path:
    """The pictures as latents."""
    folder = tmp_path_factory.mktemp("latents") / "shards"
    encode_pictures(tiny_pictures, folder, base=tiny_autoencoder, progress=quiet)
    return folder


@pytest.fixture(scope="session")
def tiny_family(tiny_latents, tiny_autoencoder, tmp_path_factory) -> str:
    """A folder with a whole model that was trained for four steps."""
    return str(exported(started({**IMAGE, "base": tiny_autoencoder}, tiny_latents, tmp_path_factory.mktemp("image"))))


@pytest.fixture(scope="session")
def tiny_clips(tmp_path_factory) -> Path:
    """Shards of two clips of three frames of 64 pixels, with exact flow."""
    folder = tmp_path_factory.mktemp("clips") / "shards"
    synth_clips(folder, count=2, length=3, size=64, seed=1, progress=quiet)
    return folder


@pytest.fixture(scope="session")
def tiny_hints(tiny_clips, tiny_family, tmp_path_factory) -> Path:
    """The clips as latents with their hints, two copies of each."""
    folder = tmp_path_factory.mktemp("hints") / "shards"
    maker = HintMaker(copies=2, looks=("sepia", "night"), base=tiny_family)
    encode_clips([tiny_clips], folder, maker=maker, executor=LocalExecutor(), progress=quiet)
    return folder
