"""Networks of Stable Diffusion 1.5's size with random weights, for benchmarks: made where they are needed, never downloaded."""

import flowpaint  # noqa: F401  it switches off what the libraries below would send

# isort: split
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel


def sd15_unet() -> UNet2DConditionModel:
    """860 million parameters."""
    widths = (320, 640, 1280, 1280)
    made = UNet2DConditionModel(sample_size=64, block_out_channels=widths, cross_attention_dim=768, attention_head_dim=8)
    return made.eval().requires_grad_(False)


def sd15_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """361 million parameters."""
    return ControlNetModel.from_unet(unet, load_weights_from_unet=False).eval().requires_grad_(False)


def sd15_vae() -> AutoencoderKL:
    """84 million parameters."""
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    made = AutoencoderKL(**kinds, block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512)
    return made.eval().requires_grad_(False)


def save_random(folder: Path, width: int = 320, dtype: torch.dtype = torch.float16) -> Path:
    """A diffusers folder of Stable Diffusion 1.5's shape, random weights that keep values in range; its own `width` is 320."""
    widths, words = (width, 2 * width, 4 * width, 4 * width), max(32, 768 * width // 320)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=widths,
        cross_attention_dim=words,
        attention_head_dim=min(8, width // 4),
        norm_num_groups=8,
    )
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    deep = tuple(max(8, one * width // 2560 * 8) for one in (128, 256, 512, 512))
    vae = AutoencoderKL(**kinds, block_out_channels=deep, layers_per_block=2, sample_size=512, norm_num_groups=8)
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocabulary = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    ends = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1, "pad_token_id": len(vocabulary) - 1}
    shape = {"hidden_size": words, "intermediate_size": 4 * words, "num_hidden_layers": 12, "num_attention_heads": words // 16}
    text = CLIPTextModel(CLIPTextConfig(**shape, **ends, vocab_size=len(vocabulary), max_position_embeddings=77))
    torch.manual_seed(0)
    for name, network in (("unet", unet), ("vae", vae), ("text_encoder", text)):
        for one in network.parameters():
            if one.ndim > 1:
                torch.nn.init.normal_(one, std=one[0].numel() ** -0.5)
        network.to(dtype).save_pretrained(folder / name)
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(vocabulary)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77}))
    levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    DDIMScheduler(**levels, clip_sample=False, set_alpha_to_one=False).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder
