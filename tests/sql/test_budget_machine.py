"""Whatever is done to a budget, in whatever order: ledger and balances agree, and what is admitted is what a model says."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.sql.budget_steps import BROKEN, operator_of, price, set_clock, told
from tests.sql.steps import make_key, user
from tests.support import Caller, Database

ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 3, 27, 12, tzinfo=ZONE)
"""Before the short day, and the end of a month."""
DEFAULTS = {"day": 1_000_000, "month": 20_000_000}
PRICES: dict[str | None, tuple[int, int]] = {"dear": (3, 5), "free": (0, 0), "unknown": (0, 0), None: (0, 0)}
SUBJECTS = ("ann", "bob")
Name = tuple[str, UUID, str]
"""Scope, holder and period: whose limit."""
BALANCES = """
SELECT scope, holder_id, period, starts_on, tokens, settled, reserved, cost_micros, cost_settled, cost_reserved
FROM budget.balances WHERE tenant_id = %s
"""
LIMIT = {"tenant_id": "%(tenant)s", "scope": "%(scope)s", "holder_id": "%(holder)s", "period": "%(period)s"}
ITS_LIMIT = " AND ".join(f"{column} = {value}" for column, value in LIMIT.items())


@dataclass
class Limit:
    tokens: int | None
    cost: int | None
    paused: bool = False


@dataclass
class Pot:
    """A balance in one unit."""

    target: int | None
    """The limit that was set, and topped up."""
    settled: int = 0
    reserved: int = 0
    limit: int | None = None
    """Never below what is used and held; it comes down to the target as that ends."""

    def room(self) -> int | None:
        return None if self.limit is None else self.limit - self.settled - self.reserved

    def has_room(self, amount: int) -> bool:
        room = self.room()
        return room is None or amount <= room

    def set(self, target: int | None) -> None:
        self.target = target
        self.limit = None if target is None else max(target, self.settled + self.reserved)


@dataclass
class Held:
    turn: UUID
    user: UUID
    key: UUID | None
    model: str | None
    day: date
    tokens: int
    cost: int
    used: int = 0
    cost_used: int = 0
    open: bool = True

    def counts_in(self, scope: str, holder: UUID, period: str, starts_on: date, tenant: UUID) -> bool:
        return holder == {"tenant": tenant, "user": self.user, "api_key": self.key}[scope] and starts_on == first_day(
            self.day, period
        )


def first_day(day: date, period: str) -> date:
    return day if period == "day" else day.replace(day=1)


@dataclass
class Model:
    """What must hold, without any SQL."""

    tenant: UUID
    limits: dict[Name, Limit] = field(default_factory=dict)
    pots: dict[tuple[Name, date], tuple[Pot, Pot]] = field(default_factory=dict)
    turns: list[Held] = field(default_factory=list)
    now: datetime = START

    @property
    def today(self) -> date:
        return self.now.astimezone(ZONE).date()

    def binding(self, user_id: UUID | None, key: UUID | None) -> list[Name]:
        """Whose limits bind a turn, in the order in which they are tested."""
        names: list[Name] = [("tenant", self.tenant, "month"), ("tenant", self.tenant, "day")]
        for scope, holder in (("user", user_id), ("api_key", key)):
            if holder is not None:
                names += [(scope, holder, p) for p in ("month", "day") if (scope, holder, p) in self.limits]
        return names

    def limit_of(self, name: Name) -> Limit:
        limit = self.limits.get(name, Limit(None, None))
        fallback = DEFAULTS[name[2]] if name[0] == "tenant" else None
        return Limit(limit.tokens if limit.tokens is not None else fallback, limit.cost, limit.paused)

    def opened(self, name: Name) -> tuple[Pot, Pot]:
        """Return a balance as it is, or as it is when it is made: with all that counts in it already."""
        key = (name, first_day(self.today, name[2]))
        if key in self.pots:
            return self.pots[key]
        mine = [turn for turn in self.turns if turn.counts_in(*name, key[1], self.tenant)]
        tokens = Pot(None, sum(t.used for t in mine), sum(t.tokens for t in mine if t.open))
        cost = Pot(None, sum(t.cost_used for t in mine), sum(t.cost for t in mine if t.open))
        limit = self.limit_of(name)
        tokens.set(limit.tokens)
        cost.set(limit.cost)
        return tokens, cost

    def keep(self, name: Name, pots: tuple[Pot, Pot]) -> None:
        self.pots[name, first_day(self.today, name[2])] = pots

    def reserve(self, held: Held) -> tuple[str, str, str] | str | None:
        """Hold; return what refuses: a pause, or scope, period and unit of the budget that is full."""
        names = self.binding(held.user, held.key)
        if any(self.limit_of(name).paused for name in names):
            return "EA014"
        needed = [(name, self.opened(name)) for name in names]
        for name, (tokens, cost) in needed:
            if not tokens.has_room(held.tokens):
                return name[0], name[2], "tokens"
            if not cost.has_room(held.cost):
                return name[0], name[2], "cost"
        for name, (tokens, cost) in needed:
            tokens.reserved += held.tokens
            cost.reserved += held.cost
            self.keep(name, (tokens, cost))
        self.turns.append(held)
        return None

    def close(self, held: Held, used: int, cost_used: int) -> int:
        """Charge as far as it fits; return that."""
        mine = [pots for (name, start), pots in self.pots.items() if held.counts_in(*name, start, self.tenant)]
        rooms = [room for tokens, _ in mine if (room := tokens.room()) is not None]
        cost_rooms = [room for _, cost in mine if (room := cost.room()) is not None]
        held.used = min([used, *(room + held.tokens for room in rooms)])
        held.cost_used = min([cost_used, *(room + held.cost for room in cost_rooms)])
        held.open = False
        for tokens, cost in mine:
            tokens.reserved -= held.tokens
            tokens.settled += held.used
            cost.reserved -= held.cost
            cost.settled += held.cost_used
            for pot in (tokens, cost):
                pot.set(pot.target)
        return held.used

    def set(self, name: Name, limit: Limit | None) -> None:
        """A limit is set, changed or taken away; the running period follows where it is another."""
        for period in ("day", "month"):
            tenants = ("tenant", self.tenant, period)
            self.keep(tenants, self.opened(tenants))
        before = self.limits.pop(name, Limit(None, None))
        if limit is not None:
            self.limits[name] = limit
        elif name[0] != "tenant":
            self.pots = {key: pots for key, pots in self.pots.items() if key[0] != name}
        pots = self.pots.get((name, first_day(self.today, name[2])))
        if pots is not None:
            after = self.limit_of(name)
            if (limit or Limit(None, None)).tokens != before.tokens:
                pots[0].set(after.tokens)
            if (limit or Limit(None, None)).cost != before.cost:
                pots[1].set(after.cost)

    def top_up(self, name: Name, tokens: int, cost: int) -> bool:
        scope, holder, _ = name
        names = self.binding(holder if scope == "user" else None, holder if scope == "api_key" else None)
        pots = self.opened(name)
        if name not in names or (tokens and pots[0].limit is None) or (cost and pots[1].limit is None):
            return False
        for other in names:
            self.keep(other, self.opened(other))
        mine = self.opened(name)
        for pot, more in zip(mine, (tokens, cost), strict=True):
            if pot.target is not None:
                pot.set(pot.target + more)
        return True


AMOUNTS = st.integers(1, 60)
LIMITS = st.one_of(st.none(), st.integers(0, 250))
WHO = st.integers(0, 1)
SCOPES = st.sampled_from(["tenant", "user", "api_key"])
PERIODS = st.sampled_from(["day", "month"])


class Budgets(RuleBasedStateMachine):
    """One tenant, two users with a key each; an administrator and a database administrator who change limits as they like."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.operator: Caller = self.stack.enter_context(self.database.connect())
        self.tenant: UUID = self.operator.call(
            "core.provision_tenant", p_slug=f"m-{uuid4().hex[:12]}", p_name="Machine"
        )
        self.operator.run("UPDATE core.tenants SET time_zone = 'Europe/Berlin' WHERE id = %s", [self.tenant])
        self.root = self.stack.enter_context(operator_of(self.database, self.tenant, "root"))
        self.model = Model(self.tenant)
        self.users: list[UUID] = [uuid4(), uuid4()]
        self.keys: list[UUID] = [uuid4(), uuid4()]
        for who in range(2):
            self.arrive(who)
        self.set_now(START)

    def teardown(self) -> None:
        self.operator.run("DELETE FROM core.tenants WHERE id = %s", [self.tenant])
        self.stack.close()

    def arrive(self, who: int) -> None:
        """A user comes for the first time, or again after having been erased, and makes a key."""
        self.users[who] = user(self.database, self.tenant, SUBJECTS[who])
        self.keys[who] = make_key(self.database, self.tenant, subject=SUBJECTS[who]).key_id

    def set_now(self, now: datetime) -> None:
        self.model.now = now
        set_clock(self.root, now)
        set_clock(self.operator, now)

    def refusal(self, function: str, **arguments: Any) -> psycopg.Error | None:
        """Call a function; return what it raised."""
        try:
            self.root.call(function, **arguments)
        except psycopg.Error as error:
            return error
        return None

    def holder(self, scope: str, who: int) -> UUID:
        return {"tenant": self.tenant, "user": self.users[who], "api_key": self.keys[who]}[scope]

    def running(self, number: int) -> Held | None:
        still = [turn for turn in self.model.turns if turn.open]
        return still[number % len(still)] if still else None

    @initialize(tokens=st.integers(50, 250), cost=st.integers(200, 900))
    def limited(self, tokens: int, cost: int) -> None:
        self.set_limit("tenant", 0, "day", tokens, cost, paused=False)

    @rule(
        who=WHO,
        by_key=st.booleans(),
        prompt=AMOUNTS,
        completion=st.integers(0, 40),
        model=st.sampled_from(list(PRICES)),
    )
    def reserve(self, who: int, by_key: bool, prompt: int, completion: int, model: str | None) -> None:
        inward, outward = PRICES[model]
        key = self.keys[who] if by_key else None
        held = Held(
            uuid4(), self.users[who], key, model, self.model.today,
            prompt + completion, prompt * inward + completion * outward,
        )  # fmt: skip
        expected = self.model.reserve(held)
        self.root.query(
            "SELECT set_config('app.user_id', %s, false), set_config('app.api_key_id', %s, false)",
            [str(self.users[who]), str(key or "")],
        )
        refused = self.refusal(
            "budget.reserve", p_turn_id=held.turn, p_prompt_tokens=prompt, p_max_tokens=completion, p_model=model
        )
        if refused is not None and refused.sqlstate == "EA004":
            members = told(refused)
            assert (members["scope"], members["period"], members["unit"]) == expected
        else:
            assert (refused and refused.sqlstate) == expected, refused

    @rule(number=st.integers(0, 9), prompt=st.integers(0, 50), completion=st.integers(0, 50))
    def settle(self, number: int, prompt: int, completion: int) -> None:
        """Within what is held, or beyond it."""
        held = self.running(number)
        if held is not None:
            inward, outward = PRICES[held.model]
            expected = self.model.close(held, prompt + completion, prompt * inward + completion * outward)
            arguments = {"p_turn_id": held.turn, "p_prompt_tokens": prompt, "p_completion_tokens": completion}
            assert self.root.call("budget.settle", **arguments) == expected
            assert self.root.call("budget.settle", **arguments) == expected, "the first settlement stands"

    @rule(number=st.integers(0, 9))
    def release(self, number: int) -> None:
        held = self.running(number)
        if held is not None:
            self.model.close(held, 0, 0)
            self.root.call("budget.release", p_turn_id=held.turn)

    @rule(numbers=st.sets(st.integers(0, 9), min_size=1, max_size=3))
    def expire(self, numbers: set[int]) -> None:
        late = {held.turn: held for number in numbers if (held := self.running(number)) is not None}
        self.operator.run(
            "UPDATE budget.reservations SET expires_at = now() - interval '1 second' WHERE turn_id = ANY (%s)",
            [list(late)],
        )
        for held in late.values():
            self.model.close(held, 0, 0)
        assert self.operator.call("budget.expire")["count"] == len(late)

    @rule(
        scope=SCOPES,
        who=WHO,
        period=PERIODS,
        tokens=LIMITS,
        cost=st.one_of(st.none(), st.integers(0, 900)),
        paused=st.just(value=False) | st.booleans(),
    )
    def set_limit(
        self, scope: str, who: int, period: str, tokens: int | None, cost: int | None, *, paused: bool
    ) -> None:
        name = (scope, self.holder(scope, who), period)
        nothing = tokens is None and cost is None and not paused
        if not (nothing and name not in self.model.limits):
            self.model.set(name, None if nothing else Limit(tokens, cost, paused))
        self.root.call(
            "budget.set_limit", p_scope=scope, p_holder_id=name[1], p_period=period,
            p_tokens=tokens, p_cost_micros=cost, p_paused=paused,
        )  # fmt: skip

    @rule(scope=SCOPES, who=WHO, period=PERIODS, tokens=st.integers(0, 100), cost=st.integers(0, 300))
    def top_up(self, scope: str, who: int, period: str, tokens: int, cost: int) -> None:
        name = (scope, self.holder(scope, who), period)
        expected = self.model.top_up(name, tokens, cost)
        refused = self.refusal(
            "budget.top_up", p_scope=scope, p_holder_id=name[1], p_period=period, p_tokens=tokens, p_cost_micros=cost
        )
        assert (refused and refused.sqlstate) == (None if expected else "EA013"), refused

    @precondition(lambda self: self.model.limits)
    @rule(
        number=st.integers(0, 9),
        pick=st.sampled_from(["tokens", "cost_micros", "pause", "resume", "delete"]),
        amount=LIMITS,
    )
    def change_by_hand(self, number: int, pick: str, amount: int | None) -> None:
        """A database administrator changes or deletes a row of the table."""
        names = sorted(self.model.limits, key=str)
        name = names[number % len(names)]
        limit = self.model.limits[name]
        row = {"tenant": self.tenant, "scope": name[0], "holder": name[1], "period": name[2], "amount": amount}
        if pick == "delete":
            self.model.set(name, None)
            self.operator.run(f"DELETE FROM budget.limits WHERE {ITS_LIMIT}", row)
            return
        changed, change = {
            "tokens": (Limit(amount, limit.cost, limit.paused), "tokens = %(amount)s"),
            "cost_micros": (Limit(limit.tokens, amount, limit.paused), "cost_micros = %(amount)s"),
            "pause": (Limit(limit.tokens, limit.cost, paused=True), "paused_at = now()"),
            "resume": (Limit(limit.tokens, limit.cost), "paused_at = NULL"),
        }[pick]
        self.model.set(name, changed)
        self.operator.run(f"UPDATE budget.limits SET {change} WHERE {ITS_LIMIT}", row)

    @rule(scope=SCOPES, who=WHO, period=PERIODS, tokens=LIMITS)
    def insert_by_hand(self, scope: str, who: int, period: str, tokens: int | None) -> None:
        name = (scope, self.holder(scope, who), period)
        if name not in self.model.limits:
            self.model.set(name, Limit(tokens, None))
            row = {"tenant": self.tenant, "scope": scope, "holder": name[1], "period": period, "tokens": tokens}
            self.operator.run(
                f"INSERT INTO budget.limits ({', '.join(LIMIT)}, tokens) VALUES ({', '.join(LIMIT.values())}, %(tokens)s)",
                row,
            )

    @rule(hours=st.sampled_from([1, 13, 24, 24 * 5]))
    def time_passes(self, hours: int) -> None:
        self.set_now(self.model.now + timedelta(hours=hours))

    @rule(who=WHO, first_runs=st.booleans())
    def erase(self, who: int, *, first_runs: bool) -> None:
        """The user goes: what runs is charged as it was held, what waits is given back."""
        mine = [turn for turn in self.model.turns if turn.open and turn.user == self.users[who]]
        for place, held in enumerate(mine):
            runs = (place % 2 == 0) is first_runs
            self.operator.run(
                "WITH turn AS (INSERT INTO chat.turns (tenant_id, id, user_id, request_sha256, request, max_tokens)"
                " VALUES (%(tenant)s, %(turn)s, %(user)s, '', '{}', 1))"
                " INSERT INTO inference.jobs (tenant_id, turn_id, tier, model, status, leased_by, leased_until)"
                " VALUES (%(tenant)s, %(turn)s, 'light', 'free', %(status)s, %(by)s, %(until)s)",
                {
                    "tenant": self.tenant, "turn": held.turn, "user": held.user, "status": "running" if runs else "queued",
                    "by": "w" if runs else None, "until": "infinity" if runs else None,
                },
            )  # fmt: skip
        # Those that run come first, and each of them in the order of its turn.
        for held in mine[0 if first_runs else 1 :: 2]:
            self.model.close(held, held.tokens, held.cost)
        for held in mine[1 if first_runs else 0 :: 2]:
            self.model.close(held, 0, 0)
        self.root.query("SELECT set_config('app.user_id', u.id::text, false) FROM core.users u WHERE subject = 'root'")
        self.root.call("core.erase_user", p_user_id=self.users[who])
        for name in [name for name in self.model.limits if name[1] in (self.users[who], self.keys[who])]:
            self.model.set(name, None)
        self.arrive(who)

    @invariant()
    def the_balances_are_those_of_the_model_and_of_the_ledger(self) -> None:
        assert self.operator.rows("budget.verify", p_tenant_id=self.tenant) == []
        assert self.operator.query(BROKEN, [self.tenant]) == []
        kept: dict[Any, Any] = {
            ((scope, holder, period), start): tuple(amounts)
            for scope, holder, period, start, *amounts in self.operator.query(BALANCES, [self.tenant])
        }
        assert kept == {
            key: (t.limit, t.settled, t.reserved, c.limit, c.settled, c.reserved)
            for key, (t, c) in self.model.pots.items()
        }


@pytest.fixture
def priced_database(module_database: Database) -> Database:
    price(module_database, "dear", 3, 5)
    price(module_database, "free", 0, 0)
    price(module_database, "unknown", None, None)

    return module_database


def test_the_ledger_the_balances_and_the_model_agree_after_every_step(priced_database: Database) -> None:
    Budgets.database = priced_database
    run_state_machine_as_test(
        Budgets,
        settings=settings(
            max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
