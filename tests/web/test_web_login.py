"""Logging in with a browser: what it says of where a form comes from depends on headers of ours."""

import shutil
import threading
import time

import pytest
import uvicorn

from flowpaint.web.app import create_app
from flowpaint.web.settings import Settings
from rest_parts import Direct

pytestmark = pytest.mark.slow
TOKEN = "alice-token-1"


@pytest.fixture
def address(tmp_path):
    app = create_app(Settings(data=tmp_path, tokens=(TOKEN,)), asks=Direct())
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    app.state.service.close()


def test_the_form_logs_a_browser_in(address):
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{address}/login?next=/v1/jobs")
        assert page.evaluate("getComputedStyle(document.body).maxWidth") != "none"  # its policy lets the form have its style
        page.fill("#token", TOKEN)
        page.click("button")
        page.wait_for_url(f"{address}/v1/jobs")
        assert '"jobs":[]' in page.inner_text("body")
        assert page.evaluate("document.cookie") == ""
        browser.close()
