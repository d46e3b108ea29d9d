"""The OpenAI API, asked with the openai SDK over a real port."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, DefaultAioHttpClient

from shared import together
from shared.runtime import runtime
from shared.settings import get_settings
from tests.functions.asgi import Reply as Response
from tests.functions.conftest import serve
from tests.functions.platform import Platform, said
from tests.functions.talk import serving
from tests.functions.upstream import DONE, FINISHED, Reply, Upstream, chunk, hang_up, status, stream, text, usage
from tests.support import WIDTH, bearer

STANDARD, LIGHT = "local/extractive-standard", "local/extractive-light"
QUESTION: Any = [{"role": "user", "content": "What is the limit?"}]
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PIXEL = "data:image/png;base64," + "iVBORw0KGgo" * 1000


@pytest.fixture
async def url(platform: Platform) -> AsyncIterator[str]:
    """The base URL of the API, served as in production, in the test's own loop."""
    assert platform
    async with serving(serve("openai_api")) as server:
        yield f"{server.url}/v1"


def token_of(tenant: UUID, roles: Sequence[str] = ("member",)) -> str:
    """Return a token of a tenant's user."""
    return bearer(tenant, roles=roles)["Authorization"].removeprefix("Bearer ")


def client_of(url: str, token: str, **options: Any) -> AsyncOpenAI:
    """Return the SDK's client, which asks once."""
    return AsyncOpenAI(base_url=url, api_key=token, http_client=DefaultAioHttpClient(), **{"max_retries": 0, **options})


@pytest.fixture
async def client(platform: Platform, url: str) -> AsyncIterator[AsyncOpenAI]:
    """A client of the first tenant's user."""
    async with client_of(url, token_of(platform.tenants[0])) as client:
        yield client


async def post(platform: Platform, document: object, **headers: str) -> Response:
    """Ask for a completion without the SDK."""
    return await platform.call("openai_api", "POST", "/v1/chat/completions", document, headers=headers)


async def test_a_completion_is_a_turn_that_is_charged_once(
    platform: Platform, upstream: Upstream, client: AsyncOpenAI
) -> None:
    upstream.chat = stream(*text("Fine, ", "thank you."))
    raw = await client.chat.completions.with_raw_response.create(model=STANDARD, messages=QUESTION, temperature=0.5)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Fine, thank you."
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("chat.completion", STANDARD, "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 5, 15)
    turn = await platform.read(raw.headers["x-turn-id"])
    assert answer.id == f"chatcmpl-{UUID(turn['turn_id']).hex}"
    assert (turn["status"], turn["answer"], turn["charged_tokens"]) == ("completed", "Fine, thank you.", 15)
    assert (turn["conversation_id"], turn["question_id"]) == (None, None)
    assert platform.held() == 0
    sent = upstream.requests[-1]
    assert (sent["messages"], sent["temperature"], sent["stream"]) == (QUESTION, 0.5, True)
    with platform.database.connect() as operator:
        assert operator.value("SELECT count(*) FROM events.outbox") == 0, "it needs no event"
        assert operator.query("SELECT status, attempts FROM inference.jobs") == [("completed", 1)]


async def test_a_stream_has_the_chunks_that_the_sdk_expects(upstream: Upstream, client: AsyncOpenAI) -> None:
    upstream.chat = stream(*text("Fine, ", "thank ", "you."))
    told = await client.chat.completions.create(
        model="standard", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in told]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Fine, thank you."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 15
    assert len({c.id for c in chunks}) == 1
    assert all(c.usage is None for c in chunks[:-1])


async def test_the_usage_is_told_only_when_it_is_asked_for(upstream: Upstream, client: AsyncOpenAI) -> None:
    assert upstream
    told = await client.chat.completions.create(model="auto", messages=QUESTION, stream=True)
    assert all(chunk.usage is None and chunk.choices for chunk in [chunk async for chunk in told])


def tool_call(*parts: str) -> list[str]:
    """Return the events of an answer that calls a tool, whose arguments come in parts."""
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    deltas: list[dict[str, Any]] = [{"tool_calls": [first]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts]
    events = [chunk({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    return [*events, chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}), usage(), DONE]


async def test_tools_are_passed_through_and_their_calls_come_back(
    platform: Platform, upstream: Upstream, client: AsyncOpenAI
) -> None:
    upstream.chat = stream(*tool_call('{"city":', ' "Bergen"}'))
    raw = await client.chat.completions.with_raw_response.create(
        model=STANDARD, messages=QUESTION, tools=[TOOL], tool_choice="auto"
    )
    choice = raw.parse().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.name, json.loads(call.function.arguments)) == (
        "call_1",
        "weather",
        {"city": "Bergen"},
    )
    assert (upstream.requests[-1]["tools"], upstream.requests[-1]["tool_choice"]) == ([TOOL], "auto")
    stored = await platform.read(raw.headers["x-turn-id"])
    assert stored["tool_calls"] == [call.model_dump(exclude_none=True)]
    with platform.database.connect() as operator:
        assert operator.value("SELECT routing -> 'features' ->> 'tools' FROM chat.turns") == "1"

    upstream.chat = stream(*text("Rain."))
    history: Any = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": stored["tool_calls"]}]
    history += [{"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
    answer = await client.chat.completions.create(model=STANDARD, messages=history, tools=[TOOL])
    assert answer.choices[0].message.content == "Rain."
    assert upstream.requests[-1]["messages"] == history


async def test_a_streamed_tool_call_arrives_in_the_parts_of_the_server(upstream: Upstream, client: AsyncOpenAI) -> None:
    upstream.chat = stream(*tool_call('{"city":', ' "Bergen"}'))
    told = await client.chat.completions.create(model=STANDARD, messages=QUESTION, tools=[TOOL], stream=True)
    chunks = [chunk async for chunk in told]
    parts = [call for c in chunks for call in c.choices[0].delta.tool_calls or ()]
    assert "".join(part.function.arguments or "" for part in parts if part.function) == '{"city": "Bergen"}'
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "given",
    [
        {"stop": ["END"]},
        {"temperature": 0, "top_p": 0.1, "seed": 7, "presence_penalty": 1, "frequency_penalty": -1},
        {"response_format": {"type": "json_object"}},
        {"logit_bias": {"50256": -100}, "parallel_tool_calls": False, "reasoning_effort": "low"},
        {"top_k": 20, "min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}},
    ],
    ids=" ".join,
)
async def test_parameters_of_the_model_go_through(
    platform: Platform, upstream: Upstream, given: dict[str, object]
) -> None:
    reply = await post(platform, {"model": STANDARD, "messages": QUESTION, **given})
    assert reply.status == 200, reply
    assert {name: upstream.requests[-1][name] for name in given} == given


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_the_models_length_is_held_and_bounded(platform: Platform, upstream: Upstream, name: str) -> None:
    assert (await post(platform, {"model": STANDARD, "messages": QUESTION, name: 7})).status == 200
    assert upstream.requests[-1]["max_tokens"] == 7
    with platform.database.connect() as operator:
        assert operator.value("SELECT max_tokens FROM chat.turns") == 7


async def test_images_go_through_and_are_held_as_patches_not_as_text(platform: Platform, upstream: Upstream) -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    message = {"role": "user", "content": parts}
    assert (await post(platform, {"model": STANDARD, "messages": [message], "max_tokens": 5})).status == 200
    assert upstream.requests[-1]["messages"] == [message]
    with platform.database.connect() as operator:
        held = operator.value("SELECT tokens FROM budget.reservations")
    assert 16_384 < held < 16_384 + 300


async def test_what_others_send_besides_is_ignored(platform: Platform, upstream: Upstream) -> None:
    extra = {"user": "ann", "metadata": {"chat": "7"}, "store": False, "n": 1, "logprobs": False, "chat_id": "x"}
    assert (await post(platform, {"model": STANDARD, "messages": QUESTION, **extra})).status == 200
    assert not upstream.requests[-1].keys() & extra.keys()


BAD = {
    "no model": ({"messages": QUESTION}, "model"),
    "no messages": ({"model": "auto", "messages": []}, "messages"),
    "messages are no list": ({"model": "auto", "messages": "Hi"}, "messages"),
    "a message is no object": ({"model": "auto", "messages": ["Hi"]}, "messages.0"),
    "no such role": ({"model": "auto", "messages": [{"role": "wizard", "content": "Hi"}]}, "messages"),
    "no content": ({"model": "auto", "messages": [{"role": "user"}]}, "messages"),
    "content is a number": ({"model": "auto", "messages": [{"role": "user", "content": 5}]}, "messages"),
    "a part is no part": ({"model": "auto", "messages": [{"role": "user", "content": [5]}]}, "messages"),
    "audio": ({"model": "auto", "messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages"),
    "an image that is a text": (
        {"model": "auto", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "https://x"}]}]},
        "messages",
    ),
    "a number that is none": ({"model": "auto", "messages": QUESTION, "temperature": float("nan")}, None),
    "an image without an address": (
        {"model": "auto", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages",
    ),
    "two answers": ({"model": "auto", "messages": QUESTION, "n": 2}, "n"),
    "no tokens": ({"model": "auto", "messages": QUESTION, "max_tokens": 0}, "max_tokens"),
    "log probabilities": ({"model": "auto", "messages": QUESTION, "logprobs": True}, "logprobs"),
    "old functions": ({"model": "auto", "messages": QUESTION, "functions": [{}]}, "functions"),
    "NUL": ({"model": "auto", "messages": [{"role": "user", "content": "a\0b"}]}, None),
    "half a pair": ({"model": "auto", "messages": [{"role": "user", "content": "\ud83d"}]}, None),
    "NUL in a tool": ({"model": "auto", "messages": QUESTION, "tools": [{"a": "\0"}]}, None),
}


@pytest.mark.parametrize(("document", "param"), BAD.values(), ids=BAD.keys())
async def test_a_wrong_request_is_told_in_the_apis_own_shape_and_stores_nothing(
    platform: Platform, upstream: Upstream, document: object, param: str | None
) -> None:
    before = platform.counts()
    reply = await post(platform, document)
    error = reply.json()["error"]
    assert (reply.status, error["type"]) == (400, "invalid_request_error"), reply
    assert param is None or error["param"] == param
    assert error["message"]
    assert error["code"] in {"invalid_request", "malformed_json"}
    assert platform.counts() == before
    assert not upstream.requests


async def test_text_with_a_backslash_before_u0000_is_no_nul(platform: Platform, upstream: Upstream) -> None:
    message = {"role": "user", "content": "the escape \\u0000 in JSON"}
    assert (await post(platform, {"model": STANDARD, "messages": [message]})).status == 200
    assert upstream.requests[-1]["messages"] == [message]


async def test_rubbish_is_refused(platform: Platform) -> None:
    reply = await platform.call("openai_api", "POST", "/v1/chat/completions", body=b"{")
    assert (reply.status, reply.json()["error"]["code"]) == (400, "malformed_json")
    reply = await platform.call("openai_api", "POST", "/v1/chat/completions", body=b"[]")
    assert (reply.status, reply.json()["error"]["param"]) == (400, None)
    reply = await platform.call("openai_api", "POST", "/chat/completions", {})
    error = reply.json()["error"]
    assert (reply.status, error["code"]) == (404, "route_not_found")
    assert error["message"] == "There is no POST /chat/completions: /openapi.json lists what there is."


async def test_errors_become_the_sdks_own_exceptions(
    platform: Platform, upstream: Upstream, url: str, client: AsyncOpenAI
) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="nobody", messages=QUESTION)
    assert (unknown.value.code, unknown.value.type) == ("model_not_found", "invalid_request_error")
    async with client_of(url, "eak_nothing") as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.chat.completions.create(model=STANDARD, messages=QUESTION)
    assert refused.value.code == "invalid_api_key"
    with platform.database.connect() as operator:
        operator.run("INSERT INTO routing.models (name, tier, context_window) VALUES ('tiny', 'light', 50)")
    with pytest.raises(openai.BadRequestError) as too_long:
        await client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x" * 500}])
    assert too_long.value.code == "context_length_exceeded"
    assert not upstream.requests


@pytest.mark.parametrize(
    ("name", "model"),
    [("light", LIGHT), ("standard", STANDARD), ("heavy", "local/extractive-heavy"), (LIGHT, LIGHT), ("auto", STANDARD)],
)
async def test_a_tier_a_model_or_the_rules_decide_who_answers(
    upstream: Upstream, client: AsyncOpenAI, name: str, model: str
) -> None:
    answer = await client.chat.completions.create(
        model=name, messages=[{"role": "user", "content": "What is the relief valve's limit?"}]
    )
    assert (answer.model, upstream.requests[-1]["model"]) == (model, model)


async def test_an_api_key_is_charged_and_whoever_may_only_read_is_refused(
    platform: Platform, upstream: Upstream, url: str
) -> None:
    made = await platform.call("identity", "POST", "/keys", {"name": "sdk", "scopes": ["chat"]})
    assert made.status == 201, made
    async with client_of(url, made.json()["key"]) as holder:
        raw = await holder.chat.completions.with_raw_response.create(model=STANDARD, messages=QUESTION)
        with pytest.raises(openai.PermissionDeniedError) as unscoped:
            await holder.models.list()
    with platform.database.connect() as operator:
        charged = operator.query("SELECT api_key_id, settled FROM budget.reservations")
    assert charged == [(UUID(made.json()["id"]), 15)]
    assert (await platform.read(raw.headers["x-turn-id"]))["status"] == "completed"
    async with client_of(url, token_of(platform.tenants[0], roles=["viewer"])) as viewer:
        assert (await viewer.models.list()).data
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await viewer.chat.completions.create(model=STANDARD, messages=QUESTION)
    assert {(error.value.code, error.value.type) for error in (unscoped, refused)} == {
        ("forbidden", "permission_error")
    }
    assert len(upstream.requests) == 1


async def test_too_many_requests_are_the_sdks_rate_limit_error_and_say_how_long_to_wait(
    platform: Platform, upstream: Upstream, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "1")
    get_settings.cache_clear()
    async with client_of(url, token_of(platform.tenants[0])) as client:
        answered = await client.chat.completions.with_raw_response.create(model=STANDARD, messages=QUESTION)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=STANDARD, messages=QUESTION)
    assert [answered.headers[f"ratelimit-{name}"] for name in ("limit", "remaining")] == ["1", "0"]
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    headers = refused.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["ratelimit-remaining"] == "0"
    assert "x-should-retry" not in headers, "the client may wait and ask again"
    assert len(upstream.requests) == 1


async def test_tenants_share_neither_keys_of_requests_nor_names_nor_answers(
    platform: Platform, upstream: Upstream, url: str
) -> None:
    await platform.store("limits.md", "# Limits\n\nThe limit is ten.", collection="rules")
    admin = bearer(platform.tenants[0], roles=["tenant_admin"])
    alias = {"name": "handbook", "model": "standard", "collections": ["rules"]}
    assert (await platform.call("routing", "PUT", "/aliases", alias, headers=admin)).status == 200
    turns = []
    for tenant in platform.tenants:
        async with client_of(url, token_of(tenant), default_headers={"Idempotency-Key": "once"}) as client:
            raw = await client.chat.completions.with_raw_response.create(model=STANDARD, messages=QUESTION)
        turns.append(raw.headers["x-turn-id"])
    assert turns[0] != turns[1]
    asked = [request for request in upstream.requests if "messages" in request]
    assert len(asked) == 2
    async with client_of(url, token_of(platform.tenants[1])) as stranger:
        assert "handbook" not in [model.id for model in (await stranger.models.list()).data]
        with pytest.raises(openai.NotFoundError) as unknown:
            await stranger.chat.completions.create(model="handbook", messages=QUESTION)
        with pytest.raises(openai.NotFoundError):
            await stranger.chat.completions.create(
                model=STANDARD, messages=QUESTION, extra_body={"retrieval": {"collections": ["rules"]}}
            )
    assert unknown.value.code == "model_not_found"
    read = await platform.call("chat", "GET", f"/turns/{turns[0]}", headers=bearer(platform.tenants[1]))
    assert (read.status, read.code()) == (404, "not_found")


async def test_a_budget_that_is_full_is_the_sdks_rate_limit_error_and_is_not_tried_again(
    platform: Platform, upstream: Upstream, url: str
) -> None:
    with platform.database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens) VALUES (%s, 'tenant', %s, 'day', 50)",
            [platform.tenants[0]] * 2,
        )
    async with client_of(url, token_of(platform.tenants[0]), max_retries=5) as client:
        with pytest.raises(openai.RateLimitError) as full:
            await client.chat.completions.create(model=STANDARD, messages=QUESTION)
    assert (full.value.code, full.value.type) == ("insufficient_quota", "insufficient_quota")
    assert full.value.response.headers["retry-after"]
    assert not upstream.requests
    assert platform.held() == 0


FAILURES = {
    "down": (hang_up, openai.InternalServerError, "model_unavailable", 503),
    "overloaded": (status(500), openai.InternalServerError, "model_unavailable", 503),
    "refused": (status(400), openai.BadRequestError, "model_refused", 400),
    "broken": (stream("data: ?\n\n"), openai.InternalServerError, "model_stream_broken", 502),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("failure", "kind", "code", "status_code"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_failure_before_the_first_token_has_a_status_streamed_or_not(
    platform: Platform, upstream: Upstream, client: AsyncOpenAI, failure: Any, kind: Any, code: str, status_code: int,
    streamed: bool,
) -> None:  # fmt: skip
    upstream.chat = failure
    with pytest.raises(kind) as raised:
        await client.chat.completions.create(model=STANDARD, messages=QUESTION, stream=bool(streamed))
    assert (raised.value.status_code, raised.value.code) == (status_code, code)
    assert raised.value.body["turn_id"]
    assert platform.held() == 0


async def test_a_failure_in_mid_answer_is_an_error_in_the_stream(upstream: Upstream, client: AsyncOpenAI) -> None:
    upstream.chat = stream(*text("Half of ", "it")[:2], cut=True)
    told = await client.chat.completions.create(model=STANDARD, messages=QUESTION, stream=True)
    heard: list[str | None] = []

    async def listen() -> None:
        async for piece in told:
            heard.append(piece.choices[0].delta.content)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(openai.APIError) as raised:
        await listen()
    assert "".join(filter(None, heard)) == "Half of it"
    assert raised.value.code == "model_stream_broken"


async def test_a_client_that_leaves_costs_nobody_the_answer(platform: Platform, upstream: Upstream, url: str) -> None:
    go = asyncio.Event()

    async def slow(reply: Reply, _: dict[str, Any]) -> None:
        await reply.begin_stream()
        await reply.tokens("Fine, ")
        await go.wait()
        await reply.tokens("thank you.")
        for part in (FINISHED, usage(), DONE):
            await reply.send(part)
        await reply.end_stream()

    upstream.chat = slow
    async with (
        httpx2.AsyncClient() as raw,
        raw.stream(
            "POST",
            f"{url}/chat/completions",
            json={"model": STANDARD, "messages": QUESTION, "stream": True},
            headers=platform.bearer(),
        ) as response,
    ):
        turn = response.headers["x-turn-id"]
        async for line in response.aiter_lines():
            if "Fine" in line:
                break
    go.set()
    ended = await platform.follow(turn)
    assert (ended[-1].name, said(ended)) == ("turn.completed", "Fine, thank you.")
    assert (await platform.read(turn))["charged_tokens"] == 15


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_the_same_key_is_the_same_turn(platform: Platform, upstream: Upstream, url: str, streamed: bool) -> None:
    upstream.chat = stream(*text("Fine."))
    async with client_of(url, token_of(platform.tenants[0]), default_headers={"Idempotency-Key": "once"}) as client:
        first = await client.chat.completions.create(model=STANDARD, messages=QUESTION)
        if streamed:
            told = await client.chat.completions.create(model=STANDARD, messages=QUESTION, stream=True)
            chunks = [chunk async for chunk in told]
            again, ids = "".join(c.choices[0].delta.content or "" for c in chunks), {c.id for c in chunks}
        else:
            second = await client.chat.completions.create(model=STANDARD, messages=QUESTION)
            again, ids = second.choices[0].message.content or "", {second.id}
        with pytest.raises(openai.ConflictError) as other:
            await client.chat.completions.create(model=STANDARD, messages=QUESTION, temperature=1)
    assert (again, ids) == ("Fine.", {first.id})
    assert other.value.code == "idempotency_conflict"
    assert len([request for request in upstream.requests if "messages" in request]) == 1


async def test_retrieval_is_opted_into_by_a_field(platform: Platform, upstream: Upstream) -> None:
    await platform.store("limits.md", "# Limits\n\nThe limit is ten.", collection="rules")
    upstream.chat = stream(*text("Ten [1]."))
    for retrieval in (True, {"collections": ["rules"]}):
        reply = await post(platform, {"model": STANDARD, "messages": QUESTION, "retrieval": retrieval})
        assert reply.status == 200, reply
        assert [c["document"] for c in reply.json()["citations"]] == ["limits.md"]
        [system, question] = upstream.requests[-1]["messages"]
        assert (system["role"], question) == ("system", QUESTION[0])
        assert "The limit is ten." in system["content"]
    own = [{"role": "system", "content": "Be brief."}, *QUESTION]
    await post(platform, {"model": STANDARD, "messages": own, "retrieval": True})
    [system, _] = upstream.requests[-1]["messages"]
    assert system["content"].startswith("Be brief.\n\n")
    reply = await post(platform, {"model": STANDARD, "messages": QUESTION})
    assert upstream.requests[-1]["messages"] == QUESTION
    assert "citations" not in reply.json()
    reply = await post(platform, {"model": STANDARD, "messages": QUESTION, "retrieval": {"collections": ["none"]}})
    assert (reply.status, reply.json()["error"]["code"]) == (404, "not_found")


async def test_an_alias_brings_its_collections(platform: Platform, upstream: Upstream, client: AsyncOpenAI) -> None:
    await platform.store("limits.md", "# Limits\n\nThe limit is ten.", collection="rules")
    admin = {"name": "handbook", "model": "standard", "collections": ["rules"]}
    with platform.database.connect() as operator:
        operator.run(
            "INSERT INTO core.role_grants (tenant_id, role, user_id) SELECT tenant_id, 'tenant_admin', id FROM core.users"
        )
    assert (await platform.call("routing", "PUT", "/aliases", admin)).json() == admin
    assert (await platform.call("routing", "GET", "/aliases")).json() == {"aliases": [admin]}
    upstream.chat = stream(*text("Ten [1]."))
    answer = await client.chat.completions.create(model="handbook", messages=QUESTION)
    assert (answer.model, answer.choices[0].message.content) == (STANDARD, "Ten [1].")
    assert "The limit is ten." in upstream.requests[-1]["messages"][0]["content"]
    assert "handbook" in [model.id for model in (await client.models.list()).data]
    assert (await platform.call("routing", "DELETE", "/aliases/handbook")).status == 204
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="handbook", messages=QUESTION)
    embedding = {"name": "local/all-minilm-l6-v2"}
    for wrong in ({"name": "auto"}, {"name": STANDARD}, embedding, {"model": "nobody"}, {"collections": ["none"]}):
        assert (await platform.call("routing", "PUT", "/aliases", admin | wrong)).status in (404, 409)


async def test_models_are_listed_and_shown(client: AsyncOpenAI) -> None:
    listed = [model.id for model in (await client.models.list()).data]
    assert listed[:4] == ["auto", "light", "standard", "heavy"]
    assert {STANDARD, LIGHT, "local/all-minilm-l6-v2"} <= set(listed)
    for name in ("auto", STANDARD):
        assert (await client.models.retrieve(name)).id == name
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nobody")


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_are_made_and_charged(platform: Platform, client: AsyncOpenAI, encoding: Any) -> None:
    answer = await client.embeddings.create(
        model="local/all-minilm-l6-v2", input=["a pump", "a valve"], encoding_format=encoding
    )
    assert [item.index for item in answer.data] == [0, 1]
    vector = answer.data[0].embedding
    if encoding == "float":
        assert len(vector) == WIDTH
        assert sum(component**2 for component in vector) == pytest.approx(1, abs=1e-3)
    with platform.database.connect() as operator:
        [(settled, reserved)] = operator.query("SELECT DISTINCT settled, reserved FROM budget.balances")
    assert (settled, reserved) == (answer.usage.total_tokens, 0)
    assert 0 < answer.usage.total_tokens < 20


@pytest.mark.parametrize("wrong", [{"input": []}, {"input": ""}, {"input": [1, 2]}, {"model": "x"}, {"dimensions": 5}])
async def test_embeddings_that_cannot_be_made_cost_nothing(platform: Platform, wrong: dict[str, object]) -> None:
    reply = await platform.call("openai_api", "POST", "/v1/embeddings", {"input": "a pump"} | wrong)
    assert reply.status in (400, 404), reply
    assert reply.json()["error"]["message"]
    assert platform.held() == 0


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
async def test_whoever_sends_token_ids_is_told_to_send_text(platform: Platform, tokens: object) -> None:
    """As LangChain does by itself: which model's ids they are nobody can say."""
    reply = await platform.call("openai_api", "POST", "/v1/embeddings", {"input": tokens})
    error = reply.json()["error"]
    assert (reply.status, error["param"]) == (400, "input")
    assert "token ids are not taken" in error["message"]


async def test_embeddings_that_fail_give_back_what_they_held(platform: Platform, upstream: Upstream) -> None:
    upstream.embeddings = status(500)
    reply = await platform.call("openai_api", "POST", "/v1/embeddings", {"input": "a pump"})
    assert (reply.status, reply.json()["error"]["code"]) == (503, "embedding_unavailable")
    with platform.database.connect() as operator:
        assert operator.query("SELECT DISTINCT settled, reserved FROM budget.balances") == [(0, 0)]


async def test_a_request_has_an_id(platform: Platform) -> None:
    own = await platform.call("openai_api", "GET", "/v1/models")
    assert len(own.headers["x-request-id"]) >= 16
    given = await platform.call("openai_api", "GET", "/v1/models", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_job_whose_lease_is_lost_is_told_from_where_it_goes_on(
    platform: Platform, upstream: Upstream, streamed: bool
) -> None:
    """Another worker takes the job over while this process was not heard of: the client still gets the whole answer."""
    begun = asyncio.Event()
    calls = 0

    async def silent_at_first(reply: Reply, request: dict[str, Any]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            begun.set()
            await asyncio.Event().wait()
        await stream(*text("Fine."))(reply, request)

    upstream.chat = silent_at_first
    asking = asyncio.create_task(post(platform, {"model": STANDARD, "messages": QUESTION, "stream": streamed}))
    await begun.wait()
    with platform.database.connect() as operator:
        operator.run("UPDATE inference.jobs SET leased_until = now() - interval '1 second', leased_by = 'elsewhere'")
    await platform.tick()
    await platform.deliver()
    reply = await asking
    assert reply.status == 200, reply
    if streamed:
        pieces = [json.loads(line[6:]) for line in reply.body.decode().splitlines() if line.startswith("data: {")]
        told = "".join(choice["delta"].get("content") or "" for piece in pieces for choice in piece["choices"])
    else:
        told = reply.json()["choices"][0]["message"]["content"]
    assert told == "Fine."
    assert (await platform.read(reply.headers["x-turn-id"]))["charged_tokens"] == 15
    assert platform.held() == 0


@pytest.mark.parametrize(
    "given",
    [
        {"messages": [*QUESTION, {"role": "assistant", "content": None, "refusal": "No."}, *QUESTION]},
        {"modalities": ["text"]},
        {"function_call": "none"},
        {"stream_options": {"include_usage": None}},
        {"max_tokens": None, "stop": None, "tools": None, "response_format": None, "n": None},
    ],
    ids=["a refusal in the history", "modalities", "function_call", "include_usage", "null"],
)
async def test_what_asks_for_nothing_special_is_taken(
    platform: Platform, upstream: Upstream, given: dict[str, object]
) -> None:
    assert upstream
    reply = await post(platform, {"model": STANDARD, "messages": QUESTION, **given})
    assert reply.status == 200, reply


async def test_two_calls_that_a_server_numbers_alike_are_two(
    platform: Platform, upstream: Upstream, client: AsyncOpenAI
) -> None:
    assert platform
    calls = [
        {"index": 0, "id": id_, "type": "function", "function": {"name": "weather", "arguments": arguments}}
        for id_, arguments in (("one", '{"city": '), ("two", "{"))
    ]
    rest = {"index": 0, "id": "", "type": "", "function": {"arguments": '"Bergen"}'}}
    order = [calls[0], rest, calls[1], {"index": 0, "function": {"arguments": "}"}}]
    events = [
        chunk({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}) for call in order
    ]
    upstream.chat = stream(*events, FINISHED, usage(), DONE)
    answer = await client.chat.completions.create(model=STANDARD, messages=QUESTION, tools=[TOOL])
    assert [
        (c.id, c.function.arguments) for c in answer.choices[0].message.tool_calls or () if c.type == "function"
    ] == [
        ("one", '{"city": "Bergen"}'),
        ("two", "{}"),
    ]
    told = await client.chat.completions.create(model=STANDARD, messages=QUESTION, tools=[TOOL], stream=True)
    indices = [call.index async for piece in told for call in piece.choices[0].delta.tool_calls or ()]
    assert indices == [0, 0, 1, 1]


async def test_requests_that_wait_at_the_same_moment_share_a_transaction(
    platform: Platform, upstream: Upstream, client: AsyncOpenAI
) -> None:
    upstream.chat = stream(*text("Fine."))

    async def ask(number: int) -> str:
        answer = await client.chat.completions.create(model=STANDARD, messages=QUESTION, max_tokens=100 + number)
        return answer.choices[0].message.content or ""

    assert await ask(0) == "Fine."
    with platform.database.connect() as operator:
        with operator.connection.transaction():
            # The next one waits for the tenant's balances, so that the others find it under way.
            operator.run("SELECT FROM budget.balances FOR UPDATE")
            asking = asyncio.gather(*(ask(number) for number in range(1, 24)))
            while sum(map(len, together._queues[await runtime.database()].values())) < 22:  # noqa: ASYNC110, SLF001 - the queue tells nobody
                await asyncio.sleep(0.01)
        assert await asking == ["Fine."] * 23
        assert operator.value("SELECT count(DISTINCT created_at) FROM chat.turns") == 3
        assert sorted(row[0] for row in operator.query("SELECT max_tokens FROM chat.turns")) == list(range(100, 124))
        assert operator.rows("budget.verify") == []
    assert platform.held() == 0


async def test_what_stands_against_one_request_does_not_stand_against_those_of_the_same_moment(
    platform: Platform, upstream: Upstream, client: AsyncOpenAI
) -> None:
    upstream.chat = stream(*text("Fine."))

    async def ask(number: int) -> str:
        model = "no-such-model" if number == 11 else STANDARD
        try:
            answer = await client.chat.completions.create(model=model, messages=QUESTION)
        except openai.NotFoundError:
            return "refused"
        return answer.choices[0].message.content or ""

    answers = await asyncio.gather(*(ask(number) for number in range(24)))
    assert answers.pop(11) == "refused"
    assert answers == ["Fine."] * 23
    with platform.database.connect() as operator:
        assert operator.rows("budget.verify") == []
    assert platform.held() == 0


async def test_a_turn_that_a_crash_of_the_database_took_back_is_to_be_asked_again(
    platform: Platform, upstream: Upstream, client: AsyncOpenAI
) -> None:
    """As before it was on disk: nobody was told of it, and its job is gone with it."""

    async def lose(reply: Reply, sent: dict[str, Any]) -> None:
        with platform.database.connect() as operator:
            operator.run("DELETE FROM chat.turns")
        await stream(*text("Fine."))(reply, sent)

    upstream.chat = lose
    with pytest.raises(openai.InternalServerError) as raised:
        await client.chat.completions.create(model=STANDARD, messages=QUESTION)
    assert (raised.value.status_code, raised.value.code) == (503, "database_unavailable")
