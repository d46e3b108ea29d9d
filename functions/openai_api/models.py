"""The shapes of the OpenAI API that are taken here. Source: its API reference, "Chat completions", "Embeddings" and "Models".

What the platform decides or stores is typed; what only the model server understands is passed through as it is.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from shared.models import Body, Shape, otherwise

MAX_TOKENS = 32_768
DEFAULT_MAX_TOKENS = 4096
"""A budget is reserved for all that may be generated, so there is always a bound."""
MAX_MESSAGES = 5000
MAX_TEXTS = 2048
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
PARTS = frozenset({"text", "image_url", "refusal"})
PASSED_THROUGH = frozenset(
    {
        "temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "tools", "tool_choice",
        "parallel_tool_calls", "response_format", "reasoning_effort", "verbosity",
        # Of vLLM and Ollama.
        "top_k", "min_p", "repetition_penalty", "chat_template_kwargs",
    }
)  # fmt: skip
"""What goes to the model server as the client sent it."""
REFUSED = frozenset(
    {
        "functions",
        "function_call",
        "logprobs",
        "top_logprobs",
        "audio",
        "modalities",
        "prediction",
        "web_search_options",
    }
)
"""What would change the answer's shape, and is not supported."""
HARMLESS = {"modalities": ["text"], "function_call": "none"}
"""Values that ask for nothing."""
CollectionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class StreamOptions(Shape):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None


class Retrieval(Body):
    """Search the tenant's documents for the last question, and put what is found before the model."""

    collections: list[CollectionName] = Field(default=[], max_length=100)
    """Names of the collections; all of the tenant's by default."""


class Completion(Shape):
    """A request of /v1/chat/completions. What is neither known nor passed through is ignored: clients send much of it."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    retrieval: Annotated[
        Retrieval | bool | None, otherwise('must be true, false or {"collections": [names]}, each name a collection\'s')
    ] = None

    @field_validator("messages")
    @classmethod
    def _are_messages(cls, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, message in enumerate(messages):
            if message.get("role") not in ROLES:
                raise ValueError(f"{number}.role: must be one of {', '.join(sorted(ROLES))}")
            content = message.get("content")
            if isinstance(content, list):
                _check_parts(number, content)
            elif content is None and message["role"] != "assistant":
                raise ValueError(f"{number}.content: is missing")
            elif content is not None and not isinstance(content, str):
                raise ValueError(f"{number}.content: must be a text or a list of parts")
        return messages

    def parameters(self) -> dict[str, Any]:
        """Return what goes to the model server as it is."""
        return {name: value for name, value in self._extra().items() if name in PASSED_THROUGH and value is not None}

    def refused(self) -> list[str]:
        """Return the members that are asked for and not supported."""
        asked = {name: value for name, value in self._extra().items() if name in REFUSED and value}
        return [name for name, value in asked.items() if value != HARMLESS.get(name)]

    def _extra(self) -> dict[str, Any]:
        return self.model_extra or {}

    def held_to(self) -> int:
        """Return how many tokens the model may generate."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS

    def collections(self) -> list[str] | None:
        """Return where to search: nowhere unless asked for, and everywhere for an empty list."""
        if isinstance(self.retrieval, Retrieval):
            return self.retrieval.collections
        return [] if self.retrieval else None


def _check_parts(number: int, parts: list[Any]) -> None:
    for position, part in enumerate(parts):
        if not isinstance(part, dict) or part.get("type") not in PARTS:
            raise ValueError(f"{number}.content.{position}.type: must be one of {', '.join(sorted(PARTS))}")
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            raise ValueError(f"{number}.content.{position}.text: must be a text")
        image = part.get("image_url")
        if part["type"] == "image_url" and not (isinstance(image, dict) and isinstance(image.get("url"), str)):
            raise ValueError(f"{number}.content.{position}.image_url.url: must be an address or a data URL")


class Embeddings(Shape):
    """A request of /v1/embeddings."""

    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    input: Annotated[
        str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)],
        otherwise(f"must be a text or a list of 1 to {MAX_TEXTS} texts; token ids are not taken, send the text itself"),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
