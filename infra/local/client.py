"""A small client of the platform's HTTP API: documents in, questions asked, answers streamed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infra.local.sse import read_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

_CREATED_OR_ACCEPTED = range(200, 300)


class ApiError(RuntimeError):
    """The platform refused a request; the message is its problem's detail."""


@dataclass(slots=True)
class Answer:
    """A turn as its stream told it. `first_token_seconds` counts from the request; None when none came."""

    text: str = ""
    accepted: Mapping[str, Any] = field(default_factory=dict)
    citations: list[Mapping[str, Any]] = field(default_factory=list)
    completed: Mapping[str, Any] | None = None
    failure: str = ""
    first_token_seconds: float | None = None
    seconds: float = 0.0


class PlatformClient:
    """Calls the functions at `urls` (by Service name) with a tenant's bearer token, over an open session."""

    def __init__(self, session: aiohttp.ClientSession, urls: Mapping[str, str], token: str) -> None:
        self._session = session
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}

    async def upload(self, name: str, content: bytes, media_type: str) -> str:
        """Hand over a document and return its id; raises ApiError."""
        async with self._session.post(
            self._urls["ingestion"] + "/documents",
            params={"name": name},
            data=content,
            headers={**self._headers, "Content-Type": media_type},
        ) as response:
            return str((await _json(response))["id"])

    async def documents(self) -> list[Mapping[str, Any]]:
        """Return how far each document is, at most a thousand; raises ApiError."""
        url = self._urls["ingestion"] + "/documents"
        async with self._session.get(url, params={"limit": "1000"}, headers=self._headers) as response:
            return list((await _json(response))["documents"])

    async def ask(
        self, question: str, write: Callable[[str], None], restart: Callable[[], None], **more: object
    ) -> Answer:
        """Ask, pass each piece of the answer to `write` as it arrives, and return the whole.

        `restart` is called when the answer begins again (another process took the work over); `more` are other members of the
        request. Raises ApiError.
        """
        answer = Answer()
        started = time.perf_counter()
        async with self._session.post(
            self._urls["chat"] + "/chat", json={"message": question, **more}, headers=self._headers
        ) as response:
            if response.status not in _CREATED_OR_ACCEPTED:
                await _json(response)
            async for event in read_events(response.content.iter_any()):
                if event.event == "turn.delta" and answer.first_token_seconds is None:
                    answer.first_token_seconds = time.perf_counter() - started
                _take(answer, event.event, json.loads(event.data), write, restart)
        answer.seconds = time.perf_counter() - started
        if answer.completed is None and not answer.failure:
            answer.failure = "the stream ended before the turn did"
        return answer


def _take(
    answer: Answer,
    event: str,
    data: Mapping[str, Any],
    write: Callable[[str], None],
    restart: Callable[[], None],
) -> None:
    match event:
        case "turn.accepted":
            answer.accepted = data
        case "turn.delta":
            answer.text += data["text"]
            write(data["text"])
        case "turn.restarted":
            answer.text = ""
            restart()
        case "turn.citations":
            answer.citations = list(data["citations"])
        case "turn.completed":
            answer.completed = data
        case "turn.failed":
            answer.failure = f"{data.get('code')}: {data.get('detail')}"


async def _json(response: aiohttp.ClientResponse) -> dict[str, Any]:
    body = await response.read()
    try:
        value = json.loads(body)
    except ValueError as error:
        raise ApiError(f"HTTP {response.status}, and no JSON: {body[:200]!r}") from error
    if response.status not in _CREATED_OR_ACCEPTED:
        raise ApiError(f"HTTP {response.status}: {value.get('code')}: {value.get('detail')}")
    return dict(value)
