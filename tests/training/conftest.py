"""Tiny data and tiny models to train: pictures of 64 pixels, latents of 8 x 8."""

from pathlib import Path

import pytest

from flowpaint.training.latents import encode_pictures
from flowpaint.training.synth import synth_pictures
from tiny_training import AUTOENCODER, IMAGE, LOOKS, exported, quiet, started


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Shards of pictures of 64 pixels, in three looks."""
    folder = tmp_path_factory.mktemp("pictures") / "shards"
    synth_pictures(folder, photos=None, count=4, looks=LOOKS, size=64, progress=quiet)
    return folder


@pytest.fixture(scope="session")
def autoencoder(pictures, tmp_path_factory) -> str:
    """A folder with an autoencoder that was trained for four steps."""
    return str(exported(started(AUTOENCODER, pictures, tmp_path_factory.mktemp("vae"))))


@pytest.fixture(scope="session")
def latents(pictures, autoencoder, tmp_path_factory) -> Path:
    """The pictures as latents."""
    folder = tmp_path_factory.mktemp("latents") / "shards"
    encode_pictures(pictures, folder, base=autoencoder, progress=quiet)
    return folder


@pytest.fixture(scope="session")
def model(latents, autoencoder, tmp_path_factory) -> str:
    """A folder with a whole model that was trained for four steps."""
    return str(exported(started({**IMAGE, "base": autoencoder}, latents, tmp_path_factory.mktemp("image"))))
