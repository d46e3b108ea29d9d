"""The configurations of infra/litellm in a real LiteLLM proxy, with servers that stand in for Ollama and vLLM."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml
from openai import AsyncOpenAI, AuthenticationError

from infra.local.assembly import ROOT
from infra.local.ports import HOST
from tests.litellm.proxy import MASTER_KEY, LiteLLM

if TYPE_CHECKING:
    from collections.abc import Iterator

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
ANSWER = "Hello."
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
        answer = json.dumps(_answer(f"/{path}", body["model"])).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _answer(path: str, model: str) -> dict[str, Any]:
    if path == "/api/embed":
        return {"model": model, "embeddings": [VECTOR], "prompt_eval_count": 1}
    if path == "/api/chat":
        message = {"role": "assistant", "content": ANSWER}
        return {"model": model, "message": message, "done": True, "prompt_eval_count": 3, "eval_count": 2}
    choice = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


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
        with pytest.raises(AuthenticationError):
            await client.models.list()


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("ollama/qwen2.5:7b", {"litellm_config.yaml": "ollama", "litellm_config.prod.yaml": "vllm-light"}),
        ("ollama/qwen2.5:32b", {"litellm_config.yaml": "ollama", "litellm_config.prod.yaml": "vllm-standard"}),
        ("vllm/qwen2.5:72b", {"litellm_config.yaml": "vllm-service", "litellm_config.prod.yaml": "vllm-heavy"}),
    ],
)
async def test_each_tiers_model_is_asked_where_it_is_and_by_the_name_it_has_there(
    configured: tuple[str, LiteLLM], upstreams: Asked, name: str, hosts: dict[str, str]
) -> None:
    file, proxy = configured
    async with openai(proxy) as client:
        completion = await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hello?"}])
    assert completion.choices[0].message.content == ANSWER
    host, path, body = upstreams.requests[-1]
    assert (host, body["model"]) == (hosts[file], name.partition("/")[2])
    assert path == ("/api/chat" if host == "ollama" else "/v1/chat/completions")


async def test_questions_and_chunks_are_embedded_by_ollama(configured: tuple[str, LiteLLM], upstreams: Asked) -> None:
    async with openai(configured[1]) as client:
        answer = await client.embeddings.create(model="ollama/nomic-embed-text", input=["one"], encoding_format="float")
    assert answer.data[0].embedding == VECTOR
    host, path, body = upstreams.requests[-1]
    assert (host, path, body["model"]) == ("ollama", "/api/embed", "nomic-embed-text")
