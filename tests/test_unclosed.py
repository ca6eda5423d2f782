"""The plugin that fails where something is left open, in sessions of pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_START = """
import os, socket, sqlite3, subprocess, sys

def process():
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

def end(one):
    one.stdin.close()
    one.wait()

kept = []
"""
_CLEAN = """
def test_file(tmp_path):
    with open(tmp_path / "a", "w"), socket.socket():
        pass

def test_process():
    end(process())

def test_database(tmp_path):
    one = sqlite3.connect(tmp_path / "a.db")
    one.execute("CREATE TABLE a (b)")
    one.close()
    try:
        sqlite3.connect(tmp_path)
    except sqlite3.OperationalError:
        pass  # it was never open
"""
_FORGOTTEN = """
def test_file(tmp_path):
    open(tmp_path / "a", "w")

def test_socket():
    socket.socket()

def test_process():
    process().stdin.close()

def test_database(tmp_path):
    sqlite3.connect(tmp_path / "a.db").execute("CREATE TABLE a (b)")

def test_nothing():
    pass
"""
_HELD = """
def test_file(tmp_path):
    kept.append(open(tmp_path / "file.txt", "w"))

def test_descriptor(tmp_path):
    kept.append(os.open(tmp_path / "descriptor.txt", os.O_CREAT))

def test_socket():
    kept.append(socket.create_server(("127.0.0.1", 0)))

def test_process():
    kept.append(process())

def test_database(tmp_path):
    kept.append(sqlite3.connect(tmp_path / "held.db"))
    kept[-1].execute("CREATE TABLE a (b)")
"""


def session(folder, tests):
    """The exit code of the tests, and what pytest said."""
    (folder / "test_it.py").write_text(_START + tests)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    command = [sys.executable, "-m", "pytest", "-p", "unclosed", "-p", "no:cacheprovider", "-rA", "-q", f"--basetemp={folder}/t"]
    manners = {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **manners}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_what_is_closed_passes(tmp_path):
    code, said = session(tmp_path, _CLEAN)
    assert code == 0 and "3 passed" in said, said


def test_what_is_forgotten_fails(tmp_path):
    code, said = session(tmp_path, _FORGOTTEN)
    assert code == 1, said
    for test, words in (
        ("file", "unclosed file"),
        ("socket", "unclosed <socket"),
        ("process", "subprocess"),
        ("database", "unclosed database"),
    ):
        assert f"test_it.py::test_{test} - " in said and f"ResourceWarning: {words}" in said, (test, said)
    assert "PASSED test_it.py::test_nothing" in said, said


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="what is held is seen on Linux only")
def test_what_is_held_until_the_end_fails(tmp_path):
    code, said = session(tmp_path, _HELD)
    assert code == 1 and "Left open when all tests were done" in said, said
    for what, test in (
        ("file.txt", "file"),
        ("descriptor.txt", "descriptor"),
        ("socket:", "socket"),
        (" -c input()", "process"),
        ("held.db", "database"),
    ):
        assert any(what in line and f"first seen after test_it.py::test_{test})" in line for line in said.splitlines()), (
            what,
            said,
        )
