"""Clients that do not give up: cut off at any moment they go on where they were, or ask again with the same key."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp

from infra.local.sse import read_events
from tests.chaos.questions import messages
from tests.stack.platform import POLL_SECONDS
from tests.stack.reader import Transcript, User

BOUND_SECONDS = 60.0
"""Lease, sweep, restart and a second generation take a fraction of this: a turn that has not ended by then is lost."""
TIER = "standard"


@dataclass
class Seen:
    """What a client has of its turn."""

    question: str
    key: str = field(default_factory=lambda: f"chaos-{uuid4()}")
    turn: str = ""
    """Its id, once the client knows that it was accepted."""
    text: str = ""
    ending: str = ""
    """The turn's status, once the client has been told."""
    requests: int = 0
    """How often it had to ask or to look, until then."""
    transcript: Transcript = field(default_factory=Transcript)


class Client(User):
    """What both clients do."""

    async def see_through(self, question: str) -> Seen:
        """Ask, and return when the turn has ended, whatever happens meanwhile."""
        seen = Seen(question)
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                while not seen.ending:
                    seen.requests += 1
                    try:
                        await self._connect(seen)
                    except (aiohttp.ClientError, ConnectionError):
                        await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            logs = self.platform.tail("chat", "openai-api", "inference-standard", "sweeper", "relay", "broker")
            raise AssertionError(f"the turn did not end: {seen}\n{logs}") from None
        return seen

    async def _connect(self, seen: Seen) -> None:
        """Make one request, and take in what it answers."""
        raise NotImplementedError

    async def _accepted(self, response: aiohttp.ClientResponse) -> bool:
        """Return whether a response is an answer; one that says to come later is none, and no other may come."""
        if response.status == 503:
            text = await response.text()
            assert any(code in text for code in ("database_unavailable", "shutting_down")), text
            await asyncio.sleep(POLL_SECONDS)
            return False
        assert response.status == 200, f"{response.status}: {await response.text()}"
        return True


class Browser(Client):
    """Streams by `POST /chat`, and resumes by `Last-Event-ID`."""

    async def _connect(self, seen: Seen) -> None:
        transcript = seen.transcript
        chat = self.platform.stack.urls["chat"]
        if "turn.accepted" in transcript.data:
            last = {"Last-Event-ID": transcript.last_id} if transcript.last_id else {}
            request = self._session.get(f"{chat}/turns/{transcript.turn}/stream", headers=self._headers | last)
        else:
            body = {"message": seen.question, "model": TIER}
            headers = self._headers | {"Idempotency-Key": seen.key}
            request = self._session.post(f"{chat}/chat", json=body, headers=headers)
        async with request as response:
            if not await self._accepted(response):
                return
            async for event in read_events(response.content.iter_any()):
                transcript.take(event)
                seen.turn, seen.text = transcript.turn, transcript.text
        if transcript.ended:
            seen.ending = transcript.names[-1].removeprefix("turn.")


class Completer(Client):
    """Streams by `POST /v1/chat/completions`, and after a cut asks again with the same key.

    What was begun again elsewhere it reads as the turn that `X-Turn-Id` names.
    """

    async def _connect(self, seen: Seen) -> None:
        async with self._completion(seen, stream=True) as response:
            if not await self._accepted(response):
                return
            seen.turn, seen.text = response.headers["X-Turn-Id"], ""
            finish, again = None, ""
            async for event in read_events(response.content.iter_any()):
                if event.data == "[DONE]":
                    seen.ending = "completed" if finish else ""
                    break
                chunk = json.loads(event.data)
                if "error" in chunk:
                    again = chunk["error"]["code"]
                    assert again in ("in_progress", "database_unavailable"), chunk
                    break
                [choice] = chunk["choices"]
                seen.text += choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
        if again == "in_progress":
            await self._look_up(seen)

    def _completion(self, seen: Seen, *, stream: bool) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask, with the turn's own key."""
        body = {"model": TIER, "messages": messages(seen.question), "stream": stream}
        headers = self._headers | {"Idempotency-Key": seen.key}
        url = f"{self.platform.stack.urls['openai-api']}/v1/chat/completions"
        return self._session.post(url, json=body, headers=headers)

    async def _look_up(self, seen: Seen) -> None:
        """Ask for the turn until it has ended."""
        turn: dict[str, Any] = {"status": "running"}
        url = f"{self.platform.stack.urls['chat']}/turns/{seen.turn}"
        while turn["status"] in ("queued", "running"):
            await asyncio.sleep(POLL_SECONDS)
            async with self._session.get(url, headers=self._headers) as response:
                if await self._accepted(response):
                    turn = await response.json()
        seen.text, seen.ending = turn["answer"], turn["status"]


class Finder(Completer):
    """After a cut it looks for the turn that `X-Turn-Id` named."""

    async def _connect(self, seen: Seen) -> None:
        if seen.turn:
            await self._look_up(seen)
        else:
            await super()._connect(seen)


class Waiter(Completer):
    """Asks for the answer in one piece."""

    async def _connect(self, seen: Seen) -> None:
        async with self._completion(seen, stream=False) as response:
            if await self._accepted(response):
                [choice] = (await response.json())["choices"]
                seen.turn, seen.text = response.headers["X-Turn-Id"], choice["message"]["content"]
                seen.ending = "completed"
