"""Real children: what opens uploads in a process of its own, with limits, and what hostile files can do to it."""

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowpaint import api
from flowpaint.errors import VideoError, WorkError
from flowpaint.web.children import Children
from flowpaint.web.settings import Limits
from rest_parts import a_picture, a_video, ask, client, is_problem, upload

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def children():
    made = Children(Limits(child_seconds=5.0, child_bytes=1 << 30))
    yield made
    made.close()


@pytest.fixture
def on(tmp_path, children):
    return client(tmp_path, asks=children, limits={"pixels": 1920 * 1080, "frames": 50, "seconds": 20.0})


def family(process):
    """The processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_they_give_what_is_asked(on, tmp_path):
    asset = upload(on, a_video(tmp_path))
    assert on.get(f"/v1/assets/{asset['id']}/frames/2").content[:2] == b"\xff\xd8"
    assert len(on.get(f"/v1/assets/{asset['id']}/shots").json()) == 1
    job = ask(on, asset)
    assert job["command"] == "flowpaint edit clip.mp4 'van gogh' --offline -o result.mp4"
    assert on.post("/v1/plans", json={"input": asset["id"], "prompt": "mosaic"}).json()["frames"] == 6
    assert {one["name"] for one in on.get("/v1/methods").json()["methods"]} >= {"analogy", "fresco"}
    answer = on.post("/v1/jobs", json={"input": asset["id"], "settings": {"editor": "openai"}})
    assert is_problem(answer, 422, "an address")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_bomb(width, height):
    """A PNG of a few kilobytes that claims, and would unpack to, so many pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(3 * width + 1)) for _ in range(min(height, 4000))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def cut_short(folder):
    return a_video(folder, frames=20).read_bytes()[:5000]


def scrambled(folder):
    data = bytearray(a_video(folder, frames=20).read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(100, len(data), 400):
        data[place] ^= int(rng.integers(1, 256))
    return bytes(data)


HOSTILE = {
    "nothing": lambda _: b"",
    "noise": lambda _: np.random.default_rng(1).bytes(5000),
    "a page": lambda _: b"<html><script>alert(1)</script></html>",
    "a program": lambda _: Path("/bin/true").read_bytes(),
    "a list of addresses": lambda _: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "a list of files": lambda _: b"ffconcat version 1.0\nfile 'other.mp4'\n",
    "a session": lambda _: b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
    "a drawing": lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "an archive": lambda _: b"PK\x03\x04" + bytes(100),
    "a bomb of a picture": lambda _: a_bomb(30_000, 30_000),
    "a bomb that is over our limit alone": lambda _: a_bomb(4000, 2000),
    "a picture of no height": lambda _: a_bomb(100, 0),
    "half a picture": lambda folder: a_picture(folder).read_bytes()[:200],
    "a container with nothing in it": lambda _: b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42",
    "a box of four gigabytes": lambda _: b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00isommp42\xff\xff\xff\xffmoov" + bytes(1000),
    "a matroska head": lambda _: b"\x1aE\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(1000),
    "too long": lambda folder: a_video(folder, frames=60, size=(16, 16)).read_bytes(),
    "too slow": lambda folder: a_video(folder, frames=2, size=(16, 16), ticks=[0, 12800 * 40]).read_bytes(),
    "too large": lambda folder: a_video(folder, frames=1, size=(1100, 1930)).read_bytes(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(on, tmp_path, name):
    content = HOSTILE[name](tmp_path)
    answer = on.post("/v1/assets", files={"file": (f"{name}.mp4", content)})
    assert is_problem(answer, 422, code=answer.json()["code"]) and answer.json()["code"] in (4, 5), answer.text
    assert "file:" not in answer.text and str(tmp_path) not in answer.text
    assert on.get("/v1/assets").json() == {"assets": []}
    assert list((on.service.store.folder / "incoming").iterdir()) == []
    upload(on, a_video(tmp_path, "good.mp4"))  # and the server is well


def test_half_a_video_can_be_used_where_that_is_asked_for(on, tmp_path):
    path = tmp_path / "half.mp4"
    path.write_bytes(cut_short(tmp_path))
    asset = upload(on, path)
    assert 0 < asset["frames"] < 20
    said = {"input": asset["id"], "prompt": "mosaic"}
    assert is_problem(on.post("/v1/plans", json=said), 422, "half.mp4", "--allow-damaged", code=4)
    plan = on.post("/v1/plans", json={**said, "allow_damaged": True})
    assert plan.json()["frames"] == asset["frames"] and plan.json()["warnings"]
    assert on.get(f"/v1/assets/{asset['id']}/frames/0").status_code == 200


def test_a_scrambled_video_harms_nothing(on, tmp_path):
    answer = on.post("/v1/assets", files={"file": ("a.mp4", scrambled(tmp_path))})
    assert answer.status_code in (201, 422)
    upload(on, a_video(tmp_path, "good.mp4"))


def test_a_list_under_a_video_s_head_reaches_no_other_file(on, tmp_path):
    """What begins like a video is opened; whatever FFmpeg takes it for then, no other format counts."""
    for head in (b"RIFF\x00\x00\x00\x00AVI ", b"FLV\x01", b"OggS", b"G" + bytes(187) + b"G"):
        answer = on.post("/v1/assets", files={"file": ("a.avi", head + b"\n#EXTM3U\nffconcat version 1.0\nfile 'x.mp4'\n" * 20)})
        assert is_problem(answer, 422, code=4)


def busy_file(folder):
    """A picture that takes long to open: large, and compressed hard."""
    noise = np.random.default_rng(0).integers(0, 255, (3000, 3000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    path = folder / "busy.png"
    path.write_bytes(buffer.getvalue())
    return path


LIMITS = {"seconds": 1e6, "frames": 10**9, "pixels": 10**9, "picture_bytes": 10**12}


def test_one_that_takes_long_is_ended(tmp_path):
    fifo = tmp_path / "endless.mp4"
    os.mkfifo(fifo)  # opening it waits for a writer that never comes
    children = Children(Limits(child_seconds=0.5))
    try:
        children.ask("looks").result(30)  # loaded
        begun = time.monotonic()
        with pytest.raises(VideoError, match="took too long"):
            children.ask("facts", path=str(fifo), limits=LIMITS).result(30)
        assert 0.4 < time.monotonic() - begun < 3
        assert family(children._begun.process) == []
        assert children.ask("looks").result(30)["looks"]
    finally:
        children.close()


def test_one_that_wants_much_memory_is_refused_it(tmp_path):
    path = busy_file(tmp_path)
    children = Children(Limits(child_bytes=8 << 20))
    try:
        with pytest.raises(Exception, match=r"memory|cannot be read") as told:
            children.ask("facts", path=str(path), limits=LIMITS).result(30)
        assert told.value.exit_code in (4, 5)
        assert children.ask("looks").result(30)["looks"]
    finally:
        children.close()


def test_no_more_of_them_than_said_open_files(tmp_path):
    children = Children(Limits(child_seconds=1.5, children=2))
    pipes = [tmp_path / f"{number}.mp4" for number in range(5)]
    try:
        children.ask("looks").result(30)
        for pipe in pipes:
            os.mkfifo(pipe)
        asked = [children.ask("facts", path=str(pipe), limits=LIMITS) for pipe in pipes]
        time.sleep(0.5)
        assert len(family(children._begun.process)) == 2
        assert children.ask("looks").result(1)["looks"]  # what opens no file need not wait
        assert all("took too long" in str(one.exception(30)) for one in asked)  # none was ended by another's end
    finally:
        children.close()


def test_another_is_started_where_one_was_lost(tmp_path, children):
    children.ask("looks").result(30)
    pipe = tmp_path / "endless.mp4"
    os.mkfifo(pipe)
    lost = children.ask("facts", path=str(pipe), limits=LIMITS)
    time.sleep(0.3)
    [child] = family(children._begun.process)
    children._begun.process.kill()
    with pytest.raises(WorkError, match="lost"):
        lost.result(10)
    assert children.ask("looks").result(30)["looks"]
    assert children.ready()
    for _ in range(120):  # its child, an orphan, has a clock of its own
        if not Path(f"/proc/{child}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_long_questions_and_long_answers_do_not_wait_for_each_other(children):
    words = {str(number): "w" * 4000 for number in range(100)}
    job = api.plan_job("edit", "a.mp4", prompt="x", method="fresco", prompts=words)[0].to_dict()
    found = []

    def ask_all():
        asked = [children.ask("commands", jobs=[job] * 10, known={}) for _ in range(12)]
        found.extend(one.result(60) for one in asked)

    asking = threading.Thread(target=ask_all, daemon=True)  # it would wait for ever
    asking.start()
    asking.join(60)
    assert len(found) == 12 and all(len(one["commands"][9]) > 400_000 for one in found)


def test_whoever_asked_the_lost_one_is_told_where_the_next_is_there_at_once(tmp_path):
    children = Children(Limits())
    try:
        children.ask("looks").result(60)
        pipe = tmp_path / "endless.mp4"
        os.mkfifo(pipe)
        lost = children.ask("facts", path=str(pipe), limits=LIMITS)
        first = children._begun
        with children._lock:  # its reader cannot come to say that it is lost before the next one is there
            first.process.kill()
            first.process.wait()
            children._running()
        assert children._begun is not first
        with pytest.raises(WorkError, match="lost"):
            lost.result(10)
        assert children.ask("looks").result(60)["looks"]
    finally:
        children.close()


def test_they_end_with_the_server(tmp_path):
    children = Children(Limits())
    children.ask("looks").result(30)
    process = children._begun.process
    children.close()
    assert process.poll() is not None
    with pytest.raises(WorkError, match="shutting down"):
        children.ask("looks")


def test_they_end_where_the_server_is_killed(tmp_path):
    script = (
        "from flowpaint.web.children import Children\nfrom flowpaint.web.settings import Limits\nimport os, sys, time\n"
        "c = Children(Limits()); c.ask('looks').result(60); print(c._begun.process.pid, flush=True); time.sleep(60)"
    )
    server = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    pid = int(server.stdout.readline())
    server.kill()
    server.wait()
    server.stdout.close()
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_the_server_answers_while_files_are_opened(on, tmp_path):
    """Uploads and scrubbing take all children; a look at jobs need not wait for them."""
    asset = upload(on, a_video(tmp_path, frames=40, size=(240, 320)))
    job = ask(on, asset)
    with ThreadPoolExecutor(4) as pool:
        frames = [pool.submit(on.get, f"/v1/assets/{asset['id']}/frames/{number}") for number in range(40)]
        spent = []
        while not all(one.done() for one in frames):
            begun = time.perf_counter()
            assert on.get(f"/v1/jobs/{job['id']}").status_code == 200
            spent.append(time.perf_counter() - begun)
        assert all(one.result().status_code == 200 for one in frames)
    assert len(spent) > 10 and float(np.percentile(spent, 95)) < 0.5


def test_nobody_waits_for_a_process_that_does_not_read(children):
    children.ask("looks").result(60)
    job = api.plan_job("edit", "a.mp4", prompt="x", method="fresco", negative="w" * 100_000)[0].to_dict()
    pid = children._begun.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        asked = [children.ask("commands", jobs=[job] * 10, known={}) for _ in range(3)]
        assert time.monotonic() - begun < 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    assert all(len(one.result(60)["commands"]) == 10 for one in asked)


def test_what_goes_through_all_of_a_file_holds_up_no_upload(tmp_path):
    path = str(a_video(tmp_path, frames=100, size=(240, 320)))
    made = Children(Limits(children=1))
    try:
        made.ask("looks").result(60)
        slow = [made.ask("shots", path=path) for _ in range(12)]
        time.sleep(0.1)
        assert len(family(made._begun.process)) == 1
        assert made.ask("facts", path=path, limits=LIMITS).result(60)["kind"] == "video"
        assert not slow[-1].done()
        assert all(len(one.result(60)["shots"]) == 1 for one in slow)
    finally:
        made.close()


def test_what_prints_does_not_disturb_the_answers(tmp_path, monkeypatch, caplog):
    (tmp_path / "sitecustomize.py").write_text(  # as a plug-in might, at any time
        "import threading, time\n"
        "print('hello')\nprint('{\"id\": 1}')\nprint('half a line', end='', flush=True)\n"
        "def talk():\n    while True:\n        print('and so on', end='', flush=True)\n        time.sleep(0.001)\n"
        "import sys\nif sys.argv[-1] == '2':\n    threading.Timer(1.0, talk).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = Children(Limits())
    try:
        assert all(made.ask("looks").result(60)["looks"] for _ in range(20)) and made.ready()
        assert "hello" in caplog.text and "half a line" in caplog.text and "and so on" not in caplog.text
    finally:
        made._begun.process.kill()  # its thread would go on
        made.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_answers_cannot_be_read_those_who_wait_are_told(monkeypatch):
    made = Children(Limits())
    try:
        made.ask("looks").result(60)
        first = made._begun.process
        with monkeypatch.context() as patched:
            patched.setattr("flowpaint.web.children.parsed", lambda line: {}[line])
            with pytest.raises(WorkError, match="lost"):
                made.ask("looks").result(30)
        assert first.poll() is not None
        assert made.ask("looks").result(60)["looks"] and made._begun.process is not first
    finally:
        made.close()


def test_they_know_no_token_and_let_others_go_first(monkeypatch):
    monkeypatch.setenv("FLOWPAINT_TOKEN", "nobody-else-s")
    monkeypatch.setenv("FLOWPAINT_CACHE_TEST", "everybody-s")
    made = Children(Limits())
    try:
        made.ask("looks").result(60)
        pid = made._begun.process.pid
        said = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"everybody-s" in said and b"nobody-else-s" not in said and b"FLOWPAINT_TOKEN" not in said
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
    finally:
        made.close()
