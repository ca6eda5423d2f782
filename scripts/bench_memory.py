"""Memory of networks of Stable Diffusion 1.5's size, counted tensor by tensor on the CPU: what `--vram-limit` reckons with.

Every tensor that an operation makes is counted from its making to its end; weights and what the caller holds are not. So the
numbers are those of any device, but for its attention kernels' and convolutions' own work space. Weights are random.

    python scripts/bench_memory.py [--side 256]
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench_networks import sd15_controlnet, sd15_unet, sd15_vae
from flowpaint import seams
from flowpaint.diffusion.hooked import State, during, hooked
from flowpaint.diffusion.levels import STABLE_DIFFUSION, noise_levels
from flowpaint.diffusion.sampling import LoopState
from flowpaint.types import Cues

torch.set_num_threads(2)


class Held(TorchDispatchMode):
    """Bytes of the tensors that were made inside and are alive: now, and at most."""

    def __init__(self, known: nn.Module) -> None:
        super().__init__()
        self.live: dict[int, int] = {one.untyped_storage()._cdata: 0 for one in (*known.parameters(), *known.buffers())}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor):
                self._add(one.untyped_storage())
        return out

    def _add(self, storage: Any) -> None:
        if storage._cdata in self.live:
            return
        self.live[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, storage._cdata)

    def _drop(self, key: int) -> None:
        self.now -= self.live.pop(key, 0)


def most(network: nn.Module, work: Callable[[], object]) -> float:
    """Values (of 4 bytes) that `work` holds at most."""
    with Held(network) as held:
        work()
    return held.peak / 4


def together(unet: nn.Module, count: int, side: int) -> float:
    """Values held by one step of `count` frames under FRESCO: the source's pass, attention, one iteration of Adam."""
    from flowpaint.diffusion.denoising import Conditions, Denoiser, Networks
    from flowpaint.diffusion.model import LatentDiffusion

    kit = Networks(
        unet=unet, controlnets=(), schedule=STABLE_DIFFUSION, dtype=torch.float32, cell=8, batch=8, multiple=8, offload=False
    )
    text, cell = torch.randn(2, 77, 768), side // 8

    class Bare(LatentDiffusion):
        def unet(self, *_: object) -> nn.Module:
            return unet

        def denoiser(self, text: Tensor, *_: object, **__: object) -> Denoiser:
            return Denoiser(kit, Conditions(text=text, guidance=7.5))

    model = Bare()
    times = noise_levels(20, 0.75)
    flow = 4 * torch.randn(count, 2, side, side)
    latents = torch.randn(count, 4, cell, cell)
    cues = Cues(
        frames=torch.rand(count, 3, side, side), forward=flow, backward=-flow, latents=latents, noise=latents, level=times[-1].t
    )
    part = seams.build("consistency", "fresco", iterations=1, background=False)
    frames = tuple(range(count))
    state = LoopState(step=0, num_steps=15, t=round(times[0].t.t), window=0, frames=frames, at=times[0])

    def step() -> None:
        hooks = part(model, lambda _: cues, text)
        with torch.no_grad(), hooked(model, hooks), during(state):
            hooks.latents(latents, state, "before")
            model.denoiser(text)(latents, times[0].t)

    return most(unet, step)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--side", type=int, default=256)
    side = options.parse_args().side
    pixels, cell = side * side, side // 8
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {side}x{side}\n\n| what | values a pixel |\n|---|---|")
    unet = sd15_unet()
    given = {"encoder_hidden_states": torch.randn(2, 77, 768)}

    def rows(count: int) -> Callable[[], object]:
        words = given["encoder_hidden_states"].repeat(count, 1, 1)
        return lambda: unet(torch.randn(2 * count, 4, cell, cell), 500, encoder_hidden_states=words)

    with torch.no_grad(), during(State()):
        one, three = most(unet, rows(1)), most(unet, rows(3))
    print(f"| a frame with guidance through the UNet | {(three - one) / 2 / pixels:.0f} |", flush=True)
    few, many = together(unet, 3, side), together(unet, 5, side)
    print(f"| a frame of a window under FRESCO | {(many - few) / 2 / pixels:.0f} |")
    print(f"| what a window under FRESCO holds besides | {(few - 3 * (many - few) / 2) / pixels:.0f} |", flush=True)
    control = sd15_controlnet(unet)
    seen = torch.rand(2, 3, side, side)
    with torch.no_grad():
        held = most(control, lambda: control(torch.randn(2, 4, cell, cell), 500, controlnet_cond=seen, **given))
        vae = sd15_vae()
        decoded = most(vae, lambda: vae.decode(torch.randn(1, 4, cell, cell)))
        encoded = most(vae, lambda: vae.encode(torch.rand(1, 3, side, side)))
    print(f"| a frame with guidance through a ControlNet | {held / pixels:.0f} |")
    print(f"| a picture decoded, encoded | {decoded / pixels:.0f}, {encoded / pixels:.0f} |")


if __name__ == "__main__":
    main()
