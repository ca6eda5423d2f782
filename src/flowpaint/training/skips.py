"""`Skips`: training in which a UNet's decoder must now and then do without the skip connections."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn


class Skips:
    """The skip connections of `unet`, all heard but inside `hushed`.

    A small network that learns for a short time takes all it knows from the skips of the finest level: they are right at once for
    little noise, and what lies deeper, which alone sees the picture as a whole, never learns to say anything. Rows without skips,
    the more often the more noise there is, leave it no such way out (dropout of whole paths: Larsson et al., ICLR 2017).
    """

    def __init__(self, unet: nn.Module, *, quiet: float) -> None:
        blocks: Any = unet.up_blocks
        self._quiet, self._shares = quiet, cast(Tensor | None, None)
        for number, block in enumerate(blocks):
            block.register_forward_pre_hook(partial(self._hushed, len(blocks) - 1 - number), with_kwargs=True)

    @contextmanager
    def hushed(self, lots: Tensor, noise: Tensor) -> Iterator[None]:
        """Inside, what rows hear is drawn from `lots` [B, 2] in [0, 1): a share `quiet` times `noise` [B] of them misses skips.

        Half of those miss all skips, half those of the finest level alone.
        """
        missed = lots[:, 0] < self._quiet * noise
        deep = missed & (lots[:, 1] < 0.5)
        self._shares = 1.0 - torch.stack((missed, deep)).float() if self._quiet else None
        try:
            yield
        finally:
            self._shares = None

    def _hushed(self, depth: int, block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        del block
        if self._shares is None:
            return given, named
        share = self._shares[min(depth, 1)][:, None, None, None]
        heard = tuple(skip * share.to(skip) for skip in named["res_hidden_states_tuple"])
        return given, {**named, "res_hidden_states_tuple": heard}
