"""The OpenAPI document against the server: schemathesis sends what it allows and what it forbids, and checks every answer."""

import itertools

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema

from rest_parts import a_picture, a_video, ask, client, upload

TOKEN = "alice-has-this"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
MANY = dict.fromkeys(("requests_a_minute", "uploads_a_minute", "logins_a_minute", "jobs_queued", "streams"), 10**9)
# What a document cannot say: whether a file is a video, a word a look, a token ours. 401, 404, 409 and 429 are expected anyway.
JUDGED = "^/v1/(jobs|plans|assets)|^/login"
ACCEPTED = ["2xx", "303", "401", "403", "404", "409", "415", "422", "429"]


@pytest.fixture
def on(tmp_path):
    made = client(tmp_path, tokens=(TOKEN,), limits=MANY)
    made.headers.update(HEADERS)
    made.video, made.picture = upload(made, a_video(tmp_path)), upload(made, a_picture(tmp_path))
    made.job = ask(made, made.video)
    made.delete(f"/v1/jobs/{made.job['id']}")  # so that its events end
    return made


def findings(on, *, phases, examples):
    """What schemathesis finds: (operation, check, message), and how many requests it sent."""
    told = {"positive_data_acceptance": {"expected-statuses": ACCEPTED}}
    config = {
        "headers": HEADERS,
        "generation": {"max-examples": examples, "deterministic": True, "database": "none", "no-shrink": True},
        "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
        "continue-on-failure": True,
        "operations": [{"include-path-regex": JUDGED, "checks": told}],
    }
    schema = schemathesis.openapi.from_asgi("/openapi.json", on.app, config=SchemathesisConfig.from_dict(config), headers=HEADERS)
    turn = itertools.count()

    @schema.hook
    def map_path_parameters(context, value):
        """Every other request asks for something that is there."""
        if value and "key" in value and next(turn) % 2:
            value["key"] = on.video["id"] if "assets" in context.operation.path else on.job["id"]
            value |= {"number": value["number"] % 6} if isinstance(value.get("number"), int) else {}
        return value

    @schema.hook
    def map_body(context, value):
        """Every other job is one of things that are there, and half of these have a look."""
        if isinstance(value, dict) and "input" in value and next(turn) % 2:
            named = [
                field for field in ("input", "style", "by", "mask", "reference", "depth") if isinstance(value.get(field), str)
            ]
            value |= {field: on.video["id"] if field in ("input", "by", "depth") else on.picture["id"] for field in named}
            value |= {"prompt": "van gogh"} if next(turn) % 2 else {}
        return value

    found, sent = [], 0
    for event in from_schema(schema).execute():
        assert type(event).__name__ not in ("FatalError", "NonFatalError"), (event, getattr(event, "info", None))
        for checks in getattr(getattr(event, "recorder", None), "checks", {}).values() if hasattr(event, "elapsed_time") else ():
            sent += 1
            found += [(event.label, one.name, str(one.failure_info.failure)) for one in checks if one.failure_info is not None]
    return found, sent


@pytest.mark.slow
def test_schemathesis_finds_nothing(on):
    found, sent = findings(on, phases=("examples", "coverage", "fuzzing", "stateful"), examples=60)
    assert found == [] and sent > 1000


def test_every_route_is_in_the_document_with_its_problems(on):
    said = on.get("/openapi.json").json()
    for path, operations in said["paths"].items():
        for method, operation in operations.items():
            answers = operation["responses"]
            assert {"401", "403", "429", "500"} <= answers.keys(), (method, path)
            for status, one in answers.items():
                if int(status) >= 400:
                    schema = one["content"]["application/problem+json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Problem"}, (method, path, status)
    assert {"/v1/jobs", "/v1/jobs/{key}/events", "/v1/assets/{key}/frames/{number}", "/metrics"} <= said["paths"].keys()
    assert on.get("/v1/nothing", headers=HEADERS).headers.get("allow") is None
    assert on.put("/v1/jobs", headers=HEADERS).headers["allow"] == "GET, POST"
    assert on.put(f"/v1/jobs/{on.job['id']}", headers=HEADERS).headers["allow"] == "DELETE, GET"
