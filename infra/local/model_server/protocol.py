"""The part of OpenAI's HTTP API that is served here: requests, errors and response bodies.

Reference: https://platform.openai.com/docs/api-reference (embeddings, chat, models). Fields that only tune
sampling are accepted and ignored, since nothing is sampled; what would change the answer's form is refused.
"""

import base64
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from infra.local.model_server.bert import Array
from infra.local.model_server.prompts import Message

EMBEDDING_MODEL = "local/all-minilm-l6-v2"
CHAT_MODELS = ("local/extractive-light", "local/extractive-standard", "local/extractive-heavy")

# The limits of OpenAI's API.
MAX_INPUTS = 2048
MAX_STOPS = 4

FinishReason = Literal["stop", "length"]
Json = dict[str, Any]
Body = TypeVar("Body", bound=BaseModel)


class ApiError(Exception):
    """A request that is answered with an error in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code

    def body(self) -> Json:
        """Return the response body."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    model: str


class _ChatMessage(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, content: Any) -> Any:
        """Join the parts of a content; raises ValueError for one that is no text."""
        return "\n".join(map(_text, content)) if isinstance(content, list) else content

    def message(self) -> Message:
        """Return the message as text."""
        return Message(self.role, self.content or "")


def _text(part: Any) -> str:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
    raise ValueError("this stand-in reads text only, no pictures or other parts")


class _StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool | None = None


class _ResponseFormat(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["text"]


class ChatRequest(_Request):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[_ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: str | list[str] | None = None
    n: Literal[1] | None = None
    response_format: _ResponseFormat | None = None

    def prompt(self) -> list[Message]:
        """Return the messages as text."""
        return [message.message() for message in self.messages]

    def token_limit(self) -> int | None:
        """Return the most tokens to write; the newer of the two fields wins."""
        return self.max_completion_tokens or self.max_tokens

    def stops(self) -> list[str]:
        """Return the stop sequences. Raises ApiError if there are too many."""
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > MAX_STOPS:
            raise ApiError(400, f"At most {MAX_STOPS} stop sequences are allowed.", param="stop")
        return [stop for stop in stops if stop]

    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk that carries the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class EmbeddingRequest(_Request):
    """The body of ``POST /v1/embeddings``; token arrays are not accepted as input."""

    input: str | list[str]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None

    def texts(self) -> list[str]:
        """Return the inputs. Raises ApiError if there is none, one is empty, or there are too many."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not texts or not all(texts):
            raise ApiError(400, "The input must be a non-empty string or list of those.", param="input")
        if len(texts) > MAX_INPUTS:
            raise ApiError(400, f"At most {MAX_INPUTS} inputs are allowed, got {len(texts)}.", param="input")
        return texts


def parse(kind: type[Body], body: bytes) -> Body:
    """Parse a request body. Raises ApiError, naming the first field that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise ApiError(400, f"The body is not valid JSON: {first['msg']}.") from None
        where = ".".join(map(str, first["loc"]))
        message = (
            f"{where}: {first['msg'].removeprefix('Value error, ')}." if where else "The body must be a JSON object."
        )
        raise ApiError(400, message, param=str(first["loc"][0]) if first["loc"] else None) from None


def require_model(name: str, served: Sequence[str], purpose: str) -> None:
    """Raise ApiError unless ``name`` is one of the models ``served`` for ``purpose``."""
    if name in served:
        return
    known = name == EMBEDDING_MODEL or name in CHAT_MODELS
    reason = f"does not serve {purpose}" if known else "does not exist"
    raise ApiError(404, f"The model `{name}` {reason}.", param="model", code="model_not_found")


def models_body(created: int) -> Json:
    """Return the list of the models; ``created`` is in Unix seconds."""
    names = (*CHAT_MODELS, EMBEDDING_MODEL)
    models = [{"id": name, "object": "model", "created": created, "owned_by": "local"} for name in names]
    return {"object": "list", "data": models}


def embeddings_body(model: str, vectors: Array, tokens: int, *, as_base64: bool) -> Json:
    """Return the embeddings as numbers, or as base64 of little-endian float32."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.astype(np.dtype("<f4")).tobytes()).decode()
            if as_base64
            else row.tolist(),
        }
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def usage_body(prompt_tokens: int, completion_tokens: int) -> Json:
    """Return the usage of a chat completion."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def completion_body(identity: Json, text: str, finish_reason: FinishReason, usage: Json) -> Json:
    """Return a whole chat completion; ``identity`` holds its id, time and model."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return {**identity, "object": "chat.completion", "choices": [choice], "usage": usage}


def chunk_body(identity: Json, delta: Json, finish_reason: FinishReason | None = None) -> Json:
    """Return one chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {**identity, "object": "chat.completion.chunk", "choices": [choice]}
