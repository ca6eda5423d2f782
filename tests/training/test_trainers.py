"""Each trainer at tiny sizes: it resumes to the bit, and what it writes is a model that `LatentDiffusion` opens."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from flowpaint.diffusion.levels import Schedule
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.sampling import noise_levels
from flowpaint.errors import ConfigError, InputError, WeightsError
from flowpaint.evaluation.held_out import psnr
from flowpaint.training.autoencoder import AutoencoderTrainer, reconstructed, standardised
from flowpaint.training.control import ControlTrainer
from flowpaint.training.image import ImageTrainer
from flowpaint.training.loop import keyed
from flowpaint.training.noising import channel_weights, drawn, noised, weighted
from flowpaint.training.shards import first_of
from flowpaint.training.standard import autoencoder as read_autoencoder
from flowpaint.types import Edit
from tiny_training import AUTOENCODER, CONTROL, FLOWVID, IMAGE, exported, quiet, started


class Stopped(Exception):
    pass


def stop_at(step):
    def tell(stage, done, total):
        if done == step:
            raise Stopped

    return tell


@pytest.mark.parametrize(
    "kind", ["autoencoder", *(pytest.param(one, marks=pytest.mark.slow) for one in ("image", "control", "lora", "flowvid"))]
)
def test_a_stopped_run_ends_as_if_it_had_not_been(
    kind, tiny_pictures, tiny_latents, tiny_hints, tiny_autoencoder, tiny_family, tmp_path
):
    recipe, data = {
        "autoencoder": (AUTOENCODER, tiny_pictures),
        "image": ({**IMAGE, "base": tiny_autoencoder}, tiny_latents),
        "control": ({**CONTROL, "base": tiny_family}, tiny_latents),
        "lora": ({**IMAGE, "base": tiny_family, "tune": "lora", "rank": 2}, tiny_latents),
        "flowvid": ({**FLOWVID, "base": tiny_family}, tiny_hints),
    }[kind]
    whole = started(recipe, data, tmp_path / "whole")
    exported(whole)
    with pytest.raises(Stopped):
        started(recipe, data, tmp_path / "run").run(stop_at(3), quiet)
    again = started(recipe, data, tmp_path / "run")
    assert again.step == 2
    exported(again)
    files = sorted(one.relative_to(tmp_path / "whole") for one in (tmp_path / "whole" / "export").rglob("*.safetensors"))
    assert files
    for file in files:
        expected, found = load_file(tmp_path / "whole" / file), load_file(tmp_path / "run" / file)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected), file
    for name, weight in whole.task.trained.state_dict().items():
        assert torch.equal(weight, again.task.trained.state_dict()[name]), name


@pytest.mark.slow
def test_a_family_opens_as_a_model(tiny_latents, tiny_family, tmp_path):
    folder = exported(started({**CONTROL, "base": tiny_family}, tiny_latents, tmp_path))
    mini = LatentDiffusion(weights=str(folder), controlnets=(str(folder / "controlnet"),))
    mini.check()
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    denoise = mini.denoiser(mini.embed(Edit(prompt="neon")), [picture])
    assert denoise(mini.encode(picture), 999).shape == (1, 4, 8, 8)
    assert mini.schedule.prediction == "v" and mini.schedule.alpha_bar[-1] == 0.0
    assert [step.t.t for step in noise_levels(20, schedule=mini.schedule)] == list(range(999, 0, -50))
    told = json.loads((folder / "model_index.json").read_text())
    assert told["_class_name"] == "StableDiffusionControlNetPipeline" and told["controlnet"] == ["diffusers", "ControlNetModel"]
    assert not [path for path in folder.rglob("*.json") if str(tmp_path.parent) in path.read_text("utf-8")]
    for file in folder.rglob("*.safetensors"):
        assert {one.dtype for one in load_file(file).values()} <= {torch.float16, torch.int64}


def test_diffusers_own_scheduler_has_the_same_levels(tiny_family):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler.from_pretrained(Path(tiny_family) / "scheduler")
    ours = Schedule.from_config(json.loads((Path(tiny_family) / "scheduler" / "scheduler_config.json").read_text()))
    assert torch.allclose(theirs.alphas_cumprod.double(), torch.tensor(ours.alpha_bar, dtype=torch.float64), atol=1e-6)


@pytest.mark.slow
def test_a_lora_of_the_trainer_fits_the_model(tiny_latents, tiny_family, tmp_path):
    folder = exported(started({**IMAGE, "base": tiny_family, "tune": "lora", "rank": 2}, tiny_latents, tmp_path, rate=0.01))
    assert [one.name for one in folder.iterdir()] == ["pytorch_lora_weights.safetensors"]
    plain = LatentDiffusion(weights=tiny_family)
    changed = LatentDiffusion(weights=tiny_family, lora=(str(folder / "pytorch_lora_weights.safetensors"),))
    changed.check()
    text, x = plain.embed(Edit(prompt="sepia")), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(plain.denoiser(text)(x, 500), changed.denoiser(text)(x, 500))


@pytest.mark.slow
def test_only_what_learns_changes(tiny_latents, tiny_family, tmp_path):
    folder = exported(started({**IMAGE, "base": tiny_family, "train_text": False}, tiny_latents, tmp_path, rate=0.01))
    for part, name, moved in (("unet", "diffusion_pytorch_model", True), ("text_encoder", "model", False)):
        before = load_file(Path(tiny_family) / part / f"{name}.safetensors")
        after = load_file(folder / part / f"{name}.safetensors")
        assert all(torch.equal(before[one], after[one]) for one in before) is not moved, part


def test_an_autoencoder_goes_on_from_its_weights(tiny_pictures, tiny_autoencoder, tmp_path):
    first = started({**AUTOENCODER, "start": tiny_autoencoder}, tiny_pictures, tmp_path, rate=1e-9, steps=1)
    shown = torch.stack(first_of(tiny_pictures, first.task.read, 2))
    kept = reconstructed(read_autoencoder(tiny_autoencoder), shown)
    assert torch.allclose(reconstructed(first.task.trained["vae"], shown), kept, atol=1e-5)


def test_standardised_latents_have_unit_variance_and_the_pictures_stay(tiny_pictures, tmp_path):
    one = started(AUTOENCODER, tiny_pictures, tmp_path)
    network, shown = one.task.trained["vae"].eval(), torch.stack(first_of(tiny_pictures, one.task.read, 8))
    changed = standardised(network, shown, noise=0.05)
    with torch.no_grad():
        after = changed.encode(shown * 2 - 1).latent_dist
        assert after.mean.mean(dim=(0, 2, 3)).abs().max() < 1e-4
        assert (after.mean.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-3
        assert torch.allclose(after.std, torch.tensor(0.05), rtol=1e-3)
    assert torch.allclose(reconstructed(changed, shown), reconstructed(network, shown), atol=1e-4)


@pytest.mark.slow
def test_gradients_computed_again_are_the_same(tiny_latents, tiny_autoencoder, tmp_path):
    recipe = {**IMAGE, "base": tiny_autoencoder}
    plain = started(recipe, tiny_latents, tmp_path / "a", bf16=False)
    sparing = started(recipe, tiny_latents, tmp_path / "b", bf16=False, checkpointing=True)
    for one in (plain, sparing):
        one.run(quiet, quiet)
    for name, weight in plain.task.trained.state_dict().items():
        assert torch.allclose(weight, sparing.task.trained.state_dict()[name], atol=1e-5), name


def test_an_autoencoder_begins_as_a_linear_transform_that_beats_block_means(tiny_pictures):
    trainer = AutoencoderTrainer(widths=(16, 24, 32, 48), channels=16, size=64)
    task = trainer(tiny_pictures)
    shown = torch.stack(first_of(tiny_pictures, task.read, 16))
    network = task.trained["vae"].eval()
    back = reconstructed(network, shown)
    means = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(shown, 8), scale_factor=8.0)
    assert psnr(back, shown) > psnr(means, shown) + 4
    by_lot = AutoencoderTrainer(widths=(16, 24, 32, 48), channels=16, size=64, first="random")(tiny_pictures)
    assert psnr(reconstructed(by_lot.trained["vae"].eval(), shown), shown) < psnr(means, shown)
    with torch.no_grad():  # linear: the latents of a mixture are the mixture of the latents
        a, b = shown[:1] * 2 - 1, shown[5:6] * 2 - 1
        z_a, z_b, z_both = (network.encode(one).latent_dist.mean for one in (a, b, (a + b) / 2))
    assert (z_both - (z_a + z_b) / 2).abs().mean() < 0.2 * z_both.abs().mean()


@pytest.mark.parametrize("widths", [(8, 24, 32), (16, 16, 32), (16, 24, 24)])
def test_widths_without_room_for_principal_components_are_refused(tiny_pictures, widths):
    with pytest.raises(ConfigError, match="no room for principal components"):
        AutoencoderTrainer(widths=widths, size=64)(tiny_pictures)


# ------------------------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("prediction", ["eps", "v", "sample"])
def test_targets_are_the_papers(prediction):
    schedule = Schedule(prediction=prediction)
    x0, eps = torch.randn(2, 5, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([0, 10, 500, 998, 999])
    x, target = noised(x0, eps, times, schedule)
    for row, t in enumerate(times.tolist()):
        level = schedule.level(t)
        assert torch.allclose(x[row], level.alpha * x0[row] + level.sigma * eps[row], atol=1e-6)
        expected = {"eps": eps[row], "v": level.alpha * eps[row] - level.sigma * x0[row], "sample": x0[row]}[prediction]
        assert torch.allclose(target[row], expected, atol=1e-6)


class Painter:
    """Decodes two channels: the first shows four times as much as the second."""

    config = SimpleNamespace(scaling_factor=1.0, shift_factor=0.0)
    dtype = torch.float32

    def decode(self, latents):
        return SimpleNamespace(sample=(0.04 * latents[:, :1] + 0.01 * latents[:, 1:]).expand(-1, 3, -1, -1))


def test_channels_weigh_as_they_show():
    latents = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(3))
    latents[:, 0] *= 1 / latents[:, 0].std()
    latents[:, 1] *= 1 / latents[:, 1].std()
    assert channel_weights(Painter(), latents, 0.0).tolist() == [1.0, 1.0]
    assert channel_weights(Painter(), latents, 1.0).tolist() == pytest.approx([1.6, 0.4], abs=1e-3)
    assert channel_weights(Painter(), latents, 2.0).tolist() == pytest.approx([32 / 17, 2 / 17], abs=1e-3)
    error = torch.tensor([1.0, 2.0])[:, None, None].expand(1, 2, 5, 5)
    assert weighted(error, torch.zeros(1, 2, 5, 5), torch.tensor([1.6, 0.4])).item() == pytest.approx((1.6 + 4 * 0.4) / 2)


def test_a_network_that_knows_the_answer_draws_it():
    schedule = Schedule(prediction="v", zero_terminal_snr=True, spacing="trailing", set_alpha_to_one=True)
    x0 = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(2))

    def perfect(x, t, rows):
        level = schedule.level(t)
        eps = (x - level.alpha * x0) / max(level.sigma, 1e-6)
        return level.alpha * eps - level.sigma * x0

    text = torch.zeros(1, 2, 3)
    assert torch.allclose(drawn(perfect, text, text, schedule, torch.randn(1, 4, 6, 6, generator=keyed(3))), x0, atol=1e-4)


def test_batches_are_crops_until_the_last_share_of_the_run(tiny_latents, tiny_autoencoder):
    task = ImageTrainer(**{**_plain(IMAGE), "base": tiny_autoencoder})(tiny_latents)
    rows = first_of(tiny_latents, task.read, 4)
    early, late = (task.batch(rows, keyed(0, 1), progress) for progress in (0.4, 0.6))
    assert early["latents"].shape == (4, 4, 4, 4) and late["latents"].shape == (4, 4, 8, 8)
    assert early["tokens"].shape == (4, 32) and early["times"].max() < 1000
    assert (task.rows(8, 0.4), task.rows(8, 0.6)) == (8, 2)
    again = task.batch(rows, keyed(0, 1), 0.4)
    assert all(torch.equal(early[name], again[name]) for name in early)


def test_control_maps_are_cropped_with_the_latents(tiny_latents, tiny_family):
    task = ControlTrainer(**{**_plain(CONTROL), "base": tiny_family, "conditions": ("canny",)})(tiny_latents)
    rows = first_of(tiny_latents, task.read, 3)
    batch = task.batch(rows, keyed(0, 7), 0.0)
    for row, latent, control in zip(rows, batch["latents"], batch["controls"], strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(row.latent[:, top : top + 4, left : left + 4], latent)
        ]
        assert len(found) == 1
        top, left = (8 * place for place in found[0])
        assert torch.equal(row.controls["canny"][:, top : top + 32, left : left + 32].expand(3, -1, -1), control)


def test_control_is_heard_by_its_share(tiny_latents, tiny_family):
    task = ControlTrainer(**{**_plain(CONTROL), "base": tiny_family, "bare": 0.25})(tiny_latents)
    rows = first_of(tiny_latents, task.read, 8)
    share = torch.cat([task.batch(rows, keyed(0, number), 0.0)["share"] for number in range(50)])
    assert share.mean().item() == pytest.approx(0.75, abs=0.06) and set(share.tolist()) == {0.0, 1.0}
    torch.nn.init.normal_(task.trained["controlnet"].controlnet_mid_block.weight)
    batch = task.batch(rows[:2], keyed(1, 0), 0.0)
    x, times = batch["latents"], batch["times"]
    text = task.objective.text(task.trained, batch["tokens"])

    def said(share, controls):
        with torch.no_grad():
            return task.objective.predicted(task.trained, x, times, text, (controls, torch.tensor(share)))

    one, other = batch["controls"], 1 - batch["controls"]
    assert torch.equal(said([0.0, 0.0], one), said([0.0, 0.0], other))
    heard, deaf = (said([1.0, 0.0], shown) for shown in (one, other))
    assert torch.equal(heard[1], deaf[1]) and not torch.allclose(heard[0], deaf[0])


@pytest.mark.slow
def test_with_joint_the_model_learns_along(tiny_latents, tiny_family, tmp_path):
    folder = exported(started({**CONTROL, "base": tiny_family, "joint": True, "late": 0.5}, tiny_latents, tmp_path, rate=0.01))
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model"), ("vae", "diffusion_pytorch_model")):
        before = load_file(Path(tiny_family) / part / f"{name}.safetensors")
        after = load_file(folder / part / f"{name}.safetensors")
        assert all(torch.equal(before[one], after[one]) for one in before) is (part == "vae"), part


def test_a_new_control_map_keeps_its_size_through_the_embedding(tiny_latents, tiny_family):
    task = ControlTrainer(**{**_plain(CONTROL), "base": tiny_family, "embedding": (8, 16, 32, 64)})(tiny_latents)
    noise = torch.randn(4, 3, 64, 64, generator=keyed(0, 5))
    with torch.no_grad():
        out = task.trained["controlnet"].controlnet_cond_embedding(noise)
    assert 0.3 < out.std() < 5


def _plain(recipe):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in recipe.items() if name != "part"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: AutoencoderTrainer(widths=(16, 30)), "do not fit 4 groups"),
        (lambda data: AutoencoderTrainer(size=100), "do not fit"),
        (lambda data: ImageTrainer(widths=(90, 160)), "do not divide"),
        (lambda data: ImageTrainer(late=2.0), "do not train"),
        (lambda data: ControlTrainer(conditions=()), "do not train"),
        (lambda data: ControlTrainer(bare=1.5), "do not train"),
    ],
)
def test_values_that_do_not_fit_are_refused(make, message, tiny_latents):
    with pytest.raises(ConfigError, match=message):
        make(tiny_latents)


def test_a_model_that_lacks_a_part_is_told(tiny_latents, tiny_autoencoder, tiny_pictures, tmp_path):
    with pytest.raises(WeightsError, match="no autoencoder"):
        ImageTrainer()(tiny_latents)
    with pytest.raises(WeightsError, match="There is no folder"):
        ImageTrainer(base=str(tmp_path / "nowhere"))(tiny_latents)
    with pytest.raises(WeightsError, match="has no unet"):
        ControlTrainer(base=tiny_autoencoder)(tiny_latents)
    wide = exported(started({**AUTOENCODER, "channels": 8}, tiny_pictures, tmp_path, steps=1))
    with pytest.raises(InputError, match="have 4 channels"):
        ImageTrainer(base=str(wide), widths=(16, 32), head=8, groups=8, text_width=16)(tiny_latents)
