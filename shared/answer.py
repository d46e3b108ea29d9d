"""What a model says, as it comes: gathered for the turn, and heard by whoever waits for it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shared.text import storable
from shared.upstream import Delta, Usage

MAX_PIECES = 256
NOT_NUMBERED = -1

Listener = Callable[[Delta], None]


@dataclass
class Answer:
    """What a model has said so far."""

    text: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None
    pieces: int = 0
    first_token_seconds: float | None = None
    asked_at: float | None = None
    """When the model that answers was asked, and when it had sent all that it did: as time.perf_counter counts."""
    ended_at: float | None = None
    _places: dict[int, int] = field(default_factory=dict)
    """Which call a number of the server's stands for just now."""

    def add(self, delta: Delta) -> Delta:
        """Take a piece in; return it with its tool calls numbered as they are kept."""
        self.pieces += (delta.texts if delta.text else 0) + bool(delta.reasoning) + len(delta.tool_calls)
        if delta.text:
            self.text.append(delta.text)
            if len(self.text) > MAX_PIECES:
                # A piece by itself takes ten times the memory of its letters.
                self.text = ["".join(self.text)]
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.tool_calls:
            delta = replace(delta, tool_calls=[{**call, "index": self._add_call(call)} for call in delta.tool_calls])
        return delta

    def _add_call(self, piece: Mapping[str, Any]) -> int:
        """Add a piece of a tool call, whose arguments come in parts and all else once; return the call's place."""
        place = self._place(piece)
        call = self.tool_calls[place]
        call |= {
            name: storable(piece[name]) for name in ("id", "type") if isinstance(piece.get(name), str) and piece[name]
        }
        function = piece.get("function") or {}
        call["function"]["name"] = storable(str(function.get("name") or call["function"]["name"]))
        call["function"]["arguments"] += storable(str(function.get("arguments") or ""))
        return place

    def _place(self, piece: Mapping[str, Any]) -> int:
        """Return the place of the call that a piece belongs to.

        Some servers number parallel calls alike, or not at all: a piece with another id begins another call, to which the
        pieces with the same number belong from then on.
        """
        number, id_ = piece.get("index"), piece.get("id")
        if not isinstance(number, int):
            number = NOT_NUMBERED
        place = self._places.get(number)
        if place is None or (id_ and self.tool_calls[place].get("id", id_) != id_):
            place = self._places[number] = len(self.tool_calls)
            self.tool_calls.append({"type": "function", "function": {"name": "", "arguments": ""}})
        return place


class Heard:
    """What the caller of a run hears of it while it goes on."""

    def __init__(self) -> None:
        self.run: asyncio.Task[dict[str, Any]] | None = None
        self.pieces: list[Delta] = []
        self.said = False
        self._news = asyncio.Event()

    def listen(self, delta: Delta) -> None:
        """Take a piece (a Listener)."""
        self.pieces.append(delta)
        self.said = True
        self._news.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for a piece or the end; return False when neither came in time."""
        if self.run is not None and not self.run.done() and not self.pieces:
            self.run.add_done_callback(self._wake)
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return False
            finally:
                self.run.remove_done_callback(self._wake)
        return True

    def take(self) -> list[Delta]:
        """Return the pieces that have come since the last time."""
        self._news.clear()
        taken, self.pieces = self.pieces, []
        return taken

    def ended(self) -> bool:
        """Return whether nothing more will come."""
        return (self.run is None or self.run.done()) and not self.pieces

    def _wake(self, _: object) -> None:
        self._news.set()
