"""Jobs over HTTP, from an upload to an artifact: what the contract says, in the order in which people do it."""

import json
import threading

import pytest

from flowpaint import api
from rest_parts import a_picture, a_video, ask, client, is_problem, upload, waiting


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return a_video(tmp_path_factory.mktemp("clip"), sound=("eng",))


@pytest.fixture
def on(tmp_path):
    return client(tmp_path)


@pytest.fixture
def asset(on, clip):
    return upload(on, clip)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, clip):
    """A server that many tests share, with an upload and with a job that is done."""
    on = client(tmp_path_factory.mktemp("kept"))
    on.asset = upload(on, clip)
    on.done = done(on, ask(on, on.asset))
    return on


def done(on, job):
    """Let a worker have done the job, with files of known content."""
    record = on.queue.claim("w")
    assert record.id == job["id"]
    record.folder.mkdir()
    (record.folder / "preview.jpg").write_bytes(b"\xff\xd8preview")
    record.output.write_bytes(bytes(range(100)))
    record.output.with_name("result.json").write_text("{}")
    record.output.with_name("result.sheet.png").write_bytes(b"sheet")
    on.queue.finish(record, 300)
    return record


# ---------------------------------------------------------------------------------------------------------------- assets


def test_an_upload_says_what_it_is(on, tmp_path, clip, asset):
    assert asset.pop("id") and asset.pop("created") > 1e9 and asset.pop("bytes") == clip.stat().st_size
    facts = {"width": 64, "height": 48, "frames": 6, "seconds": pytest.approx(0.24), "rate": pytest.approx(25), "has_audio": True}
    assert asset == {"name": "clip.mp4", "kind": "video", **facts}
    picture = upload(on, a_picture(tmp_path))
    assert (picture["kind"], picture["width"], picture["height"], picture["frames"]) == ("picture", 64, 48, 1)
    assert [one["name"] for one in on.get("/v1/assets").json()["assets"]] == ["hat.png", "clip.mp4"]
    assert on.get(f"/v1/assets/{picture['id']}").json() == picture


@pytest.mark.parametrize(
    "sent, shown",
    [
        ("../../etc/passwd.mp4", "passwd.mp4"),
        ("C:\\Users\\me\\a.mp4", "a.mp4"),
        ("..", "upload"),
        ("a\u202e\x1b[1m.mp4", "a[1m.mp4"),
    ],
)
def test_a_name_is_no_path(on, tmp_path, clip, sent, shown):
    made = upload(on, clip, name=sent)
    assert made["name"] == shown
    [stored] = (on.service.store.folder / "assets").iterdir()
    assert [one.name for one in stored.iterdir()] == ["file.mp4"]
    assert {one.name for one in tmp_path.iterdir()} == {"data"}


def test_a_suffix_comes_from_what_a_file_is(on, tmp_path):
    made = upload(on, a_picture(tmp_path), name="film.mp4")
    assert made["kind"] == "picture"
    assert on.service.store.asset("", made["id"]).path.name == "file.png"


def test_frames_and_shots(on, asset):
    answer = on.get(f"/v1/assets/{asset['id']}/frames/3?side=32")
    assert (answer.status_code, answer.headers["content-type"], answer.content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    asked = len(on.service.asks.asked)
    assert on.get(f"/v1/assets/{asset['id']}/frames/3?side=32").content == answer.content
    assert len(on.service.asks.asked) == asked  # kept
    assert is_problem(on.get(f"/v1/assets/{asset['id']}/frames/6"), 422, "no frame 6", "has 6", code=4)
    [shot] = on.get(f"/v1/assets/{asset['id']}/shots").json()
    assert shot == {"first": 0, "last": 5, "frames": 6, "from": "00:00:00.000", "to": "00:00:00.240"}


def test_frames_that_are_kept_are_not_many(on, asset, monkeypatch):
    monkeypatch.setattr("flowpaint.web.assets._SCRUBBED", 2)
    for number in range(5):
        on.get(f"/v1/assets/{asset['id']}/frames/{number}")
    kept = on.service.store.asset("", asset["id"]).path.parent / "frames"
    assert {one.name for one in kept.iterdir()} == {"640-3.jpg", "640-4.jpg"}


def test_an_asset_goes_when_nothing_reads_it(on, asset):
    job = ask(on, asset)
    assert is_problem(on.delete(f"/v1/assets/{asset['id']}"), 409, "Cancel that job first")
    on.delete(f"/v1/jobs/{job['id']}")
    assert on.delete(f"/v1/assets/{asset['id']}").status_code == 204
    assert is_problem(on.get(f"/v1/assets/{asset['id']}"), 404, asset["id"])
    assert list((on.service.store.folder / "assets").iterdir()) == []


@pytest.mark.parametrize(
    "path", ["/v1/assets/none", "/v1/assets/none/content", "/v1/assets/none/frames/0", "/v1/assets/none/shots"]
)
def test_unknown_assets(kept, path):
    assert is_problem(kept.get(path), 404, "'none'")


# ------------------------------------------------------------------------------------------------------------------ jobs


def test_a_job_is_the_one_of_the_command_line(on, asset, tmp_path):
    mask = upload(on, a_picture(tmp_path, "my mask.png"))
    answer = on.post(
        "/v1/jobs",
        json={
            "input": asset["id"],
            "prompt": "van gogh",
            "mask": mask["id"],
            "settings": {"flow.preset": "fast", "lost": 0.5},
            "seed": 4,
            "start": 1,
            "end": "5",
            "encoding": {"crf": 20},
            "keyframes": {"2": mask["id"]},
            "name": "out.mov",
            "priority": 3,
        },
    )
    job = answer.json()
    assert answer.status_code == 202 and answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["method"], job["name"], job["priority"], job["attempt"]) == ("queued", "analogy", "out.mov", 3, 0)
    assert "van gogh" in job["look"] and job["artifacts"] == [] and job["error"] is None
    assert job["request"]["mask"] == mask["id"] and "negative" not in job["request"]
    assert job["command"] == (
        "flowpaint edit clip.mp4 'van gogh' --set=flow.preset=fast --set=lost=0.5 --start=1 --end=5 --seed=4 --offline "
        "'--mask=my mask.png' '--keyframe=2=my mask.png' --crf=20 -o out.mov"
    )
    record = on.service.store.get("", job["id"])
    stored = on.service.store.folder / "assets"
    expected, _ = api.plan_job(
        "edit",
        stored / asset["id"] / "file.mp4",
        prompt="van gogh",
        mask=stored / mask["id"] / "file.png",
        settings={"flow.preset": "fast", "lost": "0.5"},
        seed=4,
        start=1,
        end="5",
        encoding={"crf": 20},
        keyframes={"2": stored / mask["id"] / "file.png"},
        offline=True,
    )
    assert api.Job.from_dict(record.job) == expected
    assert on.get(f"/v1/jobs/{job['id']}").json() == job


def test_a_form_brings_its_files(on, tmp_path):
    video, picture = a_video(tmp_path).read_bytes(), a_picture(tmp_path).read_bytes()
    files = {"video": ("v.mp4", video), "style": ("s.png", picture), "keyframe:3": ("k.png", picture)}
    answer = on.post("/v1/jobs", files={**files, "job": (None, json.dumps({"seed": 2}))})
    assert answer.status_code == 202, answer.text
    known = {one["name"]: one["id"] for one in on.get("/v1/assets").json()["assets"]}
    assert answer.json()["request"] == {
        "input": known["v.mp4"],
        "style": known["s.png"],
        "keyframes": {"3": known["k.png"]},
        "seed": 2,
    }
    assert answer.json()["command"].startswith("flowpaint edit v.mp4 ")
    assert list((on.service.store.folder / "incoming").iterdir()) == []


@pytest.mark.parametrize("kind", ["deflicker", "colorize", "propagate"])
def test_other_kinds(on, asset, kind):
    said = {"colorize": {"by": asset["id"]}, "propagate": {"keyframes": {"0": asset["id"]}}}.get(kind, {})
    job = ask(on, asset, kind=kind, prompt="", **said)
    assert job["kind"] == kind and job["command"].startswith(f"flowpaint {kind} clip.mp4")
    assert job["method"] == ("analogy" if kind == "propagate" else kind)


def test_asking_again_is_no_second_job(on, asset):
    sent = {"json": {"input": asset["id"], "prompt": "mosaic"}, "headers": {"idempotency-key": "abc"}}
    first, second = on.post("/v1/jobs", **sent).json(), on.post("/v1/jobs", **sent).json()
    assert first["id"] == second["id"] and len(on.get("/v1/jobs").json()["jobs"]) == 1


def test_jobs_are_listed_newest_first(on, asset):
    ids = [ask(on, asset)["id"] for _ in range(3)]
    on.delete(f"/v1/jobs/{ids[1]}")
    listed = on.get("/v1/jobs").json()["jobs"]
    assert [one["id"] for one in listed] == ids[::-1]
    assert [one["id"] for one in on.get("/v1/jobs?state=queued").json()["jobs"]] == [ids[2], ids[0]]
    assert [one["id"] for one in on.get("/v1/jobs?limit=1").json()["jobs"]] == [ids[2]]
    before = on.get(f"/v1/jobs?limit=1&before={listed[0]['created']!r}").json()["jobs"]
    assert [one["id"] for one in before] == [ids[1]]


def test_a_plan_makes_nothing(on, asset):
    plan = on.post("/v1/plans", json={"input": asset["id"], "prompt": "van gogh"}).json()
    assert (plan["frames"], plan["keyframes_made"], plan["output"]["path"]) == (6, [0], "result.mp4")
    assert plan["command"] == "flowpaint edit clip.mp4 'van gogh' --offline -o result.mp4"
    assert plan["estimate"]["seconds"] > 0 and "run_folder" not in plan
    assert str(on.service.store.folder) not in json.dumps(plan)
    assert on.get("/v1/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    "said, status, words",
    [
        ({"prompt": "van gog"}, 422, ["'van gogh'"]),
        ({"prompt": 3}, 422, ["prompt does not fit"]),
        ({"speling": 3}, 422, ["speling does not fit"]),
        ({"seed": -1}, 422, ["seed does not fit"]),
        ({"seed": "1"}, 422, ["seed does not fit"]),
        ({"strength": 1.5}, 422, ["strength does not fit"]),
        ({"method": "analog"}, 422, ["'analog'", "'analogy'"]),
        ({"method": "../recipe.toml"}, 422, ["method does not fit"]),
        ({"mask": "none"}, 404, ["asset 'none'"]),
        ({"keyframes": {"0": "none"}}, 404, ["asset 'none'"]),
        ({"objects": ["none"]}, 404, ["asset 'none'"]),
        ({"objects": ["click:/etc"]}, 422, ["objects.0 does not fit"]),
        ({"settings": {"flow.presett": "fast"}}, 422, ["'presett'", "'preset'"]),
        ({"settings": {"editor": "openai"}}, 422, ["an address"]),
        ({"settings": {"editor": "comfyui"}}, 422, []),
        ({"settings": {"propagate": "ebsynth"}}, 422, ["a program"]),
        ({"settings": {"editor": "diffusion", "editor.model.weights": "/etc/passwd"}}, 422, ["not in the list"]),
        ({"settings": {"editor": "diffusion", "editor.model.weights": "someone/else"}}, 422, ["not in the list"]),
        ({"name": "result.exe"}, 422, ["result.exe", ".mp4"]),
        ({"name": "result"}, 422, [".mp4"]),
        ({"encoding": {"codec": "gif"}}, 422, ["encoding.codec does not fit"]),
        ({"encoding": {"crf": 60}}, 422, ["crf 60", "0..51"]),
        ({"kind": "colorize", "keep_colors": True}, 422, ["keep"]),
        ({"by": "INPUT"}, 422, ["Only colorize"]),
        ({"remove": True}, 422, ["--object"]),
        ({"instruct": True, "prompt": ""}, 422, ["instruction is empty"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_as_the_command_line_does(kept, said, status, words):
    on, key, count = kept, kept.asset["id"], len(kept.get("/v1/jobs").json()["jobs"])
    body = {"input": key, "prompt": "van gogh", **said}
    body = {field: key if value == "INPUT" else value for field, value in body.items()}
    answer = on.post("/v1/jobs", json=body)
    assert is_problem(answer, status, *words)
    assert str(on.service.store.folder) not in answer.text
    assert len(on.get("/v1/jobs").json()["jobs"]) == count


def test_a_job_reads_nothing_but_what_it_names(on, asset, tmp_path):
    """A path in the data folder, which somebody could have guessed, is no asset of this job."""
    other = on.service.store.asset("", upload(on, a_picture(tmp_path))["id"]).path
    answer = on.post("/v1/jobs", json={"input": asset["id"], "settings": {"editor": "lama", "editor.weights": str(other)}})
    assert is_problem(answer, 422, "not uploaded for it")


@pytest.mark.parametrize(
    "body, kind, status",
    [
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"", "application/json", 422),
        (b"x", "text/plain", 415),
    ],
)
def test_bodies_that_are_no_jobs(kept, body, kind, status):
    assert is_problem(kept.post("/v1/jobs", content=body, headers={"content-type": kind}), status)


@pytest.mark.parametrize(
    "files, word",
    [
        ({"job": (None, "{}")}, "video not once"),
        ({"job": (None, "{"), "video": ("v.mp4", b"1")}, "no JSON"),
        ({"job": (None, '{"input": "a"}'), "video": ("v.mp4", b"1")}, "video not once"),
        ({"job": (None, "[]"), "video": ("v.mp4", b"1")}, "an object"),
        ({"video": ("v.mp4", b"1"), "more": ("v.mp4", b"1")}, "'more'"),
        ({"video": ("v.mp4", b"1"), "more": (None, "x")}, "'more'"),
        ({"video": ("v.mp4", b"1")}, "neither a video nor a picture"),
        ({"video": ("v.mp4", b"1"), "job": (None, '{"seed": "x"}')}, "seed does not fit"),
    ],
)
def test_forms_that_are_no_jobs(kept, files, word):
    assert is_problem(kept.post("/v1/jobs", files=files), 422, word, code=4 if "neither" in word else 2)
    assert kept.get("/v1/assets").json() == {"assets": [kept.asset]}


# --------------------------------------------------------------------------------------------------- approval, artifacts


@pytest.mark.parametrize("body", [None, {}, {"seed": 7}, "keyframe"])
def test_a_first_frame_is_approved(on, asset, tmp_path, body):
    job = waiting(on, asset)
    assert (job["state"], job["approve"]) == ("waiting", True)
    assert job["artifacts"] == [
        {
            "name": "first",
            "file": "result.first.png",
            "bytes": 7,
            "type": "image/png",
            "href": f"/v1/jobs/{job['id']}/artifacts/first",
        }
    ]
    assert on.get(job["artifacts"][0]["href"]).content == b"picture"
    body = {"keyframe": upload(on, a_picture(tmp_path))["id"]} if body == "keyframe" else body
    answer = on.post(f"/v1/jobs/{job['id']}/approve", json=body) if body is not None else on.post(f"/v1/jobs/{job['id']}/approve")
    after = answer.json()
    assert (answer.status_code, after["state"]) == (200, "queued")
    assert ("--seed=7" in after["command"]) == (body == {"seed": 7}) == after["approve"]
    assert ("--keyframe=0=hat.png" in after["command"]) == ("keyframe" in (body or ()))
    assert is_problem(on.post(f"/v1/jobs/{job['id']}/approve", json={}), 409, "queued")


def test_approvals_that_do_not_fit(on, asset):
    job = waiting(on, asset)
    path = f"/v1/jobs/{job['id']}/approve"
    assert is_problem(on.post(path, json={"seed": 1, "keyframe": asset["id"]}), 422, "both")
    assert is_problem(on.post(path, json={"keyframe": "none"}), 404, "'none'")
    assert is_problem(on.post(path, json={"sed": 1}), 422, "sed")
    assert is_problem(on.post(path, content=b"x", headers={"content-type": "text/plain"}), 415)
    assert is_problem(on.post("/v1/jobs/none/approve", json={}), 404, "'none'")
    assert on.get(f"/v1/jobs/{job['id']}").json()["state"] == "waiting"


def test_a_job_that_is_done_has_its_files(on, asset):
    job = ask(on, asset, name='Süß "film".mp4')
    done(on, job)
    found = on.get(f"/v1/jobs/{job['id']}").json()
    assert (found["state"], found["attempt"]) == ("done", 1) and found["finished"] >= found["started"]
    shown = {one["name"]: (one["file"], one["bytes"], one["type"]) for one in found["artifacts"]}
    assert shown == {
        "preview": ('Süß "film".preview.jpg', 9, "image/jpeg"),
        "video": ('Süß "film".mp4', 100, "video/mp4"),
        "report": ('Süß "film".json', 2, "application/json"),
        "sheet": ('Süß "film".sheet.png', 5, "image/png"),
    }
    for one in found["artifacts"]:
        assert len(on.get(one["href"]).content) == one["bytes"]
    assert is_problem(on.get(f"/v1/jobs/{job['id']}/artifacts/candidates"), 404, "no candidates")
    assert is_problem(on.get(f"/v1/jobs/{job['id']}/artifacts/..%2f..%2fjobs.db"), 404)
    assert is_problem(on.get(f"/v1/jobs/{job['id']}/artifacts/result.mp4"), 422)


def test_a_video_is_not_shown_before_it_is_done(on, asset):
    job = ask(on, asset)
    record = on.queue.claim("w")
    record.folder.mkdir()
    record.output.write_bytes(b"half")
    on.queue.beat(record, "render", 2, 6)
    found = on.get(f"/v1/jobs/{job['id']}").json()
    assert (found["state"], found["progress"], found["artifacts"]) == ("running", {"stage": "render", "done": 2, "total": 6}, [])


def test_a_failure_says_why_without_where(on, asset):
    job = ask(on, asset)
    record = on.queue.claim("w")
    on.queue.fail(record, 4, f"{record.job['input']} is damaged. See {record.folder}/run. Copy it again.")
    found = on.get(f"/v1/jobs/{job['id']}").json()
    assert found["state"] == "failed"
    assert found["error"] == {"code": 4, "message": f"clip.mp4 is damaged. See jobs/{job['id']}/run. Copy it again."}


def test_delete_cancels_then_removes(on, asset):
    job = ask(on, asset)
    answer = on.delete(f"/v1/jobs/{job['id']}")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    answer = on.delete(f"/v1/jobs/{job['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert is_problem(on.delete(f"/v1/jobs/{job['id']}"), 404)


# --------------------------------------------------------------------------------------------------------- bytes, events


@pytest.mark.parametrize(
    "ranges, status, content, said",
    [
        (None, 200, bytes(range(100)), None),
        ("bytes=0-9", 206, bytes(range(10)), "bytes 0-9/100"),
        ("bytes=90-", 206, bytes(range(90, 100)), "bytes 90-99/100"),
        ("bytes=-5", 206, bytes(range(95, 100)), "bytes 95-99/100"),
        ("bytes=90-900", 206, bytes(range(90, 100)), "bytes 90-99/100"),
        ("bytes=-900", 206, bytes(range(100)), "bytes 0-99/100"),
    ],
)
def test_ranges(kept, ranges, status, content, said):
    answer = kept.get(f"/v1/jobs/{kept.done.id}/artifacts/video", headers={"range": ranges} if ranges else {})
    assert (answer.status_code, answer.content, answer.headers.get("content-range")) == (status, content, said)
    assert (
        answer.headers["accept-ranges"] == "bytes"
        and answer.headers["content-disposition"] == 'attachment; filename="result.mp4"'
    )


@pytest.mark.parametrize("ranges", ["bytes=100-", "bytes=5-2", "bytes=x", "lines=1-2", "bytes=-0"])
def test_ranges_that_are_not_there(kept, ranges):
    answer = kept.get(f"/v1/jobs/{kept.done.id}/artifacts/video", headers={"range": ranges})
    assert is_problem(answer, 416, "100 bytes") and answer.headers["content-range"] == "bytes */100"


def test_several_ranges_and_what_the_asker_has(kept):
    on, path = kept, f"/v1/jobs/{kept.done.id}/artifacts/video"
    several = on.get(path, headers={"range": "bytes=0-1,50-51"})
    assert several.status_code == 206 and several.headers["content-type"].startswith("multipart/byteranges")
    assert bytes([0, 1]) in several.content and bytes([50, 51]) in several.content
    tag = on.get(path).headers["etag"]
    assert on.get(path, headers={"if-none-match": f'"other", W/{tag}'}).status_code == 304
    assert on.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    changed = on.get(path, headers={"range": "bytes=0-1", "if-range": '"other"'})
    assert changed.status_code == 200 and len(changed.content) == 100


def events(answer):
    """The events of a stream: (event, id, data)."""
    blocks = [block for block in answer.text.split("\n\n") if block.startswith("event:")]
    rows = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(row["event"], int(row["id"]), json.loads(row["data"])) for row in rows]


def test_events_are_told_until_the_end(on, asset):
    job = ask(on, asset)
    record = on.queue.claim("w")
    on.queue.beat(record, "render", 2, 6)
    on.queue.say(record, "log", {"level": "warning", "message": f"{record.job['input']} is odd."})
    on.queue.finish(record, 0)
    answer = on.get(f"/v1/jobs/{job['id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer)
    assert [one[0] for one in found] == ["state", "state", "progress", "log", "state", "end"]
    assert [one[2].get("state") for one in found] == ["queued", "running", None, None, "done", "done"]
    assert found[3][2]["message"] == "clip.mp4 is odd." and found[2][2]["done"] == 2
    numbers = [one[1] for one in found]
    assert numbers == sorted(numbers)
    rest = events(on.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": str(numbers[3])}))
    assert rest == found[4:]
    assert events(on.get(f"/v1/jobs/{job['id']}/events?after={numbers[3]}")) == found[4:]
    assert events(on.get(f"/v1/jobs/{job['id']}/events", headers={"last-event-id": "x"})) == found
    assert is_problem(on.get("/v1/jobs/none/events"), 404)


def test_events_come_as_they_happen(on, asset, monkeypatch):
    monkeypatch.setattr("flowpaint.web.events._LOOK", 0.02)
    monkeypatch.setattr("flowpaint.web.events._ALIVE", 0.01)
    job = ask(on, asset)
    look, looks = on.service.store.events, []

    def looked(key, after=0):
        found = look(key, after)
        looks.append(after)
        if len(looks) == 5:  # it has been silent for a while
            on.service.store.cancel("", key)
        return found

    monkeypatch.setattr(on.service.store, "events", looked)
    answer = on.get(f"/v1/jobs/{job['id']}/events")
    assert [one[2]["state"] for one in events(answer)] == ["queued", "cancelled", "cancelled"]
    assert ": still there\n\n" in answer.text
    assert on.service.streams == {"": 0}


def test_a_job_that_is_removed_ends_its_stream(on, asset, monkeypatch):
    monkeypatch.setattr("flowpaint.web.events._LOOK", 0.02)
    job = ask(on, asset)

    def remove():
        on.service.store.cancel("", job["id"])
        on.service.store.remove("", job["id"])

    timer = threading.Timer(0.1, remove)
    timer.start()
    last = events(on.get(f"/v1/jobs/{job['id']}/events"))[-1]
    timer.join()
    assert last[0] == "end" and last[2]["state"] in ("cancelled", "removed")


# --------------------------------------------------------------------------------------------------------------- the rest


def test_what_there_is_to_choose_from(kept):
    on = kept
    looks = {one["name"]: one for one in on.get("/v1/looks").json()["looks"]}
    assert looks["van gogh"]["aliases"] == ["vangogh"]
    models = on.get("/v1/models").json()["models"]
    assert all("path" not in one for one in models) and any(one["here"] for one in models)


def test_health_and_readiness(on):
    assert on.get("/healthz").json()["status"] == "ok"
    assert on.get("/readyz").json()["status"] == "ok"
    on.service.asks.is_ready = False
    assert is_problem(on.get("/readyz"), 503, "still loading", code=1)
    assert on.get("/healthz").status_code == 200


def test_metrics(on, asset):
    job = ask(on, asset)
    on.get(f"/v1/jobs/{job['id']}")
    text = on.get("/metrics").text
    assert 'flowpaint_jobs{state="queued"} 1.0' in text and 'flowpaint_jobs{state="done"} 0.0' in text
    assert 'flowpaint_uploads_total{kind="video"} 1.0' in text
    assert f"flowpaint_uploaded_bytes_total {float(asset['bytes'])}" in text
    assert 'flowpaint_request_seconds_count{method="GET",route="/v1/jobs/{key}",status="200"} 1.0' in text
    assert job["id"] not in text
    on.request("BREW", "/v1/jobs/a")
    assert 'method="BREW"' not in on.get("/metrics").text
    stored = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("flowpaint_stored_bytes "))
    assert stored > asset["bytes"]
    assert "flowpaint_queue_age_seconds " in text


def test_nothing_at_all(kept):
    on = kept
    assert is_problem(on.get("/v1/nothing"), 404, "/v1/nothing")
    assert is_problem(on.put("/v1/jobs", json={}), 405, "PUT")
    assert is_problem(on.get("/docs"), 404)
