"""One training loop for all trainers: resumable to the bit, averaged weights, one process or many through accelerate.

What a step draws by lot follows from (seed, step, batch, process), what it sees from the saved position in the data, and its
rate from its number: a checkpoint needs weights, averages, the optimiser and that position, and nothing else.
"""

import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import InputError, WorkError
from .records import Records
from .shards import Position, Sample, ShardStream
from .sheet import write_sheet

if TYPE_CHECKING:
    from .recipes import AdamW

Batch = Mapping[str, Tensor]
Row = Any  # what a task reads from one sample

_TRIALS = 3  # batches that the estimate takes; the first one warms up


class Task(Protocol):
    """What is trained and on what. `objective(batch)` gives {"loss": scalar, ...} and holds the networks that learn."""

    objective: nn.Module

    @property
    def trained(self) -> nn.ModuleDict:
        """The networks that learn, by the names of their folders; they are part of `objective`."""
        ...

    def read(self, sample: Sample) -> Row:
        """A sample, decoded. Raises ValueError, OSError or KeyError where it is broken."""
        ...

    def rows(self, batch: int, progress: float) -> int:
        """How many samples make a batch at this share of the run, for the number that the recipe says."""
        ...

    def batch(self, rows: Sequence[Row], generator: torch.Generator, progress: float) -> Batch:
        """Tensors for the objective; whatever is drawn by lot comes from `generator`."""
        ...

    def show(self, trained: nn.ModuleDict) -> Tensor:
        """Pictures [N, 3, H, W] in [0, 1] of what these weights can do, always of the same things."""
        ...

    def export(self, trained: nn.ModuleDict, folder: Path) -> None:
        """Write these weights as folders that diffusers reads."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will cost, measured on a few batches before it starts."""

    steps_per_second: float
    seconds_left: float
    memory: int  # bytes, the peak of this process or of the GPU
    parameters: int


Tell = Callable[[str, int, int], None]
Announce = Callable[[Estimate], None]


class Training:
    """One run: state, steps, checkpoints."""

    def __init__(self, task: Task, how: "AdamW", *, data: Path, records: Records, device: str = "cpu") -> None:
        from accelerate import Accelerator

        self.task, self.how, self.records = task, how, records
        self.accelerator: Accelerator = Accelerator(cpu=device == "cpu")
        self.device = self.accelerator.device
        if how.checkpointing:
            for network in task.trained.values():
                _checkpoint_gradients(network)
        task.objective.to(self.device).train()
        self.averaged = AveragedModel(task.trained, multi_avg_fn=averaging(how.ema))
        self.optimiser: Any = how(one for one in task.trained.parameters() if one.requires_grad)
        self.step, self._begun_by = 0, self.accelerator.num_processes
        position = self._restore()
        self.objective: Any = self.accelerator.prepare(task.objective)
        self.stream = ShardStream(
            data,
            task.read,
            seed=how.seed,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            position=position,
        )

    def _restore(self) -> Position:
        state = self.records.load()
        if state is None:
            self._rewind()
            return Position()
        cools_at = min(self.how.cools_at, replace(self.how, steps=state["steps"]).cools_at)
        if self.how.steps != state["steps"] and state["step"] > cools_at:
            raise InputError(
                f"The run has taken {state['step']} of {state['steps']} steps and cannot be made {self.how.steps} long. "
                "Leave its length, or start another run from its weights."
            )
        self.task.trained.load_state_dict(state["trained"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        self._rewind()
        self._begun_by = len(state["positions"])
        return Position(**state["positions"][self.accelerator.process_index % self._begun_by])

    def _rewind(self) -> None:
        if self.is_main:
            self.records.rewind(self.step)

    # --------------------------------------------------------------------------------------------------------------- steps

    def run(self, tell: Tell, announce: Announce) -> nn.ModuleDict:
        """The averaged networks after the last step."""
        if self._begun_by != self.accelerator.num_processes:
            raise InputError(
                f"The run was begun by {self._begun_by} processes and goes on with {self.accelerator.num_processes}. "
                "Use as many as before, or start another run from its weights."
            )
        announce(self.estimate())
        rows = iter(self.stream)
        since, writer = time.perf_counter(), self._writer()
        try:
            while self.step < self.how.steps:
                numbers = self._step(rows)
                self.step += 1
                if self.step % self.how.log_every == 0 or self.step == self.how.steps:
                    now = time.perf_counter()
                    self._log(numbers | {"seconds": (now - since) / self.how.log_every}, writer)
                    since = now
                if self.step % self.how.save_every == 0 or self.step == self.how.steps:
                    self.save()
                if self.step % self.how.show_every == 0 or self.step == self.how.steps:
                    self._show(writer)
                tell("train", self.step, self.how.steps)
        finally:
            if writer is not None:
                writer.close()
        return self.networks

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def networks(self) -> nn.ModuleDict:
        """The averaged networks."""
        averaged: Any = self.averaged.module
        networks: nn.ModuleDict = averaged
        return networks

    def _step(self, rows: Iterator[Row]) -> dict[str, float]:
        """One step of the optimiser; what was found on the way."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.how.rate_at(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        total: dict[str, float] = {}
        for number in range(self.how.accumulate):
            batch = self._batch(rows, number)
            last = number == self.how.accumulate - 1
            with torch.enable_grad():
                if last:
                    found = self._backward(batch)
                else:
                    with self.accelerator.no_sync(self.objective):
                        found = self._backward(batch)
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + value / self.how.accumulate
        norm = float(self.accelerator.clip_grad_norm_(self.task.trained.parameters(), self.how.clip))
        if not math.isfinite(norm) or not all(math.isfinite(value) for value in total.values()):
            raise WorkError(
                f"Step {self.step} gave a loss of {total['loss']:g} and a gradient of {norm:g}. The checkpoint before is kept: "
                "lower optimisation.rate, or train without bf16."
            )
        self.optimiser.step()
        self.averaged.update_parameters(self.task.trained)
        return total | {"gradient": norm, "rate": self.how.rate_at(self.step)}

    def _backward(self, batch: Batch) -> dict[str, float]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.how.bf16):
            found = self.objective(batch)
        self.accelerator.backward(found["loss"] / self.how.accumulate)
        return {name: float(value.detach()) for name, value in found.items()}

    def _batch(self, rows: Iterator[Row], number: int) -> Batch:
        progress = self.step / self.how.steps
        count = self.task.rows(self.how.batch, progress)
        key = (self.how.seed, self.step, number, self.accelerator.process_index)
        batch = self.task.batch([next(rows) for _ in range(count)], keyed(*key), progress)
        return {name: one.to(self.device) for name, one in batch.items()}

    def estimate(self) -> Estimate:
        """What is left to be done: a few batches there and back; no weight is touched and the data is where it was."""
        position = self.stream.position
        rows = iter(self.stream)
        start = time.perf_counter()
        for trial in range(_TRIALS):
            if trial == 1:
                start = time.perf_counter()
            self._backward(self._batch(rows, 0))
        spent = (time.perf_counter() - start) / (_TRIALS - 1) * self.how.accumulate
        self.optimiser.zero_grad(set_to_none=True)
        self.stream.position = position
        cuda = self.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return Estimate(
            steps_per_second=1 / spent,
            seconds_left=spent * (self.how.steps - self.step),
            memory=memory,
            parameters=sum(one.numel() for one in self.task.trained.parameters()),
        )

    # --------------------------------------------------------------------------------------------------------------- files

    def save(self) -> None:
        """Write the checkpoint."""
        from accelerate.utils import gather_object

        positions = gather_object([asdict(self.stream.position)])
        if self.is_main:
            self.records.save(
                {
                    "step": self.step,
                    "steps": self.how.steps,
                    "trained": self.task.trained.state_dict(),
                    "averaged": self.averaged.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "positions": positions,
                }
            )

    def _writer(self) -> Any:
        if not self.is_main:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.records.folder / "tensorboard"), purge_step=self.step)

    def _log(self, numbers: Mapping[str, float], writer: Any) -> None:
        if writer is None:
            return
        numbers = {**numbers, "skipped": float(self.stream.position.skipped)}
        self.records.log(self.step - 1, numbers)
        for name, value in numbers.items():
            writer.add_scalar(name, value, self.step)

    def _show(self, writer: Any) -> None:
        if writer is None:
            return
        with torch.no_grad():
            pictures = self.task.show(self.networks.eval()).float().cpu()
        write_sheet(self.records.folder / "samples" / f"step-{self.step:06d}.png", pictures)
        writer.add_images("samples", pictures, self.step)


def _checkpoint_gradients(network: Any) -> None:
    """Let `network` keep less for the way back and compute it again: diffusers and transformers name it differently."""
    names = ("enable_gradient_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    getattr(network, next(name for name in names if hasattr(network, name)))()


def keyed(seed: int, *key: int) -> torch.Generator:
    """Randomness that follows from (seed, key) alone, drawn on the CPU."""
    number = seed
    for one in key:
        number = (number * 1_000_003 + one + 1) % (2**63)
    return torch.Generator().manual_seed(number)


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """The moving average of weights with `decay`, shorter at first: min(decay, (1 + n) / (10 + n)) after n updates."""

    @torch.no_grad()
    def update(averaged: Sequence[Tensor], now: Sequence[Tensor], count: Tensor | int) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        for old, new in zip(averaged, now, strict=True):
            old.lerp_(new.to(old), 1 - kept)

    return update
