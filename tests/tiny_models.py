"""Tiny diffusion models of the real classes with random weights: every path runs in seconds on a CPU."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, I2VGenXLUNet, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

WIDTHS = (16, 32, 32, 32)


def tiny_unet(family: str = "1", in_channels: int = 4, seed: int = 0, cross: int = 16) -> UNet2DConditionModel:
    """A UNet of SD 1.x's shape (one number of heads) or SD 2.x's (heads of one width, linear projections)."""
    torch.manual_seed(seed)
    more = {"attention_head_dim": (2, 4, 4, 4), "use_linear_projection": True} if family == "2" else {"attention_head_dim": 2}
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=in_channels,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        cross_attention_dim=cross,
        norm_num_groups=8,
        **more,
    ).eval()


def tiny_vae(seed: int = 1) -> AutoencoderKL:
    """An autoencoder that divides sides by 8."""
    torch.manual_seed(seed)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(**kinds, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4, sample_size=64).eval()


def tiny_text(seed: int = 2) -> CLIPTextModel:
    """A text encoder that reads 16 tokens."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return CLIPTextModel(CLIPTextConfig(**sizes, **special, vocab_size=120, max_position_embeddings=16)).eval()


def tiny_tokenizer(folder: Path) -> None:
    """Letters as tokens of CLIP's tokenizer, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1) if not chr(code).isupper()]
    words = ["<|startoftext|>", "<|endoftext|>", *letters[:50], *(f"{one}</w>" for one in letters[:0]), *letters[50:]]
    words += [f"{one}</w>" for one in "abcdefghijklmnopqrstuvwxyz0123456789,."]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16).save_pretrained(folder)


def tiny_schedule(family: str) -> DDIMScheduler:
    """Stable Diffusion's noise levels: eps-prediction for 1.x, v-prediction for 2.x."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if family == "2" else "epsilon",
    )


def save_model(folder: Path, family: str = "1", in_channels: int = 4) -> Path:
    """A diffusers folder with a tiny model of `family`."""
    tiny_unet(family, in_channels).save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    tiny_text().save_pretrained(folder / "text_encoder")
    tiny_tokenizer(folder / "tokenizer")
    tiny_schedule(family).save_pretrained(folder / "scheduler")
    names = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index = {part: ["diffusers", name] for part, name in names.items()}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    told = {"_class_name": "StableDiffusionPipeline", **index}
    (folder / "model_index.json").write_text(json.dumps(told), "utf-8")
    return folder


def tiny_controlnet(unet: UNet2DConditionModel, seed: int = 3, *, like_published: bool = False) -> ControlNetModel:
    """A ControlNet for `unet` whose last convolutions are random, not zero. It may read its map as widely as the published."""
    torch.manual_seed(seed)
    widths = (16, 32, 96, 256) if like_published else (4, 8, 8, 16)
    network = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)
    for name, weight in network.named_parameters():
        if name.startswith("controlnet_"):
            nn.init.normal_(weight, std=0.1)
    return network.eval()


def save_controlnet(folder: Path, unet: UNet2DConditionModel, seed: int = 3, *, like_published: bool = False) -> Path:
    """A folder with a tiny ControlNet for `unet`."""
    tiny_controlnet(unet, seed, like_published=like_published).save_pretrained(folder)
    return folder


def save_lora(file: Path, unet: UNet2DConditionModel, rank: int = 2, seed: int = 4, *, foreign: bool = False) -> Path:
    """A LoRA of the queries of every self-attention, with the keys that diffusers writes; a foreign one is for other layers."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, module in unet.named_modules():
        if name.endswith("attn1.to_q"):
            name = f"joint.{name}" if foreign else name
            state[f"unet.{name}.lora_A.weight"] = torch.randn(rank, module.in_features, generator=generator)
            state[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, rank, generator=generator)
    save_file(state, file)
    return file


def with_ip_adapter(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The network with random weights of an IP-Adapter: cross-attentions to 4 more tokens, made from an image's 8 numbers."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    image = {"proj.weight": draw(64, 8), "proj.bias": draw(64), "norm.weight": draw(16), "norm.bias": draw(16)}
    weights = {}
    for place, name in enumerate(name for name in unet.attn_processors if "attn2" in name):
        width = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        weights |= {f"{2 * place + 1}.to_{one}_ip.weight": draw(width, 16) for one in "kv"}
    unet._load_ip_adapter_weights([{"image_proj": image, "ip_adapter": weights}], low_cpu_mem_usage=False)
    return unet.eval()


# ----------------------------------------------------------------------------------------------------------- single files


def save_single_file(file: Path, folder: Path, without: str = "nothing") -> Path:
    """The tiny SD 1.x model of `folder` as one file by CompVis' names, without the part of that prefix."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    state = {f"model.diffusion_model.{_unet_name(name)}": value for name, value in unet.items()}
    state |= {f"first_stage_model.{_vae_name(name)}": _as_conv(name, value) for name, value in vae.items()}
    start = "cond_stage_model.transformer.text_model."
    state |= {start + name.removeprefix("text_model."): value for name, value in text.items()}
    save_file({name: value.contiguous() for name, value in state.items() if not name.startswith(without)}, file)
    return file


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def _unet_name(name: str) -> str:
    for ours, theirs in _ENDS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    stage, *rest = name.split(".")
    if stage == "mid_block":
        kind, number, *rest = rest
        place = "middle_block.1" if kind == "attentions" else f"middle_block.{2 * int(number)}"
    else:
        block, kind, number, *rest = rest
        side = "input_blocks" if stage == "down_blocks" else "output_blocks"
        first = 1 + 2 * int(block) if stage == "down_blocks" else 2 * int(block)  # one layer a block: two places
        place = f"{side}.{first + int(number)}.{1 if kind == 'attentions' else 0}"
        if kind == "downsamplers":
            return f"{side}.{first + 1}.0.op.{rest[-1]}"
        if kind == "upsamplers":  # the first decoder block of SD has no attention
            return f"{side}.{first + 1}.{1 if block == '0' else 2}.conv.{rest[-1]}"
    if kind == "resnets":
        rest[0] = _RESNET[rest[0]]
    return ".".join((place, *rest))


def _vae_name(name: str) -> str:
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    rest = rest.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    rest = rest.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    rest = rest.replace("mid_block.attentions.0", "mid.attn_1")
    if "attn_1" in rest:
        for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            rest = rest.replace(f".{ours}.", f".{theirs}.")
    parts = rest.split(".")
    if parts[0] in ("down_blocks", "up_blocks"):
        number = parts[1] if parts[0] == "down_blocks" else str(3 - int(parts[1]))
        kinds = {"resnets": ["block", parts[3]], "downsamplers": ["downsample"], "upsamplers": ["upsample"]}
        parts = [parts[0].removesuffix("_blocks"), number, *kinds[parts[2]], *parts[4:]]
    return ".".join((half, *parts))


def _as_conv(name: str, value: torch.Tensor) -> torch.Tensor:
    """CompVis wrote the autoencoder's attention as 1 x 1 convolutions."""
    return value[:, :, None, None] if "attentions" in name and value.ndim == 2 else value


def save_video_model(folder: Path, family: str = "2") -> Path:
    """A diffusers folder with FlowVid's network and its ControlNet, tiny, its new weights random: v-prediction, zero SNR."""
    from flowpaint.networks.video_unet import VideoUNet, widened

    save_model(folder, family)
    unet = tiny_unet(family)
    video, control = VideoUNet.inflated(unet), widened(tiny_controlnet(unet), 13)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name in sorted(video.new_names):
            weight = video.state_dict()[name]
            if weight.abs().max() == 0:
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
        control.conv_in.weight[:, 4:] = 0.05 * torch.randn(control.conv_in.weight[:, 4:].shape, generator=generator)
    video.save_pretrained(folder / "unet")
    control.save_pretrained(folder / "controlnet")
    levels = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    DDIMScheduler(**levels, beta_schedule="scaled_linear", clip_sample=False).save_pretrained(folder / "scheduler")
    return folder


def tiny_i2vgen_unet(seed: int = 11) -> I2VGenXLUNet:
    """I2VGen-XL's video UNet; one that listens along time, unlike one fresh from its initialisation."""
    torch.manual_seed(seed)
    network = I2VGenXLUNet(
        sample_size=8,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=8,
    )
    for name, weight in network.named_parameters():
        if "conv4.3" in name:  # the end of a temporal convolution begins as zeros
            nn.init.normal_(weight, std=0.05)
    return network.eval()


def tiny_adapter(channels: tuple[int, ...] = (32, 32, 32, 32, 32, 64, 64, 64, 64), seed: int = 12) -> nn.Module:
    """A Ctrl-Adapter for the residuals of `channels`, with CLIP embeddings of 16 numbers."""
    from flowpaint.networks.ctrl_adapter import CtrlAdapter

    torch.manual_seed(seed)
    return CtrlAdapter(channels, inner=24, cross=16).eval()


def save_i2vgen(folder: Path) -> tuple[Path, Path, Path]:
    """A diffusers folder with a tiny I2VGen-XL, a file with a Ctrl-Adapter for it, and the ControlNet of an image model."""
    model = save_model(folder / "model")
    tiny_i2vgen_unet().save_pretrained(model / "unet")
    torch.manual_seed(13)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    eyes = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=16))
    eyes.eval().save_pretrained(model / "image_encoder")
    CLIPImageProcessorPil(crop_size=32, size=32).save_pretrained(model / "feature_extractor")
    levels = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "steps_offset": 1, "clip_sample": False}
    DDIMScheduler(**levels, beta_schedule="squaredcos_cap_v2").save_pretrained(model / "scheduler")
    names = {"unet": ["diffusers", "I2VGenXLUNet"], "image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    told = json.loads((model / "model_index.json").read_text("utf-8"))
    (model / "model_index.json").write_text(json.dumps({**told, **names, "_class_name": "I2VGenXLPipeline"}), "utf-8")
    adapter = folder / "adapter.safetensors"
    save_file(tiny_adapter().state_dict(), adapter)
    torch.manual_seed(14)
    wide = UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 32, 64, 64), layers_per_block=1, cross_attention_dim=16, norm_num_groups=8,
        attention_head_dim=2,
    )  # fmt: skip
    save_model(folder / "seeing")
    wide.save_pretrained(folder / "seeing" / "unet")
    return model, adapter, save_controlnet(folder / "seeing" / "controlnet", wide)
