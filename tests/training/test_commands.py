"""The commands: from nothing to a network, an estimate first, on after a kill, and messages for what does not fit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from conftest import ROOT
from flowpaint import api
from flowpaint.api import toml
from flowpaint.errors import InputError
from tiny_training import AUTOENCODER

HOW = {"part": "adamw", "steps": 6, "batch": 2, "warmup": 1, "save_every": 2, "log_every": 1, "show_every": 6}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(toml.dumps({**AUTOENCODER, "optimisation": HOW}))
    return path


@pytest.mark.slow
def test_data_is_made_and_a_network_trained(call, tmp_path, recipe):
    made = call(
        "data", "synth", "--pictures", "2", "--each", "1", "--clips", "1", "--size", "32", "-o", tmp_path / "shards", "--json"
    )
    assert json.loads(made[1])["samples"] == {"pictures": 4, "clips": 1}
    run = ["train", "autoencoder", recipe, "--data", tmp_path / "shards" / "pictures", "--run", tmp_path / "run"]
    estimate = call(*run, "--dry-run")
    assert "6 of 6 steps to go" in estimate[2] and "million parameters" in estimate[2]
    assert not (tmp_path / "run" / "checkpoint.pt").exists()
    done = call(*run, "--set", "optimisation.steps=2")
    assert done[1].strip() == str(tmp_path / "run" / "export")
    assert (tmp_path / "run" / "export" / "vae" / "config.json").exists()
    latents = call(
        "data", "prepare", tmp_path / "shards" / "pictures", "--model", tmp_path / "run" / "export", "-o", tmp_path / "z"
    )
    assert latents[0] == 0 and "4 samples" in latents[1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "image", "RECIPE", "--data", ".", "--run", "run"], 2, "Use `flowpaint train autoencoder`"),
        (["train", "autoencoder", "RECIPE", "--data", "nowhere", "--run", "run"], 4, "holds no shards"),
        (["train", "autoencoder", "none.toml", "--data", ".", "--run", "run"], 4, "cannot be read"),
        (["train", "autoencoder", "RECIPE", "--data", ".", "--run", "run", "--set", "widht=3"], 2, "Nearest: 'widths'"),
        (["train", "autoencoder", "RECIPE", "--data", ".", "--run", "run", "--set", "size"], 2, "Write it as field=value"),
        (["data", "prepare", "nothing.mp4", "-o", "out"], 4, "nothing.mp4"),
    ],
)
def test_what_does_not_fit_is_told(call, recipe, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    found, _, error = call(*(str(recipe) if word == "RECIPE" else word for word in words))
    assert (found, message in error) == (code, True)


def test_every_shipped_recipe_reads():
    recipes = sorted((ROOT / "recipes").glob("*.toml"))
    kinds = {"mini-autoencoder": "autoencoder", "mini-control": "control", "mini-refiner": "refiner"}
    kinds |= {one.stem: "flowvid" for one in recipes if "flowvid" in one.stem}
    assert len(recipes) == 9 and list(kinds.values()).count("flowvid") == 3
    for path in recipes:
        found = api.training.trainer(kinds.get(path.stem, "image"), path)
        assert found.optimisation.steps >= 500


@pytest.mark.slow
def test_clips_are_made_and_flowvid_is_trained_on_mini(call, tmp_path):
    from flowpaint.networks.difference import read_changed
    from flowpaint.weights import MODEL, model_folder

    mini = model_folder("mini", MODEL, setting="model.weights")
    made = call("data", "synth", "--pictures", "0", "--clips", "1", "--length", "8", "--size", "128", "-o", tmp_path / "shards")
    assert made[0] == 0 and "clips: 1 samples" in made[1]
    hints = call(
        "data", "prepare", tmp_path / "shards" / "clips", "--model", mini, "--set", "copies=2", "--set", "styled=0",
        "--device", "cpu", "-o", tmp_path / "hints",
    )  # fmt: skip
    assert hints[0] == 0 and "2 samples" in hints[1]
    run = [
        "train", "flowvid", ROOT / "recipes" / "mini-flowvid.toml", "--data", tmp_path / "hints", "--run", tmp_path / "run",
        "--set", f"base={mini}", "--set", "crop=8", "--set", "optimisation.steps=2", "--device", "cpu",
    ]  # fmt: skip
    done = call(*run)
    folder = tmp_path / "run" / "export"
    assert done[0] == 0 and done[1].strip() == str(folder)
    assert sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) < 30e6
    unet, control = (read_changed(part, folder, mini) for part in ("unet", "controlnet"))
    assert unet.config.in_channels == control.config.in_channels == 3 * 16 + 1


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, recipe, tiny_pictures):
    longer = ["--set", "optimisation.steps=12"]

    def words(name):
        return [
            sys.executable, "-m", "flowpaint", "train", "autoencoder", str(recipe), "--data", str(tiny_pictures),
            "--run", str(tmp_path / name), "--device", "cpu", *longer,
        ]  # fmt: skip

    subprocess.run(words("whole"), check=True, capture_output=True)
    process = subprocess.Popen(words("run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run" / "export").exists()
    subprocess.run(words("run"), check=True, capture_output=True)
    file = "export/vae/diffusion_pytorch_model.safetensors"
    expected, found = load_file(tmp_path / "whole" / file), load_file(tmp_path / "run" / file)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
def test_two_processes_share_one_run(tmp_path, recipe, tiny_pictures):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable, "-m", "torch.distributed.run", "--master-port", str(port), "--nproc_per_node", "2", "--no-python", "--",
        sys.executable, "-m", "flowpaint", "train", "autoencoder", str(recipe), "--data", str(tiny_pictures),
        "--run", str(tmp_path / "run"), "--device", "cpu",
    ]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    places = [16 * one["epoch"] + one["place"] for one in state["positions"]]  # 16 samples make an epoch
    assert state["step"] == 6 and len(places) == 2 and abs(places[0] - places[1]) == 1
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 6
    with pytest.raises(InputError, match="was begun by 2 processes"):
        api.train("autoencoder", recipe, data=tiny_pictures, run=tmp_path / "run", device="cpu")
