import base64
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from infra.local.model_server import server
from infra.local.model_server.answers import NOTHING_FOUND
from infra.local.model_server.config import Config
from infra.local.model_server.embeddings import Embedded, Encoder
from infra.local.model_server.server import create_app

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
ENCODER_NAME = "local/all-minilm-l6-v2"
SYSTEM = "Cite.\n<passages>\n[1] guide.md\nBackups are kept for 30 days.\n</passages>"
ANSWER = "From the documents (extractive stand-in, no language model): Backups are kept for 30 days. [1]"


def chat(**changes: object) -> dict[str, object]:
    return {
        "model": "local/extractive-standard",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "How long are backups kept?"},
        ],
        **changes,
    }


@pytest.fixture(scope="module")
def client(encoder: Encoder) -> Iterator[TestClient]:
    with TestClient(create_app(Config(tokens_per_second=0), encoder)) as client:
        yield client


def events(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    blocks = text[:-2].split("\n\n")
    assert all(block.startswith("data: ") for block in blocks)
    assert blocks.pop() == "data: [DONE]"
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_health_says_how_many_completions_are_being_written(client: TestClient) -> None:
    response = client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok", "generating": 0})


def test_all_models_are_listed(client: TestClient) -> None:
    body = client.get("/v1/models").json()
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == [
        "local/extractive-light",
        "local/extractive-standard",
        "local/extractive-heavy",
        ENCODER_NAME,
    ]
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in body["data"])


def test_embeddings_come_in_the_order_of_the_inputs(client: TestClient, encoder: Encoder) -> None:
    texts = ["a much longer text than the other one", "short"]
    body = client.post(EMBEDDINGS, json={"model": ENCODER_NAME, "input": texts, "dimensions": 384}).json()
    assert (body["object"], body["model"]) == ("list", ENCODER_NAME)
    assert [(item["object"], item["index"]) for item in body["data"]] == [("embedding", 0), ("embedding", 1)]
    expected = encoder.embed(texts)
    np.testing.assert_allclose([item["embedding"] for item in body["data"]], expected.vectors, atol=1e-6)
    assert body["usage"] == {"prompt_tokens": expected.tokens, "total_tokens": expected.tokens}


def test_base64_holds_the_same_numbers_as_little_endian_float32(client: TestClient, encoder: Encoder) -> None:
    body = client.post(EMBEDDINGS, json={"model": ENCODER_NAME, "input": "hello", "encoding_format": "base64"}).json()
    numbers = np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(numbers, encoder.embed(["hello"]).vectors[0], atol=1e-6)


def test_a_completion_has_the_answer_and_the_usage(client: TestClient, encoder: Encoder) -> None:
    body = client.post(CHAT, json=chat()).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "local/extractive-standard"
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": ANSWER, "refusal": None}
    assert choice["finish_reason"] == "stop"
    prompt_tokens = encoder.count([SYSTEM, "How long are backups kept?"])
    completion_tokens = encoder.count([ANSWER])
    assert body["usage"] == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def test_a_stream_has_the_role_first_then_the_pieces_then_the_reason(client: TestClient) -> None:
    response = client.post(CHAT, json=chat(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response.text)
    assert all(set(chunk) == {"id", "object", "created", "model", "choices"} for chunk in chunks)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"]["content"] for choice in choices[1:-1]) == ANSWER
    assert all(choice["finish_reason"] is None for choice in choices[:-1])
    assert (choices[-1]["delta"], choices[-1]["finish_reason"]) == ({}, "stop")


def test_a_stream_ends_with_the_usage_if_asked_for(client: TestClient) -> None:
    usage = client.post(CHAT, json=chat()).json()["usage"]
    chunks = events(client.post(CHAT, json=chat(stream=True, stream_options={"include_usage": True})).text)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], usage)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


@pytest.mark.parametrize(
    "limits", [{"max_tokens": 4}, {"max_completion_tokens": 4}, {"max_tokens": 9, "max_completion_tokens": 4}]
)
def test_an_answer_over_the_token_limit_is_cut_there(client: TestClient, limits: dict[str, int]) -> None:
    body = client.post(CHAT, json=chat(**limits)).json()
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["choices"][0]["message"]["content"] == "From the documents ("
    assert body["usage"]["completion_tokens"] == 4
    streamed = events(client.post(CHAT, json=chat(stream=True, **limits)).text)
    assert streamed[-1]["choices"][0]["finish_reason"] == "length"


def test_a_limit_that_is_just_enough_cuts_nothing(client: TestClient, encoder: Encoder) -> None:
    (choice,) = client.post(CHAT, json=chat(max_tokens=encoder.count([ANSWER]))).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (ANSWER, "stop")


@pytest.mark.parametrize("stop", [" kept", ["days", "never", "Backups are ", " kept"], ["", " kept"]])
def test_the_answer_ends_before_the_first_stop_sequence(client: TestClient, stop: str | list[str]) -> None:
    (choice,) = client.post(CHAT, json=chat(stop=stop)).json()["choices"]
    assert choice["finish_reason"] == "stop"
    text = choice["message"]["content"]
    assert ANSWER.startswith(text)
    assert text.endswith(("model): Backups are", "model): "))


def test_content_may_come_in_text_parts(client: TestClient) -> None:
    parts = [
        {"type": "text", "text": "Please tell me:"},
        {"type": "text", "text": "How long are backups kept?"},
    ]
    messages = [{"role": "developer", "content": SYSTEM}, {"role": "user", "content": parts}]
    assert client.post(CHAT, json=chat(messages=messages)).json()["choices"][0]["message"]["content"] == ANSWER


def test_a_refusal_in_the_history_is_read_and_a_picture_is_said_to_be_none(client: TestClient) -> None:
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I may not."}]}
    messages = [
        {"role": "system", "content": SYSTEM},
        refused,
        {"role": "user", "content": "How long are backups kept?"},
    ]
    assert client.post(CHAT, json=chat(messages=messages)).json()["choices"][0]["message"]["content"] == ANSWER
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}
    error = client.post(CHAT, json=chat(messages=[picture])).json()["error"]
    assert error["message"] == "messages.0.content: this stand-in reads text only, no pictures or other parts."


def test_without_passages_the_answer_says_so(client: TestClient) -> None:
    messages = [{"role": "assistant", "content": None}, {"role": "user", "content": "How long?"}]
    body = client.post(CHAT, json=chat(messages=messages)).json()
    assert body["choices"][0]["message"]["content"] == NOTHING_FOUND


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        (CHAT, chat(model="gpt-4o"), 404, "model"),
        (CHAT, chat(model=ENCODER_NAME), 404, "model"),
        (EMBEDDINGS, {"model": "local/extractive-light", "input": "x"}, 404, "model"),
        (CHAT, chat(messages=[]), 400, "messages"),
        (CHAT, chat(messages="hello"), 400, "messages"),
        (CHAT, chat(messages=[{"role": "king", "content": "x"}]), 400, "messages"),
        (CHAT, chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), 400, "messages"),
        (CHAT, chat(model=3), 400, "model"),
        (CHAT, {"messages": []}, 400, "model"),
        (CHAT, chat(stream="yes"), 400, "stream"),
        (CHAT, chat(max_tokens=0), 400, "max_tokens"),
        (CHAT, chat(max_tokens="9"), 400, "max_tokens"),
        (CHAT, chat(n=2), 400, "n"),
        (CHAT, chat(stop=["a", "b", "c", "d", "e"]), 400, "stop"),
        (CHAT, chat(response_format={"type": "json_object"}), 400, "response_format"),
        (CHAT, [1], 400, None),
        (EMBEDDINGS, {"model": ENCODER_NAME}, 400, "input"),
        (EMBEDDINGS, {"model": ENCODER_NAME, "input": ""}, 400, "input"),
        (EMBEDDINGS, {"model": ENCODER_NAME, "input": []}, 400, "input"),
        (EMBEDDINGS, {"model": ENCODER_NAME, "input": ["x", ""]}, 400, "input"),
        (EMBEDDINGS, {"model": ENCODER_NAME, "input": [1, 2]}, 400, "input"),
        (EMBEDDINGS, {"model": ENCODER_NAME, "input": ["x"] * 2049}, 400, "input"),
        (EMBEDDINGS, {"model": ENCODER_NAME, "input": "x", "dimensions": 1536}, 400, "dimensions"),
        (
            EMBEDDINGS,
            {"model": ENCODER_NAME, "input": "x", "encoding_format": "int8"},
            400,
            "encoding_format",
        ),
    ],
)
def test_a_wrong_request_names_its_wrong_field(
    client: TestClient, path: str, body: object, status: int, param: str | None
) -> None:
    response = client.post(path, json=body)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["code"] == ("model_not_found" if status == 404 else None)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"model": "\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_not_json_is_refused(client: TestClient, body: bytes) -> None:
    response = client.post(CHAT, content=body)
    assert response.status_code == 400
    assert "not valid JSON" in response.json()["error"]["message"]


def test_a_body_over_the_size_limit_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MAX_BODY_BYTES", 100)
    response = client.post(EMBEDDINGS, json={"model": ENCODER_NAME, "input": "x" * 100})
    assert response.status_code == 413
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", CHAT, 405), ("POST", "/v1/images", 404)])
def test_an_unknown_route_has_an_error_in_the_same_shape(
    client: TestClient, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_failure_inside_shows_nothing_of_itself(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_texts: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(encoder, "embed", fail)
    with TestClient(create_app(Config(), encoder), raise_server_exceptions=False) as client:
        response = client.post(EMBEDDINGS, json={"model": ENCODER_NAME, "input": "x"})
    assert response.status_code == 500
    assert response.json()["error"] == {
        "message": "The server failed.",
        "type": "server_error",
        "param": None,
        "code": None,
    }


def test_the_server_answers_while_it_embeds(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding, release = threading.Event(), threading.Event()
    embed = encoder.embed

    def slow(texts: Sequence[str]) -> Embedded:
        embedding.set()
        assert release.wait(10)
        return embed(texts)

    monkeypatch.setattr(encoder, "embed", slow)
    with TestClient(create_app(Config(), encoder)) as client, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(client.post, EMBEDDINGS, json={"model": ENCODER_NAME, "input": "x"})
        assert embedding.wait(10)
        assert client.get("/health").status_code == 200
        assert not pending.done()
        release.set()
        assert pending.result().status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer sk-dev-key-and-more"}, 401),
        ({"authorization": "Basic sk-dev-key"}, 401),
        ({"authorization": b"Bearer \xe9"}, 401),
        ({"authorization": "Bearer sk-dev-key"}, 200),
        ({"authorization": "bearer sk-dev-key"}, 200),
    ],
)
def test_with_a_key_set_every_api_request_needs_it(encoder: Encoder, headers: dict[str, str], status: int) -> None:
    with TestClient(create_app(Config(api_key="sk-dev-key"), encoder)) as client:
        response = client.get("/v1/models", headers=headers)
        assert response.status_code == status
        if status == 401:
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        assert client.get("/health").status_code == 200
