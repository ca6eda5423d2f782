"""What is asked for again, at once, in great number, or while what it needs goes away."""

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from flowpaint.api import fit
from flowpaint.web import jobs, views
from flowpaint.web.children import parsed
from rest_parts import Direct, a_picture, a_video, ask, client, is_problem, upload, waiting


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return a_video(tmp_path_factory.mktemp("clip"))


class Late(Direct):
    """Answers one task only when it is told to."""

    def __init__(self, task):
        super().__init__()
        self.task, self.go, self.begun = task, threading.Event(), threading.Event()

    def ask(self, task, **values):
        if task != self.task:
            return super().ask(task, **values)
        future = Future()
        self.begun.set()
        threading.Thread(target=self._later, args=(future, task, values), daemon=True).start()
        self.asked.append(task)
        return future

    def _later(self, future, task, values):
        assert self.go.wait(20)
        answer = Direct().ask(task, **values)
        future.set_exception(answer.exception()) if answer.exception() else future.set_result(answer.result())


# ----------------------------------------------------------------------------------------------------------------- shots


def test_shots_are_found_once(tmp_path, clip):
    on = client(tmp_path)
    path = f"/v1/assets/{upload(on, clip)['id']}/shots"
    first = on.get(path).json()
    assert [one["first"] for one in first] == [0] and first[0].keys() >= {"from", "to"}
    assert [on.get(path).json() for _ in range(3)] == [first] * 3
    assert client(tmp_path).get(path).json() == first  # also after a restart
    assert on.service.asks.asked.count("shots") == 1


@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b'{"shots": []}', b'{"version": "0.0", "shots": []}', b'{"version": "%s"}'])
def test_shots_of_another_version_or_half_written_are_found_anew(tmp_path, clip, kept):
    on = client(tmp_path)
    asset = upload(on, clip)
    file = on.service.store.asset("", asset["id"]).path.with_name("shots.json")
    first = on.get(f"/v1/assets/{asset['id']}/shots").json()
    file.write_bytes(kept.replace(b"%s", json.loads(file.read_text())["version"].encode()))
    assert on.get(f"/v1/assets/{asset['id']}/shots").json() == first
    assert on.service.asks.asked.count("shots") == 2
    assert [one.name for one in sorted(file.parent.iterdir())] == ["file.mp4", "shots.json"]


def test_two_who_want_the_same_shots_wait_for_the_same(tmp_path, clip):
    late = Late("shots")
    on = client(tmp_path, asks=late)
    keys = [upload(on, clip)["id"] for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(on.get, f"/v1/assets/{key}/shots") for key in (keys[0], keys[0], keys[0], keys[1])]
        while late.asked.count("shots") < 2 or not late.begun.is_set():
            on.get("/healthz")
        late.go.set()
        assert [one.result().status_code for one in asked] == [200] * 4
    assert late.asked.count("shots") == 2
    assert on.service._under_way == {}


def test_shots_of_what_is_deleted_meanwhile_are_not_found(tmp_path, clip):
    late = Late("shots")
    on = client(tmp_path, asks=late)
    key = upload(on, clip)["id"]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(on.get, f"/v1/assets/{key}/shots")
        assert late.begun.wait(10)
        assert on.delete(f"/v1/assets/{key}").status_code == 204
        late.go.set()
        assert is_problem(asked.result(), 404, key)


# --------------------------------------------------------------------------------------------------------- command lines


def test_command_lines_of_many_jobs_are_asked_for_in_pieces(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(views, "_BATCH", 3)
    on = client(tmp_path)
    asset = upload(on, clip)
    jobs = [ask(on, asset, seed=number) for number in range(7)]
    known, on.service.asks.asked[:] = on.service.commands, []
    known._known.clear()
    assert [one["command"] for one in on.get("/v1/jobs").json()["jobs"]] == [one["command"] for one in jobs[::-1]]
    assert on.service.asks.asked == ["commands"] * 3
    known._known.clear()
    monkeypatch.setattr(views, "_BATCH_LENGTH", 1)  # one is not split
    assert [one["command"] for one in on.get("/v1/jobs").json()["jobs"]] == [one["command"] for one in jobs[::-1]]
    assert on.service.asks.asked == ["commands"] * 10


def test_what_is_forgotten_while_the_rest_is_asked_for_is_shown(tmp_path, clip):
    class Forgets(Direct):
        def ask(self, task, **values):
            if task == "commands":
                on.service.commands._known.clear()
            return super().ask(task, **values)

    on = client(tmp_path, asks=Forgets())
    asset = upload(on, clip)
    jobs = [ask(on, asset, seed=number) for number in range(3)]
    on.service.commands._known.popitem()
    assert [one["command"] for one in on.get("/v1/jobs").json()["jobs"]] == [one["command"] for one in jobs[::-1]]


def test_a_file_that_goes_while_it_is_looked_at_is_not_there(tmp_path, clip, monkeypatch):
    on = client(tmp_path)
    job = ask(on, upload(on, clip))
    record = on.queue.claim("w")
    record.folder.mkdir()
    (record.folder / "preview.jpg").write_bytes(b"\xff\xd8")
    assert [(one["name"], one["bytes"]) for one in on.get(f"/v1/jobs/{job['id']}").json()["artifacts"]] == [("preview", 2)]
    stat, seen = Path.stat, []

    def once(path, **said):
        found = stat(path, **said)
        if path.name == "preview.jpg":
            seen.append(path)
            path.unlink()
        return found

    monkeypatch.setattr(Path, "stat", once)
    assert on.get(f"/v1/jobs/{job['id']}").json()["artifacts"][0]["bytes"] == 2 and len(seen) == 1
    assert on.get(f"/v1/jobs/{job['id']}").json()["artifacts"] == []
    (record.folder / "preview.jpg").mkdir()  # no file
    monkeypatch.setattr(Path, "stat", stat)
    assert on.get(f"/v1/jobs/{job['id']}").json()["artifacts"] == []


# --------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n", b"\n", b"3\n", b"null\n", b"[1]\n", b"{}\n", b"\xff\n", b'{"id": 1}\n', b'{"id": "1", "value": {}}\n',
        b'{"value": {}}\n', b'{"id": 1, "problem": "none"}\n', b'{"id": 1, "problem": {}}\n', b'{"ready": 1, "id": 2}\n',
        b'{"id": 1, "value": {}, "problem": {"type": "a", "message": "b"}}\n',
    ],
)  # fmt: skip
def test_a_line_that_is_no_answer(line):
    assert parsed(line) is None


def test_lines_that_are_answers():
    for said in ({"ready": True}, {"id": 1, "value": {}}, {"id": 1, "problem": {"type": "a", "message": "b", "code": 1}}):
        assert parsed(json.dumps(said).encode() + b"\n") == said


# ------------------------------------------------------------------------------------------------------------ asked again


@pytest.fixture
def on(tmp_path):
    return client(tmp_path / "server", limits={"jobs_queued": 1})


KEY = {"headers": {"idempotency-key": "abc"}}


def test_asking_again_costs_nothing(on, clip):
    asset = upload(on, clip)
    sent = {"json": {"input": asset["id"], "prompt": "mosaic"}, **KEY}
    first = on.post("/v1/jobs", **sent)
    on.service.asks.asked.clear()
    again = on.post("/v1/jobs", **sent)  # the queue is full now
    assert (again.status_code, again.json()) == (202, first.json()) and first.status_code == 202
    assert again.headers["location"] == first.headers["location"]
    assert on.service.asks.asked == []
    assert is_problem(on.post("/v1/jobs", json=sent["json"]), 429, "1 jobs")
    assert is_problem(on.post("/v1/jobs", json=sent["json"], headers={"idempotency-key": "other"}), 429)


@pytest.mark.parametrize("said", [{"prompt": "van gogh"}, {"seed": 1}, {"priority": 1}, {"name": "b.mp4"}])
def test_a_key_is_for_one_job(on, clip, said):
    body = {"input": upload(on, clip)["id"], "prompt": "mosaic"}
    assert on.post("/v1/jobs", json=body, **KEY).status_code == 202
    assert is_problem(on.post("/v1/jobs", json={**body, **said}, **KEY), 422, "Idempotency-Key")
    assert len(on.get("/v1/jobs").json()["jobs"]) == 1


def form(clip, *pictures, **job):
    files = {"video": ("clip.mp4", clip.read_bytes())}
    files |= {part: (path.name, path.read_bytes()) for part, path in pictures}
    return {"files": files, "data": {"job": json.dumps(job)}, **KEY}


def test_a_form_that_is_sent_again_makes_no_other_assets(on, clip, tmp_path):
    hat = a_picture(tmp_path)
    sent = form(clip, ("keyframe:0", hat), ("style", hat), prompt="")
    first = on.post("/v1/jobs", **sent)
    assert first.status_code == 202, first.text
    assert on.post("/v1/jobs", **sent).json() == first.json()
    assert len(on.get("/v1/assets").json()["assets"]) == 3 and on.service.asks.asked.count("facts") == 3
    key = first.json()["request"]["input"]
    kept = {**first.json()["request"]}
    assert on.post("/v1/jobs", json=kept, **KEY).json() == first.json()  # the same, by its assets
    on.delete(f"/v1/jobs/{first.json()['id']}")
    assert on.delete(f"/v1/assets/{key}").status_code == 204
    assert on.post("/v1/jobs", **sent).json()["id"] == first.json()["id"]
    assert list((on.service.store.folder / "incoming").iterdir()) == []


def test_a_form_of_other_files_is_another_job(on, clip, tmp_path):
    hat, long = a_picture(tmp_path), a_video(tmp_path, "long.mp4", frames=8)
    assert on.post("/v1/jobs", **form(clip, ("keyframe:0", hat), prompt="")).status_code == 202
    for other in (
        form(long, ("keyframe:0", hat), prompt=""),
        form(clip, ("keyframe:1", hat), prompt=""),
        form(clip, ("keyframe:0", hat), ("keyframe:1", hat), prompt=""),
        form(clip, ("keyframe:0", hat), ("style", hat), prompt=""),
        form(clip, ("keyframe:0", hat), prompt="mosaic"),
        form(clip, prompt=""),
    ):
        assert is_problem(on.post("/v1/jobs", **other), 422, "Idempotency-Key")
    assert len(on.get("/v1/assets").json()["assets"]) == 2


def test_a_key_is_its_owner_s(tmp_path, clip):
    on = client(tmp_path, tokens=("alice-has-this", "bob-has-that"))
    found = []
    for token in ("alice-has-this", "bob-has-that"):
        who = {"authorization": f"Bearer {token}"}
        body = {"input": upload(on, clip, headers=who)["id"], "prompt": "mosaic"}
        found.append(on.post("/v1/jobs", json=body, headers={**who, **KEY["headers"]}))
    assert [one.status_code for one in found] == [202, 202] and found[0].json()["id"] != found[1].json()["id"]


def test_two_who_ask_at_once_have_one_job_with_its_own_command_line(tmp_path, clip):
    late = Late("job")
    on = client(tmp_path, asks=late)
    body = {"input": upload(on, clip)["id"], "prompt": "mosaic"}
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(on.post, "/v1/jobs", json={**body, "seed": seed}, **KEY) for seed in (1, 2)]
        while late.asked.count("job") < 2:
            on.get("/healthz")
        late.go.set()
        made = [one.result().json() for one in asked]
    assert made[0]["id"] == made[1]["id"]
    assert all(f"--seed={one['request']['seed']} " in one["command"] for one in made)


# ------------------------------------------------------------------------------------------------------------- approvals


@pytest.mark.parametrize(
    "size, fits",
    [((48, 64), True), ((480, 640), True), ((49, 64), True), ((48, 62), False), ((46, 64), False), ((64, 48), False)],
)
def test_a_picture_of_another_shape_is_no_first_frame(on, clip, tmp_path, size, fits):
    job = waiting(on, upload(on, clip))
    given = upload(on, a_picture(tmp_path, size=size))["id"]
    answer = on.post(f"/v1/jobs/{job['id']}/approve", json={"keyframe": given})
    if fits:
        assert answer.json()["state"] == "queued"
        return
    assert is_problem(answer, 422, "hat.png", f"{size[1]}x{size[0]}", "64x48", "Crop")
    assert on.get(f"/v1/jobs/{job['id']}").json()["state"] == "waiting"
    assert on.post(f"/v1/jobs/{job['id']}/approve", json={}).json()["state"] == "queued"


def test_a_video_is_no_first_frame(on, clip):
    asset = upload(on, clip)
    job = waiting(on, asset)
    assert is_problem(on.post(f"/v1/jobs/{job['id']}/approve", json={"keyframe": asset["id"]}), 422, "clip.mp4", "video")
    assert on.get(f"/v1/jobs/{job['id']}").json()["state"] == "waiting"


def test_a_job_that_has_ended_waits_for_no_picture(on, clip, tmp_path):
    asset, hat = upload(on, clip), upload(on, a_picture(tmp_path))
    job = waiting(on, asset)
    on.delete(f"/v1/jobs/{job['id']}")
    on.delete(f"/v1/assets/{asset['id']}")
    assert is_problem(on.post(f"/v1/jobs/{job['id']}/approve", json={"keyframe": hat["id"]}), 409, "cancelled")


def test_a_first_frame_may_be_off_by_as_much_as_a_key_frame():
    assert jobs.ASPECT_SLACK == fit.ASPECT_SLACK


# ---------------------------------------------------------------------------------------------------- what names nothing


@pytest.mark.parametrize(
    "said, word",
    [({}, "prompt"), ({"prompt": " "}, "prompt"), ({"kind": "colorize"}, "`by`"), ({"kind": "propagate"}, "key frame"),
     ({"prompt": "", "method": "warp"}, "prompt")],
)  # fmt: skip
def test_a_job_that_names_nothing_is_refused(on, clip, said, word):
    body = {"input": upload(on, clip)["id"], **said}
    for path in ("/v1/jobs", "/v1/plans"):
        assert is_problem(on.post(path, json=body), 422, word)
    assert on.get("/v1/jobs").json() == {"jobs": []}
