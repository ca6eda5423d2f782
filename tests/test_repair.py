"""Repairers and what they stand on: a third stream of the batch, guidance taken back, models written as differences."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from flowpaint.diffusion.bound import Pace
from flowpaint.diffusion.denoising import SourceStream
from flowpaint.diffusion.hooked import Hooks, State, during, hooked, sites
from flowpaint.diffusion.levels import add_noise
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.repair import ImageRepairer, TrainedRepairer
from flowpaint.diffusion.sampling import frame_noise
from flowpaint.errors import WeightsError
from flowpaint.hints import Hinted
from flowpaint.networks.difference import write_difference
from flowpaint.networks.temporal import look_back
from flowpaint.networks.video_unet import VideoUNet
from flowpaint.seams import Run
from flowpaint.types import Edit
from tiny_models import save_controlnet, save_model, save_video_model, tiny_unet


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_video_model(tmp_path_factory.mktemp("tiny") / "video")


@pytest.fixture(scope="module")
def model(folder):
    return LatentDiffusion(weights=str(folder), own_control=False)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    return LatentDiffusion(weights=str(save_model(tmp_path_factory.mktemp("tiny") / "image")))


def hinted(frames=3, **more):
    """A window of 64x64 whose frames after the first are half hidden."""
    source = draw(frames, 3, 64, 64, seed=1).sigmoid()
    mask = torch.zeros(frames, 1, 64, 64)
    mask[1:, :, :, 32:] = 1
    anchor = 1 - source[:1]
    warped = torch.where(mask > 0, 0.5, anchor)
    told = Hinted(
        source=source, warped=warped, mask=mask, anchors=anchor, nearest=(0,) * frames, frames=tuple(range(frames)),
        edits=(Edit(prompt="a dog"),) * frames,
    )  # fmt: skip
    return replace(told, **{"plain": replace(told, warped=torch.where(mask > 0, 0.5, source[:1]), anchors=source[:1]), **more})


# ---------------------------------------------------------------------------------------------------------- the third stream


def test_the_source_runs_beside_and_changes_nothing_by_itself(model):
    text, x, concat = model.embed(Edit(prompt="a dog")), draw(3, 4, 8, 8), draw(3, 9, 8, 8, seed=1)
    source = SourceStream(latents=lambda level: draw(3, 4, 8, 8, seed=int(level.t)), text=text[:1], steps=2, concat=-concat)
    plain = model.denoiser(text, concat=concat)(x, 500)
    seen = []

    def look(q, k, v, site, state):
        seen.append((state.streams, q.shape[0]))

    beside = model.denoiser(text, concat=concat, source=source)
    with hooked(model, Hooks(attention=look)):
        found = [torch.zeros(0)] * 2
        for step in (0, 2):
            with during(State(step=step, num_steps=3)):
                found[step // 2] = beside(x, 500)
    for one in found:
        torch.testing.assert_close(one, plain, atol=2e-5, rtol=0)
    assert {one for one, _ in seen} == {("source", "uncond", "cond"), ("uncond", "cond")}
    assert all(len(streams) == count for streams, count in seen)


def test_the_source_is_told_its_own_latents_words_and_hints(model):
    text, x, concat = model.embed(Edit(prompt="a dog")), draw(3, 4, 8, 8), draw(3, 9, 8, 8, seed=1)
    words, latents, own = model.embed(Edit(prompt="cat"))[1:], draw(3, 4, 8, 8, seed=7), draw(3, 9, 8, 8, seed=8)
    heard = []

    def record(_module, args, kwargs, output):
        heard.append((args[0], kwargs["encoder_hidden_states"], output[0]))

    handle = model.unet().register_forward_hook(record, with_kwargs=True)
    try:
        source = SourceStream(latents=lambda _: latents, text=words, steps=1, concat=own)
        model.denoiser(text, concat=concat, source=source)(x, 500)
    finally:
        handle.remove()
    rows, said, output = heard[0]
    assert rows.shape == (9, 13, 8, 8) and len(said) == 9
    assert torch.equal(rows[:3], torch.cat((latents, own), dim=1)) and torch.equal(rows[3:6], torch.cat((x, concat), dim=1))
    assert torch.equal(said[:3], words.expand(3, -1, -1)) and torch.equal(said[6:], text[1:].expand(3, -1, -1))
    alone = model.unet()(rows[:3], 500, words, num_frames=3).sample
    torch.testing.assert_close(output[:3], alone, atol=2e-5, rtol=0)


def test_queries_and_keys_of_the_source_are_put_into_the_decoder_but_its_first_layer(model, monkeypatch):
    from flowpaint.diffusion import repair

    network = model.unet()
    hooks = repair._injecting(network)
    chosen = [site for site in sites(network) if site.kind == "attention" and hooks.attention_at(site)]
    decoder = [site for site in sites(network) if site.kind == "attention" and site.stage == "up"]
    assert chosen == decoder[1:] and len(decoder) > 2
    q, k, v = (draw(3, 4, 2, 5, 6, seed=seed) for seed in range(3))
    out = hooks.attention(q, k, v, chosen[0], State(streams=("source", "uncond", "cond")))
    for stream in range(3):
        assert torch.allclose(out[stream], look_back(q[:1], k[:1], v[stream : stream + 1])[0], atol=1e-6)
    assert hooks.attention(q, k, v, chosen[0], State(streams=("uncond", "cond"))) is None


def test_the_inverted_source_leads_back_to_itself(model):
    """What is injected at the last step is the source: inversion ends where sampling of the same network would come from."""
    told = hinted()
    repairer = TrainedRepairer(model=model, pace=Pace(num_steps=30), inject="inverted", injected=1.0)
    from flowpaint.diffusion.translate import walk

    times = walk(model.schedule, "ddim", 30, 1.0).times
    noise = frame_noise(Run(), told.frames, draw(3, 4, 8, 8))
    source = repairer._source(told, noise, times, Run())
    encoded = model.encode(told.source)
    near, far = source.latents(times[-1].t), source.latents(times[0].t)
    assert source.steps == 30
    torch.testing.assert_close(near, times[-1].t.alpha * encoded, atol=times[-1].t.sigma * 4, rtol=0)
    assert torch.isfinite(far).all() and not torch.equal(far, noise)
    noised = replace(repairer, inject="noised")._source(told, noise, times, Run())
    assert torch.equal(noised.latents(times[3].t), add_noise(encoded, times[3].t, noise))


# ------------------------------------------------------------------------------------------------------------- guidance


def test_guidance_is_taken_back_to_the_spread_of_the_prompts_row(model):
    text, x, concat = model.embed(Edit(prompt="a dog")), draw(3, 4, 8, 8), draw(3, 9, 8, 8, seed=1)
    said = {}
    for rescale in (0.0, 0.5, 1.0):
        denoise = model.denoiser(text, concat=concat, guidance=6.0, rescale=rescale)
        level = denoise.schedule.level(500)
        said[rescale] = (level.alpha * x - denoise(x, 500)) / level.sigma  # v of x0
    cond = model.denoiser(text, concat=concat, guidance=1.0)
    level = cond.schedule.level(500)
    spread = ((level.alpha * x - cond(x, 500)) / level.sigma).std(dim=(1, 2, 3))
    torch.testing.assert_close(said[1.0].std(dim=(1, 2, 3)), spread, rtol=1e-3, atol=0)
    assert (said[0.0].std(dim=(1, 2, 3)) > 1.001 * spread).all()
    torch.testing.assert_close(said[0.5], (said[0.0] + said[1.0]) / 2, atol=2e-5, rtol=0)


# ------------------------------------------------------------------------------------------------------------- repairers


def test_a_hint_that_is_not_heard_does_not_count(model):
    told = hinted()
    deaf = TrainedRepairer(model=model, pace=Pace(num_steps=2), heard=())
    other = replace(told, warped=told.warped.flip(-1), anchors=told.anchors.flip(-1))
    assert torch.equal(deaf(told, Run()).pictures, deaf(other, Run()).pictures)
    for name in ("warp", "first", "mask"):
        alone = replace(deaf, heard=(name,))
        changed = replace(other, mask=1 - told.mask) if name == "mask" else other
        assert not torch.equal(alone(told, Run()).pictures, alone(changed, Run()).pictures), name


def test_latents_that_are_known_stand_for_those_of_anchors(model):
    told, repairer = hinted(), TrainedRepairer(model=model, pace=Pace(num_steps=2))
    plain = repairer(told, Run())
    own = model.encode(told.anchors)[0]
    assert torch.equal(plain.pictures, repairer(replace(told, latents={0: own}), Run()).pictures)
    assert not torch.equal(plain.pictures, repairer(replace(told, latents={0: own + 1}), Run()).pictures)
    torch.testing.assert_close(model.decode(plain.latents, (64, 64)), plain.pictures)


def test_a_frame_that_is_repeated_starts_from_the_same_noise(model):
    noise = frame_noise(Run(), (4, 5, 5), draw(3, 4, 8, 8))
    assert torch.equal(noise[1], noise[2]) and not torch.equal(noise[0], noise[1])


def test_an_image_model_is_held_to_what_is_seen_and_begins_from_the_sources_colours_where_nothing_is(image_model):
    told = hinted()
    held = ImageRepairer(model=image_model, pace=Pace(num_steps=4, guidance=1.0), held=1.0, strength=0.75)
    seen = image_model.encode(told.warped)
    found = held(told, Run())
    assert (found.latents - seen)[..., :3].abs().mean() < 0.05  # the autoencoder sees a little of the other half, too
    free = replace(held, held=0.0)(told, Run())
    assert (free.latents - seen)[..., :3].abs().mean() > 3 * (found.latents - seen)[..., :3].abs().mean()
    filled = held._filled(told)
    assert torch.equal(filled[told.mask.expand_as(filled) == 0], told.warped[told.mask.expand_as(filled) == 0])
    inverted = (1 - told.source)[1:, :, :, 32:]
    assert (filled[1:, :, :, 32:] - inverted).abs().mean() < 0.02  # the edit of frame 0 is to invert colours


def test_frames_of_an_image_model_look_at_the_first(image_model):
    told = hinted()
    repairer = ImageRepairer(model=image_model, pace=Pace(num_steps=2), held=0.0)
    first = repairer(told, Run()).latents
    other = torch.cat((1 - told.warped[:1], told.warped[1:]))
    second = repairer(replace(told, warped=other), Run()).latents
    assert (first[2] - second[2]).abs().max() > 1e-4


# ------------------------------------------------------------------------------------------------- models as differences


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("tiny") / "base", "2")
    save_controlnet(folder / "controlnet", tiny_unet("2"))
    return folder


@pytest.fixture
def changed(base, folder, tmp_path):
    from diffusers import ControlNetModel

    networks = {
        "unet": VideoUNet.from_pretrained(folder / "unet"), "controlnet": ControlNetModel.from_pretrained(folder / "controlnet"),
    }  # fmt: skip
    write_difference(networks, tmp_path / "changed", base)
    return tmp_path / "changed"


@pytest.mark.slow
def test_a_difference_is_a_model(changed, folder):
    model, whole = (LatentDiffusion(weights=str(one)) for one in (changed, folder))
    model.check()
    assert model.binds_frames and model.channels == 4 and model.own_controlnet == str(changed / "controlnet")
    controlled = [replace(one, controlnets=(one.own_controlnet,)) for one in (model, whole)]
    text, x, concat = model.embed(Edit(prompt="a dog")), draw(3, 4, 8, 8), draw(3, 9, 8, 8, seed=1)
    maps = [draw(3, 3, 64, 64, seed=2).sigmoid()]
    a, b = (one.denoiser(text, maps, concat=concat)(x, 500) for one in controlled)
    state = load_file(changed / "unet" / "difference.safetensors")
    assert 0 < len(state) < len(model.unet().state_dict())
    # float16 on the way; the schedules differ: only the whole one has its own
    plain = controlled[1].denoiser(text, maps, concat=concat).schedule
    assert plain != model.schedule
    assert a.shape == b.shape and torch.isfinite(a).all()
    for name, weight in whole.unet().state_dict().items():
        torch.testing.assert_close(model.unet().state_dict()[name], weight, atol=2e-3, rtol=2e-3)


def test_a_difference_without_its_base_says_which(changed, base):
    table = changed / "difference.json"
    told = json.loads(table.read_text("utf-8"))
    assert told["base"] == str(base)
    table.write_text(json.dumps({**told, "base": str(base) + "-gone"}), "utf-8")
    with pytest.raises(WeightsError, match="which is not here"):
        LatentDiffusion(weights=str(changed)).check()
    (changed / "unet" / "difference.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"difference\.safetensors"):
        LatentDiffusion(weights=str(changed)).check()
