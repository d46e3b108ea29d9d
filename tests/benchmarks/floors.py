"""What a turn cannot do without, done alone: the model server's work, and the statement that decides the turn."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from infra.local.sse import read_events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import aiohttp
    import psycopg

EMBEDDING_MODEL = "local/all-minilm-l6-v2"
_DONE = "[DONE]"


class ModelServer:
    """The stack's model server, called directly."""

    def __init__(self, session: aiohttp.ClientSession, url: str, api_key: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}

    async def embed(self, text: str) -> tuple[float, str]:
        """Return the seconds that a text's embedding takes, and the vector in pgvector's text form."""
        body = {"model": EMBEDDING_MODEL, "input": [text], "encoding_format": "float"}
        began = time.perf_counter()
        async with self._session.post(f"{self._url}/v1/embeddings", json=body, headers=self._headers) as response:
            response.raise_for_status()
            answer = await response.json()
        return time.perf_counter() - began, json.dumps(answer["data"][0]["embedding"])

    async def first_token_seconds(self, model: str, messages: Sequence[dict[str, str]], max_tokens: int) -> float:
        """Return the time from the request to the first piece of text, asked as the inference function asks."""
        body = {
            "model": model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        first: float | None = None
        began = time.perf_counter()
        async with self._session.post(f"{self._url}/v1/chat/completions", json=body, headers=self._headers) as response:
            response.raise_for_status()
            async for event in read_events(response.content.iter_any()):
                if first is None and event.data != _DONE and _text(json.loads(event.data)):
                    first = time.perf_counter() - began
        if first is None:
            raise RuntimeError("the model server wrote no text")
        return first


def _text(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ()))


def begin_turn(
    connection: psycopg.Connection, tenant_id: UUID, subject: str, question: str, embedding: str
) -> tuple[float, str]:
    """Run the chat function's one statement, committed, on an open connection; return its seconds and the turn's id."""
    began = time.perf_counter()
    with connection.pipeline():
        connection.execute("SELECT core.enter(%s, %s, 'chat.ask', '{member}')", (tenant_id, subject))
        cursor = connection.execute("SELECT chat.begin_turn(p_message => %s, p_embedding => %s)", (question, embedding))
        row = cursor.fetchone()
    took = time.perf_counter() - began
    if row is None:
        raise RuntimeError("chat.begin_turn returned nothing")
    return took, str(row[0]["turn_id"])
