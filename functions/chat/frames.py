"""What a client says over a WebSocket: text frames, each a JSON object whose `type` says what it is."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import from_json

from functions.chat.models import Question
from shared.auth import MAX_TOKEN_BYTES
from shared.http import validate
from shared.models import Body
from shared.problems import Problem
from shared.streams import BEGINNING, POSITION
from shared.text import Text
from shared.turns import IDEMPOTENCY_KEY_CHARS

MAX_REF_CHARS = 100


def _position(value: str) -> str:
    if not (value.isascii() and POSITION.fullmatch(value)):
        raise ValueError("is not a position of a turn's stream")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must have printable characters only")
    return value


class Frame(Body):
    """A frame; `ref` is the client's own, and comes back with every answer to it."""

    type: str
    ref: Annotated[Text, Field(max_length=MAX_REF_CHARS)] | None = None


class Authenticate(Frame):
    """The token or API key that the socket goes on with."""

    type: Literal["authenticate"]
    token: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=MAX_TOKEN_BYTES)]


class Ask(Frame, Question):
    """A question, as the body and the headers of POST /chat."""

    type: Literal["ask"]
    idempotency_key: (
        Annotated[str, Field(min_length=1, max_length=IDEMPOTENCY_KEY_CHARS), AfterValidator(_printable)] | None
    ) = None
    traceparent: str = ""


class Resume(Frame):
    """A turn to follow, from its beginning or after the event that was seen last."""

    type: Literal["resume"]
    turn_id: UUID
    after: Annotated[str, AfterValidator(_position)] = BEGINNING


class Stop(Frame):
    """A turn to end."""

    type: Literal["stop"]
    turn_id: UUID


class Leave(Frame):
    """A turn to follow no longer."""

    type: Literal["leave"]
    turn_id: UUID


class Ping(Frame):
    """Asks for a sign of life."""

    type: Literal["ping"]


FRAMES: dict[str, type[Frame]] = {
    "authenticate": Authenticate,
    "ask": Ask,
    "resume": Resume,
    "stop": Stop,
    "leave": Leave,
    "ping": Ping,
}


def parse(text: str | None) -> dict[str, Any]:
    """Return the JSON object of a text frame; raises Problem. A binary frame has no text."""
    if text is None:
        raise Problem("unsupported_media_type", "Send JSON in text frames.")
    try:
        document = from_json(text)
    except ValueError as error:
        raise Problem("malformed_json", f"The frame is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Problem("invalid_request", "A frame is a JSON object.")
    return document


def kind_of(document: dict[str, Any]) -> str:
    """Return the type of a frame, or `other` for one that is not known."""
    kind = document.get("type")
    return kind if isinstance(kind, str) and kind in FRAMES else "other"


def ref_of(document: dict[str, Any]) -> str | None:
    """Return what a frame that may be wrong otherwise is to be answered with."""
    ref = document.get("ref")
    return ref if isinstance(ref, str) and len(ref) <= MAX_REF_CHARS else None


def read(document: dict[str, Any]) -> Frame:
    """Return the frame; raises Problem `invalid_request`."""
    model = FRAMES.get(kind_of(document))
    if model is None:
        raise Problem("invalid_request", f"type: must be one of {', '.join(FRAMES)}.")
    return validate(model, document)
