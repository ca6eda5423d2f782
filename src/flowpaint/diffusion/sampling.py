"""The denoising loop over windows and steps, with hooks on the latents and an editable clean estimate.

Also the one place to import sampling from: levels, steps and inversion are pure functions in `levels` and `ddim`. Latents stay
float32 (or float64) from step to step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..seams import Run
from ..types import check_shape
from .ddim import Denoise, checked, frame_noise, invert, loop_dtype, step
from .hooked import Denoised, Hooks, Mode, State, When, during
from .levels import Schedule, Step, add_noise, noise_levels, to_eps, to_x0
from .plans import FramePlan, Window, one_window

__all__ = [
    "Denoise", "LoopState", "Schedule", "Solver", "Stepper",
    "add_noise", "frame_noise", "invert", "noise_levels", "sample", "sample_frames", "step", "to_eps", "to_x0",
]  # fmt: skip

_NO_HOOKS = Hooks()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState(State):
    """What hooks are told, and the step `at` hand: its levels and its number in the whole schedule.

    `step` and `num_steps` count what is run; `window` is -1 where all frames are meant.
    """

    at: Step

    @property
    def is_last(self) -> bool:
        """Whether no step follows."""
        return self.step == self.num_steps - 1


DenoiserOf: TypeAlias = Callable[[LoopState], Denoise]


class Stepper(Protocol):
    """Goes from one level to the next; may remember earlier steps of the same frames."""

    def __call__(self, x: Tensor, x0: Tensor, eps: Tensor | None, state: LoopState, /) -> Tensor:
        """Latents at `state.at.t_next`, all [F, C, h, w]; `eps` is None unless the noise is to be kept under an edited x0."""
        ...


class Solver(Protocol):
    """A sampler of its own: its steps, and a new stepper for frames that are denoised together."""

    @property
    def times(self) -> tuple[Step, ...]:
        """What `sample_frames` walks along."""
        ...

    def fresh(self, run: Run, shared_noise: bool) -> Stepper:
        """A stepper that remembers nothing yet."""
        ...


def sample(
    denoise: Denoise,
    x: Tensor,
    times: Sequence[Step],
    *,
    run: Run,
    eta: float = 0.0,
    on_denoised: Denoised | None = None,
    mode: Mode = "consistent_eps",
    shared_noise: bool = False,
) -> Tensor:
    """The latents at the end of `times`, all frames in every call: `x` [T, C, h, w] at `times[0].t`. See `sample_frames`."""
    check_shape(x=(x, "T C h w"))
    return sample_frames(
        lambda _: denoise,
        x,
        times,
        one_window(len(x)),
        run=run,
        eta=eta,
        hooks=Hooks(denoised=on_denoised, mode=mode),
        shared_noise=shared_noise,
    )


@torch.no_grad()  # not inference_mode: a feature hook may open enable_grad and optimise, which inference tensors forbid
def sample_frames(
    denoiser_of: DenoiserOf,
    x: Tensor,
    times: Sequence[Step],
    plan: FramePlan,
    *,
    run: Run,
    eta: float = 0.0,
    shared_noise: bool = False,
    hooks: Hooks = _NO_HOOKS,
    solver: Solver | None = None,
    key: str = "",
) -> Tensor:
    """The latents [T, C, h, w] at the end of `times`, denoised in the windows of `plan`; `x` at `times[0].t`.

    `denoiser_of(state)` gives the denoiser for the frames of a call, just before it; both run with `state` told to the hooks
    of the network. `hooks.latents(x, state, when)` may change the latents: "init" once, all frames; "before" each call;
    "after" each step. `hooks.denoised(x0, eps, state)` may change the estimate; with mode "consistent_eps" the noise follows
    from x and the new x0 (DDPM's posterior), with "keep_eps" it stays the network's. The noise of a step is keyed by frame and
    step: windows, device and resuming do not change it.
    `solver` replaces `eta`; its `times` are to be given. With a `key`, finished windows (order "window") or steps (order
    "step") go into the run's store and are not done again: the key must name everything the result hangs on, and what hooks
    remember from one to the next is theirs to restore.
    Raises `ConfigError` for settings that exclude each other, `ShapeError` for an estimate of another size, and `WorkError`
    for one that holds NaN or infinity.
    """
    check_shape(x=(x, "T C h w"))
    _fits((x, times, plan), hooks.mode, solver, key)
    x = loop_dtype(x).clone()  # the caller's stays as it is, whatever hooks write into theirs
    if not times:
        return x
    stepper = _Ancestral(eta, run, shared_noise) if solver is None else None

    def fresh() -> Stepper:
        return stepper or solver.fresh(run, shared_noise)  # type: ignore[union-attr]

    loop = _Loop(denoiser_of, tuple(times), plan, run, hooks, fresh, key)
    x = loop.touch(x, loop.state(0, _everyone(plan), -1), "init")
    return loop.by_window(x) if plan.order == "window" else loop.by_step(x)


def _fits(work: tuple[Tensor, Sequence[Step], FramePlan], mode: Mode, solver: Solver | None, key: str) -> None:
    x, times, plan = work
    if len(x) != plan.num_frames:
        raise ConfigError(f"There are latents for {len(x)} frames and a plan for {plan.num_frames}. Plan for what is there.")
    if mode not in ("keep_eps", "consistent_eps"):
        raise ConfigError(f"The mode {mode!r} is not known. Choose keep_eps or consistent_eps.")
    if solver is None:
        return
    if mode == "keep_eps":
        raise ConfigError("A solver of several steps cannot keep the network's noise. Use DDIM or DDPM, or consistent_eps.")
    if key and plan.order == "step":
        raise ConfigError("A solver that remembers earlier steps cannot go on between two of them. Leave the key out.")
    if tuple(times) != solver.times:
        raise ConfigError("The times are not those of the solver. Give solver.times.")


def _everyone(plan: FramePlan) -> Window:
    return Window(frames=tuple(range(plan.num_frames)))


@dataclass(frozen=True)
class _Ancestral:
    """DDIM and DDPM."""

    eta: float
    run: Run
    shared: bool

    def __call__(self, x: Tensor, x0: Tensor, eps: Tensor | None, state: LoopState) -> Tensor:
        noise = None
        if self.eta:
            noise = frame_noise(self.run, state.frames, x, step=state.at.index + 1, shared=self.shared)
        return step(x, x0, state.at.t, state.at.t_next, eta=self.eta, noise=noise, eps=eps)


@dataclass
class _Loop:
    denoiser_of: DenoiserOf
    times: tuple[Step, ...]
    plan: FramePlan
    run: Run
    hooks: Hooks
    fresh: Callable[[], Stepper]
    key: str
    trail: dict[int, list[Tensor]] = field(default_factory=dict)  # frame -> its latents before each step, for later anchors

    def state(self, place: int, window: Window, number: int) -> LoopState:
        at = self.times[place]
        anchors = tuple(frame for frame in window.frames if frame in window.anchors)
        return LoopState(
            step=place,
            num_steps=len(self.times),
            t=round(at.t.t),
            window=number,
            frames=window.frames,
            anchors=anchors,
            at=at,
        )

    def touch(self, x: Tensor, state: LoopState, when: When) -> Tensor:
        if self.hooks.latents is None:
            return x
        touched = self.hooks.latents(x, state, when)
        check_shape(latents=(x, "T C h w"), touched=(touched, "T C h w"))
        return touched.to(x)

    def estimate(self, x: Tensor, state: LoopState) -> tuple[Tensor, Tensor, Tensor | None]:
        """The latents of a call, their (edited) clean estimate, and the network's noise where it is to be kept."""
        x = self.touch(x, state, "before")
        with during(state):
            x0 = checked(self.denoiser_of(state)(x, state.at.t), x, state.at)
        if self.hooks.denoised is None:
            return x, x0, None
        eps = to_eps(x, x0, state.at.t)
        # a hook may write into what it is given: the noise that is kept is not its to change
        x0 = checked(self.hooks.denoised(x0, eps.clone(), state), x, state.at)
        return x, x0, eps if self.hooks.mode == "keep_eps" else None

    def by_window(self, x: Tensor) -> Tensor:
        for number, window in enumerate(self.plan.windows):
            wanted = self.plan.anchors_after(number)
            done = self._stored(number)
            if done is not None:
                self._tell((number + 1) * len(self.times))
            else:
                done = self._window(x[list(window.frames)], number, wanted)
                self._store(number, done, [frame for frame in window.kept if frame in wanted])
            if window.kept:
                x[list(window.kept)] = done.to(x)
            self.trail = {frame: past for frame, past in self.trail.items() if frame in wanted}
        return x

    def _window(self, x: Tensor, number: int, wanted: frozenset[int]) -> Tensor:
        """The kept frames of a window, all steps done."""
        window, stepper = self.plan.windows[number], self.fresh()
        for frame in wanted.intersection(window.kept):
            self.trail[frame] = []
        for place in range(len(self.times)):
            state = self.state(place, window, number)
            x = x.clone()
            for row, frame in enumerate(window.frames):
                if frame in window.anchors:
                    x[row] = self.trail[frame][place].to(x)
                elif frame in wanted:
                    self.trail[frame].append(x[row].clone())
            x = self.touch(stepper(*self.estimate(x, state), state), state, "after")
            self._tell(number * len(self.times) + place + 1)
        return x[window.kept_rows]

    def _store(self, number: int, done: Tensor, recorded: list[int]) -> None:
        if self.key:
            past = {f"trail-{frame}": torch.stack(self.trail[frame]).cpu().numpy() for frame in recorded}
            self.run.store.put(f"{self.key}-window-{number}", {"kept": done.cpu().numpy(), **past})

    def _stored(self, number: int) -> Tensor | None:
        found = self.run.store.get(f"{self.key}-window-{number}") if self.key else None
        if found is None:
            return None
        for name, past in found.items():
            if name.startswith("trail-"):
                self.trail[int(name.removeprefix("trail-"))] = list(torch.tensor(past))
        return torch.tensor(found["kept"])

    def _tell(self, done: int) -> None:
        self.run.progress("denoise", done, len(self.times) * (len(self.plan.windows) if self.plan.order == "window" else 1))

    def by_step(self, x: Tensor) -> Tensor:
        everyone, stepper = _everyone(self.plan), self.fresh()
        found = self.run.store.get(f"{self.key}-steps") if self.key else None
        first = 0 if found is None else int(found["done"])
        x = x if found is None else torch.tensor(found["x"]).to(x)
        for place in range(first, len(self.times)):
            state = self.state(place, everyone, -1)
            x = self.touch(stepper(*self._merged(x, place), state), state, "after")
            if self.key:
                self.run.store.put(f"{self.key}-steps", {"x": x.cpu().numpy(), "done": np.array(place + 1)})
            self._tell(place + 1)
        return x

    def _merged(self, x: Tensor, place: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """What `estimate` gives for all frames, averaged where several windows keep one."""
        seen, x0, eps = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
        count = x.new_zeros(len(x), 1, 1, 1)
        keeps_eps = False
        for number, window in enumerate(self.plan.at(self.times[place], self.run)):
            found = self.estimate(x[list(window.frames)], self.state(place, window, number))
            frames, rows = list(window.kept), window.kept_rows
            count[frames] += 1
            seen[frames] += found[0][rows]
            x0[frames] += found[1][rows]
            if found[2] is not None:
                eps[frames] += found[2][rows]
                keeps_eps = True
        return seen / count, x0 / count, eps / count if keeps_eps else None
