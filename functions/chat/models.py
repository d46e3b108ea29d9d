"""The shapes of the chat function's requests and answers."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from shared.models import Body, Shape
from shared.text import Text

MAX_MESSAGE_CHARS = 100_000
MAX_TOKENS = 32_768
IDEMPOTENCY_KEY_CHARS = 255

CollectionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Question(Body):
    """A question: in a new conversation, or in one of the caller's."""

    message: Annotated[Text, Field(min_length=1, max_length=MAX_MESSAGE_CHARS)]
    conversation_id: UUID | None = None
    collections: Annotated[list[CollectionName], Field(min_length=1, max_length=100)] | None = None
    """Names of the collections to search; all of the tenant's by default."""
    model: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """`auto`, a tier, or a model's name; `auto` by default."""
    max_tokens: int = Field(default=1024, ge=1, le=MAX_TOKENS)
    stream: bool = True


class Passage(Shape):
    """A passage put before the model."""

    n: int
    document: str
    heading: str
    score: float


class Accepted(Shape):
    """What was decided before the answer: the event `turn.accepted`."""

    turn_id: UUID
    conversation_id: UUID
    status: str
    model: str
    created_at: datetime
    tier: Literal["light", "standard", "heavy"]
    routing: dict[str, Any]
    retrieval: dict[str, Any]
    passages: list[Passage]
    max_tokens: int
    reserved_tokens: int
    replayed: bool


class Citation(Shape):
    """A passage that the answer refers to by [n]."""

    n: int
    document: str
    heading: str
    quote: str
    document_id: UUID | None
    chunk_id: UUID | None


class Usage(Shape):
    """Tokens, as the model server counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Turn(Shape):
    """How a turn stands or ended."""

    turn_id: UUID
    conversation_id: UUID | None
    """None: a request of the OpenAI API."""
    status: Literal["queued", "running", "completed", "failed", "stopped"]
    model: str
    tier: str
    question_id: UUID | None
    message_id: UUID | None
    answer: str | None
    tool_calls: list[dict[str, Any]] | None
    finish_reason: str | None
    citations: list[Citation]
    usage: Usage | None
    charged_tokens: int | None
    budget: dict[str, Any] | None
    error: dict[str, str] | None
    created_at: datetime
    finished_at: datetime | None


class Sharing(Body):
    """Who may read a conversation besides its owner; nobody by default."""

    users: list[UUID] = Field(default=[], max_length=1000)
    groups: list[Annotated[Text, Field(max_length=255)]] = Field(default=[], max_length=1000)
    whole_tenant: bool = False


class Shares(Sharing):
    """With whom a conversation is shared."""

    conversation_id: UUID
