"""Reading a turn's stream again: from any position, after it expired, without Redis, across attempts."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from shared import generation
from shared.follow import followed
from shared.runtime import runtime
from shared.settings import get_settings
from shared.streams import BEGINNING, TurnWriter, key
from tests.functions.asgi import Event, events, exchange
from tests.functions.platform import Platform, said
from tests.functions.upstream import Answer, Reply, Upstream, stream, text
from tests.support import Database


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look into the database soon when the stream is silent."""
    monkeypatch.setattr("shared.follow.CHECK_SECONDS", 0.05)


@pytest.fixture
async def redis(platform: Platform) -> AsyncIterator[Redis]:
    client = Redis.from_url(platform.redis_url, decode_responses=True)
    yield client
    await client.aclose()


async def answered(platform: Platform, upstream: Upstream, *tokens: str) -> list[Event]:
    """Have a question answered, in general with an event for every token; return the stream."""

    async def answer(reply: Reply, _: object) -> None:
        await reply.begin_stream()
        for token in tokens:
            await reply.tokens(token)
            await asyncio.sleep(0.025)
        for part in text()[-3:]:
            await reply.send(part)
        await reply.end_stream()

    upstream.chat = answer
    return events((await platform.ask("What is the limit?")).body)


def expire_leases(database: Database) -> None:
    with database.connect() as operator:
        operator.run(
            "UPDATE inference.jobs SET leased_until = now() - interval '1 second' WHERE leased_until IS NOT NULL"
        )


def in_two_parts(first: str, *rest: str) -> tuple[Answer, asyncio.Event, asyncio.Event]:
    """Return an answer that pauses after its first token, what tells of the pause, and what ends it."""
    paused, gate = asyncio.Event(), asyncio.Event()

    async def answer(reply: Reply, _: object) -> None:
        await reply.begin_stream()
        await reply.tokens(first)
        paused.set()
        await gate.wait()
        for part in text(*rest):
            await reply.send(part)
        await reply.end_stream()

    return answer, paused, gate


async def test_resuming_at_any_position_gives_exactly_the_rest(platform: Platform, upstream: Upstream) -> None:
    whole = await answered(platform, upstream, "One ", "two ", "three.")
    turn = whole[0].data["turn_id"]
    rest = whole[1:]
    # The first token is an event of its own; on a busy machine the others may travel together.
    assert [event.name for event in rest].count("turn.delta") >= 2
    assert await platform.follow(turn) == rest
    assert await platform.follow(turn, "0-0") == rest
    for number, event in enumerate(rest, start=1):
        assert await platform.follow(turn, event.id) == rest[number:], event


async def test_a_client_that_is_cut_off_fifty_times_while_it_reads_gets_exactly_the_text(
    platform: Platform, redis: Redis
) -> None:
    turn = await platform.begin()
    writer = TurnWriter(redis, turn, 1, 600)
    written: list[str] = []

    async def write(count: int) -> None:
        for _ in range(count):
            written.append(f"<{len(written)}>")
            await writer.write("turn.delta", {"text": written[-1]})

    dice = random.Random(50)  # noqa: S311 - it chooses where a connection is cut
    seen: list[Event] = []
    for _ in range(50):
        writing = asyncio.create_task(write(8))
        seen += await some(platform, turn, seen[-1].id if seen else None, dice.randint(0, 8))
        await writing
    await writer.write("turn.completed", {})
    seen += await platform.follow(turn, seen[-1].id)
    assert said(seen) == "".join(written)
    positions = [event.id for event in seen]
    assert positions == [f"1-{number}" for number in range(401)]
    for number in dice.sample(range(401), 50):
        assert [event.id for event in await platform.follow(turn, positions[number])] == positions[number + 1 :]


async def some(platform: Platform, turn: str, after: str | None, count: int) -> list[Event]:
    """Read some events after a position, and be cut off, perhaps within what arrived together."""
    headers = platform.bearer() | ({} if after is None else {"Last-Event-ID": after})
    received = b""
    async with exchange(platform.serve("chat"), "GET", f"/turns/{turn}/stream", headers) as reading:
        chunks = aiter(reading.chunks())
        while received.count(b"\n\n") < count and (chunk := await anext(chunks, None)) is not None:
            received += b"" if chunk.startswith(b":") else chunk
    return events(received)[:count]


async def test_several_readers_of_a_turn_have_the_same_and_one_that_does_not_read_delays_nobody(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.stream_reader.MAX_WAITING", 5)
    monkeypatch.setattr("shared.streams.COALESCE_SECONDS", 0)
    upstream.chat, _, gate = in_two_parts("One ", *(f"{number} " for number in range(50)))
    turn = await platform.begin()
    following = followed(runtime.redis(), UUID(turn), BEGINNING, lambda: platform.read(turn), heartbeat_seconds=3600)
    beginning = asyncio.create_task(anext(following))
    reading = [asyncio.create_task(platform.follow(turn)) for _ in range(5)]
    delivering = asyncio.create_task(platform.deliver())
    first = await beginning
    gate.set()
    whole, *others = await asyncio.gather(*reading)
    assert all(other == whole for other in others)
    assert [reply.status for reply in await delivering] == [200]
    rest = [event async for told in following for event in told]
    assert events(b"".join(event.encode() for event in (*first, *rest))) == whole


async def test_an_end_that_is_stored_before_it_is_written_begins_nothing_again(
    platform: Platform, upstream: Upstream, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.follow.CHECK_SECONDS", 0.5)
    looked, written = asyncio.Event(), asyncio.Event()

    async def read_turn() -> Any:
        turn = await platform.read(turn_id)
        if turn["status"] == "completed":
            looked.set()
        return turn

    async def tell_end(*arguments: Any) -> None:
        await looked.wait()
        await tell(*arguments)
        written.set()

    tell = generation._tell_end  # noqa: SLF001 - between this and what is before it nothing is waited for
    monkeypatch.setattr(generation, "_tell_end", tell_end)
    turn_id = await platform.begin()
    delivering = asyncio.create_task(platform.deliver())
    following = followed(runtime.redis(), UUID(turn_id), BEGINNING, read_turn, 3600)
    told = b"".join([event.encode() async for together in following for event in together])
    await delivering
    assert written.is_set()
    assert [event.name for event in events(told)] == ["turn.started", "turn.delta", "turn.citations", "turn.completed"]
    assert upstream.requests
    assert await redis.exists(key(turn_id))


async def test_a_pause_within_an_answer_is_filled_with_heartbeats(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_HEARTBEAT_SECONDS", "0.01")
    get_settings.cache_clear()
    upstream.chat, _, gate = in_two_parts("One ", "two.")
    turn = await platform.begin()
    delivering = asyncio.create_task(platform.deliver())
    async with exchange(platform.serve("chat"), "GET", f"/turns/{turn}/stream", platform.bearer()) as reading:
        chunks = aiter(reading.chunks())
        seen = b""
        while b"One" not in seen:
            seen += await anext(chunks)
        assert [await anext(chunks), await anext(chunks)] == [b": heartbeat\n\n"] * 2
        gate.set()
        seen += b"".join([chunk async for chunk in chunks])
    await delivering
    assert said(events(seen)) == "One two."


async def test_a_stream_that_has_expired_is_told_from_the_database(
    platform: Platform, upstream: Upstream, redis: Redis
) -> None:
    whole = await answered(platform, upstream, "One ", "two ", "three.")
    turn = whole[0].data["turn_id"]
    assert 0 < await redis.ttl(key(turn)) <= 600
    await redis.delete(key(turn))
    for after in (None, whole[2].id):
        told = await platform.follow(turn, after)
        assert [e.name for e in told] == ["turn.restarted", "turn.delta", "turn.citations", "turn.completed"]
        assert told[0].data == {"reason": "stored"}
        assert said(told) == "One two three."
        assert told[-1].data == whole[-1].data
        assert {event.id for event in told} == {None}


async def test_a_stream_that_has_lost_its_beginning_is_told_from_the_database(
    platform: Platform, upstream: Upstream, redis: Redis
) -> None:
    whole = await answered(platform, upstream, "One ", "two ", "three.")
    turn = whole[0].data["turn_id"]
    await redis.xtrim(key(turn), maxlen=3, approximate=False)
    told = await platform.follow(turn)
    assert (said(told), told[-1].name) == ("One two three.", "turn.completed")
    assert await platform.follow(turn, whole[-2].id) == whole[-1:], "this reader missed nothing"


async def test_a_failed_turn_is_told_from_the_database(platform: Platform, upstream: Upstream, redis: Redis) -> None:
    upstream.chat = stream(*text("Half")[:1], cut=True)
    whole = events((await platform.ask("What is the limit?")).body)
    turn = whole[0].data["turn_id"]
    await redis.delete(key(turn))
    told = await platform.follow(turn)
    assert [event.name for event in told] == ["turn.restarted", "turn.failed"]
    assert told[-1].data == whole[-1].data


async def test_without_redis_a_turn_completes_and_its_reader_gets_the_whole_answer(
    platform: Platform, upstream: Upstream, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{closed_port}/0")
    get_settings.cache_clear()
    told = await answered(platform, upstream, "One ", "two.")
    assert [event.name for event in told] == [
        "turn.accepted", "turn.restarted", "turn.delta", "turn.citations", "turn.completed",
    ]  # fmt: skip
    assert said(told) == "One two."
    assert told[-1].data["charged_tokens"] == 15
    assert said(await platform.follow(told[0].data["turn_id"])) == "One two."


class Tunnel:
    """A way to Redis that can be closed while it is used."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        own: int = self._server.sockets[0].getsockname()[1]
        return own

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()


async def test_a_redis_that_dies_in_mid_answer_costs_nobody_the_answer(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(platform.redis_url.rsplit(":", 1)[1].split("/")[0])
    tunnel = Tunnel(port)
    monkeypatch.setenv("REDIS_URL", platform.redis_url.replace(str(port), str(await tunnel.open())))
    get_settings.cache_clear()
    upstream.chat, _, gate = in_two_parts("One ", "two.")
    body = b'{"message": "What is the limit?"}'
    async with exchange(platform.serve("chat"), "POST", "/chat", platform.bearer(), [body]) as asking:
        chunks = aiter(asking.chunks())
        seen = await anext(chunks)
        delivering = asyncio.create_task(platform.deliver())
        while b"One" not in seen:
            seen += await anext(chunks)
        tunnel.close()
        gate.set()
        seen += b"".join([chunk async for chunk in chunks])
        assert [reply.status for reply in await delivering] == [200]
    told = events(seen)
    assert [event.name for event in told].count("turn.restarted") == 1
    assert (said(told), told[-1].name) == ("One two.", "turn.completed")


async def test_an_answer_that_is_begun_again_replaces_the_first_and_the_dead_writer_is_not_heard(
    platform: Platform, upstream: Upstream, redis: Redis
) -> None:
    turn = await platform.begin()
    with platform.database.connect("app", platform.tenants[0]) as dead:
        job = dead.value("SELECT id FROM inference.jobs")
        dead.call("inference.claim", p_job_id=job, p_worker="dead", p_lease="1 minute")
    writer = TurnWriter(redis, turn, 1, 600)
    await writer.write("turn.started", {"attempt": 1})
    writer.token("Wrong ")
    await writer.write("turn.delta", {"text": "start "})
    expire_leases(platform.database)
    assert (await platform.tick()).status == 200

    upstream.chat, second_begun, gate = in_two_parts("Right.", " Yes.")
    reading = asyncio.create_task(platform.follow(turn))
    delivering = asyncio.create_task(platform.deliver())
    await second_begun.wait()
    await writer.write("turn.delta", {"text": "NOT FOR READERS"})
    assert writer.broken
    gate.set()
    # The first event is a duplicate by now, and so is done; the sweeper's is the one that runs.
    assert {reply.status for reply in await delivering} <= {200, 409}
    told = await reading
    assert "NOT FOR READERS" not in str(told)
    assert [event.name for event in told][:5] == [
        "turn.started", "turn.delta", "turn.delta", "turn.restarted", "turn.started",
    ]  # fmt: skip
    assert said(told) == "Right. Yes."
    assert told[3].data == {"attempt": 2}
    for number, event in enumerate(told, start=1):
        assert await platform.follow(turn, event.id) == told[number:], event
    assert (await platform.read(turn))["answer"] == "Right. Yes."


async def test_a_job_that_another_worker_holds_is_in_progress(platform: Platform) -> None:
    await platform.begin()
    with platform.database.connect("app", platform.tenants[0]) as other:
        job = other.value("SELECT id FROM inference.jobs")
        other.call("inference.claim", p_job_id=job, p_worker="other", p_lease="1 minute")
    [event] = platform.claim()
    busy = await platform.post(event)
    assert (busy.status, busy.code()) == (409, "in_progress")
    expire_leases(platform.database)
    assert (await platform.post(event)).status == 200
    assert (await platform.post(event)).status == 200, "delivered again, it is done"
    assert platform.counts()["budget.ledger"] == 3 + 3, "of the question's embedding, and of the turn"


async def test_a_worker_that_lost_its_lease_writes_nothing(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_LEASE_SECONDS", "1")
    get_settings.cache_clear()
    begun = asyncio.Event()

    async def answer(reply: Reply, _: object) -> None:
        await reply.begin_stream()
        await reply.tokens("Too late")
        begun.set()
        await asyncio.Event().wait()

    upstream.chat = answer
    turn = await platform.begin()
    [event] = platform.claim()
    losing = asyncio.create_task(platform.post(event))
    await begun.wait()
    with platform.database.connect() as operator:
        operator.run("UPDATE inference.jobs SET leased_by = 'other', attempts = 2")
    assert (await losing).status == 200, "nothing is left to do for this delivery"
    with platform.database.connect() as operator:
        assert operator.query("SELECT role FROM chat.messages") == [("user",)]
        assert operator.query("SELECT status, leased_by FROM inference.jobs") == [("running", "other")]
        assert operator.value("SELECT status FROM chat.turns") == "running"
    assert (await platform.read(turn))["answer"] is None


async def test_a_redis_that_forgets_the_stream_in_mid_answer_costs_nobody_the_answer(
    platform: Platform, upstream: Upstream, redis: Redis
) -> None:
    upstream.chat, _, gate = in_two_parts("One ", "two.")
    turn = await platform.begin()
    delivering = asyncio.create_task(platform.deliver())
    async with exchange(platform.serve("chat"), "GET", f"/turns/{turn}/stream", platform.bearer()) as reading:
        chunks = aiter(reading.chunks())
        seen = await anext(chunks)
        while b"One" not in seen:
            seen += await anext(chunks)
        await redis.delete(key(turn))
        gate.set()
        seen += b"".join([chunk async for chunk in chunks])
    assert [reply.status for reply in await delivering] == [200]
    told = events(seen)
    assert (said(told), told[-1].name) == ("One two.", "turn.completed")
    assert said(await platform.follow(turn)) == "One two."


async def test_a_database_that_is_restarted_in_mid_answer_costs_nobody_the_answer(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.generation.END_RETRY_SECONDS", (0.05,) * 5)
    upstream.chat, paused, gate = in_two_parts("One ", "two.")
    turn = await platform.begin()
    delivering = asyncio.create_task(platform.deliver())
    await paused.wait()
    with platform.database.connect() as operator:
        killed = operator.query(
            "SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = 'app'"
        )
    assert killed
    gate.set()
    assert [reply.status for reply in await delivering] == [200]
    told = await platform.follow(turn)
    assert (said(told), told[-1].name) == ("One two.", "turn.completed")
    assert platform.counts()["budget.ledger"] == 3 + 3, "of the question's embedding, and of the turn"


async def test_tokens_that_arrive_together_travel_together(
    platform: Platform, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert platform
    monkeypatch.setattr("shared.streams.COALESCE_SECONDS", 3600)
    writer = TurnWriter(redis, "coalesced", 1, 600)
    await writer.write("turn.started", {})
    for token in ("a", "b", "c"):
        writer.token(token)
    await writer.write("turn.completed", {})
    entries: Any = await redis.xrange(key("coalesced"))
    assert [(id_, fields["event"], fields["data"]) for id_, fields in entries] == [
        ("1-0", "turn.started", "{}"),
        ("1-1", "turn.delta", '{"text": "a"}'),
        ("1-2", "turn.delta", '{"text": "bc"}'),
        ("1-3", "turn.completed", "{}"),
    ]
    await redis.delete(key("coalesced"))
