from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local.sse import ServerSentEvent, read_events


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(*parts: bytes) -> list[ServerSentEvent]:
    return [event async for event in read_events(chunks(*parts))]


async def test_events_keep_name_data_and_the_last_id_seen() -> None:
    stream = b'id: 1-0\nevent: turn.delta\ndata: {"text":"a"}\n\nevent: turn.completed\ndata: {}\n\n'
    assert await read(stream) == [
        ServerSentEvent("turn.delta", '{"text":"a"}', "1-0"),
        ServerSentEvent("turn.completed", "{}", "1-0"),
    ]


async def test_comments_and_events_without_data_yield_nothing() -> None:
    assert await read(b": heartbeat\n\nevent: nothing\n\ndata: x\n\n") == [ServerSentEvent("message", "x", "")]


async def test_several_data_lines_are_joined_by_line_feeds() -> None:
    assert [event.data for event in await read(b"data: a\ndata:\ndata:  b\n\n")] == ["a\n\n b"]


async def test_an_event_that_was_cut_off_is_dropped() -> None:
    assert await read(b"data: whole\n\ndata: half\n") == [ServerSentEvent("message", "whole", "")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_every_kind_of_line_end_separates(end: bytes) -> None:
    events = await read(b"event: e" + end + b"data: x" + end + end + b"data: y" + end + end + b":" + end)
    assert [(event.event, event.data) for event in events] == [("e", "x"), ("message", "y")]


@given(st.lists(st.integers(min_value=0, max_value=60), max_size=8))
async def test_where_the_stream_is_cut_into_chunks_does_not_matter(cuts: list[int]) -> None:
    stream = "id: 7\r\nevent: ä\r\ndata: grün\r\ndata: ✓\r\n\r\n: x\n\ndata: b\n\n".encode()
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parts = [stream[a:b] for a, b in pairwise(bounds)]
    assert await read(*parts) == [ServerSentEvent("ä", "grün\n✓", "7"), ServerSentEvent("message", "b", "7")]
