"""One connection to PostgreSQL: a call goes out as one simple query, with who makes it, and comes back as rows.

This is psycopg without its cursors. They describe each result of a query, look up anew how each argument is written, and have
the event loop watch the socket for the one answer: a call took this process twice as long.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection, errors, generators, sql
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, TransactionStatus

from shared.principal import Actor, Principal, Worker

if TYPE_CHECKING:
    from psycopg import abc
    from psycopg.pq.abc import PGresult

CANCEL_SECONDS = 5.0
MAX_KNOWN_ACTORS = 1000
ENTER_USER = (
    "core.enter(%(tenant)s, %(subject)s, %(operation)s, %(roles)s::text[], %(groups)s::text[], %(name)s, %(email)s,"
    " %(key)s, %(issued_at)s, %(key_sha256)s)"
)
ENTER_FUNCTION = "core.enter_function(%(tenant)s, %(function)s, %(region)s)"
ENTER = {Principal.__name__: ENTER_USER, Worker.__name__: ENTER_FUNCTION}
COMMIT_EARLY = "set_config('synchronous_commit', 'off', true)"
FLUSH = "pg_logical_emit_message"
WAIT_FOR_DISK = f"SELECT {FLUSH}(true, 'flush', '')"
"""The smallest transaction that writes to the log."""


Row = dict[str, Any]
Literals = dict[bytes, bytes]
"""Arguments by name, as SQL writes them."""


class Commit(Enum):
    """How a call ends."""

    AWAITED = "on disk"
    AT_ONCE = "on disk; of what writes, and need not see what the statement that enters has written"
    EARLY = "as AT_ONCE, after its locks are gone"
    UNAWAITED = "as AT_ONCE, some time later"


@dataclass(frozen=True)
class _Call:
    """The text of a call: a simple query, with its arguments as `%(name)s`; and which of its results is the call's."""

    text: bytes
    place: int


@cache
def _call(function: str, arguments: tuple[str, ...], actor: str, commit: Commit) -> _Call:
    """Return the call of a function with named arguments, with what goes before and after it, in one round trip.

    A simple query is one transaction, unless one is begun and committed within it.
    """
    named = sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(a), sql.Placeholder(a)) for a in arguments)
    call = sql.SQL("{}({})").format(sql.Identifier(*function.split(".")), named).as_string()
    entering = ENTER.get(actor)
    if commit is Commit.AWAITED:
        # What only reads sees what was there when its statement began: a statement later than that which may make the user.
        before = "" if entering is None else f"SELECT {entering}; "
        return _Call(f"{before}SELECT * FROM {call}".encode(), int(bool(before)))  # noqa: S608 - names, from the code
    # A row of FROM comes before what is selected for it, so nothing is called for whom it does not admit.
    admitted = "" if entering is None else f" FROM {entering}"
    if commit is Commit.AT_ONCE:
        return _Call(f"SELECT {call}{admitted}".encode(), 0)
    one = f"SELECT {call}, {COMMIT_EARLY}{admitted}"
    if commit is Commit.UNAWAITED:
        return _Call(one.encode(), 0)
    # When the first transaction is over the locks are gone; a second one waits for the disk.
    return _Call(f"BEGIN; {one}; COMMIT; {WAIT_FOR_DISK}".encode(), 1)


def _entering(actor: Actor | None) -> dict[str, object]:
    """Return the arguments of the statement that says who acts."""
    if isinstance(actor, Worker):
        return {"tenant": actor.tenant_id, "function": actor.function, "region": actor.region}
    if actor is None:
        return {}
    return {
        "tenant": actor.tenant_id,
        "subject": actor.subject,
        "operation": actor.operation,
        "roles": list(actor.roles),
        "groups": list(actor.groups),
        "name": actor.name,
        "email": actor.email,
        "key": actor.api_key_id,
        "issued_at": actor.issued_at,
        "key_sha256": actor.api_key_sha256,
    }


class Connection(AsyncConnection[Any]):
    """A connection whose socket stays with the event loop from the first call on."""

    used_at = -math.inf
    """When it was last of use (monotonic seconds)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transformer: abc.Transformer = Transformer(self)
        self._actors: dict[Actor | None, Literals] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        """The one that watches the socket; None: none does."""
        self._watched = -1
        """The socket's number, which libpq no longer tells when it has closed it."""
        self._results: list[PGresult] = []
        self._answered: asyncio.Future[None] | None = None

    async def call(
        self, function: str, actor: Actor | None, arguments: Mapping[str, object], commit: Commit
    ) -> list[Row]:
        """Return the rows of a function. Raises psycopg.Error."""
        call = _call(function, tuple(arguments), type(actor).__name__, commit)
        self.pgconn.send_query(call.text % {**self._acting(actor), **self._literals(arguments)})
        results = await self._answer()
        for result in results:
            if _failed(result):
                if self.pgconn.transaction_status == TransactionStatus.INERROR:
                    with suppress(psycopg.Error):
                        await self.rollback()
                raise errors.error_from_result(result, encoding=self.info.encoding)
        rows = self._rows(results[call.place])
        self.used_at = time.monotonic()
        return rows

    def _acting(self, actor: Actor | None) -> Literals:
        """Return how those who act are written; as a rule they are few."""
        if (known := self._actors.get(actor)) is None:
            if len(self._actors) >= MAX_KNOWN_ACTORS:
                self._actors.clear()
            known = self._actors[actor] = self._literals(_entering(actor))
        return known

    def _literals(self, values: Mapping[str, object]) -> Literals:
        literal = self._transformer.as_literal
        return {name.encode(): b"NULL" if value is None else literal(value) for name, value in values.items()}

    def _rows(self, result: "PGresult") -> list[Row]:
        names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        self._transformer.set_pgresult(result)
        try:
            return self._transformer.load_rows(0, result.ntuples, lambda values: dict(zip(names, values, strict=True)))
        finally:
            self._transformer.set_pgresult(None)

    async def _answer(self) -> "list[PGresult]":
        """Return the results of what was sent; when nobody waits for them any more, cancel it."""
        if self.pgconn.flush():
            # It is more than the socket takes at once.
            results: list[PGresult] = await self.wait(generators.execute(self.pgconn))
            return results
        if self._loop is None:
            self._loop, self._watched = asyncio.get_running_loop(), self.pgconn.socket
            self._loop.add_reader(self._watched, self._read)
        self._results, self._answered = [], self._loop.create_future()
        try:
            await self._answered
        except asyncio.CancelledError:
            await self._cancel()
            raise
        else:
            return self._results
        finally:
            self._results, self._answered = [], None

    def _read(self) -> None:
        """Take what has come; wake who waits when the answer is whole, or the connection at its end."""
        waiting, whole = self._answered, False
        failure: psycopg.Error | None = None
        try:
            self.pgconn.consume_input()
            while waiting is not None and not whole and not self.pgconn.is_busy():
                if (result := self.pgconn.get_result()) is None:
                    whole = True
                else:
                    self._results.append(result)
        except psycopg.Error as error:
            failure = error
        if self.closed:
            # At once: the number is soon another socket's. And what is closed is always readable.
            self._unwatch()
        if waiting is None or waiting.done():
            return
        if whole or (failure is not None and any(map(_failed, self._results))):
            # Or the server has said why it hangs up.
            waiting.set_result(None)
        elif failure is not None:
            waiting.set_exception(failure)

    def _unwatch(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._watched)
            self._loop = None

    async def _cancel(self) -> None:
        if self.pgconn.transaction_status != TransactionStatus.ACTIVE:
            return
        try:
            await self.cancel_safe(timeout=CANCEL_SECONDS)
            await self.wait(generators.execute(self.pgconn), timeout=CANCEL_SECONDS)
        except BaseException as error:
            # Nobody knows what it is at. But that the caller is cancelled is what it is told.
            self._unwatch()
            self.pgconn.finish()
            if not isinstance(error, Exception):
                raise

    async def wait(self, *arguments: Any, **options: Any) -> Any:
        """Run a generator of psycopg's, which watches the socket by itself."""
        self._unwatch()
        return await super().wait(*arguments, **options)

    async def close(self) -> None:
        """Close the connection."""
        self._unwatch()
        await super().close()


def _failed(result: "PGresult") -> bool:
    return result.status == ExecStatus.FATAL_ERROR
