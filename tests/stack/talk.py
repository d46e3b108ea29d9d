"""A browser's WebSocket, as the stack's tests hold one: events go into a transcript for each turn."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from infra.local.sse import ServerSentEvent
from tests.stack.platform import PATIENCE_SECONDS, POLL_SECONDS
from tests.stack.reader import Transcript, User


class Talk:
    """One socket and what is followed on it, by reference."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def ask(self, ref: str, message: str) -> None:
        await self._socket.send_json({"type": "ask", "ref": ref, "message": message})

    async def hear_the_end(self, transcripts: dict[str, Transcript]) -> None:
        """Take events until every turn has ended; raises ConnectionError when the socket is gone."""
        while not all(transcript.ended for transcript in transcripts.values()):
            await self.hear(transcripts)

    async def resume(self, ref: str, transcript: Transcript) -> None:
        after = {"after": transcript.last_id} if transcript.last_id else {}
        await self._socket.send_json({"type": "resume", "ref": ref, "turn_id": transcript.turn, **after})

    async def hear(self, transcripts: dict[str, Transcript]) -> None:
        """Take the next event; raises ConnectionError when the socket is gone."""
        message = await self._socket.receive(timeout=PATIENCE_SECONDS)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(message)
        frame = message.json()
        if frame["type"] == "event":
            transcripts[frame["ref"]].take(
                ServerSentEvent(event=frame["event"], data=json.dumps(frame["data"]), id=frame["id"] or "")
            )
        else:
            assert frame["type"] in {"authenticated", "heartbeat"}, frame


@asynccontextmanager
async def talk(user: User) -> AsyncIterator[Talk]:
    """Open a socket as a browser does, as soon as anybody takes the connection."""
    url = f"{user.platform.stack.urls['chat']}/ws"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                socket = await user.session.ws_connect(url)
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(POLL_SECONDS)
    async with socket:
        await socket.send_json({"type": "authenticate", "token": user.token})
        yield Talk(socket)
