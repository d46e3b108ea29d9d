"""The shapes of the chat function's requests and answers."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from shared.models import Body, Shape
from shared.text import Text

MAX_MESSAGE_CHARS = 100_000
MAX_TOKENS = 32_768
MAX_PAGE = 100
MAX_FOUND = 50

CollectionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Question(Body):
    """A question: in a new conversation, or in one of the caller's."""

    message: Annotated[Text, Field(min_length=1, max_length=MAX_MESSAGE_CHARS)]
    conversation_id: UUID | None = None
    parent_id: UUID | None = None
    """The answer in the conversation that this question follows; the newest one by default."""
    edits: UUID | None = None
    """The turn whose question this one takes the place of, in a branch of its own."""
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
    page: int | None
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
    page: int | None
    start_char: int | None
    """Offset in the document's text, of the version that was searched; `end_char` is one past the last character."""
    end_char: int | None


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


class Span(Shape):
    """A step of a turn."""

    name: Literal[
        "auth", "rate_limit", "embedding", "begin_turn", "retrieval", "routing", "queue", "attempt", "fallback",
        "first_token", "tokens", "complete",
    ]  # fmt: skip
    started_at: datetime
    duration_ms: float | None
    """None: it lasts."""
    attempt: int | None
    attributes: dict[str, Any]


class Decisions(Shape):
    """Why the turn was answered as it was."""

    routing: dict[str, Any]
    retrieval: dict[str, Any]
    budget: dict[str, Any] | None
    """None: the turn is another user's, and shared."""


class Trace(Shape):
    """What happened to a turn, in order."""

    turn_id: UUID
    status: Literal["queued", "running", "completed", "failed", "stopped"]
    traceparent: str | None
    trace_id: str | None
    created_at: datetime
    finished_at: datetime | None
    spans: list[Span]
    decisions: Decisions


class Sharing(Body):
    """Who may read a conversation besides its owner; nobody by default."""

    users: list[UUID] = Field(default=[], max_length=1000)
    groups: list[Annotated[Text, Field(max_length=255)]] = Field(default=[], max_length=1000)
    whole_tenant: bool = False


class Shares(Sharing):
    """With whom a conversation is shared."""

    conversation_id: UUID


class Regeneration(Body):
    """Another answer to a question; what is left out is as in the turn before."""

    model: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    stream: bool = True


class Conversation(Shape):
    """A conversation without what was said in it."""

    id: UUID
    title: str
    user_id: UUID
    """The owner."""
    created_at: datetime
    updated_at: datetime
    """When it was last asked or answered in."""
    archived_at: datetime | None


class ConversationPage(Body):
    """Which conversations: the caller's own, or those that others share with the caller."""

    archived: bool = False
    shared: bool = False
    cursor: Annotated[Text, Field(max_length=100)] | None = None
    """`next_cursor` of the page before."""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


class Conversations(Shape):
    """Conversations, newest first."""

    conversations: list[Conversation]
    next_cursor: str | None
    """None: this is the last page."""


class Message(Shape):
    """A question or an answer; what has the same parent are branches."""

    id: UUID
    parent_id: UUID | None
    turn_id: UUID
    role: Literal["user", "assistant"]
    content: str
    created_at: datetime
    model: str | None
    status: Literal["completed", "stopped"] | None
    """How the turn of an answer ended."""
    citations: list[Citation]


class Unanswered(Shape):
    """A turn that has no answer yet, whose stream can be followed, or that never got one."""

    turn_id: UUID
    question_id: UUID
    status: Literal["queued", "running", "failed", "stopped"]
    model: str
    created_at: datetime
    error: dict[str, str] | None


class ConversationTree(Conversation):
    """A conversation with all its branches."""

    leaf_id: UUID | None
    """The last message of the newest branch."""
    messages: list[Message]
    unanswered: list[Unanswered]


class ConversationChange(Body):
    """What changes; what is left out stays."""

    title: Annotated[Text, Field(max_length=200)] | None = None
    archived: bool | None = None


class SearchWords(Body):
    """What to look for."""

    q: Annotated[Text, Field(max_length=500)]
    limit: Annotated[int, Field(ge=1, le=MAX_FOUND)] = 20


class Piece(Shape):
    """A piece of a text, and whether it is what was looked for."""

    text: str
    match: bool


class Found(Shape):
    """A conversation that was found, and where."""

    conversation: Conversation
    message_id: UUID | None
    """None: in the title."""
    score: float
    snippet: list[Piece]


class SearchResults(Shape):
    """Conversations, the best first."""

    results: list[Found]


class Export(Body):
    """What to take along: everything as JSON, or one branch as Markdown."""

    format: Literal["json", "markdown"] = "json"
    leaf: UUID | None = None
    """The last message of the branch; of the newest one by default."""

    @model_validator(mode="after")
    def _has_one_branch(self) -> Self:
        if self.leaf is not None and self.format == "json":
            raise ValueError("leaf names a branch of Markdown; JSON holds all branches")
        return self
