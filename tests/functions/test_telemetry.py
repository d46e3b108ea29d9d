"""Telemetry: one trace from the client's request to the model server, at a real OTLP receiver."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import telemetry
from shared.settings import get_settings
from tests.functions.asgi import events
from tests.functions.collector import Collector, Received, collecting
from tests.functions.leaks import Watch
from tests.functions.platform import Mode, Platform, binary, structured
from tests.functions.upstream import Upstream, status, stream, text
from tests.support import TEST_ENVIRONMENT

ROOT = Path(__file__).parents[2]
CLIENTS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENTS_SPAN = "00f067aa0ba902b7"
PROCESS = "process com.enterprise-agents.inference.requested.v1"
MODEL = "chat local/extractive-standard"
SERVER, CLIENT, CONSUMER = 2, 3, 5
"""Kinds of spans, as OTLP numbers them."""


@pytest.fixture
def collector(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector to which the functions export."""
    assert platform
    with collecting() as collector:
        monkeypatch.setenv("ENABLE_TELEMETRY", "true")
        monkeypatch.setenv("OTLP_ENDPOINT", collector.url)
        get_settings.cache_clear()
        yield collector


def under(parent: Received, *spans: Received) -> bool:
    return all((span.parent, span.trace) == (parent.id, parent.trace) for span in spans)


@pytest.mark.parametrize("mode", [binary, structured])
async def test_a_turn_is_one_trace_from_the_request_over_the_event_to_the_model(
    platform: Platform, upstream: Upstream, collector: Collector, mode: Mode
) -> None:
    upstream.chat = stream(*text("It ", "is ", "a secret answer."))
    reply = await platform.ask(
        "What is the secret question?", headers={"traceparent": f"00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01"}, mode=mode
    )
    turn = events(reply.body)[0].data["turn_id"]
    trace = (await platform.call("chat", "GET", f"/turns/{turn}/trace")).json()
    await telemetry.close()
    asked, embedded, begun = (
        collector.one(name)
        for name in ("POST /chat", f"embeddings {get_settings().litellm_embedding_model}", "chat.begin_turn")
    )
    processed, answered = collector.one(PROCESS), collector.one(MODEL)
    assert (asked.trace, asked.parent) == (CLIENTS_TRACE, CLIENTS_SPAN)
    assert under(asked, embedded, begun, processed)
    assert under(processed, answered)
    assert [span.kind for span in (asked, embedded, begun, processed, answered)] == [
        SERVER,
        CLIENT,
        CLIENT,
        CONSUMER,
        CLIENT,
    ]
    assert not any(span.failed for span in collector.spans)

    assert asked.attributes == {
        "http.request.method": "POST", "http.route": "/chat", "http.response.status_code": 200,
        "url.path": "/chat", "url.scheme": "http",
    }  # fmt: skip
    assert begun.attributes == {"db.system.name": "postgresql", "db.stored_procedure.name": "chat.begin_turn"}
    assert embedded.attributes["gen_ai.operation.name"] == "embeddings"
    assert processed.attributes["cloudevents.event_subject"] == turn
    first = answered.attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < first < 30
    port = int(upstream.url.rpartition(":")[2])
    assert answered.attributes == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "local/extractive-standard", "gen_ai.request.max_tokens": 1024, "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"], "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5,
        "server.address": "127.0.0.1", "server.port": port,
    }  # fmt: skip
    assert "secret" not in repr(collector.spans), "what people write is not in a span"

    # The model server can go on with the trace, and the turn's own trace names it.
    sent = {request["path"]: request["headers"]["traceparent"].split("-")[1:3] for request in upstream.requests}
    assert sent == {
        "/v1/embeddings": [embedded.trace, embedded.id],
        "/v1/chat/completions": [answered.trace, answered.id],
    }
    assert (trace["trace_id"], trace["traceparent"].split("-")[2]) == (CLIENTS_TRACE, asked.id)


async def test_a_request_without_a_trace_begins_one_and_ids_are_no_names(
    platform: Platform, collector: Collector
) -> None:
    turn = await platform.begin()
    assert (await platform.call("chat", "GET", f"/turns/{turn}")).status == 200
    assert (await platform.call("chat", "GET", f"/nowhere/{turn}")).status == 404
    await telemetry.close()
    asked, shown, lost = (collector.one(name) for name in ("POST /chat", "GET /turns/{turn_id}", "GET"))
    assert [span.parent for span in (asked, shown, lost)] == ["", "", ""]
    assert len({asked.trace, shown.trace, lost.trace}) == 3
    assert lost.attributes["http.response.status_code"] == 404
    [event] = platform.claim()
    assert event["extensions"]["traceparent"].startswith(f"00-{asked.trace}-{asked.id}-")


async def test_a_request_that_its_client_does_not_sample_is_not_exported(
    platform: Platform, collector: Collector
) -> None:
    unsampled = {"traceparent": f"00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-00"}
    await platform.call("chat", "POST", "/chat", {"message": "Hi", "stream": False}, headers=unsampled)
    await platform.deliver()
    await telemetry.close()
    assert collector.spans == []


async def test_each_try_at_a_model_is_a_span_and_a_failure_has_its_code(
    platform: Platform, upstream: Upstream, collector: Collector
) -> None:
    upstream.then([status(400), stream(*text("Fine."))])
    await platform.ask("What?")
    await telemetry.close()
    failed, processed = collector.one(MODEL), collector.one(PROCESS)
    assert failed.failed
    assert failed.attributes["error.type"] == "model_refused"
    assert not processed.failed, "the event was handled: the turn ended as failed"


async def test_a_collector_that_is_not_there_harms_nothing_and_is_told_once(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, closed_port: int, watch: Watch
) -> None:
    monkeypatch.setenv("ENABLE_TELEMETRY", "true")
    monkeypatch.setenv("OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    get_settings.cache_clear()
    reply = await platform.ask("What?")
    assert events(reply.body)[-1].name == "turn.completed"
    await telemetry.close()
    assert sum("spans_not_exported" in line for line in watch.lines) == 1


def test_telemetry_without_its_packages_refuses_to_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['opentelemetry'] = None; from shared import serving; serving.main()"],
        cwd=ROOT,
        env={
            **os.environ, **TEST_ENVIRONMENT, "ENABLE_TELEMETRY": "true",
            "FUNCTION_SOURCE": "functions/health/main.py", "FUNCTION_TARGET": "health",
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "Refusing to start: ENABLE_TELEMETRY: needs the packages of the extra `telemetry`, which are not installed"
    )


def test_no_package_of_opentelemetry_is_loaded_while_it_is_off() -> None:
    """Not even after every span that a function makes."""
    script = """
import json, sys
from shared import telemetry as t
made = t.span('a', 'server', {}, 'x'), t.database_call('f'), t.model_call('chat', 'm', 'http://x', {})
for span in *made, t.event({'type': 'e'}, None):
    with span as s:
        s.set({'a': 1}); s.rename('b'); s.fail('c')
assert (t.headers(), t.traceparent()) == ({}, None)
print(json.dumps([m for m in sys.modules if m.startswith(('opentelemetry', 'grpc'))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **TEST_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []
