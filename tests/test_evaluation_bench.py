"""Benchmarks: every row is done once, kept as soon as it is finished, and done again when what it depends on has changed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flowpaint.errors import InputError, VideoError, WeightsError
from flowpaint.evaluation import bench
from flowpaint.evaluation.bench import Made, Row, benchmark, read_rows, row_file
from flowpaint.evaluation.card import Card
from flowpaint.evaluation.task import Task, Tasks
from flowpaint.moments import Case
from flowpaint.types import Clip, Measure

LEVEL = Measure(name="level", title="Level", unit="", higher_is_better=True, source="here")
METHODS = {"warp": {"part": "warp", "radius": 2}, "freeze": {"part": "freeze"}}


def clip(level, frames=3):
    return Clip.from_array(np.full((frames, 16, 20, 3), level, np.uint8))


def task(name, level=10, group="all", **more):
    return Task(name=name, group=group, source=clip(level), prompt="gold", **more)


def judged(case, label):
    value = float(case.result.frame(0).mean() - case.source.frame(0).mean())
    return Card(label=label, frames=len(case.source), width=20, height=16, measures={"level": LEVEL}, values={"level": value})


class Bench:
    """A benchmark in a folder that can be run again, with a list of what was really made."""

    def __init__(self, folder):
        self.folder, self.made, self.told, self.shown = folder, [], [], []
        self.tasks = [task("bear"), task("cows", 20), task("dog", 30, group="pets")]
        self.methods, self.settings = dict(METHODS), {"metrics": ["level"]}
        self.before = lambda task, method: None  # what a test puts before making: interruptions, errors

    def make(self, one, method):
        self.before(one, method)
        self.made.append(f"{one.name} {method}")
        result = one.source.with_frames(lambda index: one.source.raw(index) + np.uint8(51))
        return Made(result=result, seconds_per_frame=0.5, peak_memory=1 << 20, recipe={"made by": method})

    def run(self, judge=judged):
        self.made.clear()
        self.told.clear()
        self.shown.clear()
        return benchmark(
            self.tasks,
            self.methods,
            make=self.make,
            judge=judge,
            folder=self.folder,
            settings=self.settings,
            progress=lambda *told: self.shown.append(told),
            warn=self.told.append,
        )


@pytest.fixture
def work(tmp_path):
    return Bench(tmp_path / "bench")


ALL = ["bear warp", "bear freeze", "cows warp", "cows freeze", "dog warp", "dog freeze"]


def test_every_task_is_made_by_every_method(work):
    found = work.run()
    assert work.made == ALL
    assert list(found.cards) == ["bear", "cows", "dog"]
    assert list(found.cards["cows"]) == ["warp", "freeze"]
    assert found.cards["cows"]["warp"].values["level"] == pytest.approx(0.2)
    assert found.cards["cows"]["warp"].recipe == {"made by": "warp"}
    assert found.cards["cows"]["warp"].label == "warp"
    assert list(found.groups) == ["all", "pets"]
    assert list(found.groups["pets"]) == ["dog"]
    assert found.failures == ()
    assert found.summary() == "6 results of 3 tasks, none failed."
    assert work.shown == [("benchmark", done, 6) for done in range(1, 7)]
    assert work.told == []


def test_the_judge_is_told_all_that_is_known(work):
    seen = []
    mask, reference = clip(255), clip(40)
    work.tasks = [
        task("bear", source_prompt="a bear", mask=mask, reference=reference, reference_frames=frozenset({2}), cuts=frozenset({1}))
    ]

    def judge(case, label):
        seen.append((case, label))
        return judged(case, label)

    work.run(judge)
    case, label = seen[1]
    assert isinstance(case, Case)
    assert (label, case.prompt, case.source_prompt) == ("freeze", "gold", "a bear")
    assert case.mask is mask
    assert case.reference is reference
    assert (case.reference_frames, case.cuts) == ({2}, {1})
    assert (case.seconds_per_frame, case.peak_memory) == (0.5, 1 << 20)


def test_cuts_are_looked_for_where_nobody_did(work, monkeypatch):
    calls, seen = [], []
    monkeypatch.setattr(bench, "shots", lambda source: calls.append(source) or [range(2), range(2, 3)])
    work.tasks[0] = task("bear", cuts=frozenset())

    def judge(case, label):
        seen.append(case.cuts)
        return judged(case, label)

    work.run(judge)
    assert seen == [set(), set(), {2}, {2}, {2}, {2}]
    assert len(calls) == 2  # once a task, whatever the number of methods


def test_a_finished_benchmark_is_not_done_again(work):
    first = work.run()
    second = work.run()
    assert work.made == []
    assert second == first
    assert work.shown[-1] == ("benchmark", 6, 6)


def test_a_killed_benchmark_does_only_what_is_missing(work):
    def killed(one, method):
        if len(work.made) == 2:
            raise KeyboardInterrupt

    work.before = killed
    with pytest.raises(KeyboardInterrupt):
        work.run()
    assert work.made == ALL[:2]
    assert sorted(file.name for file in (work.folder / "rows").iterdir()) == ["bear--freeze.json", "bear--warp.json"]
    work.before = lambda task, method: None
    found = work.run()
    assert work.made == ALL[2:]
    assert [list(row) for row in found.cards.values()] == [["warp", "freeze"]] * 3


def test_a_row_is_on_disk_before_the_next_is_begun(work):
    def look(one, method):
        assert len(list(work.folder.glob("rows/*.json"))) == len(work.made)
        assert not list(work.folder.glob("rows/.*"))

    work.before = look
    work.run()
    assert len(work.made) == 6


def test_a_row_is_there_whole_or_not_at_all(work, monkeypatch):
    """Killed while it writes: nothing under the row's name."""
    from pathlib import Path

    def killed(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            work.run()
    assert list((work.folder / "rows").glob("*.json")) == []
    work.run()
    assert work.made == ALL


def test_a_changed_recipe_is_made_again_alone(work):
    work.run()
    work.methods["warp"] = {"part": "warp", "radius": 3}
    work.run()
    assert work.made == ["bear warp", "cows warp", "dog warp"]
    work.run()
    assert work.made == []


def test_other_metrics_are_judged_again(work):
    work.run()
    work.settings = {"metrics": ["level", "flicker"]}
    work.run()
    assert work.made == ALL


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": "silver"},
        {"source_prompt": "a cow"},
        {"source": clip(20, frames=4)},
        {"mask": clip(255)},
        {"reference": clip(50)},
        {"reference_frames": frozenset({1})},
        {"facts": {"video": "other"}},
        {"keyframes": {0: clip(1).frame(0)}},
    ],
)
def test_a_changed_task_is_made_again_alone(work, changed):
    work.run()
    work.tasks[1] = replace(work.tasks[1], **changed)
    work.run()
    assert work.made == ["cows warp", "cows freeze"]


def test_another_version_makes_rows_again(work, monkeypatch):
    work.run()
    monkeypatch.setattr(bench, "version", lambda name: "99")
    work.run()
    assert work.made == ALL


def test_a_new_group_needs_no_work(work):
    work.run()
    work.tasks[0] = task("bear", group="wild")
    assert list(work.run().groups) == ["wild", "all", "pets"]
    assert work.made == []


def test_new_tasks_and_methods_join_what_is_finished(work):
    work.run()
    work.tasks.append(task("elk"))
    work.methods["analogy"] = {"part": "analogy"}
    work.run()
    assert work.made == ["bear analogy", "cows analogy", "dog analogy", "elk warp", "elk freeze", "elk analogy"]


def test_a_failed_task_is_a_row_and_the_others_go_on(work):
    def fail(one, method):
        if one.name == "cows" and method == "warp":
            raise WeightsError("No weights here. Download them.")

    work.before = fail
    found = work.run()
    assert work.made == [one for one in ALL if one != "cows warp"]
    (row,) = found.failures
    assert (row.task, row.method, row.card, row.error) == ("cows", "warp", None, "No weights here. Download them.")
    assert list(found.cards["cows"]) == ["freeze"]
    assert found.summary() == "6 results of 3 tasks, 1 failed (warp 1). Most often: No weights here. Download them."
    assert work.told == ["cows by warp failed. No weights here. Download them."]
    assert read_rows(work.folder).failures == found.failures
    work.before = lambda task, method: None
    assert work.run().failures == ()
    assert work.made == ["cows warp"]  # what failed is tried again


def test_a_result_that_does_not_fit_is_a_failure(work):
    make = work.make
    work.make = lambda one, method: replace(make(one, method), result=clip(1, frames=2))
    found = work.run()
    assert len(found.failures) == 6
    assert "3 frames and the result 2" in found.failures[0].error
    assert found.cards == {"bear": {}, "cows": {}, "dog": {}}


def test_a_failing_judge_is_a_failure(work):
    def judge(case, label):
        raise WeightsError("x")

    assert len(work.run(judge).failures) == 6


def test_a_card_that_json_cannot_hold_is_a_failure(work):
    found = work.run(lambda case, label: replace(judged(case, label), facts={"d": float("nan")}))
    assert len(found.failures) == 6
    assert found.failures[0].card is None
    assert found.failures[0].error.startswith("The card of bear by warp cannot be kept")


def test_a_mistake_in_the_program_is_not_hidden(work):
    def fail(one, method):
        raise ZeroDivisionError

    work.before = fail
    with pytest.raises(ZeroDivisionError):
        work.run()


def test_a_task_that_cannot_be_opened_fails_and_the_others_go_on(work):
    def broken():
        raise VideoError("cows.mp4 is empty. Copy it again.")

    first, _, last = work.tasks
    work.tasks = Tasks([("bear", lambda: first), ("cows", broken), ("dog", lambda: last)])
    found = work.run()
    assert work.made == ALL[:2] + ALL[4:]
    assert [(row.task, row.method) for row in found.failures] == [("cows", "warp"), ("cows", "freeze")]
    assert found.cards["cows"] == {}
    assert list(found.groups) == ["all", "pets"]
    assert len(read_rows(work.folder).failures) == 2


def test_a_disk_that_is_away_costs_no_finished_rows(work):
    opened = list(work.tasks)
    away = []

    def opener(one):
        def open_it():
            if away:
                raise VideoError("There is no disk. Plug it in.")
            return one

        return open_it

    work.tasks = Tasks((one.name, opener(one)) for one in opened)
    work.run()
    away.append(True)
    assert len(work.run().failures) == 6
    away.clear()
    assert work.run().failures == ()
    assert work.made == []


def test_tasks_are_opened_one_after_the_other(work):
    alive = []
    work.tasks = Tasks((name, lambda name=name: alive.append(name) or task(name)) for name in ("a", "b"))
    work.before = lambda one, method: alive.append(method)
    work.run()
    assert alive == ["a", "warp", "freeze", "b", "warp", "freeze"]


def test_tasks_may_come_from_a_generator(work):
    work.tasks = (task(name) for name in ("a", "b"))
    assert list(work.run().cards) == ["a", "b"]


NAMES = ["../evil", "a/b", "a\\b", "..", "", "con", "x" * 400, "a b", "a\nb", "nul\0l", "a--b", "naïve"]


def test_unsafe_names_stay_in_the_folder(work, tmp_path):
    work.tasks = [task(name) for name in NAMES]
    work.methods = {name: {} for name in ("../../m", "b", "b--c")}
    first = work.run()
    assert len(first.failures) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 * len(NAMES)
    assert {path.parent for path in files} == {work.folder / "rows"}
    assert work.run() == first
    assert work.made == []
    assert list(first.cards) == NAMES
    assert {row.task for row in read_rows(work.folder).rows} == set(NAMES)


def test_names_that_join_alike_keep_apart(tmp_path):
    assert row_file(tmp_path, "a--b", "c") != row_file(tmp_path, "a", "b--c")
    assert row_file(tmp_path, "bear", "warp") == tmp_path / "rows" / "bear--warp.json"


def test_names_must_differ(work):
    work.tasks.append(task("Bear"))
    with pytest.raises(InputError, match="Two tasks are called 'bear' and 'Bear'"):
        work.run()
    work.tasks.pop()
    work.methods["Warp"] = {}
    with pytest.raises(InputError, match="Two methods are called 'warp' and 'Warp'"):
        work.run()
    assert not work.folder.exists()


@pytest.mark.parametrize("what", ["tasks", "methods"])
def test_nothing_to_do_is_refused(work, what):
    setattr(work, what, type(getattr(work, what))())
    with pytest.raises(InputError, match="has no rows"):
        work.run()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"task": "bear"}', '{"card": null, "error": "", "task": "a"}'])
def test_a_damaged_row_is_told_and_made_again(work, text):
    work.run()
    path = row_file(work.folder, "bear", "warp")
    path.write_text(text)
    with pytest.raises(InputError, match="bear--warp"):
        read_rows(work.folder)
    work.run()
    assert work.made == ["bear warp"]
    assert len(work.told) == 1
    assert "The row is made anew" in work.told[0]
    assert Row.from_dict(json.loads(path.read_text())).card is not None


def test_rows_read_back_as_they_were(work):
    found = work.run()
    assert {(row.task, row.method): row for row in read_rows(work.folder).rows} == {
        (row.task, row.method): row for row in found.rows
    }
    assert all(row.seconds > 0 for row in found.rows)


def test_a_recipe_that_json_cannot_hold_is_refused(work):
    work.methods["warp"] = {"part": object()}
    with pytest.raises(InputError, match="The recipe of 'warp'"):
        work.run()


def test_a_folder_that_cannot_be_made_is_told(work):
    work.folder.write_text("a file")
    with pytest.raises(InputError, match="rows cannot be made"):
        work.run()
