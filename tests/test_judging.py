"""`evaluate` and `compare`, from files to a page, through Python and the command line."""

import json

import numpy as np
import pytest
import torch

from conftest import smooth_texture
from flowpaint import api, video
from flowpaint.errors import ConfigError, InputError, WeightsError
from flowpaint.types import Clip

pytestmark = pytest.mark.usefixtures("negative")

SIZE = (64, 96)
LOSSLESS = video.Encoding(codec="ffv1", pixel_format="bgr0")


def panned(count=6, size=SIZE):
    """A texture that moves a pixel a frame."""
    texture = smooth_texture(size[0] * 2, size[1] * 2, 4, waves=8)
    return torch.stack([texture[:, : size[0], 8 + index : 8 + index + size[1]] for index in range(count)])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a source and three results of it: brighter, flickering, another length."""
    frames = panned() * 0.8
    flicker = 8 / 255 * torch.tensor([(-1.0) ** index for index in range(6)])[:, None, None, None]
    for name, pictures in {
        "in": frames,
        "bright": frames + 0.1,
        "flicker": (frames + flicker).clamp(0, 1),
        "short": frames[:4],
        "small": panned(size=(32, 48)),
        "black": 0 * frames,
        "one": frames[:1],
    }.items():
        video.write(Clip.from_array(pictures), tmp_path / f"{name}.mkv", encoding=LOSSLESS)
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[10:30, 10:40] = 255
    video.write_picture(tmp_path / "mask.png", mask)
    video.write_picture(tmp_path / "no_mask.png", 0 * mask)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def card_of(verdict):
    (card,) = verdict.cards.values()
    return card


def test_a_brighter_video_is_bright_and_steady(here):
    card = card_of(api.evaluate("bright.mkv", "in.mkv", metrics="fidelity,flicker,colour-drift,edit-strength"))
    assert card.values["psnr"] == pytest.approx(20.0, abs=0.2)
    assert card.values["flicker"] < 0.6 and card.values["drift_mean"] == pytest.approx(card.values["drift_mean_source"], abs=0.1)
    assert card.label == "bright" and card.frames == 6 and (card.width, card.height) == (96, 64)
    assert card.times[1] == pytest.approx(1 / 24, abs=1e-3)  # Matroska counts in milliseconds


def test_a_flickering_video_flickers(here):
    flickering = card_of(api.evaluate("flicker.mkv", "in.mkv", metrics="flicker,warp-error"))
    steady = card_of(api.evaluate("bright.mkv", "in.mkv", metrics="flicker,warp-error"))
    assert flickering.values["flicker"] > 7 > 10 * steady.values["flicker"]
    assert flickering.values["we_src"] > 20 * steady.values["we_src"]


def test_fast_is_half_size_and_needs_no_network(here):
    card = card_of(api.evaluate("bright.mkv", "in.mkv", metrics="fast"))
    assert (card.width, card.height) == (48, 32) and card.facts["resize"] == "area"
    assert "ultrafast" in card.facts["warp-error.flow"] and not any("weights" in reason for reason in card.missing.values())
    assert {"psnr", "flicker", "we_src", "edit_strength"} <= card.values.keys()


def test_what_cannot_be_measured_is_missing_with_a_reason(here):
    card = card_of(api.evaluate("one.mkv", "one.mkv", metrics="all"))
    assert card.values["psnr"] == 100.0
    assert set(card.values) | set(card.missing) == set(card.measures) and not set(card.values) & set(card.missing)
    assert "needs two frames" in card.missing["we_src"] and "mask" in card.missing["psnr_outside"]
    assert card.missing["clip_score"], "no prompt, no weights: never a zero"


def test_a_metric_that_is_named_must_have_its_weights(here):
    with pytest.raises(WeightsError):
        api.evaluate("bright.mkv", "in.mkv", metrics="lpips", settings=["lpips.extractor.weights=nowhere.pth"])


@pytest.mark.parametrize(
    ("result", "source", "said"), [("short.mkv", "in.mkv", "6 frames of 96x64 and short.mkv 4"), ("small.mkv", "in.mkv", "48x32")]
)
def test_videos_that_do_not_belong_together_are_refused(here, result, source, said):
    with pytest.raises(InputError, match=said):
        api.evaluate(result, source, metrics="fast")


def test_or_resampled_when_told(here):
    card = card_of(api.evaluate("short.mkv", "in.mkv", metrics="fidelity", resample=True))
    assert card.frames == 6 and card.series["psnr"][2] == 100.0 > card.series["psnr"][5]
    small = card_of(api.evaluate("small.mkv", "in.mkv", metrics="fidelity", resample=True))
    assert (small.width, small.height) == (96, 64)


def test_masks_may_be_pictures(here):
    card = card_of(api.evaluate("bright.mkv", "in.mkv", metrics="identity,shape", mask="mask.png", result_mask="mask.png"))
    assert card.values["outside_change"] == pytest.approx(25.5, abs=0.6) and card.values["shape_iou"] == 1.0
    empty = card_of(
        api.evaluate(
            "bright.mkv", "in.mkv", metrics="identity,edit-strength,shape", mask="no_mask.png", result_mask="no_mask.png"
        )
    )
    assert "no foreground" in empty.missing["edit_strength"] and "no foreground" in empty.missing["shape_iou"]
    with pytest.raises(InputError, match="mask"):
        api.evaluate("bright.mkv", "in.mkv", metrics="fast", mask="short.mkv")


def test_an_all_black_video_is_judged(here):
    card = card_of(api.evaluate("black.mkv", "in.mkv", metrics="fast"))
    assert card.values["sharpness"] == 0.0 and card.values["we_src"] == 0.0 and card.values["edit_strength"] > 20


def test_frames_that_are_no_numbers_are_refused():
    frames = panned(2)
    frames[1, 0, 5, 5] = float("nan")
    with pytest.raises(InputError, match="not a number"):
        Clip.from_array(frames)


def test_unknown_metrics_and_fields_name_the_nearest(here):
    with pytest.raises(ConfigError, match="'flicker'"):
        api.evaluate("bright.mkv", "in.mkv", metrics="flikcer")
    with pytest.raises(ConfigError, match="no field"):
        api.evaluate("bright.mkv", "in.mkv", metrics="flicker", settings=["flicker.size=3"])
    with pytest.raises(ConfigError, match="Nearest: 'flicker'"):
        api.evaluate("bright.mkv", "in.mkv", metrics="flicker", settings=["flikker.size=3"])
    with pytest.raises(InputError, match=r"metric\.field=value"):
        api.evaluate("bright.mkv", "in.mkv", metrics="flicker", settings=["flicker"])


def test_what_made_a_result_is_read_from_it(here):
    result = flowpaint_edit(here)
    card = card_of(api.evaluate(result, "in.mkv", metrics="cost,edit-strength"))
    assert card.label == "negative" and card.recipe["prompt"] == "van gogh"
    assert card.values["seconds_per_frame"] > 0 and card.values["peak_memory"] > 50


def test_a_result_of_a_part_is_judged_against_that_part(here):
    card = card_of(api.evaluate(flowpaint_edit(here, start=2, end=5), "in.mkv", metrics="fidelity"))
    whole = card_of(api.evaluate(flowpaint_edit(here), "in.mkv", metrics="fidelity"))
    assert card.frames == 3 and card.values["psnr"] == pytest.approx(
        np.mean([whole.series["psnr"][i] for i in (2, 3, 4)]), abs=0.2
    )


def flowpaint_edit(here, **part):
    import flowpaint

    return flowpaint.edit("in.mkv", "van gogh", method="negative", **part).save(here / "out.mp4", overwrite=True)


def test_the_command_writes_a_page_and_a_table(call, here):
    code, out, _ = call("evaluate", "flicker.mkv", "--source", "in.mkv", "--metrics", "flicker,warp-error", "--report", "r.html")
    assert code == 0 and "Flicker" in out and out.splitlines()[-1] == "r.html"
    page = (here / "r.html").read_text("utf-8")
    assert "flicker.mkv" in page and "data:image" in page and page.count("<svg") >= 2
    assert json.loads((here / "r.json").read_text("utf-8"))["cards"][0]["values"]["flicker"] > 7
    assert "we_src" in (here / "r.csv").read_text("utf-8")
    code, _, err = call("evaluate", "flicker.mkv", "--source", "in.mkv", "--metrics", "flicker", "--report", "r.html")
    assert code == 2 and "exists" in err


def test_the_command_says_it_in_json(call, here):
    code, out, _ = call("evaluate", "bright.mkv", "--source", "in.mkv", "--metrics", "fidelity", "--json", "-q")
    assert code == 0 and json.loads(out)["cards"][0]["values"]["psnr"] == pytest.approx(20.0, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("short.mkv", "--source", "in.mkv"), 2, "6 frames of 96x64 and short.mkv 4"),
        (("gone.mkv", "--source", "in.mkv"), 4, "gone.mkv"),
        (("bright.mkv", "--source", "in.mkv", "--metrics", "beauty"), 2, "Nearest"),
        (("bright.mkv", "--source", "in.mkv", "--report", "r.pdf"), 2, ".html"),
        (("bright.mkv", "--source", "in.mkv", "--report", "no/r.html"), 2, "does not exist"),
        (("bright.mkv", "--source", "in.mkv", "--metrics", "lpips"), 3, "weights"),
        (("bright.mkv", "--source", "in.mkv", "--metrics", "fast", "--mask", "small.mkv"), 2, "mask"),
    ],
)
def test_bad_input_ends_with_its_code(call, here, arguments, code, said):
    got, out, err = call("evaluate", *arguments)
    assert (got, out) == (code, "") and said in err and "Traceback" not in err


@pytest.mark.slow
def test_methods_are_compared_on_one_page(call, here):
    arguments = ("compare", "in.mkv", "van gogh", "--methods", "negative,freeze", "--metrics", "flicker,warp-error,edit-strength")
    code, out, err = call(*arguments, "--report", "c.html")
    assert code == 0, err
    assert sorted(one.name for one in (here / "c.files").glob("*.mp4")) == ["freeze.mp4", "negative.mp4"]
    cards = {one["label"]: one for one in json.loads((here / "c.json").read_text("utf-8"))["cards"]}
    assert cards["freeze"]["values"]["motion_ratio"] < 0.2 < cards["negative"]["values"]["motion_ratio"]
    assert "negative" in out.splitlines()[0] and "freeze" in out.splitlines()[0]
    made = (here / "c.files" / "negative.mp4").stat().st_mtime_ns
    code, _, _ = call(*arguments, "--report", "c.html", "--overwrite")
    assert code == 0 and (here / "c.files" / "negative.mp4").stat().st_mtime_ns == made, "what is there is not made again"
    code, _, err = call("compare", "in.mkv", "van gogh")
    assert code == 2 and "--report" in err


def test_all_fetches_nothing_and_a_named_metric_does(here, monkeypatch):
    asked = []

    def refuse(name, *, local_files_only, **_):
        asked.append(local_files_only)
        raise FileNotFoundError(name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    card = card_of(api.evaluate("bright.mkv", "in.mkv", metrics="all", prompt="a bright day"))
    assert "clip_score" in card.missing and asked == [True]
    asked.clear()
    with pytest.raises(WeightsError):
        api.evaluate("bright.mkv", "in.mkv", metrics="clip", prompt="a bright day")
    assert asked == [True, False]
