"""What a broker has given up is a dead letter, once, with the reason; sent again, it does what it was emitted for."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.events import INGESTION_RECEIVED, INGESTION_SUBMITTED, PING
from tests.functions.asgi import Reply, call
from tests.functions.platform import Mode, Platform, binary, structured
from tests.functions.test_events import event as make_event

SUBSCRIBER = "http://ingestion-worker.enterprise-agents.svc.cluster.local"
LETTERS = (
    "SELECT id, tenant_id, type, subject, extensions, data, created_at, attempts, last_status, last_error"
    " FROM events.dead_letters"
)


def given_up(event: dict[str, Any], status: str = "422", answer: str = "no") -> dict[str, Any]:
    """Return an event as a broker hands it to the dead-letter sink."""
    told = {"knativeerrordest": SUBSCRIBER, "knativeerrorcode": status, "knativeerrordata": answer}
    return event | {"extensions": event["extensions"] | told | {"knativebrokerttl": "254"}}


async def bury(platform: Platform, event: dict[str, Any], mode: Mode = binary) -> Reply:
    headers, body = mode(event)
    return await call(platform.serve("bury"), "POST", "/", headers, body)


def letters(platform: Platform) -> list[tuple[Any, ...]]:
    with platform.database.connect() as operator:
        return operator.query(LETTERS)


@pytest.mark.parametrize("mode", [binary, structured])
async def test_an_event_that_was_given_up_is_recorded_once_and_can_be_sent_again(
    platform: Platform, mode: Mode
) -> None:
    await platform.upload("a.md", b"Lunch is at noon.")
    [received] = platform.claim()
    with platform.database.connect("relay") as relay:
        relay.call("events.acknowledge", p_seqs=[received["seq"]])
    answer = base64.b64encode(b'{"code": "internal_error"}').decode()
    for _ in range(2):
        assert (await bury(platform, given_up(received, "500", answer), mode)).status == 200
    extensions = {name: text for name, text in received["extensions"].items() if name != "tenantid"}
    assert letters(platform) == [
        (
            received["id"],
            platform.tenants[0],
            INGESTION_RECEIVED,
            received["subject"],
            extensions,
            received["data"],
            received["created_at"],
            0,
            500,
            f'{SUBSCRIBER}: {{"code": "internal_error"}}',
        )
    ]
    with platform.database.connect() as operator:
        operator.call("events.replay", p_id=received["id"])
    [again] = platform.claim()
    assert {name: again[name] for name in ("id", "source", "type", "extensions", "data")} == {
        name: received[name] for name in ("id", "source", "type", "extensions", "data")
    }
    assert (await platform.post(again)).status == 200
    assert letters(platform) == []


async def test_an_event_from_elsewhere_keeps_its_name_and_is_one_letter(platform: Platform) -> None:
    data = {"name": "note.txt", "media_type": "text/plain", "content": "Lunch is at noon."}
    first = make_event(platform, INGESTION_SUBMITTED, data, id="7", source="/mail/inbox")
    for event in (first, first, first | {"id": "8"}, first | {"source": "/mail/other"}):
        assert (await bury(platform, given_up(event))).status == 200
    found = letters(platform)
    assert len({row[0] for row in found}) == len(found) == 3
    origins = {(row[4]["originsource"], row[4]["originid"]) for row in found}
    assert origins == {("/mail/inbox", "7"), ("/mail/inbox", "8"), ("/mail/other", "7")}
    with platform.database.connect() as operator:
        assert operator.call("events.replay_all") == 3
    for event in platform.claim():
        assert (await platform.post(event)).status == 200


async def test_another_tenants_event_id_is_not_taken(platform: Platform) -> None:
    stolen = str(uuid4())
    data = {"name": "note.txt", "content": "x"}
    for source in (f"/tenants/{platform.tenants[1]}", f"/tenants/{platform.tenants[0]}"):
        assert (
            await bury(platform, given_up(make_event(platform, INGESTION_SUBMITTED, data, id=stolen, source=source)))
        ).status == 200
    ours, theirs = sorted(letters(platform), key=lambda row: row[0] != UUID(stolen))
    assert (ours[0], ours[4]) == (UUID(stolen), {})
    assert theirs[4]["originid"] == stolen
    assert {row[1] for row in (ours, theirs)} == {platform.tenants[0]}


@pytest.mark.parametrize(
    ("code", "answer", "status", "error"),
    [
        ("-1", "", None, ""),
        ("0", "", None, ""),
        ("503", "no upstream, no answer", 503, "no upstream, no answer"),
        ("422", base64.b64encode("häh".encode()[:2]).decode(), 422, "h\N{REPLACEMENT CHARACTER}"),
        ("422", base64.b64encode(b"a\0b").decode(), 422, "ab"),
        ("422", "no, " * 1000, 422, "no, " * 1000),
    ],
)
async def test_the_last_answer_is_told_as_far_as_there_was_one(
    platform: Platform, code: str, answer: str, status: int | None, error: str
) -> None:
    event = make_event(platform, INGESTION_SUBMITTED, {"name": "a"}, created_at=datetime.now(UTC) - timedelta(days=1))
    assert (await bury(platform, given_up(event, code, answer))).status == 200
    [row] = letters(platform)
    assert row[6:] == (event["created_at"], 0, status, f"{SUBSCRIBER}: {error}"[:2000])


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"extensions": {}}, "malformed_event"),
        ({"extensions": {"tenantid": "x"}}, "malformed_event"),
        ({"extensions": {"tenantid": str(uuid4())}}, "tenant_unset"),
        ({"type": "com.example.mail.v1"}, "malformed_event"),
        ({"type": PING}, "malformed_event"),
        ({"data": {"name": "a\0"}}, "invalid_request"),
    ],
)
async def test_what_cannot_be_sent_again_is_refused_for_good(
    platform: Platform, changed: dict[str, Any], code: str
) -> None:
    event = make_event(platform, INGESTION_SUBMITTED, {"name": "a"}) | changed
    reply = await bury(platform, given_up(event))
    assert (400 <= reply.status < 500, reply.code()) == (True, code)
    assert reply.status not in {404, 408, 409, 429}
    assert letters(platform) == []
