"""The editor over OpenAI's interface: what is sent, what comes back, and what becomes of every bad answer.

The key must be nowhere but in the header of a request to the server that it belongs to.
"""

import base64
import json
import logging
import pickle
import time
import traceback

import numpy as np
import pytest
import torch

import edit_servers
from edit_servers import OpenAi, encoded, painted
from flowpaint import seams
from flowpaint.errors import ConfigError, InputError, WorkError
from flowpaint.parts.editors import wire as wires
from flowpaint.parts.editors.openai import OpenAiEditor
from flowpaint.parts.editors.wire import Wire
from flowpaint.types import Clip, Edit, from_raw, to_raw
from flowpaint.weights import Policy
from flowpaint.weights.policy import Ledger, keeping

KEY = "sk-test/5e%cret+KEY<&>"
OTHER = "https://edits.example.org/v1"


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """No key but what a test sets, and no waiting: the seconds that would have been waited."""
    for name in ("FLOWPAINT_EDIT_KEY", "FLOWPAINT_EDIT_URL", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    waited = []
    monkeypatch.setattr(wires, "pause", waited.append)
    return waited


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("FLOWPAINT_EDIT_KEY", KEY)
    return KEY


@pytest.fixture
def server():
    with OpenAi() as one:
        yield one


def photo(height=24, width=40):
    rng = np.random.default_rng(5)
    return from_raw(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))


def edit(server, image=None, wish=None, **fields):
    fields = {"url": server.url, "retries": 0, "timeout": 5.0, "model": "stand-in", **fields}
    image = photo() if image is None else image
    return OpenAiEditor(**fields)(image, wish or Edit(prompt="a bronze statue"), torch.Generator().manual_seed(3))


def mask_clip(mask):
    return Clip.from_array(mask[None].repeat(1, 3, 1, 1).float())


def block(height=24, width=40):
    mask = torch.zeros(1, height, width)
    mask[:, 4:12, 10:30] = 1
    return mask


def failure(server, **fields):
    """The error and all that a traceback of it says."""
    with pytest.raises((WorkError, ConfigError, InputError)) as raised:
        edit(server, **fields)
    return raised.value, "".join(traceback.format_exception(raised.value))


# ------------------------------------------------------------------------------------------------------------ good answers


def test_sends_picture_words_and_size_and_takes_the_answer(server, key):
    image = photo()
    made = edit(server, image, Edit(prompt="a bronze statue, große Füße"))
    (got,) = server.of("/images/edits")
    sent = to_raw(image)
    assert torch.equal(made, from_raw(painted(sent)))
    assert got.headers["Authorization"] == f"Bearer {KEY}"
    wanted = {
        "prompt": "a bronze statue, große Füße",
        "model": "stand-in",
        "n": "1",
        "size": "40x24",
        "response_format": "b64_json",
    }
    assert got.fields == wanted
    assert [name for name, _, _ in got.files] == ["image"] and np.array_equal(got.pictures("image")[0], sent)


def test_the_mask_is_transparent_where_to_edit(server):
    image, mask = photo(), block()
    made = edit(server, image, Edit(prompt="a statue", mask=mask_clip(mask)))
    (sent,) = server.got[0].pictures("mask")
    assert np.array_equal(sent[..., 3] == 0, mask[0].numpy() == 1) and set(np.unique(sent[..., 3])) == {0, 255}
    assert np.array_equal(sent[..., :3], to_raw(image))
    assert torch.equal(made, torch.where(mask == 1, from_raw(painted(to_raw(image))), image))


def test_a_feather_is_painted_and_the_noise_of_a_mask_is_not(server):
    mask = torch.full((1, 24, 40), 3 / 255)
    mask[:, :, 20:] = 0.3
    edit(server, wish=Edit(prompt="a statue", mask=mask_clip(mask)))
    alpha = server.got[0].pictures("mask")[0][..., 3]
    assert (alpha[:, :20] == 255).all() and (alpha[:, 20:] == 0).all()


def test_without_a_mask_none_is_sent_and_without_a_key_none(server):
    edit(server)
    assert not server.got[0].pictures("mask") and "Authorization" not in server.got[0].headers


def test_a_mask_must_be_of_one_frame_of_this_size(server):
    clip = Clip.from_array(torch.zeros(2, 3, 24, 40))
    with pytest.raises(InputError, match="2 frames"):
        edit(server, wish=Edit(prompt="a statue", mask=clip))
    with pytest.raises(InputError, match="20 x 24"):
        edit(server, wish=Edit(prompt="a statue", mask=mask_clip(torch.zeros(1, 24, 20))))
    assert not server.got


def test_the_edit_of_a_frame_has_the_mask_of_that_frame():
    clip = Clip.from_array(torch.stack([torch.full((3, 4, 4), value) for value in (0.0, 1.0, 0.0)]))
    assert [float(Edit(mask=clip).at(index).mask.frame(0).mean()) for index in range(3)] == [0, 1, 0]
    assert len(Edit(mask=clip).at(2).mask) == 1 and Edit(mask=clip[[1]]).at(7).mask.frame(0).mean() == 1


def test_a_reference_is_the_second_picture(server):
    reference = photo(10, 12)
    edit(server, wish=Edit(prompt="this toy", reference=reference, mask=mask_clip(block())))
    first, second = server.got[0].pictures("image[]")
    assert np.array_equal(first, to_raw(photo())) and np.array_equal(second, to_raw(reference))
    assert [name for name, _, _ in server.got[0].files] == ["image[]", "image[]", "mask"]


def test_a_picture_by_address_is_fetched_from_the_same_server(key):
    with OpenAi(by_url=True) as server:
        made = edit(server, response_format="url")
    asked, fetched = server.got
    assert asked.fields["response_format"] == "url" and fetched.path == "/files/0.png" and fetched.query == {"sig": ["1"]}
    assert fetched.headers["Authorization"] == f"Bearer {KEY}"
    assert torch.equal(made, from_raw(painted(to_raw(photo()))))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_takes_the_usual_formats(form):
    image = torch.linspace(0, 1, 40).expand(3, 24, 40).contiguous()
    with OpenAi(form=form) as server:
        assert (edit(server, image) - (1 - image)).abs().max() < 0.02


def test_a_coded_picture_may_have_line_breaks_and_a_prefix(server):
    coded = base64.encodebytes(encoded(painted(to_raw(photo())))).decode()
    server.say((200, {"data": [{"b64_json": "data:image/png;base64," + coded}]}))
    assert torch.equal(edit(server), from_raw(painted(to_raw(photo()))))


@pytest.mark.parametrize("model", ["gpt-image-1", "chatgpt-image-latest"])
def test_models_that_refuse_the_field_are_not_asked_for_a_format(server, model):
    edit(server, model=model)
    assert "response_format" not in server.got[0].fields


def test_strength_zero_calls_nobody(server):
    image = photo()
    assert edit(server, image, Edit(strength=0.0)) is image and not server.got


def test_strength_mixes_with_the_source(server):
    image = photo()
    half = edit(server, image, Edit(prompt="a statue", strength=0.5))
    assert torch.allclose(half, torch.full_like(half, 0.5), atol=1e-5)  # of a picture and its negative


def test_a_seed_is_sent_where_it_is_asked_for(server):
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        OpenAiEditor(url=server.url, send_seed=True)(photo(), Edit(prompt="a statue"), generator)
    first, again, other = (one.fields["seed"] for one in server.got)
    assert first == again != other and 0 <= int(first) < 2**31


# ------------------------------------------------------------------------------------------------------------------- sizes


def test_a_picture_goes_into_the_middle_of_a_size_and_comes_back_in_place(server):
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(1)), (32, 64))[0]
    mask = torch.zeros(1, 32, 64)
    mask[:, 8:24, 16:40] = 1
    made = edit(server, image, Edit(prompt="a statue", mask=mask_clip(mask)), size="128x128")
    (got,) = server.got
    sent, hole = got.pictures("image")[0], got.pictures("mask")[0][..., 3] == 0
    assert got.fields["size"] == "128x128" and sent.shape == (128, 128, 3)
    assert (sent[:32] == sent[32:33]).all() and (sent[96:] == sent[95:96]).all()  # its own edge around it
    inside = np.zeros((128, 128), bool)
    inside[32 + 16 : 32 + 48, 32:80] = True
    assert (hole == inside).mean() > 0.99 and not hole[:32].any() and not hole[96:].any()
    wanted = torch.where(mask == 1, 1 - image, image)
    assert made.shape == image.shape and (made - wanted).abs().mean() < 0.03


@pytest.mark.parametrize("size", [(80, 48), (20, 12), (41, 24)])
def test_an_answer_of_another_size_is_brought_to_the_frame(size):
    image = torch.linspace(0, 1, 40).expand(3, 24, 40).contiguous()
    with OpenAi(size=size) as server:
        made = edit(server, image)
    assert made.shape == (3, 24, 40) and (made - (1 - image)).abs().max() < 0.06


@pytest.mark.parametrize("height, width", [(24, 40), (40, 24)])
def test_a_larger_answer_to_a_letterboxed_picture_is_cut_in_proportion(height, width):
    down, along = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    image = torch.stack([down.expand(height, width), along.expand(height, width), (down * along)])
    with OpenAi(size=(240, 320)) as server:
        made = edit(server, image, size="120x160")
    assert server.got[0].fields["size"] == "120x160" and server.got[0].pictures("image")[0].shape == (160, 120, 3)
    assert (made - (1 - image)).abs().max() < 0.06


def test_an_answer_of_another_aspect_is_refused():
    with OpenAi(size=(48, 48)) as server:
        error, _ = failure(server)
    assert isinstance(error, InputError) and "48 x 48" in str(error) and "40 x 24" in str(error)


# ---------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Edit(), "Give a prompt"),
        (Edit(prompt="  "), "Give a prompt"),
        (Edit(prompt="a", remove=True), "removal"),
        (Edit(prompt="a", sketch=torch.zeros(3, 4, 4)), "sketch"),
    ],
)
def test_what_the_interface_has_no_field_for_is_refused(server, wish, words):
    with pytest.raises(InputError, match=words):
        edit(server, wish=wish)
    assert not server.got


def test_words_against_are_told_of(server):
    said = []
    with keeping(Policy(), Ledger(said.append)):
        edit(server, wish=Edit(prompt="a statue", negative="blurry"))
    assert len(said) == 1 and "--negative" in said[0] and "blurry" not in server.got[0].fields.values()


@pytest.mark.parametrize(
    "fields", [{"size": "big"}, {"size": "0x10"}, {"timeout": 0.0}, {"timeout": float("nan")}, {"retries": -1}]
)
def test_fields_that_cannot_be_kept(fields):
    with pytest.raises(ConfigError):
        OpenAiEditor(**fields)


@pytest.mark.parametrize(
    "url",
    [
        f"https://{'x'}:{'hidden'}@host/v1",
        "https://host/v1?api-key=hidden",
        "https://host/v1#hidden",
        "ftp://host/v1",
        "host/v1",
        "http://",
        "http://host:99999/v1",
        "http://127.0.0.1\\@hidden.org/",
        "http://host/v1\nHost: x",
    ],
)
def test_urls_that_are_none_are_refused_and_not_shown_where_a_key_may_be_in_them(url):
    with pytest.raises(ConfigError, match="no plain address") as raised:
        OpenAiEditor(url=url)
    assert "hidden" not in str(raised.value)


def test_the_url_comes_from_the_environment_where_the_field_is_empty(server, monkeypatch):
    with pytest.raises(ConfigError, match="FLOWPAINT_EDIT_URL"):
        OpenAiEditor().check()
    monkeypatch.setenv("FLOWPAINT_EDIT_URL", server.url + "/")
    OpenAiEditor().check()
    edit(server, url="")
    assert len(server.of("/images/edits")) == 1


def test_offline_allows_this_machine_alone(server):
    with keeping(Policy(offline=True)):
        edit(server)
        assert len(server.got) == 1
        with pytest.raises(ConfigError, match="--offline"):
            edit(server, url=OTHER)


# ----------------------------------------------------------------------------------------------------------------- the key


def wire(url, **fields):
    return Wire(url=url, timeout=1.0, retries=0, **fields)


@pytest.mark.parametrize("url", ["http://edits.example.org/v1", "http://10.0.0.5/v1", "http://127.0.0.1.example.org"])
def test_a_key_never_goes_over_the_network_in_plain_text(url, key):
    with pytest.raises(ConfigError, match="plain text") as raised:
        wire(url).get("/anything")
    assert KEY not in str(raised.value)


def test_a_key_may_go_in_plain_text_to_this_machine(key):
    for url in ("http://127.0.0.1:8188", "http://localhost:8188", "http://[::1]:8188", "http://127.9.9.9"):
        wire(url).check()
    wire("https://edits.example.org").check()


@pytest.mark.parametrize(
    ("url", "belongs"),
    [
        ("https://api.openai.com/v1", True),
        ("https://api.openai.com:443/v1", True),
        ("http://api.openai.com/v1", False),
        ("https://api.openai.com:8443/v1", False),
        ("https://api.openai.com.example.org/v1", False),
        (OTHER, False),
        ("http://127.0.0.1:1/v1", False),
    ],
)
def test_openai_s_key_is_for_openai_alone(url, belongs, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
    assert wire(url)._key() == ("sk-theirs" if belongs else "")
    monkeypatch.setenv("FLOWPAINT_EDIT_KEY", "ours")
    assert wire(url)._key() == "ours"


def test_a_key_with_a_line_break_is_refused_without_showing_it(server, monkeypatch):
    monkeypatch.setenv("FLOWPAINT_EDIT_KEY", "sk-hidden\r\nX-Other: 1")
    error, told = failure(server)
    assert isinstance(error, ConfigError) and "hidden" not in told and not server.got


def test_the_key_is_in_nothing_that_is_kept(server, key, caplog):
    caplog.set_level(logging.DEBUG)
    editor = OpenAiEditor(url=server.url)
    edit(server)
    kept = (repr(editor), json.dumps(seams.to_dict(editor)), repr(pickle.dumps(editor)), caplog.text, repr(wire(server.url)))
    assert all(KEY not in one for one in kept) and caplog.records


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 429, 500, 503])
def test_an_answer_that_echoes_the_key_is_shown_without_it(server, key, status):
    import html
    from urllib.parse import quote

    forms = [KEY, quote(KEY), quote(KEY, safe=""), html.escape(KEY), KEY.upper(), base64.b64encode(KEY.encode()).decode()]
    page = f"<html>\x1b[31m got {' and '.join(forms)}" + " blah" * 100
    server.say((status, page))
    error, told = failure(server)
    assert "***" in str(error) and str(status) in str(error) and "\x1b" not in str(error)
    assert not any(form in told or form in repr(error.__dict__) for form in forms)


def test_a_key_at_the_end_of_what_is_shown_is_not_shown_in_part(server, key):
    server.say((400, "x" * 190 + " " + KEY))
    _, told = failure(server)
    assert KEY[:5] not in told


def test_no_redirect_is_followed_and_the_key_does_not_arrive_there(server, key):
    with OpenAi() as there:
        for status in (301, 302, 303, 307, 308):
            server.say((status, "", {"Location": there.url + "/images/edits"}))
            error, _ = failure(server)
            assert isinstance(error, WorkError) and f"{status}" in str(error) and "redirect to '127.0.0.1'" in str(error)
        assert not there.got
    server.say((302, "", {"Location": "http://[::1"}))
    assert "redirect" in str(failure(server)[0])


def test_the_body_of_a_redirect_is_not_read_without_end(server, monkeypatch):
    def endless(handler, got):
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1/")
        handler.end_headers()
        handler.close_connection = True
        while not server.stopped.is_set():
            handler.wfile.write(b" " * 2**16)

    monkeypatch.setattr(wires, "_MOST_BYTES", 2**20)
    server.say(endless)
    assert "more than 1 MB" in str(failure(server)[0])


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{other}/files/0.png",
        "http://localhost:{port}/files/0.png",
        "https://127.0.0.1:{port}/files/0.png",
        "http://127.0.0.1:{other}\\@127.0.0.1:{port}/files/0.png",
        "http://x@127.0.0.1:{port}/files/0.png",
        "//127.0.0.1:{other}/files/0.png",
        "file:///etc/passwd",
        "http://[::1",
    ],
)
def test_a_picture_on_another_server_is_not_fetched(server, key, address):
    with OpenAi() as there:
        server.say((200, {"data": [{"url": address.format(port=server.port, other=there.port)}]}))
        error, _ = failure(server)
        assert "another server" in str(error) and "response_format" in str(error)
        assert not there.got and len(server.got) == 1


def test_no_proxy_and_no_netrc_stand_between_this_machine_and_itself(server, key, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with OpenAi() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        edit(server)
        assert not proxy.got and server.got[0].headers["Authorization"] == f"Bearer {KEY}"


# ------------------------------------------------------------------------------------------------------------- bad answers


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_says_which_to_set(server, status, monkeypatch):
    server.say((status, {"error": {"message": "Incorrect API key"}}), (status, "no"))
    error, _ = failure(server, retries=3)
    assert isinstance(error, ConfigError) and "none is set" in str(error) and "FLOWPAINT_EDIT_KEY" in str(error)
    monkeypatch.setenv("FLOWPAINT_EDIT_KEY", "wrong")
    error, _ = failure(server, retries=3)
    assert "refused the key: set FLOWPAINT_EDIT_KEY" in str(error) and len(server.got) == 2


@pytest.mark.parametrize("status", [400, 404, 413, 422, 501])
def test_what_does_not_pass_is_not_tried_again(server, waits, status):
    server.say((status, {"error": {"message": "Invalid size 'x'"}}))
    error, _ = failure(server, retries=3)
    assert isinstance(error, WorkError) and f"{status}, \"Invalid size 'x'\"" in str(error) and "repeat the command" in str(error)
    assert len(server.got) == 1 and not waits


def test_what_passes_is_tried_again_with_longer_waits(server, waits):
    server.say(*[(status, "busy") for status in (500, 502, 503, 504)])
    edit(server, retries=4)
    assert len(server.got) == 5 and waits == [1, 2, 4, 8]
    assert all(one.files == server.got[0].files for one in server.got)


def test_after_the_last_try_the_status_and_the_tries_are_told(server, waits):
    server.say(*[(429, {"error": {"message": "slow down"}})] * 3)
    error, _ = failure(server, retries=2)
    assert isinstance(error, WorkError) and "429 (too many requests), 'slow down' in 3 tries" in str(error)
    assert "repeat the command" in str(error) and waits == [1, 2]


def test_the_server_says_how_long_to_wait(server, waits):
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    said = ["7", "100000", "nonsense", "0", "-3", soon, "nan", "Thu, 01 Jan 1970 00:00:00 GMT"]
    server.say(*[(429, "", {"Retry-After": one}) for one in said])
    edit(server, retries=8)
    assert [round(one) for one in waits[:5]] == [7, 60, 4, 8, 16] and 27 <= waits[5] <= 32 and waits[6:] == [60, 60]


def test_lost_connections_are_tried_again(server, waits):
    server.say(server.cut, server.cut_at_once)
    edit(server, retries=2)
    assert len(server.got) == 3 and waits == [1, 2]
    server.say(server.cut)
    assert "cut the connection" in str(failure(server)[0])


def test_nobody_there(waits):
    with OpenAi() as gone:
        pass
    error, _ = failure(gone, retries=1)
    assert "could not be reached in 2 tries" in str(error) and waits == [1]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hang", "trickle"])
def test_a_server_that_does_not_finish_is_not_waited_for(server, how):
    server.say(getattr(server, how))
    spent = edit_servers.seconds(lambda: failure(server, timeout=0.3))
    assert 0.25 < spent < 1.5
    server.say(getattr(server, how))
    assert "0.3 s" in str(failure(server, timeout=0.3)[0])


def test_an_endless_answer_is_cut_off(server, monkeypatch, waits):
    monkeypatch.setattr(wires, "_MOST_BYTES", 2**20)
    server.say(server.endless)
    error, _ = failure(server, retries=3)
    assert isinstance(error, WorkError) and "more than 1 MB" in str(error) and not waits


def test_the_limit_of_an_answer_is_64_mb():
    assert wires._MOST_BYTES == 64 * 2**20 and wires._MOST_PIXELS == 2**26


def huge_png():
    """The header of a picture of 2^26 and some pixels, without them."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 8193, 8192, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def coded(content):
    return {"data": [{"b64_json": base64.b64encode(content).decode()}]}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("<html>Welcome", "no JSON, which begins '<html>Welcome'"),
        ("", "no JSON"),
        ('{"data": [', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ({}, "no picture in data"),
        ({"data": []}, "no picture in data"),
        ({"data": [None]}, "no picture in data"),
        ({"data": [{"b64_json": None}]}, "no picture in data"),
        ([1, 2], "no picture in data"),
        ({"data": [{"b64_json": "@@notbase64aa@@+"}]}, "broken base64"),
        ({"data": [{"b64_json": "abc"}]}, "broken base64"),
        (coded(b""), "no picture that can be read"),
        (coded(encoded(to_raw(photo()), "GIF")), "no picture that can be read"),
        (coded(encoded(to_raw(torch.rand(3, 24, 40)))[:900]), "no picture that can be read"),
        (coded(huge_png()), "8193 x 8192 pixels"),
    ],
    ids=range(15),
)
def test_garbage_is_told_with_the_status_its_beginning_and_what_to_do(server, waits, answer, words):
    server.say((200, answer))
    error, _ = failure(server, retries=3)
    assert type(error) is WorkError and words in str(error) and "200" in str(error) and "repeat the command" in str(error)
    assert len(str(error)) < 600 and len(server.got) == 1 and not waits


def test_it_is_a_part_that_works_in_a_method(server, key, tmp_path):
    import flowpaint

    clip = Clip.from_array(np.stack([to_raw(photo(32, 48))] * 3))
    settings = ["editor=openai", f"editor.url={server.url}", "editor.model=stand-in"]
    result = flowpaint.edit(clip, "a bronze statue", method="frame-by-frame", settings=settings)
    result.save(tmp_path / "out.mkv", overwrite=True)
    assert [one.fields["prompt"] for one in server.got] == ["a bronze statue"] * len(server.got) and len(server.got) >= 3
    written = [one for one in tmp_path.rglob("*") if one.is_file()]
    assert written and all(KEY.encode() not in one.read_bytes() for one in written)
    assert server.url in (tmp_path / "out.json").read_text() and KEY not in json.dumps(result.report)
