"""FlowVid's trainer at tiny sizes: what it hears, what learns, what it writes, what it refuses."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from flowpaint.diffusion.denoising import Conditions, Denoiser, Networks
from flowpaint.diffusion.levels import Schedule, to_x0
from flowpaint.errors import ConfigError, InputError, WeightsError
from flowpaint.hints import joined, latent_mask
from flowpaint.networks.difference import read_changed
from flowpaint.networks.video_unet import VideoUNet
from flowpaint.training import inflating
from flowpaint.training.flowvid import FlowVidTrainer
from flowpaint.training.loop import keyed
from flowpaint.training.reading import num_frames_of
from flowpaint.training.shards import first_of
from flowpaint.weights import suited
from tiny_models import save_controlnet, save_model, tiny_unet
from tiny_training import FLOWVID, exported, started

PLAIN = {name: tuple(value) if isinstance(value, list) else value for name, value in FLOWVID.items() if name != "part"}
HEARD = {"drop": 0.0, "bare": 0.0, "no_warp": 0.0, "no_first": 0.0, "no_mask": 0.0}
DROPPED = {"no_warp": slice(0, 4), "no_first": slice(4, 8), "no_mask": slice(8, 9)}


@pytest.fixture(scope="module")
def controlled(tiny_family, tmp_path_factory):
    """A whole model with a ControlNet that has something to say."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("controlled") / "model"
    shutil.copytree(tiny_family, folder)
    save_controlnet(folder / "controlnet", UNet2DConditionModel.from_pretrained(folder / "unet"))
    return str(folder)


def task_of(base, data, **how):
    return FlowVidTrainer(**{**PLAIN, "base": base, **how})(data)


def batch_of(task, data, seed=1, progress=0.0, rows=2):
    return task.batch(first_of(data, task.read, rows), keyed(0, seed), progress)


def woken(task, scale=0.2):
    """The task with its new tensors at random."""
    new = {f"unet.{name}" for name in task.trained["unet"].new_names} | {"controlnet.conv_in.more.weight"}
    with torch.no_grad():
        for number, (name, value) in enumerate(task.trained.named_parameters()):
            if name in new:
                value.copy_(scale * torch.randn(value.shape, generator=keyed(7, number)))
    return task


# -------------------------------------------------------------------------------------------------------------- what it hears


@pytest.mark.slow
def test_a_batch_holds_windows_of_everything_at_the_same_place(tiny_hints, tiny_family):
    task = task_of(tiny_family, tiny_hints, **HEARD, conditions=("canny",), pooling="max")
    rows = first_of(tiny_hints, task.read, 3)
    batch = task.batch(rows, keyed(0, 7), 0.0)
    assert batch["latents"].shape == batch["noise"].shape == (3, 3, 4, 4, 4) and batch["joined"].shape == (3, 3, 9, 4, 4)
    assert batch["controls"].shape == (3, 3, 3, 32, 32) and batch["times"].shape == (3,)
    places = set()
    for number, row in enumerate(rows):
        match = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(row.latents[:, :, y : y + 4, x : x + 4], batch["latents"][number])
        ]
        assert len(match) == 1
        (y, x), pixels = match[0], [slice(8 * start, 8 * start + 32) for start in match[0]]
        places.add(match[0])
        cells = (..., slice(y, y + 4), slice(x, x + 4))
        expected = joined(row.hint[cells], row.latents[0][cells], latent_mask(row.occluded)[cells])
        assert torch.equal(batch["joined"][number], expected)
        assert torch.equal(batch["controls"][number], row.controls["canny"][..., *pixels].expand(-1, 3, -1, -1))
    assert len(places) > 1


def test_the_mask_is_pooled_as_was_asked(tiny_hints, tiny_family):
    most, nearest = (
        batch_of(task_of(tiny_family, tiny_hints, **HEARD, pooling=one), tiny_hints, progress=1.0)["joined"][:, :, 8]
        for one in ("max", "nearest")
    )
    assert (most >= nearest).all() and most.sum() > nearest.sum() > 0
    assert set(most.unique().tolist()) == {0.0, 1.0}


def test_noise_is_of_each_frame_and_time_of_the_whole_clip(tiny_hints, tiny_family):
    task = task_of(tiny_family, tiny_hints)
    batch = batch_of(task, tiny_hints)
    assert not torch.equal(batch["noise"][0, 0], batch["noise"][0, 1])
    times = task.batch(first_of(tiny_hints, task.read, 1) * 400, keyed(0, 2), 0.0)["times"]
    assert times.min() < 20 and times.max() > 980 and times.float().mean() == pytest.approx(500, abs=50)
    again = batch_of(task, tiny_hints)
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_late_batches_hold_whole_latents_of_fewer_clips(tiny_hints, tiny_family):
    task = task_of(tiny_family, tiny_hints)
    assert [task.rows(8, progress) for progress in (0.4, 0.6)] == [8, 2]
    assert batch_of(task, tiny_hints, progress=0.6)["latents"].shape == (2, 3, 4, 8, 8)
    whole = task_of(tiny_family, tiny_hints, crop=0)
    assert whole.rows(8, 0.4) == 8 and batch_of(whole, tiny_hints)["latents"].shape == (2, 3, 4, 8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", DROPPED)
def test_a_dropped_condition_is_zero_and_no_other(name, tiny_hints, tiny_family):
    told = batch_of(task_of(tiny_family, tiny_hints, **HEARD), tiny_hints, progress=1.0)["joined"]
    less = batch_of(task_of(tiny_family, tiny_hints, **{**HEARD, name: 1.0}), tiny_hints, progress=1.0)["joined"]
    assert less[:, :, DROPPED[name]].abs().max() == 0 and told[:, :, DROPPED[name]].abs().max() > 0
    less[:, :, DROPPED[name]] = told[:, :, DROPPED[name]]
    assert torch.equal(less, told)


def test_conditions_are_dropped_by_their_shares_one_without_the_other(tiny_hints, tiny_family):
    task = task_of(tiny_family, tiny_hints, drop=1.0, bare=0.3, no_warp=0.2, no_first=0.5, no_mask=0.0)
    rows = first_of(tiny_hints, task.read, 1) * 400
    batch = task.batch(rows, keyed(0, 3), 1.0)
    gone = {name: batch["joined"][:, :, part].flatten(1).abs().amax(dim=1) == 0 for name, part in DROPPED.items()}
    share = {name: float(one.float().mean()) for name, one in gone.items()}
    assert share["no_warp"] == pytest.approx(0.2, abs=0.06) and share["no_first"] == pytest.approx(0.5, abs=0.08)
    assert share["no_mask"] == 0.0 and 1 - float(batch["share"].mean()) == pytest.approx(0.3, abs=0.07)
    both = float((gone["no_warp"] & gone["no_first"]).float().mean())
    assert both == pytest.approx(0.1, abs=0.05)
    empty = task.captioner.tokens([""])
    assert torch.equal(batch["tokens"], empty.expand(400, -1))


def test_a_share_of_the_clips_begins_with_pure_noise(tiny_hints, tiny_family):
    task = task_of(tiny_family, tiny_hints, begun=0.4)
    batch = task.batch(first_of(tiny_hints, task.read, 1) * 400, keyed(0, 3), 1.0)
    last = batch["times"] == task.objective.schedule.num_train - 1
    assert float(last.float().mean()) == pytest.approx(0.4, abs=0.07)
    assert batch["times"][~last].float().mean() == pytest.approx(500, abs=60)


def test_a_share_hears_the_lower_rows_of_the_ablation(tiny_hints, tiny_family):
    task = task_of(tiny_family, tiny_hints, **HEARD, ablated=0.6)
    told = task.batch(first_of(tiny_hints, task.read, 1) * 400, keyed(0, 3), 1.0)["joined"]
    gone = {name: told[:, :, part].flatten(1).abs().amax(dim=1) == 0 for name, part in DROPPED.items()}
    warp, first, mask = (gone[name] for name in ("no_warp", "no_first", "no_mask"))
    rows = [warp & first & mask, ~warp & first & mask, ~warp & first & ~mask, ~warp & ~first & ~mask]
    shares = [float(row.float().mean()) for row in rows]
    assert sum(shares) == pytest.approx(1.0) and shares == pytest.approx([0.2, 0.2, 0.2, 0.4], abs=0.07)


def said(task, batch, **changed):
    seen = {**batch, **changed}
    frames = seen["latents"].shape[1]
    x, more, controls = (seen[name].flatten(0, 1) for name in ("noise", "joined", "controls"))
    rows = {name: seen[name].repeat_interleave(frames, dim=0) for name in ("times", "share")}
    text = task.objective.text(seen["tokens"]).repeat_interleave(frames, dim=0)
    with torch.no_grad():
        told = (more, controls, rows["share"])
        return task.objective.predicted(task.trained, x, rows["times"], text, told, num_frames=frames)


def test_what_is_not_heard_changes_nothing_and_what_is_heard_does(tiny_hints, controlled):
    task = woken(task_of(controlled, tiny_hints, **HEARD))
    batch = batch_of(task, tiny_hints)
    other = 1 - batch["controls"]
    deaf = {"share": torch.zeros(2)}
    assert torch.equal(said(task, batch, **deaf), said(task, batch, **deaf, controls=other))
    assert not torch.allclose(said(task, batch), said(task, batch, controls=other))
    for part in DROPPED.values():
        less = batch["joined"].clone()
        less[:, :, part] += 1.0
        assert not torch.allclose(said(task, batch), said(task, batch, joined=less), atol=1e-4)
        assert not torch.equal(said(task, batch, **deaf), said(task, batch, **deaf, joined=less))
    assert not torch.allclose(said(task, batch), said(task, batch, tokens=task.captioner.tokens(["", ""])), atol=1e-5)


def test_the_controlnet_reads_the_hints_too(tiny_hints, controlled):
    task = task_of(controlled, tiny_hints, **HEARD)
    batch = batch_of(task, tiny_hints)
    less = {"joined": batch["joined"] + 1.0}
    assert torch.equal(said(task, batch), said(task, batch, **less))  # all new weights are zero
    torch.nn.init.normal_(task.trained["controlnet"].conv_in.more.weight)
    assert not torch.allclose(said(task, batch), said(task, batch, **less), atol=1e-4)


def test_before_training_a_frame_is_what_the_image_model_makes_of_it(tiny_hints, controlled):
    from diffusers import ControlNetModel, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(Path(controlled) / "unet", torch_dtype=torch.float32)
    control = ControlNetModel.from_pretrained(Path(controlled) / "controlnet", torch_dtype=torch.float32)
    task = task_of(controlled, tiny_hints, **HEARD, frames=1)
    batch = batch_of(task, tiny_hints)
    text = task.objective.text(batch["tokens"])
    x, shown, times = batch["noise"][:, 0], batch["controls"][:, 0], batch["times"]
    with torch.no_grad():
        down, middle = control(x, times, text, controlnet_cond=shown, return_dict=False)
        how = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        expected = unet(x, times, text, **how).sample
    assert torch.allclose(said(task, batch), expected, atol=1e-5)


def test_the_loss_asks_for_v(tiny_hints, tiny_family, monkeypatch):
    task = task_of(tiny_family, tiny_hints)
    batch, schedule = batch_of(task, tiny_hints), task.objective.schedule
    assert schedule.prediction == "v" and schedule.alpha_bar[-1] == 0.0
    seen = []

    def perfect(trained, x, times, text, told, *, num_frames):
        seen.append((x, times, num_frames))
        answer = []
        for row, (clip, frame) in enumerate((clip, frame) for clip in range(2) for frame in range(3)):
            level = schedule.level(int(times[row]))
            x0, eps = batch["latents"][clip, frame], batch["noise"][clip, frame]
            assert torch.allclose(x[row], level.alpha * x0 + level.sigma * eps, atol=1e-5)
            answer.append(level.alpha * eps - level.sigma * x0)
        return torch.stack(answer)

    monkeypatch.setattr(task.objective, "predicted", perfect)
    assert task.objective(batch)["loss"].item() < 1e-10
    assert seen[0][1].tolist() == batch["times"].repeat_interleave(3).tolist() and seen[0][2] == 3
    monkeypatch.setattr(task.objective, "predicted", lambda *a, **k: perfect(*a, **k) + 2.0)
    assert task.objective(batch)["loss"].item() == pytest.approx(4.0, abs=1e-4)


# ---------------------------------------------------------------------------------------------------------------- what learns


def stepped(task, batch, steps, rate=1e-2):
    """Losses of some steps on one batch."""
    optimiser = torch.optim.AdamW([one for one in task.trained.parameters() if one.requires_grad], lr=rate, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = task.objective(batch)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_the_loss_on_a_clip_falls(tiny_hints, tiny_family):
    task = task_of(tiny_family, tiny_hints, **HEARD)
    losses = stepped(task, batch_of(task, tiny_hints), 4)
    assert losses[-1] < 0.6 * losses[0]


def test_only_new_weights_learn_where_the_others_are_to_stay(tiny_hints, controlled):
    task = task_of(controlled, tiny_hints, **HEARD, train="new")
    before = copy.deepcopy(task.trained.state_dict())
    losses = stepped(task, batch_of(task, tiny_hints), 4)
    assert losses[-1] < losses[0]
    new = {f"unet.{name}" for name in task.trained["unet"].new_names} | {"controlnet.conv_in.more.weight"}
    for name, weight in task.trained.state_dict().items():
        assert torch.equal(weight, before[name]) is (name not in new), name


@pytest.mark.slow
def test_everything_learns_else(tiny_hints, controlled):
    task = task_of(controlled, tiny_hints, **HEARD)
    before = copy.deepcopy(task.trained.state_dict())
    stepped(task, batch_of(task, tiny_hints, rows=1), 2)  # the first one wakes what the others lie behind
    still = [name for name, weight in task.trained.state_dict().items() if torch.equal(weight, before[name])]
    assert not still, still
    assert not any(one.requires_grad for one in (*task.objective.frozen.parameters(), *task.vae.parameters()))


@pytest.mark.slow
def test_gradients_computed_again_are_the_same(tiny_hints, controlled):
    found = []
    for sparing in (False, True):
        task = woken(task_of(controlled, tiny_hints, **HEARD))
        task.objective.train()
        if sparing:
            for network in task.trained.values():
                network.enable_gradient_checkpointing()
        task.objective(batch_of(task, tiny_hints, rows=1))["loss"].backward()
        found.append({name: one.grad for name, one in task.trained.named_parameters()})
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], atol=1e-5), name


def test_noise_levels_are_the_papers_or_the_models_own(tiny_hints, tmp_path):
    base = str(save_model(tmp_path / "eps"))
    paper, own = (task_of(base, tiny_hints, levels=one).objective.schedule for one in ("paper", "base"))
    assert (own.prediction, own.zero_terminal_snr) == ("eps", False)
    assert paper == replace(own, prediction="v", zero_terminal_snr=True, spacing="trailing", set_alpha_to_one=True)
    assert paper.alpha_bar[-1] == 0.0 and paper.alpha_bar[0] == pytest.approx(own.alpha_bar[0])
    assert paper.alpha_bar[499] == pytest.approx(0.2424, abs=1e-4)  # the specification's numbers for Stable Diffusion's betas
    save_controlnet(tmp_path / "eps" / "controlnet", tiny_unet())
    with pytest.raises(ConfigError, match="predicts eps, not v"):
        task_of(base, tiny_hints, train="new")
    assert task_of(base, tiny_hints, train="new", levels="base").objective.schedule.prediction == "eps"


# ------------------------------------------------------------------------------------------------------------- what it writes


def written(task, folder):
    with torch.no_grad():  # as float16 keeps it
        for weight in task.trained.parameters():
            weight.copy_(weight.half().float())
    task.export(task.trained, folder)
    return folder


def opened(folder):
    from diffusers import ControlNetModel

    unet = VideoUNet.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()
    return unet, ControlNetModel.from_pretrained(folder / "controlnet", torch_dtype=torch.float32).eval()


def test_what_is_written_opens_and_says_the_same(tiny_hints, controlled, tmp_path):
    task = woken(task_of(controlled, tiny_hints, **HEARD, pooling="max"))
    task.trained.eval()
    folder = written(task, tmp_path / "out")
    unet, control = opened(folder)
    assert control.config.in_channels == unet.config.in_channels == 9 + 4
    schedule = Schedule.from_config(json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))
    assert schedule.alpha_bar == task.objective.schedule.alpha_bar and schedule.prediction == "v"
    batch = batch_of(task, tiny_hints, rows=1)
    t = int(batch["times"][0])
    expected = to_x0(said(task, batch), batch["noise"][0], schedule.level(t), "v")
    text = task.objective.text(batch["tokens"]).expand(2, -1, -1)
    networks = Networks(
        unet=unet, controlnets=((control, 1.0),), schedule=schedule, dtype=torch.float32, cell=8, batch=0, multiple=8,
        offload=False,
    )  # fmt: skip
    told = Conditions(text=text, controls=[batch["controls"][0]], concat=batch["joined"][0], guidance=1.0)
    assert torch.allclose(Denoiser(networks, told)(batch["noise"][0], t), expected, atol=1e-4)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["unet"] == ["flowpaint.networks.video_unet", "VideoUNet"] and index["vae"] == ["diffusers", "AutoencoderKL"]
    assert suited(str(folder)) == {"pooling": "max", "fill": "gray"}
    assert not [path for path in folder.rglob("*.json") if str(tmp_path.parent) in path.read_text("utf-8")]


def test_a_split_convolution_folds_back(tiny_hints, controlled):
    task = woken(task_of(controlled, tiny_hints))
    network = task.trained["controlnet"]
    x = torch.randn(2, 13, 4, 4, generator=keyed(3))
    whole = inflating.folded(network).conv_in
    assert type(whole) is torch.nn.Conv2d
    with torch.no_grad():
        assert torch.allclose(whole(x), network.conv_in(x), atol=1e-5)


def test_a_video_model_goes_on(tiny_hints, controlled, tmp_path):
    first = woken(task_of(controlled, tiny_hints))
    folder = written(first, tmp_path / "out")
    second = task_of(str(folder), tiny_hints)
    for name, weight in first.trained.state_dict().items():
        assert torch.equal(weight, second.trained.state_dict()[name]), name
    shutil.rmtree(folder / "controlnet")
    with pytest.raises(WeightsError, match="has no controlnet"):
        task_of(str(folder), tiny_hints)


def test_only_what_differs_is_written_and_read_back(tiny_hints, controlled, tmp_path):
    how = {"train": "new", "only_new": True}
    task = woken(task_of(controlled, tiny_hints, **how))
    with torch.no_grad():
        task.trained["unet"].conv_out.bias += 0.5
    folder = written(task, tmp_path / "small")
    task.trainer = replace(task.trainer, only_new=False)
    whole = opened(written(task, tmp_path / "whole"))
    read = [read_changed(part, folder, Path(controlled)) for part in ("unet", "controlnet")]
    for found, expected in zip(read, whole, strict=True):
        assert type(found) is type(expected) and not found.training
        assert found.state_dict().keys() == expected.state_dict().keys()
        for name, weight in expected.state_dict().items():
            assert torch.equal(found.state_dict()[name].half(), weight.half()), name  # the base may have more digits
    kept = load_file(folder / "unet" / "difference.safetensors")
    assert kept.keys() == task.trained["unet"].new_names | {"conv_out.bias"}
    assert load_file(folder / "controlnet" / "difference.safetensors").keys() == {"conv_in.weight"}
    assert not (folder / "vae").exists() and suited(str(folder)) == {"pooling": "nearest", "fill": "gray"}


def test_a_difference_is_read_with_its_own_base_alone(tiny_hints, controlled, tiny_family, tmp_path):
    folder = written(woken(task_of(controlled, tiny_hints, only_new=True)), tmp_path / "small")
    with pytest.raises(WeightsError, match="belongs to another controlnet"):
        read_changed("controlnet", folder, Path(tiny_family))
    with pytest.raises(WeightsError, match="cannot be read"):
        read_changed("unet", tmp_path, Path(controlled))
    (folder / "unet" / "difference.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_changed("unet", folder, Path(controlled))


@pytest.mark.slow
def test_attentions_along_time_begin_where_animatediff_ended(tiny_hints, tiny_family, tmp_path):
    from diffusers import MotionAdapter

    plain = task_of(tiny_family, tiny_hints).trained["unet"]
    config = plain.config
    sizes = {"block_out_channels": config.block_out_channels, "motion_layers_per_block": config.layers_per_block}
    heads = {"motion_num_attention_heads": 2, "motion_norm_num_groups": 8, "motion_mid_block_layers_per_block": 1}
    torch.manual_seed(5)
    MotionAdapter(**sizes, **heads, motion_max_seq_length=16).save_pretrained(tmp_path / "motion")
    begun = task_of(tiny_family, tiny_hints, motion=str(tmp_path / "motion")).trained["unet"]
    theirs = load_file(tmp_path / "motion" / "diffusion_pytorch_model.safetensors")
    taken = [name for name, one in begun.named_modules() if name.endswith(".temporal")]
    assert len(taken) > 3
    for name in taken:
        there = name.replace(".attentions.", ".motion_modules.").removesuffix("temporal")
        assert torch.equal(begun.get_parameter(f"{name}.to_k.weight"), theirs[f"{there}attn1.to_k.weight"])
        assert torch.equal(begun.get_parameter(f"{name}.norm.weight"), theirs[f"{there}norm1.weight"])
        assert begun.get_parameter(f"{name}.to_out.weight").abs().max() == 0
    x, text = torch.randn(3, config.in_channels, 8, 8), torch.randn(1, 7, config.cross_attention_dim)
    with torch.no_grad():  # nothing is said yet of what is seen along time
        assert torch.equal(begun(x, 500, text, num_frames=3).sample, plain(x, 500, text, num_frames=3).sample)
    MotionAdapter(**{**sizes, "block_out_channels": (24, 24, 24, 24)}, **heads).save_pretrained(tmp_path / "wide")
    with pytest.raises(ConfigError, match="of its family"):
        task_of(tiny_family, tiny_hints, motion=str(tmp_path / "wide"))
    with pytest.raises(WeightsError, match="no motion modules"):
        task_of(tiny_family, tiny_hints, motion=str(Path(tiny_family) / "unet"))


@pytest.mark.slow
def test_a_run_of_some_steps_shows_and_writes(tiny_hints, tiny_family, tmp_path):
    folder = exported(started({**FLOWVID, "base": tiny_family, "only_new": True}, tiny_hints, tmp_path))
    unet = read_changed("unet", folder, Path(tiny_family))
    assert isinstance(unet, VideoUNet)
    with Image.open(tmp_path / "samples" / "step-000004.png") as shown:
        assert shown.size == (8 * 64, 2 * 64)  # three times three frames, eight in a row


# ------------------------------------------------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"conditions": ()},
        {"crop": -1},
        {"no_warp": 1.5},
        {"drop": -0.1},
        {"late": 2.0},
        {"begun": -1.0},
        {"ablated": 1.1},
    ],
)
def test_values_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ConfigError, match="do not train"):
        FlowVidTrainer(**wrong)


def test_data_that_do_not_fit_are_told(tiny_hints, tiny_latents, tiny_clips, tiny_family, tmp_path):
    for data in (tiny_latents, tiny_clips):
        with pytest.raises(InputError, match=r"have no latents\.npy"):
            task_of(tiny_family, data)
    with pytest.raises(InputError, match=r"have no depth\.webp"):
        task_of(tiny_family, tiny_hints, conditions=("depth",))
    with pytest.raises(InputError, match="have 3 frames, not 16"):
        task_of(tiny_family, tiny_hints, frames=16)
    assert first_of(tiny_hints, num_frames_of, 1) == [3]
    with pytest.raises(InputError, match="hold no crop of 9x9"):
        batch_of(task_of(tiny_family, tiny_hints, crop=9), tiny_hints)


def test_models_that_do_not_fit_are_told(tiny_hints, tiny_autoencoder, tiny_family, controlled, tmp_path):
    with pytest.raises(WeightsError, match="has no unet"):
        task_of(tiny_autoencoder, tiny_hints)
    with pytest.raises(WeightsError, match="has no controlnet"):
        task_of(tiny_family, tiny_hints, train="new")
    with pytest.raises(WeightsError, match="There is no folder"):
        task_of(str(tmp_path / "nowhere"), tiny_hints)
    other = tmp_path / "other"
    shutil.copytree(controlled, other)
    save_controlnet(other / "controlnet", tiny_unet(in_channels=7))
    with pytest.raises(ConfigError, match="reads 7 channels"):
        task_of(str(other), tiny_hints)
