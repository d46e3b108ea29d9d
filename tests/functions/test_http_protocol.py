"""The head of a request is bounded, whatever the parser would take; everything around it is not touched."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.http_protocol import MAX_HEAD_BYTES
from tests.functions.platform import Platform
from tests.functions.talk import PATIENCE_SECONDS, Server, serving

OTHER_PROTOCOL = (
    b"POST /nowhere HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 37\r\n\r\n"
    b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
)
"""Its body would be the next request."""
LINE = b"X-Filling: " + b"x" * 1011 + b"\r\n"


@pytest.fixture
async def server(platform: Platform) -> AsyncIterator[Server]:
    async with serving(platform.serve("chat")) as running:
        yield running


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the status line and the body of an answer that says its length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    return head.partition(b"\r\n")[0], await reader.readexactly(int(length.partition(b":")[2]))


async def send(writer: asyncio.StreamWriter, parts: list[bytes]) -> None:
    """Send each part by itself."""
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.002)


async def test_a_head_without_an_end_is_refused_and_the_connection_closed(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
    lines = 2 * MAX_HEAD_BYTES // len(LINE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        sending = asyncio.create_task(send(writer, [b"GET /health/live HTTP/1.1\r\nHost: a\r\n", *[LINE] * lines]))
        assert await answer(reader) == (b"HTTP/1.1 400 Bad Request", b"The head of the request is too long.")
        assert await reader.read() == b""
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def test_heads_within_the_bound_and_long_bodies_are_taken_however_they_are_cut(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
    lines = MAX_HEAD_BYTES // len(LINE) - 1
    body = b"x" * 3 * MAX_HEAD_BYTES
    post = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    get = [b"GET /health/live HTTP/1.1\r\nHost: a\r\n", *[LINE] * lines, b"\r\n"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        # The end of a body and the beginning of the next head come together.
        await send(writer, [*get, post + body[:100], body[100:] + get[0], *get[1:]])
        assert [(await answer(reader))[0] for _ in range(3)] == [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 404 Not Found",
            b"HTTP/1.1 200 OK",
        ]
        writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OTHER_PROTOCOL,
        b"GET /health/live HTTP/1.1\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
        b"NOTHING\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=[
        "two lengths",
        "length and chunks",
        "another protocol",
        "no host",
        "two hosts",
        "space in a name",
        "NUL in a value",
        "no request",
        "TLS",
    ],
)
async def test_what_is_no_http_is_refused(server: Server, request_: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
    writer.write(request_)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await answer(reader))[0] == b"HTTP/1.1 400 Bad Request"
        assert await reader.read() == b""
        writer.close()


async def test_an_upgrade_that_is_not_understood_is_ignored_and_the_connection_ends(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
    get = b"GET /health/live HTTP/1.1\r\nHost: a\r\n"
    writer.write(get + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await answer(reader))[0] == b"HTTP/1.1 200 OK"
        assert await reader.read() == b""
        writer.close()


async def test_trailers_without_an_end_are_refused(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
    head = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    async with asyncio.timeout(PATIENCE_SECONDS):
        sending = asyncio.create_task(send(writer, [head, *[LINE] * (2 * MAX_HEAD_BYTES // len(LINE))]))
        assert (await answer(reader))[0] == b"HTTP/1.1 404 Not Found"
        assert await reader.read() != b"", "it is told why"
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


async def test_a_head_that_begins_in_the_read_that_ends_another_is_not_taken_for_it(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
    body = b"x" * (MAX_HEAD_BYTES + 4000)
    post = b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with asyncio.timeout(PATIENCE_SECONDS):
        parts = [post[:24], post[24:] + body + b"GET /health/live HTTP/1.1\r\nHos", b"t: a\r\n\r\n"]
        await send(writer, parts)
        assert [(await answer(reader))[0] for _ in range(2)] == [b"HTTP/1.1 404 Not Found", b"HTTP/1.1 200 OK"]
        writer.close()
