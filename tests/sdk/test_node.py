"""What the official Node client makes of a server that is known to be right, so that the script itself is known to be."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.upstream import CHAT_MODELS, EMBEDDING_MODEL, PROMPT_TOKENS, TEXT, TOKENS, VECTOR, WIDTH
from tests.sdk import node
from tests.servers import server

USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": len(TOKENS),
    "total_tokens": PROMPT_TOKENS + len(TOKENS),
}
CALL = {"type": "function", "name": "weather", "arguments": {"city": "Oslo"}}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The mock model server."""
    with server("mock", "tests.benchmarks.upstream", tmp_path) as (url, _):
        yield url


def test_the_node_client_sees_what_the_server_says(url: str) -> None:
    seen = node.check(url, "sk-any", chat_model=CHAT_MODELS[0], embedding_model=EMBEDDING_MODEL)
    assert seen["models"] == [*CHAT_MODELS, EMBEDDING_MODEL]
    assert (seen["whole"]["text"], seen["whole"]["finish_reason"], seen["whole"]["usage"]) == (TEXT, "stop", USAGE)
    streamed = seen["streamed"]
    assert (streamed["text"], streamed["finish_reasons"], streamed["usage"]) == (TEXT, ["stop"], USAGE)
    assert (streamed["ids"], streamed["usage_chunk_choices"]) == (1, 0)
    assert seen["tools"] == seen["tools_streamed"] == {"finish_reason": "tool_calls", "calls": [CALL]}
    embeddings = seen["embeddings"]
    assert (embeddings["indexes"], embeddings["widths"]) == ([0, 1], [WIDTH, WIDTH])
    assert embeddings["first"] == [VECTOR[0], VECTOR[0]]
    unknown = seen["unknown_model"]
    assert (unknown["class"], unknown["status"], unknown["code"]) == ("NotFoundError", 404, "model_not_found")
    assert (seen["bad_request"]["class"], seen["bad_request"]["status"]) == ("BadRequestError", 400)
    assert seen["wrong_key"] is None


def test_the_lock_of_the_node_client_names_no_registry() -> None:
    lock = (node.FOLDER / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert "://" not in lock
