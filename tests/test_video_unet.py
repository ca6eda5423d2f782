"""The inflated network: at zero it is the stock one, and each new layer sees the frames that the paper says."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from flowpaint.diffusion.denoising import Conditions, Denoiser, Networks
from flowpaint.diffusion.hooked import Hooks, State, during, hooked, sites
from flowpaint.diffusion.levels import Schedule, to_x0
from flowpaint.errors import ConfigError, ShapeError
from flowpaint.networks.temporal import FirstAndPrevious, TemporalAttention, frame_positions, look_back
from flowpaint.networks.video_unet import VideoUNet, WidenedConv, widened
from flowpaint.weights import MODEL, model_folder
from tiny_models import save_lora, tiny_controlnet, tiny_unet, with_ip_adapter

CHANNELS = {"1": 4, "2": 4, "mini": 16}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stock(family):
    if family == "mini":
        return UNet2DConditionModel.from_pretrained(
            model_folder("mini", MODEL, setting="model.weights") / "unet", local_files_only=True
        ).eval()
    return tiny_unet(family)


def woken(network, scale=0.2):
    """The network with its new tensors at random."""
    names = network.new_names
    with torch.no_grad():
        for number, (name, value) in enumerate(network.named_parameters()):
            if name in names:
                value.copy_(scale * draw(*value.shape, seed=number))
    return network


def one_block(**more):
    """A UNet with a single transformer block, in its middle, unless `more` says otherwise."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 16}
    return UNet2DConditionModel(sample_size=8, attention_head_dim=2, **{**kinds, **sizes, **more}).eval()


def inputs(channels=13, rows=5, side=8, width=16):
    return draw(rows, channels, side, side + 8, seed=1), draw(1, 7, width, seed=2)


def run(network, x, text, num_frames):
    with torch.no_grad():
        return network(x, 651, text, num_frames=num_frames).sample


def influence(network, x, text, num_frames, row):
    """The rows of x on which row `row` of the output depends."""
    x = x.clone().requires_grad_(True)
    out = network(x, 651, text, num_frames=num_frames).sample[row]
    (out * draw(*out.shape, seed=9)).sum().backward()
    return {number for number, one in enumerate(x.grad) if one.abs().max() > 0}


# ------------------------------------------------------------------------------------------------------------ the image model


HALF = [(family, dtype) for family in "12" for dtype in (torch.float16, torch.bfloat16)]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "dtype"), [*((family, torch.float32) for family in CHANNELS), *HALF])
def test_one_frame_is_the_stock_network_bit_by_bit(family, dtype):
    unet = stock(family).to(dtype)
    video, channels = VideoUNet.inflated(unet), CHANNELS[family]
    assert video.config.in_channels == 3 * channels + 1
    x, text = (one.to(dtype) for one in inputs(3 * channels + 1, width=unet.config.cross_attention_dim))
    with torch.no_grad():
        expected = unet(x[:1, :channels], 651, text).sample
        assert video(x[:1], 651, text, num_frames=1).sample.dtype == dtype
    assert torch.isfinite(expected).all()
    assert torch.equal(run(video, x[:1], text, 1), expected)
    with torch.no_grad():  # several clips of one frame
        assert torch.equal(run(video, x, text.expand(5, -1, -1), 1), unet(x[:, :channels], 651, text.expand(5, -1, -1)).sample)
    if dtype == torch.float16:
        assert torch.isfinite(run(woken(video), x, text, 5)).all()


@pytest.mark.parametrize("family", CHANNELS)
def test_equal_frames_are_the_image_again(family):
    unet = stock(family)
    x, text = inputs(3 * CHANNELS[family] + 1, width=unet.config.cross_attention_dim)
    clip = x[:1].expand(5, -1, -1, -1)
    with torch.no_grad():
        expected = unet(x[:1, : CHANNELS[family]], 651, text).sample
    torch.testing.assert_close(run(VideoUNet.inflated(unet), clip, text, 5), expected.expand(5, -1, -1, -1), rtol=0, atol=2e-5)


def test_the_stock_tensors_keep_their_names():
    unet, other = tiny_unet(), tiny_unet(seed=5)
    video = VideoUNet.inflated(unet)
    told = video.load_state_dict(other.state_dict(), strict=False)
    assert set(told.missing_keys) == video.new_names and not told.unexpected_keys
    x, text = inputs()
    with torch.no_grad():
        assert torch.equal(run(video, x[:1], text, 1), other(x[:1, :4], 651, text).sample)
    blocks = sum(name.endswith("temporal.to_q.weight") for name in video.new_names)
    assert blocks == sum(name.endswith("attn1.processor") for name in unet.attn_processors) == 10
    assert len(video.new_names) == 1 + 7 * blocks


def test_stable_diffusion_grows_by_what_the_layers_weigh():
    with torch.device("meta"):  # as diffusers makes a network whose weights it is about to read
        video = VideoUNet(in_channels=13, cross_attention_dim=768, sample_size=64)
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    widths = [320] * 5 + [640] * 5 + [1280] * 6
    added = sum(4 * width**2 + 3 * width for width in widths) + 9 * 320 * 9  # without biases but the norm's and the output's
    assert video.num_parameters() - unet.num_parameters() == added == 49_624_960


def test_the_stock_network_is_left_alone():
    unet = tiny_unet()
    before = copy.deepcopy(unet.state_dict())
    video = woken(VideoUNet.inflated(unet))
    with torch.no_grad():
        for value in video.parameters():
            value.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert not any(isinstance(one, FirstAndPrevious) for one in unet.attn_processors.values())
    assert not video.training and VideoUNet.inflated(unet.train()).training


# --------------------------------------------------------------------------------------- attention to the first and the previous


@pytest.mark.parametrize("num_frames", [1, 2, 3, 6])
def test_keys_are_those_of_the_first_and_the_previous_frame(num_frames):
    q, k, v = (draw(2, num_frames, 3, 5, 4, seed=seed).double() for seed in (1, 2, 3))
    found = look_back(q, k, v)
    for stream in range(2):
        for i in range(num_frames):  # Eq. 3, with both keys even where they are of the same frame
            keys = torch.cat((k[stream, 0], k[stream, max(i - 1, 0)]), dim=1)
            values = torch.cat((v[stream, 0], v[stream, max(i - 1, 0)]), dim=1)
            weights = (q[stream, i] @ keys.transpose(1, 2) / 4**0.5).softmax(dim=-1)
            torch.testing.assert_close(found[stream, i], weights @ values)


def test_a_frame_sees_the_first_the_previous_and_itself_in_one_block():
    video = VideoUNet.inflated(one_block())
    x, text = inputs(rows=6)
    for i in (0, 1, 2, 5):
        assert influence(video, x, text, 6, i) == {0, max(i - 1, 0), i}


def test_without_attention_along_time_no_frame_sees_a_later_one():
    video = VideoUNet.inflated(tiny_unet())
    x, text = inputs()
    assert influence(video, x, text, 5, 3) == {0, 1, 2, 3}
    before, changed = run(video, x, text, 5), x.clone()
    changed[3] += 1
    after = run(video, changed, text, 5)
    assert torch.equal(after[:3], before[:3])
    assert not torch.allclose(after[4], before[4], atol=1e-4)


def test_no_mask_goes_between_frames():
    video = VideoUNet.inflated(one_block())
    x, text = inputs()
    with pytest.raises(ConfigError, match="attention_mask"):
        video(x, 651, text, num_frames=5, attention_mask=torch.ones(5, 128))


# -------------------------------------------------------------------------------------------------------- attention along time


@pytest.mark.parametrize("position", ["sinusoidal", "none"])
def test_attention_along_time_is_that_of_every_place_for_itself(position):
    torch.manual_seed(0)
    layer = TemporalAttention(12, 3, position).double()
    with torch.no_grad():
        layer.to_out.weight.copy_(draw(12, 12, seed=4))
        layer.to_out.bias.copy_(draw(12, seed=5))
    tokens = draw(2 * 4, 6, 12, seed=6).double()
    with torch.no_grad():
        found = layer(tokens, 4)
        for stream in range(2):
            clip = tokens[4 * stream : 4 * stream + 4]
            for place in range(6):
                seen = F.layer_norm(clip[:, place], (12,), layer.norm.weight, layer.norm.bias)
                if position == "sinusoidal":
                    seen = seen + frame_positions(4, 12).double()
                weights = torch.cat((layer.to_q.weight, layer.to_k.weight, layer.to_v.weight))
                expected, _ = F.multi_head_attention_forward(
                    *(seen[:, None],) * 3, 12, 3, weights, None, None, None, False, 0.0, layer.to_out.weight, layer.to_out.bias
                )
                torch.testing.assert_close(found[4 * stream : 4 * stream + 4, place], clip[:, place] + expected[:, 0])


def test_frames_are_told_by_sines():
    told = frame_positions(32, 16)
    assert told.shape == (32, 16)
    torch.testing.assert_close(told[:, 0], torch.arange(32.0).sin())
    torch.testing.assert_close(told[:, 1], torch.arange(32.0).cos())
    torch.testing.assert_close(told[:, 15], (torch.arange(32.0) / 10000 ** (14 / 16)).cos())
    likeness = told @ told.T  # depends on the distance of two frames alone
    torch.testing.assert_close(likeness[1:, 1:], likeness[:-1, :-1], rtol=0, atol=1e-5)
    assert (likeness.diagonal() > likeness.diagonal(1).max() + 0.1).all()


def test_attention_along_time_mixes_all_frames_of_a_clip():
    video = woken(VideoUNet.inflated(one_block()))
    x, text = inputs(rows=6)
    for i in (0, 3, 5):
        assert influence(video, x, text, 6, i) == set(range(6))


@pytest.mark.parametrize("position", ["sinusoidal", "none"])
def test_where_a_frame_is_counts_only_where_it_is_told(position):
    layer = TemporalAttention(8, 2, position)
    with torch.no_grad():
        layer.to_out.weight.copy_(draw(8, 8, seed=4))
        tokens, order = draw(5, 3, 8, seed=6), torch.tensor([3, 0, 4, 1, 2])
        same = torch.allclose(layer(tokens[order], 5), layer(tokens, 5)[order], atol=1e-6)
    assert same == (position == "none")
    unet = tiny_unet()
    x, text = inputs(rows=5)
    video = VideoUNet.inflated(unet, position=position, max_frames=4)
    if position == "none":
        assert run(video, x, text, 5).shape == (5, 4, 8, 16)
    else:
        assert run(video, x[:4], text, 4).shape == (4, 4, 8, 16)
        with pytest.raises(ConfigError, match="5 frames"):
            run(video, x, text, 5)


# ----------------------------------------------------------------------------------------------------------- streams and layouts


def test_streams_never_mix():
    video = woken(VideoUNet.inflated(one_block()))
    x, text = inputs(rows=6)[0], draw(6, 7, 16, seed=2)
    assert influence(video, x, text, 3, 4) == {3, 4, 5}
    before, changed = run(video, x, text, 3), x.clone()
    changed[:3] += 1
    after = run(video, changed, text, 3)
    assert torch.equal(after[3:], before[3:])
    assert not torch.allclose(after[:3], before[:3], atol=1e-3)
    torch.testing.assert_close(before[3:], run(video, x[3:], text[3:], 3), rtol=0, atol=2e-5)


def test_layouts_say_the_same():
    video = woken(VideoUNet.inflated(one_block()))
    x, text, times = draw(6, 13, 8, 8, seed=1), draw(2, 7, 16, seed=2), torch.tensor([651, 20])
    with torch.no_grad():
        clips = video(x.unflatten(0, (2, 3)), times, text).sample
        assert clips.shape == (2, 3, 4, 8, 8)
        rows = text.repeat_interleave(3, dim=0)
        for given in (text, rows, rows.unflatten(0, (2, 3))):
            for t in (times, times.repeat_interleave(3)):
                (found,) = video(x, t, given, num_frames=3, return_dict=False)
                assert torch.equal(found, clips.flatten(0, 1))
        alone = video(x[3:], 20, text[1:], num_frames=3).sample
        torch.testing.assert_close(alone, clips[1], rtol=0, atol=2e-5)
        assert torch.equal(video(x[3:], torch.tensor(20), text[1:], num_frames=3).sample, alone)


@pytest.mark.parametrize(
    ("shape", "num_frames"), [((6, 13, 8, 8), 0), ((6, 13, 8, 8), 4), ((2, 3, 13, 8, 8), 2), ((6, 13, 8, 8), -1)]
)
def test_frames_that_are_not_told_or_do_not_fit_are_refused(shape, num_frames):
    video = VideoUNet.inflated(one_block())
    with pytest.raises(ShapeError, match=f"{num_frames} frames"):
        video(torch.zeros(shape), 1, torch.zeros(6, 7, 16), num_frames=num_frames)


# ----------------------------------------------------------------------------------------------------------------- the input


def test_a_widened_convolution_is_one_of_all_channels():
    torch.manual_seed(0)
    layer = WidenedConv(4, 9, 6, 3)
    x = draw(2, 13, 7, 8, seed=1)
    with torch.no_grad():
        assert torch.equal(layer(x), F.conv2d(x[:, :4], layer.weight, layer.bias, padding=1))
        layer.more.weight.copy_(draw(6, 9, 3, 3, seed=2))
        whole = F.conv2d(x, torch.cat((layer.weight, layer.more.weight), dim=1), layer.bias, padding=1)
        torch.testing.assert_close(layer(x), whole)


def test_new_channels_count_once_their_weights_are_set():
    video = VideoUNet.inflated(one_block())
    x, text = inputs()
    before, changed = run(video, x, text, 5), x.clone()
    changed[:, 4:] += 1
    assert torch.equal(run(video, changed, text, 5), before)
    for channel in (0, 8):  # the first and the last of the nine
        with torch.no_grad():
            video.conv_in.more.weight.zero_()
            video.conv_in.more.weight[:, channel] = 0.1
        changed = x.clone()
        changed[:, 4 + channel] += 1
        assert not torch.allclose(run(video, changed, text, 5), run(video, x, text, 5), atol=1e-4)
        changed = x.clone()
        changed[:, 5:12] += 1
        assert torch.equal(run(video, changed, text, 5), run(video, x, text, 5))


def test_another_number_of_channels_may_be_joined():
    video = VideoUNet.inflated(tiny_unet(in_channels=9), joined=3)
    assert (video.config.in_channels, video.config.image_channels) == (12, 9)
    assert run(video, draw(2, 12, 8, 8), draw(1, 7, 16), 2).shape == (2, 4, 8, 8)


# --------------------------------------------------------------------------------------------------------------- the ControlNet


@pytest.mark.parametrize("family", ["1", "2"])
def test_a_widened_controlnet_is_the_old_one(family):
    network = tiny_controlnet(tiny_unet(family))
    wide = widened(network, 13)
    assert type(wide) is type(network) and wide.config.in_channels == 13
    x, text, control = draw(3, 13, 8, 16), draw(3, 7, 16, seed=1), draw(3, 3, 64, 128, seed=2).sigmoid()
    with torch.no_grad():
        expected = network(x[:, :4], 651, text, control, return_dict=False)
        found = wide(x, 651, text, control, return_dict=False)
        for a, b in zip((*expected[0], expected[1]), (*found[0], found[1]), strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=1e-6)
        wide.conv_in.weight[:, 12] = 0.1
        x[:, 12] += 1
        assert not torch.allclose(wide(x, 651, text, control, return_dict=False)[1], expected[1], atol=1e-4)
    assert widened(network.half(), 13).dtype == torch.float16
    with pytest.raises(ConfigError, match="cannot be widened to 3"):
        widened(network, 3)


# ---------------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_a_folder_gives_back_every_bit(tmp_path, dtype, caplog):
    video = woken(VideoUNet.inflated(one_block(use_linear_projection=True), position="none", max_frames=7)).to(dtype)
    video.save_pretrained(tmp_path)
    again = VideoUNet.from_pretrained(tmp_path, torch_dtype=dtype)
    assert type(again) is VideoUNet
    assert (again.config.position, again.config.max_frames, again.config.image_channels) == ("none", 7, 4)
    assert again.state_dict().keys() == video.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in video.state_dict().items())
    x, text = (one.to(dtype) for one in inputs())
    assert torch.equal(run(again.eval(), x, text, 5), run(video, x, text, 5))
    assert "not expected" not in caplog.text


@pytest.mark.parametrize(
    "more",
    [
        {"up_block_types": ("UpBlock2D", "SimpleCrossAttnUpBlock2D")},
        {"only_cross_attention": True},
        {"mid_block_only_cross_attention": True},
        {"down_block_types": ("DownBlock2D", "AttnDownBlock2D")},
    ],
)
def test_other_kinds_of_networks_are_refused(more):
    with pytest.raises(ConfigError, match="cannot be inflated"):
        VideoUNet.inflated(one_block(**more))
    with pytest.raises(ConfigError, match="position cannot be 'learned'"):
        VideoUNet.inflated(one_block(), position="learned")


# ------------------------------------------------------------------------------------------------------------------- training


def test_training_reaches_what_is_new_and_lowers_the_loss():
    video = VideoUNet.inflated(one_block(down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"))).train()
    x, text, target = draw(2, 3, 13, 8, 8), draw(2, 7, 16, seed=1), draw(2, 3, 4, 8, 8, seed=2)
    new = {name: value for name, value in video.named_parameters() if name in video.new_names}
    before = {name: value.detach().clone() for name, value in new.items()}
    optimiser, losses = torch.optim.Adam(new.values(), lr=1e-2), []
    for _ in range(5):
        loss = (video(x, torch.tensor([651, 20]), text).sample - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
    assert [name for name, value in new.items() if torch.equal(value, before[name])] == []
    assert all(one.grad is not None for one in video.parameters())  # the stock layers can learn along


def test_checkpointing_gives_the_same_gradients_whatever_ran_between():
    video = woken(VideoUNet.inflated(one_block(up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")))).train()
    x, text = draw(6, 13, 8, 8), draw(1, 7, 16, seed=1)

    def gradients():
        video.zero_grad()
        first = video(x, 651, text, num_frames=6).sample.square().mean()
        second = video(x[:2], 651, text, num_frames=2).sample.square().mean()  # computed again after it, the first is of 6 still
        (first + second).backward()
        return [one.grad.clone() for one in video.parameters()]

    plain = gradients()
    video.enable_gradient_checkpointing()
    assert any(getattr(one, "gradient_checkpointing", False) for one in video.modules())
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-7)


def test_a_copy_is_a_network_of_its_own():
    video = woken(VideoUNet.inflated(one_block()))
    x, text = inputs()
    before, other = run(video, x, text, 5), copy.deepcopy(video)
    assert torch.equal(run(other, x, text, 5), before)
    with torch.no_grad():
        for name, value in other.named_parameters():
            if name.endswith("temporal.to_out.weight"):
                value.zero_()
    assert not torch.allclose(run(other, x, text, 5), before, atol=1e-4)
    assert torch.equal(run(video, x, text, 5), before)


# --------------------------------------------------------------------------------------------- what else lies in a network


def test_hooks_lie_over_the_look_back():
    video = woken(VideoUNet.inflated(tiny_unet()))
    assert sites(video, 8, 16) == sites(tiny_unet(), 8, 16)
    x, text = inputs(rows=6)[0], draw(2, 7, 16, seed=2)
    before, state, seen = run(video, x, text, 3), State(frames=(0, 1, 2), streams=("uncond", "cond")), []

    def hook(q, k, v, site, state):
        seen.append(site)
        return look_back(q, k, v)

    for attention in (lambda *given: None, hook):
        with hooked(video, Hooks(attention=attention, features=lambda h, site, state: h)), during(state):
            assert torch.equal(run(video, x, text, 3), before)
    assert len(seen) == 10
    with hooked(video, Hooks(attention=lambda q, k, v, site, state: v)), during(state):
        assert not torch.allclose(run(video, x, text, 3), before, atol=1e-3)
    assert torch.equal(run(video, x, text, 3), before)


def test_adapters_lie_in_it_as_in_the_stock_network(tmp_path):
    unet = tiny_unet()
    video = VideoUNet.inflated(unet)
    x, text = inputs()
    before = run(video, x, text, 5)
    for network in (unet, video):
        network.load_lora_adapter(save_lora(tmp_path / "lora.safetensors", tiny_unet()), prefix="unet", adapter_name="one")
    with torch.no_grad():
        assert torch.equal(run(video, x[:1], text, 1), unet(x[:1, :4], 651, text).sample)
    assert not torch.allclose(run(video, x, text, 5), before, atol=1e-4)
    with pytest.raises(ConfigError, match="Take LoRAs"):
        VideoUNet.inflated(unet)


def test_an_ip_adapter_lies_in_it_as_in_the_stock_network():
    unet = tiny_unet()
    video = VideoUNet.inflated(unet)
    unet, video = with_ip_adapter(unet), with_ip_adapter(video)
    x, text = inputs()
    more = {"image_embeds": [draw(5, 1, 8, seed=8)]}
    with torch.no_grad():
        expected = unet(x[:1, :4], 651, text, added_cond_kwargs={"image_embeds": [more["image_embeds"][0][:1]]}).sample
        found = video(x[:1], 651, text, num_frames=1, added_cond_kwargs={"image_embeds": [more["image_embeds"][0][:1]]}).sample
        assert torch.equal(found, expected)
        frames = video(x, 651, text, num_frames=5, added_cond_kwargs=more).sample
        changed = x.clone()
        changed[0] += 1
        assert not torch.allclose(video(changed, 651, text, num_frames=5, added_cond_kwargs=more).sample[4], frames[4], atol=1e-4)


# ------------------------------------------------------------------------------------------------------------------ denoising


@pytest.fixture(scope="module")
def denoising():
    """A video model with its ControlNets: the network, one that reads all channels, one that reads the latents."""
    unet = tiny_unet("2")
    wide = widened(tiny_controlnet(unet), 13)
    with torch.no_grad():
        wide.conv_in.weight[:, 4:] = 0.05 * draw(16, 9, 3, 3, seed=3)
    return woken(VideoUNet.inflated(unet)), wide, tiny_controlnet(unet, seed=8)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_the_denoiser_runs_it(denoising, guidance):
    video, wide, plain = denoising
    schedule = Schedule.from_config({"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"})
    kit = {"schedule": schedule, "dtype": torch.float32, "cell": 8, "multiple": 8, "offload": False}
    networks = Networks(unet=video, controlnets=((wide, 1.0), (plain, 0.5)), batch=2, **kit)  # smaller than the clip
    x, concat, text = draw(5, 4, 8, 8), draw(5, 9, 8, 8, seed=1), draw(2, 7, 16, seed=2)
    controls = [draw(5, 3, 64, 64, seed=seed).sigmoid() for seed in (4, 5)]
    told = Conditions(text=text, controls=controls, concat=concat, guidance=guidance)
    found = Denoiser(networks, told)(x, 651)

    def predicted(row):  # each stream by itself
        words, joined = text[row].expand(5, -1, -1), torch.cat((x, concat), dim=1)
        a = wide(joined, 651, words, controls[0], return_dict=False)
        b = plain(x, 651, words, controls[1], conditioning_scale=0.5, return_dict=False)
        more = {"down_block_additional_residuals": [p + q for p, q in zip(a[0], b[0], strict=True)]}
        return video(joined[None], 651, words, mid_block_additional_residual=a[1] + b[1], **more).sample[0]

    with torch.no_grad():
        cond = predicted(1)
        output = cond if guidance == 1.0 else predicted(0) + guidance * (cond - predicted(0))
    expected = to_x0(output, x, schedule.level(651), schedule.prediction)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * guidance)
    odd = replace(networks, controlnets=((widened(plain, 5), 1.0), (plain, 0.5)))
    with pytest.raises(ConfigError, match="reads 5 channels, the model 13"):
        Denoiser(odd, told)
