"""The configurations of infra/litellm in a real LiteLLM proxy, with servers that stand in for Ollama and vLLM."""

from __future__ import annotations

import json
import threading
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml
from openai import AsyncOpenAI, BadRequestError
from pydantic import SecretStr

from infra.local.assembly import ROOT
from infra.local.ports import HOST
from shared.embeddings import Model, embed
from shared.runtime import runtime
from shared.settings import Settings
from shared.upstream import Usage, stream
from tests.litellm.proxy import MASTER_KEY, LiteLLM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CONFIGURATIONS = ("litellm_config.yaml", "litellm_config.prod.yaml")
NAMES = {
    "litellm_config.yaml": {
        "openai/gpt-4o-mini",
        "openai/text-embedding-3-small",
        "openai/text-embedding-3-large",
        "ollama/qwen2.5:7b",
        "ollama/qwen2.5:32b",
        "ollama/nomic-embed-text",
        "vllm/qwen2.5:72b",
    },
    "litellm_config.prod.yaml": {
        "vllm/qwen2.5:7b",
        "vllm/qwen2.5:32b",
        "vllm/qwen2.5:72b",
        "ollama/qwen2.5:7b",
        "ollama/qwen2.5:32b",
        "ollama/nomic-embed-text",
    },
}
TEXT = ("Hel", "lo.")
USAGE = Usage(prompt_tokens=3, completion_tokens=2)
VECTOR = [0.25, 0.5]


class Asked(ThreadingHTTPServer):
    """Every host of a configuration at once: answers as Ollama and as vLLM do, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Answers)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        """Host by the configuration, path and body."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Asked

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, host, path = self.path.split("/", 2)
        self.server.requests.append((host, f"/{path}", body))
        kind, answer = _answer(f"/{path}", body["model"])
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _answer(path: str, model: str) -> tuple[str, bytes]:
    """Return the content type and the body of an answer: embeddings, or a stream of tokens."""
    if path == "/api/embed":
        return "application/json", json.dumps({"model": model, "embeddings": [VECTOR], "prompt_eval_count": 1}).encode()
    if path == "/api/chat":
        lines = [{"model": model, "message": {"role": "assistant", "content": text}, "done": False} for text in TEXT]
        counts = {"prompt_eval_count": USAGE.prompt_tokens, "eval_count": USAGE.completion_tokens}
        end = {
            "model": model,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            **counts,
        }
        return "application/x-ndjson", "".join(json.dumps(line) + "\n" for line in (*lines, end)).encode()
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": model}
    choices: list[dict[str, Any]] = [{"index": 0, "delta": {"role": "assistant", "content": text}} for text in TEXT]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    total = USAGE.prompt_tokens + USAGE.completion_tokens
    usage = {"prompt_tokens": USAGE.prompt_tokens, "completion_tokens": USAGE.completion_tokens, "total_tokens": total}
    chunks = [*({**head, "choices": [choice]} for choice in choices), {**head, "choices": [], "usage": usage}]
    return "text/event-stream", (
        "".join(f"data: {json.dumps(one)}\n\n" for one in chunks) + "data: [DONE]\n\n"
    ).encode()


@pytest.fixture(scope="module")
def upstreams() -> Iterator[Asked]:
    with Asked() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=CONFIGURATIONS)
def configured(
    request: pytest.FixtureRequest, upstreams: Asked, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, LiteLLM]]:
    """A proxy with a configuration as it is, but for the addresses: http://<host>:<port> is the stand-in's /<host>."""
    config = yaml.safe_load((ROOT / "infra" / "litellm" / request.param).read_text())
    for model in config["model_list"]:
        if "api_base" in (params := model["litellm_params"]):
            base = urlsplit(params["api_base"])
            params["api_base"] = f"{upstreams.url}/{base.hostname}{base.path}"
    with LiteLLM(tmp_path_factory.mktemp("configured"), config) as proxy:
        yield request.param, proxy


def openai(proxy: LiteLLM, key: str = MASTER_KEY) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0, timeout=60)


async def test_it_lists_the_models_that_the_platform_knows(configured: tuple[str, LiteLLM]) -> None:
    name, proxy = configured
    async with openai(proxy) as client:
        listed = {model.id async for model in client.models.list()}
    assert listed >= NAMES[name]
    if name == "litellm_config.prod.yaml":
        assert listed == NAMES[name]


async def test_it_answers_only_who_has_the_master_key(configured: tuple[str, LiteLLM]) -> None:
    async with openai(configured[1], "sk-other") as client:
        # Any other key might be one of its database's, and it has none: it says so, with 400.
        with pytest.raises(BadRequestError, match="No connected db"):
            await client.models.list()


@pytest.fixture
async def settings(configured: tuple[str, LiteLLM]) -> AsyncIterator[Settings]:
    """The settings of a platform whose model endpoint is the proxy."""
    yield Settings(litellm_base_url=configured[1].url, litellm_api_key=SecretStr(MASTER_KEY))
    await runtime.close()


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.5, "stop": ["END"]}, {"tools": [TOOL]}], ids=str)
@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("ollama/qwen2.5:7b", {"litellm_config.yaml": "ollama", "litellm_config.prod.yaml": "vllm-light"}),
        ("ollama/qwen2.5:32b", {"litellm_config.yaml": "ollama", "litellm_config.prod.yaml": "vllm-standard"}),
        ("vllm/qwen2.5:72b", {"litellm_config.yaml": "vllm-service", "litellm_config.prod.yaml": "vllm-heavy"}),
    ],
)
async def test_each_tiers_model_answers_the_platform_from_where_it_is_and_by_the_name_it_has_there(
    configured: tuple[str, LiteLLM],
    upstreams: Asked,
    settings: Settings,
    name: str,
    hosts: dict[str, str],
    parameters: dict[str, Any],
) -> None:
    messages = [{"role": "user", "content": "Hello?"}]
    async with aclosing(stream(name, messages, 50, parameters, settings)) as answer:
        items = [item async for read in answer for item in read]
    assert "".join(item.text for item in items if not isinstance(item, Usage)) == "".join(TEXT)
    assert [item for item in items if isinstance(item, Usage)] == [USAGE]
    host, path, body = upstreams.requests[-1]
    assert (host, body["model"]) == (hosts[configured[0]], name.partition("/")[2])
    assert path == ("/api/chat" if host == "ollama" else "/v1/chat/completions")


async def test_questions_and_chunks_are_embedded_by_ollama(upstreams: Asked, settings: Settings) -> None:
    model = Model(1, "ollama/nomic-embed-text", len(VECTOR))
    [vector] = await embed(["one"], model, settings, timeout_seconds=30)
    assert isinstance(vector, str)
    assert json.loads(vector) == VECTOR
    host, path, body = upstreams.requests[-1]
    assert (host, path, body["model"]) == ("ollama", "/api/embed", "nomic-embed-text")
