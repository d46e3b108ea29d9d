"""A model server that is down, slow, or cuts its answer: the turn fails with a stable code and gives back what it held."""

import asyncio
import logging
from typing import Any

import pytest

from shared.settings import get_settings
from tests.functions.asgi import events
from tests.functions.platform import Platform, said
from tests.functions.upstream import (
    DONE,
    FINISHED,
    Answer,
    Reply,
    Upstream,
    chunk,
    hang_up,
    misframed,
    silence,
    status,
    stream,
    text,
    usage,
)

HALF = text("Half of ", "it")[:2]
BEFORE_THE_FIRST_TOKEN = {
    "500": (status(500), "model_unavailable"),
    "503 without JSON": (status(503, b"<html>\xff"), "model_unavailable"),
    "429": (status(429), "model_unavailable"),
    "400": (status(400), "model_refused"),
    "404 with NUL": (status(404, b'{"error": {"message": "no \\u0000 \\ud800"}}'), "model_refused"),
    "hangs up": (hang_up, "model_unavailable"),
    "silent": (silence, "model_timeout"),
    "silent stream": (stream(": comment\n\n", gate=asyncio.Event()), "model_timeout"),
    "empty stream": (stream(), "model_stream_broken"),
    "misframed": (misframed, "model_stream_broken"),
    "cut at once": (stream(cut=True), "model_stream_broken"),
    "garbage": (stream("data: {nonsense\n\n"), "model_stream_broken"),
    "binary": (stream(b"\xff\x00\xfe" * 50, b"\n"), "model_stream_broken"),
    "deep": (stream(f"data: {'[' * 50_000}\n\n"), "model_stream_broken"),
    "no object": (stream("data: [1]\n\n"), "model_stream_broken"),
    "choices are no list": (stream(chunk({"choices": 5})), "model_stream_broken"),
    "choice is no object": (stream(chunk({"choices": ["a"]})), "model_stream_broken"),
    "delta is no object": (stream(chunk({"choices": [{"delta": "a"}]})), "model_stream_broken"),
    "content is no text": (stream(chunk({"choices": [{"delta": {"content": 5}}]})), "model_stream_broken"),
    "error": (stream(chunk({"error": {"message": "out of\0 memory"}})), "model_stream_broken"),
}
IN_MID_ANSWER = {
    "cut": (stream(*HALF, cut=True), "model_stream_broken"),
    "ends early": (stream(*HALF), "model_stream_broken"),
    "silent": (stream(*HALF, gate=asyncio.Event()), "model_timeout"),
    "garbage": (stream(*HALF, "data: ?\n\n"), "model_stream_broken"),
    "error": (stream(*HALF, chunk({"error": "overloaded"})), "model_stream_broken"),
}


STANDARD, LIGHT = "local/extractive-standard", "local/extractive-light"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, platform: Platform) -> None:
    """Wait for the model for a moment only, and ask once."""
    assert platform
    monkeypatch.setenv("MODEL_FIRST_TOKEN_TIMEOUT_SECONDS", "0.3")
    monkeypatch.setenv("MODEL_TOKEN_TIMEOUT_SECONDS", "0.3")
    get_settings.cache_clear()


def fields(caplog: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    """Return the fields of the one log line of an event."""
    [record] = [record for record in caplog.records if record.getMessage() == event]
    found: dict[str, Any] = vars(record)["fields"]
    return found


@pytest.mark.parametrize(("answer", "code"), BEFORE_THE_FIRST_TOKEN.values(), ids=BEFORE_THE_FIRST_TOKEN.keys())
async def test_a_failure_before_the_first_token_costs_nothing(
    platform: Platform, upstream: Upstream, caplog: pytest.LogCaptureFixture, answer: Answer, code: str
) -> None:
    caplog.set_level(logging.INFO, "platform")
    upstream.chat = answer
    ended = events((await platform.ask("What is the limit?", model=STANDARD)).body)
    turn = ended[0].data["turn_id"]
    assert [event.name for event in ended] == ["turn.accepted", "turn.started", "turn.failed"]
    assert ended[-1].data["code"] == code
    assert ended[-1].data["detail"]
    assert ended[-1].data["turn_id"] == turn
    assert ended[-1].data["usage"]["total_tokens"] == 0
    stored = await platform.read(turn)
    assert (stored["status"], stored["error"]["code"], stored["answer"]) == ("failed", code, None)
    assert (stored["charged_tokens"], platform.held()) == (0, 0)
    line = fields(caplog, "turn_failed")
    assert (line["turn_id"], line["code"], line["tenant_id"]) == (turn, code, platform.tenants[0])
    with platform.database.connect() as operator:
        assert operator.query("SELECT role FROM chat.messages") == [("user",)]
        assert operator.query("SELECT status FROM inference.jobs") == [("failed",)]
        assert operator.value("SELECT count(*) FROM events.inbox WHERE consumer = 'inference'") == 1


@pytest.mark.parametrize(("answer", "code"), IN_MID_ANSWER.values(), ids=IN_MID_ANSWER.keys())
async def test_a_failure_in_mid_answer_charges_what_was_said_and_stores_no_answer(
    platform: Platform, upstream: Upstream, answer: Answer, code: str
) -> None:
    upstream.chat = answer
    ended = events((await platform.ask("What is the limit?")).body)
    assert said(ended) == "Half of it"
    assert (ended[-1].name, ended[-1].data["code"]) == ("turn.failed", code)
    stored = await platform.read(ended[0].data["turn_id"])
    assert (stored["status"], stored["answer"], stored["citations"]) == ("failed", None, [])
    assert 0 < stored["charged_tokens"] == stored["usage"]["total_tokens"]
    assert platform.held() == 0


async def test_a_model_server_that_is_down_fails_the_turn(
    platform: Platform, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_BASE_URL", f"http://127.0.0.1:{closed_port}")
    get_settings.cache_clear()
    ended = events((await platform.ask("What is the limit?", model=STANDARD)).body)
    assert ended[0].data["retrieval"]["mode"] == "text"
    assert (ended[-1].name, ended[-1].data["code"]) == ("turn.failed", "model_unavailable")
    assert platform.held() == 0


async def test_a_model_server_that_recovers_is_asked_again_within_the_attempt(
    platform: Platform, upstream: Upstream
) -> None:
    async def briefly_busy(reply: Reply, _: object) -> None:
        await reply.whole(503, b"{}", retry=True)

    upstream.then([briefly_busy, stream(*text("Fine."))])
    ended = events((await platform.ask("What is the limit?")).body)
    assert (ended[-1].name, said(ended)) == ("turn.completed", "Fine.")
    assert ended[1].data["attempt"] == 1


@pytest.mark.parametrize("failure", [status(500), hang_up, silence, stream(), stream("data: ?\n\n")])
async def test_a_model_that_fails_before_the_first_token_leaves_the_turn_to_the_next_one(
    platform: Platform, upstream: Upstream, failure: Answer
) -> None:
    async def by_model(reply: Reply, request: dict[str, Any]) -> None:
        await (failure if request["model"] == STANDARD else stream(*text("Fine.")))(reply, request)

    upstream.chat = by_model
    ended = events((await platform.ask("What is the limit?", model="standard")).body)
    assert (ended[-1].name, said(ended)) == ("turn.completed", "Fine.")
    [fallback] = [event.data for event in ended if event.name == "turn.fallback"]
    assert (fallback["from"], fallback["to"]) == (STANDARD, LIGHT)
    turn = await platform.read(ended[0].data["turn_id"])
    assert (turn["model"], turn["tier"], turn["charged_tokens"]) == (LIGHT, "light", 15)
    assert platform.held() == 0
    with platform.database.connect() as operator:
        [told] = operator.value("SELECT routing -> 'fallbacks' FROM chat.turns")
        assert (told["from"], told["to"], told["code"]) == (STANDARD, LIGHT, fallback["code"])
        charged = "SELECT model, settled FROM budget.reservations WHERE turn_id = %s"
        assert operator.query(charged, [ended[0].data["turn_id"]]) == [(LIGHT, 15)]
        assert operator.value("SELECT failures FROM routing.health WHERE model = %s", [STANDARD]) == 1


async def test_what_is_held_bounds_the_price_of_the_next_model(platform: Platform, upstream: Upstream) -> None:
    with platform.database.connect() as operator:
        operator.run("UPDATE routing.models SET input_price = 5, output_price = 5 WHERE name = %s", [LIGHT])
        operator.run("UPDATE routing.models SET input_price = 1, output_price = 1 WHERE name = %s", [STANDARD])
    upstream.chat = status(500)
    ended = events((await platform.ask("What is the limit?", model="standard")).body)
    assert (ended[-1].name, ended[-1].data["code"]) == ("turn.failed", "model_unavailable")
    assert {request["model"] for request in upstream.requests if "messages" in request} == {STANDARD}


async def test_a_refusal_is_the_requests_own_and_goes_to_no_other_model(platform: Platform, upstream: Upstream) -> None:
    upstream.chat = status(400)
    ended = events((await platform.ask("What is the limit?", model="standard")).body)
    assert (ended[-1].name, ended[-1].data["code"]) == ("turn.failed", "model_refused")
    assert len([request for request in upstream.requests if "messages" in request]) == 1


async def test_a_stop_reaches_the_model_server_long_before_the_lease_ends(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_LEASE_SECONDS", "3600")
    get_settings.cache_clear()
    heard, gone = asyncio.Event(), asyncio.Event()

    async def endless(reply: Reply, _: dict[str, Any]) -> None:
        await reply.begin_stream()
        try:
            while True:
                await reply.tokens("on and ")
                heard.set()
                await asyncio.sleep(0.02)
        except ConnectionError:
            gone.set()

    upstream.chat = endless
    asking = asyncio.create_task(platform.ask("What is the limit?"))
    await heard.wait()
    with platform.database.connect() as operator:
        turn = operator.value("SELECT id FROM chat.turns")
    stopped = await platform.call("chat", "POST", f"/turns/{turn}/stop")
    assert stopped.status == 200
    async with asyncio.timeout(30):
        await gone.wait()
    ended = events((await asking).body)
    assert ended[-1].name == "turn.stopped"
    stored = await platform.read(turn)
    assert stored["answer"] == said(ended)
    assert stored["usage"]["completion_tokens"] == said(ended).count("on and "), "a token a piece"
    assert platform.held() == 0


ODD_ENDINGS = {
    "no [DONE]": (stream(*text("Fine.")[:3]), 15),
    "no finish_reason": (stream(*text("Fine.")[:1], usage(), DONE), 15),
    "cut after the finish_reason": (stream(*text("Fine.")[:1], FINISHED, cut=True), None),
    "no usage": (stream(*text("Fine.")[:2], DONE), None),
    "usage is null": (stream(*text("Fine.")[:2], chunk({"choices": [], "usage": None}), DONE), None),
    "usage is no number": (stream(*text("Fine.")[:2], usage("a", "b"), DONE), None),
    "usage is negative": (stream(*text("Fine.")[:2], usage(-5, 5), DONE), None),
    "usage overflows": (stream(*text("Fine.")[:2], usage(2**31 - 1, 5), DONE), None),
    "usage is true": (stream(*text("Fine.")[:2], usage(True, False), DONE), None),
    "usage is enormous": (stream(*text("Fine.")[:2], usage(10**12, 5), DONE), None),
    "usage is empty": (stream(*text("Fine.")[:2], chunk({"usage": {}}), DONE), None),
}


@pytest.mark.parametrize(("answer", "total"), ODD_ENDINGS.values(), ids=ODD_ENDINGS.keys())
async def test_an_answer_that_is_whole_counts_whatever_its_server_leaves_out(
    platform: Platform, upstream: Upstream, answer: Answer, total: int | None
) -> None:
    upstream.chat = answer
    ended = events((await platform.ask("What is the limit?")).body)
    assert (ended[-1].name, said(ended)) == ("turn.completed", "Fine.")
    charged = ended[-1].data["usage"]["total_tokens"]
    assert charged == total if total else 20 < charged < 1000, "what is not reported is estimated"
    assert ended[-1].data["charged_tokens"] == charged
    assert platform.held() == 0


@pytest.mark.parametrize(
    ("tokens", "whole"),
    [
        (("a\0b", "\0", "c"), "abc"),
        (("smile \ud83d", "\ude00!"), "smile \U0001f600!"),
        (("lone \ud83d", " half"), "lone \ufffd half"),
        (("ends in \ud83d",), "ends in \ufffd"),
        (("naïve 漢字 \u2028 [1]",), "naïve 漢字 \u2028 [1]"),
    ],
    ids=["NUL", "split pair", "lone half", "half at the end", "beyond ASCII"],
)
async def test_what_cannot_be_stored_is_not_told_either(
    platform: Platform, upstream: Upstream, tokens: tuple[str, ...], whole: str
) -> None:
    upstream.chat = stream(*text(*tokens))
    ended = events((await platform.ask("What is the limit?")).body)
    assert (ended[-1].name, said(ended)) == ("turn.completed", whole)
    assert (await platform.read(ended[0].data["turn_id"]))["answer"] == whole


async def test_usage_beyond_the_reservation_is_charged_as_far_as_the_budget_goes(
    platform: Platform, upstream: Upstream
) -> None:
    with platform.database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens) VALUES (%s, 'tenant', %s, 'day', 3000)",
            [platform.tenants[0]] * 2,
        )
    upstream.chat = stream(*text("Fine.")[:2], usage(1_000_000, 5), DONE)
    ended = events((await platform.ask("What is the limit?", max_tokens=10)).body)
    [embedded] = platform.embedded()
    assert ended[-1].data["charged_tokens"] == 3000 - embedded
    assert ended[-1].data["budget"]["day"] | {"resets_at": None} == {
        "limit": 3000, "settled": 3000, "reserved": 0, "remaining": 0, "resets_at": None,
    }  # fmt: skip
