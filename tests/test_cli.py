"""The command line, through its `main` and through the real console script."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import flowpaint
from flowpaint import video
from flowpaint.types import Clip

pytestmark = pytest.mark.usefixtures("negative")

SCRIPT = Path(sys.executable).with_name("flowpaint")


@pytest.fixture
def here(tmp_path, monkeypatch, moving_square):
    """A folder with a video in it, to work in."""
    video.write(moving_square.clip, tmp_path / "in.mp4")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_edit_prints_paths_and_says_the_look(call, here):
    code, out, err = call("edit", "in.mp4", "van gogh", "--method", "negative", "-o", "out.mp4")
    assert code == 0
    assert out.splitlines() == ["out.mp4", "out.sheet.png", "out.json"]
    assert "Look taken: van gogh" in err and "12 frames" in err
    assert sorted(one.name for one in here.iterdir()) == ["in.mp4", "out.json", "out.mp4", "out.sheet.png"]


def test_json_is_one_object_on_stdout(call, here):
    code, out, _ = call("edit", "in.mp4", "sepia", "--method", "negative", "-o", "out.mp4", "--json")
    found = json.loads(out)
    assert code == 0 and found["output"] == "out.mp4" and found["look"].startswith("Look taken: sepia")
    assert json.loads((here / "out.json").read_text())["metrics"] == found["metrics"]


def test_quiet_says_nothing_on_stderr(call, here):
    assert call("edit", "in.mp4", "sepia", "--method", "negative", "-o", "out.mp4", "-q")[2] == ""


def test_the_default_output_is_named_after_the_job(call, here):
    assert call("edit", "in.mp4", "sepia", "--method", "negative", "--seed", "7")[1].splitlines()[0] == "in_negative_7.mp4"


def test_every_option_reaches_the_job(call, here):
    video.write_picture("mask.png", np.full((72, 96, 3), 255, np.uint8))
    code, _, err = call(
        "edit", "in.mp4", "van gogh:0.6, pencil:0.4", "--method", "negative", "-o", "o.mkv", "--mask", "mask.png",
        "--strength", ".5", "--keep-colors", "--quality", "draft", "--seed", "3", "--device", "cpu", "--start", "1",
        "--end", "0.4s", "--side-by-side", "--set", "fails_at=-2", "--set", "editor.short_side=128",
        "--crf", "20", "--codec", "hevc", "--audio", "none",
    )  # fmt: skip
    assert code == 0, err
    job = json.loads((here / "o.json").read_text())["job"]
    assert (job["strength"], job["keep_colors"], job["quality"], job["seed"]) == (0.5, True, "draft", 3)
    assert (job["start"], job["end"], job["side_by_side"]) == ("1", "0.4s", True)
    assert job["encoding"] == {"crf": 20, "codec": "hevc", "audio": "none"}
    assert job["method"]["fails_at"] == -2 and job["method"]["editor"]["short_side"] == 128
    assert job["method"]["editor"]["looks"] == [["van gogh", 0.6], ["pencil", 0.4]]
    assert video.read("o.mkv").width == 192 and len(video.read("o.mkv")) == 9


def test_frames_then_propagate(call, here):
    code, out, err = call("frames", "in.mp4", "--at", "0,0.25s", "-o", "my keys")
    assert code == 0 and out.splitlines() == ["my keys/000000.png", "my keys/000006.png"]
    command = shlex.split(err.partition("then: ")[2])
    assert command[:3] == ["flowpaint", "propagate", "in.mp4"]
    code, out, err = call(*command[1:], "--method", "negative")
    assert (code, out.splitlines()[0]) == (0, "out.mp4"), err
    assert json.loads((here / "out.json").read_text())["job"]["kind"] == "propagate"


def test_a_dry_run_does_nothing(call, here):
    code, out, _ = call("edit", "in.mp4", "sepia", "--method", "negative", "-o", "out.mp4", "--dry-run")
    assert code == 0 and "12 frames, 00:00:00.500, 1 shot:" in out and "h264" in out
    assert "less than 1 s" in out and "about 0 s" not in out and "tracking" not in out
    assert json.loads(call("edit", "in.mp4", "sepia", "--method", "negative", "--dry-run", "--json")[1])["frames"] == 12
    assert [one.name for one in here.iterdir()] == ["in.mp4"]


def test_a_dry_run_names_the_look_once_and_what_is_not_known_yet(call, here):
    code, out, err = call("edit", "in.mp4", "sepia", "-o", "out.mp4", "--dry-run", "--end", "1")
    assert code == 0 and (out + err).count("Look taken: sepia") == 1
    assert "1 frame, " in out and "  frame 0, from" in out
    assert "edited by the method: 0; more are placed by tracking" in out


def test_a_failed_run_says_how_to_go_on(call, here):
    arguments = ("edit", "in.mp4", "sepia", "--method", "negative", "-o", "my out")  # a folder: each picture is a segment
    code, out, err = call(*arguments, "--set", "fails_at=5")
    assert (code, out) == (1, "") and "`flowpaint resume 'my out.run'` goes on from here" in err
    code, _, err = call(*arguments)
    assert code == 2 and "--fresh" in err
    assert call(*arguments, "--fresh")[0] == 0
    assert call("resume", "my out.run")[0] == 2


def test_replay_repeats_a_result(call, here):
    call("edit", "in.mp4", "sepia", "--method", "negative", "-o", "one.mp4", "--seed", "4", "--end", "6")
    for number, source in enumerate(("one.mp4", "one.json")):
        assert call("edit", "--replay", source, "-o", f"two{number}.mkv", "-q")[0] == 0
        made = json.loads((here / f"two{number}.json").read_text())
        assert (made["job"]["seed"], made["job"]["end"], made["job"]["method"]["part"]) == (4, "6", "negative")
    assert call("edit", "--replay", "one.mp4", "--seed", "5")[0] == 2
    assert call("edit", "--replay", "in.mp4")[0] == 2


def test_help_promises_no_job_file_that_no_command_writes(call):
    told = call("edit", "--help")[1]
    assert "--replay" in told and "job file" not in told


def test_a_job_written_by_hand_is_replayed(call, here):
    (here / "job.toml").write_text('input = "in.mp4"\nprompt = "sepia"\nend = "2"\n')
    code, _, err = call("edit", "--replay", "job.toml", "-o", "out.mp4")
    assert code == 0, err
    assert "Look taken: sepia" in err and json.loads((here / "out.json").read_text())["method"] == "analogy"


@pytest.mark.parametrize("name", ["-in.mp4", 'it\'s "in" here.mp4', "名前 ✨.mp4", "100%:in?.mp4"])
def test_any_file_name_works(call, here, name):
    (here / "in.mp4").rename(here / name)
    code, _, err = call("edit", "--method", "negative", "-o", "-out.mp4", "--", name, "sepia")
    assert code == 0, err
    assert (here / "-out.mp4").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", ["van gogh ✨🎨", "VAN GOGH", "ｖａｎ ｇｏｇｈ", "‏van gogh‏", "van\tgogh\n", "van gogh" + "\u0301"]
)
def test_any_unicode_in_the_prompt(call, here, words):
    code, out, err = call("edit", "in.mp4", words, "--method", "negative", "-o", "out.mp4", "--json")
    assert code == 0, err
    assert "van gogh" in json.loads(out)["look"]
    assert json.loads(video.read_comment("out.mp4"))["job"]["prompt"] == words


def test_one_frame_and_16_pixels(call, here):
    for name, shape in (("one.mp4", (1, 72, 96, 3)), ("tiny.mp4", (5, 16, 16, 3))):
        video.write(Clip.from_array(np.random.default_rng(0).integers(0, 255, shape, np.uint8)), here / name)
        code, _, err = call("edit", name, "sepia", "--method", "negative", "-o", "o.mp4", "--overwrite")
        assert code == 0, err
        assert len(video.read(here / "o.mp4")) == shape[0]


def test_a_folder_of_pictures_in_and_out(call, here):
    code, _, err = call("edit", "in.mp4", "sepia", "--method", "negative", "-o", "pictures")
    assert code == 0, err
    code, out, err = call("edit", "pictures", "sepia", "--method", "negative", "--fps", "12")
    assert code == 0, err
    assert video.read(out.splitlines()[0]).rate == 12


def test_shots_looks_list_show_doctor(call, here):
    assert json.loads(call("shots", "in.mp4", "--json")[1])["shots"][0]["last"] == 11
    looks = json.loads(call("looks", "--json")[1])["looks"]
    assert len(looks) >= 36 and all(one["shows"] for one in looks)
    assert "van gogh" in call("looks")[1]
    assert "negative" in call("list", "method")[1].splitlines()
    assert "fails_at: int = -1" in call("show", "negative")[1]
    found = json.loads(call("doctor", "--json")[1])
    assert found["ok"] and "cpu" in found["devices"] and found["weights"]["multistyle26"] == "ok"
    assert call("doctor")[0] == 0


def test_doctor_names_the_extras_that_there_are(call):
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    found = json.loads(call("doctor", "--json")[1])["extras"]
    assert found.keys() == project["optional-dependencies"].keys()
    assert found["dev"]  # these tests run


@pytest.mark.slow
def test_a_page_with_every_look(call, here):
    code, out, _ = call("looks", "--sheet", "looks.png", "--on", "in.mp4")
    assert (code, out.strip()) == (0, "looks.png") and min(video.read_picture("looks.png").shape[:2]) > 300
    assert call("looks", "--sheet", "looks.png")[0] == 2


def test_no_colour_where_none_is_wanted(call, here):
    assert "\x1b" not in "".join(call("edit", "nothing.mp4", "sepia", "--method", "negative")[1:])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (MemoryError(), 5),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."), 5),
        (OSError(28, "No space left on device"), 1),
        (ZeroDivisionError("surprise"), 1),
    ],
    ids=["interrupted", "memory", "torch's memory", "disk", "surprise"],
)
def test_every_end_has_its_code_and_no_traceback(call, here, monkeypatch, error, code):
    def fail(self, clip, edit, run):
        raise type(error)(*error.args)  # a new one: an error keeps all that it passed, with the open video

    monkeypatch.setattr("test_api.Negative.__call__", fail)
    found, out, err = call("edit", "in.mp4", "sepia", "--method", "negative", "-o", "out.mp4")
    assert (found, out) == (code, "") and "Traceback" not in err
    assert "`flowpaint resume out.mp4.run` goes on from here." in err
    assert "Traceback" in call("edit", "in.mp4", "sepia", "--method", "negative", "-o", "out.mp4", "--debug")[2]
    assert not (here / "out.mp4").exists()


# ------------------------------------------------------------------------------------------------------- the real thing


def shell(*arguments, **options):
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(
        [str(one) for one in arguments], capture_output=True, text=True, env=environment, timeout=120, **options
    )


def test_the_console_script_and_the_module():
    for command in ([SCRIPT], [sys.executable, "-m", "flowpaint"]):
        assert shell(*command, "--version").stdout == f"flowpaint {flowpaint.__version__}\n"
    told = shell(SCRIPT, "--help").stdout
    assert all(
        name in told
        for name in ("edit", "propagate", "frames", "shots", "looks", "deflicker", "colorize", "resume", "doctor", "list", "show")
    )


@pytest.mark.slow
def test_errors_leave_the_console_script_with_their_code(tmp_path):
    for arguments, code in ((("shots", "missing.mp4"), 4), (("frames",), 2)):
        found = shell(SCRIPT, *arguments, cwd=tmp_path)
        assert (found.returncode, found.stdout) == (code, "") and found.stderr and "Traceback" not in found.stderr


def test_an_edit_through_the_console_script(here):
    found = shell(SCRIPT, "edit", "in.mp4", "sepia", "-o", "out.mp4", "--end", "3", cwd=here)
    assert found.returncode == 0, found.stderr
    assert len(video.read(here / "out.mp4")) == 3


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (1, 96, 128, 3), np.uint8)
    clip = Clip.from_array(np.concatenate([np.roll(frames, index, axis=2) for index in range(120)]))
    video.write(clip, tmp_path / "in.mp4", encoding=video.Encoding(preset="ultrafast"))
    command = [str(SCRIPT), "edit", "in.mp4", "sepia", "-o", "out.mp4"]
    # A shell's background jobs ignore the signal, and so would the child of tests that run as one.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command, cwd=tmp_path, preexec_fn=heard, **pipes)
    give_up = time.monotonic() + 120
    while not list(tmp_path.glob("out.mp4.run/segments/*.mkv")) and child.poll() is None and time.monotonic() < give_up:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, ""), err
    assert "flowpaint resume out.mp4.run" in err and "Traceback" not in err
    assert not (tmp_path / "out.mp4").exists()
    found = shell(SCRIPT, "resume", "out.mp4.run", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert len(video.read(tmp_path / "out.mp4")) == 120
