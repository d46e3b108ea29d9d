"""What clients get wrong at the public functions: a problem document each (RFC 9457), and nothing is kept of it."""

import io

import pytest

from tests.stack.platform import Platform
from tests.stack.reader import User

JSON = "application/json"
TOO_LARGE = b"a" * 10 * 1024 * 1024

REQUESTS = {
    "half of a JSON document": ("POST", "chat/chat", JSON, b'{"message": ', 400, "malformed_json"),
    "JSON without end": ("POST", "chat/chat", JSON, b"[" * 100_000, 400, "malformed_json"),
    "wrong types": ("POST", "chat/chat", JSON, b'{"message": 7, "stream": "perhaps"}', 422, "invalid_request"),
    "an empty message": ("POST", "chat/chat", JSON, b'{"message": " "}', 422, "invalid_request"),
    "a NUL character": ("POST", "chat/chat", JSON, b'{"message": "a\\u0000b"}', 422, "invalid_request"),
    "a message of 10 MB": ("POST", "chat/chat", JSON, TOO_LARGE, 413, "request_too_large"),
    "a turn that never was": ("GET", "chat/turns/7b0c0d9e-3f5f-4f43-9a53-3e1b8f7a4c11", JSON, b"", 404, "not_found"),
    "no turn's id": ("GET", "chat/turns/seven", JSON, b"", 404, "route_not_found"),
    "a wrong method": ("DELETE", "chat/chat", JSON, b"", 405, "method_not_allowed"),
    "a picture": ("POST", "ingestion/documents?name=a", "image/png", b"\x89PNG\xff", 415, "unsupported_media_type"),
    "a name that leads elsewhere": (
        "POST",
        "ingestion/documents?name=../a",
        "text/plain",
        b"a",
        422,
        "invalid_request",
    ),
    "an empty document": ("POST", "ingestion/documents?name=a", "text/plain", b"", 422, "undecodable_document"),
    "no name": ("POST", "ingestion/documents", "text/plain", b"text", 422, "invalid_request"),
    "no collection": ("GET", "ingestion/documents?collection=%00", JSON, b"", 422, "invalid_request"),
    "nothing to route": ("POST", "routing/routing/explain", JSON, b'{"message": ""}', 422, "invalid_request"),
}


@pytest.mark.parametrize(("method", "url", "media_type", "body", "status", "code"), REQUESTS.values(), ids=REQUESTS)
async def test_a_bad_request_is_a_problem_and_leaves_no_trace(
    platform: Platform, stranger: User, method: str, url: str, media_type: str, body: bytes, status: int, code: str
) -> None:
    # As a file, or aiohttp would warn of the size.
    answer = await stranger.request(method, url, data=io.BytesIO(body), headers={"Content-Type": media_type})
    assert_problem(answer, status, code)
    for table in ("chat.conversations", "chat.turns", "rag.documents", "budget.ledger", "events.outbox"):
        rows = platform.query(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [stranger.tenant])
        assert rows == [(0,)], table


@pytest.mark.parametrize("url", ["chat/turns/7b0c0d9e-3f5f-4f43-9a53-3e1b8f7a4c11", "ingestion/documents"])
async def test_nobody_gets_in_without_a_token(user: User, url: str) -> None:
    answer = await user.request("GET", url, headers={"Authorization": "Bearer no.such.token"})
    assert_problem(answer, 401, "unauthenticated")


def assert_problem(answer: tuple[int, str, dict[str, object]], status: int, code: str) -> None:
    given, media_type, problem = answer
    assert (given, media_type, problem.get("code")) == (status, "application/problem+json", code), problem
    assert (problem["type"], problem["status"]) == (f"urn:enterprise-agents:problem:{code}", status)
    assert problem["title"]
    assert "Traceback" not in str(problem)
