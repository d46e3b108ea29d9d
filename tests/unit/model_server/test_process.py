"""The server as its own process, over real HTTP, with the real SDK."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from infra.local import ports
from infra.local.model_server.embeddings import Encoder

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "infra.local.model_server"]
KEY = "sk-test"
PATIENCE_SECONDS = 60
"""Far more than anything here takes."""
CHAT_MODEL, EMBEDDING_MODEL = "local/extractive-standard", "local/all-minilm-l6-v2"
MESSAGES: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "<passages>\n[1] guide.md\nBackups are kept for 30 days.\n</passages>"},
    {"role": "user", "content": "How long are backups kept?"},
]
ANSWER = "From the documents (extractive stand-in, no language model): Backups are kept for 30 days. [1]"


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    def client(self, api_key: str = KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=api_key, max_retries=0)

    def generating(self) -> int:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request("GET", "/health")
            return int(json.load(connection.getresponse())["generating"])

    def wait_until_generating(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.generating() != count:
            assert time.monotonic() < deadline, f"there were never {count} completions being written"
            time.sleep(0.02)


def environment(port: str, tokens_per_second: str) -> dict[str, str]:
    variables = {"PORT": port, "MODEL_TOKENS_PER_SECOND": tokens_per_second, "LITELLM_API_KEY": KEY}
    return {**os.environ, **variables}


@contextmanager
def serving(log: Path, tokens_per_second: str) -> Iterator[Server]:
    """Run a server until the block ends, which must be by its own clean shutdown."""
    server = Server(ports.free(["server"])["server"])
    with (
        log.open("w") as output,
        subprocess.Popen(
            COMMAND,
            cwd=ROOT,
            env=environment(str(server.port), tokens_per_second),
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    server.generating()
                    break
                except ConnectionError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.02)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_SECONDS)
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("model") / "log", tokens_per_second="0") as server:
        yield server


def test_the_sdk_reads_embeddings(server: Server, encoder: Encoder) -> None:
    texts = ["first", "a second and longer text"]
    with server.client() as client:
        response = client.embeddings.create(model=EMBEDDING_MODEL, input=texts)
    np.testing.assert_allclose([item.embedding for item in response.data], encoder.embed(texts).vectors, atol=1e-5)
    assert response.usage.total_tokens == encoder.embed(texts).tokens


def test_the_sdk_reads_a_streamed_answer_with_usage(server: Server, encoder: Encoder) -> None:
    with (
        server.client() as client,
        client.chat.completions.create(
            model=CHAT_MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ) as stream,
    ):
        chunks = list(stream)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == ANSWER
    assert choices[-1].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == encoder.count([ANSWER])


def test_the_sdk_reads_a_whole_answer(server: Server) -> None:
    with server.client() as client:
        completion = client.chat.completions.create(model=CHAT_MODEL, messages=MESSAGES)
    assert completion.choices[0].message.content == ANSWER


def test_the_sdk_recognises_the_errors(server: Server) -> None:
    with server.client() as client, pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with server.client() as client, pytest.raises(openai.BadRequestError, match="non-empty"):
        client.embeddings.create(model=EMBEDDING_MODEL, input="")
    with server.client("sk-other") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_disconnects_ends_its_completion(tmp_path: Path, stream: bool) -> None:
    body = json.dumps({"model": CHAT_MODEL, "messages": MESSAGES, "stream": stream})
    # At this pace the completion takes far longer than the test waits for its end.
    with serving(tmp_path / "log", tokens_per_second="0.1") as server:
        with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
            if stream:
                assert b"assistant" in connection.getresponse().readline()
            server.wait_until_generating(1)
        server.wait_until_generating(0)


def test_a_bad_variable_is_a_clear_error() -> None:
    result = subprocess.run(
        COMMAND,
        cwd=ROOT,
        env=environment("x", "1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert result.returncode == 2
    assert "PORT must be a number from 1 to 65535, not 'x'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_a_clear_error(server: Server) -> None:
    variables = environment(str(server.port), "1")
    result = subprocess.run(
        COMMAND, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert result.returncode != 0
    assert "address already in use" in result.stderr
    assert "Traceback" not in result.stderr
