"""Feature extractors: they load through the same code as the published files, and see what was published."""

import os
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from flowpaint import seams
from flowpaint.errors import ConfigError, InputError, ShapeError, WeightsError
from flowpaint.networks.vgg import AlexNet, Vgg16
from flowpaint.parts.features import (
    AlexFeatures,
    C3dFeatures,
    ClipFeatures,
    I3dFeatures,
    InceptionFeatures,
    VggFeatures,
)
from flowpaint.parts.features.fitting import squeezed
from flowpaint.weights import Policy, keeping
from tiny_networks import SIDE, Echo, Means, save_clip, save_script, save_stack


@pytest.fixture(autouse=True)
def pickles():
    """PyTorch's files are what these networks are published as."""
    with keeping(Policy(allow_pickle=True)):
        yield


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def clip(folder):
    return ClipFeatures(weights=str(save_clip(folder / "clip")))


@pytest.fixture(scope="module")
def vgg_file(folder):
    return save_stack(Vgg16, folder / "vgg.pth")


# -------------------------------------------------------------------------------------------------------------------- clip


def test_clip_sees_what_transformers_sees_with_its_own_preparation(clip):
    from transformers import CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    raw = (noise(3, 70, 90) * 255).round().byte()
    prepare = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    given = prepare(Image.fromarray(raw.permute(1, 2, 0).numpy()), return_tensors="pt")
    with torch.inference_mode():
        truth = CLIPModel.from_pretrained(clip.weights).get_image_features(**given)
    found = clip(raw[None].float() / 255)
    truth = getattr(truth, "pooler_output", truth)
    assert torch.cosine_similarity(found, truth).item() > 0.9999
    assert (found - truth).abs().max() < 0.02 * truth.abs().max()  # Pillow rounds to 256 levels


def test_clip_reads_what_transformers_reads(clip):
    from transformers import CLIPModel, CLIPTokenizer

    prompts = ["red cat", "a very much longer one"]
    with torch.inference_mode():
        given = CLIPTokenizer.from_pretrained(clip.weights)(
            prompts, padding=True, return_tensors="pt", truncation=True, max_length=24
        )
        truth = CLIPModel.from_pretrained(clip.weights).get_text_features(**given)
    truth = getattr(truth, "pooler_output", truth)
    assert torch.allclose(clip.text(prompts), truth, atol=1e-5)
    assert not torch.allclose(truth[0], truth[1], atol=0.05)


def test_clip_says_how_much_it_does_not_read(clip):
    assert clip.unread("red " * 22) == 0 and clip.unread("red " * 25) == 3  # 24, two of them for the start and the end
    assert torch.allclose(clip.text(["red " * 22 + "cat"]), clip.text(["red " * 22]), atol=1e-6)


def test_clip_looks_at_the_middle_square(clip):
    wide = noise(1, 3, SIDE, 2 * SIDE)
    assert torch.equal(clip.fit(wide), wide[..., SIDE // 2 : SIDE // 2 + SIDE])
    tall = wide.mT
    assert torch.equal(clip.fit(tall), tall[:, :, SIDE // 2 : SIDE // 2 + SIDE])
    assert clip.fit(noise(1, 3, 50, 47)).shape[-2:] == (SIDE, SIDE)


def test_clip_without_all_its_tensors_is_refused(folder, clip):
    from safetensors.torch import load_file

    broken = save_clip(folder / "broken")
    state = load_file(broken / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 tensors.*visual_projection"):
        ClipFeatures(weights=str(broken))(noise(1, 3, 40, 40))


def test_clip_without_a_tokenizer_still_sees(folder):
    mute = save_clip(folder / "mute")
    (mute / "vocab.json").unlink()
    (mute / "merges.txt").unlink()
    extractor = ClipFeatures(weights=str(mute))
    assert extractor(noise(1, 3, 40, 40)).shape == (1, 12)
    with pytest.raises(WeightsError, match="tokenizer"):
        extractor.text(["red"])


@pytest.mark.parametrize("size", [(64, 64), (40, 100), (17, 31)])
def test_resizing_is_pillows(size):
    raw = (noise(3, 70, 90, seed=3) * 127 + 64).round().byte()  # Pillow clips between its two passes: leave it room
    for how, flag in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        truth = np.asarray(Image.fromarray(raw.permute(1, 2, 0).numpy()).resize(size[::-1], flag), np.float32) / 255
        found = squeezed(raw[None].float() / 255, *size, how)[0].permute(1, 2, 0).numpy()
        assert np.abs(found - truth).max() < 1.6 / 255 and np.abs(found - truth).mean() < 0.5 / 255


# -------------------------------------------------------------------------------------------------------------------- maps


def test_vgg_is_the_sequence_of_its_paper(vgg_file):
    state = torch.load(vgg_file, weights_only=True)
    picture = noise(2, 3, 32, 48)
    found = VggFeatures(weights=str(vgg_file)).maps(picture, ["relu1_2", "relu3_1"])
    x = (picture - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    seen = []
    for place in (0, 2, "pool", 5, 7, "pool", 10):
        if place == "pool":
            x = torch.nn.functional.max_pool2d(x, 2)
            continue
        x = torch.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1).relu()
        seen.append(x)
    assert torch.allclose(found[0], seen[1], atol=1e-5) and torch.allclose(found[1], seen[-1], atol=1e-5)
    assert [tuple(one.shape[1:]) for one in found] == [(64, 32, 48), (256, 8, 12)]


def test_the_keys_and_sizes_are_torchvisions():
    vgg, alex = Vgg16().state_dict(), AlexNet().state_dict()
    places = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert set(vgg) == {f"features.{place}.{what}" for place in places for what in ("weight", "bias")}
    assert sum(value.numel() for value in vgg.values()) == 14_714_688  # torchvision's vgg16().features
    assert set(alex) == {f"features.{place}.{what}" for place in (0, 3, 6, 8, 10) for what in ("weight", "bias")}
    assert sum(value.numel() for value in alex.values()) == 2_469_696


@pytest.mark.parametrize("kind, part", [(Vgg16, VggFeatures), (AlexNet, AlexFeatures)])
def test_the_least_size_is_the_least(folder, kind, part):
    file = save_stack(kind, folder / f"{kind.__name__}.pth")
    extractor = part(weights=str(file))
    maps = extractor.maps(noise(1, 3, kind.least, kind.least), extractor.perceptual)
    assert len(maps) == 5 and maps[-1].shape[-1] >= 1
    with pytest.raises(InputError, match="too small"):
        extractor.maps(noise(1, 3, kind.least - 1, 64), extractor.perceptual)
    with pytest.raises((RuntimeError, IndexError)):
        kind()(noise(1, 3, kind.least - 1, kind.least - 1), kind.perceptual)


def test_maps_are_over_the_picture_and_calling_is_their_mean(vgg_file):
    extractor = VggFeatures(weights=str(vgg_file), layer="relu2_1")
    pictures = noise(2, 3, 32, 32)
    assert torch.allclose(extractor(pictures), extractor.maps(pictures, ["relu2_1"])[0].mean(dim=(2, 3)), atol=1e-6)
    assert VggFeatures(weights=str(vgg_file))(pictures).shape == (2, 512)


def test_safetensors_and_pth_are_alike(folder, vgg_file):
    state = torch.load(vgg_file, weights_only=True)
    save_file(state, folder / "vgg.safetensors")
    pictures = noise(1, 3, 32, 32)
    a, b = (VggFeatures(weights=str(file))(pictures) for file in (vgg_file, folder / "vgg.safetensors"))
    assert torch.equal(a, b)


def test_an_unknown_layer_gives_the_nearest(vgg_file):
    with pytest.raises(ConfigError, match="'relu3_1'"):
        VggFeatures(weights=str(vgg_file)).maps(noise(1, 3, 32, 32), ["relu3-1"])


def test_weights_that_do_not_fit_are_refused(folder, vgg_file):
    alex = save_stack(AlexNet, folder / "alex.pth")
    with pytest.raises(WeightsError, match="do not fit VGG-16"):
        VggFeatures(weights=str(alex))(noise(1, 3, 32, 32))
    for name, content in (("text.pth", b"no weights"), ("text.safetensors", b"no weights"), ("empty.pth", b"")):
        (folder / name).write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read"):
            VggFeatures(weights=str(folder / name))(noise(1, 3, 32, 32))
    torch.save([1, 2], folder / "list.pth")
    with pytest.raises(WeightsError, match="no state dict"):
        VggFeatures(weights=str(folder / "list.pth"))(noise(1, 3, 32, 32))


def test_the_published_file_is_taken_from_pytorchs_cache_and_checked(tmp_path, monkeypatch):
    import hashlib

    from flowpaint import weights

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    file = save_stack(AlexNet, tmp_path / "checkpoints" / "file.pth")
    name = f"alexnet-owt-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file.rename(file.with_name(name))
    monkeypatch.setattr(AlexFeatures, "_url", name)
    assert AlexFeatures()(noise(1, 3, 64, 64)).shape == (1, 256)
    wrong = tmp_path / "checkpoints" / "alexnet-owt-00000000.pth"
    wrong.write_bytes(b"another")
    with pytest.raises(WeightsError, match="do not have the hash 00000000"):
        weights.published("https://download.pytorch.org/models/alexnet-owt-00000000.pth", network="AlexNet", setting="a.b")


# ---------------------------------------------------------------------------------------------------------------- scripted


def test_inception_is_given_its_size_and_range(folder):
    echo = str(save_script(Echo(), folder / "echo.pt"))
    white = torch.ones(2, 3, 20, 30)
    rows = InceptionFeatures(weights=echo, width=0)(white)
    assert rows.shape == (2, 3 * 299 * 299) and rows.min() == rows.max() == 255
    assert InceptionFeatures(weights=echo, width=0, size=0, span="-1..1")(white * 0).unique().tolist() == [-1]
    assert torch.equal(InceptionFeatures(weights=echo, width=0, size=0, span="0..1")(white[:, :, :4, :4]), torch.ones(2, 48))


def test_clips_are_given_channels_first(folder):
    echo = str(save_script(Echo(), folder / "echo.pt"))
    clips = noise(2, 16, 3, 224, 224)[:, :, :, :8, :8]
    rows = I3dFeatures(weights=echo, width=0, size=8)(clips)
    assert torch.allclose(rows, (clips.transpose(1, 2) * 2 - 1).flatten(1))
    assert C3dFeatures(weights=echo, width=0)(torch.ones(1, 16, 3, 9, 9)).shape == (1, 3 * 16 * 112 * 112)
    assert I3dFeatures(weights=echo, width=0)(torch.ones(1, 10, 3, 9, 9)).shape == (1, 3 * 10 * 224 * 224)


@pytest.mark.parametrize("part, least", [(I3dFeatures, 10), (C3dFeatures, 16)])
def test_too_few_frames_are_refused(folder, part, least):
    extractor = part(weights=str(save_script(Echo(), folder / "echo.pt")), width=0, size=4)
    extractor(noise(1, least, 3, 8, 8))
    with pytest.raises(InputError, match=f"needs {least} frames"):
        extractor(noise(1, least - 1, 3, 8, 8))


def test_flags_reach_the_module_and_a_wrong_width_is_refused(folder):
    file = str(save_script(Means(width=9, squash=True), folder / "means.pt"))
    pictures = noise(2, 3, 8, 8)
    assert InceptionFeatures(weights=file, width=9)(pictures).sum(dim=1).tolist() == pytest.approx([1, 1])
    assert InceptionFeatures(weights=file, width=8, flags="return_features")(pictures).shape == (2, 8)
    with pytest.raises(WeightsError, match="2048 features each are expected"):
        InceptionFeatures(weights=file)(pictures)
    with pytest.raises(WeightsError, match="refuses"):
        InceptionFeatures(weights=file, width=9, flags="no_such_flag")(pictures)


def test_what_is_no_script_is_refused(folder, vgg_file):
    with pytest.raises(WeightsError, match="TorchScript"):
        InceptionFeatures(weights=str(vgg_file))(noise(1, 3, 8, 8))


def test_facts_name_the_file_and_its_hash(folder, clip, vgg_file):
    import hashlib

    script = save_script(Echo(), folder / "facts.pt")
    for extractor, file in (
        (clip, folder / "clip" / "model.safetensors"),
        (VggFeatures(weights=str(vgg_file)), vgg_file),
        (I3dFeatures(weights=str(script)), script),
    ):
        told = extractor.facts()
        assert told["weights"] == file.name and told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        assert told["network"] and str(folder) not in str(told)


# ----------------------------------------------------------------------------------------------------------------- missing


@pytest.mark.parametrize("name", sorted(set(seams.names("extractor")) - {"clip"}))
def test_a_file_that_is_not_there_is_told(name):
    with pytest.raises(WeightsError, match=r"There is no file /no/such\.pt.*--set") as caught:
        seams.build("extractor", name, weights="/no/such.pt").facts()
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", sorted(set(seams.names("extractor")) - {"clip"}))
def test_without_weights_it_is_told_what_to_give(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"--set [a-z-]+\.extractor\.weights=/path"):
        seams.build("extractor", name).facts()


def test_a_public_name_that_cannot_be_fetched_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("no-such-owner/no-such-network", "a name that is none", str(tmp_path)):
        with pytest.raises(WeightsError, match=r"--set clip\.extractor\.weights=/path"):
            ClipFeatures(weights=name).facts()


@pytest.mark.slow
def test_offline_it_does_not_ask(tmp_path):
    code = (
        "from flowpaint.parts.features import ClipFeatures\n"
        "from flowpaint.errors import WeightsError\n"
        "import socket\n"
        "def refuse(*_): raise SystemExit('asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "try: ClipFeatures().facts()\n"
        "except WeightsError as error: print(error)\n"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "openai/clip-vit-base-patch32" in done.stdout and "go online" in done.stdout


def test_a_fetched_network_is_used_without_asking(tmp_path, monkeypatch, folder, clip):
    cache = tmp_path / "models--owner--tiny"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    (cache / "snapshots").mkdir()
    (cache / "snapshots" / ("0" * 40)).symlink_to(folder / "clip", target_is_directory=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    ask = huggingface_hub.snapshot_download

    def refuse(name, *, local_files_only, **more):
        assert local_files_only, "it asked"
        return ask(name, local_files_only=True, **more)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    picture = noise(1, 3, 40, 40)
    assert torch.equal(ClipFeatures(weights="owner/tiny")(picture), clip(picture))


def test_what_is_not_here_is_fetched_and_no_more_than_it_takes(tmp_path, monkeypatch, folder):
    asked = []

    def serve(name, *, allow_patterns, local_files_only, revision):
        asked.append((allow_patterns[0], local_files_only))
        if local_files_only and not (tmp_path / "config.json").exists():
            raise FileNotFoundError(name)
        for file in (folder / "clip").iterdir():
            if file.name in allow_patterns and file.name != "model.safetensors":  # the repository has none
                (tmp_path / file.name).write_bytes(file.read_bytes())
        if "pytorch_model.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").write_bytes(b"0")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", serve)
    assert ClipFeatures(weights="owner/older").facts()["weights"] == "pytorch_model.bin"
    assert asked == [("model.safetensors", True), ("model.safetensors", False), ("pytorch_model.bin", False)]


@pytest.mark.slow
def test_nothing_heavy_is_imported_for_a_name():
    code = (
        "import sys; from flowpaint import seams; [seams.build('extractor', name) for name in seams.names('extractor')]; "
        "print(*[name for name in ('transformers', 'torchvision', 'huggingface_hub', 'torchmetrics') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_wrong_shapes_are_refused(clip, vgg_file, folder):
    echo = str(save_script(Echo(), folder / "echo.pt"))
    for extractor in (clip, VggFeatures(weights=str(vgg_file)), InceptionFeatures(weights=echo)):
        with pytest.raises(ShapeError):
            extractor(noise(3, 40, 40))
    with pytest.raises(ShapeError):
        I3dFeatures(weights=echo)(noise(2, 3, 40, 40))
    with pytest.raises(ConfigError, match="batch of 0"):
        ClipFeatures(batch=0)
