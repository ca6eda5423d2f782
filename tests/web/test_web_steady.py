"""What is asked for again, at once, in great number, or while what it needs goes away."""

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from flowpaint.web import views
from flowpaint.web.children import parsed
from rest_parts import Direct, a_video, ask, client, is_problem, upload


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
