"""What a network need not compute anew in every step: a ControlNet's residuals, and the deep part of a UNet.

From one step to the next both change little (DeepCache, Ma et al., CVPR 2024, section 3.2). Nothing is laid into a network: the
shallow part is a copy of its outermost module, which shares every layer, its weights and the hooks in it.
"""

import copy
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .hooked import State

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcuts:
    """What is left out: by default nothing. Raises `ConfigError` for values that leave nothing to compute.

    ControlNets are run in every `control_every`-th step, what they gave being used again between, and not at all before the share
    `control_from` of the steps and after the share `control_until`. The deep part of the UNet, all blocks but the first that goes
    down and the last that goes up, is run in every `deep_every`-th step, its output being used again between: hooks in these
    blocks are then not called.
    """

    control_every: int = 1
    control_from: float = 0.0
    control_until: float = 1.0
    deep_every: int = 1

    def __post_init__(self) -> None:
        shares = self.control_from, self.control_until
        if self.control_every < 1 or self.deep_every < 1 or not all(0 <= one <= 1 for one in shares):
            raise ConfigError(
                f"control_every {self.control_every}, deep_every {self.deep_every}, control_from {self.control_from} and "
                f"control_until {self.control_until} are no shortcuts. Give whole numbers of steps from 1 on, and shares of them "
                "from 0 to 1."
            )

    def controlled(self, state: State) -> bool:
        """Whether ControlNets take part in the step of `state`."""
        begun = state.step >= self.control_from * state.num_steps
        return begun and (self.control_until == 1 or state.step < self.control_until * state.num_steps)


@dataclass(slots=True)
class _Entry(Generic[_Value]):
    key: Hashable
    value: _Value
    computed: int  # the step it is from
    last: int  # the step it was used in last
    way: int = 0  # 1 where steps count up, -1 where they count down (inversion), 0: not seen yet

    def serves(self, step: int, every: int) -> bool:
        """`step` follows in the same walk, and not too late: a walk that begins again finds nothing of another."""
        way = step - self.last
        return abs(way) == 1 and self.way in (0, way) and abs(step - self.computed) < every


class Kept(Generic[_Value]):
    """What was computed in an earlier step, for each set of frames that is denoised together."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, ...], _Entry[_Value]] = {}

    def get(self, state: State, key: Hashable, every: int) -> _Value | None:
        """What was put under `key` for the frames of `state`, fewer than `every` steps ago in this walk; else None."""
        found = self._entries.get(state.frames)
        if found is None or found.key != key or not found.serves(state.step, every):
            return None
        found.way, found.last = state.step - found.last, state.step
        return found.value

    def put(self, state: State, key: Hashable, value: _Value) -> None:
        """Keep `value` for the steps to come, and nothing that the step before did not use."""
        self._entries = {frames: one for frames, one in self._entries.items() if abs(one.last - state.step) <= 1}
        self._entries[state.frames] = _Entry(key, value, state.step, state.step)


# ------------------------------------------------------------------------------------------------------------------ the parts


class Whole(nn.Module):
    """A UNet that also tells what its last block is given from below: its output, and that, as a tuple of tensors.

    Raises `ConfigError` for a UNet of one block, which has no deep part.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        *others, below, last = _blocks(network)
        self._seen: list[Tensor] = []
        told = copied(below)
        told.__dict__["_forward_hooks"] = below._forward_hooks.copy()  # its own: this hook is not the network's
        told.register_forward_hook(self._see)
        self.network = copied(network, up_blocks=nn.ModuleList([*others, told, last]))

    def _see(self, _module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        self._seen.append(output)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """As the network's, with `return_dict` False."""
        self._seen.clear()  # of a call that failed
        output: Tensor = self.network(*args, **kwargs)[0]
        return output, self._seen.pop()


class Shallow(nn.Module):
    """The first block that goes down and the last that goes up of a UNet, joined by what is given in place of all between."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        last = _blocks(network)[-1]
        first = copied(next(network.get_submodule("down_blocks").children()), downsamplers=None)
        parts = {"down_blocks": nn.ModuleList([first]), "mid_block": _Nothing(), "up_blocks": nn.ModuleList([last])}
        self.network = copied(network, **parts)
        self.num_skips = len(list(last.get_submodule("resnets").children()))

    def forward(self, sample: Tensor, timestep: Any, *, deep: Tensor, residuals: Mapping[str, Any], **kwargs: Any) -> Tensor:
        """The output, given `deep` from `Whole` and a ControlNet's `residuals`, as the network takes them, or none."""
        skips = residuals.get("down_block_additional_residuals") or [deep.new_zeros(())] * self.num_skips
        # the network adds the residual of its middle to what its middle gives: nothing here
        told = {"down_block_additional_residuals": skips[: self.num_skips], "mid_block_additional_residual": deep}
        output: Tensor = self.network(sample, timestep, **told, **kwargs)[0]
        return output


class _Nothing(nn.Module):
    def forward(self, sample: Tensor, *_: Any) -> Tensor:
        """Zero."""
        return sample.new_zeros(())


def _blocks(network: nn.Module) -> list[nn.Module]:
    found = list(network.get_submodule("up_blocks").children())
    if len(found) < 2:
        raise ConfigError("A UNet of one block has no deep part to keep. Leave deep_every at 1.")
    return found


def copied(module: nn.Module, **children: nn.Module | None) -> Any:
    """A copy of `module` alone, with some `children` replaced: it shares the others, its weights and its hooks."""
    made = copy.copy(module)
    made.__dict__["_modules"] = {**module._modules, **children}
    return made


def detached(value: Any) -> Any:
    """Tensors, and lists and dicts of them, copied to memory of their own: that of a CUDA graph is written over."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {name: detached(one) for name, one in value.items()}
    return [detached(one) for one in value]
