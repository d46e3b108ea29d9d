"""The OpenAI API of a started stack, asked with the official clients."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import openai
import pytest
from openai import AsyncOpenAI

from tests.benchmarks.upstream import PROMPT_TOKENS, TEXT, TOKENS
from tests.sdk import node
from tests.servers import server
from tests.stack.conftest import QUESTION
from tests.stack.platform import PATIENCE_SECONDS, Platform

SERVICE = "openai-api"
MOCK = "mock/heavy"
EMBEDDING_MODEL, WIDTH = "local/all-minilm-l6-v2", 384
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": len(TOKENS),
    "total_tokens": PROMPT_TOKENS + len(TOKENS),
}
CALL = {"type": "function", "name": "weather", "arguments": {"city": "Oslo"}}
ASKED: Any = [{"role": "user", "content": QUESTION}]
RETRIEVAL = {"retrieval": {"collections": ["default"]}}


@pytest.fixture(scope="module")
def mock(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model beside the stand-ins, which has fixed answers and calls tools."""
    with server("mock", "tests.benchmarks.upstream", tmp_path_factory.mktemp("mock")) as (url, _):
        platform.query("INSERT INTO routing.models (name, tier, endpoint) VALUES (%s, 'heavy', %s)", [MOCK, url])
        yield MOCK
        platform.query("DELETE FROM routing.models WHERE name = %s", [MOCK])


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    """An API key of a service account."""
    return platform.service_key("sdk")


def client(platform: Platform, key: str) -> AsyncOpenAI:
    """Return the Python client, which asks once."""
    return AsyncOpenAI(
        base_url=f"{platform.stack.urls[SERVICE]}/v1", api_key=key, max_retries=0, timeout=PATIENCE_SECONDS
    )


async def to_the_end(chunks: AsyncIterator[Any]) -> None:
    """Read what is left."""
    async for _ in chunks:
        pass


def test_the_node_client_finds_what_it_expects(platform: Platform, key: str, mock: str) -> None:
    seen = node.check(platform.stack.urls[SERVICE], key, chat_model=mock, embedding_model=EMBEDDING_MODEL)
    assert {"auto", "light", "standard", "heavy", mock, EMBEDDING_MODEL} <= set(seen["models"])
    whole, streamed = seen["whole"], seen["streamed"]
    assert (whole["object"], whole["model"]) == ("chat.completion", mock)
    assert (whole["text"], whole["finish_reason"], whole["usage"]) == (TEXT, "stop", USAGE)
    assert whole["request_id"]
    platform.assert_charged_once(str(UUID(whole["id"].removeprefix("chatcmpl-"))), USAGE["total_tokens"])
    assert (streamed["text"], streamed["finish_reasons"], streamed["usage"]) == (TEXT, ["stop"], USAGE)
    assert (streamed["ids"], streamed["usage_chunk_choices"]) == (1, 0)
    assert seen["tools"] == seen["tools_streamed"] == {"finish_reason": "tool_calls", "calls": [CALL]}
    embeddings = seen["embeddings"]
    assert (embeddings["indexes"], embeddings["widths"]) == ([0, 1], [WIDTH, WIDTH])
    assert all(0 < abs(component) < 1 for component in embeddings["first"]), "the client decodes what it asked for"
    refusals = {
        "unknown_model": ("NotFoundError", 404, "model_not_found", "invalid_request_error"),
        "wrong_key": ("AuthenticationError", 401, "invalid_api_key", "authentication_error"),
        "bad_request": ("BadRequestError", 400, "invalid_request", "invalid_request_error"),
    }
    for step, expected in refusals.items():
        refused = seen[step]
        assert (refused["class"], refused["status"], refused["code"], refused["type"]) == expected
        assert refused["message"]
        assert refused["request_id"]
    assert seen["bad_request"]["param"] == "messages"


async def test_a_request_whose_process_is_killed_is_asked_again_by_its_key(platform: Platform, key: str) -> None:
    asked: Any = {"model": "standard", "messages": ASKED, "extra_body": RETRIEVAL}
    headers = {"Idempotency-Key": "killed"}
    async with client(platform, key) as first:
        begun = await first.chat.completions.with_raw_response.create(**asked, stream=True, extra_headers=headers)
        turn, chunks = begun.headers["x-turn-id"], aiter(begun.parse())
        while not (await anext(chunks)).choices[0].delta.content:
            pass
        platform.kill(SERVICE)
        with pytest.raises(openai.APIConnectionError):
            await to_the_end(chunks)
    await platform.back(SERVICE)
    async with client(platform, key) as second, asyncio.timeout(PATIENCE_SECONDS):
        again = await second.chat.completions.with_raw_response.create(**asked, extra_headers=headers)
    answer = again.parse()
    assert again.headers["x-turn-id"] == turn
    stored = platform.query("SELECT content FROM chat.messages WHERE turn_id = %s AND role = 'assistant'", [turn])
    assert stored == [(answer.choices[0].message.content,)]
    assert platform.attempts(turn) == 2
    assert answer.usage is not None
    platform.assert_charged_once(turn, answer.usage.total_tokens)
