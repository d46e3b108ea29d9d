"""What the turns and readers of one process share: one writer and one reader of streams, in which nobody hurts another."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis

from infra.local.redis import EmbeddedRedis
from shared import stream_reader
from shared.stream_reader import EntriesLostError, StoredEvent, StreamReader, StreamUnreadableError, read
from shared.streams import BEGINNING, TurnWriter, drain, key

PATIENCE_SECONDS = 30
POLL_SECONDS = 0.005
SILENCE_SECONDS = 0.02


@pytest.fixture
async def redis(redis_server: EmbeddedRedis) -> AsyncIterator[Redis]:
    """A client of its own, as a process has one, of an empty server."""
    client = Redis.from_url(redis_server.url, decode_responses=True)
    await client.flushall()
    yield client
    await client.aclose()
    # Connections end in the loop's next rounds.
    await asyncio.sleep(0.01)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens wait until something urgent is written."""
    monkeypatch.setattr("shared.streams.COALESCE_SECONDS", 3600)


def writer(redis: Redis, turn: str, attempt: int = 1) -> TurnWriter:
    return TurnWriter(redis, turn, attempt, 600)


async def entries(redis: Redis, turn: str) -> list[tuple[str, str, Any]]:
    found: Any = await redis.xrange(key(turn))
    return [(id_, fields["event"], json.loads(fields["data"])) for id_, fields in found]


async def calls(redis: Redis, command: str) -> int:
    """Return how often Redis has run a command."""
    stats: Any = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def soon(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    for _ in range(int(PATIENCE_SECONDS / POLL_SECONDS)):
        if await true():
            return
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError


async def blocked(redis: Redis) -> None:
    """Wait until Redis holds back the answer to a reader."""

    async def holds() -> bool:
        return bool((await redis.info("clients"))["blocked_clients"])

    await soon(holds)


async def heard(redis: Redis, turn: str, after: str = BEGINNING) -> list[StoredEvent]:
    """Read a stream to its end."""
    told: list[StoredEvent] = []
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(read(redis, turn, after, SILENCE_SECONDS)) as reading:
        async for events in reading:
            told += events
    return told


async def anext_of(reading: AsyncGenerator[list[StoredEvent], None]) -> list[StoredEvent]:
    return await anext(reading)


def ids(events: list[StoredEvent]) -> list[str]:
    return [event.id for event in events]


def numbered(count: int) -> list[str]:
    return [f"1-{number}" for number in range(count)]


async def write_all(writing: TurnWriter, count: int) -> None:
    """Write a whole stream of `count` entries."""
    for number in range(count - 1):
        await writing.write("turn.delta", {"text": f"{number} "})
    await writing.write("turn.completed", {})


@pytest.mark.usefixtures("patient")
async def test_what_many_turns_write_at_the_same_time_is_sent_in_one_command(redis: Redis) -> None:
    writers = [writer(redis, f"turn-{number}") for number in range(50)]
    before = await calls(redis, "eval")
    await asyncio.gather(*(one.write("turn.started", {}) for one in writers))
    for token in ("a", "b", "c"):
        for one in writers:
            one.token(token)
    await asyncio.gather(*(one.write("turn.completed", {}) for one in writers))
    assert await calls(redis, "eval") - before <= 3
    for number in range(50):
        assert [(id_, data.get("text")) for id_, _, data in await entries(redis, f"turn-{number}")] == [
            ("1-0", None),
            ("1-1", "a"),
            ("1-2", "bc"),
            ("1-3", None),
        ]


async def test_tokens_that_wait_are_sent_when_their_time_has_come(redis: Redis) -> None:
    one = writer(redis, "turn")
    for token in ("a", "b", "c"):
        one.token(token)

    async def written() -> bool:
        return len(await entries(redis, "turn")) == 2

    await soon(written)
    assert [data["text"] for _, _, data in await entries(redis, "turn")] == ["a", "bc"]


@pytest.mark.usefixtures("patient")
async def test_a_writer_that_fails_does_not_touch_those_that_are_sent_with_it(redis: Redis) -> None:
    old, lost, well = writer(redis, "restarted"), writer(redis, "lost"), writer(redis, "well")
    await asyncio.gather(*(one.write("turn.started", {}) for one in (old, lost, well)))
    await writer(redis, "restarted", attempt=2).write("turn.restarted", {})
    await redis.delete(key("lost"))
    ttl = await redis.ttl(key("restarted"))
    await asyncio.gather(*(one.write("turn.completed", {}) for one in (old, lost, well)))
    assert [one.broken for one in (old, lost, well)] == [True, True, False]
    assert [id_ for id_, _, _ in await entries(redis, "restarted")] == ["1-0", "2-0"]
    assert await redis.ttl(key("restarted")) > ttl - 600, "a dead writer's end does not shorten the life of the stream"
    assert not await redis.exists(key("lost"))
    assert [id_ for id_, _, _ in await entries(redis, "well")] == ["1-0", "1-1"]
    for one in (old, lost, well):
        await one.write("turn.delta", {"text": "more"})
    assert [id_ for id_, _, _ in await entries(redis, "restarted")] == ["1-0", "2-0"]
    assert [id_ for id_, _, _ in await entries(redis, "well")] == ["1-0", "1-1", "1-2"]


@pytest.mark.usefixtures("patient")
async def test_what_is_cancelled_while_it_writes_has_written_it_once_and_in_order(redis: Redis) -> None:
    one = writer(redis, "turn")
    await one.write("turn.started", {})
    one.token("a")
    one.token("b")
    writing = asyncio.create_task(one.write("turn.citations", {}))
    await asyncio.sleep(0)
    writing.cancel()
    await one.write("turn.stopped", {})
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    assert writing.cancelled()
    assert [(id_, event) for id_, event, _ in await entries(redis, "turn")] == [
        ("1-0", "turn.started"),
        ("1-1", "turn.delta"),
        ("1-2", "turn.delta"),
        ("1-3", "turn.citations"),
        ("1-4", "turn.stopped"),
    ]


async def test_a_redis_that_hangs_costs_a_turn_a_moment_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.streams.PATIENCE_SECONDS", 0.05)

    async def hang(_: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        connections.append(far)

    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    hanging = Redis(port=server.sockets[0].getsockname()[1])
    ones = [writer(hanging, f"turn-{number}") for number in range(3)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(one.write("turn.started", {}) for one in ones))
        for one in ones:
            one.token("a")
            await one.write("turn.completed", {})
    assert [one.broken for one in ones] == [True] * 3
    await hanging.aclose()
    server.close()
    for connection in connections:
        connection.close()
    await asyncio.sleep(0.01)


async def test_readers_of_one_turn_each_hear_what_follows_their_own_position(redis: Redis) -> None:
    one = writer(redis, "turn")
    for number in range(10):
        await one.write("turn.delta", {"text": f"{number}"})
    reading = [asyncio.create_task(heard(redis, "turn", f"1-{number}")) for number in range(10)]
    reading.append(asyncio.create_task(heard(redis, "turn")))
    await asyncio.sleep(SILENCE_SECONDS)
    for number in range(10, 20):
        await one.write("turn.delta", {"text": f"{number}"})
    reading.append(asyncio.create_task(heard(redis, "turn", "1-15")))
    await one.write("turn.completed", {})
    told = await asyncio.gather(*reading)
    whole = numbered(21)
    assert [ids(events) for events in told] == [*(whole[number + 1 :] for number in range(10)), whole, whole[16:]]
    assert await heard(redis, "turn", "1-20") == [], "nothing follows the end"


async def test_many_readers_of_many_turns_hold_one_connection_and_none_is_late(
    redis: Redis, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "BLOCK_SECONDS", 3600)
    process = Redis.from_url(redis_server.url, decode_responses=True, client_name="process")
    turns = [f"turn-{number}" for number in range(30)]
    reading = [asyncio.create_task(heard(process, turn)) for turn in turns for _ in range(3)]
    await blocked(redis)
    # Readers that come while Redis holds an answer back are heard all the same.
    late = [asyncio.create_task(heard(process, "late")) for _ in range(3)]
    await write_all(writer(redis, "late"), 20)
    assert {tuple(ids(events)) for events in await asyncio.gather(*late)} == {tuple(numbered(20))}
    held: Any = await redis.client_list()
    assert len([one for one in held if one["name"] == "process"]) <= 2
    await asyncio.gather(*(write_all(writer(redis, turn), 20) for turn in turns))
    assert {tuple(ids(events)) for events in await asyncio.gather(*reading)} == {tuple(numbered(20))}
    await process.aclose()


async def test_when_nobody_reads_nothing_runs(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_reader, "BLOCK_SECONDS", 0.05)
    async with aclosing(read(redis, "turn", BEGINNING, SILENCE_SECONDS)) as reading:
        assert await anext(reading) == []
    others = asyncio.all_tasks() - {asyncio.current_task()}
    _, running = await asyncio.wait(others, timeout=PATIENCE_SECONDS) if others else (None, None)
    assert not running
    before = await calls(redis, "xread")
    await asyncio.sleep(0.1)
    assert await calls(redis, "xread") == before
    assert (await redis.info("clients"))["blocked_clients"] == 0
    # The next reader is heard again.
    await write_all(writer(redis, "turn"), 3)
    assert ids(await heard(redis, "turn")) == numbered(3)


async def test_a_reader_that_does_not_read_keeps_little_waiting_and_misses_nothing(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "MAX_WAITING", 10)
    monkeypatch.setattr(stream_reader, "PAGE", 10)
    slow, lost = (read(redis, "turn", BEGINNING, SILENCE_SECONDS) for _ in range(2))
    writing = writer(redis, "turn")
    await writing.write("turn.delta", {"text": ""})
    assert ids(await anext(slow)) == ids(await anext(lost)) == ["1-0"]
    quick = asyncio.create_task(heard(redis, "turn"))
    # These are carried along until they are behind, and nobody else notices.
    waiting = [asyncio.create_task(anext_of(reader)) for reader in (slow, lost)]
    await write_all(writing, 200)
    assert ids(await quick) == numbered(201)
    began = [ids(await one) for one in waiting]
    told = began[0]
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for events in slow:
            assert len(events) <= 20
            told += ids(events)
    assert told == numbered(201)[1:]
    # What is trimmed now was not kept for the other one either.
    await redis.xtrim(key("turn"), maxlen=1, approximate=False)
    kept = began[1]

    async def read_on() -> None:
        async for events in lost:
            kept.extend(ids(events))

    with pytest.raises(EntriesLostError):
        await read_on()
    assert kept == numbered(201)[1 : len(kept) + 1]
    assert len(kept) <= 30


async def test_a_stream_that_lost_entries_between_two_readings_is_not_told_as_whole(redis: Redis) -> None:
    one = writer(redis, "turn")
    for number in range(5):
        await one.write("turn.delta", {"text": f"{number}"})
    ahead = read(redis, "turn", BEGINNING, SILENCE_SECONDS)
    assert ids(await anext(ahead)) == numbered(5)
    await redis.delete(key("turn"))
    with pytest.raises(EntriesLostError):
        await heard(redis, "turn", "1-2")
    assert await anext(ahead) == [], "who has heard all that there was waits for more"
    await ahead.aclose()


async def test_a_page_that_is_loaded_again_hears_all_from_the_beginning(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_late(*_: object) -> None:
        return

    monkeypatch.setattr(StreamReader, "_unblock", too_late)
    one = writer(redis, "turn")
    await one.write("turn.started", {})
    await one.write("turn.delta", {"text": "a"})
    async with aclosing(read(redis, "turn", BEGINNING, 3600)) as left:
        assert ids(await anext(left)) == numbered(2)
        waiting = asyncio.create_task(anext_of(left))

        await blocked(redis)
        waiting.cancel()
        await asyncio.wait({waiting})
    # The command that was sent for the reader who left is still open, and is answered first.
    again = asyncio.create_task(heard(redis, "turn"))
    await asyncio.sleep(0)
    await one.write("turn.delta", {"text": "b"})
    await one.write("turn.completed", {})
    assert ids(await again) == numbered(4)


async def test_a_redis_that_dies_is_told_to_every_reader(redis: Redis) -> None:
    reading = [asyncio.create_task(heard(redis, f"turn-{number}")) for number in range(5)]

    await blocked(redis)
    redis.connection_pool.connection_kwargs["port"] = 1
    await redis.connection_pool.disconnect()
    for outcome in await asyncio.gather(*reading, return_exceptions=True):
        assert isinstance(outcome, StreamUnreadableError), outcome


async def test_an_event_reads_the_same_parsed_and_encoded(redis: Redis) -> None:
    one = writer(redis, "turn")
    text = 'line\nbreak\r and \u2028, "quotes", ünïcödé 🙂'
    one.token(text)
    await one.write("turn.completed", {"text": text})
    told = await heard(redis, "turn")
    assert [event.data["text"] for event in told] == [text, text]
    for event in told:
        fields = dict(line.split(": ", 1) for line in event.encode().decode().strip().split("\n"))
        assert fields == {"id": event.id, "event": event.event, "data": event.json}
        assert json.loads(fields["data"]) == event.data


@pytest.mark.usefixtures("patient")
async def test_what_is_written_after_a_drain_that_met_a_write_is_sent(redis: Redis) -> None:
    stream = writer(redis, "drained")
    writing = stream.put("turn.started", {})
    # It is being sent.
    await asyncio.sleep(0)
    await drain(redis)
    assert writing.done()
    await stream.write("turn.completed", {})
    assert [event for _, event, _ in await entries(redis, "drained")] == ["turn.started", "turn.completed"]
