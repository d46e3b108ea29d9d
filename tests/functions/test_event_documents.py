"""What is emitted, streamed and said over sockets is what docs/asyncapi.json says of it."""

from typing import Any

import aiohttp

from functions.relay.posting import attributes
from shared.events import EVENT_TYPES
from tests.api_docs.documents import messages, wrong
from tests.documents import PDF, pdf
from tests.functions.asgi import Event, events
from tests.functions.platform import CONSUMERS, Platform
from tests.functions.talk import Talk, carried, serving
from tests.functions.test_buckets import assign, record
from tests.functions.test_spending import QUESTION, set_limit, user_id
from tests.functions.upstream import Upstream, chunk, status, stream, text

LOCKED = pdf([[(12, "Secret plan")]], password="secret")


async def emitted(platform: Platform) -> list[dict[str, Any]]:
    """Carry events to their consumers until none leads to another; return them all."""
    found: list[dict[str, Any]] = []
    while claimed := platform.claim():
        found += claimed
        for event in claimed:
            # Objects of buckets are not fetched here.
            if event["type"] in CONSUMERS and "object" not in event["data"]:
                assert (await platform.post(event)).status == 200
        with platform.database.connect("relay") as relay:
            relay.call("events.acknowledge", p_seqs=[event["seq"] for event in claimed])
    return found


async def test_every_event_that_is_emitted_is_as_its_message_says(platform: Platform, upstream: Upstream) -> None:
    assert upstream
    assert (await assign(platform, "company", "")).status == 200
    noticed = await platform.call("ingestion", "POST", "/buckets/notifications", {"Records": [record("a.md")]})
    assert noticed.json() == {"accepted": 1}
    document = (await platform.upload("a.md", b"Lunch is at noon.")).json()["id"]
    await platform.upload("locked.pdf", LOCKED, PDF)
    accepted = await platform.call("chat", "POST", "/chat", QUESTION | {"stream": False})
    room = accepted.json()["reserved_tokens"] + 10
    limit = {"scope": "user", "holder_id": await user_id(platform, "ann"), "period": "day", "tokens": room}
    assert (await set_limit(platform, "tenant_admin", **limit)).status == 200
    assert (await platform.call("chat", "POST", "/chat", QUESTION)).code() == "budget_exceeded"
    found = await emitted(platform)
    assert (await platform.call("ingestion", "DELETE", f"/documents/{document}")).status == 204
    found += await emitted(platform)
    assert {event["type"] for event in found} == EVENT_TYPES
    for event in found:
        message = messages("events")[event["type"]]
        assert wrong(attributes(event, {}), message["headers"]) == [], event
        assert wrong(event["data"], message["payload"]) == [], event


def assert_documented(channel: str, told: list[Event]) -> None:
    for event in told:
        assert wrong(event.data, messages(channel)[event.name]["payload"]) == [], event


async def test_what_a_turns_stream_tells_is_as_its_messages_say(platform: Platform, upstream: Upstream) -> None:
    await platform.store("a.md", "Lunch is at noon.")
    thought = chunk({"choices": [{"index": 0, "delta": {"reasoning_content": "Food."}}]})
    upstream.chat = stream(thought, *text("Lunch is at ", "noon [1]."))
    told = events((await platform.ask("When is lunch?")).body)
    # What has been lost of a stream is told from the database.
    told += await platform.follow(told[0].data["turn_id"], "1-9999")
    upstream.chat = status(500)
    told += events((await platform.ask("When is lunch?")).body)
    assert_documented("turnStream", told)
    assert {event.name for event in told} == set(messages("turnStream")) - {"turn.tool_calls", "turn.stopped"}


async def test_what_progress_tells_is_as_its_messages_say(platform: Platform) -> None:
    document = await platform.store("a.md", "Lunch is at noon.")
    for path, channel in (
        (f"/documents/{document['id']}/progress", "documentProgress"),
        ("/progress", "collectionProgress"),
        ("/progress?collection=default", "collectionProgress"),
    ):
        told = events((await platform.call("ingestion", "GET", path)).body)
        assert [event.name for event in told] == ["progress", "end"]
        assert_documented(channel, told)


async def test_what_a_socket_says_is_as_its_messages_say(platform: Platform) -> None:
    async with (
        serving(platform.serve("chat")) as server,
        aiohttp.ClientSession() as session,
        carried(platform),
        Talk(session, f"{server.url}/ws", platform.bearer()) as talk,
    ):
        heard = [await talk.opened()]
        await talk.say("ask", ref="q1", message="What is the limit?")
        heard += await talk.hear_all(lambda frame: frame.get("event") == "turn.completed")
        turn = heard[-1]["turn_id"]
        for kind, members in (("stop", {"turn_id": turn}), ("leave", {"turn_id": turn}), ("ping", {}), ("ask", {})):
            await talk.say(kind, ref="q2", **members)
            heard.append(await talk.hear())
    assert {frame["type"] for frame in heard} == {"authenticated", "event", "stopped", "left", "pong", "problem"}
    for frame in heard:
        assert wrong(frame, messages("turnSocket")[frame["type"]]["payload"]) == [], frame
    assert_documented("turnStream", [Event(f["event"], f["data"], f["id"]) for f in heard if f["type"] == "event"])
