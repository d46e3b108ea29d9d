import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.local.client import ApiError, PlatformClient

COMPLETED: dict[str, object] = {"status": "completed", "model": "m", "usage": {}, "budget": {}}


def sse(*events: tuple[str, dict[str, object]]) -> bytes:
    return b"".join(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events)


class Platform:
    """Answers every request with one response, and keeps the last request."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.request: dict[str, object] = {}

    async def handle(self, request: web.Request) -> web.Response:
        self.request = {
            "path": str(request.rel_url),
            "token": request.headers.get("Authorization"),
            "type": request.headers.get("Content-Type"),
            "body": await request.read(),
        }
        return web.Response(status=self.status, body=self.body)


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[PlatformClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", platform.handle)
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("")).rstrip("/")
    async with aiohttp.ClientSession() as session:
        yield PlatformClient(session, {"chat": url, "ingestion": url}, "token")
    await server.close()


async def test_upload_sends_the_bytes_and_returns_the_id(client: PlatformClient, platform: Platform) -> None:
    platform.status, platform.body = 202, b'{"id": "d1"}'
    assert await client.upload("a b.md", b"# Hi", "text/markdown") == "d1"
    assert platform.request == {
        "path": "/documents?name=a+b.md",
        "token": "Bearer token",
        "type": "text/markdown",
        "body": b"# Hi",
    }


async def test_an_answer_is_written_piece_by_piece_and_returned_whole(
    client: PlatformClient, platform: Platform
) -> None:
    platform.body = sse(
        ("turn.accepted", {"tier": "light"}),
        ("turn.started", {"attempt": 1}),
        ("turn.delta", {"text": "It is "}),
        ("turn.delta", {"text": "so [1]."}),
        ("turn.citations", {"citations": [{"n": 1}]}),
        ("turn.completed", COMPLETED),
    )
    pieces: list[str] = []
    answer = await client.ask("Why?", pieces.append, lambda: pieces.append("again"))
    assert pieces == ["It is ", "so [1]."]
    assert (answer.text, answer.citations, answer.failure) == ("It is so [1].", [{"n": 1}], "")
    assert answer.accepted == {"tier": "light"}
    assert answer.completed == COMPLETED
    assert answer.first_token_seconds is not None


async def test_a_restart_drops_the_partial_answer(client: PlatformClient, platform: Platform) -> None:
    platform.body = sse(
        ("turn.delta", {"text": "Half"}),
        ("turn.restarted", {"attempt": 2}),
        ("turn.delta", {"text": "Whole"}),
        ("turn.completed", COMPLETED),
    )
    pieces: list[str] = []
    answer = await client.ask("Why?", pieces.append, lambda: pieces.append("again"))
    assert pieces == ["Half", "again", "Whole"]
    assert answer.text == "Whole"


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ([("turn.failed", {"code": "model_unavailable", "detail": "down"})], "model_unavailable: down"),
        ([("turn.delta", {"text": "Half"})], "the stream ended before the turn did"),
    ],
)
async def test_a_turn_that_fails_or_is_cut_off_is_a_failure(
    client: PlatformClient, platform: Platform, events: list[tuple[str, dict[str, object]]], failure: str
) -> None:
    platform.body = sse(*events)
    answer = await client.ask("Why?", lambda _: None, lambda: None)
    assert answer.failure == failure
    assert answer.completed is None


@pytest.mark.parametrize(
    ("body", "message"),
    [(b'{"code": "rate_limited", "detail": "slow down"}', "429: rate_limited: slow down"), (b"<html>", "no JSON")],
)
async def test_a_refusal_is_an_error_with_its_detail(
    client: PlatformClient, platform: Platform, body: bytes, message: str
) -> None:
    platform.status, platform.body = 429, body
    with pytest.raises(ApiError, match=message):
        await client.documents()
    with pytest.raises(ApiError, match=message):
        await client.ask("Why?", lambda _: None, lambda: None)
