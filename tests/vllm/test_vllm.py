"""The platform on models that a real vLLM serves."""

import base64
import json
from collections.abc import AsyncIterator

import numpy as np
import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.chat import ChatCompletionMessageParam

from infra.local.model_server.embeddings import Encoder
from tests.stack.conftest import MANUAL, QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import User, connections
from tests.vllm.serving import EMBEDDER, KEY, MAX_MODEL_LEN, TIERS, Vllm

MODEL = TIERS[1]
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Oslo?"}]
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Bergen"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def official(url: str, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    return platform.service_key("vllm")


@pytest.fixture
async def client(platform: Platform, key: str) -> AsyncIterator[AsyncOpenAI]:
    """The official client at the platform."""
    async with official(platform.stack.urls["openai-api"], key) as client:
        yield client


@pytest.fixture
async def alone(chat: Vllm) -> AsyncIterator[AsyncOpenAI]:
    """The official client at the vLLM that chats."""
    async with official(chat.url, KEY) as client:
        yield client


def last_turn(platform: Platform) -> str:
    [(turn,)] = platform.query("SELECT id::text FROM chat.turns ORDER BY started_at DESC LIMIT 1")
    return str(turn)


async def test_an_answer_is_what_vllm_says_and_what_it_counts_is_charged_once(
    platform: Platform, client: AsyncOpenAI, alone: AsyncOpenAI
) -> None:
    answer, told = [
        await each.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=40, temperature=0)
        for each in (client, alone)
    ]
    assert answer.choices[0].message.content == told.choices[0].message.content
    assert answer.choices[0].finish_reason == told.choices[0].finish_reason == "length"
    counts = [(u.prompt_tokens, u.completion_tokens, u.total_tokens) for u in (answer.usage, told.usage) if u]
    assert counts[0] == counts[1]
    platform.assert_charged_once(last_turn(platform), counts[1][2])


async def test_a_stream_is_the_same_text_in_pieces_with_its_usage(client: AsyncOpenAI, alone: AsyncOpenAI) -> None:
    texts, usages = [], []
    for each in (client, alone):
        stream = await each.chat.completions.create(
            model=MODEL,
            messages=ASKED,
            max_tokens=40,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert len(chunks) > 2
        texts.append("".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices))
        usages += [(u.prompt_tokens, u.completion_tokens, u.total_tokens) for chunk in chunks if (u := chunk.usage)]
    assert texts[0] == texts[1]
    assert usages[0] == usages[1]


async def test_a_stop_word_ends_the_answer(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=40, temperature=0)
    text = whole.choices[0].message.content or ""
    word = text[len(text) // 2 :][:5]
    ended = await client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=40, temperature=0, stop=[word])
    assert ended.choices[0].finish_reason == "stop"
    assert ended.choices[0].message.content == text[: text.index(word)]


async def test_an_answer_has_the_schema_that_is_asked_for(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=ASKED,
        max_tokens=200,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": CITY, "strict": True}},
    )
    assert json.loads(answer.choices[0].message.content or "")["city"] in {"Oslo", "Bergen"}


async def test_a_tool_that_must_be_called_is_called_as_vllm_calls_it(client: AsyncOpenAI, alone: AsyncOpenAI) -> None:
    heard = []
    for each in (client, alone):
        stream = await each.chat.completions.create(
            model=MODEL,
            messages=ASKED,
            max_tokens=100,
            temperature=0,
            stream=True,
            tools=[{"type": "function", "function": {"name": "weather", "parameters": CITY}}],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )
        choices = [choice async for chunk in stream for choice in chunk.choices]
        calls = [c.function for choice in choices for c in choice.delta.tool_calls or () if c.function]
        name, said = (
            "".join(filter(None, parts)) for parts in zip(*((c.name, c.arguments) for c in calls), strict=True)
        )
        heard.append((name, said, choices[-1].finish_reason))
    assert heard[0] == heard[1]
    assert heard[0][0] == "weather"
    assert heard[0][1]


async def test_a_prompt_that_is_too_long_for_the_model_is_refused_with_the_reason_and_costs_nothing(
    platform: Platform, client: AsyncOpenAI
) -> None:
    long = "weather " * (MAX_MODEL_LEN + 1)
    with pytest.raises(BadRequestError) as refused:
        await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": long}], max_tokens=8)
    assert str(MAX_MODEL_LEN) in refused.value.message
    assert [entry for entry, _ in platform.ledger(last_turn(platform))] == ["reserve", "release"]


async def test_who_stops_a_turn_stops_it_in_vllm_too(platform: Platform, chat: Vllm) -> None:
    async with connections() as session:
        user = User(platform, session, platform.new_tenant())
        async with user.ask("Say much.") as answer:
            await answer.deltas(3)
            assert chat.metric("num_requests_running") >= 1
            status, _, _ = await user.request("POST", f"chat/turns/{answer.transcript.turn}/stop")
            assert status < 300
            seen = await answer.end()
    assert seen.names[-1] == "turn.stopped"
    await platform.until(lambda: chat.metric("num_requests_running") == 0, "vLLM goes on", "inference-standard")


async def test_a_turn_whose_vllm_dies_fails_with_the_reason_and_the_next_is_answered_when_it_is_back(
    platform: Platform, chat: Vllm
) -> None:
    async with connections() as session:
        user = User(platform, session, platform.new_tenant())
        try:
            async with user.ask("Say much.") as answer:
                await answer.deltas(3)
                chat.kill()
                cut = await answer.end()
        finally:
            chat.start()
            chat.ready()
        assert cut.names[-1] == "turn.failed"
        assert cut.data["turn.failed"]["code"] == "model_stream_broken"
        [(held, settled)] = platform.query(
            "SELECT tokens, settled FROM budget.reservations WHERE turn_id = %s AND closed_at IS NOT NULL", [cut.turn]
        )
        # What it had said is paid for.
        assert 3 <= settled <= held
        # Whoever finds it gone at first leaves it alone for a while.
        platform.query("DELETE FROM routing.health")
        assert (await user.answer("Say more.")).names[-1] == "turn.completed"


async def test_documents_are_embedded_by_vllm_and_found_and_its_tokens_are_charged(
    platform: Platform, chat: Vllm
) -> None:
    tenant = platform.new_tenant()
    async with connections() as session:
        user = User(platform, session, tenant)
        await user.upload("manual.md", MANUAL)
        before = chat.metric("prompt_tokens_total") + chat.metric("generation_tokens_total")
        seen = await user.answer(QUESTION)
        counted = chat.metric("prompt_tokens_total") + chat.metric("generation_tokens_total") - before
        stored = await user.turn(seen.turn)
    assert seen.names[-1] == "turn.completed"
    assert seen.text == stored["answer"]
    # The model says what chance says, and cites nothing; it is told what was found.
    assert platform.query("SELECT DISTINCT document_name FROM chat.passages WHERE turn_id = %s", [seen.turn]) == [
        ("manual.md",)
    ]
    assert stored["usage"]["total_tokens"] == counted
    platform.assert_charged_once(seen.turn, int(counted))
    vectors = platform.query("SELECT embedding::text FROM rag.embeddings WHERE tenant_id = %s", [tenant])
    assert vectors
    for (vector,) in vectors:
        assert np.linalg.norm(json.loads(vector)) == pytest.approx(1, abs=1e-3)


async def test_passages_come_in_the_order_that_vllm_gives_them(platform: Platform, embedder: Vllm) -> None:
    async with connections() as session:
        user = User(platform, session, platform.new_tenant())
        for number, text in enumerate(
            ("The cellar is flooded.", "The roof of the tower leaks.", "Bread is baked at five.")
        ):
            await user.upload(f"{number}.md", text)
        status, _, found = await user.request("GET", "retrieval/search", params={"q": "Where does the roof leak?"})
        assert status == 200, found
        texts = [result["content"] for result in found["results"]]
        async with session.post(
            f"{embedder.url}/v1/rerank",
            json={"model": EMBEDDER, "query": "Where does the roof leak?", "documents": texts},
            headers={"Authorization": f"Bearer {KEY}"},
        ) as response:
            told = (await response.json())["results"]
    assert len(texts) > 1
    assert [result["index"] for result in told] == list(range(len(texts)))


async def test_embeddings_are_those_of_the_local_model_in_both_encodings(client: AsyncOpenAI) -> None:
    texts = ["What happens with the relief valve?", "Der Turm ist undicht."]
    expected = Encoder().embed(texts).vectors
    floats = await client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    packed = await client.embeddings.with_raw_response.create(model=EMBEDDER, input=texts, encoding_format="base64")
    body = json.loads(packed.text)["data"]
    unpacked = [np.frombuffer(base64.b64decode(each["embedding"]), np.float32) for each in body]
    for mine, one, other in zip(expected, floats.data, unpacked, strict=True):
        assert float(mine @ np.array(one.embedding)) == pytest.approx(1, abs=1e-3)
        assert float(mine @ other) == pytest.approx(1, abs=1e-3)
