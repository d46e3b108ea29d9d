"""`make db-maintenance` on a database in use."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from infra import maintenance
from tests.support import Database


def test_it_makes_partitions_ahead_and_vacuums_what_changes(database: Database) -> None:
    url = database.urls["postgres"]
    with database.connect() as operator:
        operator.run("ALTER TABLE budget.ledger DETACH PARTITION budget.ledger_default")
        for (name,) in operator.query(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'budget.ledger'::regclass"
        ):
            operator.run(f"DROP TABLE {name}")
        operator.run("ALTER TABLE budget.ledger ATTACH PARTITION budget.ledger_default DEFAULT")
    done = maintenance.run(url, None)
    assert len([line for line in done if line.startswith("created budget.ledger_")]) == 4
    assert [line.removeprefix("vacuumed ") for line in done if line.startswith("vacuumed")] == list(
        maintenance.CHANGING
    )
    assert not [line for line in maintenance.run(url, 0) if line.startswith(("created", "detached"))]


def test_months_older_than_are_kept_leave_the_ledger_and_stay_as_tables(
    database: Database, tenants: Sequence[UUID]
) -> None:
    with database.connect() as operator:
        operator.run(
            "INSERT INTO budget.ledger (tenant_id, turn_id, user_id, entry, tokens, cost_micros, day, month)"
            " VALUES (%s, gen_random_uuid(), gen_random_uuid(), 'settle', 5, 0, '2025-03-04', '2025-03-01')",
            [tenants[0]],
        )
    done = maintenance.run(database.urls["postgres"], 6)
    assert {"created budget.ledger_2025_03", "detached budget.ledger_2025_03"} <= set(done)
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM budget.ledger") == 0
        assert operator.value("SELECT sum(tokens) FROM budget.ledger_2025_03") == 5


def test_two_runs_side_by_side_make_each_partition_once(database: Database) -> None:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' AND backend_type = 'client backend'"
    )
    with (
        database.connect() as operator,
        database.connect() as one,
        database.connect() as two,
        ThreadPoolExecutor() as threads,
    ):
        for months in (2, 3):
            name = operator.value("SELECT to_char(now() + make_interval(months => %s), 'YYYY_MM')", [months])
            operator.run(f"DROP TABLE budget.ledger_{name}")
        # Both are under way before one of them can go on: a turn that writes into the default partition holds them up.
        with operator.connection.transaction():
            operator.run("LOCK TABLE budget.ledger_default IN ROW EXCLUSIVE MODE")
            runs = [threads.submit(caller.rows, "budget.maintain") for caller in (one, two)]
            while operator.value(waiting) < len(runs):
                assert not any(run.done() for run in runs)
                # Else the transaction goes on seeing what it saw first.
                operator.run("SELECT pg_stat_clear_snapshot()")
        assert sorted(len(run.result()) for run in runs) == [0, 2]


@pytest.mark.parametrize("keep", ["-1", "many", "1.5"])
def test_a_number_of_months_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, keep: str) -> None:
    monkeypatch.setenv("KEEP_MONTHS", keep)
    with pytest.raises(SystemExit, match="KEEP_MONTHS"):
        maintenance.main()
