"""The documents of events and operations are those of the code, and valid by the schemas of their specifications."""

import json
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from functions.chat.frames import FRAMES
from functions.ingestion import notices
from infra.api_docs.__main__ import documents
from infra.api_docs.asyncapi import Json
from infra.api_docs.catalogue import KINDS, Wiring, emitters
from infra.api_docs.openapi import MergeError, merge
from infra.local.assembly import ROOT
from shared.events import CONSUMED, EVENT_TYPES, PUBLISHED
from tests.api_docs.documents import asyncapi, messages, openapi, wrong

SPECIFICATION = ROOT / "tests/sdk/node/node_modules/@asyncapi/specs/schemas/3.0.0.json"
SAMPLES = ROOT / "tests" / "data" / "bucket"
TURN_EVENT = re.compile(r"""f?"(turn\.(?:[a-z_]+|\{[^}]+\}))\"""")


def test_the_documents_are_what_make_api_docs_writes() -> None:
    for name, text in documents().items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name} has drifted: make api-docs"


def test_the_asyncapi_document_is_valid() -> None:
    if not SPECIFICATION.exists():
        message = "the specification's schema is not installed: make install-node-sdk"
        pytest.fail(message) if os.environ.get("REQUIRE_NODE") else pytest.skip(message)
    validator = Draft7Validator(json.loads(SPECIFICATION.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(asyncapi())] == []
    broken = deepcopy(asyncapi())
    broken["operations"]["consume.sweep"]["action"] = "take"
    assert not validator.is_valid(broken)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    for reference in references(asyncapi()):
        here: Any = asyncapi()
        for step in reference.removeprefix("#/").split("/"):
            assert step in here, reference
            here = here[step]


def references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_openapi_document_is_valid_and_names_its_operations_once() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(openapi()).iter_errors()] == []
    operations = [
        operation for item in openapi()["paths"].values() for operation in item.values() if "operationId" in operation
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) > 50
    assert all(operation["x-permission"] for operation in operations)
    problems = {
        json.dumps(operation["responses"]["default"]["content"], sort_keys=True).partition(":")[0]
        for operation in operations
    }
    assert problems == {'{"application/problem+json"', '{"application/json"'}


def test_every_type_of_event_has_its_message_emitter_and_taker() -> None:
    wiring = Wiring.read()
    assert {kind.type for kind in KINDS} == EVENT_TYPES == set(messages("events"))
    assert set(emitters()) == EVENT_TYPES, "a type that nothing emits, or one that is not in the catalogue"
    assert set(wiring.triggers) == CONSUMED == EVENT_TYPES - PUBLISHED


def examples() -> Iterator[tuple[str, str, Json, Json]]:
    for channel, told in asyncapi()["channels"].items():
        for key, message in told["messages"].items():
            for number, example in enumerate(message["examples"]):
                yield f"{channel}-{key}-{number}", channel, message, example


@pytest.mark.parametrize(
    ("channel", "message", "example"),
    [tuple(case[1:]) for case in examples()],
    ids=[case[0] for case in examples()],
)
def test_an_example_is_one(channel: str, message: Json, example: Json) -> None:
    assert wrong(example["payload"], message["payload"]) == []
    if "headers" in message:
        assert wrong(example["headers"], message["headers"]) == []
    if channel == "objectStoreNotifications":
        notices.read(example["payload"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("com.enterprise-agents.inference.requested.v1", {"job_id": "5"}),
        ("com.enterprise-agents.ingestion.received.v1", {"document_id": "7b1f0b52-6a3e-4f0e-8d0c-5a9b3c2d1e4f"}),
        ("com.enterprise-agents.ingestion.submitted.v1", {"contents": "a"}),
        ("com.enterprise-agents.budget.reached.v1", {"scope": "everybody"}),
    ],
)
def test_data_that_a_consumer_refuses_are_not_valid(name: str, value: Json) -> None:
    assert wrong(value, messages("events")[name]["payload"])


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_a_stores_sample_is_one_of_the_notifications(sample: Path) -> None:
    document = json.loads(sample.read_text(encoding="utf-8"))
    fitting = [
        name
        for name, message in messages("objectStoreNotifications").items()
        if not wrong(document, message["payload"])
    ]
    assert len(fitting) == 1


def test_every_event_that_the_code_tells_of_a_turn_is_in_the_document() -> None:
    told = set()
    for folder in ("functions", "shared"):
        for path in (ROOT / folder).rglob("*.py"):
            told |= set(TURN_EVENT.findall(path.read_text(encoding="utf-8")))
    # f"turn.{turn['status']}": completed or stopped.
    assert {name for name in told if "{" not in name} | {"turn.completed", "turn.stopped"} == set(
        messages("turnStream")
    )


def test_every_frame_of_the_socket_is_in_the_document() -> None:
    sockets = (ROOT / "functions" / "chat" / "sockets.py").read_text(encoding="utf-8")
    sent = set(re.findall(r"""(?:_send|_encoded)\("([a-z]+)\"""", sockets))
    assert {*FRAMES, *sent} == set(messages("turnSocket"))


def part(**schemas: object) -> Json:
    """Return a function's document with an operation that answers with the schema `Answer`."""
    return {
        "info": {"title": "A function"},
        "paths": {
            "/a": {
                "get": {
                    "operationId": "a_get",
                    "responses": {
                        "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}}
                    },
                }
            }
        },
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {}}},
        "security": [{"bearer": []}],
    }


def moved(document: Json, path: str) -> Json:
    return {**document, "paths": {path: document["paths"]["/a"]}}


def test_a_name_that_two_functions_mean_differently_gets_the_functions_before_it() -> None:
    inner = {"$ref": "#/components/schemas/Inner"}
    one = part(Answer=inner, Inner={"type": "string"}, Same={"type": "null"})
    other = moved(part(Answer=inner, Inner={"type": "integer"}, Same={"type": "null"}), "/b")
    merged = merge("1", {"one": one, "the-other": other})
    assert merged["components"]["schemas"] == {
        "OneAnswer": {"$ref": "#/components/schemas/OneInner"},
        "OneInner": {"type": "string"},
        "TheOtherAnswer": {"$ref": "#/components/schemas/TheOtherInner"},
        "TheOtherInner": {"type": "integer"},
        "Same": {"type": "null"},
    }
    answers = merged["paths"]["/b"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answers == {"$ref": "#/components/schemas/TheOtherAnswer"}
    assert merged["paths"]["/b"]["get"]["operationId"] == "the_other_a_get"


def test_functions_that_do_not_fit_together_are_refused() -> None:
    one = part(Answer={})
    with pytest.raises(MergeError, match="/a is served by one and by two"):
        merge("1", {"one": one, "two": one})
    other = moved(part(Answer={}), "/b")
    other["security"] = []
    with pytest.raises(MergeError, match="who is let in"):
        merge("1", {"one": one, "two": other})
    twice = part(Answer={})
    twice["paths"]["/b"] = twice["paths"]["/a"]
    with pytest.raises(MergeError, match="operationId"):
        merge("1", {"one": twice})
