"""Four places at which consistency enters a diffusion network, laid in and taken out by one context manager.

A strategy gives `Hooks`: functions of tensors, of the `Site` they are called at and of the `State` of the loop. `hooked` is the
only place that touches a network from outside, and what it lays in it takes out again, after an error too.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, ShapeError

Kind = Literal["attention", "block", "resnet", "conv"]
Stage = Literal["down", "mid", "up"]
When = Literal["init", "before", "after"]
Mode = Literal["keep_eps", "consistent_eps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One layer of a network, found from its config.

    `kind`: "attention" is a self-attention; "block" the input of a decoder block, before its skips are joined on; "resnet" the
    output of a residual layer; "conv" that of its last convolution, before the shortcut is added. `stage` and `index` name the
    block (index 0 is the first one that the data meets), `layer` counts the sites of this kind in it.
    """

    kind: Kind
    stage: Stage
    index: int
    layer: int = 0
    depth: int  # how often the latent's sides were halved: 0 at full size
    channels: int
    heads: int = 0  # of an attention
    height: int = 0  # in cells of the layer, for the latent at hand
    width: int = 0

    def sized(self, height: int, width: int) -> "Site":
        """This site for latents of `height` x `width`: halving rounds up, as the networks' strided convolutions do."""
        cell = 2**self.depth
        return replace(self, height=-(-height // cell), width=-(-width // cell))


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where the loop is. The rows of a batch are the frames of the first stream, then those of the second."""

    step: int = 0  # counted from the first one that is run
    num_steps: int = 1
    t: int = 0  # diffusion time, 0..999 in most models
    window: int = 0
    frames: tuple[int, ...] = ()  # numbers of the frames in the batch, in its order; empty: not known
    anchors: tuple[int, ...] = ()  # those of them that are there for others to look at
    streams: tuple[str, ...] = ("cond",)

    def split(self, rows: Tensor) -> Tensor:
        """`rows` [S * T, ...] as [S, T, ...]: streams, frames. Raises `ShapeError` where they do not fit."""
        streams = len(self.streams)
        num_frames = len(self.frames) or len(rows) // streams
        if streams * num_frames != len(rows):
            raise ShapeError(f"A batch has {len(rows)} rows. Expected {streams} streams of {num_frames} frames.")
        split: Tensor = rows.unflatten(0, (streams, num_frames))
        return split


Attention: TypeAlias = Callable[[Tensor, Tensor, Tensor, Site, State], Tensor | None]
Features: TypeAlias = Callable[[Tensor, Site, State], Tensor]
Latents: TypeAlias = Callable[[Tensor, State, When], Tensor]
Denoised: TypeAlias = Callable[[Tensor, Tensor, State], Tensor]


def _everywhere(site: Site) -> bool:  # noqa: ARG001 - as the field wants it
    return True


def _blocks(site: Site) -> bool:
    return site.kind == "block"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hooks:
    """Up to four functions that a consistency strategy lays into the loop. None is off.

    attention(q, k, v, site, state): projected tensors [S, T, heads, L, d] of a self-attention, in the network's type; gives
    [S, T, heads, L, d], or None for what the layer does by itself.
    features(h, site, state): a map [S, T, C, h, w]; gives one of the same shape. It may open `torch.enable_grad`.
    latents(x, state, when): latents [T, C, h, w], float32, called by the loop; gives the same shape.
    denoised(x0, eps, state): the denoised estimate and the noise it goes with, called by the loop; gives the edited estimate.
    With `mode` "keep_eps" the step goes on with the old noise, with "consistent_eps" with that which x and the new x0 imply.
    `attention_at` and `features_at` choose the sites.
    """

    attention: Attention | None = None
    features: Features | None = None
    latents: Latents | None = None
    denoised: Denoised | None = None
    mode: Mode = "consistent_eps"
    attention_at: Callable[[Site], bool] = _everywhere
    features_at: Callable[[Site], bool] = _blocks


# ------------------------------------------------------------------------------------------------------------------ state

_STATE: ContextVar[State] = ContextVar("state", default=State())  # noqa: B039 - it is frozen


def current() -> State:
    """The state that the loop last told."""
    return _STATE.get()


@contextmanager
def during(state: State) -> Iterator[None]:
    """Inside, hooks are told `state`. The denoiser itself fills in t and streams."""
    token = _STATE.set(state)
    try:
        yield
    finally:
        _STATE.reset(token)


# ------------------------------------------------------------------------------------------------------------------ sites


def sites(network: nn.Module, height: int = 0, width: int = 0) -> tuple[Site, ...]:
    """Every site of a UNet in the order in which data meets them, sized for latents of `height` x `width`.

    Raises `ConfigError` for a network that takes no hooks.
    """
    return tuple(site.sized(height, width) for site, _, _ in _found(network))


def _found(network: nn.Module) -> Iterator[tuple[Site, str, nn.Module]]:
    """Site, name and module of each place at which something can be laid in."""
    config: Any = getattr(network, "config", None)
    if not hasattr(network, "set_attn_processor") or not hasattr(network, "up_blocks") or config is None:
        raise ConfigError(f"{type(network).__name__} takes no hooks. Choose a UNet, or a method without them.")
    widths = list(config.block_out_channels)
    deepest = len(widths) - 1
    yield from _block_sites(network, "down_blocks", Site(kind="attention", stage="down", index=0, depth=0, channels=0), widths)
    mid = Site(kind="attention", stage="mid", index=0, depth=deepest, channels=widths[-1])
    if network.get_submodule("mid_block") is not None:
        yield from _layers(network.get_submodule("mid_block"), "mid_block", mid)
    turned = widths[::-1]
    for index, block in enumerate(network.get_submodule("up_blocks").children()):
        before = turned[max(index - 1, 0)]
        site = Site(kind="block", stage="up", index=index, depth=deepest - index, channels=before)
        yield site, f"up_blocks.{index}", block
        yield from _layers(block, f"up_blocks.{index}", replace(site, channels=turned[index]))


def _block_sites(network: nn.Module, name: str, site: Site, widths: list[int]) -> Iterator[tuple[Site, str, nn.Module]]:
    for index, block in enumerate(network.get_submodule(name).children()):
        yield from _layers(block, f"{name}.{index}", replace(site, index=index, depth=index, channels=widths[index]))


def _layers(block: nn.Module, name: str, site: Site) -> Iterator[tuple[Site, str, nn.Module]]:
    """The residual layers and self-attentions of one block, as they follow each other."""
    resnets = list(block.get_submodule("resnets").children())
    attentions = list(block.get_submodule("attentions").children()) if hasattr(block, "attentions") else []
    if site.stage == "mid":  # a residual layer comes first and one stands behind each attention
        pairs = [(resnets[0], -1), *((one, place) for place, one in enumerate(resnets[1:]))]
    else:
        pairs = [(one, place) for place, one in enumerate(resnets)]
    count = 0
    for layer, (resnet, place) in enumerate(pairs):
        found = _attentions(attentions, name, place)
        if site.stage != "mid":
            yield from _residual(resnet, f"{name}.resnets.{layer}", replace(site, layer=layer))
        for path, attention in found:
            yield replace(site, kind="attention", layer=count, heads=int(attention.heads)), path, attention
            count += 1
        if site.stage == "mid":
            yield from _residual(resnet, f"{name}.resnets.{layer}", replace(site, layer=layer))


def _residual(resnet: nn.Module, name: str, site: Site) -> Iterator[tuple[Site, str, nn.Module]]:
    yield replace(site, kind="conv", heads=0), f"{name}.conv2", resnet.get_submodule("conv2")
    yield replace(site, kind="resnet", heads=0), name, resnet


def _attentions(attentions: list[nn.Module], name: str, place: int) -> list[tuple[str, Any]]:
    if not 0 <= place < len(attentions):
        return []
    start = f"{name}.attentions.{place}"
    found = attentions[place].named_modules()
    return [(f"{start}.{path}", module) for path, module in found if path.rpartition(".")[2] == "attn1"]


# ----------------------------------------------------------------------------------------------------------------- laying in


class HasUNet(Protocol):
    """What `hooked` needs of a model."""

    def unet(self, device: str | torch.device = "cpu") -> nn.Module:
        """The network that denoises, on `device`."""
        ...


_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LAID: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # how many strategies are laid in
_GUARD = threading.Lock()


@contextmanager
def alone(network: nn.Module) -> Iterator[None]:
    """Inside, no other thread uses `network`: networks are cached, and another's hooks would be in it."""
    with _GUARD:
        lock = _LOCKS.setdefault(network, threading.RLock())
    with lock:
        yield


def is_hooked(network: nn.Module) -> bool:
    """Something is laid in, so that the frames of a batch may look at each other."""
    return _LAID.get(network, 0) > 0


@contextmanager
def hooked(model: HasUNet | nn.Module, hooks: Hooks, *, device: str | torch.device = "cpu") -> Iterator[None]:
    """Inside, the UNet of `model` on `device` (or the UNet given) calls `hooks`; afterwards it is as it was.

    `latents` and `denoised` are the loop's to call. Nested strategies see each other: the inner one's None is the outer one.
    Raises `ConfigError` for a network that takes no hooks.
    """
    network = model if isinstance(model, nn.Module) else model.unet(device)
    with alone(network), ExitStack() as undo:
        if hooks.attention is None and hooks.features is None:
            yield
            return
        places = list(_found(network))
        size = _Size()
        undo.callback(network.register_forward_pre_hook(size.see, with_kwargs=True).remove)
        if hooks.features is not None:
            for site, _, module in places:
                if site.kind != "attention" and hooks.features_at(site):
                    undo.callback(_lay(module, _Feature(hooks.features, site, size)).remove)
        if hooks.attention is not None:
            chosen = {path: site for site, path, _ in places if site.kind == "attention" and hooks.attention_at(site)}
            _lay_attention(network, hooks.attention, chosen, size, undo)
        _LAID[network] = _LAID.get(network, 0) + 1
        undo.callback(_left, network)
        yield


def _left(network: nn.Module) -> None:
    _LAID[network] -= 1


def _lay_attention(network: Any, hook: Attention, chosen: dict[str, Site], size: "_Size", undo: ExitStack) -> None:
    before: dict[str, Any] = dict(network.attn_processors)
    laid = {name: before[name] for name in before}
    for path, site in chosen.items():
        laid[f"{path}.processor"] = _Processor(hook, site, size, before[f"{path}.processor"])
    undo.callback(lambda: network.set_attn_processor(dict(before)))  # set_attn_processor empties what it is given
    network.set_attn_processor(laid)


class _Size:
    """Size of the latents that the network is at work on."""

    def __init__(self) -> None:
        self.now = (0, 0)

    def see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample: Tensor = args[0] if args else kwargs["sample"]
        self.now = (sample.shape[-2], sample.shape[-1])


class _Feature:
    """One feature hook at one site."""

    def __init__(self, hook: Features, site: Site, size: _Size) -> None:
        self.hook, self.site, self.size = hook, site, size

    def __call__(self, h: Tensor) -> Tensor:
        state = current()
        given = state.split(h)
        site = replace(self.site, height=h.shape[-2], width=h.shape[-1])
        out = self.hook(given, site, state)
        if out.shape != given.shape:
            raise ShapeError(f"A feature hook gave {tuple(out.shape)} at {site}. Expected {tuple(given.shape)}.")
        return out.detach().flatten(0, 1).to(h.dtype) if not torch.is_grad_enabled() else out.flatten(0, 1).to(h.dtype)


def _lay(module: nn.Module, feature: _Feature) -> torch.utils.hooks.RemovableHandle:
    if feature.site.kind != "block":
        return module.register_forward_hook(lambda _module, _args, output: feature(output))

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if "hidden_states" in kwargs:
            return args, {**kwargs, "hidden_states": feature(kwargs["hidden_states"])}
        return (feature(args[0]), *args[1:]), kwargs

    return module.register_forward_pre_hook(before, with_kwargs=True)


class _Processor:
    """Self-attention whose core is a hook. Projections are the layer's own, so LoRA stays in; see `attend` for the stock core."""

    def __init__(self, hook: Attention, site: Site, size: _Size, inner: Callable[..., Tensor]) -> None:
        self.hook, self.site, self.size, self.inner = hook, site, size, inner

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """As a processor of diffusers."""
        plain = encoder_hidden_states is None and attention_mask is None and hidden_states.ndim == 3
        out = self._core(attn, hidden_states) if plain else None
        if out is None:
            return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, temb, **kwargs)
        out = attn.to_out[1](attn.to_out[0](out))
        if attn.residual_connection:
            out = out + hidden_states
        scaled: Tensor = out / attn.rescale_output_factor
        return scaled

    def _core(self, attn: Any, hidden_states: Tensor) -> Tensor | None:
        state = current()
        seen = hidden_states
        if attn.group_norm is not None:
            seen = attn.group_norm(seen.transpose(1, 2)).transpose(1, 2)

        def heads(projected: Tensor) -> Tensor:
            split: Tensor = projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return split

        q, k, v = heads(attn.to_q(seen)), heads(attn.to_k(seen)), heads(attn.to_v(seen))
        if attn.norm_q is not None:
            q = attn.norm_q(q)
        if attn.norm_k is not None:
            k = attn.norm_k(k)
        q = state.split(q)
        out = self.hook(q, state.split(k), state.split(v), self.site.sized(*self.size.now), state)
        if out is None:
            return None
        if out.shape != q.shape:
            raise ShapeError(f"An attention hook gave {tuple(out.shape)} at {self.site}. Expected {tuple(q.shape)}.")
        return out.flatten(0, 1).transpose(1, 2).flatten(2).to(q.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of q [S, T, heads, L, d] to k, v [S, T, heads, M, d]: [S, T, heads, L, d].

    k and v of one frame, [S, 1, heads, M, d], serve all T frames and are not copied.
    """
    out: Tensor
    if k.shape[1] == q.shape[1]:
        out = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)).unflatten(0, q.shape[:2])
        return out
    frames, length = q.shape[1], q.shape[3]
    joined = q.transpose(1, 2).flatten(2, 3)  # [S, heads, T * L, d]: the frames queue before the same keys
    out = F.scaled_dot_product_attention(joined, k[:, 0], v[:, 0]).unflatten(2, (frames, length)).transpose(1, 2)
    return out
