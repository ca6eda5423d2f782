"""Known edits: filters whose numbers define a benchmark, and tasks whose answer is the filter of every frame."""

import hashlib
import importlib.util

import numpy as np
import pytest
import torch

from flowpaint.errors import ConfigError, InputError
from flowpaint.evaluation import known_edits as known
from flowpaint.evaluation.card import Card
from flowpaint.parts.metrics.known_filters import FILTERS, prepare, prepared_size
from flowpaint.types import Clip, Measure
from video_files import make, smooth


def scene(height=64, width=80, seed=0):
    """Edges, waves and grain: every branch of the filters has something to do."""
    rng = np.random.default_rng(seed)
    picture = smooth(height, width, seed=seed).astype(np.int16)
    picture[10:30, 20:50] += 70
    return np.clip(picture + rng.integers(-20, 20, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def golden(shared):
    """The definition of the benchmark, where the shared files are."""
    path = shared / "golden" / "known_edits" / "filters.py"
    if not path.exists():
        pytest.skip(f"no {path.name} among the shared files")
    spec = importlib.util.spec_from_file_location("golden_filters", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_those_of_the_definition_to_the_bit(golden, name):
    for seed in range(3):
        picture = scene(seed=seed)
        kept = picture.copy()
        assert np.array_equal(FILTERS[name](picture), golden.FILTERS[name](picture))
        assert np.array_equal(picture, kept)


@pytest.mark.parametrize("size", [16, 48, 256])
@pytest.mark.parametrize("shape", [(64, 80), (77, 53), (251, 333)])
def test_prepared_frames_are_those_of_the_definition_to_the_bit(golden, size, shape):
    picture = scene(*shape)
    assert np.array_equal(prepare(picture, size), golden.prepare(picture, size))
    assert prepared_size(*shape, size) == golden.prepare(picture, size).shape[:2]


def test_the_definition_is_complete(golden):
    assert tuple(FILTERS) == tuple(golden.FILTERS)
    assert golden.TIMES == known.TIMES


def test_the_colour_filter_by_hand():
    """Without shared files too: its numbers, worked out again for one pixel."""
    rng = np.random.default_rng(7)
    matrix = 0.7 * np.eye(3) + rng.uniform(-0.45, 0.6, (3, 3))
    gamma, offset = rng.uniform(0.7, 1.5), rng.uniform(-0.2, 0.2, 3)
    pixel = np.array([200, 30, 90], np.uint8)
    wanted = [sum((pixel[i] / 255) ** gamma * matrix[i, j] for i in range(3)) + offset[j] for j in range(3)]
    found = FILTERS["colour"](np.tile(pixel, (8, 8, 1)))[4, 4]
    assert np.array_equal(found, np.round(255 * np.clip(wanted, 0, 1)))


def test_poster_has_few_colours_and_pencil_none():
    picture = scene()
    assert len(np.unique(FILTERS["poster"](picture).reshape(-1, 3), axis=0)) <= 5**3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5**3
    lines = FILTERS["pencil"](picture)
    assert np.array_equal(lines[..., 0], lines[..., 1])
    assert np.array_equal(lines[..., 0], lines[..., 2])
    assert abs(FILTERS["pencil"](np.full((32, 32, 3), 77, np.uint8)).astype(int) - 235).max() == 0  # no edges: paper


# --------------------------------------------------------------------------------------------------------------- tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    make(root / "long.mp4", [smooth(36, 52, shift) for shift in range(40)])
    make(root / "short.mp4", [smooth(36, 52, shift) for shift in range(20)])
    make(root / "tiny.mp4", [smooth(36, 52, shift) for shift in range(5)])
    (root / "Thumbs.db").write_bytes(b"stray")
    return root


def test_every_video_by_every_filter_and_size(folder):
    tasks = known.known_edits(folder, sizes=(32, 48))
    assert len(tasks) == 3 * 5 * 2
    assert tasks.names[:2] == ("long-32-colour", "long-32-poster")
    assert tasks.names[5] == "long-48-colour"


def test_a_task_gives_one_filtered_frame_and_knows_the_others(folder):
    from flowpaint import video

    task = known.known_edits(folder, filters=["pencil"], sizes=(32,))[0]
    whole = video.read(folder / "long.mp4")
    assert (task.name, task.group) == ("long-32-pencil", "pencil-32")
    assert (len(task.source), len(task.reference)) == (31, 31)
    assert (task.source.height, task.source.width) == (32, 40)  # 36x52 -> 32x46, cut to multiples of 8
    assert task.reference_frames == {8, 16, 30}
    for time in (0, 8, 30):
        frame = prepare(whole.raw(time), 32)
        assert np.array_equal(task.source.raw(time), frame)
        assert np.array_equal(task.reference.raw(time), FILTERS["pencil"](frame))
    assert list(task.keyframes) == [0]
    assert torch.equal(task.keyframes[0], task.reference.frame(0))
    assert task.mask is None
    assert task.source.times == whole.times[:31]


def test_frames_are_filtered_when_asked_for_and_once(folder, monkeypatch):
    made = []
    monkeypatch.setattr(known, "FILTERS", {"pencil": lambda picture: made.append(1) or picture})
    task = known.known_edits([folder / "long.mp4"], filters=["pencil"], sizes=(32,))[0]
    assert made == []
    for _ in range(2):
        task.reference.raw(8)
    assert made == [1]


def test_short_videos_count_where_they_reach(folder):
    told = []
    tasks = known.known_edits(folder, filters=["colour"], sizes=(32,), warn=told.append)
    assert told == []
    assert tasks[1].reference_frames == {8, 16}
    assert told == ["short.mp4 has 20 frames. The truth counts at frames 8, 16 only."]
    with pytest.raises(InputError, match=r"tiny\.mp4 has 5 frames\. Give one of 9 or more"):
        tasks[2]


def test_deeper_videos_are_filtered_as_8_bit():
    picture = scene(32, 32) // 2
    deep = Clip.from_array(np.stack([picture.astype(np.uint16) * 257 + 40] * 2))
    flat = known.prepared(deep, 32)
    assert flat.raw(0).dtype == np.uint8
    assert np.array_equal(flat.raw(0), picture)
    assert np.array_equal(known.edited(flat, "colour").raw(1), FILTERS["colour"](picture))


def test_two_videos_of_one_name_are_told_apart(folder, tmp_path):
    for suffix in ("mp4", "mkv"):
        make(tmp_path / f"a.{suffix}", [smooth(36, 52, shift) for shift in range(9)])
    assert known.known_edits(tmp_path, filters=["colour"]).names == ("a.mkv-256-colour", "a.mp4-256-colour")


def test_mistakes_are_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"'color'\. Nearest: 'colour'"):
        known.known_edits(folder, filters=["color"])
    with pytest.raises(InputError, match="too small"):
        known.known_edits(folder, sizes=(8,))
    with pytest.raises(InputError, match="holds no videos"):
        known.known_edits(tmp_path)


def test_facts_tell_filters_and_files_apart(folder):
    facts = [tuple(sorted(task.facts.items())) for task in known.known_edits(folder, sizes=(32, 48))[:20]]
    assert len(set(map(str, facts))) == 20


# -------------------------------------------------------------------------------------------------------- other programs

HEAD = "clip,size,filter,t,freeze_psnr_db,ebsynth_psnr_db,ebsynth_seconds\n"
ROWS = "wolf,32,colour,8,10,30,5\nwolf,32,colour,16,11,29,6\nwolf,32,colour,30,12,28,7\nwolf,48,colour,8,1,2,3\n"
PSNR = Measure(name="psnr_true", title="", unit="dB", higher_is_better=True, source="")


def ours(times=(8, 16, 30), side=32):
    series = {"psnr_true": dict.fromkeys(times, 31.0)}
    return Card(
        label="ours",
        frames=31,
        width=side + 8,
        height=side,
        measures={"psnr_true": PSNR},
        values={"psnr_true": 31.0},
        series=series,
    )


def table(tmp_path, text=HEAD + ROWS):
    (tmp_path / "other.csv").write_text(text)
    return tmp_path / "other.csv"


def test_other_programs_stand_beside_ours(tmp_path):
    results = {"wolf-32-colour": {"ours": ours()}, "bear-32-colour": {"ours": ours()}, "wolf-48-colour": {}}
    found = known.joined(results, table(tmp_path))
    assert list(found["wolf-32-colour"]) == ["ours", "freeze", "ebsynth"]
    card = found["wolf-32-colour"]["ebsynth"]
    assert card.values == {"psnr_true": 29.0}
    assert card.series == {"psnr_true": {8: 30.0, 16: 29.0, 30: 28.0}}
    assert card.facts == {"table": "other.csv", "seconds a frame, as in the table": 6.0}
    assert card.warnings[0].startswith("other.csv was measured in another program")
    assert found["wolf-32-colour"]["freeze"].values == {"psnr_true": 11.0}
    assert list(found["bear-32-colour"]) == ["ours"]
    assert found["wolf-48-colour"] == {}
    assert list(results["wolf-32-colour"]) == ["ours"]
    assert Card.from_dict(card.to_dict()) == card


def test_means_are_compared_over_the_same_frames_and_sizes_only(tmp_path):
    path = table(tmp_path)
    fewer = known.joined({"wolf-32-colour": {"ours": ours(times=(8, 16))}}, path)["wolf-32-colour"]["ebsynth"]
    assert fewer.values == {"psnr_true": 29.5}
    half = known.joined({"wolf-32-colour": {"ours": ours(side=16)}}, path)["wolf-32-colour"]["ebsynth"]
    assert half.values == {}
    assert half.missing == {"psnr_true": "other.csv was measured at 32 pixels, the others at 16"}
    lacking = known.joined({"wolf-32-colour": {"ours": ours()}}, table(tmp_path, HEAD + ROWS.replace(",30,12,28,", ",30,12,,")))
    assert lacking["wolf-32-colour"]["ebsynth"].missing == {"psnr_true": "other.csv has no number for frame 30"}
    assert lacking["wolf-32-colour"]["freeze"].values == {"psnr_true": 11.0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clip,size,filter\n", "no column 't'"),
        ("", "no column 'clip'"),
        (HEAD.replace("freeze_psnr_db", "note") + ROWS, "unknown column 'note'"),
        (HEAD + ROWS.replace(",30,5", ",fast,5"), "cannot be read as a table"),
        (HEAD + ROWS.replace(",30,5", ",nan,5"), "line 2 holds a number that is not finite"),
        (HEAD + "wolf,32\n", "cannot be read as a table"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, text, told):
    with pytest.raises(InputError, match=told):
        known.joined({"wolf-32-colour": {"ours": ours()}}, table(tmp_path, text))


def test_a_program_called_like_a_method_is_told_apart(tmp_path):
    (row,) = known.joined({"wolf-32-colour": {"freeze": ours()}}, table(tmp_path)).values()
    assert list(row) == ["freeze", "freeze in other.csv", "ebsynth"]
    assert row["freeze"] == ours()
    assert row["freeze in other.csv"].values == {"psnr_true": 11.0}
    assert [card.label for card in row.values()] == ["ours", "freeze in other.csv", "ebsynth"]


def test_the_numbers_of_ebsynth_are_joined(shared):
    path = shared / "golden" / "known_edits" / "ebsynth.csv"
    if not path.exists():
        pytest.skip(f"no {path.name} among the shared files")
    card = ours(side=256)
    found = known.joined({known.case_name("wolf_512x512_20fps", 256, "colour"): {"ours": card}}, path)
    (row,) = found.values()
    assert set(row) == {"ours", "freeze", "dis_warp", "ebsynth"}
    assert row["ebsynth"].values["psnr_true"] == pytest.approx((31.391 + 29.946 + 29.538) / 3)


def test_the_filters_do_not_change_unseen():
    """Where no shared files are: filters of plain arithmetic, by the hash of what they make of one picture."""
    found = hashlib.sha256(FILTERS["colour"](np.arange(768).astype(np.uint8).reshape(16, 16, 3)).tobytes()).hexdigest()
    assert found[:16] == "2d3114ae96441548"
