"""Switches and step windows of FRESCO."""

import dataclasses

import pytest
import torch

from flowpaint.errors import ConfigError
from flowpaint.parts.consistency.fresco import Fresco
from flowpaint.parts.consistency.switches import SWITCHES, Switches, Turned, active

OFFICIAL, PAPER = SWITCHES["official"], SWITCHES["paper"]


def steps(switches, num_steps, first=0):
    """The steps in which each part is on. Diffusion times as the released schedule has them, leading with offset 1."""
    found = {name: [] for name in ("spatial", "temporal", "optimise", "background")}
    for step in range(first, num_steps):
        t = (num_steps - 1 - step) * (1000 // num_steps) + 1
        on = active(switches, step, num_steps=num_steps, first=first, t=t)
        for name, places in found.items():
            places += [step] * getattr(on, name)
    return found


@pytest.mark.parametrize("first", [0, 3, 8])
def test_twenty_steps_are_the_released_windows(first):
    assert steps(OFFICIAL, 20, first) == {
        "spatial": [first],
        "temporal": list(range(first, 13)),  # t >= 350
        "optimise": list(range(first, 15)),
        "background": [16, 17],
    }


@pytest.mark.parametrize("num_steps", [8, 20])
def test_a_small_model_is_bound_in_every_step(num_steps):
    every = list(range(3, num_steps))
    found = steps(SWITCHES["small"], num_steps, 3)
    assert (found["temporal"], found["optimise"]) == (every, every)
    assert found["spatial"] == every[: int(0.4 * num_steps + 0.5)]


def test_other_numbers_of_steps_keep_the_shares():
    fifty = steps(OFFICIAL, 50, 10)
    assert fifty["spatial"] == [10, 11, 12]
    assert fifty["optimise"] == list(range(10, 37))
    assert fifty["background"] == [40, 41, 42, 43, 44]
    assert fifty["temporal"] == list(range(10, 32))
    ten = steps(OFFICIAL, 10)
    assert (ten["spatial"], ten["optimise"], ten["background"]) == ([0], list(range(7)), [8])


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5, 7, 13, 100])
def test_no_window_vanishes(num_steps):
    found = steps(OFFICIAL, num_steps)
    assert found["spatial"][0] == 0
    assert found["background"]
    assert len(found["background"]) == max(1, int(num_steps * 0.1 + 0.5 + 1e-6))
    assert num_steps == 1 or found["optimise"]


def test_the_paper_has_no_windows():
    found = steps(PAPER, 20, 5)
    assert found["spatial"] == found["optimise"] == list(range(5, 20))
    off = dataclasses.replace(OFFICIAL, spatial_share=0.0, background_from=0.8, background_to=0.8)
    assert steps(off, 20)["spatial"] == steps(off, 20)["background"] == []


def test_each_quirk_can_be_turned_alone():
    fields = [field.name for field in dataclasses.fields(Switches)]
    differing = [name for name in fields if getattr(OFFICIAL, name) != getattr(PAPER, name)]
    assert {"adain_eps", "spatial_norm", "cyclic_pairs", "lr"} <= set(differing)
    for name in differing:
        one = dataclasses.replace(OFFICIAL, **{name: getattr(PAPER, name)})
        assert [other for other in fields if getattr(one, other) != getattr(OFFICIAL, other)] == [name]
    assert all(isinstance(getattr(OFFICIAL, name), (int, float, str, bool)) for name in fields)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spatial_share": 1.5},
        {"background_from": 0.9, "background_to": 0.8},
        {"lr": 0.0},
        {"temporal_temperature": -1.0},
        {"adain_eps": -1.0},
        {"iterations": -1},
        {"spatial_weight": -0.1},
        {"saliency_growth": 4},
        {"spatial_norm": "l3"},
    ],
)
def test_impossible_switches_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"\. "):
        Switches(**wrong)


@pytest.mark.parametrize(("step", "first"), [(20, 0), (2, 3), (0, -1)])
def test_a_step_outside_the_schedule_is_refused(step, first):
    with pytest.raises(ConfigError, match="Step"):
        active(OFFICIAL, step, num_steps=20, first=first, t=1)


RELEASED = {
    (9, 8): [6, 3],
    (10, 8): [7, 3],
    (14, 8): [8, 6],
    (12, 4): [4, 2, 2, 1, 3],
    (13, 4): [4, 2, 2, 2, 3],
    (9, 3): [3, 1, 1, 1, 1, 2],
    (5, 3): [3, 2],
}


def test_a_cpu_gets_the_squared_loss_unless_told_otherwise():
    part = Fresco()
    assert part.switches(torch.device("cpu")) == dataclasses.replace(OFFICIAL, spatial_norm="l2sq")
    assert part.switches(torch.device("cuda")) == OFFICIAL
    assert Fresco(compat="official").switches(torch.device("cpu")) == OFFICIAL
    assert Fresco(compat="paper", lr=0.1).switches(torch.device("cuda")) == dataclasses.replace(PAPER, lr=0.1)


def test_every_switch_can_be_set_alone():
    names = [one.name for one in dataclasses.fields(Switches)]
    assert [one.name for one in dataclasses.fields(Turned)] == names
    assert Turned().turn(PAPER) == PAPER
    for name in names:
        other = getattr(PAPER if getattr(PAPER, name) != getattr(OFFICIAL, name) else Switches(**EVERY), name)
        turned = Turned(**{name: other}).turn(OFFICIAL)
        assert turned == dataclasses.replace(OFFICIAL, **{name: other}) != OFFICIAL
    off = Turned(cyclic_pairs=False, temporal_weight=0.0, iterations=0).turn(OFFICIAL)
    assert (off.cyclic_pairs, off.temporal_weight, off.iterations) == (False, 0.0, 0), "0 and false are values, too"
    with pytest.raises(ConfigError, match="learning rate"):
        Turned(lr=0.0).turn(OFFICIAL)


EVERY = {  # a value for each switch that neither of the two has
    "spatial_temperature": 4.0,
    "temporal_temperature": 6.0,
    "temporal_until": 300.0,
    "background_from": 0.7,
    "background_to": 0.95,
    "iterations": 7,
    "occlusion_growth": 9,
    "saliency_growth": 5,
}
