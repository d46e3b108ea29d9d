"""Erasing a user: nothing of the user's own stays, in any table that the catalog knows of, and the accounts still add up."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from tests.sql.steps import (
    LEASE,
    act,
    answer,
    assert_balances_follow_from_the_ledger,
    begin,
    claim,
    entries,
    make_key,
    refused,
    renew,
    user,
)
from tests.support import Caller, Database, add_document

KEPT = {
    # What was spent stays spent, under an id that names nobody any more.
    "budget.ledger", "budget.balances",
}  # fmt: skip
SECRETS = ("zanzibar", "bob@example.com", "Bob Example", "subject-of-bob", "key-of-bob")
"""What only Bob has said or been called."""
TOLD_BY_OTHERS = {"compliance.audit_log", "events.outbox", "events.inbox"}
"""Tables that hold ids in text or JSON: those of what was done, and of what is on its way."""

WAITING = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app' AND wait_event_type = 'Lock')
"""


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


def erase(database: Database, tenant: UUID, user_id: UUID) -> Any:
    return act(database, tenant, "users.erase", "core.erase_user", p_user_id=user_id)


def own_tables(operator: Caller) -> set[str]:
    """Return the tables that have a user_id, and those that a foreign key leads from to one of them."""
    return {
        row[0]
        for row in operator.query(
            """
            WITH RECURSIVE own (oid) AS (
              SELECT a.attrelid FROM pg_attribute a
              JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE a.attname = 'user_id' AND c.relkind IN ('r', 'p')
                AND NOT c.relispartition AND pg_get_userbyid(n.nspowner) = 'ea_owner'
              UNION
              SELECT k.conrelid FROM pg_constraint k JOIN own ON own.oid = k.confrelid WHERE k.contype = 'f'
            )
            SELECT oid::regclass::text FROM own
            """
        )
    }


def contents(operator: Caller) -> dict[str, list[Any]]:
    """Return every row of the platform's tables as JSON."""
    tables = operator.query(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND pg_get_userbyid(n.nspowner) = 'ea_owner' AND n.nspname <> 'ops'"
    )
    return {table: [row[0] for row in operator.query(f"SELECT to_jsonb(t) FROM {table} t")] for (table,) in tables}


def of_user(rows: dict[str, list[Any]], user_id: UUID) -> set[str]:
    """Return the ids of what is the user's own: from the user's id along the columns that refer to it, however far."""
    ids = {str(user_id)}
    while True:
        found = {
            row["id"]
            for table, listed in rows.items()
            if table not in KEPT | TOLD_BY_OTHERS and not table.startswith("rag.")
            for row in listed
            if "id" in row and any(row.get(column) in ids for column in row if column.endswith("_id"))
        } - ids
        if not found:
            return ids
        ids |= found


def populate(database: Database, tenant: UUID, subject: str) -> UUID:
    """Give a user everything that a user can have; return the id."""
    with database.connect("app") as app:
        app.call(
            "core.enter", p_tenant_id=tenant, p_subject=subject, p_operation="me.read", p_roles=["tenant_admin"],
            p_name="Bob Example", p_email="bob@example.com",
        )  # fmt: skip
    user_id = user(database, tenant, subject)
    key = make_key(database, tenant, subject=subject, p_name="key-of-bob", p_token_budget_daily=10**6)
    with database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens) VALUES (%s, 'user', %s, 'day', 1000000)",
            [tenant, user_id],
        )
        operator.run(
            "INSERT INTO core.role_grants (tenant_id, role, user_id) VALUES (%s, 'viewer', %s)", [tenant, user_id]
        )
        operator.run(
            "INSERT INTO rag.collections (tenant_id, name) VALUES (%s, 'default') ON CONFLICT (tenant_id, name) DO NOTHING",
            [tenant],
        )
        operator.run(
            "INSERT INTO rag.collection_grants (tenant_id, collection_id, user_id, access)"
            " SELECT tenant_id, id, %s, 'read' FROM rag.collections WHERE tenant_id = %s",
            [user_id, tenant],
        )
    with database.connect("app", tenant, subject, api_key=key.key_id) as app:
        turn = begin(app, "What about zanzibar?", p_idempotency_key="zanzibar")
        answer(database, tenant, turn["turn_id"], "It is zanzibar [1].")
    with database.connect("app", tenant, subject) as app:
        begin(app, "And zanzibar?", p_conversation_id=turn["conversation_id"])
        claim(database, tenant, begin(app, "Still zanzibar?")["turn_id"])
    readers = [str(user(database, tenant, "carl", ["member"]))]
    act(
        database, tenant, "chat.share", "chat.share_conversation", subject=subject,
        p_conversation_id=turn["conversation_id"], p_users=readers,
    )  # fmt: skip
    return user_id


def test_all_that_is_the_users_own_is_gone_from_every_table(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as ann:
        add_document(ann, "limits.md", ["What about zanzibar: it is far."])
        conversation = begin(ann, "Mine?")["conversation_id"]
    populate(database, tenants[0], "eve")
    populate(database, tenants[1], "subject-of-bob")
    bob = populate(database, tenants[0], "subject-of-bob")
    act(
        database, tenants[0], "chat.share", "chat.share_conversation",
        p_conversation_id=conversation, p_users=[str(bob)], p_groups=["staff"],
    )  # fmt: skip
    with database.connect() as operator:
        before = contents(operator)
        tables = own_tables(operator)
        ids = of_user(before, bob)
        told = erase(database, tenants[0], bob)
        after = contents(operator)

    def mentions(row: Any) -> bool:
        text = json.dumps(row)
        return any(own in text for own in ids)

    assert {"chat.citations", "chat.passages", "core.api_keys", "core.role_grants", "budget.reservations"} <= tables
    for table in sorted(tables - KEPT):
        assert [row for row in before[table] if mentions(row)], f"{table}: nothing of the user's to erase"
    for table, rows in after.items():
        if table not in KEPT | TOLD_BY_OTHERS:
            assert [row for row in rows if mentions(row)] == [], table
    assert (told["user_id"], told["conversations"], len(told["keys"])) == (str(bob), 2, 1)

    # Others have what they had, but for Bob as a reader, and for the tenant's books.
    for table, rows in before.items():
        if table not in {"budget.balances", "budget.ledger", "compliance.audit_heads", "compliance.audit_log"}:
            kept = [row for row in rows if not (mentions(row) and table not in TOLD_BY_OTHERS)]
            assert after[table] == kept or sorted(map(json.dumps, after[table])) == sorted(map(json.dumps, kept)), table
    for table in ("budget.ledger", "compliance.audit_log"):
        assert [row for row in before[table] if row not in after[table]] == [], table


def test_no_word_of_the_user_stays_anywhere(database: Database, tenants: Sequence[UUID]) -> None:
    bob = populate(database, tenants[0], "subject-of-bob")
    with database.connect() as operator:
        said = json.dumps(contents(operator))
        assert [word for word in SECRETS if word not in said] == []
        erase(database, tenants[0], bob)
        kept = contents(operator)
    for table, rows in kept.items():
        assert [word for word in SECRETS if word in json.dumps(rows)] == [], table


@pytest.mark.parametrize("running", [False, True])
def test_an_open_reservation_ends_and_what_a_running_turn_held_is_charged(
    database: Database, tenants: Sequence[UUID], running: bool
) -> None:
    with database.connect("app", tenants[0], "bob") as app:
        bob = app.value("SELECT core.current_user_id()")
        turn = begin(app)
    if running:
        job = claim(database, tenants[0], turn["turn_id"])
    erase(database, tenants[0], bob)
    charged = turn["reserved_tokens"] if running else 0
    with database.connect("app", tenants[0]) as app:
        assert set(app.query("SELECT settled, reserved FROM budget.balances")) == {(charged, 0)}
    assert_balances_follow_from_the_ledger(database, tenants[0])
    if running:
        # The worker hears of it when it comes back, and books nothing.
        with database.connect("app", tenants[0]) as worker:
            assert renew(worker, tenants[0], job) == "lost"
        with refused("EA002"):
            claim_again(database, tenants[0], job)
        assert_balances_follow_from_the_ledger(database, tenants[0])


def claim_again(database: Database, tenant: UUID, job: UUID) -> None:
    with database.connect("app", tenant) as worker:
        worker.call("inference.claim", p_job_id=job, p_worker="w", p_lease=LEASE)


def test_after_an_erasure_the_balances_of_every_scope_follow_from_the_ledger(
    database: Database, tenants: Sequence[UUID]
) -> None:
    populate(database, tenants[0], "eve")
    bob = populate(database, tenants[0], "subject-of-bob")
    erase(database, tenants[0], bob)
    assert_balances_follow_from_the_ledger(database, tenants[0])
    with database.connect() as operator:
        held = "SELECT sum(reserved) FROM budget.balances WHERE scope = 'tenant' AND period = 'day' AND tenant_id = %s"
        open_ = "SELECT sum(tokens) FROM budget.reservations WHERE closed_at IS NULL AND tenant_id = %s"
        assert operator.value(held, [tenants[0]]) == operator.value(open_, [tenants[0]]) > 0


def test_who_comes_again_begins_anew(database: Database, tenants: Sequence[UUID]) -> None:
    bob = populate(database, tenants[0], "subject-of-bob")
    erase(database, tenants[0], bob)
    again = user(database, tenants[0], "subject-of-bob", ["viewer"])
    assert again != bob
    with database.connect("app", tenants[0], "subject-of-bob", operation="chat.read", roles=["viewer"]) as app:
        for table in ("chat.conversations", "chat.turns", "budget.ledger"):
            assert app.value(f"SELECT count(*) FROM {table}") == 0
        assert app.value("SELECT current_setting('app.roles')") == "viewer"
    with refused("EA002"):
        erase(database, tenants[0], bob)
    assert entries(database, tenants[0])[-1][2] == "user.erased"


def test_an_erasure_and_the_answers_to_the_users_turns_do_not_deadlock(
    database: Database, tenants: Sequence[UUID]
) -> None:
    """Whoever ends a turn holds its job and then wants the tenant's balances; so must the erasure, for all its turns."""
    with database.connect("app", tenants[0], "bob") as app:
        bob = app.value("SELECT core.current_user_id()")
        turns = [begin(app)["turn_id"] for _ in range(12)]
    last = max(turns, key=UUID)
    job = claim(database, tenants[0], last)
    with (
        database.connect() as operator,
        database.connect("postgres", tenants[0]) as worker,
        ThreadPoolExecutor(1) as thread,
    ):
        with worker.connection.transaction():
            # The first thing that inference.complete does.
            worker.run("SELECT FROM inference.jobs WHERE id = %s FOR UPDATE", [job])
            erasure = thread.submit(erase, database, tenants[0], bob)
            while not operator.value(WAITING):
                assert not erasure.done()
            # And the last thing.
            worker.call("budget.settle", p_turn_id=last, p_prompt_tokens=10)
        erasure.result(timeout=60)
    assert_balances_follow_from_the_ledger(database, tenants[0])
