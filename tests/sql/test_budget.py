"""A budget is never overshot, by any interleaving, and its ledger adds up."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support import Caller, Database, add_document

BALANCES = "SELECT period, tokens, settled, reserved FROM budget.balances ORDER BY period"
LEDGER = """
SELECT coalesce(sum(tokens) FILTER (WHERE entry = 'settle'), 0),
       coalesce(sum(tokens) FILTER (WHERE entry = 'reserve'), 0) - coalesce(sum(tokens) FILTER (WHERE entry = 'release'), 0)
FROM budget.ledger
"""


def limit(database: Database, tenant: UUID, day: int, month: int = 10**9) -> None:
    with database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens)"
            " VALUES (%(id)s, 'tenant', %(id)s, 'day', %(day)s), (%(id)s, 'tenant', %(id)s, 'month', %(month)s)",
            {"id": tenant, "day": day, "month": month},
        )


def assert_ledger_adds_up(caller: Caller) -> None:
    settled, reserved = caller.query(LEDGER)[0]
    assert {(s, r) for _, _, s, r in caller.query(BALANCES)} == {(settled, reserved)}


def settle(database: Database, tenant: UUID, turn: str, tokens: int) -> Any:
    """Settle as the functions that end a turn do; the functions' role itself may not."""
    with database.connect("postgres", tenant) as owner:
        return owner.call("budget.settle", p_turn_id=turn, p_prompt_tokens=tokens)


def begin(caller: Caller, **arguments: object) -> Any:
    return caller.call("chat.begin_turn", **{"p_message": "How much?", "p_max_tokens": 100} | arguments)


def test_exactly_as_many_simultaneous_turns_are_admitted_as_fit(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[1]) as app:
        price = begin(app)["reserved_tokens"]
    limit(database, tenants[0], day=10 * price + price // 2)

    def attempt(number: int) -> str:
        with database.connect("app", tenants[0], f"user-{number}") as app:
            try:
                begin(app)
            except psycopg.Error as error:
                return str(error.sqlstate)
            return "admitted"

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(attempt, range(48)))
    assert outcomes.count("admitted") == 10
    assert outcomes.count("EA004") == 38
    with database.connect() as operator:
        operator.run("DELETE FROM core.tenants WHERE id = %s", [tenants[1]])
        assert_ledger_adds_up(operator)
        assert operator.value("SELECT count(*) FROM chat.turns") == 10, "a refused turn leaves no row"
        assert operator.value("SELECT count(*) FROM inference.jobs") == 10


def test_a_refusal_names_the_period_and_its_reset(database: Database, tenants: Sequence[UUID]) -> None:
    limit(database, tenants[0], day=10**9, month=50)
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
        assert_ledger_adds_up(app)


def test_a_release_charges_nothing(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        assert settle(database, tenants[0], turn, 0) == 0
        assert [(s, r) for _, _, s, r in app.query(BALANCES)] == [(0, 0), (0, 0)]


def test_use_beyond_the_reservation_is_charged_as_far_as_it_fits(database: Database, tenants: Sequence[UUID]) -> None:
    limit(database, tenants[0], day=1000)
    with database.connect("app", tenants[0]) as app:
        turn = begin(app)["turn_id"]
        assert settle(database, tenants[0], turn, 1500) == 1000
        assert app.query("SELECT entry, tokens FROM budget.ledger WHERE entry = 'overrun'") == [("overrun", 500)]
        assert_ledger_adds_up(app)
        with pytest.raises(psycopg.Error, match="0 are left"):
            begin(app)


def test_no_statement_can_book_beyond_the_limit(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        begin(app)
    with database.connect() as operator, pytest.raises(psycopg.errors.CheckViolation, match="within_limit"):
        operator.run("UPDATE budget.balances SET settled = tokens, reserved = 1")


def test_periods_begin_in_the_tenants_time_zone(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect() as operator:
        operator.run("UPDATE core.tenants SET time_zone = 'Pacific/Kiritimati' WHERE id = %s", [tenants[0]])
    with database.connect("app", tenants[0]) as app:
        begin(app)
        day, here = app.query(
            "SELECT starts_on, (now() AT TIME ZONE 'Pacific/Kiritimati')::date FROM budget.balances WHERE period = 'day'"
        )[0]
        assert day == here
        resets = app.value(
            "SELECT (budget.status() #>> '{day,resets_at}')::timestamptz AT TIME ZONE 'Pacific/Kiritimati'"
        )
        assert (resets.hour, resets.minute) == (0, 0)


def test_the_estimate_bounds_the_real_tokenizers_count(database: Database, tenants: Sequence[UUID]) -> None:
    from infra.local.model_server.embeddings import Encoder

    texts = [
        "The daily token budget of a tenant is one million tokens.",
        "def f(x: int) -> int:\n    return x ** 2 + 17  # 1234567890",
        "Überprüfung der Größe: 3,50 EUR am 12.10.2026 für Müller & Söhne",
        "人工知能プラットフォームの予算",
        "a b c d e f g 1 2 3 { } [ ] ( ) ; : , .",
        "🚀 émoji ✓ ½ µ",
    ]
    encoder = Encoder()
    with database.connect("app", tenants[0]) as app:
        for text in texts:
            assert app.call("budget.estimate_tokens", p_text=text) >= encoder.count([text]), text


def test_the_retrieved_passages_are_part_of_the_reservation(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        bare = begin(app)["reserved_tokens"]
        add_document(app, "much.md", ["How much? " + "very much indeed " * 100])
        assert begin(app)["reserved_tokens"] > bare + 500
