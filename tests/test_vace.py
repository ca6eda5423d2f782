"""Wan with VACE on tiny random networks of the real classes; diffusers' pipeline is the independent truth."""

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.pipelines.wan import pipeline_wan_vace
from PIL import Image

from flowpaint import weights
from flowpaint.diffusion import wan
from flowpaint.diffusion.flow_matching import FlowSchedule, FlowUniPC
from flowpaint.diffusion.levels import Level
from flowpaint.diffusion.loading import release
from flowpaint.diffusion.plans import one_window
from flowpaint.diffusion.sampling import sample, sample_frames
from flowpaint.diffusion.vace import VaceRepairer, WanVace
from flowpaint.errors import ConfigError, InputError, ResourceError, ShapeError, WeightsError
from flowpaint.hints import Hinted
from flowpaint.seams import Run
from flowpaint.types import Edit
from hub_cache import REVISION, keep
from tiny_models import save_model
from tiny_wan import save_wan, tiny_pipeline, tiny_schedule, tiny_transformer, tiny_vae

EDIT = Edit(prompt="a bronze hat", negative="dull")
GUIDANCE, STEPS = 3.0, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def pipeline(folder):
    return tiny_pipeline(folder)


@pytest.fixture
def model(folder):
    return WanVace(weights=str(folder))


@pytest.fixture
def repairer(model):
    return VaceRepairer(model=model, num_steps=STEPS, guidance=GUIDANCE)


def pictures(count, height=32, width=48, seed=1):
    """Coloured squares of 8 pixels with grain; values are whole 255ths, as files have them."""
    generator = torch.Generator().manual_seed(seed)
    squares = torch.randint(0, 192, (count, 3, -(-height // 8), -(-width // 8)), generator=generator)
    squares = squares.repeat_interleave(8, dim=-2).repeat_interleave(8, dim=-1)[..., :height, :width]
    return (squares + torch.randint(0, 64, squares.shape, generator=generator)).float() / 255


def patches(count, height=32, width=48, seed=2):
    """A mask that is 0 in the first frame and changes from frame to frame elsewhere, not in whole cells."""
    drawn = torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))
    mask = (torch.nn.functional.avg_pool2d(drawn, 5, stride=1, padding=2) > 0.47).float()
    mask[0] = 0
    return mask


def hinted(count=5, height=32, width=48, *, anchors=1, first=0, **changes):
    mask = patches(count, height, width)
    told = Hinted(
        source=pictures(count, height, width, seed=3),
        warped=torch.where(mask > 0.5, torch.tensor(0.5), pictures(count, height, width)),
        mask=mask,
        anchors=pictures(anchors, height, width, seed=4),
        nearest=(0,) * count,
        frames=tuple(range(first, first + count)),
        edits=(EDIT,) * count,
        controls=(pictures(count, height, width, seed=5),),
    )
    return replace(told, **changes)


def as_images(stack):
    return [Image.fromarray((one.permute(1, 2, 0) * 255).round().byte().numpy()) for one in stack]


# ---------------------------------------------------------------------------------------------------------- against diffusers


def test_conditions_are_those_of_diffusers(model, pipeline):
    video, mask, references = pictures(9), patches(9), pictures(2, seed=4)
    found = model.conditions(video, mask, references)
    given = video[None], mask[None], [as_images(references)]
    theirs = pipeline.preprocess_conditions(*given, 1, 32, 48, 9, torch.float32, torch.device("cpu"))
    with torch.no_grad():
        latents = pipeline.prepare_video_latents(*theirs, None, torch.device("cpu"))
    expected = torch.cat((latents, pipeline.prepare_masks(theirs[1], theirs[2])), dim=1)[0].transpose(0, 1)
    assert found.shape == expected.shape == (2 + 3, 2 * 4 + 64, 4, 6) and found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)
    assert 0.1 < mask[1:].mean() < 0.9 and expected.std(dim=(0, 2, 3)).min() > 0.05, "every channel says something"


def test_words_are_those_of_diffusers(model, pipeline, monkeypatch):
    monkeypatch.setattr(pipeline_wan_vace, "prompt_clean", str.strip)  # its own needs ftfy
    with torch.no_grad():
        expected = pipeline._get_t5_prompt_embeds([EDIT.negative, EDIT.prompt], max_sequence_length=512)
    found = model.embed(EDIT)
    assert found.shape == (2, 512, 16) and torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=0.1)
    said, rows = [], wan._rows
    monkeypatch.setattr(wan, "_rows", lambda *given: said.append(given[2]) or rows(*given))
    spaced = model.embed(Edit(prompt="  a bronze\n hat ", negative="dull"))
    assert torch.equal(spaced, found) and said == [("a bronze hat", "dull")], "whatever the tokenizer makes of white space"
    assert model.embed(Edit())[:, 1:].eq(0).all() and model.embed(Edit())[:, 0].ne(0).any(), "the end of the text alone"


@pytest.mark.parametrize(
    ("solver", "shift", "guidance", "anchors"),
    [("unipc", None, GUIDANCE, 2), ("unipc", 5.0, 1.0, 1), ("euler", None, GUIDANCE, 1), ("euler", 1.0, GUIDANCE, 2)],
)
def test_a_whole_run_is_that_of_diffusers(model, pipeline, solver, shift, guidance, anchors):
    steps = 4
    made = VaceRepairer(model=model, num_steps=steps, guidance=guidance, solver=solver, shift=shift)
    run = Run(seed=7, offset=20)
    told = hinted(5, anchors=anchors, first=4)
    draws = [run.generator(24, -100 - place) for place in reversed(range(anchors))]
    draws += [run.generator(frame) for frame in (24, 25)]  # the first latent frame has one frame, each other one four
    noise = torch.stack([torch.randn(4, 4, 6, generator=one) for one in draws], dim=1)[None]
    # UniPC of order 1 without its corrector is Euler's method
    first_order = {"solver_order": 1, "disable_corrector": list(range(steps))} if solver == "euler" else {}
    pipeline.scheduler = UniPCMultistepScheduler.from_config(tiny_schedule(shift or 3.0).config, **first_order)
    text = model.embed(EDIT)
    theirs = pipeline(
        video=told.warped[None],
        mask=told.mask[None],
        reference_images=as_images(told.anchors),
        prompt_embeds=text[1:],
        negative_prompt_embeds=text[:1],
        height=32,
        width=48,
        num_frames=5,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=noise,
        output_type="np",
    ).frames[0]
    found = made(told, run).pictures
    expected = torch.from_numpy(theirs).permute(0, 3, 1, 2)
    assert torch.allclose(found, expected, atol=2e-4), (found - expected).abs().max()
    assert expected.std() > 0.02 and not torch.allclose(expected, expected.mean(), atol=0.05), "there is something to compare"


# ------------------------------------------------------------------------------------------------------------ rectified flow


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("num_steps", [1, 4, 30])
def test_levels_are_those_of_diffusers(shift, num_steps):
    scheduler = tiny_schedule(shift)
    scheduler.set_timesteps(num_steps)
    steps = FlowSchedule(shift=shift).times(num_steps)
    assert [one.t.t for one in steps] == scheduler.timesteps.tolist()
    sigmas = [*(one.t.sigma for one in steps), steps[-1].t_next.sigma]
    assert sigmas == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
    assert all(one.t.alpha == pytest.approx(1 - one.t.sigma) for one in steps)
    assert [one.t_next for one in steps[:-1]] == [one.t for one in steps[1:]] and steps[-1].t_next == Level(0, 1.0, 0.0)


def test_a_step_of_our_loop_is_eulers():
    steps = FlowSchedule(shift=3.0).times(5)
    target = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    start = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(2))

    def velocity(x, sigma):
        return 0.3 * x + sigma * target

    x = start.double()
    for one in steps:
        x = x + (one.t_next.sigma - one.t.sigma) * velocity(x, one.t.sigma)
    found = sample(lambda x, t: x - t.sigma * velocity(x, t.sigma), start, steps, run=Run())
    assert torch.allclose(found.double(), x, atol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 3, 8])
def test_a_perfect_network_leads_to_the_picture(num_steps):
    picture, noise = torch.full((2, 4, 3, 3), 0.7), torch.randn(2, 4, 3, 3)
    solver = FlowUniPC(schedule=FlowSchedule(shift=3.0), num_steps=num_steps)
    found = sample_frames(lambda _: lambda x, t: picture, noise, solver.times, one_window(2), run=Run(), solver=solver)
    assert torch.allclose(found, picture, atol=1e-4)


def test_the_shift_comes_from_either_kind_of_config():
    assert FlowSchedule.from_config(dict(tiny_schedule(3.0).config)) == FlowSchedule(shift=3.0)
    euler = FlowMatchEulerDiscreteScheduler(shift=7.0, num_train_timesteps=500)
    assert FlowSchedule.from_config({"_class_name": "FlowMatchEulerDiscreteScheduler", **euler.config}) == FlowSchedule(
        num_train=500, shift=7.0
    )
    for config in ({"_class_name": "DDIMScheduler"}, {**tiny_schedule().config, "use_dynamic_shifting": True}):
        with pytest.raises(ConfigError, match="rectified flow"):
            FlowSchedule.from_config(config)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"num_steps": 0}, InputError),
        ({"num_steps": 501}, InputError),
        ({"shift": 0.0}, ConfigError),
        ({"guidance": float("nan")}, ConfigError),
        ({"solver": "heun"}, ConfigError),
        ({"fill": "black"}, ConfigError),
    ],
)
def test_impossible_settings_are_refused_at_once(change, error):
    with pytest.raises(error, match=r"\. .+\."):
        VaceRepairer(**change)


# ------------------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(("count", "height", "width"), [(1, 32, 48), (4, 30, 44), (5, 17, 33), (6, 16, 16)])
def test_any_length_and_size_come_out_as_they_went_in(repairer, count, height, width):
    found = repairer(hinted(count, height, width), Run())
    assert found.pictures.shape == (count, 3, height, width) and found.latents is None
    assert found.pictures.dtype == torch.float32 and found.pictures.min() >= 0 and found.pictures.max() <= 1
    assert found.pictures.std() > 0.02


def test_a_short_window_is_one_whose_last_frame_stands_still(repairer):
    told = hinted(6)
    rows = [0, 1, 2, 3, 4, 5, 5, 5, 5]
    still = replace(
        told,
        source=told.source[rows],
        warped=told.warped[rows],
        mask=told.mask[rows],
        frames=tuple(rows),
        nearest=(0,) * 9,
        edits=(EDIT,) * 9,
        controls=(),
    )
    assert torch.equal(repairer(told, Run()).pictures, repairer(still, Run()).pictures[:6])


def test_equal_seeds_and_frames_give_equal_pictures(repairer):
    first, again, other, later = (
        repairer(hinted(first=start), Run(seed=seed)).pictures for seed, start in ((1, 0), (1, 0), (2, 0), (1, 9))
    )
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 0.005 and (first - later).abs().mean() > 0.005


def test_noise_hangs_on_the_number_in_the_whole_film(repairer):
    shot, film = Run(seed=1, offset=30), Run(seed=1)
    assert torch.equal(repairer(hinted(first=0), shot).pictures, repairer(hinted(first=30), film).pictures)


def test_each_latent_frame_and_reference_has_noise_of_its_own(repairer):
    noise = repairer._noise(hinted(9, anchors=2), Run(seed=1))
    assert all((noise[a] - noise[b]).abs().mean() > 0.5 for a in range(5) for b in range(a))
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 1), (GUIDANCE, 2)])
def test_without_guidance_one_stream_is_run(repairer, guidance, calls):
    seen = []
    network = wan.transformer(repairer.model._source, repairer.model._place("cpu"))
    counting = network.register_forward_hook(lambda *_: seen.append(1))
    try:
        replace(repairer, guidance=guidance)(hinted(1), Run())
    finally:
        counting.remove()
    assert len(seen) == calls * STEPS


def test_guidance_is_the_formula(model):
    text, x = model.embed(EDIT), torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(3))
    told = model.conditions(pictures(1), patches(1), pictures(1, seed=4))
    level = FlowSchedule(shift=3.0).times(5)[2].t
    with torch.no_grad():
        outputs = [
            tiny_transformer()(
                hidden_states=x.transpose(0, 1)[None],
                timestep=torch.tensor([level.t]),
                encoder_hidden_states=row[None],
                control_hidden_states=told.transpose(0, 1)[None],
            ).sample[0].transpose(0, 1)
            for row in text
        ]  # fmt: skip
    guided = outputs[0] + 4.0 * (outputs[1] - outputs[0])
    assert torch.allclose(model.denoiser(text, told, guidance=4.0)(x, level), x - level.sigma * guided, atol=1e-4)
    assert torch.allclose(model.denoiser(text, told, guidance=1.0)(x, level), x - level.sigma * outputs[1], atol=5e-5)
    assert (outputs[0] - outputs[1]).abs().mean() > 1e-3


def test_the_mask_the_warped_pictures_and_the_anchors_are_heard(repairer):
    told = hinted()
    before = repairer(told, Run()).pictures
    changes = {
        "mask": 1 - told.mask,
        "warped": torch.where(told.mask > 0.5, told.warped, 1 - told.warped),
        "anchors": 1 - told.anchors,
    }
    for name, value in changes.items():
        assert (repairer(replace(told, **{name: value}), Run()).pictures - before).abs().mean() > 1e-4, name
    under = replace(told, warped=torch.where(told.mask > 0.5, torch.tensor(0.9), told.warped))
    assert torch.equal(repairer(under, Run()).pictures, before), "what lies under the mask is not shown"
    assert torch.equal(repairer(replace(told, source=1 - told.source, controls=()), Run()).pictures, before)


def test_a_control_scale_of_zero_hears_words_alone(repairer):
    deaf = replace(repairer, model=replace(repairer.model, control_scale=0.0))
    told = hinted()
    other = replace(told, warped=1 - told.warped, mask=1 - told.mask, anchors=1 - told.anchors)
    found = deaf(told, Run()).pictures
    assert torch.equal(found, deaf(other, Run()).pictures)
    assert not torch.equal(found, repairer(told, Run()).pictures)


def test_the_control_map_fills_what_is_not_seen(repairer):
    filling = replace(repairer, fill="control")
    told = hinted()
    plain, filled = repairer(told, Run()).pictures, filling(told, Run()).pictures
    assert (plain - filled).abs().mean() > 1e-5
    by_hand = replace(told, warped=torch.where(told.mask > 0.5, told.controls[0], told.warped))
    gray = replace(told, controls=(torch.full_like(told.warped, 0.5),))
    assert torch.equal(filling(gray, Run()).pictures, plain)
    elsewhere = replace(told, controls=(torch.where(told.mask > 0.5, told.controls[0], torch.tensor(0.1)),))
    assert torch.equal(filling(elsewhere, Run()).pictures, filled), "where something is seen the map is not shown"
    assert torch.equal(filling(by_hand, Run()).pictures, filled)
    for controls in ((), told.controls * 2):
        with pytest.raises(ConfigError, match=rf"{len(controls)} control maps.*\. Give"):
            filling(replace(told, controls=controls), Run())
    with pytest.raises(ShapeError):
        filling(replace(told, controls=(pictures(5, 16, 16),)), Run())


def test_words_that_change_within_a_window_are_said(repairer):
    run, told = Run(), hinted(3)
    mixed = replace(told, edits=(EDIT, EDIT, Edit(prompt="a red hat", negative="dull")))
    found = repairer(mixed, run).pictures
    assert torch.equal(found, repairer(told, Run()).pictures), "those of the first frame"
    (said,) = run.notes.warnings
    assert "a bronze hat" in said and "frames 0 to 2" in said
    quiet = Run()
    repairer(told, quiet)
    assert not quiet.notes.warnings
    other = replace(told, edits=(Edit(prompt="a red hat", negative="dull"),) * 3)
    opposed = replace(told, edits=(Edit(prompt="a bronze hat", negative="red"),) * 3)
    assert not torch.equal(repairer(other, Run()).pictures, found)
    assert not torch.equal(repairer(opposed, Run()).pictures, found)
    assert torch.equal(*(replace(repairer, guidance=1.0)(one, Run()).pictures for one in (told, opposed)))


def test_progress_is_told(repairer):
    seen = []
    repairer(hinted(1), Run(progress=lambda *told: seen.append(told)))
    assert seen == [("denoise", done + 1, STEPS) for done in range(STEPS)]


# --------------------------------------------------------------------------------------------------------------------- model


def test_facts(model):
    assert (model.cell, model.side, model.multiple) == (8, 480, 16)
    assert [model.length(count) for count in (1, 2, 5, 6, 9, 10)] == [1, 5, 5, 9, 9, 13]
    assert model.schedule == FlowSchedule(shift=3.0)
    assert pickle.loads(pickle.dumps(model)) == model and len(pickle.dumps(VaceRepairer())) < 2000
    model.check()
    VaceRepairer(model=model).check()


def test_encoding_and_decoding_are_the_autoencoders(model):
    network, video = tiny_vae(), pictures(5, 30, 44)
    mean, deviation = (torch.tensor(one)[:, None, None] for one in ([-0.3, 0.2, 0.1, -0.1], [0.4, 0.9, 1.3, 0.7]))
    padded = torch.nn.functional.pad(video, (0, 4, 0, 2), mode="replicate") * 2 - 1
    with torch.no_grad():
        plain = network.encode(padded.transpose(0, 1)[None]).latent_dist.mode()
        decoded = network.decode(plain).sample[0].transpose(0, 1)
    latents = model.encode(video)
    assert latents.shape == (2, 4, 4, 6)
    assert torch.allclose(latents, (plain[0].transpose(0, 1) - mean) / deviation, atol=1e-5)
    found = model.decode(latents, (30, 44))
    assert torch.allclose(found, (decoded[..., :30, :44] / 2 + 0.5).clamp(0, 1), atol=1e-5)
    assert model.decode(latents).shape == (5, 3, 32, 48)
    with pytest.raises(ShapeError, match="Repeat its end up to 9"):
        model.encode(pictures(6))
    with pytest.raises(ConfigError, match="Give the size"):
        model.decode(latents, (64, 64))


def test_a_prompt_that_is_too_long_is_cut_and_said(model):
    told = []
    long = Edit(prompt="a" * 509 + "bcdef")
    found = model.embed(long, warn=told.append)
    assert found[1].abs().sum(dim=1).ne(0).all(), "all 512 places are taken"
    (said,) = told
    assert "'cdef' was not read" in said, "with the space before the first word and the end there are 516 tokens"


def test_networks_that_rest_on_the_cpu_say_the_same(repairer):
    resting = replace(repairer, model=replace(repairer.model, offload=True))
    assert resting.model._place("meta").home and resting.model._place("meta").start.type == "cpu"
    assert not repairer.model._place("meta").home
    assert torch.equal(resting(hinted(1), Run()).pictures, repairer(hinted(1), Run()).pictures)


def test_half_precision_is_close(repairer):
    half = replace(repairer, model=replace(repairer.model, dtype="bfloat16"))
    told = hinted()
    found, exact = half(told, Run()).pictures, repairer(told, Run()).pictures
    assert found.dtype == torch.float32 and not torch.equal(found, exact)
    assert (found - exact).abs().mean() < 0.02


def test_tiles_are_a_choice_of_each_call(folder, model):
    wide = pictures(1, 16, 288)
    whole, tiled = model.encode(wide), replace(model, tile=True).encode(wide)
    assert whole.shape == tiled.shape and not torch.equal(whole, tiled) and (whole - tiled).abs().mean() < 0.3
    assert torch.equal(model.encode(wide), whole)


def test_running_out_of_memory_says_what_to_lower(repairer, monkeypatch):
    network = wan.transformer(repairer.model._source, repairer.model._place("cpu"))

    def full(*_, **__):
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(network, "forward", full)
    with pytest.raises(ResourceError, match=r"denoising 9 frames of 48x32\. Take a smaller window \(now 9\), set model\.tile"):
        repairer(hinted(), Run())


def test_networks_are_loaded_once_and_let_go(model):
    place = model._place("cpu")
    first = wan.transformer(model._source, place)
    model.encode(pictures(1))
    assert wan.transformer(replace(model, tile=True)._source, place) is first
    assert not first.training and not any(one.requires_grad for one in first.parameters())
    release()
    assert wan.transformer(model._source, place) is not first


def test_an_unknown_device_is_refused(model):
    with pytest.raises(ConfigError, match="no device 'abacus'"):
        model.embed(EDIT, "abacus")


@pytest.mark.parametrize("change", [{"dtype": "int8"}, {"control_scale": float("inf")}])
def test_values_outside_their_range_are_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        WanVace(**change)


# ------------------------------------------------------------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    found = save_wan(tmp_path_factory.mktemp("shards"), shards=True)
    assert len(list(found.rglob("*-of-*.safetensors"))) > 6 and not (found / "transformer" / weights.UNET_WEIGHTS).exists()
    return found


def test_weights_in_several_files_are_the_same_weights(folder, shards, capfd):
    whole, split = (WanVace(weights=str(at)) for at in (folder, shards))
    for load in (wan.transformer, wan.vae):
        first, second = (load(one._source, one._place("cpu")).state_dict() for one in (whole, split))
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(whole.embed(EDIT), split.embed(EDIT))
    # the last bits of an output hang on where a tensor begins in its file
    found = [VaceRepairer(model=one, num_steps=1)(hinted(1), Run()).pictures for one in (whole, split)]
    assert torch.allclose(*found, atol=1e-4)
    assert not capfd.readouterr().err, "no bars of the libraries"
    assert {one.name for one in weights.WAN_VACE.weights(shards) if one.parent.name != "vae"} == {
        one.name for one in shards.rglob("*-of-*.safetensors")
    }
    assert all(one.suffix == ".safetensors" for one in weights.WAN_VACE.weights(folder)), "and no index"


def test_of_a_repository_the_shards_are_asked_for_too():
    patterns = weights.WAN_VACE.patterns(pickles=False)
    assert "transformer/diffusion_pytorch_model-*.safetensors" in patterns and "text_encoder/model-*.safetensors" in patterns
    assert patterns == weights.WAN_VACE.patterns(pickles=True), "there are no pickles"
    assert not any("-*" in one for one in weights.MODEL.patterns(pickles=True))


def test_a_public_name_is_found_in_the_cache(tmp_path, monkeypatch, shards):
    from flowpaint.weights import fetching

    fetching._snapshot.cache_clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = keep(tmp_path / "hub", "Wan-AI/Wan2.1-VACE-1.3B-diffusers", shards)
    ledger = weights.Ledger()
    with weights.keeping(weights.Policy(offline=True, commercial_only=True), ledger):
        WanVace(weights="wan-vace-1.3b").check()
        (used,) = ledger.to_list()
        assert used["revision"] == REVISION and used["licence"] == "Apache-2.0"
        assert len([name for name in used["sha256"] if "-of-" in name]) == len(list(shards.rglob("*-of-*.safetensors")))
        next(snapshot.glob("transformer/*-00003-of-*")).unlink()
        with pytest.raises(WeightsError, match="not here"):
            WanVace(weights="wan-vace-1.3b").check()
    fetching._snapshot.cache_clear()


def spoiled(folder, to, spoil):
    shutil.copytree(folder, to)
    spoil(to)
    return WanVace(weights=str(to))


def rewrite(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


SPOILS = {
    "no transformer": lambda at: (at / "transformer" / weights.UNET_WEIGHTS).unlink(),
    "no tokenizer": lambda at: shutil.rmtree(at / "tokenizer"),
    "no scheduler": lambda at: (at / "scheduler" / "scheduler_config.json").unlink(),
    "cannot be read": lambda at: (at / "vae" / "config.json").write_text("{"),
    "cannot be read as safetensors": lambda at: (at / "text_encoder" / "model.safetensors").write_bytes(b"\xff" * 4000),
    "has no VACE": lambda at: rewrite(at / "transformer" / "config.json", _class_name="WanTransformer3DModel"),
    "two transformers": lambda at: rewrite(at / "model_index.json", transformer_2=["diffusers", "WanVACETransformer3DModel"]),
    "reads 96 channels": lambda at: rewrite(at / "transformer" / "config.json", vace_in_channels=96),
    "rectified flow": lambda at: rewrite(at / "scheduler" / "scheduler_config.json", prediction_type="epsilon"),
}


@pytest.mark.parametrize("told", SPOILS)
def test_wrong_folders_are_refused_early(folder, tmp_path, told):
    model = spoiled(folder, tmp_path / "wrong", SPOILS[told])
    with pytest.raises((WeightsError, ConfigError), match=told) as caught:
        model.check()
    assert str(caught.value).count(". ") >= 1 and str(caught.value).endswith("."), "two sentences"


SHARD_SPOILS = {
    r"model-00002-of-\d+\.safetensors is missing": lambda at: next(at.glob("transformer/*-00002-of-*")).unlink(),
    "no index of weights": lambda at: (at / "text_encoder" / "model.safetensors.index.json").write_text("{}"),
    "is no index": lambda at: rewrite(at / "text_encoder" / "model.safetensors.index.json", weight_map={"a": "../b.safetensors"}),
    "it names no file": lambda at: rewrite(at / "text_encoder" / "model.safetensors.index.json", weight_map={}),
}


@pytest.mark.parametrize("told", SHARD_SPOILS)
def test_a_split_model_that_is_not_whole_is_refused_early(shards, tmp_path, told):
    with pytest.raises(WeightsError, match=told):
        spoiled(shards, tmp_path / "wrong", SHARD_SPOILS[told]).check()


def test_a_network_that_lacks_tensors_is_refused(folder, tmp_path):
    model = spoiled(folder, tmp_path / "wrong", lambda at: rewrite(at / "transformer" / "config.json", num_layers=4))
    model.check()
    with pytest.raises(WeightsError, match=r"transformer in .* lacks \d+ tensors"):
        VaceRepairer(model=model, num_steps=1)(hinted(1), Run())


def test_another_kind_of_model_and_no_model_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no transformer"):
        WanVace(weights=str(save_model(tmp_path / "sd"))).check()
    with pytest.raises(WeightsError, match=r"No video model was chosen\. Give"):
        WanVace().check()


def test_the_wans_of_the_catalogue():
    for name in ("wan-vace-1.3b", "wan-vace-14b"):
        found = weights.known(name)
        assert found.role == "model" and found.layout is weights.WAN_VACE and found.licence.commercial
    assert np.isclose(weights.known("wan-vace-14b").size, 75e9, rtol=0.01)
