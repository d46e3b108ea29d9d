"""Processes that die in the middle of a turn: the answer arrives whole, and is paid for once."""

import os
import signal

import aiohttp
import pytest
from redis import Redis

from tests.stack.conftest import QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import Transcript, User
from tests.stack.talk import talk


async def assert_whole(platform: Platform, user: User, seen: Transcript) -> None:
    """Fail unless the reader, the store and whoever reads later have the same cited answer, which was charged once."""
    stored = await user.turn(seen.turn)
    assert (stored["status"], seen.names[-1]) == ("completed", "turn.completed"), platform.tail(
        "inference-standard", "sweeper"
    )
    assert seen.text == stored["answer"]
    assert seen.data["turn.citations"]["citations"] == stored["citations"]
    assert stored["citations"]
    assert (await user.replay(seen.turn)).text == stored["answer"]
    platform.assert_charged_once(seen.turn, stored["usage"]["total_tokens"])


async def test_inference_dies_and_another_process_begins_again(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        await connection.deltas(3)
        platform.kill("inference-standard")
        seen = await connection.end()
    assert seen.kinds() == [
        "turn.accepted",
        "turn.started",
        "turn.delta",
        "turn.restarted",
        "turn.started",
        "turn.delta",
        "turn.citations",
        "turn.completed",
    ], platform.tail("inference-standard", "sweeper", "broker")
    assert seen.data["turn.restarted"] == {"attempt": 2}
    assert platform.attempts(seen.turn) == 2
    await assert_whole(platform, user, seen)


async def test_the_relay_dies_before_it_carries_the_event(platform: Platform, user: User) -> None:
    os.kill(platform.pid("relay"), signal.SIGSTOP)
    async with user.ask(QUESTION) as connection:
        # The turn is accepted, and the one process that could pass it on never runs again.
        platform.kill("relay")
        seen = await connection.end()
    assert platform.attempts(seen.turn) == 1
    await assert_whole(platform, user, seen)


async def test_what_is_not_needed_any_more_may_die(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        await connection.deltas(3)
        for part in ("relay", "broker", "sweeper"):
            platform.kill(part)
        seen = await connection.end()
    for part in ("relay", "broker", "sweeper"):
        await platform.back(part)
    assert "turn.restarted" not in seen.names
    await assert_whole(platform, user, seen)


async def test_chat_dies_and_the_reader_resumes_at_its_successor(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        await connection.deltas(3)
        platform.kill("chat")
        with pytest.raises(aiohttp.ClientError):
            await connection.end()
        seen = connection.transcript
    async with user.resume(seen.turn, seen) as connection:
        await connection.end()
    assert seen.kinds() == ["turn.accepted", "turn.started", "turn.delta", "turn.citations", "turn.completed"]
    assert platform.attempts(seen.turn) == 1
    await assert_whole(platform, user, seen)


async def test_redis_dies_and_the_reader_gets_the_stored_answer(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        await connection.deltas(3)
        platform.kill("redis")
        seen = await connection.end()
    await platform.back("redis")
    assert seen.data["turn.restarted"] == {"reason": "stored"}
    assert platform.attempts(seen.turn) == 1
    await assert_whole(platform, user, seen)


async def test_redis_loses_its_data_and_no_reader_mistakes_the_rest_for_the_whole(
    platform: Platform, user: User
) -> None:
    with Redis.from_url(platform.stack.connections.redis_url) as redis:
        async with user.ask(QUESTION) as connection:
            await connection.deltas(3)
            redis.flushdb()
            seen = await connection.end()
    await assert_whole(platform, user, seen)


async def test_connections_that_the_database_closes_are_not_used_again(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        await connection.deltas(3)
        # As at a restart or a failover of the server, but nothing that was committed is lost.
        end = "SELECT pg_terminate_backend(pid, 9000) FROM pg_stat_activity WHERE usename IN ('app', 'relay')"
        # However long that takes, the answer is not at its end.
        with platform.paused("model-server"):
            platform.query(end)
            assert (await user.turn(connection.transcript.turn))["status"] == "running"
        seen = await connection.end()
    assert "turn.restarted" not in seen.names
    await assert_whole(platform, user, seen)


async def test_the_model_server_dies_and_the_turn_fails_with_a_reason(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        await connection.deltas(3)
        platform.kill("model-server")
        seen = await connection.end()
    await platform.back("model-server")
    assert seen.data["turn.failed"]["code"] == "model_stream_broken", platform.tail("inference-standard")
    turn = await user.turn(seen.turn)
    assert (turn["status"], turn["error"]["code"]) == ("failed", "model_stream_broken")
    platform.assert_charged_once(seen.turn, turn["usage"]["total_tokens"])


async def test_the_embedding_function_dies_and_the_document_is_indexed_once(platform: Platform, stranger: User) -> None:
    await stranger.upload("berths.md", "# Berths\n\nThere are none yet.\n")
    text = "".join(f"# Berth {n}\n\n" + f"At berth {n} the tide of day {n} turns. " * 12 + "\n\n" for n in range(1, 65))
    # Whoever embeds it gets no answer until it is dead.
    with platform.paused("model-server"):
        document = await stranger.store("berths.md", text)
        held = "SELECT count(*) > 0 FROM rag.embedding_queue WHERE document_id = %s AND leased_by IS NOT NULL"
        await platform.until(lambda: platform.query(held, [document]) == [(True,)], "nobody embeds it", "embedding")
        platform.kill("embedding")
    state = "SELECT status, stage, live_version FROM rag.documents WHERE id = %s"
    assert platform.query(state, [document]) == [("processing", "embedding", 1)]
    # Until the new version is complete the old one answers.
    live = "SELECT count(*) FROM rag.chunks WHERE document_id = %s AND live"
    assert platform.query(live, [document]) == [(1,)]
    # Its leases would hold for twenty seconds.
    platform.query("UPDATE rag.embedding_queue SET due_at = now() WHERE document_id = %s", [document])
    await platform.indexed(document)
    counts = "SELECT version, attempts, chunks_total, chunks_embedded FROM rag.documents WHERE id = %s"
    assert platform.query(counts, [document]) == [(2, 1, 64, 64)]
    ordinals = "SELECT ordinal FROM rag.chunks WHERE document_id = %s AND live ORDER BY ordinal"
    assert platform.query(ordinals, [document]) == [(n,) for n in range(1, 65)]


async def test_chat_dies_and_a_websocket_of_its_successor_resumes_every_turn(platform: Platform, user: User) -> None:
    seen = {ref: Transcript() for ref in ("a", "b")}
    async with talk(user) as socket:
        for ref in seen:
            await socket.ask(ref, QUESTION)
        while not all(transcript.names.count("turn.delta") >= 3 for transcript in seen.values()):
            await socket.hear(seen)
        platform.kill("chat")
        with pytest.raises(ConnectionError):
            await socket.hear_the_end(seen)
    assert not any(transcript.ended for transcript in seen.values()), "the answers were too short to be interrupted"
    async with talk(user) as socket:
        for ref, transcript in seen.items():
            await socket.resume(ref, transcript)
        await socket.hear_the_end(seen)
    for transcript in seen.values():
        assert transcript.kinds() == ["turn.accepted", "turn.started", "turn.delta", "turn.citations", "turn.completed"]
        assert platform.attempts(transcript.turn) == 1
        await assert_whole(platform, user, transcript)
