"""Many turns over one WebSocket. What a frame asks for is admitted and done exactly as a request for the same would be."""

import asyncio
import json
import time
from collections.abc import Awaitable, Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from functions.chat import frames, turns
from functions.chat.frames import Ask, Authenticate, Frame, Leave, Ping, Resume, Stop
from shared import logs, metrics
from shared.access import Admission, admit, watched
from shared.auth import Unauthenticated
from shared.http import defect
from shared.oidc import LEEWAY_SECONDS
from shared.principal import Principal
from shared.problems import Problem
from shared.residency import ELSEWHERE
from shared.settings import get_settings
from shared.stream_reader import StoredEvent
from shared.streams import BEGINNING, StreamEvent
from shared.turns import valid_traceparent

OPENING = "chat.read"
"""The operation that opening a socket is admitted to."""
AUTHENTICATE_SECONDS = 10.0
"""How long a socket may be open without a valid token."""
MAX_TURNS = 16
"""Turns that one socket may follow at once."""
MAX_UNCOUNTED_A_MINUTE = 600
"""Frames that are no requests, and so do not count in the caller's rate: whoever sends more does nothing but harm."""
CANCEL_AGAIN_SECONDS = 0.1
POLICY_VIOLATION = 1008
"""Close code (RFC 6455, section 7.4.1)."""
GONE = (WebSocketDisconnect, WebSocketDisconnected)


async def converse(socket: WebSocket) -> None:
    """Serve one socket, authenticated by its Authorization header, or where there is none by a frame; raises Problem."""
    admission = await admit(socket, OPENING) if "authorization" in socket.headers else None
    await socket.accept()
    metrics.sockets().inc()
    try:
        await Session(socket).run(admission)
    finally:
        metrics.sockets().dec()


@dataclass
class Subscription:
    """A turn that is followed, for the frame that asked for it."""

    task: asyncio.Task[None]
    ref: str | None


class Session:
    """What one socket's client has told, and the turns that it follows."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._admission: Admission | None = None
        self._token: str | None = None
        """None while the Authorization header's is in force."""
        self._renewed = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._following: dict[UUID, Subscription] = {}
        self._sending = asyncio.Lock()
        self._sent_at = time.monotonic()
        self._minute, self._uncounted = 0, 0

    async def run(self, admission: Admission | None) -> None:
        """Serve the socket until either side closes it. That ends what was followed, and no turn."""
        alongside = [asyncio.create_task(self._beat()), asyncio.create_task(self._watch())]
        try:
            with suppress(*GONE):
                if admission is not None:
                    await self._authenticated(admission, None)
                await self._listen()
        finally:
            # A turn that is just being begun is begun to its end, as it is for a client that has sent a request.
            await asyncio.gather(*self._asking)
            tasks = [*alongside, *(subscription.task for subscription in self._following.values())]
            await _end(tasks)

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                logs.info("socket_closed", code=message.get("code"))
                return
            await self._take(message.get("text"))

    async def _take(self, text: str | None) -> None:
        """Do what one frame asks for, or begin to."""
        document: dict[str, Any] = {}
        try:
            document = frames.parse(text)
            frame = frames.read(document)
        except Problem as problem:
            await self._refuse(problem, frames.kind_of(document), frames.ref_of(document))
            await self._count()
            return
        if not isinstance(frame, Ask):
            await self._serve(frame, self._do(frame))
        elif self._full():
            await self._refuse(_too_many_turns(), frame.type, frame.ref)
        else:
            # Its question is embedded first: other frames need not wait for that.
            task = asyncio.create_task(self._serve(frame, self._ask(frame)))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _serve(self, frame: Frame, work: Awaitable[None]) -> None:
        """Do a frame's work, and tell the client what goes wrong with it."""
        try:
            await work
        except Problem as problem:
            await self._refuse(problem, frame.type, frame.ref)
        except GONE:
            return
        except Exception as error:  # noqa: BLE001 - as over HTTP, a defect ends one request and no other
            logs.error("frame_failed", error, type=frame.type)
            await self._refuse(defect(error), frame.type, frame.ref)
        else:
            metrics.frames().labels(frame.type, "ok").inc()

    async def _do(self, frame: Frame) -> None:
        match frame:
            case Authenticate():
                await self._authenticate(frame)
            case Resume():
                await self._resume(frame)
            case Stop():
                await self._stop(frame)
            case Leave():
                await self._drop(frame.turn_id)
                await self._send("left", frame.ref, turn_id=str(frame.turn_id))
                await self._count()
            case Ping():
                await self._send("pong", frame.ref)
                await self._count()

    async def _authenticate(self, frame: Authenticate) -> None:
        """Go on with another token of the same user; a refused one changes nothing, except that a first one must be good."""
        try:
            admission = await admit(self._socket, OPENING, frame.token)
            async with watched(self._socket, admission.principal):
                self._check_same(admission.principal)
        except Problem as problem:
            if self._admission is not None:
                raise
            await self._refuse(problem, frame.type, frame.ref)
            at_home = problem.code not in ELSEWHERE
            await self._close("not authenticated" if at_home else f"at home in {problem.extra['region']}")
            return
        self._token = frame.token
        await self._authenticated(admission, frame.ref)

    def _check_same(self, principal: Principal) -> None:
        if self._admission is None:
            return
        former = self._admission.principal
        if (former.tenant_id, former.subject) != (principal.tenant_id, principal.subject):
            raise Problem("forbidden", "The socket belongs to another user.")

    async def _authenticated(self, admission: Admission, ref: str | None) -> None:
        self._admission = admission
        self._renewed.set()
        logs.info("socket_authenticated", tenant_id=admission.principal.tenant_id)
        expires_at = admission.expires_at.isoformat() if admission.expires_at else None
        await self._send("authenticated", ref, expires_at=expires_at)

    async def _ask(self, frame: Ask) -> None:
        admission = await self._admit("chat.ask")
        async with watched(self._socket, admission.principal):
            trace = valid_traceparent(frame.traceparent)
            accepted, _ = await turns.accept(admission, frame, frame.idempotency_key, trace)
        turn_id = UUID(accepted["turn_id"])
        logs.info("frame", type=frame.type, turn_id=turn_id, tenant_id=admission.principal.tenant_id)
        if frame.stream:
            await self._follow(admission.principal, turn_id, frame.ref, BEGINNING, accepted)
        else:
            await self._tell(turn_id, frame.ref, StreamEvent("turn.accepted", accepted))

    async def _resume(self, frame: Resume) -> None:
        if frame.turn_id not in self._following and self._full():
            raise _too_many_turns()
        admission = await self._admit("chat.read")
        async with watched(self._socket, admission.principal):
            await turns.read(admission.principal, frame.turn_id)
        logs.info("frame", type=frame.type, turn_id=frame.turn_id, tenant_id=admission.principal.tenant_id)
        await self._follow(admission.principal, frame.turn_id, frame.ref, frame.after, None)

    async def _stop(self, frame: Stop) -> None:
        admission = await self._admit("chat.stop")
        async with watched(self._socket, admission.principal):
            turn = await turns.end(admission.principal, frame.turn_id)
        logs.info("frame", type=frame.type, turn_id=frame.turn_id, tenant_id=admission.principal.tenant_id)
        await self._send("stopped", frame.ref, turn_id=str(frame.turn_id), turn=turn)

    async def _admit(self, operation: str) -> Admission:
        if self._admission is None:
            raise Unauthenticated("Send a frame of the type authenticate first.")
        return await admit(self._socket, operation, self._token)

    def _full(self) -> bool:
        return len(self._following) + len(self._asking) >= MAX_TURNS

    async def _follow(
        self, principal: Principal, turn_id: UUID, ref: str | None, after: str, accepted: dict[str, Any] | None
    ) -> None:
        """Tell a turn's events from now on, instead of for a frame that asked for the same turn before."""
        while turn_id in self._following:  # another frame may have asked for it while the former one was being ended
            await self._drop(turn_id)
        task = asyncio.create_task(self._tell_all(principal, turn_id, ref, after, accepted))
        self._following[turn_id] = Subscription(task, ref)

    async def _tell_all(
        self, principal: Principal, turn_id: UUID, ref: str | None, after: str, accepted: dict[str, Any] | None
    ) -> None:
        try:
            async with aclosing(turns.events(principal, turn_id, after, accepted)) as events:
                async for together in events:
                    for event in together:
                        await self._tell(turn_id, ref, event)
        except GONE:
            return
        except Exception as error:  # noqa: BLE001 - one turn's defect leaves the socket's others alone
            logs.error("stream_failed", error, turn_id=turn_id)
            await self._refuse(defect(error), "event", ref, turn_id)
        self._following.pop(turn_id, None)

    async def _drop(self, turn_id: UUID) -> str | None:
        """Stop following a turn; return the reference of whoever asked for it."""
        subscription = self._following.pop(turn_id, None)
        if subscription is None:
            return None
        await _end([subscription.task])
        return subscription.ref

    async def _beat(self) -> None:
        """Say something before a proxy, or the client, takes the socket for dead."""
        period = get_settings().stream_heartbeat_seconds
        with suppress(*GONE):
            while True:
                wait = self._sent_at + period - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                else:
                    await self._send("heartbeat")

    async def _watch(self) -> None:
        """End what is followed when the token expires, and close a socket that is without one for long."""
        with suppress(*GONE):
            while True:
                if self._admission is not None and await self._renewed_within(_seconds_left(self._admission)):
                    continue
                for turn_id in list(self._following):
                    ref = await self._drop(turn_id)
                    await self._refuse(Unauthenticated("The token has expired."), "event", ref, turn_id)
                if not await self._renewed_within(AUTHENTICATE_SECONDS):
                    await self._close("not authenticated")
                    return

    async def _renewed_within(self, seconds: float | None) -> bool:
        """Return whether a token comes in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._renewed.wait()
        except TimeoutError:
            return False
        self._renewed.clear()
        return True

    async def _count(self) -> None:
        """Count a frame that is no request; close the socket of a client that sends nothing else."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._uncounted = minute, 0
        self._uncounted += 1
        if self._uncounted > MAX_UNCOUNTED_A_MINUTE:
            detail = f"At most {MAX_UNCOUNTED_A_MINUTE} frames a minute may be other than requests."
            await self._refuse(Problem("rate_limited", detail), "other", None)
            await self._close("too many frames")

    async def _refuse(self, problem: Problem, kind: str, ref: str | None, turn_id: UUID | None = None) -> None:
        """Tell the client what went wrong, and the log and the metrics."""
        metrics.problems().labels(problem.code).inc()
        metrics.frames().labels(kind, problem.code).inc()
        logs.warning(
            "frame_refused",
            code=problem.code,
            detail=problem.detail,
            type=kind,
            **({"turn_id": turn_id} if turn_id else {}),
            **problem.extra,
        )
        told: dict[str, Any] = {"problem": problem.document()}
        if turn_id is not None:
            told["turn_id"] = str(turn_id)
        if "Retry-After" in problem.headers:
            told["retry_after"] = int(problem.headers["Retry-After"])
        with suppress(*GONE):
            await self._send("problem", ref, **told)

    async def _tell(self, turn_id: UUID, ref: str | None, event: StreamEvent | StoredEvent) -> None:
        head = _encoded("event", ref, turn_id=str(turn_id), id=event.id, event=event.event)
        # What is stored is JSON already.
        data = event.json if isinstance(event, StoredEvent) else json.dumps(event.data, separators=(",", ":"))
        await self._send_text(f'{head[:-1]},"data":{data}}}')

    async def _send(self, kind: str, ref: str | None = None, /, **members: object) -> None:
        await self._send_text(_encoded(kind, ref, **members))

    async def _send_text(self, text: str) -> None:
        """Send a frame when the client has read most of what was sent before: whoever sends waits for it."""
        async with self._sending:
            await self._socket.send_text(text)
            self._sent_at = time.monotonic()

    async def _close(self, reason: str) -> None:
        async with self._sending:
            with suppress(*GONE):
                await self._socket.close(POLICY_VIOLATION, reason)


def _encoded(kind: str, ref: str | None, /, **members: object) -> str:
    """Return a frame, its type and reference first."""
    return json.dumps({"type": kind, **({} if ref is None else {"ref": ref}), **members}, separators=(",", ":"))


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: libraries may take a cancellation for a failure of their connection."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


def _too_many_turns() -> Problem:
    return Problem("too_many_turns", f"A socket follows at most {MAX_TURNS} turns at once.")


def _seconds_left(admission: Admission) -> float | None:
    """Return how long a token is still taken; None: PostgreSQL says whether an API key is."""
    if admission.expires_at is None:
        return None
    return admission.expires_at.timestamp() + LEEWAY_SECONDS - time.time()
