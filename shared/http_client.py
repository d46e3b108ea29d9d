"""aiohttp's client, without what it does again and again for an answer that came in many chunks; imported when first used."""

import asyncio
from functools import partial
from typing import cast

from aiohttp import ClientSession, TCPConnector
from aiohttp.client_proto import ResponseHandler


class Handler(ResponseHandler):
    """A connection that resumes what it has paused, and nothing else.

    aiohttp 3.14 resumes with each chunk that is taken, one for each token: a seventh of the time of an answer.
    """

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Go on reading, if it was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)


def session() -> ClientSession:
    """Return a client for a running event loop. What bounds its streams is the Service's containerConcurrency."""
    connector = TCPConnector(limit=0)
    handler = partial(Handler, loop=asyncio.get_running_loop())
    connector._factory = cast("partial[ResponseHandler]", handler)  # noqa: SLF001 - there is no other way in
    return ClientSession(connector=connector)
