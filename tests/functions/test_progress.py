"""Progress as server-sent events: from one question a user and round, until all is settled, and none when nobody watches."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from functions.ingestion import progress
from functions.ingestion.progress import watching
from shared.database import Database
from shared.settings import get_settings
from tests.functions.asgi import Event, Exchange, events, exchange
from tests.functions.platform import Platform, until
from tests.functions.test_embedding import PARTS, refuses
from tests.functions.upstream import Reply, Upstream, status


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Whose questions were put to the database; rounds come quickly."""
    monkeypatch.setattr(progress, "ROUND_SECONDS", 0.02)
    asked: list[Any] = []
    call = Database.call

    async def counted(self: Database, function: str, actor: Any = None, /, **arguments: Any) -> Any:
        if function == "rag.progress":
            asked.append((actor.subject, len(arguments["p_document_ids"]), sorted(arguments["p_collections"])))
        return await call(self, function, actor, **arguments)

    monkeypatch.setattr(Database, "call", counted)
    yield asked
    assert watching._watches == {}, "nobody watches any more"  # noqa: SLF001
    assert watching._asking is None  # noqa: SLF001


async def read(stream: Exchange, into: list[Event]) -> None:
    """Read a stream to its end."""
    async for chunk in stream.chunks():
        into += events(chunk)


async def test_a_documents_progress_is_told_until_it_is_indexed(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKGROUND_WORKER_CONCURRENCY", "1")
    get_settings.cache_clear()
    healthy, second, gate, calls = upstream.embeddings, asyncio.Event(), asyncio.Event(), 0

    async def answer(reply: Reply, request: dict[str, object]) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            second.set()
            await gate.wait()
        await healthy(reply, request)

    upstream.embeddings = answer
    document = (await platform.upload("guide.md", PARTS.encode())).json()["id"]
    told: list[Event] = []
    path = f"/documents/{document}/progress"
    async with exchange(platform.serve("ingestion"), "GET", path, platform.bearer()) as stream:
        reading = asyncio.create_task(read(stream, told))
        await until(lambda: told)
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert (told[0].name, told[0].data["status"]) == ("progress", "received")
        delivering = asyncio.create_task(platform.deliver())
        await second.wait()
        await until(lambda: told[-1].data["chunks_embedded"] == 32)
        under_way = told[-1].data
        assert (under_way["status"], under_way["stage"], under_way["chunks_total"]) == ("processing", "embedding", 40)
        assert under_way["remaining_seconds"] is not None
        gate.set()
        await delivering
        await reading
    assert [event.data["status"] for event in told[:-1]][-1] == "indexed"
    assert (told[-1].name, told[-1].data) == ("end", {"reason": "settled"})
    ids = [event.id for event in told[:-1]]
    assert len(set(ids)) == len(ids), "what has not changed is not told again"
    # Whoever has seen the last state hears only that it is the last.
    again = await platform.call("ingestion", "GET", path, headers={"Last-Event-ID": str(ids[-1])})
    assert [event.name for event in events(again.body)] == ["end"]


async def test_a_collections_progress_is_told_until_nothing_in_it_waits(platform: Platform, upstream: Upstream) -> None:
    for number in range(3):
        await platform.upload(f"{number}.md", b"Poison." if number == 1 else b"Text.", collection="shelf")
    await platform.upload("other.md", b"Text.", collection="other")
    told: list[Event] = []
    async with exchange(platform.serve("ingestion"), "GET", "/progress?collection=shelf", platform.bearer()) as stream:
        reading = asyncio.create_task(read(stream, told))
        await until(lambda: told)
        assert told[0].data == {
            "collection": "shelf", "documents": {"received": 3, "processing": 0, "indexed": 0, "failed": 0},
            "chunks_total": 0, "chunks_embedded": 0, "chunks_failed": 0, "remaining_seconds": None,
        }  # fmt: skip
        healthy = upstream.embeddings
        upstream.embeddings = refuses("Poison.", status(400), healthy)
        assert {reply.status for reply in await platform.deliver()} == {200}
        await reading
    assert told[-2].data["documents"] == {"received": 0, "processing": 0, "indexed": 2, "failed": 1}
    assert told[-2].data["remaining_seconds"] == 0
    assert told[-1].data == {"reason": "settled"}
    everything = await platform.call("ingestion", "GET", "/progress")
    assert events(everything.body)[0].data["documents"]["indexed"] == 3
    unknown = await platform.call("ingestion", "GET", "/progress?collection=nowhere")
    assert unknown.code() == "not_found"


async def test_however_many_watch_each_user_is_asked_for_once_a_round(
    platform: Platform, upstream: Upstream, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert upstream
    documents = [(await platform.upload(f"{n}.md", b"Text.")).json()["id"] for n in range(3)]
    streams, told = [], [list[Event]() for _ in range(20)]
    ann, bob = platform.bearer(), platform.bearer("bob")
    for number, heard in enumerate(told):
        path = "/progress" if number % 4 == 3 else f"/documents/{documents[number % 4]}/progress"
        under_way = exchange(platform.serve("ingestion"), "GET", path, bob if number % 5 == 4 else ann)
        streams.append((under_way, asyncio.create_task(read(await under_way.__aenter__(), heard))))
    await until(lambda: all(told))
    monkeypatch.setattr(progress, "ROUND_SECONDS", 0.2)
    asked.clear()
    await until(lambda: len(asked) >= 6)
    rounds = asked[:6]
    assert rounds.count(("ann", 3, [""])) == 3, rounds
    assert len([one for one in rounds if one[0] == "bob"]) == 3, rounds
    await platform.deliver()
    for under_way, reading in streams:
        await reading
        await under_way.__aexit__(None, None, None)
    assert all(heard[-1].name == "end" for heard in told)
    asked.clear()
    await asyncio.sleep(0.3)
    assert asked == [], "nothing is asked when nobody watches"


async def test_what_is_deleted_or_hidden_meanwhile_ends_the_stream(platform: Platform, asked: list[Any]) -> None:
    document = (await platform.upload("a.md", b"Text.", collection="open")).json()["id"]
    boss = platform.bearer("boss")
    heard: list[list[Event]] = [[], []]
    for told, change in zip(
        heard, ("UPDATE rag.collections SET visibility = 'restricted'", "DELETE FROM rag.documents"), strict=True
    ):
        path = f"/documents/{document}/progress"
        async with exchange(platform.serve("ingestion"), "GET", path, boss) as stream:
            reading = asyncio.create_task(read(stream, told))
            await until(told.copy)
            with platform.database.connect() as operator:
                operator.run(change)
            await reading
        assert (told[-1].name, told[-1].data) == ("end", {"reason": "gone"})
        with platform.database.connect() as operator:
            operator.run("UPDATE rag.collections SET visibility = 'tenant'")
    assert asked


async def test_a_stream_on_which_nothing_changes_shows_that_it_lives(
    platform: Platform, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAM_HEARTBEAT_SECONDS", "0.1")
    get_settings.cache_clear()
    document = (await platform.upload("a.md", b"Text.")).json()["id"]
    path = f"/documents/{document}/progress"
    async with exchange(platform.serve("ingestion"), "GET", path, platform.bearer()) as stream:
        parts = stream.chunks()
        assert b"event: progress" in await anext(parts)
        assert await anext(parts) == await anext(parts) == b": heartbeat\n\n"
    assert asked
