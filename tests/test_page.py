"""The pieces of the page and the bodies of its jobs, without a browser."""

import asyncio
import json
import random
import re
import subprocess
import sys
import threading
import time
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="flowpaint[serve] is not installed")

from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from flowpaint.errors import InputError
from flowpaint.web import page, page_client, page_html, page_result
from flowpaint.web.problems import Refusal

EVIL = '<img src=x onerror="alert(1)">\n\n**bold**'
ASSET = {"id": "a1", "name": EVIL, "width": 160, "height": 90, "frames": 25, "seconds": 1.0, "has_audio": True}
JOB = {
    "id": "j1", "state": "failed", "name": EVIL, "prompt": EVIL, "look": EVIL, "kind": "edit", "created": 0.0, "attempt": 1,
    "progress": {"stage": EVIL, "done": 1, "total": 4}, "error": {"code": 2, "message": EVIL}, "artifacts": [],
    "request": {"input": "a1"},
}  # fmt: skip
REPORT = {
    "input": {"first_frame": 10, "rate": "25"}, "wants_keyframe": [20], "warnings": [EVIL],
    "frames": [
        {"frame": 12, "confidence": 0.95, "source_flicker": 1.0, "result_flicker": 5.0},
        {"frame": 13, "confidence": 0.95, "source_flicker": 2.0, "result_flicker": 3.0},
        {"frame": 50, "confidence": 0.95, "source_flicker": 0.1, "result_flicker": 0.4},
        {"frame": 19, "confidence": 0.41},
        {"frame": 20, "confidence": 0.4},
        {"frame": 30, "confidence": 0.59},
        {"frame": 40, "confidence": 0.61},
    ],
}  # fmt: skip
PIECES = {
    "viewer": page_html.viewer(ASSET),
    "problem": page_html.problem(EVIL),
    "upload": page_html.upload(EVIL, kind="video", tells="fp-x", hint=EVIL),
    "jobs": page_html.jobs([JOB, {**JOB, "state": "running"}], "j1"),
    "progress": page_result.progress(JOB),
    "running": page_result.progress({**JOB, "state": "running"}),
    "plan": page_html.plan({"frames": 3, "shots": [1], "look": EVIL, "warnings": [EVIL], "estimate": {"seconds": 2.0}}),
    "weak": page_result.weak(REPORT),
}


@pytest.mark.parametrize("name", PIECES)
def test_what_a_user_typed_is_text_on_one_line(name):
    piece = PIECES[name]
    assert "<img src=x" not in piece and "\n" not in piece
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt; **bold**" in piece or name == "running"


def test_attributes_are_escaped_and_left_out_where_there_is_nothing():
    made = page_html.block("p", "x", class_="a", data_x='"><b>', for_="b", hidden=True, title=None, open=False)
    assert made == '<p class="a" data-x="&quot;&gt;&lt;b&gt;" for="b" hidden>x</p>'
    assert page_html.block("input", "", type="range") == '<input type="range">'


def test_weak_moments_are_the_worst_first_and_lead_there():
    assert page_result.moments(REPORT) == [
        (20, "60 % of the picture is guessed"),
        (30, "41 % of the picture is guessed"),
        (12, "it flickers more than the source"),
    ]
    said = page_result.weak(REPORT)
    assert 'data-go="20" data-moment="0.4000"' in said, "the moment counts from where the result begins"
    assert said.count("An edited picture here would help.") == 1
    assert "No weak moments" in page_result.weak({"frames": []})


def plainly(report):
    """`moments` as one would say it: each frame that is worse than its neighbours of three frames, in the order of doubt."""
    kept = []
    for row in sorted(report["frames"], key=lambda one: (one["confidence"], one["frame"])):
        if row["confidence"] < 0.6 and all(abs(row["frame"] - other) > 3 for other in kept):
            kept.append(row["frame"])
    return kept[:8]


@pytest.mark.parametrize("seed", range(5))
def test_the_listed_moments_are_the_worst_of_all(seed):
    draw = random.Random(seed)
    rows = [{"frame": number, "confidence": draw.choice((0.1, 0.2, draw.random()))} for number in range(400)]
    if seed == 1:  # the worst lie side by side
        rows = [{"frame": number, "confidence": abs(number - 200) / 400} for number in range(400)]
    report = {"frames": rows, "input": {"first_frame": 3}, "warnings": ["x"], "wants_keyframe": []}
    assert [number for number, _ in page_result.moments(report)] == plainly(report)
    short = page_result.shortened(json.dumps(report).encode())
    assert len(short["frames"]) == 8 and page_result.weak(short) == page_result.weak(report)
    assert short["input"] == report["input"]


def test_the_moments_of_a_film_take_no_time():
    rows = [{"frame": number, "confidence": 0.5, "source_flicker": 1.0, "result_flicker": 9.0} for number in range(90_000)]
    begun = time.perf_counter()
    assert len(page_result.moments({"frames": rows, "wants_keyframe": [*range(0, 90_000, 2)]})) == 8
    assert time.perf_counter() - begun < 2
    assert page_html.keyframes({}, range(90_000)).count("<button") == 12


def test_frames_that_want_an_edited_picture_come_from_the_plan_and_the_report():
    assert page_result.wanted({"keyframes_made": [30, 0]}, REPORT) == [0, 20, 30]
    said = page_html.keyframes({"0": "a"}, [0, 20])
    assert "Go to frame 20" in said and "Go to frame 0" not in said and 'data-value="0="' in said
    assert page_html.keyframes({}, []) == ""


def test_a_job_that_lives_is_watched_and_one_that_ended_is_not():
    for state, lives in (("queued", 1), ("running", 1), ("waiting", 1), ("done", 0), ("failed", 0), ("cancelled", 0)):
        said = page_result.progress({**JOB, "state": state})
        assert (" data-live" in said) == lives, state
        assert ("<progress" in said) == (state in ("queued", "running"))
    assert 'value="0.2500"' in page_result.progress({**JOB, "state": "running"})


def test_only_finished_jobs_can_be_removed_from_the_list():
    rows = [{**JOB, "id": state, "state": state} for state in ("queued", "running", "waiting", "done", "failed", "cancelled")]
    said = page_html.jobs(rows, "done")
    assert re.findall(r'data-tell="fp-remove" data-value="(\w+)"', said) == ["done", "failed", "cancelled"]
    assert said.count("aria-current") == 1
    assert "No jobs yet" in page_html.jobs([], "")


def test_a_result_lies_over_its_source_at_the_right_moment():
    job = {
        **JOB,
        "state": "done",
        "artifacts": [{"name": "video", "href": "/v", "bytes": 2_500_000}, {"name": "preview", "href": "/preview"}],
    }
    said = page_result.result(job, "a1", REPORT)
    assert 'data-offset="0.4"' in said and "/v1/assets/a1/content" in said and "Video (2.5 MB)" in said and "/preview" not in said
    assert "fp-share" not in page_result.result({**job, "request": {"side_by_side": True}}, "a1", REPORT)
    assert "fp-before" not in page_result.result(job, None, REPORT)
    assert page_result.result({**job, "artifacts": []}, "a1", None) == page_result.NOTHING


@pytest.mark.parametrize(
    ("start", "frame"), [("", 0), ("12", 12), ("0.4s", 10), ("0:00.4", 10), ("00:00:00.4", 10), ("99s", 24), ("soon", 0)]
)
def test_the_frame_beside_the_first_one_is_where_the_job_begins(start, frame):
    said = page_result.first({**JOB, "request": {"input": "a1", "start": start}}, ASSET)
    assert f"/v1/assets/a1/frames/{frame}?" in said


def test_shots_and_times_are_said_shortly():
    row = {"first": 0, "last": 9, "frames": 10, "from": "00:00:00.000", "to": "00:00:01.500"}
    said = page_html.shots([row, {**row, "first": 10, "from": "00:00:01.500", "to": "01:02:03.000"}])
    assert "Shot 1: 0:00.0 – 0:01.5" in said and "Shot 2: 0:01.5 – 01:02:03.0" in said and 'data-go="10"' in said
    assert "One shot" in page_html.shots([row]) and page_html.shots([]) == ""
    assert [page_html.duration(one) for one in (0.2, 89, 90, 3600, 7200)] == ["1 s", "89 s", "2 min", "60 min", "2.0 h"]
    assert page_html.clock(67.5) == "1:07.5" and page_html.clock(None) == "0:00.0"


# ------------------------------------------------------------------------------------------------------------ beside REST


def served() -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.get("/v1/things")
    def things() -> dict[str, int]:
        return {"things": 3}

    page.mount(app, object())
    return app


def test_the_page_takes_only_its_own_paths(monkeypatch):
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with TestClient(served()) as client:
        assert client.get("/v1/things").json() == {"things": 3}
        assert client.post("/v1/things").status_code == 405
        for path in ("/page/page.js", "/page/brush.js", "/page/page.css"):
            answer = client.get(path)
            assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/")
        for path in ("/page/page.py", "/page/../page.py", "/gradio_api/upload", "/gradio_api/file=x", "/config", "/login"):
            assert client.get(path).status_code == 404, path
        answer = client.get("/")
        assert answer.status_code == 503 and "pip install 'flowpaint[serve]'" in answer.text
        assert "/page/page.js" not in client.get("/openapi.json").text


def test_a_page_that_cannot_be_made_is_an_error_and_the_server_lives(monkeypatch):
    def broken(late: object) -> None:
        raise RuntimeError("no page today")

    monkeypatch.setattr(page._Late, "_build", broken)
    with TestClient(served(), raise_server_exceptions=False) as client:
        first = client.get("/")
        assert first.status_code == 200 and "on its way" in first.text and 'http-equiv="refresh"' in first.text
        assert client.get("/theme.css").status_code == 500
        assert client.get("/").status_code == 500
        assert client.get("/v1/things").status_code == 200


def test_a_nonce_is_new_each_time_and_marks_every_script():
    from starlette.responses import HTMLResponse

    plain = HTMLResponse("<script>1</script><script src=x></script>")
    one, other = page._with_nonce(plain), page._with_nonce(plain)
    found = re.search(r"script-src 'self' 'nonce-([\w-]+)'", one.headers["content-security-policy"])
    assert found is not None and bytes(one.body).decode().count(f'<script nonce="{found[1]}"') == 2
    assert one.body != other.body and int(one.headers["content-length"]) == len(one.body)


def test_neither_the_server_nor_its_page_needs_gradio_to_start():
    script = "import sys, flowpaint.web.page, flowpaint.web.page_result; print([one for one in HEAVY if one in sys.modules])"
    script = script.replace("HEAVY", "('gradio', 'torch')")
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


class Visitor:
    """What `Rest` reads of a `gradio.Request`."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = httpx.Headers(headers)
        self.client = httpx.URL("http://10.1.2.3:99")
        self.url = httpx.URL("https://example.org/x")


def test_a_visitor_is_passed_on_and_refusals_are_said():
    app = FastAPI()
    seen: list[tuple[str, str, str, str]] = []

    from fastapi import Request
    from starlette.responses import JSONResponse, Response

    @app.api_route("/v1/{rest:path}", methods=["GET", "POST", "DELETE"])
    async def everything(rest: str, request: Request) -> Response:
        asked = request.headers
        seen.append((request.client.host, asked["host"], asked.get("cookie", ""), asked.get("origin", "")))
        if rest == "broken":
            raise RuntimeError
        if rest == "no":
            return JSONResponse({"title": "No", "status": 422, "detail": "It is so. Do this."}, 422)
        return Response(status_code=204) if request.method == "DELETE" else JSONResponse({"asked": await request.body() != b""})

    rest = page_client.Rest(app, Visitor({"host": "example.org", "cookie": "session=1", "x-forwarded-for": "6.6.6.6"}))
    assert asyncio.run(rest.get("/v1/x", limit=3, state=None)) == {"asked": False}
    assert asyncio.run(rest.post("/v1/x", {"a": 1})) == {"asked": True}
    assert asyncio.run(rest.delete("/v1/x")) is None
    assert set(seen) == {("10.1.2.3", "example.org", "session=1", "https://example.org")}
    with pytest.raises(InputError, match=r"^It is so\. Do this\.$"):
        asyncio.run(rest.get("/v1/no"))
    with pytest.raises(InputError, match="The server answered 500"):
        asyncio.run(rest.get("/v1/broken"))


def test_large_answers_are_read_in_a_thread():
    app = FastAPI()

    @app.get("/v1/large")
    def large() -> list[int]:
        return [1, 2]

    rest = page_client.Rest(app, Visitor({"host": "example.org"}))
    found = asyncio.run(rest.read("/v1/large", lambda said: (json.loads(said), threading.current_thread())))
    assert found[0] == [1, 2] and found[1] is not threading.main_thread()
    with pytest.raises(InputError, match="Not Found"):
        asyncio.run(rest.read("/v1/none", len))


# ------------------------------------------------------------------------------------------- what Gradio's import is needed for


@pytest.mark.slow
def test_a_report_is_read_once_and_again_when_it_changed():
    events = pytest.importorskip("flowpaint.web.page_events", reason="gradio is not installed", exc_type=ImportError)
    app, asked = FastAPI(), []

    @app.get("/v1/jobs/{job}/artifacts/report")
    def report(job: str) -> Any:
        asked.append(job)
        return REPORT if job != "text" else PlainTextResponse("no JSON")

    page_events, rest = events.Events(app), page_client.Rest(app, Visitor({"host": "example.org"}))
    done = {"id": "j1", "attempt": 1, "finished": 2.0, "artifacts": [{"name": "report", "bytes": 9}]}
    read = lambda job: asyncio.run(page_events._report(rest, {**done, **job}))  # noqa: E731
    assert read({})["warnings"] == [EVIL] and [row["frame"] for row in read({})["frames"]] == [12, 20, 30]
    assert asked == ["j1"]
    assert read({"attempt": 2}) and read({"finished": 3.0}) and read({"artifacts": [{"name": "report", "bytes": 8}]})
    assert read({"id": "j2"}) and asked == ["j1"] * 4 + ["j2"]
    assert read({"artifacts": []}) is None and read({"id": "text"}) is None
    for number in range(100):
        read({"attempt": number})
    assert len(page_events._reports) == 64
    assert read({"attempt": 99}) and len(asked) == 5 + 1 + 98, asked  # attempt 1 and 2 were known


@pytest.mark.slow
def test_the_form_becomes_the_body_of_a_job():
    events = pytest.importorskip("flowpaint.web.page_events", reason="gradio is not installed", exc_type=ImportError)
    plain = {"input": "a1", "kind": "edit", "prompt": " sepia ", "look": "", "strength": 1, "quality": "normal", "seed": 0}
    assert events.body(plain) == {"input": "a1", "prompt": "sepia"}
    assert events.body({**plain, "look": "night"})["prompt"] == "sepia, night"
    assert events.body({**plain, "look": "sepia"})["prompt"] == "sepia"
    assert events.body({**plain, "prompt": "", "look": "night"})["prompt"] == "night"
    full = {
        "method": "warp", "style": "s1", "mask": "m1#4", "keyframes": '{"3": "k1", "x": "k2", "4": "../x"}', "strength": 0.0,
        "extent": "local", "settings": "a.b = c\n\nd=e=f", "model": "mini", "other_shots": True, "seed": 7.0, "start": " 2s ",
        "quality": "best",
    }  # fmt: skip
    assert events.body({**plain, **full}) == {
        "input": "a1", "prompt": "sepia", "method": "warp", "style": "s1", "mask": "m1", "keyframes": {"3": "k1"},
        "strength": 0.0, "settings": {"model.weights": "mini", "a.b": "c", "d": "e=f"}, "other_shots": "keep", "seed": 7,
        "start": "2s", "quality": "best", "extent": "local",
    }  # fmt: skip
    coloured = events.body({**plain, **full, "kind": "colorize", "by": "b1#2", "keep_colors": True})
    assert coloured["by"] == "b1" and not {"prompt", "keyframes", "style", "method", "keep_colors", "extent"} & coloured.keys()
    assert "by" not in events.body({**plain, "by": "b1"})
    steady = events.body({**plain, **full, "kind": "deflicker"})
    assert steady["kind"] == "deflicker" and not {"prompt", "keyframes", "style", "method"} & steady.keys()
    said = json.loads(asyncio.run(events.Events(None).keyframe("5=k9#1", '{"3": "k1"}', "[]"))[0])
    assert said == {"3": "k1", "5": "k9"}
    assert json.loads(asyncio.run(events.Events(None).keyframe("3=", '{"3": "k1"}', "[]"))[0]) == {}
    assert "a  b&#10;&#10;&lt;" in events.command("a  b\n\n<")


FILE = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"data": [FILE], "fn_index": 1}),
        json.dumps({"data": ["a", [["b", FILE]]]}),
        json.dumps({"data": [{"path": "a", "url": "http://evil.example/"}]}),
        json.dumps({"data": FILE}),
        '{"data": [' + "[" * 100_000,
        "[]",
        "no JSON",
    ],
)
def test_what_looks_like_a_file_never_reaches_the_framework(body):
    """It would copy any file of the machine to where all may read it, or fetch from any address."""
    with pytest.raises(Refusal) as told:
        asyncio.run(page._without_files(*arriving(body)))
    assert told.value.status == 422


def test_every_question_to_the_framework_is_looked_at(monkeypatch):
    inner = FastAPI()

    @inner.post("/gradio_api/run/predict")
    def predict(asked: dict[str, list[str]]) -> list[str]:
        return asked["data"]

    monkeypatch.setattr(page._Late, "_build", lambda late: inner)
    with TestClient(served()) as client:
        assert client.post("/gradio_api/run/predict", json={"data": ["a"]}).json() == ["a"]
        with pytest.raises(Refusal):
            client.post("/gradio_api/run/predict", json={"data": [FILE]})


def test_plain_values_reach_the_framework_as_they_were_understood():
    body = '{"data": [{"path": "/etc/hostname"}], "data": ["a", 1, [null, true]], "event_data": {"index": 1}}'
    scope, receive = asyncio.run(page._without_files(*arriving(body)))
    message = asyncio.run(receive())
    assert json.loads(message["body"]) == {"data": ["a", 1, [None, True]], "event_data": {"index": 1}}
    assert message["body"].count(b"data") == 2 and b"hostname" not in message["body"]
    assert dict(scope["headers"]) == {b"x": b"y", b"content-length": str(len(message["body"])).encode()}


def arriving(body: str):
    """A request to the framework, as the server gets it."""

    async def receive():
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    return {"type": "http", "method": "POST", "headers": [(b"content-length", b"1"), (b"x", b"y")]}, receive


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["edit", "propagate", "deflicker", "colorize"])
@pytest.mark.parametrize("models", [["mini"], []])
def test_a_job_fills_the_form_that_asks_for_the_same(kind, models):
    events = pytest.importorskip("flowpaint.web.page_events", reason="gradio is not installed", exc_type=ImportError)
    fresh = {
        "prompt": "", "kind": "edit", "by": "", "strength": 1, "keep_colors": False, "quality": "normal", "start": "", "end": "",
        "side_by_side": False, "method": "", "model": "", "negative": "", "seed": 0, "style": "", "mask": "", "settings": "",
        "other_shots": False, "allow_damaged": False, "tonemap": False, "extent": "auto",
    }  # fmt: skip
    full = {
        "prompt": "sepia", "kind": kind, "by": "b1", "strength": 0.5, "keep_colors": True, "quality": "best", "start": "2s",
        "end": "40", "side_by_side": True, "method": "warp", "model": "mini", "negative": "blur", "seed": 7, "style": "s1",
        "mask": "m1", "settings": "a.b=c\nd=e=f", "other_shots": True, "allow_damaged": True, "tonemap": True, "extent": "local",
    }  # fmt: skip
    assert set(events.RESTORED) == set(fresh) == set(full)
    rest = {"input": "a1", "look": "", "keyframes": '{"3": "k1"}'}
    asked = events.body({**rest, **full})
    form = events.restored({**asked, "preview": "2s"}, models)
    assert set(form) <= set(fresh)
    assert events.body({**rest, **fresh, **form}) == asked
    assert form.get("model") == ("mini" if models else None)
    if kind == "edit":
        assert {**fresh, **form, "by": "b1"} == full or not models
    assert events.restored({"prompt": None, "method": "deflicker", "settings": {"a": True}, "other_shots": "refuse"}, []) == {
        "other_shots": False,
        "settings": "a=true",
    }


@pytest.mark.slow
def test_every_field_of_the_form_is_filled_again():
    pytest.importorskip("flowpaint.web.page_events", reason="gradio is not installed", exc_type=ImportError)
    script = """
import gradio, flowpaint.web.page_layout as layout
with gradio.Blocks():
    print(*set(layout._look().form) ^ set(layout.RESTORED))
"""  # in a process of its own, for Gradio leaves a loop of events open
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(told.split()) == {"look", "keyframes"}
