"""A model server that costs next to nothing, so that what stands in front of it is what a benchmark measures.

Started as `python -m tests.benchmarks.upstream` with HOST and PORT. It speaks as much of OpenAI's HTTP API as the benchmark
and the SDK checks need, over asyncio's protocols, with answers that were built beforehand:

    POST /v1/chat/completions   always TEXT in TOKENS, whole or streamed; a call of the first tool when tools are offered
    POST /v1/embeddings         one fixed vector for each input
    GET /v1/models, GET /health
    PUT /pace                   {"first_seconds": s, "between_seconds": s}: when the first token of a stream leaves, and each
                                further one; both are 0 at the start: then a whole stream is one write

An unknown model is answered with 404 and `model_not_found`, as OpenAI does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
from base64 import b64encode
from functools import cache
from typing import Any

TOKENS = tuple(f" token{number:02}" for number in range(60))
TEXT = "".join(TOKENS)
PROMPT_TOKENS = 250
"""What it counts for any prompt."""
CHAT_MODELS = ("mock/light", "mock/standard", "mock/heavy")
EMBEDDING_MODEL = "mock/embedding"
WIDTH = 384
VECTOR = [1 / 2 ** (number % 8) for number in range(WIDTH)]
"""The embedding of anything; its numbers are exact at any precision."""
_CREATED = 1_700_000_000
_END_OF_HEAD = b"\r\n\r\n"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


class Pace:
    """When the tokens of a stream leave, in seconds."""

    first = 0.0
    between = 0.0


def answer(status: int, body: object) -> bytes:
    """Return a whole response with a JSON body."""
    return _head(status, "application/json") + _sized(json.dumps(body, separators=(",", ":")).encode())


def usage() -> dict[str, int]:
    """Return the usage of every answer."""
    spent = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": len(TOKENS)}
    return {**spent, "total_tokens": sum(spent.values())}


@cache
def whole(model: str) -> bytes:
    """Return the answer that is not streamed."""
    return _completion(model, {"role": "assistant", "content": TEXT}, "stop")


@cache
def tool_call(model: str, tool: str) -> bytes:
    """Return the answer that calls a tool with the argument `city`."""
    call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": '{"city":"Oslo"}'}}
    return _completion(model, {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")


@cache
def streamed_tool_call(model: str, tool: str) -> bytes:
    """Return the same as a stream: the name, then the arguments in two pieces."""
    named: dict[str, Any] = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": tool, "arguments": ""},
    }
    pieces = [{"index": 0, "function": {"arguments": part}} for part in ('{"city":', '"Oslo"}')]
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [named]},
        *({"tool_calls": [p]} for p in pieces),
    ]
    events = [_chunk(model, delta) for delta in deltas]
    return _stream_head() + b"".join([*events, *_ending(model, "tool_calls", with_usage=True)])


@cache
def stream(model: str, *, with_usage: bool) -> tuple[bytes, ...]:
    """Return the pieces of the streamed answer: one with the head for the first token, one a token, the last with the end."""
    pieces = [_chunk(model, {"content": token}) for token in TOKENS]
    pieces[0] = _stream_head() + _chunk(model, {"role": "assistant", "content": ""}) + pieces[0]
    pieces[-1] += b"".join(_ending(model, "stop", with_usage=with_usage))
    return tuple(pieces)


@cache
def at_once(model: str, *, with_usage: bool) -> bytes:
    """Return the streamed answer as one piece."""
    return b"".join(stream(model, with_usage=with_usage))


def _completion(model: str, message: dict[str, Any], finish_reason: str) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
    identity = {"id": "chatcmpl-mock", "created": _CREATED, "model": model}
    return answer(200, {**identity, "object": "chat.completion", "choices": [choice], "usage": usage()})


def _chunk(model: str, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return _event({**_chunk_identity(model), "choices": [choice]})


def _ending(model: str, finish_reason: str, *, with_usage: bool) -> list[bytes]:
    last = [_event({**_chunk_identity(model), "choices": [], "usage": usage()})] if with_usage else []
    return [_chunk(model, {}, finish_reason), *last, _framed(b"data: [DONE]\n\n"), _framed(b"")]


def _chunk_identity(model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": _CREATED, "model": model}


def _event(body: dict[str, Any]) -> bytes:
    return _framed(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _head(status: int, kind: str) -> bytes:
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n".encode()


def _stream_head() -> bytes:
    return _head(200, "text/event-stream; charset=utf-8") + b"Transfer-Encoding: chunked\r\n\r\n"


def _sized(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def refusal(status: int, message: str, code: str) -> bytes:
    """Return an error in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return answer(status, {"error": error})


def embeddings(body: dict[str, Any]) -> bytes:
    """Return a fixed vector for each input, in base64 where asked for, as the official clients do by themselves."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    packed = b64encode(struct.pack(f"<{WIDTH}f", *VECTOR)).decode()
    vector = packed if body.get("encoding_format") == "base64" else VECTOR
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))]
    spent = {"prompt_tokens": 8 * len(inputs), "total_tokens": 8 * len(inputs)}
    return answer(200, {"object": "list", "model": body["model"], "data": data, "usage": spent})


class Connection(asyncio.Protocol):
    """One client: a request, its answer, the next request."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        """Write no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while (end := self._received.find(_END_OF_HEAD)) >= 0:
            head = bytes(self._received[:end])
            begins, ends = end + len(_END_OF_HEAD), end + len(_END_OF_HEAD) + _content_length(head)
            if len(self._received) < ends:
                return
            body = bytes(self._received[begins:ends])
            del self._received[:ends]
            method, path, _ = head.split(b"\r\n", 1)[0].split(b" ")
            self._answer(method, path, body)

    def _answer(self, method: bytes, path: bytes, body: bytes) -> None:
        match method, path.partition(b"?")[0]:
            case b"POST", b"/v1/chat/completions":
                self._complete(json.loads(body))
            case b"POST", b"/v1/embeddings":
                asked = json.loads(body)
                known = asked["model"] == EMBEDDING_MODEL
                self._write(embeddings(asked) if known else _no_such_model(asked["model"]))
            case b"GET", b"/v1/models":
                names = (*CHAT_MODELS, EMBEDDING_MODEL)
                data = [{"id": n, "object": "model", "created": _CREATED, "owned_by": "mock"} for n in names]
                self._write(answer(200, {"object": "list", "data": data}))
            case b"PUT", b"/pace":
                wanted = json.loads(body)
                Pace.first, Pace.between = wanted["first_seconds"], wanted["between_seconds"]
                self._write(answer(200, wanted))
            case b"GET", b"/health":
                self._write(answer(200, {"status": "ok"}))
            case _:
                self._write(refusal(404, f"There is no {path.decode(errors='replace')}.", "not_found"))

    def _complete(self, asked: dict[str, Any]) -> None:
        model, streamed = asked["model"], bool(asked.get("stream"))
        if model not in CHAT_MODELS:
            self._write(_no_such_model(model))
        elif not asked.get("messages"):
            self._write(refusal(400, "There are no messages.", "invalid_request"))
        elif asked.get("tools"):
            tool = asked["tools"][0]["function"]["name"]
            self._write(streamed_tool_call(model, tool) if streamed else tool_call(model, tool))
        elif not streamed:
            self._later(Pace.first + Pace.between * (len(TOKENS) - 1), whole(model))
        else:
            with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
            if Pace.first or Pace.between:
                self._paced(stream(model, with_usage=with_usage), 0, self._loop.time() + Pace.first)
            else:
                self._write(at_once(model, with_usage=with_usage))

    def _later(self, seconds: float, data: bytes) -> None:
        if seconds:
            self._timer = self._loop.call_later(seconds, self._write, data)
        else:
            self._write(data)

    def _paced(self, pieces: tuple[bytes, ...], number: int, due: float) -> None:
        def send() -> None:
            self._write(pieces[number])
            if number + 1 < len(pieces):
                self._paced(pieces, number + 1, due + Pace.between)

        self._timer = self._loop.call_at(due, send)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _no_such_model(model: str) -> bytes:
    return refusal(404, f"The model `{model}` does not exist.", "model_not_found")


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, ended.set)
    server = await loop.create_server(lambda: Connection(loop), host, port, backlog=1024)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(os.environ["HOST"], int(os.environ["PORT"])))
    sys.exit(0)
