"""`LatentDiffusion` on tiny random networks of the real classes."""

import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from flowpaint.diffusion import text
from flowpaint.diffusion.denoising import Conditions, Denoiser, Networks
from flowpaint.diffusion.hooked import Hooks, State, attend, during, hooked
from flowpaint.diffusion.levels import Level
from flowpaint.diffusion.loading import release
from flowpaint.diffusion.memory import Pad, bring
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.errors import ConfigError, InputError, ResourceError, ShapeError, WeightsError
from flowpaint.types import Edit
from tiny_models import (
    save_controlnet,
    save_model,
    save_single_file,
    tiny_controlnet,
    tiny_unet,
    tiny_vae,
    with_ip_adapter,
)

EDIT = Edit(prompt="a bronze hat", negative="dull")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder of each family."""
    return {family: save_model(tmp_path_factory.mktemp(f"sd{family}"), family) for family in ("1", "2")}


@pytest.fixture(params=["1", "2"])
def model(request, folders):
    return LatentDiffusion(weights=str(folders[request.param]))


@pytest.fixture
def sd1(folders):
    return LatentDiffusion(weights=str(folders["1"]))


def pictures(count=3, height=64, width=96, seed=1):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def noisy(count=3, height=8, width=12, seed=2):
    return torch.randn(count, 4, height, width, generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------------------------------------------- verbs


def test_guidance_and_x0_are_the_formulas(model):
    x, t, text = noisy(), 651, model.embed(EDIT)
    family = "2" if model.schedule.prediction == "v" else "1"
    network = tiny_unet(family)
    with torch.no_grad():  # rows one by one: what the batch should hold, first all without the prompt
        uncond, cond = (torch.cat([network(one[None], t, row[None]).sample for one in x]) for row in text)
    guided = uncond + 7.5 * (cond - uncond)
    kept = DDIMScheduler.from_pretrained(model.weights, subfolder="scheduler").alphas_cumprod[t]
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    expected = alpha * x - sigma * guided if family == "2" else (x - sigma * guided) / alpha
    found = model.denoiser(text, guidance=7.5)(x, t)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=2e-4)
    assert not torch.allclose(found, model.denoiser(text, guidance=1.0)(x, t), atol=1e-2)


def test_x0_is_that_of_diffusers(model):
    x, text = noisy(), model.embed(EDIT)
    scheduler = DDIMScheduler.from_pretrained(model.weights, subfolder="scheduler")
    scheduler.set_timesteps(20)
    network = model.unet()
    with torch.no_grad():
        output = network(x, 451, text[1:].expand(3, -1, -1)).sample
    assert torch.allclose(
        model.denoiser(text, guidance=1.0)(x, 451), scheduler.step(output, 451, x).pred_original_sample, atol=1e-5
    )


def test_rows_without_the_prompt_come_first(sd1):
    text, seen = sd1.embed(EDIT), []
    denoise = sd1.denoiser(text)
    handle = denoise.unet.register_forward_pre_hook(lambda _module, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    denoise(noisy(), 100)
    handle.remove()
    (args, kwargs) = seen[0]
    assert torch.equal(args[0], noisy().repeat(2, 1, 1, 1))
    assert torch.equal(kwargs["encoder_hidden_states"], text.repeat_interleave(3, dim=0))


def test_words_of_each_frame(sd1):
    edits = [EDIT, Edit(prompt="snow"), Edit(prompt="a bronze hat", negative="dull")]
    text = sd1.embed(edits)
    assert text.shape == (2, 3, 16, 16)
    assert torch.equal(text[:, 0], sd1.embed(EDIT)) and torch.equal(text[:, 2], text[:, 0])
    x = noisy(1).expand(3, -1, -1, -1)
    found = sd1.denoiser(text)(x, 300)
    assert torch.allclose(found[1:2], sd1.denoiser(sd1.embed(edits[1]))(x[:1], 300), atol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    with during(State(frames=(7, 5))):
        told = sd1.denoiser(text, frames=(5, 6, 7))(x[:2], 300)
    assert torch.allclose(told[0], found[2], atol=1e-4) and torch.allclose(told[1], found[0], atol=1e-4)
    with during(State(frames=(8,))), pytest.raises(InputError, match="no text for frame 8"):
        sd1.denoiser(text, frames=(5, 6, 7))(x[:1], 300)


def test_the_encoder_reads_words_once_however_many_frames_have_them(folders, monkeypatch):
    loads, plain = [], text.text_encoder
    monkeypatch.setattr(text, "text_encoder", lambda *given: loads.append(1) or plain(*given))
    model = LatentDiffusion(weights=str(folders["1"]))
    one, two = Edit(prompt="a clay hat"), Edit(prompt="a glass hat")
    rows = [model.embed([one] * count + [two]) for count in (1, 2, 5)]
    assert len(loads) == 1 and [tuple(each.shape[:2]) for each in rows] == [(2, 2), (2, 3), (2, 6)]
    assert torch.equal(rows[2][:, 3], rows[0][:, 0]) and torch.equal(rows[2][:, 5], rows[0][:, 1])


def test_the_text_is_the_encoders(sd1):
    words = CLIPTokenizer.from_pretrained(f"{sd1.weights}/tokenizer")
    encoder = CLIPTextModel.from_pretrained(f"{sd1.weights}/text_encoder")
    ids = words(["dull", "a bronze hat"], padding="max_length", max_length=16, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = encoder(ids)[0]
    assert torch.allclose(sd1.embed(EDIT), expected, atol=1e-5)


def test_a_prompt_too_long_is_cut_with_a_warning(sd1):
    told = []
    text = sd1.embed(Edit(prompt="abcdefghijklmn opq"), warn=told.append)
    assert len(told) == 1 and "'opq'" in told[0]
    assert torch.equal(text, sd1.embed(Edit(prompt="abcdefghijklmn"), warn=told.append))
    assert len(told) == 1


def test_the_encoder_is_asked_once(sd1, monkeypatch):
    from flowpaint.diffusion import text

    calls = []
    real = text.text_encoder
    monkeypatch.setattr(text, "text_encoder", lambda *given: calls.append(given) or real(*given))
    for _ in range(3):
        sd1.embed(Edit(prompt="only once"))
    assert len(calls) == 1


def test_latents_are_those_of_the_autoencoder(sd1):
    frames, vae = pictures(), tiny_vae()
    with torch.no_grad():
        posterior = vae.encode(frames * 2 - 1).latent_dist
    scale = vae.config.scaling_factor
    assert torch.allclose(sd1.encode(frames), posterior.mode() * scale, atol=1e-5)
    generator, same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert torch.allclose(sd1.encode(frames, generator), posterior.sample(same) * scale, atol=1e-5)
    with torch.no_grad():
        expected = (vae.decode(posterior.mode()).sample / 2 + 0.5).clamp(0, 1)
    assert torch.allclose(sd1.decode(posterior.mode() * scale), expected, atol=1e-5)


@pytest.mark.parametrize("multiple", [8, 64])
@pytest.mark.parametrize("size", [(37, 50), (64, 64), (17, 9)])
def test_whatever_size_comes_in_goes_out(sd1, multiple, size):
    model, frames = replace(sd1, multiple=multiple), pictures(2, *size)
    latents = model.encode(frames)
    assert latents.shape == model.latent_shape(frames)
    assert all(side * 8 % multiple == 0 for side in latents.shape[-2:])
    x0 = model.denoiser(model.embed(EDIT))(latents, 100)
    out = model.decode(x0, size)
    assert out.shape == frames.shape and out.dtype == torch.float32 and 0 <= out.min() <= out.max() <= 1


def test_padding_repeats_the_edges():
    pad = Pad.to_multiple(8, 10, 13)
    frames = pictures(1, 10, 13)
    padded = pad.pad(frames)
    assert padded.shape == (1, 3, 16, 16)
    assert torch.equal(padded[..., 15, :13], frames[..., 9, :]) and torch.equal(padded[..., :10, 15], frames[..., 12])
    assert torch.equal(pad.unpad(padded), frames)


def test_the_batch_changes_nothing(sd1):
    frames, text = pictures(5), sd1.embed(EDIT)
    whole, single = replace(sd1, batch=0), replace(sd1, batch=2)
    generators = [torch.Generator().manual_seed(9) for _ in range(2)]
    latents = [model.encode(frames, one) for model, one in zip((whole, single), generators, strict=True)]
    assert torch.allclose(*latents, atol=1e-5)
    assert torch.allclose(whole.decode(latents[0]), single.decode(latents[0]), atol=1e-5)
    assert torch.allclose(whole.denoiser(text)(latents[0], 200), single.denoiser(text)(latents[0], 200), atol=1e-4)


def test_hooked_frames_stay_together(sd1):
    model, seen = replace(sd1, batch=2), []
    denoise = model.denoiser(model.embed(EDIT), frames=range(10, 15))

    def attention(q, k, v, site, state):
        seen.append((q.shape[:2], state.frames, state.streams, state.t))
        return attend(q, k, v)

    plain = denoise(noisy(5), 651)
    with hooked(model, Hooks(attention=attention)):
        assert torch.allclose(denoise(noisy(5), 651), plain, atol=1e-4)
    assert set(seen) == {((2, 5), (10, 11, 12, 13, 14), ("uncond", "cond"), 651)}


def test_the_same_again_is_the_same(model):
    def once():
        latents = model.encode(pictures(), torch.Generator().manual_seed(1))
        return model.decode(model.denoiser(model.embed(EDIT))(latents, 500))

    assert torch.equal(once(), once())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_inside_float32_outside(sd1, dtype):
    half = replace(sd1, dtype=dtype)
    frames = pictures(2)
    text = half.embed(EDIT)
    assert text.dtype == getattr(torch, dtype) == next(half.unet().parameters()).dtype
    latents = half.encode(frames)
    x0 = half.denoiser(text)(latents, 100)
    assert latents.dtype == x0.dtype == half.decode(x0).dtype == torch.float32
    exact = sd1.denoiser(sd1.embed(EDIT))(sd1.encode(frames), 100)
    assert 0 < (x0 - exact).abs().max() < 0.1 * exact.abs().max()


def test_tiles_are_set_for_each_call(sd1):
    tiled, latents = replace(sd1, tile=True), noisy(1, 16, 16)
    plain = sd1.decode(latents)
    assert tiled.decode(latents).shape == plain.shape
    assert not torch.equal(tiled.decode(latents), plain)  # seams are blended
    assert torch.equal(sd1.decode(latents), plain)


def test_freeu_is_this_recipes_alone(sd1):
    free, text = replace(sd1, freeu=(1.4, 1.6, 0.9, 0.2)), sd1.embed(EDIT)
    plain = sd1.denoiser(text)(noisy(), 300)
    assert not torch.allclose(free.denoiser(text)(noisy(), 300), plain, atol=1e-4)
    assert torch.equal(sd1.denoiser(text)(noisy(), 300), plain)


def test_an_optimising_hook_works_through_the_denoiser(sd1):
    denoise = sd1.denoiser(sd1.embed(EDIT))

    def features(h, site, state):
        with torch.enable_grad():
            free = h.float().detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad((free - free.roll(1, 1)).square().sum(), free)
        return h - 0.1 * gradient

    plain = denoise(noisy(), 300)
    with hooked(sd1, Hooks(features=features)):
        changed = denoise(noisy(), 300)
    assert not torch.allclose(changed, plain, atol=1e-3) and torch.equal(denoise(noisy(), 300), plain)


# -------------------------------------------------------------------------------------------------------------- ControlNets


def test_residuals_of_controlnets_are_summed(sd1, tmp_path):
    unet = tiny_unet()
    names = tuple(str(save_controlnet(tmp_path / str(seed), unet, seed)) for seed in (3, 4))
    scales = (0.75, 0.5)
    model, maps = replace(sd1, controlnets=names, control_scale=scales), [pictures(3, seed=seed) for seed in (5, 6)]
    text, x = model.embed(EDIT), noisy()
    rows, words = x.repeat(2, 1, 1, 1), text.repeat_interleave(3, dim=0)
    down, middle = None, None
    with torch.no_grad():
        for seed, scale, seen in zip((3, 4), scales, maps, strict=True):
            network = tiny_controlnet(unet, seed)
            skips, mid = network(rows, 300, words, seen.repeat(2, 1, 1, 1), conditioning_scale=scale, return_dict=False)
            down, middle = (skips, mid) if down is None else ([a + b for a, b in zip(down, skips, strict=True)], middle + mid)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        uncond, cond = unet(rows, 300, words, **more).sample.chunk(2)
    level = model.schedule.level(300)
    expected = (x - level.sigma * (uncond + 7.5 * (cond - uncond))) / level.alpha
    found = model.denoiser(text, maps)(x, 300)
    assert torch.allclose(found, expected, atol=2e-4)
    assert not torch.allclose(found, sd1.denoiser(text)(x, 300), atol=1e-2)


def test_control_maps_of_any_size(sd1, tmp_path):
    model = replace(sd1, controlnets=(str(save_controlnet(tmp_path, tiny_unet())),), multiple=64)
    frames = pictures(2, 37, 50)
    text, x = model.embed(EDIT), model.encode(frames)
    padded = model.pad(37, 50).pad(frames)
    assert torch.equal(model.denoiser(text, [frames])(x, 300), model.denoiser(text, [padded])(x, 300))
    with pytest.raises(ShapeError, match="control map is 96x64"):
        model.denoiser(text, [pictures(2)])(x, 300)
    with pytest.raises(ConfigError, match="1 ControlNets and got 0"):
        model.denoiser(text)


def test_a_controlnet_of_another_family(sd1, tmp_path):
    other = replace(sd1, controlnets=(str(save_controlnet(tmp_path, tiny_unet(cross=24))),))
    for asked in (other.check, lambda: other.denoiser(other.embed(EDIT), [pictures()])):
        with pytest.raises(ConfigError, match="another family: its cross_attention_dim is 24, the model's 16"):
            asked()


def test_a_controlnet_of_one_file(sd1, folders, tmp_path):
    folder = save_controlnet(tmp_path / "folder", tiny_unet(), like_published=True)
    file = tmp_path / "control.safetensors"
    shutil.copy(folder / "diffusion_pytorch_model.safetensors", file)
    models = [replace(sd1, controlnets=(str(one),)) for one in (folder, file)]
    text, maps = sd1.embed(EDIT), [pictures()]
    assert torch.equal(*(model.denoiser(text, maps)(noisy(), 300) for model in models))
    other = save_controlnet(tmp_path / "other", tiny_unet(cross=24), like_published=True)
    shutil.copy(other / "diffusion_pytorch_model.safetensors", file.with_name("b.safetensors"))
    with pytest.raises(ConfigError, match="does not fit the model"):
        replace(sd1, controlnets=(str(file.with_name("b.safetensors")),)).denoiser(text, maps)
    with pytest.raises(WeightsError, match="There is no file"):
        replace(sd1, controlnets=("gone.safetensors",)).check()


def test_resting_networks_are_brought_and_sent_home():
    moves = []

    class Moved(torch.nn.Linear):
        def to(self, device):
            moves.append((self.in_features, str(device)))
            return self

    first, second = Moved(1, 1), Moved(2, 2)
    for networks in ((first,), (first,), (second,), (first, second)):
        bring(torch.device("meta"), *networks)
    bring(torch.device("cpu"))
    assert moves == [(1, "meta"), (1, "meta"), (1, "cpu"), (2, "meta"), (1, "meta"), (2, "meta"), *moves[6:]]
    assert sorted(moves[6:]) == [(1, "cpu"), (2, "cpu")]


def test_offload_changes_nothing_on_a_cpu(sd1):
    text = sd1.embed(EDIT)
    offloaded = replace(sd1, offload=True)
    assert torch.equal(offloaded.denoiser(text)(noisy(), 300), sd1.denoiser(text)(noisy(), 300))
    assert torch.equal(offloaded.decode(noisy()), sd1.decode(noisy()))


def test_more_channels_are_joined(tmp_path):
    model = LatentDiffusion(weights=str(save_model(tmp_path, in_channels=6)))
    text, more = model.embed(EDIT), noisy(3, seed=8)[:, :2]
    found = model.denoiser(text, concat=more)(noisy(), 300)
    assert not torch.allclose(found, model.denoiser(text, concat=more + 1)(noisy(), 300), atol=1e-3)
    with pytest.raises(ConfigError, match="reads 6 channels, latents and more give 4"):
        model.denoiser(text)


# ------------------------------------------------------------------------------------------------------------------ loading


def test_one_file_is_the_folder(folders, tmp_path):
    file = save_single_file(tmp_path / "tiny.safetensors", folders["1"])
    one = LatentDiffusion(weights=str(file), shape=str(folders["1"]))
    folder = LatentDiffusion(weights=str(folders["1"]))
    assert torch.equal(one.encode(pictures()), folder.encode(pictures()))
    assert torch.equal(one.embed(EDIT), folder.embed(EDIT))
    assert torch.equal(one.denoiser(one.embed(EDIT))(noisy(), 300), folder.denoiser(folder.embed(EDIT))(noisy(), 300))
    shutil.copytree(folders["1"], tmp_path / "tiny")  # found beside the file without being named
    assert LatentDiffusion(weights=str(file)).latent_shape(pictures()) == (3, 4, 8, 12)
    lacking = save_single_file(tmp_path / "lacking.safetensors", folders["1"], without="first_stage_model")
    with pytest.raises(WeightsError, match="has no vae"):
        LatentDiffusion(weights=str(lacking), shape=str(folders["1"])).check()
    lacking = save_single_file(tmp_path / "more.safetensors", folders["1"], without="model.diffusion_model.out.2.bias")
    with pytest.raises(WeightsError, match=r"unet in .* lacks 1 tensors"):
        LatentDiffusion(weights=str(lacking), shape=str(folders["1"])).unet()


@pytest.mark.parametrize(
    "missing, named",
    [
        ("vae/diffusion_pytorch_model.safetensors", "vae"),
        ("unet/config.json", "unet"),
        ("text_encoder/model.safetensors", "text_encoder"),
        ("scheduler/scheduler_config.json", "scheduler"),
        ("model_index.json", "model_index.json"),
    ],
)
def test_a_folder_that_lacks_a_part(folders, tmp_path, missing, named):
    folder = shutil.copytree(folders["1"], tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(WeightsError, match=named):
        LatentDiffusion(weights=str(folder)).check()


def test_a_folder_without_tokenizer(folders, tmp_path):
    folder = shutil.copytree(folders["1"], tmp_path / "model")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(WeightsError, match="has no tokenizer"):
        LatentDiffusion(weights=str(folder)).check()


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_safetensors(folders, tmp_path, part):
    folder = shutil.copytree(folders["1"], tmp_path / "model")
    file = next((folder / part).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        LatentDiffusion(weights=str(folder)).check()


def test_tensors_that_are_missing_are_not_made_up(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for part, name in (("unet", "conv_in.bias"), ("vae", "quant_conv.bias")):
        folder = shutil.copytree(folders["1"], tmp_path / part)
        file = next((folder / part).glob("*.safetensors"))
        state = load_file(file)
        save_file({key: value for key, value in state.items() if key != name}, file)
        model = LatentDiffusion(weights=str(folder))
        with pytest.raises(WeightsError, match=f"{part} in .* lacks 1 tensors, such as {name}"):
            model.unet() if part == "unet" else model.encode(pictures())


@pytest.mark.parametrize(
    "weights, told",
    [
        ("", "No diffusion model was chosen"),
        ("no-such-folder", "no folder"),
        ("owner/no-such-model", "cannot be fetched"),
        ("gone.safetensors", "There is no file"),
        ("old.ckpt", "is a pickle"),
    ],
)
def test_weights_that_are_not_there(weights, told):
    with pytest.raises(WeightsError, match=told) as caught:
        LatentDiffusion(weights=weights).check()
    assert caught.value.exit_code == 3


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"not a model at all")
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        LatentDiffusion(weights=str(tmp_path / "a.safetensors")).check()


# ------------------------------------------------------------------------------------------------------------------- memory


def test_out_of_memory_says_what_to_lower(sd1, monkeypatch):
    def fails(*given, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoencoderKL, "decode", fails)
    with pytest.raises(ResourceError, match=r"decoding 2 frames of 96x64. Lower model.batch \(now 8\), set model.tile=true"):
        sd1.decode(noisy())
    monkeypatch.setattr(UNet2DConditionModel, "forward", fails)
    denoise = replace(sd1, batch=2).denoiser(sd1.embed(EDIT))
    with pytest.raises(ResourceError, match=r"denoising 2 frames of 96x64. Lower model.batch \(now 2\)") as caught:
        denoise(noisy(), 300)
    assert caught.value.exit_code == 5
    together = hooked(sd1, Hooks(features=lambda h, site, state: h))
    with together, pytest.raises(ResourceError, match=r"denoising 3 frames of 96x64. Take a smaller window \(now 3\)"):
        denoise(noisy(), 300)


def test_other_errors_are_not_memory(sd1):
    with pytest.raises(RuntimeError) as caught:
        sd1.denoiser(torch.zeros(2, 16, 5))(noisy(), 300)
    assert not isinstance(caught.value, ResourceError)


def test_a_limit_chooses_batch_and_tiles():
    def model(limit, **values):
        return LatentDiffusion(**{"dtype": "float16", "limit": limit, "batch": 0, **values})

    large, small = model("24GB").within(512, 512), model("2400MB").within(512, 512)
    assert large.batch > small.batch >= 1 and not large.tile and not large.offload
    assert model("2400MB").within(1024, 1024).batch <= small.batch
    assert model("24GB", batch=4).within(512, 512).batch == large.batch, "the limit decides alone"
    bound = model("8GB").within(512, 512, together=True)
    assert 1 <= bound.batch < model("8GB").within(512, 512).batch, "frames that are bound together take more"
    assert model("8GB", controlnets=("one", "two")).within(512, 512).batch < model("8GB").within(512, 512).batch
    assert model("8").within(512, 512) == model("8 GiB").within(512, 512) == model("8192MB").within(512, 512)
    with pytest.raises(ResourceError, match="too little for 512x512"):
        model("1GB").within(512, 512)
    with pytest.raises(ConfigError, match="no amount of memory"):
        model("plenty")


def test_no_limit_changes_nothing():
    model = LatentDiffusion(batch=3)
    assert model.within(4096, 4096) is model


# ------------------------------------------------------------------------------------------------------------------- recipe


def test_it_is_a_recipe(sd1):
    again = pickle.loads(pickle.dumps(sd1))
    assert again == sd1 and len(pickle.dumps(sd1)) < 1000
    assert again.unet() is sd1.unet()  # one network a process


@pytest.mark.parametrize(
    "values",
    [
        {"controlnets": ("a",), "control_scale": (1.0, 2.0)},
        {"lora_scale": (1.0,)},
        {"batch": -1},
        {"dtype": "int8"},
        {"multiple": 12},
    ],
)
def test_values_outside_their_range(values):
    with pytest.raises(ConfigError):
        LatentDiffusion(**values)


def test_no_such_device(sd1):
    if torch.cuda.is_available():
        pytest.skip("there is CUDA")
    with pytest.raises(ConfigError, match="no device 'cuda'"):
        sd1.embed(EDIT, "cuda")


def test_an_image_reaches_the_ip_adapter(sd1):
    unet = with_ip_adapter(tiny_unet())
    kit = {"controlnets": (), "cell": 8, "batch": 2, "multiple": 8, "offload": False}
    networks = Networks(unet=unet, schedule=sd1.schedule, dtype=torch.float32, **kit)
    text, image, x = sd1.embed(EDIT), torch.randn(2, 3, 1, 8, generator=torch.Generator().manual_seed(1)), noisy()
    with torch.no_grad():
        given = {"added_cond_kwargs": {"image_embeds": [image.flatten(0, 1)]}}
        uncond, cond = unet(x.repeat(2, 1, 1, 1), 300, text.repeat_interleave(3, dim=0), **given).sample.chunk(2)
    level = sd1.schedule.level(300)
    expected = (x - level.sigma * (uncond + 3 * (cond - uncond))) / level.alpha
    denoise = Denoiser(networks, Conditions(text=text, image=image, guidance=3.0))
    assert torch.allclose(denoise(x, 300), expected, atol=2e-4)
    with pytest.raises(ConfigError, match="no IP-Adapter"):
        sd1.denoiser(text, image=image)


def test_a_level_tells_its_own_noise(sd1):
    """A schedule of the user's, such as one with zero terminal SNR, is not the model's."""
    denoise, x = sd1.denoiser(sd1.embed(EDIT)), noisy()
    level = sd1.schedule.level(300)
    assert torch.equal(denoise(x, level), denoise(x, 300))
    other = denoise(x, Level(300, 0.5, 0.75**0.5))
    assert torch.allclose((x - level.alpha * denoise(x, 300)) / level.sigma, (x - 0.5 * other) / 0.75**0.5, atol=1e-4)


def test_release(sd1):
    before = sd1.unet()
    release()
    assert sd1.unet() is not before


def test_plain_values_of_the_schedule(model):
    theirs = DDIMScheduler.from_pretrained(model.weights, subfolder="scheduler")
    assert torch.allclose(torch.tensor(model.schedule.alpha_bar), theirs.alphas_cumprod, atol=1e-7)
    assert model.schedule.prediction == ("v" if theirs.config.prediction_type == "v_prediction" else "eps")
    assert (model.cell, model.channels) == (8, 4)
