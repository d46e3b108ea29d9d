"""What tests of budgets do again and again: hold, settle and limit as the platform's own functions do."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg

from tests.support import Caller, Database

Balance = tuple[int | None, int, int]
"""Limit, settled, reserved."""

BROKEN = """
SELECT scope, period, starts_on, tokens, settled, reserved, cost_micros, cost_settled, cost_reserved FROM budget.balances
WHERE tenant_id = %s AND (settled + reserved > tokens OR cost_settled + cost_reserved > cost_micros
  OR least(settled, reserved, cost_settled, cost_reserved) < 0)
"""


@contextmanager
def operator_of(
    database: Database,
    tenant: UUID,
    subject: str = "ann",
    *,
    roles: Sequence[str] = ("tenant_admin",),
    api_key: UUID | None = None,
    clock: datetime | str | None = None,
) -> Iterator[Caller]:
    """Yield the superuser's session acting for a user: it may call the internal functions and set the clock."""
    with database.connect("postgres", tenant, subject, roles=roles, api_key=api_key) as caller:
        if clock is not None:
            set_clock(caller, clock)
        yield caller


def set_clock(caller: Caller, clock: datetime | str) -> None:
    """Let the session's periods begin by another time."""
    caller.value("SELECT set_config('budget.clock', %s, false)", [str(clock)])


def reserve(caller: Caller, tokens: int, completion: int = 0, model: str | None = None) -> UUID:
    """Hold tokens for a turn that nobody asked; return its id."""
    turn = uuid4()
    caller.call("budget.reserve", p_turn_id=turn, p_prompt_tokens=tokens, p_max_tokens=completion, p_model=model)
    return turn


def settle(caller: Caller, turn: UUID, tokens: int, completion: int = 0) -> int:
    """End a turn's reservation and charge; return what was charged."""
    charged: int = caller.call("budget.settle", p_turn_id=turn, p_prompt_tokens=tokens, p_completion_tokens=completion)
    return charged


def use(caller: Caller, tokens: int, completion: int = 0, model: str | None = None) -> UUID:
    """Hold and charge the same."""
    turn = reserve(caller, tokens, completion, model)
    settle(caller, turn, tokens, completion)
    return turn


def limit(
    database: Database,
    tenant: UUID,
    tokens: int | None = None,
    *,
    scope: str = "tenant",
    holder: UUID | None = None,
    period: str = "day",
    cost: int | None = None,
) -> None:
    """Set a limit by hand, as a database administrator does."""
    with database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens, cost_micros)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, scope, holder_id, period)"
            " DO UPDATE SET tokens = excluded.tokens, cost_micros = excluded.cost_micros",
            [tenant, scope, holder or tenant, period, tokens, cost],
        )


def balance(database: Database, holder: UUID, period: str = "day") -> Balance:
    """Return the latest balance of a holder in tokens."""
    return _balance(database, holder, period, "tokens, settled, reserved")


def cost_balance(database: Database, holder: UUID, period: str = "day") -> Balance:
    """Return the latest balance of a holder in millionths."""
    return _balance(database, holder, period, "cost_micros, cost_settled, cost_reserved")


def _balance(database: Database, holder: UUID, period: str, columns: str) -> Balance:
    with database.connect() as operator:
        limited, settled, reserved = operator.query(
            f"SELECT {columns} FROM budget.balances WHERE holder_id = %s AND period = %s ORDER BY starts_on DESC LIMIT 1",
            [holder, period],
        )[0]
    return limited, settled, reserved


def price(database: Database, name: str, input_price: float | None, output_price: float | None) -> str:
    """Give a model its prices, a new one if there is none; return its name."""
    with database.connect() as operator:
        operator.run(
            "INSERT INTO routing.models (name, tier, input_price, output_price) VALUES (%s, 'light', %s, %s)"
            " ON CONFLICT (name) DO UPDATE SET input_price = excluded.input_price, output_price = excluded.output_price",
            [name, input_price, output_price],
        )
    return name


def told(error: psycopg.Error) -> dict[str, Any]:
    """Return the members of a problem."""
    members: dict[str, Any] = json.loads(error.diag.message_detail or "{}")
    return members


def assert_sound(database: Database, tenant: UUID) -> None:
    """Check that the balances follow from the ledger, and none is beyond its limit or below nothing."""
    with database.connect() as operator:
        assert operator.rows("budget.verify", p_tenant_id=tenant) == []
        assert operator.query(BROKEN, [tenant]) == []
