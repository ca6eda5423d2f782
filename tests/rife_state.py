"""The published tensors of RIFE 4.6 by name and shape, and weights of our own for them, made by formulas."""

import math

import torch

_BLOCKS = {"block0": (7, 192), "block1": (12, 128), "block2": (12, 96), "block3": (12, 64)}


def published_shapes():
    """Name to shape, in the order of the file, without the `module.` that it has before each name."""
    shapes = {}
    for block, (channels, width) in _BLOCKS.items():
        shapes[f"{block}.conv0.0.0.weight"] = (width // 2, channels, 3, 3)
        shapes[f"{block}.conv0.0.0.bias"] = (width // 2,)
        shapes[f"{block}.conv0.1.0.weight"] = (width, width // 2, 3, 3)
        shapes[f"{block}.conv0.1.0.bias"] = (width,)
        for place in range(8):
            shapes[f"{block}.convblock.{place}.beta"] = (1, width, 1, 1)
            shapes[f"{block}.convblock.{place}.conv.weight"] = (width, width, 3, 3)
            shapes[f"{block}.convblock.{place}.conv.bias"] = (width,)
        shapes[f"{block}.lastconv.0.weight"] = (width, 24, 4, 4)
        shapes[f"{block}.lastconv.0.bias"] = (24,)
    return shapes


def waves():
    """Weights that make the network move things by a few pixels: sines, the same everywhere."""
    state = {}
    for place, (name, shape) in enumerate(published_shapes().items()):
        count = math.prod(shape)
        wave = torch.sin(0.7 * torch.arange(count, dtype=torch.float64) ** 1.5 + place).reshape(shape)
        if name.endswith("beta"):
            state[name] = (0.5 + 0.4 * wave).float()
        elif name.endswith("bias"):
            state[name] = (0.1 * wave).float()
        else:
            state[name] = (1.4 * wave / math.sqrt(math.prod(shape[1:]))).float()
    return state


def constant(**flows):
    """Weights of a network that sees nothing: `block2=(flow and mask of 5 numbers)` is what that block adds, the others 0."""
    state = {name: torch.zeros(shape) for name, shape in published_shapes().items()}
    for block, numbers in flows.items():
        state[f"{block}.lastconv.0.bias"] = torch.tensor([*numbers, 0.0]).repeat_interleave(4)
    return state
