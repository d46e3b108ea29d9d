"""An embedding endpoint that runs elsewhere: it takes the time of its machines, and next to none of this one's.

Started as `python -m tests.benchmarks.embedder` with HOST, PORT and

    EMBEDDER_REPLICAS           servers behind the one address, each with one request at a time; further requests wait in turn
    EMBEDDER_TOKENS_A_SECOND    what each reads
    EMBEDDER_REQUEST_SECONDS    what each takes for a request beside its tokens

It speaks OpenAI's POST /v1/embeddings. A text has a token for each 4 characters, at most 256 as for MiniLM. Its vector is the
sum of vectors of its words, so that texts with the same words are near to each other; vectors that had nothing in common, or
everything, would make work for an index that no real ones make.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import zlib
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from starlette.requests import Request

MODEL = "bench/elsewhere"
WIDTH = 384
MOST_TOKENS = 256
CHARACTERS_A_TOKEN = 4
WORDS = 4096
LEVELS = 4096


@dataclass(frozen=True)
class Pace:
    """How quick the endpoint is."""

    replicas: int
    tokens_a_second: float
    request_seconds: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Pace:
        """Read it."""
        return cls(
            int(environ["EMBEDDER_REPLICAS"]),
            float(environ["EMBEDDER_TOKENS_A_SECOND"]),
            float(environ["EMBEDDER_REQUEST_SECONDS"]),
        )

    def environment(self) -> dict[str, str]:
        """Return it as variables."""
        return {
            "EMBEDDER_REPLICAS": str(self.replicas),
            "EMBEDDER_TOKENS_A_SECOND": str(self.tokens_a_second),
            "EMBEDDER_REQUEST_SECONDS": str(self.request_seconds),
        }

    def seconds(self, tokens: int) -> float:
        """Return what a replica takes for a request."""
        return self.request_seconds + tokens / self.tokens_a_second


class Vectors:
    """Makes vectors of 384 numbers, as they are written in JSON and as the bytes that clients may ask for."""

    def __init__(self) -> None:
        self._words = np.random.default_rng(7).standard_normal((WORDS, WIDTH), np.float32)
        self._values = np.linspace(-0.25, 0.25, LEVELS, dtype=np.float32)
        self._written = [f"{value:.9f}" for value in self._values]

    def body(self, texts: Sequence[str], *, as_base64: bool) -> bytes:
        """Return the answer."""
        levels = [self._levels(text) for text in texts]
        vectors = map(self._base64 if as_base64 else self._numbers, levels)
        data = ",".join(
            f'{{"object":"embedding","index":{index},"embedding":{vector}}}' for index, vector in enumerate(vectors)
        )
        spent = sum(map(tokens, texts))
        usage = f'{{"prompt_tokens":{spent},"total_tokens":{spent}}}'
        return f'{{"object":"list","model":"{MODEL}","data":[{data}],"usage":{usage}}}'.encode()

    def _levels(self, text: str) -> NDArray[np.int64]:
        rows = [zlib.crc32(word.encode()) % WORDS for word in text.lower().split()] or [0]
        vector = self._words[rows].sum(axis=0)
        vector /= np.linalg.norm(vector)
        levels: NDArray[np.int64] = np.clip((vector + 0.25) * (LEVELS / 0.5), 0, LEVELS - 1).astype(np.int64)
        return levels

    def _numbers(self, levels: NDArray[np.int64]) -> str:
        return f"[{','.join([self._written[level] for level in levels.tolist()])}]"

    def _base64(self, levels: NDArray[np.int64]) -> str:
        return f'"{b64encode(self._values[levels].tobytes()).decode()}"'


def tokens(text: str) -> int:
    """Return what a text counts."""
    return min(len(text) // CHARACTERS_A_TOKEN + 2, MOST_TOKENS)


def create_app(pace: Pace) -> Starlette:
    """Return the server."""
    vectors = Vectors()
    replicas = asyncio.Semaphore(pace.replicas)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def embeddings(request: Request) -> Response:
        asked: dict[str, Any] = json.loads(await request.body())
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        async with replicas:
            ends = time.monotonic() + pace.seconds(sum(map(tokens, texts)))
            body = vectors.body(texts, as_base64=asked.get("encoding_format") == "base64")
            # Writing the answer is part of the time that it takes.
            await asyncio.sleep(max(0.0, ends - time.monotonic()))
        return Response(body, media_type="application/json")

    return Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/v1/embeddings", embeddings, methods=["POST"]),
        ]
    )


def main() -> None:
    """Serve until SIGTERM."""
    uvicorn.run(
        create_app(Pace.from_environment(os.environ)),
        host=os.environ["HOST"],
        port=int(os.environ["PORT"]),
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
