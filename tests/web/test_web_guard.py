"""Who may ask, from where, how often and how much: hosts, origins, tokens, cookies, owners, rates, sizes, headers."""

import asyncio
import base64
import errno
import hashlib
import json
import re

import pytest

from flowpaint.errors import ConfigError, LicenceError, ResourceError, VideoError, WeightsError, WorkError
from flowpaint.web import sessions
from flowpaint.web.settings import Limits, Settings, is_loopback
from rest_parts import HOME, Direct, a_video, ask, client, is_problem, upload

TOKENS = ("alice-has-this", "bob-has-another")
ALICE, BOB = ({"authorization": f"Bearer {one}"} for one in TOKENS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return a_video(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def on(tmp_path):
    return client(tmp_path)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A server that tests share which leave nothing in it."""
    return client(tmp_path_factory.mktemp("here"))


def outside(folder):
    return client(folder, base="http://studio.example:7860", host="0.0.0.0", tokens=TOKENS)


@pytest.fixture
def exposed(tmp_path):
    return outside(tmp_path)


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """A server with tokens that tests share which leave nothing in it."""
    return outside(tmp_path_factory.mktemp("gate"))


# -------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1", "LOCALHOST"])
def test_loopback_needs_no_token(tmp_path, host):
    assert is_loopback(host)
    assert Settings(data=tmp_path, host=host).owner("") == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.example", "localhost.example", "127.0.0.1.example", ""])
def test_whatever_others_can_reach_needs_a_token(tmp_path, host):
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="--token"):
        Settings(data=tmp_path, host=host)
    assert Settings(data=tmp_path, host=host, tokens=TOKENS)


@pytest.mark.parametrize("token", ["", "short", "with a space", "sn\u00f6wflakes", "new\nlines\n"])
def test_a_token_cannot_be_guessed_and_fits_a_header(tmp_path, token):
    with pytest.raises(ConfigError, match="token"):
        Settings(data=tmp_path, tokens=(token,))


def test_settings_do_not_show_their_tokens(tmp_path):
    assert TOKENS[0] not in repr(Settings(data=tmp_path, tokens=TOKENS))


def test_limits_by_name():
    assert Limits.of({"frames": 9.0, "seconds": 2.5}) == Limits(frames=9, seconds=2.5)
    with pytest.raises(ConfigError, match="'pixels'"):
        Limits.of({"pixel": 3})
    with pytest.raises(ConfigError, match="above zero"):
        Limits.of({"frames": 0.5})


# ---------------------------------------------------------------------------------------------------------- host, origin


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "[::1]:7860", "me.localhost:1"])
def test_loopback_names_are_let_in(here, host):
    assert here.get("/v1/looks", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "10.0.0.1", "", "evil.example@127.0.0.1:1"]
)
def test_a_name_that_was_pointed_here_is_not(here, host):
    """DNS rebinding: a page of another site, whose name now means this machine."""
    assert is_problem(here.get("/v1/looks", headers={"host": host}), 403, "not this machine's own")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": HOME, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    "method, path", [("POST", "/v1/jobs"), ("DELETE", "/v1/jobs/a"), ("POST", "/v1/assets"), ("POST", "/logout")]
)
def test_another_site_changes_nothing(here, headers, method, path):
    assert is_problem(here.request(method, path, headers=headers), 403, "another site")


@pytest.mark.parametrize(
    "headers", [{}, {"origin": HOME}, {"origin": HOME, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}]
)
def test_our_page_and_programs_may(here, headers):
    assert here.request("DELETE", "/v1/jobs/a", headers=headers).status_code == 404


def test_no_other_site_reads_an_answer(here):
    answer = here.get("/v1/looks", headers={"origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert (
        here.options("/v1/jobs", headers={"origin": "http://evil.example", "access-control-request-method": "POST"}).status_code
        == 405
    )


@pytest.mark.parametrize("path", ["/healthz", "/v1/looks", "/v1/nothing", "/openapi.json", "/login", "/metrics"])
def test_every_answer_says_what_it_may_not_be_used_for(here, path):
    headers = here.get(path).headers
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"] and "unsafe" not in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert (headers.get("cache-control") == "no-store") == path.startswith("/v1/")


# --------------------------------------------------------------------------------------------------------- tokens, owners


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong-token"},
        {"authorization": "Bearer "},
        {"authorization": "Basic alice-has-this"},
        {"authorization": "alice-has-this"},
        {"authorization": "Bearer alice-has-thi"},
        {"authorization": "Bearer alice-has-this2"},
        {"cookie": "flowpaint_session_7860=1.abc"},
        {"cookie": "flowpaint_session_7860=alice-has-this"},
        {"cookie": "x" * 100},
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/looks", "/openapi.json", "/metrics", "/anything"])
def test_without_a_token_there_is_nothing(gate, headers, path):
    answer = gate.get(path, headers=headers)
    assert is_problem(answer, 401, "/login") and answer.headers["www-authenticate"] == "Bearer"


def test_with_one_there_is(gate):
    assert gate.get("/v1/jobs", headers=ALICE).status_code == 200
    assert gate.get("/v1/jobs", headers={"authorization": f"bearer  {TOKENS[1]}"}).status_code == 200
    assert gate.get("/healthz").status_code == gate.get("/readyz").status_code == 200


def test_two_owners_do_not_meet(exposed, clip):
    asset = upload(exposed, clip, headers=ALICE)
    job = exposed.post("/v1/jobs", json={"input": asset["id"], "prompt": "mosaic"}, headers=ALICE).json()
    paths = [f"/v1/assets/{asset['id']}{end}" for end in ("", "/content", "/frames/0", "/shots")]
    paths += [f"/v1/jobs/{job['id']}{end}" for end in ("", "/events", "/artifacts/video")]
    for path in paths:
        assert is_problem(exposed.get(path, headers=BOB), 404)
    assert is_problem(exposed.delete(f"/v1/jobs/{job['id']}", headers=BOB), 404)
    assert is_problem(exposed.delete(f"/v1/assets/{asset['id']}", headers=BOB), 404)
    assert is_problem(exposed.post(f"/v1/jobs/{job['id']}/approve", json={}, headers=BOB), 404)
    assert is_problem(exposed.post("/v1/jobs", json={"input": asset["id"], "prompt": "mosaic"}, headers=BOB), 404)
    assert is_problem(exposed.post("/v1/plans", json={"input": asset["id"], "prompt": "mosaic"}, headers=BOB), 404)
    assert exposed.get("/v1/jobs", headers=BOB).json() == {"jobs": []}
    assert exposed.get("/v1/assets", headers=BOB).json() == {"assets": []}
    assert exposed.get(f"/v1/jobs/{job['id']}", headers=ALICE).json()["state"] == "queued"


# --------------------------------------------------------------------------------------------------------------- cookies


def test_a_browser_logs_in_and_out(exposed):
    home = "http://studio.example:7860"
    led = exposed.get("/", headers={"accept": "text/html"}, follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (303, "/login?next=/")
    form = exposed.get(led.headers["location"])
    assert 'action="/login?next=/"' in form.text and "<script" not in form.text and "http" not in form.text
    answer = exposed.post("/login?next=/jobs", data={"token": TOKENS[0]}, headers={"origin": home}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKENS[0] not in cookie
    assert exposed.get("/v1/jobs").status_code == 200
    for headers in ({"origin": home}, {"sec-fetch-site": "same-origin"}):
        assert exposed.delete("/v1/jobs/a", headers=headers).status_code == 404
    for headers in ({}, {"sec-fetch-site": "none"}, {"origin": "http://evil.example"}):
        assert exposed.delete("/v1/jobs/a", headers=headers).status_code == 403
    assert exposed.delete("/v1/jobs/a", headers=ALICE).status_code == 404  # a token is never sent unasked
    assert exposed.get("/v1/jobs", headers={"authorization": "Bearer wrong-token"}).status_code == 401
    assert exposed.post("/logout", headers={"origin": home}).status_code == 204
    assert exposed.get("/v1/jobs").status_code == 401


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_where_the_page_came_by_tls_the_cookie_goes_by_no_other_way(gate, scheme):
    headers = {"origin": f"{scheme}://studio.example:7860"}  # as a browser says it to a web server before this one
    answer = gate.post("/login", data={"token": TOKENS[0]}, headers=headers, follow_redirects=False)
    assert answer.status_code == 303 and ("Secure" in answer.headers["set-cookie"]) == (scheme == "https")
    gate.cookies.clear()


def test_a_program_may_log_in_too(exposed):
    assert is_problem(exposed.post("/login", json={"token": "wrong-token"}), 401)
    assert is_problem(exposed.post("/login", json={"tokn": TOKENS[0]}), 422)
    assert is_problem(exposed.post("/login", content=b"x", headers={"content-type": "text/plain"}), 415)
    assert exposed.post("/login", json={"token": TOKENS[0]}).status_code == 204
    assert exposed.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize("path", ["//evil.example", "http://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb", ""])
def test_a_login_leads_nowhere_else(exposed, path):
    answer = exposed.post("/login", params={"next": path}, data={"token": TOKENS[0]}, follow_redirects=False)
    assert answer.headers["location"] == "/"
    assert 'action="/login?next=/"' in exposed.get("/login", params={"next": path}).text


def test_a_form_shows_what_is_next_as_text(gate):
    assert "<b>" not in gate.get("/login", params={"next": '/"><b>'}).text


def test_the_form_has_its_style_and_no_script(gate):
    answer = gate.get("/login")
    style = re.search("<style>(.*)</style>", answer.text, re.DOTALL)[1]
    mark = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"style-src 'sha256-{mark}';" in policy and "form-action 'self'" in policy and "script-src" not in policy
    assert " style=" not in answer.text and " on" not in re.sub("<style>.*</style>", "", answer.text, flags=re.DOTALL)
    other = gate.get("/none.js", headers=ALICE).headers["content-security-policy"]
    assert "script-src 'self';" in other and "unsafe" not in other


def test_other_cookies_may_be_odd(gate):
    made = sessions.session_for(TOKENS[0])
    for before in ("a b=1; ", 'x={"a": [1, 2]}; ', "caf\u00e9=1; ", "; ;=; ", "a@b=(c); ", "half; "):
        cookie = f"{before}flowpaint_session_7860={made}; more=1".encode()
        assert gate.get("/v1/jobs", headers={b"cookie": cookie}).status_code == 200, before


def test_a_session_is_of_one_port(tmp_path):
    ports = [client(tmp_path / str(port), tokens=TOKENS[:1], port=port) for port in (1, 2)]
    names = [one.post("/login", json={"token": TOKENS[0]}).headers["set-cookie"].partition("=")[0] for one in ports]
    assert names == ["flowpaint_session_1", "flowpaint_session_2"]
    both = {"cookie": f"{names[0]}={ports[0].cookies[names[0]]}; {names[1]}=1.abc"}
    for one in ports:
        one.cookies.clear()
    assert [one.get("/v1/jobs", headers=both).status_code for one in ports] == [200, 401]


def test_a_session_ends(tmp_path):
    settings = Settings(data=tmp_path, tokens=TOKENS)
    made = sessions.session_for(TOKENS[1], now=1000)
    assert sessions.token_of(made, settings, now=1000 + sessions.LASTS) == TOKENS[1]
    assert sessions.token_of(made, settings, now=1001 + sessions.LASTS) is None
    begun, _, signature = made.partition(".")
    assert sessions.token_of(f"{int(begun) + 5}.{signature}", settings, now=1001) is None
    assert sessions.token_of(made, Settings(data=tmp_path, tokens=TOKENS[:1]), now=1001) is None
    for other in ("", ".", "x.y", f"{begun}.", f"{begun}.\udcff", f".{signature}"):
        assert sessions.token_of(other, settings, now=1001) is None


# ---------------------------------------------------------------------------------------------------------- rates, sizes


def test_too_many_requests(tmp_path):
    on = client(tmp_path, limits={"requests_a_minute": 3})
    answers = [on.get("/v1/looks") for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert is_problem(answers[3], 429, "3 requests") and 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert on.get("/healthz").status_code == 200  # whoever watches the server is no guest


def test_each_owner_has_a_rate(tmp_path):
    on = client(tmp_path, tokens=TOKENS, limits={"requests_a_minute": 1})
    assert [on.get("/v1/looks", headers=one).status_code for one in (ALICE, ALICE, BOB)] == [200, 429, 200]


def test_a_minute_later_it_goes_on(tmp_path, monkeypatch):
    on = client(tmp_path, limits={"requests_a_minute": 1})
    now = [1000.0]
    monkeypatch.setattr("flowpaint.web.guard.time.time", lambda: now[0])
    assert [on.get("/v1/looks").status_code for _ in range(2)] == [200, 429]
    now[0] += 60
    assert on.get("/v1/looks").status_code == 200


def test_too_many_logins_and_uploads(tmp_path, clip):
    on = client(tmp_path, tokens=TOKENS, limits={"logins_a_minute": 2, "uploads_a_minute": 1})
    assert [on.post("/login", json={"token": "wrong-token"}).status_code for _ in range(3)] == [401, 401, 429]
    upload(on, clip, headers=ALICE)
    sent = {"files": {"file": ("a.mp4", b"x")}, "headers": ALICE}
    assert is_problem(on.post("/v1/assets", **sent), 429, "1 uploads")


def test_too_many_jobs_wait(tmp_path, clip):
    on = client(tmp_path, limits={"jobs_queued": 1})
    asset = upload(on, clip)
    job = ask(on, asset)
    answer = on.post("/v1/jobs", json={"input": asset["id"], "prompt": "mosaic"})
    assert is_problem(answer, 429, "1 jobs") and answer.headers["retry-after"]
    on.delete(f"/v1/jobs/{job['id']}")
    ask(on, asset)


def test_too_many_streams(tmp_path, clip):
    on = client(tmp_path, limits={"streams": 1})
    job = ask(on, upload(on, clip))
    with on.service.streaming(""):
        assert is_problem(on.get(f"/v1/jobs/{job['id']}/events"), 429, "1 streams")
    on.delete(f"/v1/jobs/{job['id']}")
    assert on.get(f"/v1/jobs/{job['id']}/events").status_code == 200


def test_a_body_that_is_too_large(tmp_path):
    on = client(tmp_path, limits={"body_bytes": 1000})
    said = {"content-type": "application/json"}
    assert is_problem(on.post("/v1/jobs", content=b" " * 1001, headers=said), 413, "1,000 bytes")
    assert is_problem(on.post("/v1/jobs", content=iter([b" " * 600] * 2), headers=said), 413)
    assert is_problem(on.post("/login", content=iter([b" " * 600] * 2), headers=said), 413)
    assert is_problem(on.post("/v1/jobs", content=b" " * 1000, headers=said), 422)


class Endless:
    """A request whose body never ends, and what was answered to it; it counts what was read of it."""

    def __init__(self, on, headers, chunk, first=b""):
        self.app, self.sent, self.chunk, self.first = on.app, [], chunk, first
        self.read = 0
        encoded = [(name.encode(), value.encode()) for name, value in {"host": "127.0.0.1", **headers}.items()]
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/assets", "raw_path": b"/v1/assets", "query_string": b"", "headers": encoded,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip

    async def receive(self):
        body = self.first if self.read == 0 else self.chunk
        self.read += len(body)
        assert self.read < 10_000_000, "nobody stopped reading"
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(self, message):
        self.sent.append(message)

    def answered(self):
        asyncio.run(self.app(self.scope, self.receive, self.send))
        body = b"".join(one.get("body", b"") for one in self.sent)
        return self.sent[0]["status"], json.loads(body)


FORM = {"content-type": "multipart/form-data; boundary=cut"}
HEAD = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'


def test_an_endless_upload_is_cut_off_while_it_comes(tmp_path):
    on = client(tmp_path, limits={"upload_bytes": 3_000_000})
    endless = Endless(on, FORM, b"x" * 65536, first=HEAD)
    status, body = endless.answered()
    assert status == 413 and "3,000,000" in body["detail"]
    assert 3_000_000 < endless.read < 3_000_000 + 2 * 65536
    assert list((on.service.store.folder / "incoming").iterdir()) == []


def test_endless_headers_and_texts_are_too(tmp_path):
    on = client(tmp_path, limits={"body_bytes": 100_000})
    endless = Endless(on, FORM, b"x" * 65536, first=b"--cut\r\nContent-Disposition: ")
    assert endless.answered()[0] == 400 and endless.read < 1_000_000
    endless = Endless(on, FORM, b"x" * 65536, first=b'--cut\r\nContent-Disposition: form-data; name="job"\r\n\r\n')
    assert endless.answered()[0] == 413 and endless.read < 1_000_000
    endless = Endless(
        on, FORM, b'\r\n--cut\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n', first=b"--cut--"[:5] + b"\r\n"
    )
    assert endless.answered()[0] in (400, 413)


def test_what_is_said_to_be_too_large_is_not_read(tmp_path):
    on = client(tmp_path, limits={"upload_bytes": 3_000_000, "body_bytes": 10})
    endless = Endless(on, {**FORM, "content-length": "3000011"}, b"x", first=HEAD)
    assert endless.answered()[0] == 413 and endless.read == 0


@pytest.mark.parametrize(
    "body, status, word",
    [
        (HEAD + b"x", 400, "before it was complete"),
        (b"nonsense", 400, "cannot be read"),
        (b"--cut\r\nContent-Disposition: form-data\r\n\r\nx\r\n--cut--\r\n", 400, "without a name"),
        (HEAD + b"x\r\n" + HEAD + b"x\r\n--cut--\r\n", 400, "two called 'file'"),
        (b'--cut\r\nContent-Disposition: form-data; name="job"\r\n\r\n\xff\r\n--cut--\r\n', 400, "no UTF-8"),
        (b'--cut\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nx\r\n--cut--\r\n', 422, "`file`"),
        (b"--cut--\r\n", 422, "`file`"),
        (HEAD + b"\r\n--cut--\r\n", 422, "empty"),
    ],
)  # fmt: skip
def test_forms_that_cannot_be_read(here, body, status, word):
    answer = here.post("/v1/assets", content=body, headers=FORM)
    assert is_problem(answer, status, word, code=4 if word == "empty" else 2)
    assert list((here.service.store.folder / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data", "multipart/mixed; boundary=cut", "", "multipart/form-data; boundary="]
)
def test_uploads_that_are_no_forms(here, kind):
    assert is_problem(here.post("/v1/assets", content=b"x", headers={"content-type": kind}), 415, "multipart/form-data")


def test_a_boundary_may_fall_anywhere(on, clip):
    body = HEAD + clip.read_bytes() + b"\r\n--cut--\r\n"
    answer = on.post("/v1/assets", content=(body[place : place + 7] for place in range(0, len(body), 7)), headers=FORM)
    assert answer.status_code == 201, answer.text
    assert on.get(f"/v1/assets/{answer.json()['id']}/content").content == clip.read_bytes()


# ------------------------------------------------------------------------------------------------------- what goes wrong


def test_a_quota(tmp_path, clip):
    on = client(tmp_path, limits={"quota_bytes": 200_000})
    first = upload(on, clip)
    taken = [first]
    while (answer := on.post("/v1/assets", files={"file": ("a.mp4", clip.read_bytes())})).status_code == 201:
        taken.append(answer.json())
        assert len(taken) < 100
    assert is_problem(answer, 507, "200,000 bytes", code=1)


class Failing(Direct):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def ask(self, task, **values):
        future = super().ask("looks")
        future._result, future._exception = None, self.error
        return future


@pytest.mark.parametrize(
    "error, status, code",
    [
        (VideoError("It is odd. Send another."), 422, 4),
        (ConfigError("It is odd. Send another."), 422, 2),
        (WeightsError("It is odd. Send another."), 409, 3),
        (LicenceError("It is odd. Send another."), 403, 6),
        (ResourceError("It is odd. Send another."), 500, 5),
        (WorkError("It is odd. Send another."), 500, 1),
        (WorkError("The disk is full: x. Make room."), 507, 1),
    ],
)
def test_errors_of_ours_have_their_status(tmp_path, error, status, code):
    assert is_problem(client(tmp_path, asks=Failing(error)).get("/v1/looks"), status, str(error), code=code)


@pytest.mark.parametrize(
    "error, status, code, word",
    [
        (OSError(errno.ENOSPC, "no space"), 507, 1, "disk is full"),
        (MemoryError(), 500, 5, "not enough memory"),
        (ZeroDivisionError("secret /etc"), 500, 1, "ZeroDivisionError"),
    ],
)
def test_errors_that_nobody_foresaw(tmp_path, monkeypatch, caplog, error, status, code, word):
    on = client(tmp_path)

    def fail(*_):
        raise error

    monkeypatch.setattr(on.service.store, "assets", fail)
    answer = on.get("/v1/assets")
    assert is_problem(answer, status, word, code=code) and "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("secret" in caplog.text) == isinstance(error, ZeroDivisionError)


def test_the_log_has_no_token(exposed, caplog, monkeypatch):
    caplog.set_level("DEBUG")
    exposed.get("/v1/jobs", headers=ALICE)
    exposed.post("/login", json={"token": TOKENS[0]})
    monkeypatch.setattr(exposed.service.store, "assets", lambda *_: 1 / 0)
    exposed.get("/v1/assets", headers=ALICE)
    assert "ZeroDivisionError" in caplog.text and TOKENS[0] not in caplog.text


def test_the_document_says_that_a_token_is_needed(exposed, tmp_path):
    said = exposed.get("/openapi.json", headers=ALICE).json()
    assert said["security"] == [{"token": []}] and said["paths"]["/healthz"]["get"]["security"] == []
    assert "security" not in client(tmp_path / "other").get("/openapi.json").json()
