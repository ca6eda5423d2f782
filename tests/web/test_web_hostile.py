"""What somebody who wishes the server ill sends, and what would have become of it."""

import asyncio
import json
import threading
from types import SimpleNamespace

import pytest

from flowpaint.web import guard, sessions, uploads, views
from flowpaint.web.metrics import Meter
from flowpaint.web.settings import Settings
from rest_parts import a_video, ask, client, is_problem, upload

TOKENS = ("alice-token-1", "bob-token-22")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return a_video(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A server without tokens that many tests share."""
    return client(tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def asset(here, clip):
    return upload(here, clip)


# -------------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("origin", ["http://[", "http://127.0.0.1:7860@[", "", "//"])
def test_an_origin_that_is_no_address_is_another_site(here, origin):
    assert is_problem(here.delete("/v1/jobs/a", headers={"origin": origin}), 403, "another site")


def test_a_request_to_no_host_comes_from_no_page_of_ours(tmp_path):
    on = client(tmp_path, tokens=TOKENS)
    assert is_problem(on.post("/login", json={"token": TOKENS[0]}, headers={"host": "", "origin": "null"}), 403, "another site")


def test_where_there_are_no_tokens_a_token_excuses_nothing(here):
    headers = {"origin": "http://evil.example", "authorization": "Bearer anything"}
    assert is_problem(here.delete("/v1/jobs/a", headers=headers), 403, "another site")


@pytest.mark.parametrize("begun", ["9" * 5000, "9" * 16, "-1", "1e3", " 1", "\u0661"])
def test_a_session_of_no_time_is_none(tmp_path, begun):
    settings = Settings(data=tmp_path, tokens=TOKENS)
    assert sessions.token_of(f"{begun}.{sessions._sign(TOKENS[0], begun)}", settings, now=1e9) is None


def test_a_cookie_of_thousands_of_digits_is_not_logged_in(tmp_path):
    on = client(tmp_path, tokens=TOKENS)
    assert is_problem(on.get("/v1/jobs", headers={"cookie": f"flowpaint_session_7860={'9' * 5000}.x"}), 401)


# --------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("text", ["[" * 100_000, '{"input":' * 100_000, '{"input": "a", "seed": ' + "9" * 5000 + "}"])
def test_a_form_s_job_of_no_end_is_no_json(here, text):
    assert is_problem(here.post("/v1/plans", files={"job": (None, text)}), 422, "no JSON")


def test_all_prompts_together_have_a_length(here, asset):
    said = {"input": asset["id"], "method": "fresco"}
    words = {str(number): "w" * 3999 for number in range(25)}
    assert is_problem(here.post("/v1/jobs", json={**said, "prompts": words, "negative": "w" * 26}), 422, "100,001")
    answer = here.post("/v1/jobs", json={**said, "prompts": words, "negative": "w" * 25})
    assert answer.status_code == 202, answer.text
    assert here.delete(f"/v1/jobs/{answer.json()['id']}").status_code == 200


def test_an_upload_of_no_said_length_leaves_the_store_its_room(here, monkeypatch):
    free = [uploads._RESERVE + (1 << 20)] * 2  # asked before it comes, and with each piece that is written
    monkeypatch.setattr(uploads.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.pop() if free else 0))
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    pieces = iter([head, *[bytes(1 << 19)] * 12, b"\r\n--b--\r\n"])
    answer = here.post("/v1/assets", content=pieces, headers={"content-type": "multipart/form-data; boundary=b"})
    assert is_problem(answer, 507, "no room", code=1)
    assert not any((here.service.store.folder / "incoming").iterdir())


def test_a_setting_has_a_length(here, asset):
    said = {"input": asset["id"], "settings": {"editor": "w" * 2001}}
    assert is_problem(here.post("/v1/jobs", json=said), 422, "2000")


def test_few_command_lines_are_remembered(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(views, "_REMEMBERED", 5000)
    on = client(tmp_path)
    asset = upload(on, clip)
    jobs = [ask(on, asset, method="fresco", prompt=f"{number}", negative="w" * 1000) for number in range(12)]
    kept = on.service.commands
    assert 3000 < sum(map(len, kept._known.values())) == kept._length <= 5000
    assert max(map(len, kept._known)) == 32
    shown = on.get("/v1/jobs").json()["jobs"]  # more than are remembered
    assert [one["command"] for one in shown] == [one["command"] for one in reversed(jobs)]
    assert all(f" {number} " in f"{one['command']} " for number, one in enumerate(jobs))
    assert kept._length <= 5000
    kept.learn(on.service.store.get("", jobs[0]["id"]), jobs[0]["command"])  # again, as two who list jobs at once may
    assert sum(map(len, kept._known.values())) == kept._length
    asked = on.service.asks.asked
    asked.clear()
    assert on.get(f"/v1/jobs/{jobs[0]['id']}").json()["command"] == jobs[0]["command"]
    again = len(asked)
    on.get(f"/v1/jobs/{jobs[0]['id']}")
    assert len(asked) == again


# -------------------------------------------------------------------------------------------------------------- slowness


def slowly(settings, kind, pieces, pause):
    """The status for a body that comes in pieces with pauses, then nothing more; None where the application had all of it."""
    status = []

    async def app(scope, receive, send):
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        ended, _ = await asyncio.wait([asyncio.ensure_future(receive())], timeout=0.2)  # which has no end now
        await send({"type": "http.response.start", "status": 500 if ended else 200, "headers": []})

    async def receive():
        await asyncio.sleep(pause if pieces else 60)
        return {"type": "http.request", "body": b"x", "more_body": pieces.pop()}

    async def send(message):
        status.append(message.get("status"))

    headers = [(b"host", b"127.0.0.1"), (b"content-type", kind)]
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "headers": headers, "query_string": b""}
    asyncio.run(guard.Guard(app, settings, Meter(None))(scope, receive, send))
    return status[0]


@pytest.mark.parametrize(
    "kind, pieces, pause, status",
    [
        (b"application/json", [True], 0, 408),
        (b"application/json", [False] + [True] * 6, 0.04, 408),  # a byte now and then
        (b"application/json", [False, True], 0.04, 200),
        (b"multipart/form-data; boundary=b", [True], 0, 408),
        (b"multipart/form-data; boundary=b", [False] + [True] * 5, 0.04, 200),  # an upload may last
    ],
)
def test_a_body_comes_soon_or_not_at_all(tmp_path, monkeypatch, kind, pieces, pause, status):
    monkeypatch.setattr(guard, "_PATIENCE", 0.15)
    assert slowly(Settings(data=tmp_path), kind, list(pieces), pause) == status


# ------------------------------------------------------------------------------------------------------ many at the same time


def test_streams_that_are_opened_at_once_are_counted(tmp_path, clip):
    on = client(tmp_path, limits={"streams": 3})
    job = ask(on, upload(on, clip))
    threads = [threading.Timer(1.5, lambda: on.delete(f"/v1/jobs/{job['id']}"))]
    statuses = []
    for _ in range(9):
        threads.append(threading.Thread(target=lambda: statuses.append(on.get(f"/v1/jobs/{job['id']}/events").status_code)))
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(statuses) == [200] * 3 + [429] * 6
    assert on.service.streams == {"": 0}


def test_a_frame_of_what_is_deleted_meanwhile_is_not_found(tmp_path, clip):
    on = client(tmp_path)
    asset = upload(on, clip)
    whole = on.service.asks.ask

    def ask_late(task, **values):
        on.service.store.remove_asset("", asset["id"])
        return whole(task, **values)

    on.service.asks.ask = ask_late
    assert is_problem(on.get(f"/v1/assets/{asset['id']}/frames/1"), 404, asset["id"])


# ------------------------------------------------------------------------------------------------------------ the machine


@pytest.mark.parametrize("field", ["model.weights", "model.controlnets"])
def test_no_answer_tells_which_files_there_are(here, asset, tmp_path, field):
    there, absent = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    there.write_bytes(b"x")
    answers = []
    for path in (there, absent):
        said = {"input": asset["id"], "method": "fresco", "prompt": "x", "settings": {field: str(path)}}
        answer = here.post("/v1/jobs", json=said)
        assert answer.status_code == 422
        answers.append(json.dumps(answer.json()).replace(path.name, "NAME"))
    assert answers[0] == answers[1]


def test_what_is_not_yet_there_is_not_trusted(here, asset):
    later = here.service.store.folder / "jobs" / "later" / "model.safetensors"
    said = {"input": asset["id"], "method": "fresco", "prompt": "x", "settings": {"model.weights": str(later)}}
    assert is_problem(here.post("/v1/jobs", json=said), 422, "not in the list")
