"""What an output may replace: regular files, and folders of pictures that are as flowpaint wrote them. Nothing else, ever."""

import json
import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from flowpaint import outputs
from flowpaint.errors import InputError
from flowpaint.outputs import (
    SIGNATURE,
    check_file,
    check_folder,
    make_folder,
    replace_folder,
    replacing,
    sign,
    stranger,
    write_text,
)


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every entry below a folder by its name: kind, number on the disk, and content. Links are not followed, pipes not read."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        kind = stat.S_IFMT(facts.st_mode)
        content = path.read_bytes() if kind == stat.S_IFREG else os.fsencode(path.readlink()) if kind == stat.S_IFLNK else b""
        found[str(path.relative_to(folder))] = (kind, facts.st_ino, content)
    return found


def pictures(folder: Path, number: int, text: str = "picture", signed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for index in range(number):
        (folder / f"{index:06d}.png").write_text(f"{text} {index}")
    if signed:
        sign(folder)
    return folder


# ------------------------------------------------------------------------------------------------- what is in the way


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes device nodes")


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def other_folder(path: Path) -> None:
    path.mkdir()
    (path / "letter.txt").write_text("mine")


def unsigned(path: Path) -> None:
    pictures(path, 3, signed=False)


def and_another(path: Path) -> None:
    (pictures(path, 3) / "000003.png").write_text("painted by somebody")


def painted_over(path: Path) -> None:
    (pictures(path, 3) / "000001.png").write_text("painted over since")


def with_a_folder(path: Path) -> None:
    (pictures(path, 3) / "notes").mkdir()


def with_a_link(path: Path) -> None:
    pictures(path, 3)
    (path / "000001.png").rename(path.parent / "real.png")
    (path / "000001.png").symlink_to(path.parent / "real.png")


def forged(path: Path) -> None:
    other_folder(path)
    (path / SIGNATURE).write_text(json.dumps({"pictures": {"letter.txt": 4}}))


def damaged_signature(path: Path) -> None:
    (pictures(path, 3) / SIGNATURE).write_text('{"pictures": {"000000.png"')


def linked(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def there(path: Path) -> None:
        make(path.parent / "real")
        path.symlink_to("real")

    there.__name__ = f"link_to_{make.__name__}"
    return there


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


SPECIAL = [device, os.mkfifo, bound, dangling, circle, linked(os.mkfifo), linked(device)]
FOLDERS = [other_folder, unsigned, and_another, painted_over, with_a_folder, with_a_link, forged, damaged_signature]


def file(path: Path) -> None:
    path.write_text("mine")


def refused(call: Callable[[], object], path: Path) -> None:
    """The call is refused in two sentences which name the path, and nothing below the folder of the path has changed."""
    before = snapshot(path.parent)
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert caught.value.exit_code == 2 and path.name in message and message.count(". ") == 1 and message.endswith("."), message
    assert snapshot(path.parent) == before


@pytest.mark.parametrize("make", [*SPECIAL, other_folder, unsigned, lambda path: pictures(path, 2), Path.mkdir])
def test_no_file_takes_the_place_of_what_is_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "out.mp4"
    make(path)
    refused(lambda: check_file(path, overwrite=True), path)
    refused(lambda: write_text(path, "x"), path)


@pytest.mark.parametrize("make", [*SPECIAL, file, linked(file), *FOLDERS, *map(linked, FOLDERS)])
def test_no_folder_takes_the_place_of_what_is_not_ours(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "place" / "out"
    path.parent.mkdir()
    make(path)
    made = pictures(tmp_path / "run" / "frames", 2, "new")
    refused(lambda: check_folder(path, overwrite=True), path)
    refused(lambda: replace_folder(made, path), path)
    assert len(list(made.iterdir())) == 3


@pytest.mark.parametrize("make", [file, linked(file)])
def test_a_file_is_replaced_if_that_is_said(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "out.mp4"
    make(path)
    for call in (lambda: check_file(path, overwrite=False), lambda: write_text(path, "x", overwrite=False)):
        with pytest.raises(InputError, match="--overwrite"):
            call()
    assert path.read_text() == "mine"
    check_file(path, overwrite=True)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert path.is_symlink() == (make is not file)  # a link stays, and what it leads to is replaced
    assert {one.name for one in tmp_path.iterdir()} == ({"out.mp4"} if make is file else {"out.mp4", "real"})


def ours(path: Path) -> None:
    pictures(path, 5, "old")


def ours_in_part(path: Path) -> None:
    """As after a kill while the old pictures were deleted."""
    (pictures(path, 5, "old") / "000004.png").unlink()


def ours_shown(path: Path) -> None:
    """As file managers leave a folder that was looked at."""
    (pictures(path, 5, "old") / ".DS_Store").write_text("x")


@pytest.mark.parametrize("make", [ours, ours_in_part, ours_shown, linked(ours), Path.mkdir, linked(Path.mkdir), lambda _: None])
@pytest.mark.parametrize("one_disk", [True, False])
def test_our_own_folder_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], one_disk: bool
) -> None:
    monkeypatch.setattr(outputs, "_on_one_disk", lambda one, other: one_disk)
    path = tmp_path / "out"
    make(path)
    holds_pictures = path.exists() and any(path.iterdir())
    is_link = path.is_symlink()
    made = pictures(tmp_path / "run" / "frames", 2, "new")
    if holds_pictures:
        with pytest.raises(InputError, match="--overwrite"):
            replace_folder(made, path, overwrite=False)
        with pytest.raises(InputError, match="--overwrite"):
            check_folder(path, overwrite=False)
    check_folder(path, overwrite=holds_pictures)
    replace_folder(made, path, overwrite=holds_pictures)
    assert {one.name: one.read_text() for one in path.glob("*.png")} == {"000000.png": "new 0", "000001.png": "new 1"}
    assert len(list(path.iterdir())) == 3 and path.is_symlink() == is_link and made.exists() != one_disk
    assert {one.name for one in tmp_path.iterdir()} == {"out", "run"} | ({"real"} if is_link else set())
    check_folder(path, overwrite=True)


def test_a_mount_point_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours(tmp_path / "out")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "out")
    refused(lambda: check_folder(tmp_path / "out", overwrite=True), tmp_path / "out")


@pytest.mark.parametrize("name", ["", ".", "..", "x/.."])
def test_names_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for check in (check_file, check_folder):
        with pytest.raises(InputError, match="names no file"):
            check(Path(name), overwrite=True)


@pytest.mark.parametrize(
    ("signature", "sizes", "found"),
    [
        ({"000000.png": 3}, {"000000.png": 3, SIGNATURE: 9}, None),
        ({"000000.png": 3}, {"000000.png": None, SIGNATURE: None}, None),  # a store that tells no sizes
        ({"000000.png": 3}, {"000000.png": 4, SIGNATURE: 9}, "000000.png"),
        ({"000000.png": 3}, {"000000.png": -1, SIGNATURE: 9}, "000000.png"),
        ({"000000.png": 3}, {"000000.png": 3, SIGNATURE: -1}, SIGNATURE),
        ({"000000.png": 3}, {"Thumbs.db": 7, SIGNATURE: 9}, None),
        ({"../a.png": 3, "a.png": 3, "0.png": 3}, {"a.png": 3, SIGNATURE: 9}, SIGNATURE),
        ({"000000.png": 3, "a.png": 3}, {"a.png": 3, SIGNATURE: 9}, "a.png"),
        ({"000000.png": 3}, {"sub/000000.png": 3, SIGNATURE: 9}, "sub/000000.png"),
        (None, {"000000.png": 3}, "000000.png"),
        (None, {}, None),
    ],
)
def test_strangers(signature: dict[str, int] | None, sizes: dict[str, int | None], found: str | None) -> None:
    assert stranger(None if signature is None else json.dumps({"pictures": signature}), sizes) == found


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pictures": 3}', '{"pictures": {"000000.png": "x"}}', "\0"])
def test_a_signature_that_is_none(text: str) -> None:
    assert stranger(text, {"000000.png": 1}) == "000000.png"


@pytest.mark.parametrize("make", [file, os.mkfifo, dangling])
def test_a_folder_is_not_made_over_something_else(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out")
    refused(lambda: make_folder(tmp_path / "out"), tmp_path / "out")
    refused(lambda: make_folder(tmp_path / "out" / "deep"), tmp_path / "out")
    make_folder(tmp_path / "new" / "deep")
    make_folder(tmp_path / "new" / "deep")


# -------------------------------------------------------------------------------------------------------- temporary names


@pytest.mark.parametrize("make", [os.mkfifo, linked(file), device, Path.mkdir])
def test_nothing_is_written_through_a_temporary_name_that_is_taken(tmp_path: Path, make: Callable[[Path], None]) -> None:
    part = tmp_path / ".out.mp4.part"
    make(part)
    if make.__name__ == "link_to_file":  # the link goes, what it leads to stays
        write_text(tmp_path / "out.mp4", "new")
        assert (tmp_path / "real").read_text() == "mine" and (tmp_path / "out.mp4").read_text() == "new"
    else:
        refused(lambda: write_text(tmp_path / "out.mp4", "new"), part)


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".out.json.part").write_text("half")
    write_text(tmp_path / "out.json", "whole")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("out.json", "whole")]


@pytest.mark.parametrize("make", [file, os.mkfifo, other_folder])
def test_what_came_meanwhile_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(InputError), replacing(path, overwrite=False) as part:
        part.write_text("new")
        make(path)
        before = snapshot(tmp_path)
    del before[part.name]
    assert snapshot(tmp_path) == before


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "out") as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("out", "old")]


def test_what_is_put_into_a_folder_while_it_is_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, made = pictures(tmp_path / "out", 3, "old"), pictures(tmp_path / "run" / "frames", 2, "new")
    delete = outputs._delete

    def late(folder: Path) -> None:
        (folder / "letter.txt").write_text("mine")
        delete(folder)

    monkeypatch.setattr(outputs, "_delete", late)
    with pytest.raises(InputError, match="did not write"):
        replace_folder(made, out)
    assert [one.name for one in out.iterdir()] == ["letter.txt"] and len(list(made.iterdir())) == 3


def test_a_folder_that_is_changed_while_the_new_one_is_copied_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, made = pictures(tmp_path / "out", 3, "old"), pictures(tmp_path / "run" / "frames", 2, "new")
    copied = outputs._copied

    def slow(made: Path, target: Path) -> Path:
        (out / "000001.png").write_text("painted over meanwhile")
        return copied(made, target)

    monkeypatch.setattr(outputs, "_on_one_disk", lambda one, other: False)
    monkeypatch.setattr(outputs, "_copied", slow)
    with pytest.raises(InputError, match=r"000001\.png"):
        replace_folder(made, out)
    assert len(list(out.glob("*.png"))) == 3 and {one.name for one in tmp_path.iterdir()} == {"out", "run"}


# --------------------------------------------------------------------------------------------------------------- kill -9


@pytest.mark.parametrize("one_disk", [True, False])
def test_a_kill_at_any_moment_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_disk: bool) -> None:
    """A child does the replacing and is killed before its n-th change of the disk, for every n until it gets through."""
    monkeypatch.setattr(outputs, "_on_one_disk", lambda one, other: one_disk)
    for moment in range(40):
        place = tmp_path / str(moment)
        out, made = pictures(place / "out", 3, "old"), pictures(place / "run" / "frames", 2, "new")
        child = os.fork()
        if child == 0:
            _killed_at(moment, lambda made=made, out=out: replace_folder(made, out))  # type: ignore[misc]
        _, status = os.waitpid(child, 0)
        names = {one.name for one in place.iterdir()}
        assert not any(".old" in name for name in names) and names <= {"out", "run", ".out.part"}, (moment, names)
        new = {"000000.png": "new 0", "000001.png": "new 1"}
        there = {one.name: one.read_text() for one in out.glob("*.png")}
        assert there == new or all(text.startswith("old") for text in there.values()), moment
        if os.WIFEXITED(status):
            break
        if there != new:
            assert {one.name: one.read_text() for one in made.glob("*.png")} == new, moment
            replace_folder(made, out)
            assert {one.name: one.read_text() for one in out.glob("*.png")} == new, moment
            assert {one.name for one in place.iterdir()} == {"out", "run"}, moment
    assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 and moment > 5


def _killed_at(moment: int, call: Callable[[], None]) -> None:
    """Make the call in this process, which is killed before its change number `moment` of the disk; never returns."""
    count = 0

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def changed(*args: object, **options: object) -> object:
            nonlocal count
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return change(*args, **options)

        return changed

    for name in ("unlink", "rmdir", "rename", "mkdir"):
        setattr(Path, name, counted(getattr(Path, name)))
    outputs.shutil.copyfile = counted(outputs.shutil.copyfile)  # type: ignore[assignment]
    try:
        call()
        os._exit(0)
    finally:
        os._exit(1)
