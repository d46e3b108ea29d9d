"""The local event dispatcher: Knative's Broker, Triggers and PingSources for one machine.

Started as `python -m infra.local.broker`. It reads the manifests that a cluster gets, takes CloudEvents by
POST, and delivers them in binary mode. Like Knative's in-memory channel it forgets what it holds when it
ends; the outbox and the sweeper make that harmless. Replies of subscribers are not sent on as new events:
nothing here answers with one.

Variables: PORT, HOST, LOCAL_SUBSCRIBERS (JSON: base URL by Service name, and of `job-sink`, which runs the
JobSinks), LOCAL_MANIFESTS (a kustomization's folder), LOCAL_PING_SECONDS (PingSources fire at this interval
instead of by their schedule).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response

from infra.local.cloudevent import Event
from infra.local.delivery import Subscription
from infra.local.manifests import Delivery, Destination, ManifestError, Manifests, load
from infra.local.ports import JOB_SINK
from infra.local.receiving import problem, routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from starlette.requests import Request

    from infra.local.manifests import PingSource, Trigger

# More than this and the sender has to wait, as with a full channel.
_PENDING_EVENTS = 10_000
_DRAIN_SECONDS = 2.0
_SOURCE_TIMEOUT_SECONDS = 60.0


class Broker:
    """Accepts events and delivers each to every Trigger that it matches.

    `subscribers` holds the base URL of each Service and of `job-sink`, `own_url` that of this broker; raises
    ManifestError when somebody who receives events has no URL. Use it inside a running event loop, and `close` it.
    """

    def __init__(
        self,
        manifests: Manifests,
        subscribers: Mapping[str, str],
        session: aiohttp.ClientSession,
        *,
        own_url: str,
        ping_seconds: float | None = None,
    ) -> None:
        self._manifests = manifests
        self._urls = subscribers
        self._own_url = own_url
        self._ping_seconds = ping_seconds
        self._session = session
        self._limits = {
            service.name: asyncio.Semaphore(service.concurrency)
            for service in manifests.services.values()
            if service.concurrency
        }
        self._tasks: set[asyncio.Task[object]] = set()
        self._accepted = 0
        self._routes = [(trigger, self._of_trigger(trigger)) for trigger in manifests.triggers]
        self._pings = [(ping, self._of_ping(ping)) for ping in manifests.pings]

    def start_pings(self) -> None:
        """Start the clock of the PingSources."""
        for ping, subscription in self._pings:
            self._spawn(self._tick(ping, subscription))

    def accept(self, event: Event) -> bool:
        """Take an event for delivery; return False when too many are waiting already."""
        if len(self._tasks) >= _PENDING_EVENTS:
            return False
        self._accepted += 1
        for trigger, subscription in self._routes:
            if event.matches(trigger.attributes):
                self._spawn(subscription.deliver(event))
        return True

    def status(self) -> dict[str, object]:
        """Return the counters of each Trigger and PingSource."""
        return {
            "accepted": self._accepted,
            "triggers": {trigger.name: sub.counters.as_dict() for trigger, sub in self._routes},
            "sources": {ping.name: sub.counters.as_dict() for ping, sub in self._pings},
        }

    async def close(self) -> None:
        """Give running deliveries a moment, then let go of them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0 if not self._busy() else _DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _busy(self) -> bool:
        return any(sub.counters.in_flight for _, sub in [*self._routes, *self._pings])

    def _of_trigger(self, trigger: Trigger) -> Subscription:
        delivery = trigger.delivery
        letters = None
        if delivery.dead_letter is not None:
            # As patiently as the event itself; what cannot be delivered there either is lost.
            patience = replace(delivery, timeout=None, dead_letter=None)
            letters = self._subscription(f"{trigger.name} (dead letter)", delivery.dead_letter, patience)
        return self._subscription(trigger.name, trigger.subscriber, delivery, dead_letter=letters)

    def _of_ping(self, ping: PingSource) -> Subscription:
        # Not tried again: the next minute brings the next one.
        return self._subscription(ping.name, ping.sink, Delivery())

    def _subscription(
        self, name: str, to: Destination, delivery: Delivery, *, dead_letter: Subscription | None = None
    ) -> Subscription:
        service = None if to.service is None else self._manifests.services[to.service]
        timeout = delivery.timeout or (service.timeout_seconds if service else _SOURCE_TIMEOUT_SECONDS)
        return Subscription(
            name,
            self._url(to),
            delivery,
            session=self._session,
            limit=None if to.service is None else self._limits.get(to.service),
            timeout=timeout,
            dead_letter=dead_letter,
        )

    def _url(self, to: Destination) -> str:
        if to.broker is not None:
            return below(self._own_url, to.uri)
        part = JOB_SINK if to.job_sink is not None else to.service
        if part is None:
            return to.uri
        if part not in self._urls:
            raise ManifestError(f"{part} receives events and has no URL in LOCAL_SUBSCRIBERS")
        return below(self._urls[part], to.uri if to.job_sink is None else to.job_sink)

    async def _tick(self, ping: PingSource, subscription: Subscription) -> None:
        while True:
            if self._ping_seconds is not None:
                await asyncio.sleep(self._ping_seconds)
            else:
                await asyncio.sleep(_seconds_to_next_minute(datetime.now(UTC)))
                if not ping.schedule.due(datetime.now(UTC)):
                    continue
            # A ping that is still being worked on makes another one pointless.
            if not subscription.counters.in_flight:
                event = Event.ping(source=ping.source, content_type=ping.content_type, data=ping.data)
                self._spawn(subscription.deliver(event))

    def _spawn(self, work: Coroutine[object, object, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def create_app(
    manifests: Manifests,
    subscribers: Mapping[str, str],
    *,
    own_url: str,
    ping_seconds: float | None = None,
) -> Starlette:
    """Return the application: POST of events on any path, `GET /status`, `/health/live`, `/health/ready`."""
    holder: list[Broker] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            broker = Broker(manifests, subscribers, session, own_url=own_url, ping_seconds=ping_seconds)
            holder.append(broker)
            broker.start_pings()
            try:
                yield
            finally:
                await broker.close()

    def take(_: Request, event: Event) -> Response:
        if not holder[0].accept(event):
            return problem(503, "broker-full", "too many events are waiting", {"Retry-After": "1"})
        return Response(status_code=202)

    def status() -> dict[str, object]:
        return holder[0].status()

    return Starlette(routes=routes("/{path:path}", take, status), lifespan=lifespan)


def main() -> None:
    """Serve the broker that the environment describes, until SIGTERM."""
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8010"))
    seconds = os.environ.get("LOCAL_PING_SECONDS")
    app = create_app(
        load(Path(os.environ.get("LOCAL_MANIFESTS", "knative/base"))),
        json.loads(os.environ.get("LOCAL_SUBSCRIBERS", "{}")),
        own_url=f"http://{host}:{port}/",
        ping_seconds=float(seconds) if seconds else None,
    )
    uvicorn.run(app, host=host, port=port, access_log=False, log_level="warning")


def below(base: str, path: str) -> str:
    """Return the URL of a path below another one."""
    return base.rstrip("/") + "/" + path.lstrip("/")


def _seconds_to_next_minute(now: datetime) -> float:
    following = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    # A little past it, so that a clock that is early never fires in the minute before.
    return (following - now).total_seconds() + 0.05


if __name__ == "__main__":
    main()
