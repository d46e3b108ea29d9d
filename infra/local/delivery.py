"""Delivery of events to one subscriber: attempts, back-off and drops as a Trigger's delivery spec says."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from base64 import b64encode
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.local.cloudevent import Event
    from infra.local.manifests import Delivery

# What Knative tries again besides 5xx and connections that fail; every other status is final.
_RETRIED_STATUSES = frozenset({404, 408, 409, 429})
_SERVER_ERROR = 500
_SUCCESS = range(200, 300)
# A subscriber may ask for patience, but not without end.
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_ERROR_BODY_BYTES = 1024
_ERROR_DATA_CHARS = 1024


@dataclass(slots=True)
class Counters:
    """What became of a subscription's events since the broker started."""

    in_flight: int = 0
    delivered: int = 0
    retried: int = 0
    dropped: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the counters by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt led to: the HTTP status, or None when there was no response, and why."""

    status: int | None
    detail: str = ""
    retry_after: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the subscriber took the event."""
        return self.status in _SUCCESS

    @property
    def retryable(self) -> bool:
        """Whether Knative would try again."""
        return self.status is None or self.status >= _SERVER_ERROR or self.status in _RETRIED_STATUSES


class Subscription:
    """A Trigger's (or a source's) way to its subscriber.

    `limit` is shared by all subscriptions of one Service: its containerConcurrency. It is held for an
    attempt, not while waiting for the next. `dead_letter` takes what cannot be delivered; without it, that
    is logged and dropped.
    """

    def __init__(
        self,
        name: str,
        url: str,
        delivery: Delivery,
        *,
        session: aiohttp.ClientSession,
        limit: asyncio.Semaphore | None = None,
        timeout: float,
        dead_letter: Subscription | None = None,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self._url = url
        self._delivery = delivery
        self._session = session
        self._limit = limit
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=10.0)
        self._dead_letter = dead_letter

    async def deliver(self, event: Event) -> bool:
        """Deliver one event, with retries; return whether the subscriber took it in the end."""
        self.counters.in_flight += 1
        try:
            return await self._deliver(event)
        finally:
            self.counters.in_flight -= 1

    async def _deliver(self, event: Event) -> bool:
        attempt = 1
        outcome = await self._attempt(event)
        while not outcome.delivered and outcome.retryable and attempt <= self._delivery.retry:
            self.counters.retried += 1
            delay = max(backoff(self._delivery, attempt), outcome.retry_after)
            log("retry", self.name, event, outcome, attempt=attempt, delay_seconds=round(delay, 3))
            await asyncio.sleep(delay)
            attempt += 1
            outcome = await self._attempt(event)
        if outcome.delivered:
            self.counters.delivered += 1
            return True
        self.counters.dropped += 1
        log("dropped", self.name, event, outcome, attempt=attempt)
        if self._dead_letter is not None:
            # The extensions that Knative adds to a dead letter.
            extensions = {
                "knativeerrordest": self._url,
                "knativeerrorcode": str(outcome.status or 0),
                "knativeerrordata": b64encode(outcome.detail.encode())[:_ERROR_DATA_CHARS].decode(),
            }
            await self._dead_letter.deliver(event.extended(extensions))
        return False

    async def _attempt(self, event: Event) -> Outcome:
        if self._limit is None:
            return await self._post(event)
        async with self._limit:
            return await self._post(event)

    async def _post(self, event: Event) -> Outcome:
        try:
            async with self._session.post(
                self._url,
                data=io.BytesIO(event.data),
                headers=event.headers(),
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                if response.status in _SUCCESS:
                    await response.read()
                    return Outcome(response.status)
                detail = (await response.content.read(_ERROR_BODY_BYTES)).decode("utf-8", "replace")
                return Outcome(response.status, detail, parse_retry_after(response.headers.get("Retry-After")))
        except (aiohttp.ClientError, TimeoutError) as error:
            return Outcome(None, f"{type(error).__name__}: {error}")


def backoff(delivery: Delivery, attempt: int) -> float:
    """Return the seconds to wait after the n-th failed attempt (counted from 1)."""
    factor = 2.0 ** (attempt - 1) if delivery.exponential else float(attempt)
    return delivery.backoff * factor


def parse_retry_after(value: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, 10.2.3), at most a minute, else 0."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - now()).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_SECONDS)


def log(what: str, subscription: str, event: Event, outcome: Outcome, **more: object) -> None:
    """Write one JSON line about an event."""
    line = {
        "time": datetime.now(UTC).isoformat(),
        "message": what,
        "trigger": subscription,
        "event_id": event.id,
        "event_type": event.type,
        "subject": event.attributes.get("subject"),
        "status": outcome.status,
        "detail": outcome.detail,
        **more,
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
