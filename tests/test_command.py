"""The command line of a job, read by the command line itself, gives that job again."""

import shlex
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowpaint import api
from flowpaint.cli import edits, main


@pytest.fixture
def parsed(monkeypatch):
    """The job that a command line means, its output as it was given."""
    found = []
    monkeypatch.setattr(edits, "_make", lambda job, out, *_: found.append(replace(job, output=str(out.output or ""))))

    def parse(line):
        words = shlex.split(line)
        assert words[0] == "flowpaint"
        with pytest.raises(SystemExit) as left:
            main(words[1:])
        assert not left.value.code, line
        return found.pop()

    return parse


def planned(kind="edit", video="in.mp4", **options):
    if kind in ("deflicker", "colorize"):
        options["method"] = kind
    return replace(api.plan_job(kind, video, **options)[0], output=options.pop("output", "out.mp4"))


CASES = {
    "a look": {"prompt": "van gogh"},
    "quotes": {"prompt": "van gogh", "video": 'it\'s a "clip" $HOME.mp4'},
    "a name like an option": {"prompt": "van gogh", "video": "-x.mp4"},
    "everything plain": {
        "prompt": "mosaic",
        "strength": 0.25,
        "keep_colors": True,
        "start": "3",
        "end": "00:00:09.500",
        "preview": "2s",
        "quality": "draft",
        "seed": 9,
        "device": "cpu",
        "fps": "30000/1001",
        "side_by_side": True,
        "strict": True,
        "allow_damaged": True,
        "tonemap": True,
        "mask": "mask of me.png",
        "offline": True,
        "commercial_only": True,
        "encoding": {"codec": "hevc", "crf": 20, "preset": "slow", "pixel_format": "yuv444p", "pad_even": True, "audio": "none"},
    },
    "settings": {"prompt": "van gogh", "settings": {"flow.preset": "fast", "lost": "0.5", "propagate.flow": "by-distance"}},
    "another method": {"prompt": "van gogh", "method": "frame-by-frame"},
    "key frames": {"method": "warp", "keyframes": {"0": "a=b.png", "3.5s": "b.png"}, "settings": {"propagate.flow": "raft"}},
    "an editor that is off": {"method": "analogy", "keyframes": {"0": "a.png"}},
    "words by time": {"method": "fresco", "prompt": "a fox", "prompts": {"12": "a = wolf"}, "negative": "blur"},
    "words like an option": {"method": "fresco", "prompt": "--snow", "settings": {"model.weights": "sd15"}},
    "a model for the editor": {"prompt": "a fox", "settings": {"model.weights": "sd15", "control": "canny"}},
    "a model by its name alone": {"method": "fresco", "prompt": "a fox", "settings": {"model.weights": "flowpaint-mini"}},
    "steps beside a model": {"method": "fresco", "prompt": "fox", "settings": {"model.weights": "sd15", "num_steps": "7"}},
    "no control": {"method": "fresco", "prompt": "fox", "settings": {"model.own_control": "false"}},
    "an object": {"objects": ["click:10,20", "my mask.png"], "prompt": "a fox", "settings": {"editor": "inpaint"}},
    "away": {"objects": ["auto"], "remove": True},
    "an order": {"objects": ["auto"], "instruct": True, "prompt": "make it -red", "settings": {"editor": "instruct-pix2pix"}},
    "pictures": {
        "objects": ["box:1,2,3,4"],
        "new_object": "n.png",
        "reference": "r.png",
        "sketch": "s.png",
        "depth": "d.mp4",
        "keyframes": {"0": "e.png"},
    },
    "carried": {"kind": "propagate", "keyframes": {"0": "a.png"}, "other_shots": "keep"},
    "carried by another": {
        "kind": "propagate",
        "keyframes": {"0": "a.png"},
        "method": "warp",
        "settings": {"propagate.flow.preset": "fast"},
    },
    "flicker": {"kind": "deflicker", "strength": 0.5, "settings": {"tone": "3"}},
    "colours": {"kind": "colorize", "by": "by.mp4", "resample": True, "strength": 0.5},
}


@pytest.mark.parametrize("case", CASES)
def test_the_line_gives_the_job_again(parsed, case):
    job = planned(**CASES[case])
    assert parsed(api.command(job)) == job


def test_only_what_differs_is_said():
    assert api.command(planned(prompt="van gogh")) == "flowpaint edit in.mp4 'van gogh' -o out.mp4"
    line = api.command(planned(prompt="van gogh", settings={"flow.preset": "fast"}, seed=3))
    assert line == "flowpaint edit in.mp4 'van gogh' --set=flow.preset=fast --seed=3 -o out.mp4"


def test_the_output_is_left_out_where_there_is_none():
    assert api.command(replace(planned(prompt="van gogh"), output="")) == "flowpaint edit in.mp4 'van gogh'"


def test_files_have_the_names_that_are_given():
    job = planned(prompt="mosaic", video="/data/assets/1/file.mp4", mask="/data/assets/2/file.png", objects=())
    line = api.command(job, {"/data/assets/1/file.mp4": "me.mp4", "/data/assets/2/file.png": "hat.png", "out.mp4": "o.mp4"}.get)
    assert line == "flowpaint edit me.mp4 mosaic --mask=hat.png -o o.mp4"


TIMES = st.one_of(st.integers(0, 999).map(str), st.integers(0, 99).map("{}.5s".format))
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(str.strip)
FILES = WORDS.filter(lambda name: "/" not in name).map("{}.png".format)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    look=st.sampled_from(["van gogh", "mosaic", "warmer"]),
    video=FILES,
    keyframes=st.dictionaries(TIMES, FILES, max_size=2),
    strength=st.floats(0, 1),
    seed=st.integers(0, 2**31),
    flags=st.sets(st.sampled_from(["keep_colors", "side_by_side", "strict", "allow_damaged", "tonemap", "offline"])),
    chosen=st.dictionaries(
        st.sampled_from(["lost", "longest", "propagate.refresh", "propagate.spacing"]),
        st.integers(1, 9).map(str),
        max_size=3,
    ),
)
def test_many_lines_give_their_jobs_again(parsed, look, video, keyframes, strength, seed, flags, chosen):
    job = planned(
        prompt=look, video=video, keyframes=keyframes, strength=strength, seed=seed, settings=chosen, **dict.fromkeys(flags, True)
    )
    assert parsed(api.command(job)) == job


def test_what_a_model_brings_is_not_said():
    """The model comes first, for other fields follow from it: the bundled one has its own guidance, solver and strength."""
    job = planned(method="fresco", prompt="a fox", settings={"model.weights": "sd-turbo", "strength": "0.5"})
    assert "--set=model.weights=sd-turbo --set=strength=0.5 " in api.command(job)
