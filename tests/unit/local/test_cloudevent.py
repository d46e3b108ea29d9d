import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.cloudevent import Event, InvalidEventError, parse

BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/tenants/t",
    "ce-type": "some.type.v1",
    "ce-tenantid": "t",
    "content-type": "application/json",
}
STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


def structured(**attributes: object) -> bytes:
    return json.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "some.type.v1", **attributes}).encode()


def test_binary_mode_passes_data_on_byte_by_byte() -> None:
    body = b'{ "a":1.0,\n"b": 2 }'
    event = parse(BINARY, body)
    assert event.data == body
    assert event.headers() == BINARY


@pytest.mark.parametrize(
    ("attributes", "content_type", "data"),
    [
        ({"data": {"a": 1}}, "application/json", b'{"a": 1}'),
        ({"data": "123", "datacontenttype": "text/plain"}, "text/plain", b"123"),
        ({"data": "text", "datacontenttype": "application/json"}, "application/json", b'"text"'),
        ({"data_base64": base64.b64encode(b"\x00\xff").decode(), "datacontenttype": "a/b"}, "a/b", b"\x00\xff"),
        ({}, "application/json", b""),
    ],
)
def test_structured_mode_leaves_in_binary_mode(attributes: dict[str, object], content_type: str, data: bytes) -> None:
    event = parse(STRUCTURED, structured(tenantid="t", **attributes))
    assert (event.content_type, event.data) == (content_type, data)
    assert event.headers()["ce-tenantid"] == "t"
    assert event.headers()["content-type"] == content_type


@given(st.text(min_size=1).filter(lambda text: text.strip() and text.isprintable()))
def test_any_text_survives_as_an_attribute(text: str) -> None:
    event = parse(STRUCTURED, structured(subject=text))
    header = event.headers()["ce-subject"]
    assert header.isascii()
    assert " " not in header
    assert parse(event.headers(), b"").attributes["subject"] == text


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, b""),
        ({"content-type": "application/json"}, b"{}"),
        ({name: value for name, value in BINARY.items() if name != "ce-id"}, b"{}"),
        ({**BINARY, "ce-type": ""}, b"{}"),
        (STRUCTURED, b"{"),
        (STRUCTURED, b"[]"),
        (STRUCTURED, b"\xff\xfe"),
        (STRUCTURED, b'{"id":"1"}'),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
    ],
)
def test_what_is_no_event_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(InvalidEventError):
        parse(headers, body)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        ({}, True),
        ({"type": "some.type.v1"}, True),
        ({"type": "some.type.v1", "tenantid": "other"}, False),
        ({"tier": "heavy"}, False),
        ({"tenantid": ""}, True),
        ({"tier": ""}, False),
    ],
)
def test_filter_compares_attributes_exactly(wanted: dict[str, str], *, matches: bool) -> None:
    assert parse(BINARY, b"{}").matches(wanted) is matches


def test_ping_is_a_complete_event_with_an_id_of_its_own() -> None:
    one, two = (Event.ping(source="/s", content_type="application/json", data="{}") for _ in range(2))
    assert one.id != two.id
    read = parse(one.headers(), one.data)
    assert (read.type, read.attributes["source"]) == ("dev.knative.sources.ping", "/s")


@pytest.mark.parametrize(
    ("content_type", "data", "member"),
    [
        ("application/json", b'{"a": [1]}', {"data": {"a": [1]}}),
        ("application/cloudevents+json", b"null", {"data": None}),
        (None, b"7", {"data": 7}),
        ("text/plain", b"\xff", {"data_base64": "/w=="}),
        ("application/json", b"", {}),
    ],
)
def test_an_event_as_one_object_is_the_same_event(
    content_type: str | None, data: bytes, member: dict[str, object]
) -> None:
    required = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    event = Event({**required, "time": "2026-01-02T00:00:00Z", "size": "large"}, content_type, data)
    told = json.loads(event.structured())
    assert {name: told[name] for name in told if name.startswith("data") and name != "datacontenttype"} == member
    read = parse({"content-type": "application/cloudevents+json"}, event.structured())
    assert {**read.attributes, "datacontenttype": None} == {**event.attributes, "datacontenttype": None}


def test_data_that_are_not_of_their_type_make_no_object() -> None:
    event = Event({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}, "application/json", b"{")
    with pytest.raises(ValueError, match="Expecting"):
        event.structured()
