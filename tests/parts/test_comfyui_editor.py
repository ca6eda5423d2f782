"""The editor over a ComfyUI server: uploads, the filled workflow, the wait, the picture with its mask, and what goes wrong."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from edit_servers import WORKFLOW, ComfyUi, painted
from flowpaint import seams
from flowpaint.api.job import Job
from flowpaint.errors import ConfigError, InputError, WorkError
from flowpaint.parts.editors import wire as wires
from flowpaint.parts.editors.comfyui import ComfyUiEditor
from flowpaint.types import Clip, Edit, from_raw, to_raw

KEY = "sk-test-5ecret"
WISH = Edit(prompt="a statue")


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    for name in ("FLOWPAINT_EDIT_KEY", "FLOWPAINT_COMFYUI_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    waited = []
    monkeypatch.setattr(wires, "pause", waited.append)
    return waited


@pytest.fixture
def server():
    with ComfyUi() as one:
        yield one


@pytest.fixture
def build(tmp_path):
    """The editor for a server, with `nodes` as its workflow."""

    def made(server, nodes=None, **fields):
        path = tmp_path / "workflow.json"
        path.write_text(json.dumps(WORKFLOW if nodes is None else nodes), "utf-8")
        return ComfyUiEditor(**{"url": server.url, "workflow": str(path), "retries": 0, "timeout": 5.0, **fields})

    return made


def photo(height=24, width=40):
    return from_raw(np.random.default_rng(6).integers(0, 256, (height, width, 3)).astype(np.uint8))


def ask(editor, image=None, wish=WISH, seed=3):
    return editor.with_mask(photo() if image is None else image, wish, torch.Generator().manual_seed(seed))


def block():
    mask = torch.zeros(1, 24, 40)
    mask[:, 4:12, 10:30] = 1
    return mask


def clip_of(mask):
    return Clip.from_array(mask[None].repeat(1, 3, 1, 1))


def changed(**nodes):
    return {**WORKFLOW, **nodes}


# ------------------------------------------------------------------------------------------------------------ good answers


def test_runs_the_workflow_on_the_picture_inside_the_mask(server, build, waits):
    image, mask = photo(), block()
    made, told = ask(build(server), image, Edit(prompt="a statue", mask=clip_of(mask)))
    assert torch.equal(made, torch.where(mask == 1, from_raw(painted(to_raw(image))), image)) and told is None
    assert [one.path.split("/")[1] for one in server.got] == ["upload", "upload", "prompt", "history", "history", "view"]
    assert waits == [0.5]


def test_the_mask_is_white_and_transparent_where_to_edit(server, build):
    """So LoadImage, whose mask is 1 - alpha, and LoadImageMask by its red both give 1 = edit."""
    ask(build(server), wish=Edit(prompt="a statue", mask=clip_of(block())))
    (sent,) = server.got[1].pictures("image")
    inside = block()[0].numpy() == 1
    assert np.array_equal(sent[..., 0], 255 * inside) and np.array_equal(sent[..., 3], 255 * ~inside)
    assert server.got[1].fields == {"type": "input", "overwrite": "true"}


def test_without_a_mask_everything_may_be_edited(server, build):
    made, _ = ask(build(server))
    assert torch.equal(made, from_raw(painted(to_raw(photo()))))


def test_fills_texts_and_numbers_in_one_pass(server, build):
    ask(build(server), wish=Edit(prompt='a "red" %negative% cat\n', negative="blurry %seed%"))
    job = json.loads(server.of("/prompt")[0].body)["prompt"]
    seed = job["3"]["inputs"]["seed"]
    assert job["6"]["inputs"]["text"] == 'photo of a "red" %negative% cat\n, sharp'
    assert job["7"]["inputs"]["text"] == "blurry %seed%"
    assert isinstance(seed, int) and job["9"]["inputs"]["filename_prefix"] == f"run-{seed}"
    assert job["1"]["inputs"]["image"].startswith("mine/flowpaint-") and job["3"]["inputs"]["model"] == ["5", 0]
    assert job["1"]["_meta"] == {"title": "%image%"} and job["3"]["inputs"]["steps"] == 4


def test_the_same_seed_sends_the_same_and_another_another(server, build):
    for seed in (1, 1, 2):
        ask(build(server), seed=seed)
    first, again, other = (json.loads(one.body) for one in server.of("/prompt"))
    assert first == again
    assert first["prompt"]["3"]["inputs"].pop("seed") != other["prompt"]["3"]["inputs"].pop("seed")
    assert first["prompt"]["1"] == other["prompt"]["1"]


def test_a_picture_is_uploaded_once_and_only_what_the_workflow_asks_for(server, build):
    again = {"class_type": "LoadImage", "inputs": {"image": "%image%"}}
    ask(build(server, changed(**{"10": again})), wish=Edit(prompt="a statue"))
    assert len(server.of("/upload/image")) == 2  # picture and mask


@pytest.mark.parametrize("name", ["reference", "sketch"])
def test_reference_and_sketch_are_uploaded(server, build, name):
    picture = photo(9, 7)
    node = {"class_type": "LoadImage", "inputs": {"image": f"%{name}%"}}
    ask(build(server, changed(**{"11": node})), wish=Edit(prompt="a toy", **{name: picture}))
    job = json.loads(server.of("/prompt")[0].body)["prompt"]
    sent = server.kept[job["11"]["inputs"]["image"]]
    assert np.array_equal(np.array(Image.open(io.BytesIO(sent))), to_raw(picture))


def test_sides_are_padded_and_cut_back(build):
    with ComfyUi() as server:
        image = photo(21, 34)
        made, _ = ask(build(server), image, Edit(prompt="a", mask=clip_of(torch.ones(1, 21, 34))))
    picture, mask = (one.pictures("image")[0] for one in server.got[:2])
    assert picture.shape == (24, 40, 3) and np.array_equal(picture[:21, :34], to_raw(image))
    assert (picture[21:, :34] == picture[20, :34]).all()
    assert (mask[:21, :34, 3] == 0).all() and (mask[21:, :, 3] == 255).all() and (mask[:, 34:, 3] == 255).all()
    assert torch.equal(made, from_raw(painted(to_raw(image))))


def test_transparency_is_the_mask_of_the_new_object(build):
    alpha = np.zeros((24, 40), np.uint8)
    alpha[3:9, 5:20] = 255
    alpha[9, 5:20] = 51
    with ComfyUi(alpha=alpha) as server:
        made, mask = ask(build(server))
        assert torch.equal(build(server)(photo(), WISH, torch.Generator().manual_seed(3)), made)
    assert mask.shape == (1, 24, 40) and torch.equal(mask[0], torch.from_numpy(alpha).float() / 255)
    assert torch.equal(made, from_raw(painted(to_raw(photo()))))  # colours are those under the transparency


def test_the_mask_comes_at_the_frame_s_size(build):
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 20:] = 255
    with ComfyUi(alpha=alpha, size=(80, 48)) as server:
        made, mask = ask(build(server))
    assert made.shape == (3, 24, 40) and mask.shape == (1, 24, 40)
    assert (mask[0, :, :19] == 0).all() and (mask[0, :, 21:] == 1).all()


def test_a_mask_of_nothing_is_one_and_an_opaque_picture_tells_none(build):
    with ComfyUi(alpha=np.zeros((24, 40), np.uint8)) as server:
        assert (ask(build(server))[1] == 0).all()
    with ComfyUi(alpha=np.full((24, 40), 255, np.uint8)) as server:
        assert ask(build(server))[1] is None


def test_strength_zero_calls_nobody(server, build):
    image = photo()
    made, mask = ask(build(server), image, Edit(strength=0.0))
    assert made is image and mask is None and not server.got


def test_the_key_goes_with_every_request(server, build, monkeypatch):
    monkeypatch.setenv("FLOWPAINT_EDIT_KEY", KEY)
    editor = build(server)
    ask(editor)
    assert {one.headers.get("Authorization") for one in server.got} == {f"Bearer {KEY}"}
    assert KEY not in repr(editor) and KEY not in json.dumps(seams.to_dict(editor))
    server.say((500, f"you are {KEY}"))
    with pytest.raises(WorkError) as raised:
        ask(editor)
    assert KEY not in str(raised.value) and "you are ***" in str(raised.value)


def test_it_takes_every_task_and_its_workflow_is_an_input_of_the_job(build, server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    editor = dataclasses.replace(build(server), workflow="workflow.json")
    assert editor.tasks == {"words", "instruction", "reference", "sketch", "removal"}
    job = Job(method={"kind": "method", "part": "frame-by-frame", "editor": seams.to_dict(editor)})
    assert job.files() == [editor.workflow]
    assert job.named(lambda path: "there.json").method["editor"]["workflow"] == "there.json"


def test_it_is_a_part_that_works_in_a_method_and_reads_words_against(server, build):
    import flowpaint

    editor = build(server)
    clip = Clip.from_array(np.stack([to_raw(photo(24, 40))] * 2))
    settings = ["editor=comfyui", f"editor.url={server.url}", f"editor.workflow={editor.workflow}"]
    result = flowpaint.edit(clip, "a statue", method="frame-by-frame", negative="blurry", settings=settings)
    assert torch.equal(result.frames.frame(1), from_raw(painted(to_raw(photo()))))
    texts = {json.loads(one.body)["prompt"]["7"]["inputs"]["text"] for one in server.of("/prompt")}
    assert texts == {"blurry"}


# ------------------------------------------------------------------------------------------------------------- bad requests


def without(name):
    return {number: node for number, node in WORKFLOW.items() if f"%{name}%" not in json.dumps(node["inputs"])}


@pytest.mark.parametrize(
    ("nodes", "wish", "words"),
    [
        (without("prompt"), WISH, "no %prompt%"),
        (without("negative"), Edit(prompt="a", negative="b"), "no %negative%"),
        (WORKFLOW, Edit(prompt="a", reference=torch.zeros(3, 4, 4)), "no %reference%"),
        (WORKFLOW, Edit(prompt="a", sketch=torch.zeros(3, 4, 4)), "no %sketch%"),
        (WORKFLOW, Edit(), "asks for a prompt"),
        (changed(x={"class_type": "LoadImage", "inputs": {"image": "%reference%"}}), WISH, "asks for a reference"),
    ],
)
def test_what_the_workflow_has_no_place_for_is_refused(server, build, nodes, wish, words):
    with pytest.raises(InputError, match=words):
        ask(build(server, nodes), wish=wish)
    assert not server.got


def test_a_removal_needs_no_words(server, build):
    ask(build(server, without("prompt")), wish=Edit(remove=True, mask=clip_of(block())))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"nodes": [], "links": [], "version": 0.4}, "API format"),
        ({}, "API format"),
        ([], "API format"),
        ({"1": {"class_type": "LoadImage"}}, "API format"),
        (without("image"), "no %image%"),
    ],
)
def test_a_file_that_is_no_workflow(server, build, nodes, words):
    with pytest.raises(ConfigError, match=words):
        build(server, nodes).check()


def test_a_workflow_that_is_not_there_or_broken(server, tmp_path):
    with pytest.raises(ConfigError, match="has no workflow"):
        ComfyUiEditor(url=server.url).check()
    with pytest.raises(ConfigError, match="cannot be read"):
        ComfyUiEditor(url=server.url, workflow=str(tmp_path / "none.json")).check()
    (tmp_path / "bad.json").write_bytes(b"\xff{")
    with pytest.raises(ConfigError, match="cannot be read"):
        ComfyUiEditor(url=server.url, workflow=str(tmp_path / "bad.json")).check()


def test_the_url_comes_from_the_environment(server, build, monkeypatch):
    with pytest.raises(ConfigError, match="FLOWPAINT_COMFYUI_URL"):
        build(server, url="").check()
    monkeypatch.setenv("FLOWPAINT_COMFYUI_URL", server.url)
    ask(build(server, url=""))


@pytest.mark.parametrize(
    "fields", [{"limit": 0.0}, {"interval": -1.0}, {"timeout": 0.0}, {"retries": -1}, {"multiple": 0}, {"url": "ftp://x"}]
)
def test_fields_that_cannot_be_kept(fields):
    with pytest.raises(ConfigError):
        ComfyUiEditor(**fields)


# ------------------------------------------------------------------------------------------------------------- bad answers


def failure(editor):
    with pytest.raises((WorkError, InputError, ConfigError)) as raised:
        ask(editor)
    return raised.value


def test_a_refused_workflow_is_told_node_by_node(server, build):
    nodes = changed(**{"1": {"class_type": "LoadImage", "inputs": {"image": "lost-%image%"}}})
    error = failure(build(server, nodes))
    assert type(error) is WorkError and "400" in str(error) and "node 1 (LoadImage): Invalid image file lost-mine/" in str(error)


def test_errors_beside_an_accepted_job_are_told(server, build):
    wrong = {"3": {"class_type": "KSampler", "errors": [{"message": "Value not in list", "details": "sampler"}]}}
    server.say(server.answer, server.answer, (200, {"prompt_id": "x", "node_errors": wrong}))
    assert "node 3 (KSampler): Value not in list sampler" in str(failure(build(server)))


def test_a_node_that_breaks_is_told(server, build):
    broke = {"node_id": "3", "node_type": "KSampler", "exception_message": "CUDA \x1b[31mout of memory\n", "traceback": ["x"] * 9}
    status = {"status_str": "error", "completed": False, "messages": [["execution_start", {}], ["execution_error", broke]]}
    server.history = {"outputs": {}, "status": status}
    error = failure(build(server))
    assert type(error) is WorkError and "node 3 (KSampler): CUDA [31mout of memory" in str(error)
    assert "repeat the command" in str(error) and not server.of("/view")


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([["execution_interrupted", {"node_id": "3", "node_type": "KSampler"}]], "interrupted at node 3"),
        ([], "does not tell"),
        (None, "does not tell"),
        (["odd", ["odd"], {"a": 1}], "does not tell"),
    ],
)
def test_other_ends_of_a_job(server, build, messages, words):
    server.history = {"outputs": {}, "status": {"status_str": "error", "completed": False, "messages": messages}}
    assert words in str(failure(build(server)))


def test_a_job_that_never_ends(build, waits):
    with ComfyUi(polls=10**9) as server:
        error = failure(build(server, limit=5.0, interval=0.5))
    assert type(error) is WorkError and "after 5 s" in str(error) and "`limit`" in str(error)
    assert waits == [0.5] * 10 and len(server.got) == 3 + 10


def test_a_job_that_is_not_completed_is_waited_for(server, build, waits):
    server.history = {"outputs": {}, "status": {"status_str": "success", "completed": False}}
    assert "after 2 s" in str(failure(build(server, limit=2.0)))


def saved(*names, kind="output"):
    return {"images": [{"filename": f"{name}.png", "subfolder": "", "type": kind} for name in names]}


def test_several_pictures_are_not_guessed_between(server, build):
    server.history = {"outputs": {"9": saved("a"), "12": saved("b")}, "status": {"completed": True}}
    error = failure(build(server))
    assert isinstance(error, ConfigError) and "12, 9" in str(error) and "`output`" in str(error)
    failure(build(server, output="12"))  # there is no such file on the stand-in
    assert server.got[-1].query["filename"] == ["b.png"]
    assert "no picture of node 77" in str(failure(build(server, output="77")))


def test_a_preview_is_taken_where_nothing_else_is_there(server, build):
    server.history = {"outputs": {"4": saved("p", kind="temp")}}
    failure(build(server))
    assert server.got[-1].query == {"filename": ["p.png"], "subfolder": [""], "type": ["temp"]}


@pytest.mark.parametrize(
    "outputs", [{}, None, {"9": {}}, {"9": {"images": []}}, {"9": {"images": [{}, "x"]}}, {"9": {"text": ["a"]}}]
)
def test_a_job_without_a_picture(server, build, outputs):
    server.history = {"outputs": outputs, "status": {"completed": True, "status_str": "success"}}
    assert "no picture of any node" in str(failure(build(server)))


def test_an_answer_of_another_aspect_is_refused(build):
    with ComfyUi(size=(64, 24)) as server:
        error = failure(build(server))
    assert isinstance(error, InputError) and "64 x 24" in str(error)


GOOD = object()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["<html>"], "no JSON"),
        ([[]], "no name of the picture"),
        ([{"name": 3}], "no name of the picture"),
        ([GOOD, GOOD, "nonsense"], "no JSON"),
        ([GOOD, GOOD, {}], "no number of a job"),
        ([GOOD, GOOD, {"prompt_id": 7}], "no number of a job"),
        ([GOOD, GOOD, GOOD, [1]], "no history"),
        ([GOOD, GOOD, GOOD, {"other": {}}], "no history"),
        ([GOOD, GOOD, GOOD, GOOD, GOOD, "GIF89a"], "no picture that can be read"),
    ],
    ids=range(9),
)
def test_garbage(server, build, answers, words):
    server.say(*[server.answer if one is GOOD else (200, one) for one in answers])
    error = failure(build(server))
    assert type(error) is WorkError and words in str(error) and "repeat the command" in str(error)


def test_what_passes_is_tried_again(server, build, waits):
    server.say((503, ""), server.cut_at_once)
    ask(build(server, retries=2))
    assert waits[:2] == [1, 2] and len(server.of("/upload/image")) == 4
