"""A real LiteLLM proxy on either side of the platform."""

import psycopg
import pytest
from openai import AsyncOpenAI, NotFoundError
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionMessageParam

from tests.benchmarks.timeline import Observer
from tests.benchmarks.upstream import PROMPT_TOKENS, TEXT, TOKENS
from tests.litellm.conftest import EMBEDDING_MODEL, MOCK
from tests.litellm.proxy import LiteLLM
from tests.stack.conftest import MANUAL, QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import User, connections

ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Oslo?"}]
USAGE = (PROMPT_TOKENS, len(TOKENS), PROMPT_TOKENS + len(TOKENS))


def openai(proxy: LiteLLM) -> AsyncOpenAI:
    """Return the official client of a proxy."""
    return AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.key, max_retries=0, timeout=60)


def last_charge(platform: Platform) -> tuple[str, int]:
    """Return the turn that was charged last, and its tokens."""
    [(turn, tokens)] = platform.query(
        "SELECT turn_id::text, tokens FROM budget.ledger WHERE entry = 'settle' ORDER BY id DESC LIMIT 1"
    )
    return turn, tokens


async def test_as_the_upstream_it_embeds_and_answers_and_what_it_counts_is_charged(
    platform: Platform, upstream: LiteLLM
) -> None:
    tenant = platform.stack.tenant_id
    async with connections() as session:
        user = User(platform, session, tenant)
        await user.upload("manual.md", MANUAL)
        seen = await user.answer(QUESTION)
        stored = await user.turn(seen.turn)
    assert seen.names[-1] == "turn.completed"
    assert seen.text == stored["answer"]
    assert {c["document"] for c in seen.data["turn.citations"]["citations"]} == {"manual.md"}

    # The model is deterministic: asked the same by itself, LiteLLM gives the same answer, and tells what it counts.
    accepted = seen.data["turn.accepted"]
    with psycopg.connect(platform.stack.connections.migration_database_url, autocommit=True) as connection:
        messages = Observer(connection).prompt(tenant, seen.turn)
    async with openai(upstream) as client:
        alone = await client.chat.completions.create(
            model=accepted["model"],
            messages=messages,  # type: ignore[arg-type]
            max_tokens=accepted["max_tokens"],
        )
    assert alone.choices[0].message.content == seen.text
    assert alone.usage is not None
    usage = {name: getattr(alone.usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    assert {name: stored["usage"][name] for name in usage} == usage
    platform.assert_charged_once(seen.turn, alone.usage.total_tokens)


async def test_in_front_an_answer_is_whole_and_charged_once(platform: Platform, in_front: LiteLLM) -> None:
    async with openai(in_front) as client:
        completion = await client.chat.completions.create(model=MOCK, messages=ASKED, max_tokens=200)
    assert completion.choices[0].message.content == TEXT
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens, completion.usage.total_tokens) == USAGE
    turn, _ = last_charge(platform)
    platform.assert_charged_once(turn, USAGE[2])


async def test_in_front_a_stream_is_whole_with_its_usage_and_charged_once(
    platform: Platform, in_front: LiteLLM
) -> None:
    text, usages, reasons = "", [], []
    async with openai(in_front) as client:
        stream = await client.chat.completions.create(
            model="heavy", messages=ASKED, max_tokens=200, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reasons += [choice.finish_reason] if choice.finish_reason else []
            if chunk.usage is not None:
                usages.append((chunk.usage.prompt_tokens, chunk.usage.completion_tokens, chunk.usage.total_tokens))
    assert (text, reasons, usages) == (TEXT, ["stop"], [USAGE])
    turn, _ = last_charge(platform)
    platform.assert_charged_once(turn, USAGE[2])


async def test_in_front_tools_pass_through(in_front: LiteLLM) -> None:
    async with openai(in_front) as client:
        completion = await client.chat.completions.create(
            model=MOCK,
            messages=ASKED,
            tools=[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
        )
    [choice] = completion.choices
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    assert len(calls) == 1
    call = calls[0]
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert (call.function.name, call.function.arguments) == ("weather", '{"city":"Oslo"}')


async def test_in_front_embeddings_pass_through(in_front: LiteLLM) -> None:
    async with openai(in_front) as client:
        answer = await client.embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"])
    assert [len(each.embedding) for each in answer.data] == [384, 384]
    assert answer.data[0].embedding != answer.data[1].embedding


async def test_in_front_a_model_that_the_platform_does_not_know_is_not_found(in_front: LiteLLM) -> None:
    async with openai(in_front) as client:
        with pytest.raises(NotFoundError):
            await client.chat.completions.create(model="no/such-model", messages=ASKED)
