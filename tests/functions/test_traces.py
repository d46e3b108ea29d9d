"""The trace of a turn over HTTP: what its steps took, as the functions measured them."""

import pytest

from functions.chat.models import Trace
from tests.functions.asgi import events
from tests.functions.platform import Platform
from tests.functions.upstream import Reply, Upstream, chunk, status, stream, text
from tests.support import bearer

CLIENTS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BEFORE = ["auth", "rate_limit", "embedding", "begin_turn", "retrieval", "routing", "queue", "attempt"]


async def read(platform: Platform, turn: str) -> Trace:
    reply = await platform.call("chat", "GET", f"/turns/{turn}/trace")
    assert reply.status == 200, reply
    return Trace.model_validate_json(reply.body)


async def test_a_trace_tells_what_each_step_of_a_turn_took(platform: Platform) -> None:
    reply = await platform.ask("What is the limit?", headers={"traceparent": CLIENTS})
    accepted, *_, completed = events(reply.body)
    trace = await read(platform, accepted.data["turn_id"])
    assert (trace.status, trace.traceparent, trace.trace_id) == ("completed", CLIENTS, CLIENTS.split("-")[1])
    assert [span.name for span in trace.spans] == [*BEFORE, "first_token", "tokens", "complete"]
    steps = {span.name: span for span in trace.spans}
    told = dict(step.split(";dur=") for step in reply.headers["server-timing"].split(", "))
    for step in ("auth", "rate_limit", "embedding"):
        assert steps[step].duration_ms == pytest.approx(float(told[step]), abs=0.01), "the client was told the same"
    assert all(span.duration_ms is not None and span.duration_ms >= 0 for span in trace.spans)
    assert [span.started_at for span in trace.spans] == sorted(span.started_at for span in trace.spans)
    assert steps["tokens"].attributes["tokens"] == completed.data["usage"]["completion_tokens"]
    assert steps["tokens"].attributes["tokens_per_second"] > 0
    assert steps["complete"].attributes == {"status": "completed", "finish_reason": "stop"}
    assert trace.decisions.routing == accepted.data["routing"]
    assert trace.decisions.budget is not None
    assert trace.decisions.budget["settled_tokens"] == completed.data["charged_tokens"]


async def test_an_answer_that_breaks_has_the_tokens_that_came_and_the_reason(
    platform: Platform, upstream: Upstream
) -> None:
    upstream.chat = stream(chunk({"choices": [{"index": 0, "delta": {"content": "One"}}]}), cut=True)
    turn = events((await platform.ask("What?")).body)[0].data["turn_id"]
    trace = await read(platform, turn)
    assert [span.name for span in trace.spans] == [*BEFORE, "first_token", "tokens", "complete"]
    steps = {span.name: span for span in trace.spans}
    assert steps["attempt"].attributes["code"] == "model_stream_broken"
    assert steps["complete"].attributes == {"status": "failed", "code": "model_stream_broken"}
    assert steps["tokens"].attributes["tokens"] == 1


async def test_a_model_that_is_asked_again_answers_later_in_the_same_attempt(
    platform: Platform, upstream: Upstream
) -> None:
    async def busy(reply: Reply, _: object) -> None:
        await reply.whole(503, b"{}", retry=True)

    upstream.then([busy, stream(*text("Fine."))])
    turn = events((await platform.ask("What?")).body)[0].data["turn_id"]
    trace = await read(platform, turn)
    steps = {span.name: span for span in trace.spans}
    waited = (steps["first_token"].started_at - steps["attempt"].started_at).total_seconds()
    assert waited >= 0.2, "after the first try and its pause"
    assert [span.name for span in trace.spans].count("attempt") == 1


async def test_a_trace_of_another_tenants_turn_is_not_found(platform: Platform) -> None:
    turn = await platform.begin()
    reply = await platform.call("chat", "GET", f"/turns/{turn}/trace", headers=bearer(platform.tenants[1]))
    assert (reply.status, reply.code()) == (404, "not_found")
    assert (await platform.call("chat", "GET", "/turns/nonsense/trace")).status == 404


async def test_a_turn_that_the_model_refuses_has_no_tokens(platform: Platform, upstream: Upstream) -> None:
    upstream.chat = status(400)
    turn = events((await platform.ask("What?")).body)[0].data["turn_id"]
    assert [span.name for span in (await read(platform, turn)).spans] == [*BEFORE, "complete"]
