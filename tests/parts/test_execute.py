"""Independent work: in order, here or in other processes, errors with the item's name."""

import os
from pathlib import Path

import pytest

from flowpaint import seams
from flowpaint.errors import ConfigError, InputError, WorkError
from flowpaint.parts.execute import LocalExecutor


def measured(path):
    if path.name == "broken":
        raise ZeroDivisionError("no number")
    if path.name == "refused":
        raise InputError("The file is refused. Give another.")
    return path.name, os.getpid()


def files(*names):
    return [Path(name) for name in names]


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)])
def executor(request):
    return LocalExecutor(workers=request.param)


def test_results_come_in_order(executor):
    found = list(executor.map(measured, files(*"dcabfe"), str))
    assert [name for name, _ in found] == list("dcabfe")
    assert ({pid for _, pid in found} == {os.getpid()}) is (executor.workers == 1)


def test_the_first_error_names_its_item(executor):
    results = executor.map(measured, files("a", "broken", "b"), str)
    assert next(results)[0] == "a"
    with pytest.raises(WorkError, match="The work on broken failed: ZeroDivisionError: no number") as caught:
        next(results)
    assert isinstance(caught.value.__cause__, ZeroDivisionError) or executor.workers > 1


def test_errors_of_ours_pass_as_they_are(executor):
    with pytest.raises(InputError, match="The file is refused"):
        list(executor.map(measured, files("refused"), str))


def test_nothing_is_done_before_it_is_asked_for():
    done = []
    results = LocalExecutor().map(lambda item: done.append(item) or item, [1, 2, 3], str)
    assert next(results) == 1 and done == [1]


def test_it_is_a_part():
    assert seams.build("executor", "local", workers=3) == LocalExecutor(workers=3)
    assert isinstance(LocalExecutor(), seams.Executor)
    assert list(LocalExecutor().map(measured, [], str)) == []
    with pytest.raises(ConfigError):
        LocalExecutor(workers=0)
