"""Loaders of benchmarks: each layout is built on disk, with the strays that real copies of it have."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowpaint import scenes
from flowpaint.errors import ConfigError, InputError, VideoError
from flowpaint.evaluation import files
from flowpaint.evaluation.davis import davis, davis_edit
from flowpaint.evaluation.folder import videos
from flowpaint.evaluation.synthetic import scene_edits
from flowpaint.evaluation.task import Pictures, Task, Tasks, file_name, remembering
from flowpaint.types import Clip
from video_files import make, smooth

HEIGHT, WIDTH = 24, 32
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]  # DAVIS's first colours


def frame(number, height=HEIGHT, width=WIDTH):
    return np.full((height, width, 3), 10 * number, np.uint8)


def labels(number):
    """Object 1 in the left, object 2 one column further in each frame, nothing elsewhere."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    found[:, :4] = 1
    found[:, 8 + number] = 2
    return found


def save_palette(path, indices, palette=PALETTE):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices)
    picture.putpalette(palette)  # a grey picture becomes one of mode P
    picture.save(path)
    with Image.open(path) as saved:
        assert saved.mode == "P"


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def add_clip(root, name, frames=4, level="", masks=True):
    for number in range(frames):
        save(root / "JPEGImages" / level / name / f"{number:05}.png", frame(number))
        if masks:
            save_palette(root / "Annotations" / level / name / f"{number:05}.png", labels(number))
    for stray in ("Thumbs.db", ".DS_Store", "._00000.png", "notes.txt"):
        for kind in ("JPEGImages", "Annotations") if masks else ("JPEGImages",):
            (root / kind / level / name / stray).write_bytes(b"stray")


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "DAVIS"
    for name in ("bear", "cows"):
        add_clip(root, name, level="480p")
    (root / "JPEGImages" / ".DS_Store").write_bytes(b"stray")
    (root / "JPEGImages" / "480p" / "Thumbs.db").write_bytes(b"stray")
    (root / "JPEGImages" / "480p" / "empty").mkdir()
    return root


# --------------------------------------------------------------------------------------------------------------- DAVIS


def test_davis_gives_frames_and_masks_of_every_clip(tree):
    tasks = davis(tree, prompt="a bear of gold")
    assert tasks.names == ("bear", "cows")
    bear = tasks[0]
    assert (len(bear.source), bear.source.height, bear.source.width, bear.prompt) == (4, HEIGHT, WIDTH, "a bear of gold")
    for number in range(4):
        assert np.array_equal(bear.source.raw(number), frame(number))
        inside = bear.mask.frame(number)
        assert torch.equal(inside, torch.from_numpy(labels(number) > 0).float().expand(3, -1, -1))
    assert len(bear.mask) == 4


def test_annotations_may_be_grey_or_coloured_pictures(tmp_path):
    wanted = labels(0) > 0
    save(tmp_path / "grey.png", labels(0))
    save(
        tmp_path / "colour.png",
        np.stack([0 * labels(0), 128 * (labels(0) == 2), 128 * (labels(0) == 1)], axis=2).astype(np.uint8),
    )
    Image.fromarray(wanted).save(tmp_path / "bits.png")
    save_palette(tmp_path / "black.png", labels(0), palette=[0, 0, 0] * 3)  # the index counts, not the colour
    for name in ("grey.png", "colour.png", "bits.png", "black.png"):
        assert np.array_equal(files.object_mask(tmp_path / name), np.where(wanted, 255, 0)[..., None].repeat(3, axis=2)), name


def test_nothing_is_decoded_before_it_is_asked_for(tree, monkeypatch):
    opened = []
    real = files.object_mask
    monkeypatch.setattr(files, "object_mask", lambda path: opened.append(path) or real(path))
    monkeypatch.setattr("flowpaint.video.folder.read_picture", lambda path: opened.append(path) or frame(0))
    task = davis(tree)[0]
    assert opened == []
    task.mask.raw(2)
    task.source.raw(3)
    assert [path.name for path in opened] == ["00002.png", "00003.png"]


def test_a_tree_without_resolutions_reads_the_same(tmp_path):
    add_clip(tmp_path, "bear")
    assert davis(tmp_path).names == ("bear",)
    assert davis(tmp_path)[0].mask.raw(3)[0, 11, 0] == 255


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 2):
        save(tmp_path / "JPEGImages" / "bear" / f"{number}.png", frame(number))
    assert [int(raw[0, 0, 0]) for raw in map(davis(tmp_path)[0].source.raw, range(3))] == [20, 90, 100]


def test_several_resolutions_must_be_chosen_from(tree):
    add_clip(tree, "bear", frames=2, level="1080p")
    with pytest.raises(InputError, match="several resolutions: 480p, 1080p"):
        davis(tree)
    assert len(davis(tree, resolution="1080p")[0].source) == 2
    with pytest.raises(InputError, match=r"no resolution '48p'\. Nearest: '480p'"):
        davis(tree, resolution="48p")


def test_a_clip_without_annotations_has_no_mask(tree):
    add_clip(tree, "dog", level="480p", masks=False)
    told = []
    dog = davis(tree, warn=told.append)[2]
    assert dog.name == "dog"
    assert dog.mask is None
    assert told == [f"dog has no annotations in {tree / 'Annotations' / '480p'}. It has no mask."]


def test_a_count_of_annotations_that_differs_is_refused(tree):
    (tree / "Annotations/480p/bear/00003.png").unlink()
    with pytest.raises(InputError, match=r"JPEGImages.480p.bear has 4 frames and .*Annotations.480p.bear 3 annotations"):
        davis(tree)[0]
    with pytest.raises(InputError, match="4 frames"):
        davis(tree, first=2)[0]  # not silently paired by chance


def test_an_annotation_of_another_size_is_refused(tree):
    save_palette(tree / "Annotations/480p/bear/00002.png", labels(0)[:20])
    with pytest.raises(InputError, match=r"00002\.png is 32x20 and its video 32x24"):
        davis(tree)[0]


def test_a_damaged_annotation_is_named(tree):
    path = tree / "Annotations/480p/bear/00001.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(VideoError, match=r"00001\.png"):
        davis(tree)[0].mask.raw(1)


def test_the_first_frames_alone_may_be_used(tree):
    task = davis(tree, first=3)[1]
    assert (len(task.source), len(task.mask)) == (3, 3)
    with pytest.raises(InputError, match="no first 0 frames"):
        davis(tree, first=0)


@pytest.mark.parametrize(
    ("file", "lines", "split"),
    [
        ("val.txt", "cows\n\n", "val"),
        ("2017/val.txt", "cows\r\n", "2017/val"),
        ("480p/val.txt", "/JPEGImages/480p/cows/00000.jpg /Annotations/480p/cows/00000.png\n" * 3, "val"),
    ],
)
def test_image_sets_choose_clips(tree, file, lines, split):
    path = tree / "ImageSets" / file
    path.parent.mkdir(parents=True)
    path.write_text(lines)
    tasks = davis(tree, split=split)
    assert tasks.names == ("cows",)
    assert tasks[0].group == split


def test_image_sets_that_do_not_fit_are_told(tree):
    for year in ("2016", "2017"):
        (tree / "ImageSets" / year).mkdir(parents=True)
        (tree / "ImageSets" / year / "val.txt").write_text("cows\nlion\n")
    with pytest.raises(InputError, match="several lists called 'val': 2016/val, 2017/val"):
        davis(tree, split="val")
    with pytest.raises(InputError, match="no list called 'vall'"):
        davis(tree, split="vall")
    told = []
    assert davis(tree, split="2017/val", warn=told.append).names == ("cows",)
    assert len(told) == 1
    assert told[0].startswith("lion is listed")


@pytest.mark.parametrize("missing", ["", "JPEGImages", "JPEGImages/480p"])
def test_no_davis_is_refused(tmp_path, missing):
    (tmp_path / missing).mkdir(parents=True, exist_ok=True)
    with pytest.raises(InputError, match="Give the folder that JPEGImages lies in"):
        davis(tmp_path)


def test_facts_follow_the_files(tree):
    before = davis(tree)[0].facts
    assert davis(tree)[0].facts == before
    (tree / "JPEGImages/480p/bear/Thumbs.db").write_bytes(b"another stray")
    assert davis(tree)[0].facts == before
    save_palette(tree / "Annotations/480p/bear/00001.png", labels(3))
    after = davis(tree)[0].facts
    assert after["annotations"] != before["annotations"]
    assert after["frames"] == before["frames"]


# ---------------------------------------------------------------------------------------------------------- DAVIS-Edit


def captions(animal):
    return {"original": f"a {animal} walks", "similar": f"a panda, no {animal}, walks", "changing": f"a rabbit, no {animal}"}


@pytest.fixture
def edits(tmp_path):
    """bear is whole; cows lacks a caption and a reference picture; lion has captions alone; dog has frames alone."""
    root = tmp_path / "DAVIS-Edit"
    add_clip(root, "bear", frames=20)
    add_clip(root, "cows", frames=5, masks=False)
    add_clip(root, "dog")
    texts = {"bear": captions("bear"), "cows": captions("cow"), "lion": captions("lion")}
    del texts["cows"]["changing"], texts["cows"]["original"]
    (root / "edited_video_caption_dict_text.json").write_text(json.dumps(texts))
    (root / "edited_video_caption_dict_image.json").write_text(json.dumps({"bear": captions("bear"), "cows": captions("cow")}))
    for split in ("similar", "changing"):
        save(root / "ReferenceImages" / split / "bear.png", frame(7))
        (root / "ReferenceImages" / split / "Thumbs.db").write_bytes(b"stray")
    save(root / "ReferenceImages" / "similar" / "cows.png", frame(8))
    return root


def test_davis_edit_gives_every_task_that_is_there(edits):
    told = []
    tasks = davis_edit(edits, warn=told.append)
    assert tasks.names == (
        "bear-text-similar", "bear-text-changing", "cows-text-similar",
        "bear-image-similar", "bear-image-changing", "cows-image-similar",
    )  # fmt: skip
    assert sorted(told) == [
        "cows has no caption 'changing' for text prompts. It is left out there.",
        "cows has no reference picture 'changing'. It is left out there.",
        "dog has no captions for image prompts. It is left out.",
        "dog has no captions for text prompts. It is left out.",
        f"lion has captions and no frames in {edits / 'JPEGImages'}. It is left out.",
    ]


def test_a_text_task_of_davis_edit(edits):
    told = []
    task = davis_edit(edits, kinds=["text"], warn=told.append)[1]
    told.clear()
    assert (task.prompt, task.source_prompt) == ("a rabbit, no bear", "a bear walks")
    assert (task.group, task.reference_picture, dict(task.keyframes)) == ("text-changing", None, {})
    assert (len(task.source), len(task.mask)) == (16, 16)
    assert task.mask.raw(15)[0, 23, 0] == 255
    assert task.mask.raw(15)[0, 22, 0] == 0


def test_an_image_task_of_davis_edit_has_its_picture(edits):
    task = davis_edit(edits, kinds=["image"], splits=["similar"])[0]
    assert task.reference_picture == edits / "ReferenceImages" / "similar" / "bear.png"
    assert task.prompt == "a panda, no bear, walks"
    assert not task.keyframes


def test_what_a_task_of_davis_edit_lacks_is_told_when_it_is_opened(edits):
    told = []
    tasks = davis_edit(edits, kinds=["text"], splits=["similar"], warn=told.append)
    told.clear()
    task = tasks[1]
    assert (len(task.source), task.mask, task.source_prompt) == (5, None, "")
    assert told == [
        "cows has 5 frames, fewer than 16. All of them are used.",
        "cows has no original caption for text prompts. What compares with it will be missing.",
        "cows has no annotations. It has no mask.",
    ]


def test_annotations_of_davis_edit_that_do_not_fit_are_told_and_left_out(edits):
    (edits / "Annotations/bear/00019.png").unlink()
    told = []
    task = davis_edit(edits, kinds=["text"], warn=told.append)[0]
    assert task.mask is None
    assert any(line.startswith("bear has no mask.") and "20 frames" in line and "19" in line for line in told)


def test_a_tree_without_reference_folders_is_accepted(edits):
    for split in ("similar", "changing"):
        for file in (edits / "ReferenceImages" / split).iterdir():
            file.replace(edits / "ReferenceImages" / file.name)
        (edits / "ReferenceImages" / split).rmdir()
    told = []
    tasks = davis_edit(edits, kinds=["image"], warn=told.append)
    assert tasks.names[:2] == ("bear-image-similar", "bear-image-changing")
    assert tasks[1].reference_picture == edits / "ReferenceImages" / "bear.png"
    assert any("one reference picture for all splits" in line for line in told)


def test_all_frames_may_be_used(edits):
    assert len(davis_edit(edits, kinds=["text"], first=None)[0].source) == 20


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_captions_that_cannot_be_read_are_refused(edits, text):
    path = edits / "edited_video_caption_dict_text.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match="edited_video_caption_dict_text"):
        davis_edit(edits)
    assert len(davis_edit(edits, kinds=["image"])) == 3


def test_a_clip_cannot_lead_out_of_its_folder(edits):
    save(edits / "outside" / "0.png", frame(0))
    (edits / "edited_video_caption_dict_text.json").write_text(json.dumps({"../outside": captions("bear"), "bear": 3}))
    with pytest.raises(InputError, match="holds no task of text"):
        davis_edit(edits, kinds=["text"])


def test_unknown_kinds_are_refused(edits):
    with pytest.raises(ConfigError, match=r"no 'txt'\. Nearest: 'text'"):
        davis_edit(edits, kinds=["txt"])


# --------------------------------------------------------------------------------------------------- folders of videos


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "my videos"
    root.mkdir()
    for number, name in enumerate(("a.mp4", "b 10.mp4", "b 9.mp4")):
        make(root / name, [smooth(HEIGHT, WIDTH, shift, seed=number) for shift in range(4)])
    (root / ".c.mp4").write_bytes(b"stray")
    (root / "Thumbs.db").write_bytes(b"stray")
    save(root / "key.png", frame(9))
    save(root / "half.png", np.full((HEIGHT, WIDTH), 128, np.uint8))
    for number in range(4):
        save_palette(root / "masks" / f"{number}.png", labels(number))
    return root


def test_every_video_of_a_folder(folder):
    tasks = videos(folder, prompt="in oil")
    assert [task.prompt for task in tasks] == ["in oil"] * 3
    assert tasks.names[0] == "a"
    assert [name.partition("~")[0] for name in tasks.names] == ["a", "b-9", "b-10"]
    assert tasks[0].group == "my videos"
    assert len(tasks[0].source) == 4
    with pytest.raises(InputError, match="holds no videos"):
        videos(folder / "masks")


CSV = (
    "\ufeffvideo, prompt,source_prompt,mask,keyframe,group\r\n"
    'a.mp4,"oil, thick",a street,masks,key.png,oil\r\n'
    "\r\n"
    "a.mp4,,,half.png\r\n"
    "masks,a folder of pictures\r\n"
)
TOML = """
[[task]]
video = "a.mp4"
prompt = "oil, thick"
source_prompt = "a street"
mask = "masks"
keyframe = "key.png"
group = "oil"
[[task]]
video = "a.mp4"
mask = "half.png"
[[task]]
video = "masks"
prompt = "a folder of pictures"
"""


@pytest.mark.parametrize(("name", "text"), [("t.csv", CSV), ("t.toml", TOML)])
def test_a_table_says_what_is_wanted(folder, tmp_path, name, text):
    table = tmp_path / name
    table.write_bytes(text.encode())
    tasks = videos(folder, table=table, prompt="for all")
    assert tasks.names == ("a", "a-2", "masks")
    first, second, third = tasks
    assert (first.prompt, first.source_prompt, first.group) == ("oil, thick", "a street", "oil")
    assert torch.allclose(first.keyframes[0], torch.tensor(90 / 255))
    assert list(first.keyframes) == [0]
    assert np.array_equal(first.mask.raw(3)[..., 0], np.where(labels(3) > 0, 255, 0))
    assert (second.prompt, second.group, dict(second.keyframes)) == ("for all", "my videos", {})
    assert len(second.mask) == 1
    assert second.mask.raw(0).max() == 128  # a soft mask stays soft
    assert third.prompt == "a folder of pictures"
    assert third.mask is None
    assert first.cuts is None


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.csv", "video,promt\na.mp4,x\n", r"unknown column 'promt'\. Nearest: 'prompt'"),
        ("t.csv", "video,prompt\nz.mp4,x\n", r"z\.mp4 does not exist .*line 2, video"),
        ("t.csv", "video,keyframe\na.mp4,k.png\n", r"k\.png does not exist .*line 2, keyframe"),
        ("t.csv", "video,prompt\n,x\n", "line 2, names no video"),
        ("t.csv", "video,prompt\na.mp4,x,y\n", "3 cells for 2 columns"),
        ("t.csv", "video,video\na.mp4,x\n", "repeats a column"),
        ("t.csv", "", "has no rows"),
        ("t.toml", "[[task]]\nvideo='a.mp4'\nmusk='m'", "unknown column 'musk'. Nearest: 'mask'"),
        ("t.toml", "[[task]]\nvideo=3", "has 3 as its video"),
        ("t.toml", "task=3", "no list of tables"),
        ("t.toml", "[[tasks]]\nvideo='a.mp4'", "unknown key 'tasks'"),
        ("t.toml", "x", "is no TOML"),
        ("t.txt", "", "which is no table"),
    ],
)
def test_a_table_with_a_mistake_is_refused_before_anything_is_opened(folder, tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told):
        videos(folder, table=tmp_path / name)


def test_a_missing_table_is_refused(folder):
    with pytest.raises(InputError, match=r"no\.csv cannot be read"):
        videos(folder, table=folder / "no.csv")


@pytest.mark.parametrize("column", ["mask", "keyframe"])
def test_pictures_of_another_size_are_refused(folder, tmp_path, column):
    save(folder / "large.png", frame(1, 48, 64))
    (tmp_path / "t.csv").write_text(f"video,{column}\na.mp4,large.png\n")
    tasks = videos(folder, table=tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"large\.png is 64x48 and its video 32x24"):
        tasks[0]


def test_masks_count_one_or_all(folder, tmp_path):
    (folder / "masks" / "3.png").unlink()
    make(folder / "mask.mp4", [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * 4)
    make(folder / "short.mp4", [np.full((HEIGHT, WIDTH, 3), 255, np.uint8)] * 3)
    (tmp_path / "t.csv").write_text("video,mask\na.mp4,masks\na.mp4,mask.mp4\na.mp4,short.mp4\n")
    tasks = videos(folder, table=tmp_path / "t.csv")
    with pytest.raises(InputError, match="masks has 3 frames and its video 4"):
        tasks[0]
    assert tasks[1].mask.raw(3).min() > 250
    with pytest.raises(InputError, match=r"short\.mp4 has 3 frames and its video 4"):
        tasks[2]


def test_a_grey_palette_says_brightness(folder, tmp_path):
    """Index 0 is white here: what compresses pictures sorts palettes as it likes."""
    save_palette(folder / "grey.png", labels(0), palette=[255, 255, 255, 0, 0, 0, 64, 64, 64])
    (tmp_path / "t.csv").write_text("video,mask\na.mp4,grey.png\n")
    row = videos(folder, table=tmp_path / "t.csv")[0].mask.raw(0)[0, :, 0]
    assert (row[0], row[8], row[20]) == (0, 64, 255)


# --------------------------------------------------------------------------------------------------- procedural scenes


def test_scene_edits_know_their_answer():
    tasks = scene_edits([3, 4], ["recolour", "remove"], frames=3, size=(32, 48), difficulty=0.4)
    assert tasks.names == ("scene-3-recolour", "scene-3-remove", "scene-4-recolour", "scene-4-remove")
    task = tasks[3]
    scene = scenes.sample_scene(4, 0.4)
    edited = scenes.edit(scene, "remove", 4)
    assert (task.group, task.reference_frames, task.cuts) == ("remove", frozenset({1, 2}), frozenset())
    for time in range(3):
        assert np.array_equal(task.source.raw(time), scenes.clip(scene, 3, (32, 48)).raw(time))
        assert np.array_equal(task.reference.raw(time), scenes.clip(edited, 3, (32, 48)).raw(time))
        assert torch.equal(task.mask.frame(time)[:1], scenes.edit_mask(scene, edited, float(time), (32, 48)))
        outside = task.mask.raw(time) == 0
        assert np.array_equal(task.source.raw(time)[outside], task.reference.raw(time)[outside])
    assert 0 < task.mask.frame(0).mean() < 1
    assert list(task.keyframes) == [0]
    assert torch.allclose(task.keyframes[0], task.reference.frame(0), atol=0.51 / 255)


def test_scene_edits_refuse_what_cannot_be():
    with pytest.raises(ConfigError, match=r"'recolor'\. Nearest: 'recolour'"):
        scene_edits([1], ["recolor"])
    with pytest.raises(InputError, match="nothing is left to ask for"):
        scene_edits([1], frames=1)


# ---------------------------------------------------------------------------------------------------------------- tasks


def test_tasks_are_opened_one_at_a_time_and_each_time_anew():
    opened = []
    still = Clip.from_array(np.zeros((2, 16, 16, 3), np.uint8))

    def opener(name):
        return lambda: opened.append(name) or Task(name=name, group="", source=still)

    tasks = Tasks((name, opener(name)) for name in "abc")
    assert (len(tasks), opened) == (3, [])
    assert tasks[1:].names == ("b", "c")
    assert opened == []
    assert [task.name for task in tasks] == ["a", "b", "c"]
    assert tasks[-1].name == "c"
    assert opened == ["a", "b", "c", "c"]
    with pytest.raises(InputError, match="'a' and 'A'"):
        Tasks((name, opener(name)) for name in "aA")


def test_names_of_tasks_are_fit_for_files():
    names = [
        "bear", "bear-text", "Émile_2.0", "", ".", "..", "-", "a/b", "a\\b", "a b", "a-b", "a--b", "a-", "a.", ".a",
        "../../etc/passwd", "a\0b", "a:b", "x" * 300, "x" * 299, "é" * 60, "\ud800", "a~12345678", "e\u0301", "\u00e9",
    ]  # fmt: skip
    found = [file_name(name) for name in names]
    assert len(set(found)) == len(names)
    assert found[:3] == ["bear", "bear-text", "Émile_2.0"]
    for name in found:
        assert len(name.encode()) <= 90
        assert "--" not in name
        assert not set(name) & set('/\\:*?"<>|\0 \n')
        assert name.strip(".- ") == name
        assert Path(name).name == name


def test_pictures_are_made_when_asked_for():
    made = []
    pictures = Pictures([0, 5], lambda index: made.append(index) or torch.full((3, 2, 2), float(index)))
    assert (list(pictures), len(pictures), 5 in pictures, made) == ([0, 5], 2, True, [])
    assert pictures[5].mean() == 5
    assert made == [5]
    with pytest.raises(KeyError):
        pictures[1]
    assert dict(pictures).keys() == {0, 5}


def test_a_remembering_clip_makes_a_frame_once():
    made = []
    clip = Clip.from_array(np.zeros((4, 16, 16, 3), np.uint8))
    slow = clip.with_frames(lambda index: made.append(index) or np.full((16, 16, 3), index, np.uint8))
    quick = remembering(slow)
    assert [int(quick.raw(index).max()) for index in (2, 2, 1, 2)] == [2, 2, 1, 2]
    assert made == [2, 1]
    with pytest.raises(ValueError, match="read-only"):
        quick.raw(2)[:] = 9
