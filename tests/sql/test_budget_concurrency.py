"""Whatever happens at once, and whoever dies in the middle of it, no budget is overshot and none loses what it holds."""

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import psycopg
import pytest

from shared import database as shared_database
from shared.api_keys import ApiKey
from shared.principal import Principal
from tests.sql.budget_steps import assert_sound, limit, operator_of, price, reserve, settle, told, use
from tests.sql.budget_worker import POINTS
from tests.sql.steps import make_key, user
from tests.support import Caller, Database

PATIENCE = 3000
"""So many hundredths of a second something is waited for: half a minute."""
TURNS = 200
FIT = 50
MODEL = "local/extractive-heavy"
USED = """
SELECT max(b.settled + b.reserved), max(b.cost_settled + b.cost_reserved),
  (SELECT sum(coalesce(r.settled, r.tokens)) FROM budget.reservations AS r WHERE r.tenant_id = %(tenant)s),
  (SELECT sum(coalesce(r.cost_settled, r.cost_micros)) FROM budget.reservations AS r WHERE r.tenant_id = %(tenant)s)
FROM budget.balances AS b WHERE b.tenant_id = %(tenant)s AND b.holder_id = %(holder)s
"""


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


@pytest.fixture(scope="module")
def sessions(module_database: Database) -> Iterator[Sequence[Caller]]:
    """As many connections of the functions' role as there are turns."""
    with ExitStack() as stack:
        yield [stack.enter_context(module_database.connect("app")) for _ in range(TURNS)]


@contextmanager
def sampled(
    database: Database, tenant: UUID, holder: UUID, allowed: int, *, money: bool = False
) -> Iterator[list[int]]:
    """Look at a holder's budget all the while from a connection of its own; whatever is seen must be allowed.

    It looks at what the balance says and, in the same snapshot, at what the reservations add up to.
    """
    over, seen, ended = threading.Event(), [], threading.Event()

    def look() -> None:
        with database.connect() as operator:
            while not ended.is_set():
                row = operator.query(USED, {"tenant": tenant, "holder": holder})[0]
                seen.append(max(value or 0 for value in (row[1::2] if money else row[0::2])))
                if seen[-1] > allowed:
                    over.set()

    with ThreadPoolExecutor(1) as sampler:
        looking = sampler.submit(look)
        try:
            yield seen
        finally:
            ended.set()
            looking.result()
    assert not over.is_set(), f"{max(seen)} of {allowed}"


@dataclass(frozen=True)
class Crowd:
    """Turns that are asked at the same instant."""

    sessions: Sequence[Caller]
    tenant: UUID

    def ask(self, session: Caller, subject: str, key: ApiKey | None, **arguments: Any) -> Any:
        with session.connection.transaction():
            session.call(
                "core.enter", p_tenant_id=self.tenant, p_subject=subject, p_operation="chat.ask",
                p_roles=["tenant_admin"], p_api_key_id=key.key_id if key else None,
            )  # fmt: skip
            return session.call("chat.begin_turn", p_message="What is the limit?", p_max_tokens=100, **arguments)

    def ask_all(self, subjects: Sequence[str], key: ApiKey | None, **arguments: Any) -> list[dict[str, Any] | None]:
        """Let every session ask; return what each refusal told, and None for each turn that was admitted."""
        start = threading.Barrier(len(self.sessions))

        def attempt(number: int) -> dict[str, Any] | None:
            start.wait()
            try:
                self.ask(self.sessions[number], subjects[number % len(subjects)], key, **arguments)
            except psycopg.Error as error:
                if error.sqlstate != "EA004":
                    raise
                return told(error)
            return None

        with ThreadPoolExecutor(len(self.sessions)) as threads:
            return list(threads.map(attempt, range(len(self.sessions))))


@pytest.mark.parametrize(
    ("scope", "period", "unit"),
    [
        ("tenant", "day", "tokens"),
        ("user", "month", "tokens"),
        ("api_key", "day", "tokens"),
        ("tenant", "month", "cost"),
    ],
)
def test_of_200_turns_at_once_exactly_those_that_fit_are_admitted_and_at_no_instant_more(
    database: Database, sessions: Sequence[Caller], tenants: Sequence[UUID], scope: str, period: str, unit: str
) -> None:
    tenant, elsewhere = tenants
    price(database, MODEL, 3, 5 if unit == "cost" else None)
    arguments = {"p_model": MODEL} if unit == "cost" else {}
    Crowd(sessions, elsewhere).ask(sessions[0], "ann", None, **arguments)
    with database.connect() as operator:
        tokens, cost = operator.query("SELECT tokens, cost_micros FROM budget.reservations")[0]
    one = cost if unit == "cost" else tokens
    allowed = FIT * one + one // 2

    key = make_key(database, tenant) if scope == "api_key" else None
    subjects = ["ann"] if scope != "tenant" else [f"user-{number}" for number in range(10)]
    holders = {"tenant": tenant, "user": user(database, tenant), "api_key": key.key_id if key else None}
    holder = holders[scope]
    assert holder is not None
    room: dict[str, int] = {"cost": allowed} if unit == "cost" else {"tokens": allowed}
    limit(database, tenant, room.get("tokens"), scope=scope, holder=holder, period=period, cost=room.get("cost"))

    with sampled(database, tenant, holder, allowed, money=unit == "cost") as seen:
        outcomes = Crowd(sessions, tenant).ask_all(subjects, key, **arguments)
    refusals = [outcome for outcome in outcomes if outcome is not None]
    assert len(outcomes) - len(refusals) == FIT
    assert len(seen) > 10
    assert {(r["scope"], r["holder_id"], r["period"], r["unit"]) for r in refusals} == {
        (scope, str(holder), period, unit)
    }
    assert {r["resets_at"] for r in refusals} == {refusals[0]["resets_at"]}
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM chat.turns WHERE tenant_id = %s", [tenant]) == FIT
        assert operator.value("SELECT count(*) FROM inference.jobs WHERE tenant_id = %s", [tenant]) == FIT
    assert_sound(database, tenant)


def test_the_first_turns_of_a_new_day_open_it_together(database: Database, tenants: Sequence[UUID]) -> None:
    """Nobody waits for the other one's lock in a circle, and nothing is counted twice."""
    limit(database, tenants[0], 70)
    with ExitStack() as stack:
        callers = [stack.enter_context(operator_of(database, tenants[0], f"user-{n % 3}")) for n in range(12)]
        for day in range(1, 7):
            start = threading.Barrier(len(callers))
            clock = f"2031-0{1 + day // 4}-0{day} 00:00Z"

            def attempt(caller: Caller, start: threading.Barrier = start, clock: str = clock) -> bool:
                caller.value("SELECT set_config('budget.clock', %s, false)", [clock])
                start.wait()
                try:
                    reserve(caller, 10)
                except psycopg.Error as error:
                    if error.sqlstate != "EA004":
                        raise
                    return False
                return True

            with ThreadPoolExecutor(len(callers)) as threads:
                assert sum(threads.map(attempt, callers)) == 7
    assert_sound(database, tenants[0])


@pytest.mark.parametrize("scope", ["user", "api_key"])
def test_a_limit_that_is_set_while_a_turn_is_being_admitted_counts_that_turn(
    database: Database, tenants: Sequence[UUID], scope: str
) -> None:
    """The turn has read the limits before there was one, and books after another turn has met it."""
    key = make_key(database, tenants[0])
    holder = key.key_id if scope == "api_key" else user(database, tenants[0])
    turn = uuid4()
    with (
        operator_of(database, tenants[0], api_key=key.key_id) as slow,
        operator_of(database, tenants[0], api_key=key.key_id) as quick,
        database.connect() as operator,
        ThreadPoolExecutor(1) as threads,
    ):
        use(quick, 1)
        with operator.connection.transaction(force_rollback=True):
            # Whoever writes the same turn waits until it is known whether this one stays.
            operator.run(
                "INSERT INTO budget.reservations (tenant_id, turn_id, user_id, day, month, tokens, cost_micros, expires_at)"
                " VALUES (%s, %s, %s, '2026-01-01', '2026-01-01', 1, 0, now())",
                [tenants[0], turn, uuid4()],
            )
            reserving = threads.submit(slow.call, "budget.reserve", p_turn_id=turn, p_prompt_tokens=50)
            wait_until_somebody_waits(database)
            limit(database, tenants[0], 100, scope=scope, holder=holder)
            reserve(quick, 10)
        reserving.result()
        assert_sound(database, tenants[0])
        settle(slow, turn, 50)
        assert_sound(database, tenants[0])


@pytest.mark.parametrize("scope", ["user", "api_key"])
def test_a_limit_that_is_taken_away_while_a_turn_is_being_admitted_binds_no_later_turn(
    database: Database, tenants: Sequence[UUID], scope: str
) -> None:
    key = make_key(database, tenants[0])
    holder = key.key_id if scope == "api_key" else user(database, tenants[0])
    limit(database, tenants[0], 100, scope=scope, holder=holder)
    turn = uuid4()
    with (
        operator_of(database, tenants[0], api_key=key.key_id) as slow,
        operator_of(database, tenants[0], api_key=key.key_id) as quick,
        database.connect() as operator,
        ThreadPoolExecutor(1) as threads,
    ):
        use(quick, 1)
        with operator.connection.transaction(force_rollback=True):
            operator.run(
                "INSERT INTO budget.reservations (tenant_id, turn_id, user_id, day, month, tokens, cost_micros, expires_at)"
                " VALUES (%s, %s, %s, '2026-01-01', '2026-01-01', 1, 0, now())",
                [tenants[0], turn, uuid4()],
            )
            reserving = threads.submit(slow.call, "budget.reserve", p_turn_id=turn, p_prompt_tokens=50)
            wait_until_somebody_waits(database)
            with database.connect() as administrator:
                administrator.run("DELETE FROM budget.limits WHERE tenant_id = %s", [tenants[0]])
        reserving.result()
        assert_sound(database, tenants[0])
        reserve(quick, 1000)
        settle(slow, turn, 50)
        assert_sound(database, tenants[0])


def wait_until_somebody_waits(database: Database) -> None:
    """Return when a session of this database waits for another one's lock."""
    with database.connect() as operator:
        for _ in range(PATIENCE):
            if operator.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                " AND backend_type = 'client backend'"
            ):
                return
            time.sleep(0.01)
    raise AssertionError("nobody waits")


def test_workers_that_are_killed_at_any_point_leave_nothing_held_once_their_reservations_have_expired(
    database: Database, tenants: Sequence[UUID]
) -> None:
    tenant = tenants[0]
    with database.connect("app", tenants[1]) as app:
        one = app.call("chat.begin_turn", p_message="How much?", p_max_tokens=100)["reserved_tokens"]
    allowed = 40 * one + one // 2
    limit(database, tenant, allowed)
    with sampled(database, tenant, tenant, allowed) as seen:
        for points in (POINTS, ["random"] * 4):
            with ExitStack() as stack:
                workers = [
                    stack.enter_context(killed_at_last(database, tenant, seed, point))
                    for seed, point in enumerate(points)
                ]
                with ThreadPoolExecutor(len(workers)) as threads:
                    # Each as soon as it is there: one that stops with the tenant's lock in its hands keeps the others waiting.
                    list(threads.map(kill_at_its_point, workers))
        wait_until_gone(database)
    assert len(seen) > 10
    assert_sound(database, tenant)
    with database.connect() as operator:
        held = operator.value(
            "SELECT count(*) FROM budget.reservations WHERE closed_at IS NULL AND tenant_id = %s", [tenant]
        )
        assert held > 0, "the dead held something"
        assert operator.call("budget.expire")["count"] == 0, "a reservation keeps what it holds until its time is over"
        operator.run(
            "UPDATE budget.reservations SET expires_at = now() - interval '1 second' WHERE tenant_id = %s", [tenant]
        )
        assert operator.call("budget.expire")["count"] == 0, "and a turn that is on its way keeps it longer"
        operator.run(
            "UPDATE inference.jobs SET status = 'failed', leased_by = NULL, leased_until = NULL"
            " WHERE tenant_id = %s AND status IN ('queued', 'running')",
            [tenant],
        )
        assert operator.call("budget.expire")["count"] == held
        assert operator.call("budget.expire")["count"] == 0
        reserved = "SELECT sum(reserved) FROM budget.balances WHERE tenant_id = %s"
        assert operator.value(reserved, [tenant]) == 0
        assert (
            operator.value("SELECT count(*) FROM budget.ledger WHERE tenant_id = %s AND entry = 'settle'", [tenant]) > 0
        )
    assert_sound(database, tenant)


def kill_at_its_point(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    assert worker.stdout.readline() == "here\n"
    time.sleep(random.uniform(0, 0.5))  # noqa: S311 - any moment will do
    worker.kill()


@contextmanager
def killed_at_last(database: Database, tenant: UUID, seed: int, point: str) -> Iterator[subprocess.Popen[str]]:
    """A worker process, which no test leaves behind."""
    script = Path(__file__).with_name("budget_worker.py")
    arguments = [database.urls["app"], database.urls["postgres"], str(tenant), str(seed), point]
    with subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()
    assert worker.returncode == -signal.SIGKILL


def wait_until_gone(database: Database) -> None:
    """Return when the server has noticed that the workers are dead."""
    with database.connect() as operator:
        for _ in range(PATIENCE):
            if not operator.value(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = 'app' AND (state <> 'idle' OR backend_xid IS NOT NULL)"
            ):
                return
            time.sleep(0.01)
    raise AssertionError("a dead worker's session is still there")


def test_two_expiries_side_by_side_release_each_reservation_once(database: Database, tenants: Sequence[UUID]) -> None:
    for tenant in tenants:
        with operator_of(database, tenant) as caller:
            for _ in range(10):
                reserve(caller, 10)
            caller.run("UPDATE budget.reservations SET expires_at = now() - interval '1 second'")

    def expire(_: int) -> int:
        with database.connect("app") as app:
            released: int = app.call("budget.expire", p_limit=7)["count"]
            return released

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(expire, range(8))) == 20
    with database.connect() as operator:
        assert operator.value("SELECT sum(reserved) FROM budget.balances") == 0
    for tenant in tenants:
        assert_sound(database, tenant)


@contextmanager
def disk_that_does_not_answer(database: Database) -> Iterator[None]:
    """Let every commit that waits for its record to be safe wait for a standby that does not exist."""
    with database.connect() as operator:
        try:
            operator.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            operator.run("SELECT pg_reload_conf()")
            for _ in range(PATIENCE):
                with database.connect() as fresh:
                    if fresh.value("SHOW synchronous_standby_names") == "nobody":
                        break
                time.sleep(0.01)
            else:
                raise AssertionError("the server has not taken up its setting")
            yield
        finally:
            operator.run("ALTER SYSTEM RESET synchronous_standby_names")
            operator.run("SELECT pg_reload_conf()")


def is_free(database: Database, tenant: UUID) -> bool:
    """Whether nobody holds the lock of a tenant's balances."""
    with database.connect() as operator, operator.connection.transaction():
        try:
            operator.query("SELECT FROM budget.balances WHERE tenant_id = %s FOR UPDATE NOWAIT", [tenant])
        except psycopg.errors.LockNotAvailable:
            return False
    return True


@pytest.fixture
async def functions(database: Database) -> Any:
    """The functions' database, on connections that wait for the disk, as they do in production."""
    url = f"{database.urls['app']}?options={quote('-c synchronous_commit=on')}"
    opened = await shared_database.Database(url, pool_size=4).open()
    yield opened
    await opened.close()


async def until_turns(database: Database, tenant: UUID, number: int) -> None:
    """Return when others see so many turns."""
    with database.connect() as operator:
        for _ in range(PATIENCE):
            if operator.value("SELECT count(*) FROM chat.turns WHERE tenant_id = %s", [tenant]) == number:
                return
            await asyncio.sleep(0.01)
    raise AssertionError(f"there are not {number} turns")


def question() -> dict[str, object]:
    return {"p_message": "How much?", "p_max_tokens": 100}


async def test_a_turn_leaves_the_tenants_lock_before_the_disk_answers_and_is_answered_after(
    database: Database, tenants: Sequence[UUID], functions: shared_database.Database
) -> None:
    ann, bob = (Principal(tenants[0], name, "chat.ask", ("member",)) for name in ("ann", "bob"))
    for who in (ann, bob):
        await functions.call_releasing_early("chat.begin_turn", who, **question())
    with disk_that_does_not_answer(database):
        first = asyncio.create_task(functions.call_releasing_early("chat.begin_turn", ann, **question()))
        await until_turns(database, tenants[0], 3)
        assert is_free(database, tenants[0])
        second = asyncio.create_task(functions.call_releasing_early("chat.begin_turn", bob, **question()))
        await until_turns(database, tenants[0], 4)
        await asyncio.sleep(0.1)
        assert not first.done(), "nobody is answered before the disk has it"
        assert not second.done()
    turns = {(await answered)["turn_id"] for answered in (first, second)}
    assert len(turns) == 2
    assert_sound(database, tenants[0])


async def test_a_turn_that_waits_for_the_disk_in_its_own_transaction_keeps_the_lock_meanwhile(
    database: Database, tenants: Sequence[UUID], functions: shared_database.Database
) -> None:
    """What releasing early is for; and that the test above would notice its absence."""
    ann = Principal(tenants[0], "ann", "chat.ask", ("member",))
    await functions.call("chat.begin_turn", ann, **question())
    with disk_that_does_not_answer(database):
        waiting = asyncio.create_task(functions.call("chat.begin_turn", ann, **question()))
        for _ in range(PATIENCE):
            await asyncio.sleep(0.01)
            if not is_free(database, tenants[0]):
                break
        await asyncio.sleep(0.1)
        assert not is_free(database, tenants[0])
        assert not waiting.done()
    await waiting


async def test_what_was_answered_is_on_the_disk(
    database: Database, tenants: Sequence[UUID], functions: shared_database.Database
) -> None:
    ann = Principal(tenants[0], "ann", "chat.ask", ("member",))
    with database.connect() as operator:
        for _ in range(5):
            before = operator.value("SELECT pg_current_wal_insert_lsn()")
            turn = (await functions.call_releasing_early("chat.begin_turn", ann, **question()))["turn_id"]
            # The flush statement's own record comes after the turn's commit, and is flushed.
            flushed = operator.value("SELECT pg_current_wal_flush_lsn()")
            assert operator.value("SELECT %s::pg_lsn > %s::pg_lsn", [flushed, before])
            assert operator.value("SELECT count(*) FROM chat.turns WHERE id = %s", [turn]) == 1
