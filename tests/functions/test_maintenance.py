"""The daily tick: partitions ahead, and no more of what nobody needs."""

from uuid import uuid4

from shared.events import PING
from tests.functions.asgi import Reply, call
from tests.functions.platform import Platform
from tests.support import Caller


async def tick(platform: Platform, kind: str = PING) -> Reply:
    """Deliver a PingSource's event."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid4()),
        "ce-type": kind,
        "ce-source": "/apis/v1/namespaces/test/pingsources/maintenance",
        "content-type": "application/json",
    }
    return await call(platform.serve("maintain"), "POST", "/", headers, b"{}")


async def test_what_is_past_its_use_goes_and_what_is_not_stays(platform: Platform) -> None:
    tenant = platform.tenants[1]
    with platform.database.connect() as operator:
        for days in (119, 121):
            operator.run(
                "INSERT INTO events.inbox (tenant_id, consumer, source, id, processed_at)"
                " VALUES (%s, 'c', 's', %s, now() - make_interval(days => %s))",
                [tenant, str(days), days],
            )
        for days in (89, 91):
            operator.run(
                "INSERT INTO events.dead_letters"
                " (id, tenant_id, type, subject, extensions, data, created_at, attempts, last_error, died_at)"
                " VALUES (gen_random_uuid(), %s, 't', %s, '{}', '{}', now(), 1, '', now() - make_interval(days => %s))",
                [tenant, str(days), days],
            )
    for _ in range(2):
        assert (await tick(platform)).status == 200
    with platform.database.connect() as operator:
        assert operator.query("SELECT id FROM events.inbox") == [("119",)]
        assert operator.query("SELECT subject FROM events.dead_letters") == [("89",)]


PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'budget.ledger'::regclass"


def drop_last_partition(operator: Caller) -> str:
    """Return its name."""
    last: str = operator.value(
        "SELECT max(c.oid::regclass::text) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'budget.ledger'::regclass AND c.relname ~ '^ledger_[0-9]'"
    )
    operator.run(f"DROP TABLE {last}")
    return last


async def test_months_to_come_have_their_partition(platform: Platform) -> None:
    with platform.database.connect() as operator:
        before = operator.value(PARTITIONS)
        last = drop_last_partition(operator)
    assert (await tick(platform)).status == 200
    with platform.database.connect() as operator:
        assert operator.value(PARTITIONS) == before
        assert operator.value("SELECT relrowsecurity FROM pg_class WHERE oid = %s::regclass", [last]) is True


async def test_a_long_reader_of_the_ledger_keeps_nothing_from_being_forgotten(platform: Platform) -> None:
    waiting = "ALTER FUNCTION ops.make_partitions SET lock_timeout = '{}'"
    with platform.database.connect() as operator, platform.database.connect() as backup:
        before = operator.value(PARTITIONS)
        drop_last_partition(operator)
        operator.run(
            "INSERT INTO events.inbox (tenant_id, consumer, source, id, processed_at)"
            " VALUES (%s, 'c', 's', 'i', now() - interval '1 year')",
            [platform.tenants[1]],
        )
        operator.run(waiting.format("10ms"))
        try:
            with backup.connection.transaction():
                backup.run("SELECT FROM budget.ledger")
                assert (await tick(platform)).status == 500
            assert operator.value("SELECT count(*) FROM events.inbox") == 0
            assert operator.value(PARTITIONS) == before - 1
        finally:
            operator.run(waiting.format("5s"))
        assert (await tick(platform)).status == 200
        assert operator.value(PARTITIONS) == before


async def test_it_takes_ticks_and_nothing_else(platform: Platform) -> None:
    reply = await tick(platform, PING + ".other")
    assert (reply.status, reply.code()) == (400, "malformed_event")
