"""Nothing is sent: the switches are off before the libraries are there, no name is asked for, HOME stays as it was."""

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import flowpaint
from flowpaint import telemetry, video

TESTS = Path(__file__).parent
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "FASTAPI_OTEL_AUTO_CONFIGURE": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# The variables by which onnxruntime 1.32 knows a build server or a test of its own, and is silent.
QUIET = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID", "BUILDKITE")
QUIET += (
    "TEAMCITY_VERSION",
    "APPVEYOR",
    "BITBUCKET_BUILD_NUMBER",
    "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI",
    "ORT_RUNNING_UNIT_TESTS",
)
QUIET += ("DO_NOT_TRACK", "DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
READ_AT_IMPORT = {"onnxruntime", "huggingface_hub", "transformers", "diffusers", "accelerate", "peft", "gradio", "ray"}


def environment(home, **more):
    """That of a person who has set nothing, with `home` as the home."""
    home.mkdir(exist_ok=True)
    unset = {*SWITCHES, *QUIET, "FLOWPAINT_CACHE", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in unset and not name.startswith("XDG_")}
    path = os.pathsep.join([str(Path(flowpaint.__file__).parents[1]), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return {**kept, "HOME": str(home), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", **more}


def run(script, home, **more):
    """What a program says on stdout, and on stderr."""
    command, outside = [sys.executable, "-c", script], environment(home, **more)
    done = subprocess.run(command, env=outside, cwd=home.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr.strip()


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# ---------------------------------------------------------------------------------------------------------- the switches


def test_the_package_switches_off_what_libraries_would_send(tmp_path):
    told, _ = run("import flowpaint, json, os; print(json.dumps(dict(os.environ)))", tmp_path / "home")
    assert {name: json.loads(told).get(name) for name in SWITCHES} == SWITCHES


def test_tests_send_nothing():
    assert {name: os.environ.get(name) for name in SWITCHES} == SWITCHES


@pytest.mark.parametrize("path", sorted(TESTS.parent.glob("scripts/*.py")), ids=lambda path: path.name)
def test_a_script_imports_the_package_before_what_would_send(path):
    names = [
        name.partition(".")[0]
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    ]
    risky = [names.index(one) for one in READ_AT_IMPORT if one in names]
    assert not risky or ("flowpaint" in names and names.index("flowpaint") < min(risky))


def test_onnxruntime_leaves_nothing_at_home(tmp_path):
    home = tmp_path / "home"
    run("import flowpaint, onnxruntime", home)
    assert files(home) == []


def test_a_session_switches_off_events_of_an_onnxruntime_without_the_variable(monkeypatch):
    import onnxruntime

    from flowpaint.parts.editors import nets

    steps = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: steps.append("off"))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: steps.append("session"))
    nets.opened.__wrapped__(Path("net.onnx"))
    assert steps == ["off", "session"]


@pytest.mark.slow
@pytest.mark.parametrize("package", ["gradio", "ray"])
def test_the_switches_are_those_that_the_libraries_read(package, tmp_path):
    pytest.importorskip(package)
    asked = {
        "gradio": "from gradio import analytics; print(analytics.analytics_enabled())",
        "ray": "from ray._common.usage import usage_lib; print(usage_lib.usage_stats_enabled())",
    }
    home = tmp_path / "home"
    assert run(f"import flowpaint; {asked[package]}", home)[0] == "False"
    assert files(home) == []


# ------------------------------------------------------------------------------------------------ what somebody else has set


@pytest.mark.parametrize("value", ["0", "false", "off", "2"])
def test_a_switch_that_was_set_to_send_is_replaced_and_that_is_said_once(value, monkeypatch, caplog):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", value)
    telemetry.switch_off()
    telemetry.say()
    telemetry.say()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    expected = f"ORT_DISABLE_TELEMETRY was {value}. flowpaint has set it to 1: it lets no library send reports."
    assert [one for one in caplog.messages if "was imported" not in one] == [expected]


@pytest.mark.parametrize("value", ["1", "true", "YES", " on ", ""])
def test_a_switch_that_is_off_or_empty_is_nothing_to_talk_about(value, monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", value)
    telemetry.switch_off()
    telemetry.say()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert caplog.messages == []


@pytest.mark.slow
def test_the_command_line_says_what_it_has_replaced_and_quiet_is_quiet(tmp_path):
    command = [sys.executable, "-m", "flowpaint", "looks"]
    outside = environment(tmp_path / "home", RAY_USAGE_STATS_ENABLED="1", COLUMNS="200", NO_COLOR="1")
    said = [
        subprocess.run([*command, *quiet], env=outside, capture_output=True, text=True, check=True).stderr
        for quiet in ([], ["-q"])
    ]
    expected = "warning: RAY_USAGE_STATS_ENABLED was 1. flowpaint has set it to 0: it lets no library send reports.\n"
    assert said == [expected, ""]


def test_a_library_that_was_imported_first_is_said(tmp_path):
    script = "import sys; sys.modules['onnxruntime'] = sys; from flowpaint import telemetry; telemetry.say()"
    assert "onnxruntime was imported before flowpaint" in run(script, tmp_path / "home")[1]
    assert run(script, tmp_path / "home", ORT_DISABLE_TELEMETRY="true")[1] == ""


# --------------------------------------------------------------------------------------------------------------- the hub


@pytest.fixture
def hub():
    """A hub that has nothing, and what it was asked: path and user agent."""
    requests = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append((self.path, self.headers["user-agent"]))
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("first", ["", "import huggingface_hub.constants; "], ids=["package first", "hub first"])
def test_a_download_tells_the_hub_what_it_wants_and_no_more(hub, first, tmp_path):
    address, requests = hub
    script = (
        f"{first}from flowpaint import weights\ntry: weights.model_folder('some/model')\nexcept Exception as error: print(error)"
    )
    told, _ = run(script, tmp_path / "home", HF_ENDPOINT=address, AI_AGENT="somebody")
    assert "cannot be fetched" in told
    assert requests and all(path.startswith("/api/models/some/model") for path, _ in requests)
    agents = {word.strip().partition("/")[0] for _, agent in requests for word in agent.split(";")}
    assert agents <= {"unknown", "hf_hub", "python"}


# ------------------------------------------------------------------------------------------- whole commands, and the network


def _own_network():
    """The command that starts another one in a network of its own. Skips where there is none."""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "ip", "mount"))):
        pytest.skip("a network of its own takes Linux with unshare, ip and mount")
    for more in ([], ["--map-root-user"]):
        words = ["unshare", "--net", "--mount", *more]
        if subprocess.run([*words, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode == 0:
            return words
    pytest.skip("no network of its own: that takes root, or user namespaces")


@pytest.fixture
def alone(tmp_path):
    """Runs a command with a fresh home in a network of its own: the names it asked for, what it reached, the files at home."""
    words, home = _own_network(), tmp_path / "home"

    def run(*command, **more):
        report = tmp_path / "report.json"
        watched = [*words, sys.executable, str(TESTS / "own_network.py"), str(report), *map(str, command)]
        done = subprocess.run(
            watched, env=environment(home, **more), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(report.read_text("utf-8"))
        return seen["asked"], seen["reached"], files(home)

    return run


@pytest.fixture
def film(tmp_path, moving_square):
    video.write(moving_square.clip[:6], tmp_path / "in.mp4")
    return tmp_path / "in.mp4"


_SENDS = """
import pathlib, socket
with socket.socket() as server, socket.socket(type=socket.SOCK_DGRAM) as sends:
    server.bind(("127.0.0.1", 0))
    server.listen()
    socket.create_connection(server.getsockname()).close()
    sends.sendto(b"here", ("203.0.113.5", 99))
for place in (("198.51.100.7", 443), ("name.example", 443)):
    try:
        socket.create_connection(place, 1)
    except OSError:
        pass
(pathlib.Path.home() / "device").write_text("7")
"""
_FLOWPAINT = (sys.executable, "-m", "flowpaint")
_PROGRAM = """
import flowpaint
flowpaint.edit("in.mp4", "van gogh", quality="draft").save("out.mp4")
"""
_VISITOR = """
import pathlib, time
import httpx
from page_server import serving

data = pathlib.Path.home() / ".local" / "share" / "flowpaint"
with serving(data) as address, httpx.Client(base_url=address, trust_env=False) as client:
    until = time.monotonic() + 120
    while "gradio" not in client.get("/").text:
        assert time.monotonic() < until, "no page"
        time.sleep(0.3)
    asset = client.post("/v1/assets", files={"file": open("in.mp4", "rb")}).json()["id"]
    job = client.post("/v1/jobs", json={"input": asset, "prompt": "van gogh", "name": "out.mp4"}).json()["id"]
    while (state := client.get(f"/v1/jobs/{job}").json()["state"]) in ("queued", "running"):
        assert time.monotonic() < until, state
        time.sleep(0.3)
    assert state == "done", state
    pathlib.Path("out.mp4").write_bytes(client.get(f"/v1/jobs/{job}/artifacts/video").raise_for_status().content)
"""


def test_whatever_is_sent_is_seen(alone):
    asked, reached, left = alone(sys.executable, "-c", _SENDS)
    assert (asked, reached, left) == (["name.example"], ["198.51.100.7:443", "203.0.113.5:99"], ["device"])


@pytest.mark.slow
def test_edit_sends_nothing(alone, film):
    assert alone(*_FLOWPAINT, "edit", film, "van gogh", "--quality", "draft", "-o", "out.mp4") == ([], [], [])
    assert (film.parent / "out.mp4").stat().st_size > 0


@pytest.mark.slow
def test_a_program_sends_nothing(alone, film):
    assert alone(sys.executable, "-c", _PROGRAM) == ([], [], [])
    assert (film.parent / "out.mp4").stat().st_size > 0


@pytest.mark.slow
def test_serve_sends_nothing(alone, film):
    pytest.importorskip("gradio")
    asked, reached, left = alone(sys.executable, "-c", _VISITOR)
    assert (asked, reached) == ([], [])
    assert left and all(name.startswith(".local/share/flowpaint/") for name in left)
    assert (film.parent / "out.mp4").stat().st_size > 0


@pytest.mark.slow
def test_batch_and_its_processes_send_nothing(alone, film):
    pytest.importorskip("fsspec")
    rows = [f"{film.as_uri()},a.mp4,van gogh", f"{film},b.mp4,mosaic"]
    (film.parent / "jobs.csv").write_text("\n".join(["input,output,prompt", *rows]), "utf-8")
    asked, reached, left = alone(*_FLOWPAINT, "batch", "jobs.csv", "--workers", "2")
    assert (asked, reached) == ([], [])
    assert left and all(name.startswith(".cache/flowpaint/") for name in left)
    assert all((film.parent / name).stat().st_size > 0 for name in ("a.mp4", "b.mp4"))


@pytest.mark.slow
def test_ray_sends_nothing(alone, film):
    pytest.importorskip("ray")
    (film.parent / "jobs.csv").write_text(f"input,output,prompt\n{film},a.mp4,van gogh\n", "utf-8")
    asked, reached, left = alone(*_FLOWPAINT, "batch", "jobs.csv", "--executor", "ray", "--workers", "1")
    assert (asked, reached) == ([], [])
    assert set(left) <= {".ray/auth_token"}  # the key by which the processes of Ray know each other
    assert (film.parent / "a.mp4").stat().st_size > 0
