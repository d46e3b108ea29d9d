import pytest

from infra.local.model_server import generation
from infra.local.model_server.embeddings import Encoder
from infra.local.model_server.generation import Completion, Generator

COMPLETION = Completion(pieces=["a", "b", "c", "d"], finish_reason="stop", prompt_tokens=1)


class Clock:
    """Stands in for anyio: time passes only where it is slept or spent."""

    def __init__(self) -> None:
        self.now = 100.0

    def current_time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(generation, "anyio", clock)
    return clock


async def test_pieces_are_written_at_the_set_pace(encoder: Encoder, clock: Clock) -> None:
    times = [clock.now async for _ in Generator(encoder, tokens_per_second=4).write(COMPLETION)]
    assert times == [100.25, 100.5, 100.75, 101.0]


async def test_a_slow_reader_does_not_slow_the_pace(encoder: Encoder, clock: Clock) -> None:
    times = []
    async for piece in Generator(encoder, tokens_per_second=4).write(COMPLETION):
        times.append(clock.now)
        clock.now += 0.6 if piece == "a" else 0
    assert times == [100.25, 100.85, 100.85, 101.0]


async def test_without_a_pace_nothing_waits(encoder: Encoder, clock: Clock) -> None:
    assert [piece async for piece in Generator(encoder, tokens_per_second=0).write(COMPLETION)] == list("abcd")
    assert clock.now == 100.0


async def test_a_writer_that_is_closed_early_is_no_longer_active(encoder: Encoder, clock: Clock) -> None:
    generator = Generator(encoder, tokens_per_second=1)
    pieces = generator.write(COMPLETION)
    assert await anext(pieces) == "a"
    assert (generator.active, clock.now) == (1, 101.0)
    await pieces.aclose()
    assert generator.active == 0
