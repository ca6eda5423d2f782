"""What the file cannot hold is refused before the first frame, with advice that works; what goes along is what was promised."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from flowpaint.errors import InputError, WorkError
from flowpaint.types import Clip
from flowpaint.video import Encoding, check, probe, read, write
from video_files import packets, smooth

PICTURES = [smooth(48, 64, shift) for shift in range(12)]
RATE = 48000


def film(path: Path, *codecs: str, rate: int = RATE, seconds: float = 0.48, extra: Callable[..., None] | None = None) -> Path:
    """A film of 12 pictures with a track of a sine in each of the codecs; `extra(file)` adds more before the header."""
    with av.open(str(path), "w") as file:
        picture = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        tracks = []
        for codec in codecs:
            track = file.add_stream(codec, rate=rate, options={"strict": "-2"})
            track.codec_context.layout = "stereo"
            tracks.append(track)
        late = extra(file) if extra is not None else None
        for number, array in enumerate(PICTURES):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            frame.pts = number
            file.mux(picture.encode(frame))
        file.mux(picture.encode(None))
        for track in tracks:
            sing(file, track, rate, seconds)
        if late is not None:
            late()
    return path


def sing(file: av.container.OutputContainer, track: av.AudioStream, rate: int, seconds: float) -> None:
    wave = 0.5 * np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 440 / rate).astype(np.float32)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 1024]] * 2), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        file.mux(track.encode(frame))
    file.mux(track.encode(None))


def counted(clip: Clip, seen: list[int]) -> Clip:
    """The clip, noting which frames are asked for."""

    def raw(index: int) -> np.ndarray:
        seen.append(index)
        return clip.raw(index)

    return clip.with_frames(raw)


def codec_for(out: Path) -> str:
    return "vp9" if out.suffix == ".webm" else "h264"


# codec and file of the source, the suffix of the output, the advice
REFUSED = [
    ("libopus", ".mkv", ".mov", "Write to .mkv, or use --audio aac."),
    ("flac", ".mkv", ".mov", "Write to .mkv, or use --audio aac."),
    ("pcm_f32le", ".mkv", ".mp4", "Write to .mkv, or use --audio aac."),
    ("pcm_s16le", ".mkv", ".mp4", "Write to .mkv, or use --audio aac."),
    ("wavpack", ".mkv", ".mov", "Write to .mkv, or use --audio aac."),
    ("vorbis", ".mkv", ".mov", "Write to .mkv, or use --audio aac."),
    ("pcm_mulaw", ".mov", ".mp4", "Use --audio aac."),  # Matroska is no way out here
    ("pcm_mulaw", ".mov", ".mkv", "Use --audio aac."),
    ("ac3", ".mkv", ".webm", "Write to .mkv, or use --audio none."),
    ("pcm_alaw", ".mov", ".webm", "Use --audio none."),
]
SHARED = [("opus.mp4", ".mov"), ("flac.mkv", ".mov"), ("truehd.mkv", ".mp4"), ("truehd.mkv", ".mov"), ("pcmf.mkv", ".mp4")]


def is_refused_and_the_advice_works(source: Path, out: Path, advice: str) -> None:
    clip, seen, before = read(source), list[int](), sorted(out.parent.iterdir())
    wish = Encoding(codec=codec_for(out), preset="ultrafast")  # type: ignore[arg-type]
    for call in (lambda: check(clip, out, wish), lambda: write(counted(clip, seen), out, encoding=wish)):
        with pytest.raises(InputError) as caught:
            call()
        message = str(caught.value)
        assert caught.value.exit_code == 2 and message.endswith(f". {advice}") and out.suffix in message, message
        assert source.name in message and message.count(". ") == 1
    assert seen == [] and sorted(out.parent.iterdir()) == before
    for suffix, audio in ((".mkv", "copy"), (out.suffix, "aac"), (out.suffix, "none")):
        if ("Write to .mkv" if suffix == ".mkv" and out.suffix != ".mkv" else f"--audio {audio}") not in advice:
            continue
        other, wish = out.with_suffix(suffix), Encoding(codec=codec_for(out), audio=audio, preset="ultrafast")  # type: ignore[arg-type]
        check(clip, other, wish)
        write(clip, other, encoding=wish)
        assert len(probe(other).audio) == (audio != "none")
        other.unlink()


@pytest.mark.parametrize(("codec", "held", "suffix", "advice"), REFUSED, ids=[f"{row[0]}{row[2]}" for row in REFUSED])
def test_sound_that_the_file_cannot_hold(tmp_path: Path, codec: str, held: str, suffix: str, advice: str) -> None:
    source = film(tmp_path / f"in{held}", codec)
    is_refused_and_the_advice_works(source, tmp_path / f"out{suffix}", advice)


@pytest.mark.parametrize(("name", "suffix"), SHARED)
def test_sound_of_the_shared_cases(shared: Path, tmp_path: Path, name: str, suffix: str) -> None:
    folder = next(iter((shared / "cases").glob("*sound_refused*")), None)
    if folder is None:
        pytest.skip("no such case here")
    is_refused_and_the_advice_works(folder / name, tmp_path / f"out{suffix}", "Write to .mkv, or use --audio aac.")


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        *(
            (codec, suffix)
            for codec in ("aac", "libmp3lame", "mp2", "ac3", "eac3", "alac")
            for suffix in (".mp4", ".mov", ".mkv")
        ),
        *(("libopus", suffix) for suffix in (".mp4", ".mkv", ".webm")),
        *(("flac", suffix) for suffix in (".mp4", ".mkv")),
        *((codec, suffix) for codec in ("pcm_s16le", "pcm_s24le", "pcm_f32le") for suffix in (".mov", ".mkv")),
        ("vorbis", ".webm"),
    ],
)
def test_sound_that_it_can_hold_is_copied(tmp_path: Path, codec: str, suffix: str) -> None:
    source, out = film(tmp_path / "in.mkv", codec), tmp_path / f"out{suffix}"
    clip, wish = read(source), Encoding(codec=codec_for(out), preset="ultrafast")  # type: ignore[arg-type]
    check(clip, out, wish)
    write(clip, out, encoding=wish)
    (before,), (after,) = packets(source), packets(out)
    assert b"".join(data for _, data in after) == b"".join(data for _, data in before)


def test_dts_is_copied(tmp_path: Path) -> None:
    """FFmpeg knows this codec by two names. There is no encoder here, so the packets are headers (ETSI TS 102 114) and zeros."""
    fields = ((0x7FFE8001, 32), (1, 1), (31, 5), (0, 1), (15, 7), (511, 14), (2, 6), (13, 4), (15, 5))
    head = "".join(format(value, f"0{bits}b") for value, bits in fields)
    frame = int(head.ljust(512 * 8, "0"), 2).to_bytes(512, "big")

    def add(file: av.container.OutputContainer) -> Callable[[], None]:
        track = file.add_mux_stream("dts", rate=RATE)
        return lambda: mux_raw(file, track, [(512 * n, 512, frame) for n in range(40)], Fraction(1, RATE))

    source = film(tmp_path / "in.mkv", extra=add)
    for suffix in (".mp4", ".mov", ".mkv"):
        out = tmp_path / f"out{suffix}"
        check(read(source), out, Encoding())
        write(read(source), out, encoding=Encoding(preset="ultrafast"))
        assert [data for _, data in packets(out)[0]] == [frame] * 40
    with pytest.raises(InputError, match=r"\(dts\) cannot be coded as aac .* Use --audio copy\."):
        check(read(source), tmp_path / "aac.mp4", Encoding(audio="aac"))


def mux_raw(
    file: av.container.OutputContainer, track: av.stream.Stream, rows: list[tuple[int, int, bytes]], time_base: Fraction
) -> None:
    for start, length, data in rows:
        packet = av.Packet(data)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = length, time_base, track
        file.mux(packet)


def test_of_several_tracks_the_one_that_is_refused_is_named(tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", "aac", "libopus", "flac")
    with pytest.raises(InputError, match=r"\(opus\)\. Write to \.mkv, or use --audio aac\."):
        check(read(source), tmp_path / "out.mov", Encoding())
    check(read(source), tmp_path / "out.mp4", Encoding())


@pytest.mark.parametrize("start", [0, 6])
def test_a_part_of_a_file_is_rehearsed_where_it_is(tmp_path: Path, start: int) -> None:
    source = film(tmp_path / "in.mkv", "flac")
    with pytest.raises(InputError, match="flac"):
        check(read(source)[start:], tmp_path / "out.mov", Encoding())
    check(read(source)[start:], tmp_path / "out.mp4", Encoding())


def test_sound_that_begins_late_or_never(tmp_path: Path) -> None:
    def add(file: av.container.OutputContainer) -> None:
        file.add_stream("pcm_s16le", rate=RATE)

    silent = film(tmp_path / "in.mkv", extra=add)  # a track without a packet
    check(read(silent), tmp_path / "out.mkv", Encoding())
    write(read(silent), tmp_path / "out.mkv", encoding=Encoding(preset="ultrafast"))


# ---------------------------------------------------------------------------------------------------- other tracks


def test_what_does_not_go_along_is_said_at_once(tmp_path: Path) -> None:
    def add(file: av.container.OutputContainer) -> Callable[[], None]:
        second = file.add_stream("mpeg4", rate=25)
        second.width, second.height, second.pix_fmt = 64, 48, "yuv420p"
        bitmap = file.add_mux_stream("hdmv_pgs_subtitle")
        file.add_attachment("font.ttf", "font/ttf", b"0123456789")

        def rest() -> None:
            file.mux(second.encode(av.VideoFrame.from_ndarray(PICTURES[0], "rgb24")))
            file.mux(second.encode(None))
            mux_raw(file, bitmap, [(0, 100, b"\x16" + bytes(20))], Fraction(1, 1000))

        return rest

    source = film(tmp_path / "in.mkv", "aac", extra=add)
    told: dict[str, list[str]] = {}
    for suffix in (".mp4", ".mkv"):
        out, said = tmp_path / f"out{suffix}", list[str]()
        check(read(source), out, Encoding(), warn=said.append)
        told[suffix] = list(said)
        write(read(source), out, encoding=Encoding(preset="ultrafast"), warn=said.append)
        assert said == told[suffix] * 2
    second = "Video track 2 (mpeg4) is left out: one picture, sound, subtitles, fonts and covers go along."
    assert told[".mkv"] == [second]
    assert told[".mp4"] == [
        second,
        "The output cannot hold subtitle track 3 (hdmv_pgs_subtitle). It is left out; .mkv would keep it.",
        "The output cannot hold the attached file font.ttf. It is left out; .mkv would keep it.",
    ]
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert [one.type for one in file.streams] == ["video", "audio", "subtitle", "attachment"]


def test_data_tracks_are_left_out_with_a_word_and_timecodes_stay(tmp_path: Path) -> None:
    def klv(file: av.container.OutputContainer) -> Callable[[], None]:
        track = file.add_data_stream("klv")
        return lambda: mux_raw(file, track, [(3600 * n, 3600, b"\x06\x0e+4" + bytes(30)) for n in range(5)], Fraction(1, 90000))

    def timecode(file: av.container.OutputContainer) -> None:
        file.streams[0].metadata["timecode"] = "01:00:00:00"

    said: list[str] = []
    check(read(film(tmp_path / "in.ts", extra=klv)), tmp_path / "out.mp4", Encoding(), warn=said.append)
    assert said == ["Data track 1 (unknown) is left out: one picture, sound, subtitles, fonts and covers go along."]
    source, said = film(tmp_path / "in.mov", extra=timecode), []
    for suffix in (".mp4", ".mov"):
        out = tmp_path / f"tc{suffix}"
        check(read(source), out, Encoding(), warn=said.append)
        write(read(source), out, encoding=Encoding(preset="ultrafast"))
        with av.open(str(out)) as file:
            assert [(one.type, one.metadata.get("timecode")) for one in file.streams] == [
                ("video", "01:00:00:00"),
                ("data", "01:00:00:00"),
            ]
    assert said == []


def test_a_subtitle_that_the_muxer_refuses_is_left_out(tmp_path: Path) -> None:
    def add(file: av.container.OutputContainer) -> Callable[[], None]:
        track = file.add_mux_stream("ass")  # without the header that such tracks have: it cannot be recoded
        return lambda: mux_raw(file, track, [(0, 100, b"0,0,Default,,0,0,0,,hello")], Fraction(1, 1000))

    source, said = film(tmp_path / "in.mkv", "aac", extra=add), list[str]()
    write(read(source), tmp_path / "out.mp4", encoding=Encoding(preset="ultrafast"), warn=said.append)
    assert said == ["The output cannot hold subtitle track 2 (ass). It is left out; .mkv would keep it."]
    assert len(packets(tmp_path / "out.mp4")) == 1


# ------------------------------------------------------------------------------------------------------ sound coded anew


def heard(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        resampler = av.AudioResampler("fltp", "stereo", RATE)
        return np.concatenate([one.to_ndarray()[0] for frame in file.decode(audio=0) for one in resampler.resample(frame)])


@pytest.mark.parametrize(("codec", "rate"), [("flac", 192_000), ("pcm_s16le", 37_800), ("pcm_f32le", RATE)])
def test_aac_takes_any_rate_and_tracks_that_name_no_layout(tmp_path: Path, codec: str, rate: int) -> None:
    source, said = film(tmp_path / "in.mkv", codec, rate=rate), list[str]()
    write(read(source), tmp_path / "out.mp4", encoding=Encoding(audio="aac", preset="ultrafast"), warn=said.append)
    assert [f"{rate} Hz" in message for message in said] == [True] * (rate != RATE)
    before, after = heard(source), heard(tmp_path / "out.mp4")
    length = min(len(before), len(after)) - 2048
    assert np.corrcoef(before[1024:length], after[1024:length])[0, 1] > 0.99  # a sine: any shift would show


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "mp2", "ac3", "eac3", "flac"])
@pytest.mark.parametrize("damage", ["zeros", "ones", "noise"])
def test_damaged_packets_cost_nothing_but_themselves(tmp_path: Path, codec: str, damage: str) -> None:
    """Noise may even claim another rate and number of channels."""
    source = film(tmp_path / "whole.mkv", codec, seconds=1)
    data = bytearray(source.read_bytes())
    sound = packets(source)[0][5][1]
    place = data.index(sound)
    filled = {"zeros": bytes(len(sound)), "ones": b"\xff" * len(sound), "noise": np.random.default_rng(1).bytes(len(sound))}
    data[place : place + len(sound)] = filled[damage]
    (tmp_path / "in.mkv").write_bytes(data)
    write(read(tmp_path / "in.mkv"), tmp_path / "out.mp4", encoding=Encoding(audio="aac", preset="ultrafast"))
    before, after = heard(source), heard(tmp_path / "out.mp4")
    assert len(after) > 0.85 * len(before)
    assert np.corrcoef(before[:3072], after[:3072])[0, 1] > 0.99


def test_damage_is_said(tmp_path: Path) -> None:
    source = film(tmp_path / "whole.mkv", "aac", seconds=1)
    data = bytearray(source.read_bytes())
    sound = packets(source)[0][30][1]  # beyond what is rehearsed
    place = data.index(sound)
    data[place : place + len(sound)] = b"\xff" * len(sound)
    (tmp_path / "in.mkv").write_bytes(data)
    said: list[str] = []
    encoding = Encoding(audio="aac", preset="ultrafast")
    write(read(tmp_path / "in.mkv"), tmp_path / "out.mp4", encoding=encoding, warn=said.append)
    assert said == ["Sound track 1 has damaged packets. They are left out."]


def test_a_track_that_fails_late_costs_no_frames(tmp_path: Path) -> None:
    """Time stamps that go backwards beyond the rehearsal: the muxer stops, and says what to do with what is finished."""

    source, room, seen = film(tmp_path / "in.mkv", "mp2"), tmp_path / "room", list[int]()
    clip = read(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowpaint.video.copied.Copied._demuxed", backwards)
        with pytest.raises(WorkError, match=r"Track 1 \(mp2\) cannot be written .*--audio none; what is finished"):
            write(counted(clip, seen), tmp_path / "out.mp4", encoding=Encoding(preset="ultrafast"), segments=room)
    assert sorted(set(seen)) == list(range(12)) and not (tmp_path / "out.mp4").exists()
    seen.clear()
    write(counted(clip, seen), tmp_path / "out.mp4", encoding=Encoding(preset="ultrafast", audio="none"), segments=room)
    assert seen == [] and len(read(tmp_path / "out.mp4")) == 12


def backwards(self: object, origin: av.container.InputContainer) -> object:
    del self
    for number, packet in enumerate(origin.demux(audio=0)):
        if packet.size:
            packet.pts = packet.dts = packet.dts if number < 8 else 0
            yield packet
