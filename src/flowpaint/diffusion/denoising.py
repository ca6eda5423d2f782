"""`Denoiser`: the one contract of every diffusion network, denoise(x, t) -> x0."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError, ShapeError
from ..types import check_shape
from .compiling import Compiled, compiling, form
from .hooked import State, alone, current, during, is_hooked
from .levels import Level, Schedule, to_x0
from .memory import Pad, bring, enough_memory
from .shortcuts import Kept, Shortcuts, detached


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Networks:
    """What a denoiser works with: the UNet, its ControlNets with their scales, and how."""

    unet: nn.Module
    controlnets: tuple[tuple[nn.Module, float], ...]
    schedule: Schedule
    dtype: torch.dtype
    cell: int  # pixels in a cell of the latent
    batch: int
    multiple: int
    offload: bool
    compiled: Compiled = "none"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceStream:
    """The unedited clip as one more stream of the batch, the first, for hooks that take queries and keys from it.

    `latents(level)` are its latents [T, C, h, w] at that level, one for each row of the conditions; `text` [1, L, D] its words;
    `concat` [T, C, h, w] as in `Conditions`. It runs in the first `steps` steps; nothing of what it gives goes on.
    """

    latents: Callable[[Level], Tensor]
    text: Tensor
    steps: int
    concat: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conditions:
    """What a denoiser is told, one row a frame, or one row for all.

    `text` [2, L, D] or [2, T, L, D], row 0 without or against the prompt; `controls` pictures [T, 3, H, W] in [0, 1], one for
    each ControlNet; `concat` [T, C, h, w] joined to the latents' channels; `image` [2, T or 1, N, D] for an IP-Adapter that is
    in the network. `frames` are the numbers of the frames that the rows belong to. `rescale` in [0, 1] takes back what guidance
    adds to the spread of the prediction (Lin et al., WACV 2024, Eq. 15 and 16). `shortcuts` leave out work in some steps.
    """

    text: Tensor
    controls: Sequence[Tensor] = ()
    concat: Tensor | None = None
    image: Tensor | None = None
    guidance: float = 7.5
    frames: tuple[int, ...] = ()
    rescale: float = 0.0
    source: SourceStream | None = None
    shortcuts: Shortcuts = Shortcuts()


class Denoiser:
    """The clean latents [T, C, h, w], float32, in noisy ones at time t.

    Without other word the rows of x are those of the conditions; in `during(State(frames=...))` they are those frames. Guidance
    is classifier-free (Ho and Salimans, 2022, Eq. 6 with scale s = 1 + w): u + s (c - u); at 1 only the prompt's row is run.
    With shortcuts it keeps what it computed in earlier steps, told by `during`. A compiled network runs as it is while hooks are
    laid in: they are not compiled.
    """

    def __init__(self, networks: Networks, told: Conditions) -> None:
        self._networks, self._told = networks, told
        self.schedule = networks.schedule
        self._control: Kept[dict[str, Any]] = Kept()
        self._deep: Kept[Tensor] = Kept()
        self._check()

    def _check(self) -> None:
        text, count = self._told.text, len(self._networks.controlnets)
        if text.ndim not in (3, 4) or text.shape[0] != 2:
            raise ShapeError(f"The text has shape {tuple(text.shape)}. Expected [2, L, D] or [2, T, L, D], as `embed` gives it.")
        if len(self._told.controls) != count:
            raise ConfigError(
                f"The model has {count} ControlNets and got {len(self._told.controls)} control maps. Give one map for each."
            )
        for control in self._told.controls:
            check_shape(control=(control, "T 3 H W"))
        config: Any = self._networks.unet.config
        joined = 0 if self._told.concat is None else self._told.concat.shape[1]
        if config.in_channels != config.out_channels + joined:
            raise ConfigError(
                f"The model reads {config.in_channels} channels, latents and more give {config.out_channels + joined}. "
                "Choose a model of the kind that the method was made for."
            )
        for network, _ in self._networks.controlnets:
            control_config: Any = network.config
            if control_config.in_channels not in (config.in_channels, config.out_channels):
                raise ConfigError(
                    f"A ControlNet reads {control_config.in_channels} channels, the model {config.in_channels} and latents have "
                    f"{config.out_channels}. Choose one that was made for the model, or widen it."
                )
        if self._told.image is not None and getattr(config, "encoder_hid_dim_type", None) != "ip_image_proj":
            raise ConfigError("The model takes no image: it has no IP-Adapter. Load one, or leave the image out.")

    @property
    def unet(self) -> nn.Module:
        """The network into which hooks are laid."""
        return self._networks.unet

    @property
    def _binds(self) -> bool:
        """The network is one of video: it must be told how many frames it sees, and see them together."""
        return bool(getattr(self._networks.unet, "binds_frames", False))

    def __call__(self, x: Tensor, t: int | Level) -> Tensor:
        """The denoised estimate of `x` [T, C, h, w], float32, at `t`: a time of the model's schedule, or a level.

        Raises `InputError` where conditions are missing for a frame, `ResourceError` when memory runs out.
        """
        check_shape(x=(x, "T C h w"))
        kit = self._networks
        level = t if isinstance(t, Level) else self.schedule.level(int(t))
        frames = current().frames or self._told.frames or tuple(range(len(x)))
        if len(frames) != len(x):
            raise ShapeError(f"There are {len(x)} latents for the frames {frames}. Give as many.")
        streams: tuple[str, ...] = ("cond",) if self._told.guidance == 1.0 else ("uncond", "cond")
        source = self._told.source
        if source is not None and current().step < source.steps:
            streams = ("source", *streams)
        state = replace(current(), t=round(level.t), frames=frames, streams=streams)
        together = is_hooked(kit.unet) or self._binds  # its frames look at each other
        whole = together or not kit.batch
        size = len(x) if whole else kit.batch
        doing = f"denoising {size} frames of {x.shape[-1] * kit.cell}x{x.shape[-2] * kit.cell}"
        with torch.no_grad(), alone(kit.unet), enough_memory(doing, size, True, kit.offload, together=together):
            if kit.offload:
                bring(x.device, kit.unet, *(network for network, _ in kit.controlnets))
            parts = []
            for start in range(0, len(x), size):
                chosen = slice(start, start + size)
                part = replace(state, frames=frames[chosen])
                with during(part), compiling(kit.compiled):
                    parts.append(self._output(x[chosen], level, part))
            output = parts[0] if len(parts) == 1 else torch.cat(parts)
            return to_x0(output, x.float(), level, self.schedule.prediction)

    def _output(self, x: Tensor, level: Level, state: State) -> Tensor:
        """What the network says about x, guided: [T, C, h, w], float32."""
        told, kit = self._told, self._networks
        given = {"encoder_hidden_states": self._text(state).to(x.device, kit.dtype), "return_dict": False}
        rows, joined = self._latents(x, level, state)
        residuals = self._controlled(rows, joined, state, given)
        more: dict[str, Any] = {"num_frames": len(state.frames)} if self._binds else {}
        if told.image is not None:
            image = [self._streams(told.image, state).to(x.device, kit.dtype)]
            more["added_cond_kwargs"] = {"image_embeds": image}
        output = self._network(joined, state, residuals, {**given, **more})
        output = output.to(torch.float32, copy=kit.compiled == "graphs")
        outputs = dict(zip(state.streams, output.chunk(len(state.streams)), strict=True))
        if "uncond" not in outputs:
            return outputs["cond"]
        guided = outputs["uncond"] + told.guidance * (outputs["cond"] - outputs["uncond"])
        return guided if told.rescale == 0 else rescaled(guided, outputs["cond"], told.rescale)

    def _latents(self, x: Tensor, level: Level, state: State) -> tuple[Tensor, Tensor]:
        """The latents of every stream, and those with what is joined to their channels."""
        told, device, dtype = self._told, x.device, self._networks.dtype
        guided = sum(one != "source" for one in state.streams)
        rows = [x.to(dtype)] * guided
        joined = [] if told.concat is None else [self._rows(told.concat, state.frames, "concat").to(device, dtype)] * guided
        if guided < len(state.streams):
            assert told.source is not None, "its stream runs"
            rows.insert(0, self._rows(told.source.latents(level), state.frames, "source").to(device, dtype))
            if told.source.concat is not None:
                joined.insert(0, self._rows(told.source.concat, state.frames, "concat").to(device, dtype))
        latents = torch.cat(rows)
        return latents, torch.cat((latents, torch.cat(joined)), dim=1) if joined else latents

    def _network(self, joined: Tensor, state: State, residuals: dict[str, Any], given: dict[str, Any]) -> Tensor:
        """What the UNet says about `joined`, its deep part from an earlier step where the shortcuts allow it."""
        unet, every, t = self._networks.unet, self._told.shortcuts.deep_every, self._time(state, joined)
        compiled: Compiled = "none" if is_hooked(unet) else self._networks.compiled
        output: Tensor
        if every == 1:
            output = form(unet, compiled=compiled)(joined, t, **residuals, **given)[0]
            return output
        key = state.streams, joined.shape, bool(residuals)
        deep = self._deep.get(state, key, every)
        if deep is not None:
            output = form(unet, "shallow", compiled)(joined, t, deep=deep, residuals=residuals, **given)
            return output
        output, deep = form(unet, "whole", compiled)(joined, t, **residuals, **given)
        self._deep.put(state, key, detached(deep) if compiled == "graphs" else deep)
        return output

    def _time(self, state: State, x: Tensor) -> int | Tensor:
        """The time for networks; one that is compiled would be compiled anew for each number, but not for each tensor."""
        return state.t if self._networks.compiled == "none" else torch.tensor(state.t, device=x.device)

    def _controlled(self, rows: Tensor, joined: Tensor, state: State, given: dict[str, Any]) -> dict[str, Any]:
        """What the ControlNets add, as far as the shortcuts let them, of this step or an earlier one."""
        shortcuts = self._told.shortcuts
        if not self._networks.controlnets or not shortcuts.controlled(state):
            return {}
        key = state.streams, joined.shape
        found = self._control.get(state, key, shortcuts.control_every)
        if found is None:
            found = self._residuals(rows, joined, state, given)
            if shortcuts.control_every > 1:
                found = detached(found) if self._networks.compiled == "graphs" else found
                self._control.put(state, key, found)
        return found

    def _residuals(self, rows: Tensor, joined: Tensor, state: State, given: dict[str, Any]) -> dict[str, Any]:
        """What the ControlNets add to the UNet's skips and to its middle, summed: they read latents, or all that it reads."""
        down: list[Tensor] = []
        middle: Tensor | None = None
        for (network, scale), control in zip(self._networks.controlnets, self._told.controls, strict=True):
            seen = self._padded(self._rows(control, state.frames, "control"), rows)
            seen = seen.to(rows.device, rows.dtype).repeat(len(state.streams), 1, 1, 1)
            config: Any = network.config
            read = joined if config.in_channels == joined.shape[1] else rows
            run, t = form(network, compiled=self._networks.compiled), self._time(state, rows)
            skips, mid = run(read, t, controlnet_cond=seen, conditioning_scale=scale, **given)
            down = list(skips) if not down else [a + b for a, b in zip(down, skips, strict=True)]
            middle = mid if middle is None else middle + mid
        return {} if middle is None else {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    def _padded(self, control: Tensor, rows: Tensor) -> Tensor:
        """A control map at the size of the padded picture that the latents show."""
        height, width = (side * self._networks.cell for side in rows.shape[-2:])
        pad = Pad.to_multiple(self._networks.multiple, control.shape[-2], control.shape[-1])
        if (pad.height + pad.below, pad.width + pad.right) != (height, width):
            raise ShapeError(
                f"A control map is {pad.width}x{pad.height}, the latents show {width}x{height}. Measure it on the encoded frames."
            )
        return pad.pad(control)

    def _text(self, state: State) -> Tensor:
        text = self._told.text if self._told.text.ndim == 4 else self._told.text[:, None]
        rows = self._streams(text, state)
        if state.streams[0] != "source":
            return rows
        assert self._told.source is not None, "its stream runs"
        return torch.cat((self._told.source.text.to(rows).expand(len(state.frames), -1, -1), rows))

    def _streams(self, told: Tensor, state: State) -> Tensor:
        """[2, T or 1, ...] as the rows of a batch: the source's words, then those without the prompt."""
        kept = told[-sum(one != "source" for one in state.streams) :]
        rows = self._rows(kept.transpose(0, 1), state.frames, "text").transpose(0, 1)
        return rows.flatten(0, 1)

    def _rows(self, told: Tensor, frames: tuple[int, ...], name: str) -> Tensor:
        """The rows of a condition for `frames`; one row serves all."""
        if len(told) == 1:
            return told.expand(len(frames), *told.shape[1:])
        known = self._told.frames or tuple(range(len(told)))
        place = {frame: row for row, frame in enumerate(known[: len(told)])}
        missing = [frame for frame in frames if frame not in place]
        if missing:
            raise InputError(f"There is no {name} for frame {missing[0]}. Give one row for each of the frames {known}.")
        return told[[place[frame] for frame in frames]]


def rescaled(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """`guided` [T, C, h, w] with the deviation of `cond` in each frame, mixed with itself by 1 - `share`."""
    own, wanted = (one.std(dim=(1, 2, 3), keepdim=True) for one in (guided, cond))
    return torch.lerp(guided, guided * (wanted / own.clamp_min(1e-8)), share)
