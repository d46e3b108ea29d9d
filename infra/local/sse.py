"""Server-sent events as the HTML standard defines them (section 9.2.6), read from a stream of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event: its name, its data, and the last event id seen so far (for `Last-Event-ID`)."""

    event: str
    data: str
    id: str


async def read_events(chunks: AsyncIterable[bytes]) -> AsyncIterator[ServerSentEvent]:
    """Yield each event once its blank line has come; comments (heartbeats) and a cut-off end are dropped."""
    name, data, last_id = "", list[str](), ""
    async for line in _lines(chunks):
        if not line:
            if data:
                yield ServerSentEvent(name or "message", "\n".join(data), last_id)
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last_id = value


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """Yield lines without their ends, which are CR LF, LF or CR, also when a pair is cut in two."""
    rest = b""
    async for chunk in chunks:
        # A CR at the very end may be half of a CR LF: it waits for the next chunk.
        text = rest + chunk
        held = b"\r" if text.endswith(b"\r") else b""
        text = text.removesuffix(held) if held else text
        *complete, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += held
        for line in complete:
            yield line.decode("utf-8", "replace")
