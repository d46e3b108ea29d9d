"""Writes an answer out as a language model would: token by token, at a set pace, within its limits."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import anyio

from infra.local.model_server.answers import Answerer
from infra.local.model_server.embeddings import Encoder
from infra.local.model_server.prompts import Message
from infra.local.model_server.protocol import FinishReason


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer cut into the pieces to send, why it ends there, and the tokens of its prompt."""

    pieces: list[str]
    finish_reason: FinishReason
    prompt_tokens: int


class Generator:
    """Makes completions; ``active`` counts those that are being written out."""

    def __init__(self, encoder: Encoder, tokens_per_second: float) -> None:
        self._encoder = encoder
        self._answerer = Answerer(encoder)
        self._interval = 1 / tokens_per_second if tokens_per_second else 0.0
        self.active = 0

    def complete(self, messages: Sequence[Message], limit: int | None, stops: Sequence[str]) -> Completion:
        """Answer the prompt with at most ``limit`` tokens, up to the first stop sequence.

        It keeps a core busy meanwhile, so that it belongs in a thread.
        """
        text = self._answerer.answer(messages)
        text = text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]
        pieces = self._encoder.pieces(text)
        cut = limit is not None and len(pieces) > limit
        return Completion(
            pieces=pieces[:limit],
            finish_reason="length" if cut else "stop",
            prompt_tokens=self._encoder.count([message.content for message in messages]),
        )

    async def write(self, completion: Completion) -> AsyncGenerator[str, None]:
        """Yield the pieces, each when it is due. A cancelled or closed writer stops at once."""
        self.active += 1
        try:
            due = anyio.current_time()
            for piece in completion.pieces:
                due += self._interval
                await anyio.sleep(max(0.0, due - anyio.current_time()))
                yield piece
        finally:
            self.active -= 1
