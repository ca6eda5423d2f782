"""The speed script of FlowVid: its stopwatch, and that all of it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import flowvid_speed

    return flowvid_speed


def test_a_stage_within_another_counts_once(speed, monkeypatch):
    now = iter([0.0, 1.0, 3.0, 7.0, 8.0, 9.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(now))
    watch = speed.Watch()
    with watch.stage("whole"):
        with watch.stage("part"):
            pass
        with watch.stage("part"), pytest.raises(ZeroDivisionError):
            _ = 1 / 0
    assert watch.spent == {"whole": 1.0 + 4.0 + 1.0, "part": 2.0 + 1.0}


def test_every_lever_of_the_method_and_the_model_is_a_row(speed):
    found = speed.rows(speed.PAPER, graphs=True)
    first, *others = found
    assert not first.method and not first.model
    levers = {(name, value) for row in others for name, value in (*row.method.items(), *row.model.items())}
    for one in ("inject", "num_steps", "control_every", "control_until", "deep_every", "compiled", "channels_last"):
        assert one in {name for name, _ in levers}
    assert {("compiled", "graphs"), ("inject", "none"), ("inject", "noised")} <= levers
    assert all(len(row.method) + len(row.model) == 1 for row in others if not row.propagate and "all" not in row.name)
    assert not any("graphs" in row.model.values() for row in speed.rows(speed.SMALL, graphs=False) if "all" in row.name)


def _ran(*arguments):
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench_flowvid.py"), "speed", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow  # some minutes
def test_the_script_runs(tmp_path):
    code, out, errors = _ran("--device", "cpu", "--small", "--rows", "paper", "third", "deep", "last", "graphs")
    assert code == 0, errors
    table = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in table[2:]] == [
        "the paper's",
        "source noised, a third stream",
        "deep features every 2nd step",
        "deep features every 3rd step",
        "channels last",
        "CUDA graphs",
    ]
    paper, noised = ([float(cell) for cell in row[1:7]] for row in table[2:4])
    assert min(paper) >= 0 and min(paper[2:]) > 0 and noised[3] == 0 and "(analogy)" in table[2][8]
    assert "do not run on cpu" in table[-1][1]
    code, _, errors = _ran("--device", "cpu")
    assert code == 2 and "--small" in errors
