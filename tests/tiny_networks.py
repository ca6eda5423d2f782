"""Files of tiny random networks of the real kinds: what loads them cannot tell them from the published ones."""

import json
import warnings

import torch
from torch import nn

SIDE = 32  # of the pictures that the tiny CLIP sees


def save_clip(folder, seed=0, side=SIDE):
    """A CLIP of two small layers with its tokenizer, which knows letters, "re" and "red"."""
    from transformers import CLIPConfig, CLIPModel

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    torch.manual_seed(seed)
    model = CLIPModel(
        CLIPConfig(
            text_config={**small, **ends, "vocab_size": len(words), "max_position_embeddings": 24},
            vision_config={**small, "image_size": side, "patch_size": 8},
            projection_dim=12,
        )
    )
    for value in model.parameters():  # its own start is so small that all pictures look alike
        if value.ndim > 1:
            nn.init.normal_(value, std=0.2)
    model.save_pretrained(folder)
    return folder


def save_stack(kind, path, seed=0):
    """A stack of `flowpaint.networks.vgg` with random weights, and a classifier as torchvision's file has one."""
    torch.manual_seed(seed)
    state = {**kind().state_dict(), "classifier.0.weight": torch.zeros(2, 2)}
    torch.save(state, path)
    return path


class Means(nn.Module):
    """Means over [N, 3, ...] times a fixed matrix: [N, D]; with `return_features`, less the first number."""

    def __init__(self, width: int, squash: bool) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.randn(3, width, generator=torch.Generator().manual_seed(7)))
        self.squash = squash

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        rows = x.flatten(2).mean(dim=2) @ self.matrix
        if return_features:
            return rows[:, 1:]
        if self.squash:
            return rows.softmax(dim=1)
        return rows


class Echo(nn.Module):
    """What it was given, as one row each."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def save_script(module, path):
    """`module` as a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path
