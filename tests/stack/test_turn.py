"""One turn over HTTP, as long as nothing breaks."""

import asyncio
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from uuid import uuid4

from tests.stack.conftest import QUESTION
from tests.stack.platform import PATIENCE_SECONDS, Platform
from tests.stack.reader import User


@contextmanager
def reading(platform: Platform) -> Iterator[IO[bytes]]:
    """Ask with `curl -N`, or with Python's own client where there is no curl, and yield the response as it comes."""
    url = platform.stack.urls["chat"] + "/chat"
    headers = {"Authorization": f"Bearer {platform.stack.token}", "Content-Type": "application/json"}
    body = json.dumps({"message": QUESTION})
    if shutil.which("curl") is None:
        request = urllib.request.Request(url, body.encode(), headers)  # noqa: S310 - a loopback address
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:  # noqa: S310
            yield response
        return
    options = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["curl", "-N", "--silent", "--show-error", "--fail-with-body", "--max-time", str(PATIENCE_SECONDS)]
    with subprocess.Popen([*command, *options, "-d", body, url], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        try:
            yield curl.stdout
            assert curl.wait(PATIENCE_SECONDS) == 0
        finally:
            curl.kill()


def test_curl_reads_an_answer_while_it_is_written(platform: Platform) -> None:
    names: list[str] = []
    data: dict[str, dict[str, Any]] = {}
    running: list[tuple[object, ...]] = []
    text = ""
    with reading(platform) as stream:
        for line in stream:
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                names.append(value)
            elif field == "data":
                data[names[-1]] = event = json.loads(value)
                text += event.get("text", "")
            if names.count("turn.delta") == 1 and field == "data":
                running = platform.query(
                    "SELECT status FROM chat.turns WHERE id = %s", [data["turn.accepted"]["turn_id"]]
                )
    deltas = names.count("turn.delta")
    assert deltas > 10
    expected = ["turn.accepted", "turn.started", *["turn.delta"] * deltas, "turn.citations", "turn.completed"]
    assert names == expected, platform.tail("chat", "inference-standard")
    # Its first word was there before its last one was written.
    assert running == [("running",)]
    citations = data["turn.citations"]["citations"]
    assert {(c["document"], c["heading"]) for c in citations} == {("manual.md", "Harbour pump P-7")}
    assert f"[{citations[0]['n']}]" in text
    usage = data["turn.completed"]["usage"]
    assert 0 < usage["completion_tokens"] < usage["total_tokens"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert data["turn.completed"]["budget"]["day"]["remaining"] > 0


async def test_an_answer_is_the_same_streamed_stored_and_replayed(platform: Platform, user: User) -> None:
    embedded = platform.embedded(user.tenant)
    seen = await user.answer(QUESTION)
    stored = await user.turn(seen.turn)
    replayed = await user.replay(seen.turn)
    assert seen.text == stored["answer"] == replayed.text
    assert seen.data["turn.citations"]["citations"] == stored["citations"]
    assert replayed.names[0] == "turn.started"
    assert replayed.data["turn.completed"] == seen.data["turn.completed"]
    assert platform.attempts(seen.turn) == 1
    platform.assert_charged_once(seen.turn, stored["usage"]["total_tokens"])
    assert platform.embedded(user.tenant) == embedded + 1


async def test_the_same_key_twice_at_once_is_one_turn_charged_once(platform: Platform, user: User) -> None:
    key = str(uuid4())
    one, other = await asyncio.gather(user.answer(QUESTION, key=key), user.answer(QUESTION, key=key))
    assert one.turn == other.turn
    assert {t.data["turn.accepted"]["replayed"] for t in (one, other)} == {True, False}
    assert one.text == other.text == (await user.turn(one.turn))["answer"]
    assert platform.query("SELECT count(*) FROM chat.turns WHERE idempotency_key = %s", [key]) == [(1,)]
    platform.assert_charged_once(one.turn, one.data["turn.completed"]["charged_tokens"])

    again = await user.answer(QUESTION, key=key)
    assert (again.turn, again.text) == (one.turn, one.text)
    assert platform.attempts(one.turn) == 1
    status, _, problem = await user.request(
        "POST", "chat/chat", json={"message": "Something else?"}, headers={"Idempotency-Key": key}
    )
    assert (status, problem["code"], problem["turn_id"]) == (409, "idempotency_conflict", one.turn)


async def test_a_reader_who_leaves_and_returns_has_exactly_the_text(platform: Platform, user: User) -> None:
    async with user.ask(QUESTION) as connection:
        transcript = connection.transcript
    # The first return is one without any position: nothing with an id had come. How many events there are depends on how
    # busy the machine is: pieces travel together.
    for _ in range(50):
        async with user.resume(transcript.turn, transcript) as connection:
            await connection.one()
        if transcript.ended:
            break
    else:
        async with user.resume(transcript.turn, transcript) as connection:
            await connection.end()
    assert len(transcript.names) > 10
    assert transcript.text == (await user.turn(transcript.turn))["answer"]
    assert transcript.kinds() == [
        "turn.accepted",
        "turn.started",
        "turn.delta",
        "turn.citations",
        "turn.completed",
    ]
    assert platform.attempts(transcript.turn) == 1


async def test_a_stopped_turn_keeps_and_charges_what_was_generated(platform: Platform, user: User) -> None:
    whole = await user.answer(QUESTION)
    async with user.ask(QUESTION) as connection:
        await connection.deltas(5)
        turn = connection.transcript.turn
        status, _, _ = await user.request("POST", f"chat/turns/{turn}/stop")
        assert status == 200
        seen = await connection.end()
    assert seen.names[-1] == "turn.stopped", platform.tail("inference-standard")
    stored = await user.turn(turn)
    assert stored["status"] == "stopped"
    assert seen.text == stored["answer"]
    assert whole.text.startswith(seen.text)
    assert seen.text != whole.text
    assert stored["usage"]["completion_tokens"] > 0
    assert stored["charged_tokens"] == stored["usage"]["total_tokens"]
    platform.assert_charged_once(turn, stored["charged_tokens"])
    # Stopping what has ended changes nothing.
    _, _, again = await user.request("POST", f"chat/turns/{turn}/stop")
    assert {**again, "budget": None} == {**stored, "budget": None}
