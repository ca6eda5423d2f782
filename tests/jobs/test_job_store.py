"""The job store: what was answered is kept, owners are apart, a job is one worker's at a time and ends once."""

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from flowpaint.errors import InputError, WorkError
from flowpaint.jobs import JobStore, Queue, Unknown
from flowpaint.jobs.cleaning import clean
from flowpaint.jobs.database import Database
from flowpaint.jobs.queue import MAX_LOSSES, MAX_REFUSALS
from flowpaint.jobs.store import size_of


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path / "data") as store:
        yield store


@pytest.fixture
def queue(store):
    return Queue(store)


def submit(store, owner="me", **more):
    return store.submit(owner, {"kind": "edit", "keyframes": {}, "seed": 0}, request={"prompt": "p"}, name="out.mp4", **more)


def asset(store, tmp_path, owner="me", name="a.mp4", content=b"film"):
    file = tmp_path / "incoming.mp4"
    file.write_bytes(content)
    return store.add_asset(owner, name, file, "video", {"width": 4})


def states(store, key):
    return [event.data["state"] for event in store.events(key) if event.kind == "state"]


def test_a_job_goes_from_queued_to_done(store, queue):
    asked = submit(store)
    assert (asked.state, asked.attempt, asked.has_ended) == ("queued", 0, False)
    job = queue.claim("worker-0")
    assert (job.id, job.state, job.attempt, job.worker) == (asked.id, "running", 1, "worker-0")
    assert queue.claim("worker-1") is None
    assert queue.beat(job, "edit", 3, 8)
    assert [(one.stage, one.done, one.total) for one in store.jobs("me")] == [("edit", 3, 8)]
    assert queue.finish(job, 123)
    ended = store.get("me", job.id)
    assert (ended.state, ended.bytes, ended.code, ended.error) == ("done", 123, None, "")
    assert ended.created <= ended.started <= ended.finished
    assert states(store, job.id) == ["queued", "running", "done"]


def test_it_is_kept_by_another_process(store):
    job = submit(store)
    script = "import sys; from pathlib import Path; from flowpaint.jobs import JobStore, Queue; "
    script += "print(Queue(JobStore(Path(sys.argv[1]))).claim('other').id)"
    told = subprocess.run([sys.executable, "-c", script, store.folder], capture_output=True, text=True, check=True).stdout
    assert told.strip() == job.id and store.get("me", job.id).worker == "other"


def test_priority_then_age(store, queue):
    jobs = [submit(store, priority=priority) for priority in (0, 5, 0, 5)]
    order = [queue.claim("w").id for _ in jobs]
    assert order == [jobs[index].id for index in (1, 3, 0, 2)]
    assert queue.claim("w") is None


def test_eight_workers_take_each_job_once(store):
    wanted = {submit(store).id for _ in range(40)}
    taken, lock = [], threading.Lock()

    def work(name):
        with JobStore(store.folder) as opened:
            mine = Queue(opened)
            while (job := mine.claim(name)) is not None:
                with lock:
                    taken.append(job.id)
                mine.finish(job, 0)

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 40 and set(taken) == wanted
    assert store.counts() == {"done": 40}


def test_a_worker_that_was_given_up_changes_nothing(store, queue):
    submit(store)
    stale = queue.claim("worker-0")
    assert queue.lose("worker-0") == [stale.id]
    fresh = queue.claim("worker-0")
    assert fresh.id == stale.id and fresh.attempt == 2 and store.get("me", fresh.id).losses == 1
    assert not queue.owns(stale) and not queue.beat(stale, "edit", 1, 2)
    assert not queue.finish(stale, 1) and not queue.fail(stale, 1, "no") and not queue.give_back(stale)
    assert not queue.wait(stale, "{}") and not queue.turn_away(stale, "full")
    queue.say(stale, "log", {"message": "late"})
    assert all(event.kind != "log" for event in store.events(stale.id))
    assert queue.owns(fresh) and queue.finish(fresh, 2)
    assert not queue.finish(fresh, 2), "it was ended twice"
    assert states(store, fresh.id).count("done") == 1


def test_only_the_dead_workers_jobs_are_given_to_others(store, queue):
    submit(store), submit(store)
    first, second = queue.claim("worker-0"), queue.claim("worker-1")
    assert queue.lose("worker-1") == [second.id]
    assert queue.owns(first) and not queue.owns(second)


def test_a_job_that_kills_workers_fails(store, queue):
    key = submit(store).id
    for _ in range(MAX_LOSSES):
        assert queue.claim("w").id == key
        queue.lose("w")
    job = store.get("me", key)
    assert (job.state, job.code) == ("failed", 1) and f"died {MAX_LOSSES} times" in job.error
    assert queue.claim("w") is None


def test_a_full_disk_puts_a_job_off(store, queue, monkeypatch):
    key = submit(store).id
    times = []
    for refusal in range(MAX_REFUSALS):
        clock = 1e6 * (refusal + 1)
        monkeypatch.setattr("flowpaint.jobs.queue.time.time", lambda clock=clock: clock)
        job = queue.claim("w")
        assert queue.turn_away(job, "The disk is full. Make room.")
        monkeypatch.setattr("flowpaint.jobs.queue.time.time", lambda clock=clock: clock + 4.9)
        assert queue.claim("w") is None
        times.append(store.get("me", key).state)
    assert times == ["queued"] * (MAX_REFUSALS - 1) + ["failed"]
    assert store.get("me", key).error.startswith("The disk is full")
    assert store.get("me", key).losses == 0


def test_giving_back_costs_nothing(store, queue):
    key = submit(store).id
    for _ in range(MAX_LOSSES + 2):
        assert queue.give_back(queue.claim("w"))
    assert store.get("me", key).losses == 0 and queue.claim("w").id == key


@pytest.mark.parametrize("at", ["queued", "running", "waiting"])
def test_cancelling_is_at_once(store, queue, at):
    key = submit(store, approve=True).id
    job = queue.claim("w") if at != "queued" else None
    if at == "waiting":
        queue.wait(job, '{"frame": 0, "path": "first.png"}')
    assert store.cancel("me", key).state == "cancelled"
    assert queue.claim("w") is None and (job is None or not queue.owns(job))
    assert store.cancel("me", key).state == "cancelled" and states(store, key).count("cancelled") == 1


def test_asked_for_again_it_is_the_same_job(store, queue):
    first = submit(store, once="a")
    queue.claim("w")
    assert submit(store, once="a").id == first.id and submit(store, once="a").state == "running"
    assert submit(store, once="b").id != first.id and submit(store, "you", once="a").id != first.id
    assert len({submit(store).id for _ in range(3)}) == 3


def test_what_has_ended_is_not_cancelled(store, queue):
    key = submit(store).id
    queue.finish(queue.claim("w"), 0)
    assert store.cancel("me", key).state == "done"


def test_a_failure_says_why(store, queue):
    key = submit(store).id
    assert queue.fail(queue.claim("w"), 4, "in.mp4 holds no video. Give another.")
    job = store.get("me", key)
    assert (job.state, job.code, job.error) == ("failed", 4, "in.mp4 holds no video. Give another.")
    assert store.events(key)[-1].data == {"state": "failed", "code": 4, "error": "in.mp4 holds no video. Give another."}


# -------------------------------------------------------------------------------------------------------------- approval


def waiting(store, queue, frame=3):
    key = submit(store, approve=True).id
    assert queue.wait(queue.claim("w"), f'{{"frame": {frame}, "path": "/run/first.png"}}')
    assert store.get("me", key).first == {"frame": frame, "path": "/run/first.png"}
    return key


def test_approved_as_it_is(store, queue):
    key = waiting(store, queue)
    job = store.approve("me", key)
    assert (job.state, job.approve, job.job["keyframes"]) == ("queued", False, {"3": "/run/first.png"})
    assert queue.claim("w").id == key


def test_approved_with_another_picture(store, queue, tmp_path):
    key = waiting(store, queue)
    (tmp_path / "mine.png").touch()
    job = store.approve("me", key, keyframe=tmp_path / "mine.png")
    assert (job.approve, job.job["keyframes"]) == (False, {"3": str(tmp_path / "mine.png")})


def test_another_seed_is_approved_again(store, queue):
    key = waiting(store, queue)
    job = store.approve("me", key, seed=9)
    assert (job.state, job.approve, job.job["seed"], job.job["keyframes"]) == ("queued", True, 9, {})


def test_only_what_waits_is_approved(store, queue):
    key = submit(store).id
    with pytest.raises(InputError, match="is queued: it waits for no approval"):
        store.approve("me", key)
    store.cancel("me", key)
    with pytest.raises(Unknown):
        store.approve("you", waiting(store, queue))


# ---------------------------------------------------------------------------------------------------------------- owners


def test_owners_are_apart(store, queue, tmp_path):
    mine, theirs = submit(store, "me"), submit(store, "you")
    film = asset(store, tmp_path)
    assert [one.id for one in store.jobs("me")] == [mine.id] and store.assets("you") == []
    for call in (
        lambda: store.get("me", theirs.id),
        lambda: store.cancel("me", theirs.id),
        lambda: store.remove("me", theirs.id),
        lambda: store.asset("you", film.id),
        lambda: store.remove_asset("you", film.id),
        lambda: store.get("me", "no such"),
    ):
        with pytest.raises(Unknown):
            call()
    assert store.get("you", theirs.id).state == "queued"
    assert store.counts("me") == {"queued": 1} and store.counts() == {"queued": 2}


def test_jobs_are_listed_newest_first(store, queue):
    keys = [submit(store).id for _ in range(5)]
    queue.claim("w")
    assert [one.id for one in store.jobs("me")] == keys[::-1]
    assert [one.id for one in store.jobs("me", limit=2)] == keys[:2:-1]
    assert [one.id for one in store.jobs("me", state="running")] == keys[:1]
    second = store.get("me", keys[1]).created
    assert [one.id for one in store.jobs("me", before=second)] == keys[:1]


# ---------------------------------------------------------------------------------------------------------------- assets


def test_an_asset_is_moved_in(store, tmp_path):
    film = asset(store, tmp_path, name="../../etc/passwd.mp4", content=b"12345")
    assert not (tmp_path / "incoming.mp4").exists()
    assert film.path.read_bytes() == b"12345" and film.path.is_relative_to(store.folder / "assets")
    assert (film.name, film.bytes, film.kind, film.facts) == ("../../etc/passwd.mp4", 5, "video", {"width": 4})
    store.remove_asset("me", film.id)
    assert not film.path.parent.exists() and store.assets("me") == []


def test_an_asset_in_use_stays(store, queue, tmp_path):
    film = asset(store, tmp_path)
    key = store.submit("me", {"input": str(film.path)}, request={}, name="o.mp4").id
    with pytest.raises(InputError, match="is read by a job that has not ended"):
        store.remove_asset("me", film.id)
    store.cancel("me", key)
    store.remove_asset("me", film.id)


# ---------------------------------------------------------------------------------------------------- events, cleaning, disk


def test_events_are_numbered_and_the_latest_progress_is_kept(store, queue):
    submit(store)
    job = queue.claim("w")
    for done in range(5):
        queue.beat(job, "edit", done, 9)
        queue.say(job, "log", {"message": str(done)})
    found = store.events(job.id)
    assert [one.kind for one in found].count("progress") == 1 and [one.kind for one in found].count("log") == 5
    numbers = [one.seq for one in found]
    assert numbers == sorted(set(numbers))
    assert store.events(job.id, after=numbers[-2]) == found[-1:]


def test_removing_takes_everything(store, queue):
    key = submit(store).id
    with pytest.raises(InputError, match="has not ended"):
        store.remove("me", key)
    job = queue.claim("w")
    job.folder.mkdir()
    (job.folder / "result.mp4").write_bytes(b"x")
    queue.finish(job, 1)
    store.remove("me", key)
    assert not job.folder.exists() and store.events(key) == []
    with pytest.raises(Unknown):
        store.get("me", key)


def test_of_two_who_remove_a_job_one_is_told_that_it_is_gone(store, queue, monkeypatch):
    submit(store)
    job = queue.claim("w")
    queue.finish(job, 1)
    whole = store.get

    def late(owner, key):
        found = whole(owner, key)
        if monkeypatch.undo() is None:
            with JobStore(store.folder) as other:
                other.remove(owner, key)
        return found

    monkeypatch.setattr(store, "get", late)
    with pytest.raises(Unknown):
        store.remove("me", job.id)


def test_a_job_is_not_there_without_what_it_reads(store, tmp_path):
    mine, others = asset(store, tmp_path), asset(store, tmp_path, owner="you")
    kept = submit(store, reads=[mine.id], once="a")
    store.cancel("me", kept.id)
    store.remove_asset("me", mine.id)  # between the look at it and the job
    for gone in (mine.id, others.id):
        with pytest.raises(Unknown, match=gone):
            submit(store, reads=[gone])
    assert [job.id for job in store.jobs("me")] == [kept.id]
    assert submit(store, reads=[mine.id], once="a").id == kept.id


def test_a_picture_that_is_gone_approves_nothing(store, queue, tmp_path):
    key = submit(store, approve=True).id
    queue.wait(queue.claim("w"), '{"frame": 0, "path": "first.png"}')
    with pytest.raises(Unknown):
        store.approve("me", key, keyframe=tmp_path / "gone.png")
    assert store.get("me", key).state == "waiting"


def test_cleaning_keeps_to_the_quota(store, queue, tmp_path, monkeypatch):
    done = []
    for _ in range(3):
        submit(store)
        job = queue.claim("w")
        job.folder.mkdir()
        (job.folder / "result.mp4").write_bytes(bytes(100_000))
        queue.finish(job, 100_000)
        done.append(job)
    used, unused = asset(store, tmp_path, content=bytes(50_000)), asset(store, tmp_path, content=bytes(50_000))
    store.submit("me", {"input": str(used.path)}, request={}, name="o.mp4")
    queue.claim("w")
    rest = store.usage() - 400_000
    assert clean(store, quota=10**9) == store.usage() and all(job.folder.exists() for job in done)
    assert clean(store, quota=rest + 320_000) <= rest + 320_000
    assert [job.folder.exists() for job in done] == [False, True, True], "the oldest first"
    assert [store.get("me", job.id).bytes for job in done] == [None, 100_000, 100_000]
    clean(store, quota=1)
    assert unused.path.exists(), "its owner may be about to ask for something with it"
    monkeypatch.setattr("flowpaint.jobs.cleaning._STALE", -1.0)
    clean(store, quota=1)
    assert used.path.exists() and [one.id for one in store.assets("me")] == [used.id]
    assert not unused.path.exists() and not any(job.folder.exists() for job in done)
    assert size_of(store.folder) == store.usage()


def test_cleaning_takes_what_is_nobodys(store, queue, tmp_path, monkeypatch):
    submit(store)
    job = queue.claim("w")
    job.folder.mkdir()
    film = asset(store, tmp_path)
    for name in ("jobs/stray", "assets/stray"):
        (store.folder / name).mkdir()
    (store.folder / "incoming" / "part").touch()
    clean(store)
    assert (store.folder / "jobs/stray").exists(), "it may be new, its row not yet written"
    monkeypatch.setattr("flowpaint.jobs.cleaning._STALE", -1.0)
    clean(store)
    assert job.folder.exists() and film.path.exists()
    assert not any((store.folder / name).exists() for name in ("jobs/stray", "assets/stray", "incoming/part"))


def test_an_upload_that_takes_long_is_somebodys(store):
    slow, left = store.folder / "incoming/slow", store.folder / "incoming/left"
    for place in (slow, left):
        place.mkdir()
        (place / "0000").write_bytes(b"x")
        for path in (place / "0000", place):
            os.utime(path, (1, 1))
    os.utime(slow / "0000")  # a piece was written just now
    clean(store)
    assert (slow / "0000").exists() and not left.exists()


def test_the_database_is_its_owners_alone_wherever_it_is(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    with JobStore(tmp_path / "open") as store:
        submit(store)
        files = list(store.folder.glob("jobs.db*"))
        assert len(files) == 3 and [one.name for one in files if one.stat().st_mode & 0o077] == []


def test_files_of_cancelled_jobs_go(store, queue):
    submit(store)
    job = queue.claim("w")
    job.folder.mkdir()
    store.cancel("me", job.id)
    clean(store)
    assert not job.folder.exists()


def test_a_full_disk_is_said_and_nothing_is_half_written(store, queue):
    before = submit(store)
    with store.database.reading() as tables:  # this thread alone uses the store: it is given the same connection each time
        pages = tables.execute("PRAGMA page_count").fetchone()[0]
        tables.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(WorkError, match="The disk is full"):
        for _ in range(50):
            store.submit("me", {"prompt": "x" * 4000}, request={}, name="o.mp4")
    with store.database.reading() as tables:
        tables.execute("PRAGMA max_page_count = 1000000")
    jobs = store.jobs("me")
    assert jobs[-1].id == before.id and all(states(store, one.id) == ["queued"] for one in jobs)


def test_a_store_is_opened_without_writing(store):
    """As it must be on a full disk; a writer would have to wait for the other one here, and give up."""
    key = submit(store).id
    with store.database.writing(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowpaint.jobs.database._WAIT_MS", 100)
        with JobStore(store.folder) as other:
            assert other.get("me", key).state == "queued"


def test_one_that_another_process_is_making_is_waited_for(tmp_path, monkeypatch):
    """SQLite does not wait itself where two turn a new file to WAL together."""
    real, refusals = Database._opened, []

    def busy(database):
        if len(refusals) < 3:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            refusals.append(error)
            raise error
        return real(database)

    monkeypatch.setattr(Database, "_opened", busy)
    with JobStore(tmp_path / "data") as store:
        assert submit(store).state == "queued" and len(refusals) == 3


def test_a_store_of_another_version_is_refused(store, tmp_path):
    with store.database.reading() as tables:
        tables.execute("PRAGMA user_version = 99")
    with pytest.raises(WorkError, match="another version"):
        JobStore(store.folder)
    (tmp_path / "data" / "jobs.db").write_bytes(b"no database at all, and long enough to be looked at")
    for tail in ("-wal", "-shm"):
        (tmp_path / "data" / f"jobs.db{tail}").unlink(missing_ok=True)
    with pytest.raises(WorkError, match="cannot be used"):
        JobStore(tmp_path / "data")


def test_the_folder_is_its_owners_alone(store):
    assert store.folder.stat().st_mode & 0o077 == 0


def test_a_data_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="cannot be made"):
        JobStore(tmp_path / "file" / "data")


def test_a_planned_stop_is_not_the_jobs_doing(store, queue):
    key = submit(store).id
    for _ in range(MAX_LOSSES + 1):
        queue.claim("w")
        assert queue.lose("w", blame=False) == [key]
    assert store.get("me", key).losses == 0


def test_a_key_frame_that_is_gone_is_not_approved(store, queue, tmp_path):
    key = waiting(store, queue)
    mine = asset(store, tmp_path)
    store.remove_asset("me", mine.id)
    with pytest.raises(Unknown):
        store.approve("me", key, keyframe=mine.path.absolute())
    assert store.get("me", key).state == "waiting"


# ------------------------------------------------------------------------------------------------------------- connections


def held(store):
    """How many connections of this process are open: each has the write-ahead log open for itself.

    The database's own file says less: SQLite closes it late, since closing one descriptor would end the locks of all.
    """
    path, found = str((store.folder / "jobs.db-wal").resolve()), 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of this listing
            found += str(one.readlink()).removesuffix(" (deleted)") == path
    return found


on_linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open descriptors are listed on Linux only")


@on_linux
def test_threads_that_have_ended_leave_no_connection(store):
    for _ in range(5):
        thread = threading.Thread(target=submit, args=(store,))
        thread.start()
        thread.join()
    assert store.counts() == {"queued": 5} and held(store) == 1
    store.close()
    assert held(store) == 0


@on_linux
def test_as_many_connections_as_are_used_at_once_and_few_afterwards(store, monkeypatch):
    monkeypatch.setattr("flowpaint.jobs.database._KEPT", 3)
    together, seen = threading.Barrier(6), []

    def read():
        with store.database.reading() as tables, store.database.reading() as same:
            together.wait(20)  # each of the six has one now
            seen.append((id(tables), tables is same, tables.execute("SELECT count(*) FROM jobs").fetchone()[0]))
            together.wait(20)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one[0] for one in seen}) == 6 and {one[1:] for one in seen} == {(True, 0)}
    assert held(store) == 3


@on_linux
def test_what_is_asked_after_the_end_is_answered_and_leaves_nothing_open(store):
    key = submit(store).id
    with store.database.reading() as tables:
        store.close()
        assert tables.execute("SELECT count(*) FROM jobs").fetchone()[0] == 1 and held(store) == 1
    assert held(store) == 0
    assert store.get("me", key).state == "queued" and held(store) == 0


@on_linux
def test_a_store_that_is_refused_is_closed(store, monkeypatch):
    with store.database.reading() as tables:
        tables.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(WorkError, match="another version"):
        JobStore(store.folder)
    assert held(store) == 0
    (store.folder / "jobs.db").write_bytes(b"no database at all, and long enough to be looked at")
    with pytest.raises(WorkError, match="cannot be used"):
        JobStore(store.folder)
    gc.collect()  # a connection that was forgotten would be said here
    assert held(store) == 0


def test_a_block_inside_a_transaction_sees_what_that_has_written(store):
    key = submit(store).id
    with pytest.raises(KeyError), store.database.writing() as tables:
        tables.execute("DELETE FROM jobs WHERE id = ?", (key,))
        with pytest.raises(Unknown):
            store.get("me", key)
        raise KeyError
    assert store.get("me", key).id == key
