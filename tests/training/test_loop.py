"""The loop: exact resume, averages in closed form, a loss that is no number, estimates; on a line fitted to numbers."""

import dataclasses
import itertools
import json

import pytest
import torch
from torch import nn

from flowpaint.errors import ConfigError, InputError, WeightsError, WorkError
from flowpaint.training.loop import Training, averaging, keyed
from flowpaint.training.recipes import AdamW
from flowpaint.training.records import Records
from flowpaint.training.shards import ShardWriter

HOW = AdamW(steps=12, batch=3, rate=0.05, warmup=2, bf16=False, save_every=4, show_every=6, log_every=1)


class Line(nn.Module):
    """y = 2 x + 1, to be found."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trained = nn.ModuleDict({"line": nn.Linear(1, 1)})

    def forward(self, batch):
        found = self.trained["line"](batch["x"])
        return {"loss": (found - batch["y"]).square().mean()}


class LineTask:
    def __init__(self, poison=None):
        self.objective = Line()
        self.poison, self.seen = poison, []

    @property
    def trained(self):
        return self.objective.trained

    def read(self, sample):
        return float(sample.files["txt"])

    def rows(self, batch, progress):
        return batch

    def batch(self, rows, generator, progress):
        x = torch.tensor(rows)[:, None] + 0.1 * torch.randn(len(rows), 1, generator=generator)
        y = 2 * x + 1
        self.seen.append(x)
        if self.poison is not None and progress * HOW.steps >= self.poison:
            y = y * torch.nan
        return {"x": x, "y": y}

    def show(self, trained):
        return torch.full((2, 3, 4, 4), 0.5)

    def export(self, trained, folder):
        raise NotImplementedError


class Stopped(Exception):
    pass


@pytest.fixture
def data(tmp_path):
    with ShardWriter(tmp_path / "data", size=4) as shards:
        for number in range(10):
            shards.write({"txt": str(number / 10).encode()})
    return tmp_path / "data"


def training(data, run, how=HOW, task=None):
    return Training(task or LineTask(), how, data=data, records=Records(run, {"optimisation": dataclasses.asdict(how)}))


def finish(one, stop=None):
    def tell(stage, done, total):
        if done == stop:
            raise Stopped

    return one.run(tell, lambda estimate: None)


def state(one):
    return [*one.task.trained.parameters(), *one.networks.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(state(a), state(b), strict=True))


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 9, 11])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_stopped_at_any_step_ends_as_if_it_had_not_been(data, tmp_path, stop, accumulate):
    how = dataclasses.replace(HOW, accumulate=accumulate)
    whole = training(data, tmp_path / "whole", how)
    finish(whole)
    with pytest.raises(Stopped):
        finish(training(data, tmp_path / "run", how), stop=stop)
    again = training(data, tmp_path / "run", how)
    assert again.step == stop // 4 * 4
    finish(again)
    assert same(whole, again) and whole.stream.position == again.stream.position
    rows = [Records(tmp_path / name, {"optimisation": dataclasses.asdict(how)}).rows() for name in ("whole", "run")]
    assert [{**row, "seconds": 0} for row in rows[0]] == [{**row, "seconds": 0} for row in rows[1]]


def test_it_learns(data, tmp_path):
    one = training(data, tmp_path / "run", dataclasses.replace(HOW, steps=600, ema=0.9, save_every=600, show_every=600))
    finish(one)
    line = one.networks["line"]
    assert line.weight.item() == pytest.approx(2, abs=0.05) and line.bias.item() == pytest.approx(1, abs=0.05)


def test_averages_are_those_of_the_formula():
    update = averaging(0.9)
    average, values = [torch.zeros(1)], [3.0, -1.0, 4.0, 2.0]
    expected = 0.0
    for count, value in enumerate(itertools.chain(values, itertools.repeat(1.0, 100))):
        update(average, [torch.tensor([value])], torch.tensor(count))
        kept = min(0.9, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * value
    assert average[0].item() == pytest.approx(expected, abs=1e-5)


def test_the_loop_averages_what_the_formula_says(data, tmp_path):
    seen = []
    one = training(data, tmp_path / "run")
    start = one.task.trained["line"].weight.item()
    one.run(lambda *_: seen.append(one.task.trained["line"].weight.item()), lambda _: None)
    expected = seen[0]  # the first update takes the weights as they are
    for count, value in enumerate(seen[1:], start=1):
        kept = min(HOW.ema, (1 + count) / (10 + count))
        expected = kept * expected + (1 - kept) * value
    assert start != seen[0] and one.networks["line"].weight.item() == pytest.approx(expected, abs=1e-6)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(data, tmp_path):
    with pytest.raises(WorkError, match="Step 6 gave a loss of nan"):
        finish(training(data, tmp_path / "run", task=LineTask(poison=6)))
    kept = training(data, tmp_path / "run")
    assert kept.step == 4 and all(one.isfinite().all() for one in state(kept))


def test_an_estimate_touches_nothing(data, tmp_path):
    one, other = training(data, tmp_path / "a"), training(data, tmp_path / "b")
    found = one.estimate()
    assert found.steps_per_second > 0 and found.seconds_left == pytest.approx(HOW.steps / found.steps_per_second)
    assert found.memory > 1e6 and found.parameters == 2
    assert one.stream.position == other.stream.position and same(one, other)
    finish(one)
    other.estimate = lambda: found
    finish(other)
    assert same(one, other)


def test_accumulated_batches_count_as_one_large_batch(data, tmp_path):
    class Plain(LineTask):
        def batch(self, rows, generator, progress):
            x = torch.tensor(rows)[:, None]
            return {"x": x, "y": 2 * x + 1}

    large = training(data, tmp_path / "a", dataclasses.replace(HOW, batch=4), Plain())
    small = training(data, tmp_path / "b", dataclasses.replace(HOW, batch=2, accumulate=2), Plain())
    finish(large)
    finish(small)
    assert torch.allclose(*(one.task.trained["line"].weight for one in (large, small)), atol=1e-6)
    gradients = [[row["gradient"] for row in one.records.rows()] for one in (large, small)]
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-4)


def test_every_batch_of_every_step_draws_anew(data, tmp_path):
    class Watched(LineTask):
        def batch(self, rows, generator, progress):
            self.seen.append(torch.randn(1, generator=generator).item())
            return super().batch(rows, generator, progress)

    one = training(data, tmp_path / "run", dataclasses.replace(HOW, accumulate=2), Watched())
    one.estimate = lambda: None
    finish(one)
    drawn = one.task.seen[::2]
    assert len(set(drawn)) == len(drawn) == 2 * HOW.steps


def test_rates_rise_stay_and_fall_to_nothing():
    how = AdamW(steps=100, rate=1.0, warmup=9, cooldown=0.5)
    rates = [how.rate_at(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3]) and rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5) and rates[99] == pytest.approx(0.02)
    assert how.cools_at == 50


def test_a_run_can_be_made_longer_until_it_cools_down(data, tmp_path):
    with pytest.raises(Stopped):
        finish(training(data, tmp_path / "run"), stop=5)
    longer = training(data, tmp_path / "run", dataclasses.replace(HOW, steps=20))
    assert longer.step == 4
    finish(longer)
    assert longer.step == 20
    with pytest.raises(InputError, match="cannot be made 30 long"):
        training(data, tmp_path / "run", dataclasses.replace(HOW, steps=30))


def test_a_run_of_another_recipe_is_refused(data, tmp_path):
    training(data, tmp_path / "run")
    with pytest.raises(InputError, match=r"optimisation\.rate differ"):
        training(data, tmp_path / "run", dataclasses.replace(HOW, rate=0.1))


def test_a_damaged_checkpoint_is_told(data, tmp_path):
    finish(training(data, tmp_path / "run"))
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:200])
    with pytest.raises(WeightsError, match="cannot be read"):
        training(data, tmp_path / "run")


def test_a_run_leaves_its_records(data, tmp_path):
    finish(training(data, tmp_path / "run"))
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(12)) and rows[-1]["rate"] < rows[5]["rate"] == HOW.rate
    assert sorted(path.name for path in (tmp_path / "run" / "samples").iterdir()) == ["step-000006.png", "step-000012.png"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [one.value for one in events.Scalars("loss")] == pytest.approx([row["loss"] for row in rows])


def test_what_is_drawn_follows_from_the_key():
    def draw(*key):
        return torch.randn(3, generator=keyed(*key)).tolist()

    keys = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 0), (0, 1, 1, 0)]
    assert draw(*keys[0]) == draw(*keys[0])
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


@pytest.mark.parametrize("values", [{"steps": 0}, {"ema": 1.0}, {"cooldown": 1.5}, {"rate": 0.0}, {"clip": -1.0}, {"batch": 0}])
def test_values_that_do_not_train_are_refused(values):
    with pytest.raises(ConfigError):
        AdamW(**values)
