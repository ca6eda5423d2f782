"""Tiny pipelines that edit pictures, of the real classes with random weights, and ONNX files with LaMa's inputs."""

import json
import struct
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    PNDMScheduler,
    QwenImageTransformer2DModel,
)
from diffusers.pipelines.deprecated.paint_by_example import PaintByExampleImageEncoder
from transformers import (
    CLIPVisionConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tiny_models import tiny_unet, tiny_vae

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def _index(folder: Path, name: str, **more: object) -> Path:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name, **more}), "utf-8")
    return folder


def tiny_eye(seed: int = 5) -> PaintByExampleImageEncoder:
    """A network that reads a reference of 32 x 32 pixels as one token."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2}
    config = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=16)
    network = PaintByExampleImageEncoder(config, proj_size=16)
    torch.nn.init.normal_(network.proj_out.weight)
    return network.eval()


def save_example(folder: Path) -> Path:
    """A tiny Paint by Example."""
    tiny_unet(in_channels=9).save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    tiny_eye().save_pretrained(folder / "image_encoder")
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True}
    PNDMScheduler(**settings, steps_offset=1).save_pretrained(folder / "scheduler")
    return _index(folder, "PaintByExamplePipeline")


def tokens() -> Qwen2Tokenizer:
    """Bytes as tokens of Qwen's tokenizer."""
    vocabulary = {letter: number for number, letter in enumerate(bytes_to_unicode().values())}
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=[], unk_token=None, **ends, additional_special_tokens=SPECIAL)
    made.chat_template = TEMPLATE
    return made


def save_klein(folder: Path) -> Path:
    """A tiny FLUX.2 klein."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    widths = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4}
    AutoencoderKLFlux2(**kinds, **widths).eval().save_pretrained(folder / "vae")
    heads = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False}
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=24, timestep_guidance_channels=16, **heads
    )
    transformer.eval().save_pretrained(folder / "transformer")
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 28, "num_attention_heads": 1, "head_dim": 8}
    Qwen3ForCausalLM(Qwen3Config(**sizes, num_key_value_heads=1, vocab_size=300)).eval().save_pretrained(folder / "text_encoder")
    tokens().save_pretrained(folder / "tokenizer")
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    names = {"vae": "AutoencoderKLFlux2", "transformer": "Flux2Transformer2DModel"}
    parts = {part: ["diffusers", name] for part, name in names.items()}
    parts |= {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "tokenizer": ["transformers", "Qwen2TokenizerFast"]}
    parts |= {"text_encoder": ["transformers", "Qwen3ForCausalLM"]}
    return _index(folder, "Flux2KleinPipeline", is_distilled=True, **parts)


def save_qwen(folder: Path, name: str = "QwenImageEditPlusPipeline") -> Path:
    """A tiny Qwen-Image-Edit."""
    torch.manual_seed(0)
    statistics = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    vae = AutoencoderKLQwenImage(base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics)
    vae.eval().save_pretrained(folder / "vae")
    heads = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (8, 4, 4)}
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, joint_attention_dim=16, guidance_embeds=False, **heads
    )
    transformer.eval().save_pretrained(folder / "transformer")
    reader = tokens()
    ids = {name: reader.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start", "vision_end")}
    words = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**words, "num_key_value_heads": 2, "vocab_size": 300, "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]}}
    eye = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16, "patch_size": 14}
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={**eye, "fullatt_block_indexes": [1], "window_size": 56},
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
    )
    Qwen2_5_VLForConditionalGeneration(config).eval().save_pretrained(folder / "text_encoder")
    reader.save_pretrained(folder / "tokenizer")
    sides = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "min_pixels": 784, "max_pixels": 3136}
    kind = {"image_processor_type": "Qwen2VLImageProcessor"}
    (folder / "processor").mkdir(parents=True)
    (folder / "processor" / "preprocessor_config.json").write_text(json.dumps({**sides, **kind}), "utf-8")
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    return _index(folder, name)


# ---------------------------------------------------------------------------------------------------------------------- ONNX
# The package that writes such files is not needed to run flowpaint, and not asked for here: they are written by hand. Numbers
# and names are those of onnx.proto (ModelProto and what is in it).

FILL = (0.125, 0.5, 0.875)


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _entry(tag: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _number(tag << 3) + _number(value)
    data = value.encode() if isinstance(value, str) else value
    return _number(tag << 3 | 2) + _number(len(data)) + data


def _value(name: str, *shape: int | str) -> bytes:
    sizes = b"".join(_entry(1, _entry(1, one) if isinstance(one, int) else _entry(2, one)) for one in shape)
    return _entry(1, name) + _entry(2, _entry(1, _entry(1, 1) + _entry(2, sizes)))


def _constant(name: str, values: tuple[float, ...], *shape: int) -> bytes:
    sizes = b"".join(_entry(1, one) for one in shape)
    return sizes + _entry(2, 1) + _entry(8, name) + _entry(9, struct.pack(f"<{len(values)}f", *values))


def _node(kind: str, inputs: str, output: str) -> bytes:
    return b"".join(_entry(1, one) for one in inputs.split()) + _entry(2, output) + _entry(4, kind)


def save_lama(file: Path, side: int | str = 64, *, channels: int = 3, height: int | str | None = None) -> Path:
    """A network of LaMa's inputs that fills a hole with one colour: 255 (image (1 - mask) + `FILL` mask)."""
    nodes = [
        _node("Sub", "one mask", "rest"),
        _node("Mul", "image rest", "kept"),
        _node("Mul", "mask fill", "filled"),
        _node("Add", "kept filled", "sum"),
        _node("Mul", "sum most", "output"),
    ]
    constants = [
        _constant("one", (1.0,), 1),
        _constant("most", (255.0,), 1),
        _constant("fill", FILL[:channels], 1, channels, 1, 1),
    ]
    sides = (side if height is None else height, side)
    graph = b"".join(_entry(1, one) for one in nodes) + _entry(2, "lama") + b"".join(_entry(5, one) for one in constants)
    graph += _entry(11, _value("image", 1, channels, *sides)) + _entry(11, _value("mask", 1, 1, *sides))
    graph += _entry(12, _value("output", 1, channels, *sides))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_entry(1, 8) + _entry(7, graph) + _entry(8, _entry(1, "") + _entry(2, 13)))
    return file
