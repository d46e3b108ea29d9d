"""A model server that writes tokens at a set pace and in each says when it was sent: `<number>:<microseconds>;`.

Started as `python -m tests.benchmarks.token_source`. It does no more than the benchmark needs, so that the cores are left to
what is measured: one timer serves all streams, and HTTP is read and written by hand. The clock is CLOCK_MONOTONIC, which all
processes of a machine share. Variables: HOST, PORT, TOKENS_PER_SECOND.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque

DIMENSIONS = 384
_TICK_SECONDS = 0.002
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Pace:
    """Writes the next token of each stream when it is due; the longest waiting stands first."""

    def __init__(self, tokens_per_second: float) -> None:
        self.interval = 1 / tokens_per_second
        self._due: deque[tuple[float, Stream]] = deque()

    def add(self, stream: Stream) -> None:
        """Write the stream's first token now, and the others after it."""
        if stream.write():
            self._due.append((time.monotonic() + self.interval, stream))

    async def run(self) -> None:
        """Write for ever."""
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                due, stream = self._due.popleft()
                if stream.write():
                    # All intervals are equal, so that what is due later stands later; one that is late catches up.
                    self._due.append((due + self.interval, stream))
            await asyncio.sleep(_TICK_SECONDS)


class Stream:
    """An answer of `count` tokens on a connection."""

    def __init__(self, transport: asyncio.Transport, count: int) -> None:
        self._transport = transport
        self._count = count
        self._written = 0

    def write(self) -> bool:
        """Write a token, or the end; return whether there is more to write."""
        if self._transport.is_closing():
            return False
        if self._written < self._count:
            text = f"{self._written}:{time.monotonic_ns() // 1000};"
            self._written += 1
            self._chunk(
                f'{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}],"usage":null}}'
            )
            return True
        self._chunk('{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}')
        self._chunk(f'{{"choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":{self._count}}}}}')
        self._chunk("[DONE]")
        self._transport.write(b"0\r\n\r\n")
        return False

    def _chunk(self, data: str) -> None:
        body = f"data: {data}\n\n"
        self._transport.write(f"{len(body):x}\r\n{body}\r\n".encode())


class Connection(asyncio.Protocol):
    """One client's connection; requests come one after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._answer(lines[0].split(" ")[1], json.loads(rest[:length] or b"{}"))

    def _answer(self, path: str, body: dict[str, object]) -> None:
        if path.endswith("/embeddings"):
            texts = body["input"]
            count = len(texts) if isinstance(texts, list) else 1
            vector = [1.0] + [0.0] * (DIMENSIONS - 1)
            self._whole({"data": [{"index": index, "embedding": vector} for index in range(count)]})
        elif path.endswith("/chat/completions") and body.get("stream"):
            self._transport.write(_HEAD)
            self._pace.add(Stream(self._transport, int(str(body["max_tokens"]))))
        else:
            self._whole({"status": "ok"})

    def _whole(self, document: object) -> None:
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def main() -> None:
    """Serve until the process is ended."""
    pace = Pace(float(os.environ["TOKENS_PER_SECOND"]))
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Connection(pace), os.environ["HOST"], int(os.environ["PORT"]), backlog=1000)
    await pace.run()


if __name__ == "__main__":
    asyncio.run(main())
