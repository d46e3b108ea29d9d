"""A broker that loses, repeats and reorders events: it takes them from the relay in the place of the real one."""

import asyncio
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import ClientSession, web

from infra.local.assembly import MANIFESTS
from infra.local.ports import HOST

Fault = Callable[[str], Sequence[float]]
"""Says after how many seconds an event of a subject is passed on, each time it is; never, when there are none."""


def behind(folder: Path, port: int) -> Path:
    """Return a copy of the manifests in which the relay sends to this port."""
    copied = folder / "manifests"
    shutil.copytree(MANIFESTS, copied)
    relay = copied / "sources" / "relay.yaml"
    text, count = re.subn(
        r"  sink:\n    ref:\n(      .*\n)+", f"  sink:\n    uri: http://{HOST}:{port}/\n", relay.read_text()
    )
    assert count == 1
    relay.write_text(text)
    return copied


class FaultyBroker:
    """Accepts every event, as a broker that keeps events in memory does, and passes it on to the real one as `fault` says."""

    def __init__(self, port: int, broker: str) -> None:
        self.fault: Fault = lambda _: (0.0,)
        self.came: list[str] = []
        """The subjects of the events, in the order in which they came."""
        self.passed: list[str] = []
        """Those that were passed on, in their order."""
        self.dropped: list[str] = []
        self._port = port
        self._broker = broker
        self._deliveries: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/", self._receive)
        self._session = ClientSession()
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._runner.cleanup()
        await self._session.close()

    async def drained(self) -> None:
        """Return when everything has been passed on, and the real broker is done with it."""
        while self._deliveries:
            await asyncio.gather(*self._deliveries)
        in_flight = 1
        while in_flight:
            await asyncio.sleep(0.1)
            async with self._session.get(self._broker + "/status") as response:
                triggers = (await response.json())["triggers"]
            in_flight = sum(trigger["in_flight"] for trigger in triggers.values())

    async def _receive(self, request: web.Request) -> web.Response:
        body, subject = await request.read(), request.headers["ce-subject"]
        headers = {
            name: value for name, value in request.headers.items() if name.lower().startswith(("ce-", "content-t"))
        }
        self.came.append(subject)
        delays = self.fault(subject)
        if not delays:
            self.dropped.append(subject)
        for delay in delays:
            delivery = asyncio.create_task(self._pass_on(delay, subject, headers, body))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)
        return web.Response(status=202)

    async def _pass_on(self, delay: float, subject: str, headers: dict[str, str], body: bytes) -> None:
        await asyncio.sleep(delay)
        self.passed.append(subject)
        async with self._session.post(self._broker, data=body, headers=headers) as response:
            assert response.status == 202, await response.text()
