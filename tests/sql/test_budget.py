"""What a turn holds of its tenant's budget, and what it is charged; concurrency, clocks, limits and plans: test_budget_*.py."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.budget_steps import assert_sound, limit
from tests.support import Caller, Database, add_document

BALANCES = "SELECT period, tokens, settled, reserved FROM budget.balances ORDER BY period"


def settle(database: Database, tenant: UUID, turn: str, tokens: int) -> Any:
    """Settle as the functions that end a turn do; the functions' role itself may not."""
    with database.connect("postgres", tenant) as owner:
        return owner.call("budget.settle", p_turn_id=turn, p_prompt_tokens=tokens)


def begin(caller: Caller, **arguments: object) -> Any:
    return caller.call("chat.begin_turn", **{"p_message": "How much?", "p_max_tokens": 100} | arguments)


def test_a_refusal_names_the_period_and_its_reset(database: Database, tenants: Sequence[UUID]) -> None:
    limit(database, tenants[0], 50, period="month")
    with database.connect("app", tenants[0]) as app, pytest.raises(psycopg.Error) as raised:
        begin(app)
    detail = raised.value.diag.message_detail
    assert detail is not None
    for member in ('"period": "month"', '"scope": "tenant"', '"limit": 50', '"resets_at"', '"requested"'):
        assert member in detail


def test_a_settlement_frees_what_was_not_used_and_counts_once(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        assert settle(database, tenants[0], turn, 30) == 30
        assert settle(database, tenants[0], turn, 90) == 30, "the first settlement stands"
        assert [(s, r) for _, _, s, r in app.query(BALANCES)] == [(30, 0), (30, 0)]
    assert_sound(database, tenants[0])


def test_a_release_charges_nothing(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        assert settle(database, tenants[0], turn, 0) == 0
        assert [(s, r) for _, _, s, r in app.query(BALANCES)] == [(0, 0), (0, 0)]


def test_use_beyond_the_reservation_is_charged_as_far_as_it_fits(database: Database, tenants: Sequence[UUID]) -> None:
    limit(database, tenants[0], 1000)
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        assert settle(database, tenants[0], turn, 1500) == 1000
        assert app.query("SELECT entry, tokens FROM budget.ledger WHERE entry = 'overrun'") == [("overrun", 500)]
        with pytest.raises(psycopg.Error, match="0 are left"):
            begin(app)
    assert_sound(database, tenants[0])


def test_the_retrieved_passages_are_part_of_the_reservation(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        bare = begin(app)["reserved_tokens"]
        add_document(app, "much.md", ["How much? " + "very much indeed " * 100])
        assert begin(app)["reserved_tokens"] > bare + 500
