"""Shards are whole or absent, a stream resumes exactly, what is broken is skipped and counted."""

import io
import itertools
import os
import signal
import subprocess
import sys
import tarfile

import pytest

from flowpaint.errors import VideoError, WorkError
from flowpaint.training.shards import Position, ShardStream, ShardWriter, first_of, read_shard, shards_in


def write(folder, count, size=4):
    with ShardWriter(folder, size=size) as shards:
        for number in range(count):
            shards.write({"txt": str(number).encode(), "json": b"{}"})
    return folder


def number(sample):
    return int(sample.files["txt"])


def take(stream, count):
    return list(itertools.islice(stream, count))


def test_shards_are_plain_tars_in_the_webdataset_layout(tmp_path):
    write(tmp_path / "data", 6)
    names = [path.name for path in sorted((tmp_path / "data").iterdir())]
    assert names == ["000000.tar", "000001.tar"]
    with tarfile.open(tmp_path / "data" / "000001.tar") as tar:
        assert tar.getnames() == ["00000004.txt", "00000004.json", "00000005.txt", "00000005.json"]
    samples, broken = read_shard(tmp_path / "data" / "000001.tar")
    assert [number(one) for one in samples] == [4, 5] and broken == 0


def test_an_epoch_shows_every_sample_once_in_another_order_each_time(tmp_path):
    stream = ShardStream(write(tmp_path, 23), number, seed=0)
    first, second = take(stream, 23), take(stream, 23)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second and first != sorted(first)


def test_the_order_follows_from_the_seed_alone(tmp_path):
    write(tmp_path, 40)
    assert take(ShardStream(tmp_path, number, seed=3), 90) == take(ShardStream(tmp_path, number, seed=3), 90)
    assert take(ShardStream(tmp_path, number, seed=3), 40) != take(ShardStream(tmp_path, number, seed=4), 40)


@pytest.mark.parametrize("stop", [1, 15, 16, 17, 22, 23, 24, 60])
def test_a_stream_goes_on_where_it_was(tmp_path, stop):
    write(tmp_path, 23)
    whole = take(ShardStream(tmp_path, number, seed=5), 100)
    stream = ShardStream(tmp_path, number, seed=5)
    start = take(stream, stop)
    again = ShardStream(tmp_path, number, seed=5, position=stream.position)
    assert start + take(again, 100 - stop) == whole


def test_processes_share_the_samples(tmp_path):
    write(tmp_path, 24)
    parts = [take(ShardStream(tmp_path, number, seed=1, rank=rank, world=3), 8) for rank in range(3)]
    assert sorted(itertools.chain(*parts)) == list(range(24))


def test_samples_that_cannot_be_decoded_are_skipped_and_counted(tmp_path):
    def decode(sample):
        if number(sample) % 5 == 0:
            raise ValueError("broken")
        return number(sample)

    stream = ShardStream(write(tmp_path, 20), decode, seed=0)
    seen = take(stream, 16)
    assert sorted(seen) == [one for one in range(20) if one % 5]
    take(stream, 1)
    assert stream.position.skipped >= 4


def test_a_shard_that_breaks_off_loses_its_end_and_is_counted_once_an_epoch(tmp_path):
    write(tmp_path, 12)
    path = tmp_path / "000001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 * 9])  # two samples, half of the third
    stream = ShardStream(tmp_path, number, seed=0)
    assert sorted(take(stream, 10)) == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert stream.position == Position(epoch=0, place=10, skipped=1)
    again = ShardStream(tmp_path, number, seed=0, position=stream.position)
    take(again, 10)
    assert again.position.skipped == 2


def test_a_resumed_stream_does_not_count_the_same_damage_twice(tmp_path):
    write(tmp_path, 12)
    (tmp_path / "000001.tar").write_bytes((tmp_path / "000001.tar").read_bytes()[: 512 * 9])
    stream = ShardStream(tmp_path, number, seed=0)
    take(stream, 4)
    again = ShardStream(tmp_path, number, seed=0, position=stream.position)
    take(again, 6)
    assert again.position.skipped == 1


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(VideoError, match="holds no shards"):
        ShardStream(tmp_path, number, seed=0)
    write(tmp_path, 3)

    def broken(sample):
        raise OSError(sample.key)

    with pytest.raises(VideoError, match="Not one sample"):
        next(iter(ShardStream(tmp_path, broken, seed=0)))
    with pytest.raises(VideoError, match="Not one sample"):
        first_of(tmp_path, broken, 1)
    assert first_of(tmp_path, number, 2) == [0, 1]


def test_a_writer_that_fails_leaves_no_half_shard(tmp_path):
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path, size=2) as shards:
        for one in range(3):
            shards.write({"txt": str(one).encode()})
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["000000.tar"]
    with pytest.raises(WorkError, match="has shards already"):
        ShardWriter(tmp_path)


def test_a_killed_writer_leaves_whole_shards_alone(tmp_path):
    script = (
        "import sys; from pathlib import Path; from flowpaint.training.shards import ShardWriter\n"
        f"shards = ShardWriter(Path({str(tmp_path)!r}), size=2)\n"
        "for one in range(5): shards.write({'txt': str(one).encode()})\n"
        "print('written', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert [path.name for path in shards_in(tmp_path)] == ["000000.tar", "000001.tar"]
    assert sorted(take(ShardStream(tmp_path, number, seed=0), 4)) == [0, 1, 2, 3]


def test_foreign_names_do_no_harm(tmp_path):
    with tarfile.open(tmp_path / "000000.tar", "w") as tar:
        for name in ("folder/0.txt", "folder/0.json"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"7"))
    assert [(one.key, number(one)) for one in read_shard(tmp_path / "000000.tar")[0]] == [("folder/0", 7)]
