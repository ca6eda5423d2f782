"""Tiny Wan models with VACE, of the real classes with random weights: every path runs in seconds on a CPU."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
from transformers import AutoTokenizer, T5Tokenizer, UMT5Config, UMT5EncoderModel

CHANNELS = 4


def tiny_transformer(seed: int = 0, vace_in_channels: int = 2 * CHANNELS + 64) -> WanVACETransformer3DModel:
    """A transformer of three blocks, of which two hear VACE's; one that listens, unlike one fresh from its initialisation."""
    torch.manual_seed(seed)
    network = WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=16,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        rope_max_seq_len=64,
        vace_layers=[0, 2],
        vace_in_channels=vace_in_channels,
    )
    for name, weight in network.named_parameters():
        if ".to_" in name or "proj_out" in name or "vace_patch" in name:
            weight.data.mul_(4.0)
    return network.eval()


def tiny_vae(seed: int = 1) -> AutoencoderKLWan:
    """An autoencoder that divides sides by 8 and time by 4, and whose channels have statistics of their own."""
    torch.manual_seed(seed)
    network = AutoencoderKLWan(
        base_dim=4,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 2, 2],
        num_res_blocks=1,
        latents_mean=[-0.3, 0.2, 0.1, -0.1],
        latents_std=[0.4, 0.9, 1.3, 0.7],
    )
    return network.eval()


def tiny_text(seed: int = 2) -> UMT5EncoderModel:
    """A text encoder of 64 tokens."""
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 64}
    return UMT5EncoderModel(UMT5Config(**sizes)).eval()


def tiny_tokenizer(folder: Path) -> None:
    """Letters as tokens of T5's tokenizer, in `folder`."""
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((one, -3.0) for one in "abcdefghijklmnopqrstuvwxyz,.")]
    T5Tokenizer(vocab=words, extra_ids=0, model_max_length=512).save_pretrained(folder)


def tiny_schedule(shift: float = 3.0) -> UniPCMultistepScheduler:
    """The scheduler that comes with Wan's models."""
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def save_wan(folder: Path, *, shards: bool = False) -> Path:
    """A diffusers folder with a tiny model; with `shards` its larger weights are split, as those of the published models."""
    size = {"max_shard_size": "40KB"} if shards else {}
    tiny_transformer().save_pretrained(folder / "transformer", **size)
    tiny_vae().save_pretrained(folder / "vae")
    tiny_text().save_pretrained(folder / "text_encoder", **({"max_shard_size": "10KB"} if shards else {}))
    tiny_tokenizer(folder / "tokenizer")
    tiny_schedule().save_pretrained(folder / "scheduler")
    names = {"transformer": "WanVACETransformer3DModel", "vae": "AutoencoderKLWan", "scheduler": "UniPCMultistepScheduler"}
    index = {part: ["diffusers", name] for part, name in names.items()}
    index |= {"text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "WanVACEPipeline", **index}), "utf-8")
    return folder


def tiny_pipeline(folder: Path) -> WanVACEPipeline:
    """diffusers' own way through the networks of `save_wan`: the independent truth."""
    made = WanVACEPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval(),
        vae=AutoencoderKLWan.from_pretrained(folder / "vae").eval(),
        scheduler=tiny_schedule(),
        transformer=WanVACETransformer3DModel.from_pretrained(folder / "transformer").eval(),
    )
    made.set_progress_bar_config(disable=True)
    return made
