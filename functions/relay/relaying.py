"""Moving events: claim as many as there is room for, post them side by side, and settle whatever has been answered."""

import asyncio
import json
import math
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import Any

from aiohttp import ClientSession

from functions.relay.posting import Outcome, post
from shared import logs
from shared.database import Database
from shared.problems import Problem

BATCH = 100
MAX_IN_FLIGHT = 200
"""Posts side by side: a slow one takes its place and holds up nothing else."""
POST_TIMEOUT_SECONDS = 10.0
LEASE = timedelta(seconds=30)
"""An event is posted as soon as it is claimed, so that a lease outlasts its post by far."""
POLL_SECONDS = (0.05, 2.0)
"""The notification is a hint and may be missed: the outbox is looked at anyway, less and less often while it is empty."""
UNHEARD_POLL_SECONDS = 0.25
"""The longest where no notification can come."""
PAUSE_SECONDS = (0.25, 2.0)
"""While the sink cannot be reached, one event after each pause finds out whether it is back."""
MIN_WAIT_SECONDS = 0.01
RECONNECT_SECONDS = 1.0
TELL_SECONDS = 60.0


class Relay:
    """Moves due events until it is stopped.

    Three things go on at once: claiming, posting, and settling, which acknowledges or rejects in one call each whatever was
    answered since its last call. None of them waits for a slow post.
    """

    def __init__(self, database: Database, session: ClientSession, sink: str, overrides: dict[str, str]) -> None:
        self._database = database
        self._session = session
        self._sink = sink
        self._overrides = overrides
        self._posts: set[asyncio.Task[None]] = set()
        self._outcomes: list[Outcome] = []
        self._answered = asyncio.Event()
        self._sink_away = False
        self._counts: Counter[str] = Counter()
        self._told_at = time.monotonic()
        self._stopping = False
        self._ended = False
        self.wake = asyncio.Event()
        self.longest_poll = POLL_SECONDS[1]

    def stop(self) -> None:
        """Claim no more; `run` returns when what is in flight is settled."""
        self._stopping = True
        self.wake.set()

    async def run(self) -> None:
        """Relay until stopped, and settle what is in flight then; raises psycopg.Error when the database is not as it must be.

        Claiming and settling end each other by flags: in Python 3.11 a cancellation that meets a query's reply is lost.
        """
        settling = asyncio.create_task(self._settle_all())
        try:
            await self._claim_all()
            if self._posts:
                await asyncio.wait(self._posts)
        finally:
            self._ended = True
            self._answered.set()
            await settling
            self._tell()

    async def _claim_all(self) -> None:
        poll, pause = POLL_SECONDS[0], 0.0
        while not self._stopping:
            self.wake.clear()
            if time.monotonic() - self._told_at > TELL_SECONDS:
                self._tell()
            pause = min(max(2 * pause, PAUSE_SECONDS[0]), PAUSE_SECONDS[1]) if self._sink_away else 0.0
            room = MAX_IN_FLIGHT - len(self._posts)
            if pause or not room:
                await self._sleep(pause or POLL_SECONDS[1])
            if self._stopping or not room:
                continue
            limit = 1 if pause else min(BATCH, room)
            try:
                claimed = await self._claim(limit)
                poll = POLL_SECONDS[0] if claimed else min(2 * poll, self.longest_poll)
                wait = 0.0 if claimed == limit else poll if claimed else min(poll, await self._next_due())
            except Problem as problem:
                logs.warning("outbox_unreachable", code=problem.code)
                wait = RECONNECT_SECONDS
            if wait:
                await self._sleep(wait)

    async def _sleep(self, seconds: float) -> None:
        """Wait so long, or until there may be something to do."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()

    async def _claim(self, limit: int) -> int:
        events = await self._database.rows("events.claim", p_limit=limit, p_lease=LEASE)
        for event in events:
            task = asyncio.create_task(self._post(event))
            self._posts.add(task)
            task.add_done_callback(self._landed)
        return len(events)

    async def _next_due(self) -> float:
        """Return the seconds until the first back-off ends."""
        seconds = await self._database.call("events.next_due")
        return math.inf if seconds is None else max(MIN_WAIT_SECONDS, seconds)

    async def _post(self, event: dict[str, Any]) -> None:
        outcome = await post(self._session, self._sink, event, self._overrides)
        self._sink_away = not outcome.reached
        self._outcomes.append(outcome)
        self._answered.set()

    def _landed(self, task: asyncio.Task[None]) -> None:
        if len(self._posts) >= MAX_IN_FLIGHT:
            # There is room again.
            self.wake.set()
        self._posts.discard(task)

    async def _settle_all(self) -> None:
        try:
            while not self._ended:
                await self._answered.wait()
                self._answered.clear()
                while self._outcomes:
                    await self._settle_some()
        finally:
            self.stop()

    async def _settle_some(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        try:
            await self._settle(outcomes)
        except Problem as problem:
            logs.warning("outbox_unreachable", code=problem.code)
            if not self._stopping:
                # Otherwise the leases end.
                self._outcomes[:0] = outcomes
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _settle(self, outcomes: list[Outcome]) -> None:
        """Tell the outbox what was answered. Doing so twice does no harm."""
        accepted = [outcome.event["seq"] for outcome in outcomes if outcome.accepted]
        refused = {outcome.event["seq"]: outcome for outcome in outcomes if not outcome.accepted}
        if accepted:
            await self._database.rows("events.acknowledge", p_seqs=accepted)
            self._counts["accepted"] += len(accepted)
        if refused:
            refusals = json.dumps([outcome.refusal() for outcome in refused.values()])
            for row in await self._database.rows("events.reject", p_refusals=refusals):
                outcome = refused[row["seq"]]
                self._counts[row["outcome"]] += 1
                logs.warning(
                    "event_rejected",
                    event_id=outcome.event["id"],
                    event_type=outcome.event["type"],
                    status=outcome.status,
                    error=None if outcome.status else outcome.error,
                    outcome=row["outcome"],
                )
        if refused or any(outcome.event["ordered"] for outcome in outcomes):
            # A back-off has begun, or the next event of a partition may leave.
            self.wake.set()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        if self._counts:
            logs.info("outbox_relayed", in_flight=len(self._posts), **self._counts)
            self._counts.clear()
