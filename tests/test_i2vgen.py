"""I2VGen-XL and Ctrl-Adapter on tiny random networks of the real classes; diffusers is the independent truth."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, I2VGenXLPipeline, I2VGenXLUNet
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from flowpaint.diffusion.i2vgen import Control, I2vgenXl, begun
from flowpaint.diffusion.i2vgen_networks import unet
from flowpaint.diffusion.levels import noise_levels, to_x0
from flowpaint.diffusion.loading import release
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.sampling import sample
from flowpaint.errors import ConfigError, ShapeError, WeightsError
from flowpaint.networks.ctrl_adapter import Adapter, CtrlAdapter, told
from flowpaint.seams import Run
from flowpaint.types import Edit
from tiny_models import save_i2vgen, save_model, tiny_adapter, tiny_controlnet, tiny_i2vgen_unet, tiny_unet

EDIT = Edit(prompt="a red ball", negative="dull")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_i2vgen(tmp_path_factory.mktemp("i2vgen"))


@pytest.fixture
def model(saved):
    return I2vgenXl(weights=str(saved[0]))


def control(saved, scale=1.0, adapter=None):
    seeing = LatentDiffusion(weights=str(saved[2].parent), controlnets=(str(saved[2]),), control_scale=(scale,))
    return Control(model=seeing, adapter=str(adapter or saved[1]), maps=draw(3, 3, 24, 32).sigmoid(), text=seeing.embed(EDIT))


def picture(height=32, width=32):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(5)).float() / 255


def as_image(one):
    return Image.fromarray((one.permute(1, 2, 0) * 255).round().byte().numpy())


# ---------------------------------------------------------------------------------------------------------- against diffusers


@pytest.fixture(scope="module")
def pipeline(saved):
    folder = saved[0]
    made = I2VGenXLPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae").eval(),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder").eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").eval(),
        feature_extractor=CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor"),
        unet=I2VGenXLUNet.from_pretrained(folder / "unet").eval(),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_a_whole_run_is_that_of_diffusers(model, pipeline, monkeypatch, guidance):
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())  # theirs is by lot
    if not hasattr(pipeline.text_encoder, "text_model"):  # as it was in the versions that the pipeline was written for
        inner = SimpleNamespace(final_layer_norm=pipeline.text_encoder.final_layer_norm)
        monkeypatch.setattr(pipeline.text_encoder, "text_model", inner, raising=False)
    given, noise = picture(), draw(3, 4, 4, 4)
    theirs = pipeline(
        prompt=EDIT.prompt,
        negative_prompt=EDIT.negative,
        image=as_image(given),
        height=32,
        width=32,
        target_fps=8,
        num_frames=3,
        num_inference_steps=3,
        guidance_scale=guidance,
        latents=noise.transpose(0, 1)[None],
        output_type="pt",
    ).frames[0]
    told_eight = replace(model, fps=8)
    first = told_eight.encode(given[None])
    denoise = told_eight.denoiser(told_eight.embed(EDIT), first, told_eight.see(given), guidance=guidance)
    latents = sample(denoise, noise, noise_levels(3, schedule=model.schedule), run=Run())
    found = told_eight.decode(latents)
    assert found.shape == theirs.shape == (3, 3, 32, 32) and theirs.std() > 0.02
    assert torch.allclose(found, theirs, atol=1e-4)
    assert not torch.allclose(replace(model, fps=30).denoiser(told_eight.embed(EDIT), first, told_eight.see(given))(
        noise, model.schedule.level(500)), denoise(noise, model.schedule.level(500)), atol=1e-4)  # fmt: skip


def test_what_is_seen_is_the_middle_square(model):
    wide = picture(32, 48)
    assert torch.equal(model.see(wide), model.see(wide[..., 8:40])) and model.see(wide).shape == (1, 16)
    other = wide.clone()
    other[..., :8] = 0
    assert torch.equal(model.see(other), model.see(wide))


def test_planes_count_the_frames():
    first = draw(1, 4, 2, 3)
    found = begun(first, 5)
    assert found.shape == (1, 4, 5, 2, 3) and torch.equal(found[0, :, 0], first[0])
    assert found[0, :, 1:].flatten(2).std(dim=-1).max() == 0
    assert found[0, 0, 1:, 0, 0].tolist() == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_residuals_come_where_diffusers_takes_them():
    image, text = tiny_unet(), draw(2, 7, 16, seed=1)
    x = draw(2, 4, 9, 7)  # an odd size: sides are rounded up on the way down
    net = tiny_controlnet(image)
    with torch.no_grad():
        skips, middle = net(x, 400, encoder_hidden_states=text, controlnet_cond=draw(2, 3, 72, 56), return_dict=False)
        given = {"down_block_additional_residuals": skips, "mid_block_additional_residual": middle}
        expected = image(x, 400, encoder_hidden_states=text, **given, return_dict=False)[0]
        plain = image(x, 400, encoder_hidden_states=text, return_dict=False)[0]
        with told(image, [*skips, middle]):
            found = image(x, 400, encoder_hidden_states=text, return_dict=False)[0]
        after = image(x, 400, encoder_hidden_states=text, return_dict=False)[0]
    assert torch.allclose(found, expected, atol=1e-5) and not torch.allclose(expected, plain, atol=1e-2)
    assert torch.equal(after, plain)


def test_the_network_is_left_as_it_was_after_an_error():
    video = tiny_i2vgen_unet()
    with pytest.raises(KeyError, match="midway"), told(video, [torch.zeros(3, 1, 1, 1)] * 9):
        raise KeyError("midway")
    with pytest.raises(ConfigError, match="8 skips"), told(video, [torch.zeros(3, 1, 1, 1)] * 8):
        pass
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in video.modules())
    given = {"fps": torch.tensor([8]), "image_latents": draw(1, 4, 3, 2, 2), "image_embeddings": draw(1, 1, 16)}
    with pytest.raises(ShapeError, match="residual"), told(video, [torch.zeros(3, 1, 1, 1)] * 9), torch.no_grad():
        video(draw(1, 4, 3, 2, 2), 5, **given, encoder_hidden_states=draw(1, 7, 16), return_dict=False)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in video.modules())


def test_an_adapter_is_made_of_the_layers_of_diffusers():
    torch.manual_seed(0)
    made = Adapter(64, inner=64, cross=16).eval()
    for mixer in (made.resnets_time_mixer[0], made.transformers_time_mixer[0]):
        mixer.mix_factor.data.normal_()
    layers, sight = SpatioTemporalResBlock(64, 64, 64, 1e-6), TransformerSpatioTemporalModel(1, 64, 64, cross_attention_dim=16)
    layers.spatial_res_block = made.spatial_resnets[0]
    layers.temporal_res_block.load_state_dict(made.temporal_resnets[0].state_dict())
    layers.time_mixer.load_state_dict(made.resnets_time_mixer[0].state_dict())
    sight.time_pos_embed = made.transformer_time_embedding
    for theirs, ours in (
        (sight.norm, made.norm),
        (sight.proj_in, made.proj_in),
        (sight.proj_out, made.proj_out),
        (sight.transformer_blocks[0], made.spatial_attentions[0]),
        (sight.temporal_transformer_blocks[0], made.temporal_attentions[0]),
        (sight.time_mixer, made.transformers_time_mixer[0]),
    ):
        theirs.load_state_dict(ours.state_dict())
    x, image, clips = draw(6, 64, 2, 5), draw(1, 2, 16, seed=1), torch.zeros(2, 3)
    with torch.no_grad():
        when = made.resnet_time_embedding(made.resnet_time_proj(torch.tensor([321])))
        hidden = layers.eval()(x, when.expand(6, -1), clips)
        expected = sight.eval()(hidden, image.expand(6, -1, -1), clips, return_dict=False)[0]
        found = made(x, torch.tensor(321), image, 3)
    assert torch.allclose(found, expected, atol=1e-5) and not torch.allclose(found, x, atol=0.1)
    with torch.no_grad():
        assert not torch.allclose(made(x, torch.tensor(900), image, 3), found, atol=1e-4)


def test_the_published_size():
    channels = (*(320,) * 4, 640, 640, 640, *(1280,) * 5, 1280)
    with torch.device("meta"):
        network = CtrlAdapter(channels, inner=512, cross=1024)
    size = 4 * sum(one.numel() for one in network.parameters())
    assert size / 1e9 == pytest.approx(2.35, abs=0.01), "that of the published file in float32, in GB"


# -------------------------------------------------------------------------------------------------------------- the adapter


def test_reads_its_own_file(saved, tmp_path):
    read = CtrlAdapter.read(saved[1])
    assert read.channels == (32, 32, 32, 32, 32, 64, 64, 64, 64)
    written = load_file(saved[1])
    assert all(torch.equal(one, written[name]) for name, one in read.state_dict().items())
    state = tiny_adapter().state_dict()
    broken = tmp_path / "broken.safetensors"
    save_file({name: one for name, one in state.items() if not name.startswith("mid_block_adapter.proj_out")}, broken)
    with pytest.raises(WeightsError, match=r"no whole Ctrl-Adapter.*proj_out"):
        CtrlAdapter.read(broken)
    save_file({"weight": torch.zeros(2)}, broken)
    with pytest.raises(WeightsError, match=r"Give the file of one"):
        CtrlAdapter.read(broken)


def test_leads_through_the_adapter(model, saved):
    first, image, text = draw(1, 4, 3, 4), draw(1, 16), model.embed(EDIT)
    x, level = draw(3, 4, 3, 4, seed=1), model.schedule.level(700)
    plain = model.denoiser(text, first, image)(x, level)
    whole = model.denoiser(text, first, image, control=control(saved))(x, level)
    half = model.denoiser(text, first, image, control=control(saved, 0.5))(x, level)
    off = model.denoiser(text, first, image, control=control(saved, 0.0))(x, level)
    assert torch.equal(off, plain) and not torch.allclose(whole, plain, atol=1e-3) and not torch.allclose(whole, half, atol=1e-4)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in unet(model._source, model._place("cpu")).modules())


def test_guidance_weighs_both_rows(model):
    """u + s (c - u), the rows of one clip as the network alone gives them."""
    first, image, text = draw(1, 4, 3, 4), draw(1, 16), model.embed(EDIT)
    x, level = draw(3, 4, 3, 4, seed=1), model.schedule.level(700)
    network, clip = unet(model._source, model._place("cpu")), x.transpose(0, 1)[None]
    with torch.no_grad():
        u, c = (
            network(clip, 700, fps=torch.tensor([16]), image_latents=begun(first, 3), image_embeddings=seen,
                    encoder_hidden_states=text[row : row + 1], return_dict=False)[0][0].transpose(0, 1)
            for row, seen in ((0, torch.zeros(1, 1, 16)), (1, image[None]))
        )  # fmt: skip
    found = model.denoiser(text, first, image, guidance=9.0)(x, level)
    torch.testing.assert_close(found, to_x0(u + 9 * (c - u), x, level, "v"), atol=1e-3, rtol=1e-4)
    alone = model.denoiser(text, first, image, guidance=1.0)(x, level)
    torch.testing.assert_close(alone, to_x0(c, x, level, "v"), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(model.denoiser(text, first, image, rescale=0.7)(x, level), found, atol=1e-3)


# -------------------------------------------------------------------------------------------------------------- what is wrong


def test_what_does_not_fit_is_told(model, saved, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    save_file(tiny_adapter((32,) * 9).state_dict(), wrong)
    denoise = model.denoiser(model.embed(EDIT), draw(1, 4, 3, 4), draw(1, 16), control=control(saved, adapter=wrong))
    with pytest.raises(ConfigError, match="made for residuals"):
        denoise(draw(3, 4, 3, 4), model.schedule.level(700))
    with pytest.raises(WeightsError, match="Ctrl-Adapter"):
        control(saved, adapter=tmp_path / "none.safetensors").check()
    bare = replace(control(saved).model, controlnets=(), control_scale=())
    with pytest.raises(ConfigError, match="0 ControlNets for one Ctrl-Adapter"):
        Control(model=bare, adapter=str(saved[1]), maps=draw(1, 3, 8, 8), text=draw(2, 1, 1)).check()
    with pytest.raises(WeightsError, match=r"No video model"):
        I2vgenXl().check()
    with pytest.raises(WeightsError, match=r"no feature_extractor|no image_encoder"):
        I2vgenXl(weights=str(save_model(tmp_path / "image"))).check()
    with pytest.raises(ConfigError, match="fps"):
        I2vgenXl(fps=0)


def test_networks_are_let_go(model):
    place = model._place("cpu")
    before = unet(model._source, place)
    assert before is unet(model._source, place)
    release()
    assert before is not unet(model._source, place)
