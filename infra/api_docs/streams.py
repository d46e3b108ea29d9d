"""What chat and ingestion tell over server-sent events and WebSockets: the shapes that a client may rely on.

The writers make dictionaries, because a token is written a thousand times a second; a test holds real streams against these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from functions.chat import frames
from functions.chat.models import Accepted, Citation, Turn, Usage
from functions.ingestion.models import Counts, Document
from infra.api_docs.catalogue import DOCUMENT, TURN
from shared.models import ProblemDocument, Shape


class TurnStarted(Shape):
    """A worker has begun with the answer."""

    attempt: int
    model: str
    tier: str


class TurnFallback(Shape):
    """A model failed before its first token, and another one is asked."""

    from_: str = Field(alias="from")
    to: str
    code: str


class TurnReasoning(Shape):
    """What the model tells of its thinking; no part of the answer."""

    text: str


class TurnDelta(Shape):
    """The next piece of the answer."""

    text: str


class TurnToolCalls(Shape):
    """Pieces of tool calls, as the model sends them; only for a turn of the OpenAI API."""

    tool_calls: list[dict[str, Any]]


class TurnRestarted(Shape):
    """Drop the text received so far."""

    attempt: int | None = None
    """Another process begins again."""
    reason: Literal["stored"] | None = None
    """The whole text follows from the database."""


class TurnCitations(Shape):
    """The passages that the answer refers to."""

    citations: list[Citation]


class TurnEnded(Shape):
    """The answer is complete, or was stopped."""

    turn_id: UUID
    status: Literal["completed", "stopped"]
    model: str
    tier: str
    usage: Usage | None
    charged_tokens: int | None
    budget: dict[str, Any] | None


class TurnFailed(Shape):
    """There will be no answer."""

    code: str
    detail: str
    turn_id: UUID
    usage: Usage | None = None


class CollectionProgress(Shape):
    """How far the documents of a collection are, or of all (`collection` is null)."""

    collection: str | None
    documents: Counts
    chunks_total: int
    chunks_embedded: int
    chunks_failed: int
    remaining_seconds: int | None


class ProgressEnd(Shape):
    """Nothing more is told: all is settled, gone, or the code of a problem."""

    reason: str


class Told(Shape):
    """A frame that the server sends; `ref` is that of the client's frame which it answers."""

    type: str
    ref: str | None = None


class Authenticated(Told):
    """The token is good."""

    type: Literal["authenticated"]
    expires_at: datetime | None


class Event(Told):
    """An event of a turn's stream; `data` is what the stream's message of that name says."""

    type: Literal["event"]
    turn_id: UUID
    id: str | None
    event: str
    data: dict[str, Any]


class Stopped(Told):
    """The turn has ended."""

    type: Literal["stopped"]
    turn_id: UUID
    turn: Turn


class Left(Told):
    """The turn is followed no longer."""

    type: Literal["left"]
    turn_id: UUID


class Pong(Told):
    """The answer to a ping."""

    type: Literal["pong"]


class Heartbeat(Told):
    """Nothing has happened for a while."""

    type: Literal["heartbeat"]


class Refused(Told):
    """A frame was refused, or what is followed has ended."""

    type: Literal["problem"]
    problem: ProblemDocument
    turn_id: UUID | None = None
    retry_after: int | None = None


@dataclass(frozen=True)
class Message:
    """An event of a stream, or a frame of a socket; `position`: whether it has an `id` to resume after."""

    name: str
    payload: type[BaseModel]
    examples: Sequence[Mapping[str, Any]]
    position: Literal["yes", "no", "unless told from the database"] = "no"


_STORED: Literal["unless told from the database"] = "unless told from the database"
_USAGE = {"prompt_tokens": 812, "completion_tokens": 96, "total_tokens": 908}
_BUDGET = {
    period: {"limit": 1000000, "settled": 1816, "reserved": 0, "remaining": 998184, "resets_at": resets}
    for period, resets in (("day", "2026-11-27T00:00:00+00:00"), ("month", "2026-12-01T00:00:00+00:00"))
}
_ENDED = {
    "turn_id": TURN, "model": "ollama/qwen2.5:32b", "tier": "standard", "usage": _USAGE, "charged_tokens": 908,
    "budget": _BUDGET,
}  # fmt: skip
_CITATION = {
    "n": 1, "document": "travel.md", "heading": "Hotels", "quote": "A hotel may cost 140 euros a night.",
    "document_id": DOCUMENT, "chunk_id": "1f3e5d7c-9b8a-4c6d-8e0f-2a4b6c8d0e1f", "page": None, "start_char": 120,
    "end_char": 480,
}  # fmt: skip
_ACCEPTED = {
    "turn_id": TURN, "conversation_id": "3c5e7a9b-1d2f-4a6c-8b0e-4d6f8a0c2e1b", "status": "queued",
    "model": "ollama/qwen2.5:32b", "created_at": "2026-11-26T09:30:00+00:00", "tier": "standard",
    "routing": {"rule": "default", "reason": "nothing asks for another tier"}, "retrieval": {"mode": "hybrid"},
    "passages": [{"n": 1, "document": "travel.md", "heading": "Hotels", "page": None, "score": 0.031}],
    "max_tokens": 1024, "reserved_tokens": 1836, "replayed": False,
}  # fmt: skip
TURN_EVENTS = (
    Message("turn.accepted", Accepted, (_ACCEPTED,)),
    Message("turn.started", TurnStarted, ({"attempt": 1, "model": "ollama/qwen2.5:32b", "tier": "standard"},), "yes"),
    Message(
        "turn.fallback",
        TurnFallback,
        ({"from": "vllm/qwen2.5:72b", "to": "ollama/qwen2.5:32b", "code": "model_unavailable"},),
        "yes",
    ),
    Message("turn.reasoning", TurnReasoning, ({"text": "The question is about hotels."},), "yes"),
    Message("turn.delta", TurnDelta, ({"text": "A hotel may cost"},), _STORED),
    Message(
        "turn.tool_calls",
        TurnToolCalls,
        ({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "rate"}}]},),
        "yes",
    ),
    Message("turn.restarted", TurnRestarted, ({"attempt": 2}, {"reason": "stored"}), _STORED),
    Message("turn.citations", TurnCitations, ({"citations": [_CITATION]},), _STORED),
    Message("turn.completed", TurnEnded, ({**_ENDED, "status": "completed"},), _STORED),
    Message("turn.stopped", TurnEnded, ({**_ENDED, "status": "stopped"},), _STORED),
    Message(
        "turn.failed",
        TurnFailed,
        ({"code": "model_timeout", "detail": "The model was silent.", "turn_id": TURN, "usage": None},),
        _STORED,
    ),
)
"""What GET /turns/{id}/stream and POST /chat tell; the last three end the stream."""
_DOCUMENT = {
    "id": DOCUMENT, "collection": "default", "name": "handbook/travel.md", "title": "Travel", "media_type": "text/markdown",
    "language": "english", "metadata": {"team": "travel"}, "dated": None, "size_bytes": 5120, "sha256": "9f" * 32,
    "version": 2, "live_version": 1, "status": "processing", "stage": "embedding", "pages": None, "chunks_total": 14,
    "chunks_embedded": 8, "chunks_failed": 0, "remaining_seconds": 2, "error_code": None, "error_detail": None,
    "advice": None, "attempts": 1, "duplicate_of": None, "created_at": "2026-11-25T08:00:00+00:00",
    "received_at": "2026-11-26T09:30:00+00:00", "stage_at": "2026-11-26T09:30:01+00:00", "finished_at": None,
    "updated_at": "2026-11-26T09:30:02+00:00", "etag": '"2.8"',
}  # fmt: skip
_COUNTS = {"received": 2, "processing": 1, "indexed": 40, "failed": 0}
_SETTLED = Message("end", ProgressEnd, ({"reason": "settled"},))
DOCUMENT_PROGRESS = (Message("progress", Document, (_DOCUMENT,), "yes"), _SETTLED)
COLLECTION_PROGRESS = (
    Message(
        "progress",
        CollectionProgress,
        (
            {
                "collection": "default", "documents": _COUNTS, "chunks_total": 610, "chunks_embedded": 590,
                "chunks_failed": 0, "remaining_seconds": None,
            },
        ),
        "yes",
    ),
    _SETTLED,
)  # fmt: skip

FRAMES_TAKEN = (
    Message("authenticate", frames.Authenticate, ({"type": "authenticate", "token": "eyJhbGciOi.eyJzdWIi.c2ln"},)),
    Message("ask", frames.Ask, ({"type": "ask", "ref": "q1", "message": "What may a hotel cost?"},)),
    Message("resume", frames.Resume, ({"type": "resume", "turn_id": TURN, "after": "1-42"},)),
    Message("stop", frames.Stop, ({"type": "stop", "ref": "s1", "turn_id": TURN},)),
    Message("leave", frames.Leave, ({"type": "leave", "turn_id": TURN},)),
    Message("ping", frames.Ping, ({"type": "ping"},)),
)
_TURN = {
    **_ENDED, "status": "stopped", "conversation_id": None, "question_id": None, "message_id": None, "answer": "A hotel",
    "tool_calls": None, "finish_reason": "stop", "citations": [], "error": None,
    "created_at": "2026-11-26T09:30:00+00:00", "finished_at": "2026-11-26T09:30:05+00:00",
}  # fmt: skip
_PROBLEM = {
    "type": "urn:enterprise-agents:problem:too_many_turns", "title": "The socket follows as many turns as it may",
    "status": 429, "detail": "A socket follows at most 16 turns at once.", "code": "too_many_turns",
}  # fmt: skip
FRAMES_SENT = (
    Message("authenticated", Authenticated, ({"type": "authenticated", "expires_at": "2026-11-26T10:30:00+00:00"},)),
    Message(
        "event",
        Event,
        (
            {
                "type": "event", "ref": "q1", "turn_id": TURN, "id": "1-42", "event": "turn.delta",
                "data": {"text": "A hotel may cost"},
            },
        ),
    ),
    Message("stopped", Stopped, ({"type": "stopped", "ref": "s1", "turn_id": TURN, "turn": _TURN},)),
    Message("left", Left, ({"type": "left", "turn_id": TURN},)),
    Message("pong", Pong, ({"type": "pong"},)),
    Message("heartbeat", Heartbeat, ({"type": "heartbeat"},)),
    Message("problem", Refused, ({"type": "problem", "ref": "q2", "problem": _PROBLEM},)),
)  # fmt: skip
