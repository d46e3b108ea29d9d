"""What tests of access, keys, sharing, users and the audit log do again and again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from shared.api_keys import ApiKey
from tests.support import Caller, Database

LEASE = "1 minute"
PLATFORM = UUID(int=0)
"""Whose chain of the audit log the platform's own is."""

MOVED = """
SELECT b.scope, b.period, b.settled, b.reserved,
  coalesce(sum(l.tokens) FILTER (WHERE l.entry = 'settle'), 0)::bigint,
  coalesce(sum(CASE l.entry WHEN 'reserve' THEN l.tokens WHEN 'release' THEN -l.tokens END), 0)::bigint
FROM budget.balances b
LEFT JOIN budget.ledger l ON l.tenant_id = b.tenant_id
  AND CASE b.period WHEN 'day' THEN l.day ELSE l.month END = b.starts_on
  AND CASE b.scope WHEN 'tenant' THEN l.tenant_id WHEN 'user' THEN l.user_id ELSE l.api_key_id END = b.holder_id
WHERE b.tenant_id = %s
GROUP BY b.tenant_id, b.scope, b.holder_id, b.period, b.starts_on
"""


@contextmanager
def refused(sqlstate: str) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """Expect a problem of the platform."""
    with pytest.raises(psycopg.Error) as raised:
        yield raised
    assert raised.value.sqlstate == sqlstate, raised.value


def act(
    database: Database,
    tenant: UUID,
    operation: str,
    function: str,
    *,
    subject: str = "ann",
    roles: Sequence[str] = ("tenant_admin",),
    groups: Sequence[str] = (),
    api_key: UUID | None = None,
    **arguments: Any,
) -> Any:
    """Call a function as a user who was admitted to an operation."""
    with database.connect(
        "app", tenant, subject, operation=operation, roles=roles, groups=groups, api_key=api_key
    ) as caller:
        return caller.call(function, **arguments)


def user(
    database: Database,
    tenant: UUID,
    subject: str = "ann",
    roles: Sequence[str] = ("tenant_admin",),
    groups: Sequence[str] = (),
) -> UUID:
    """Return the id of a subject, whom a token provisions where it is new."""
    return UUID(
        act(database, tenant, "me.read", "core.whoami", subject=subject, roles=roles, groups=groups)["user"]["id"]
    )


def service_account(database: Database, tenant: UUID, name: str = "robot", roles: Sequence[str] = ("service",)) -> UUID:
    """Return the id of a new service account."""
    made = act(database, tenant, "users.create", "core.create_service_account", p_name=name, p_roles=list(roles))
    return UUID(made["id"])


def make_key(
    database: Database,
    tenant: UUID,
    *,
    subject: str = "ann",
    roles: Sequence[str] = ("tenant_admin",),
    by_key: UUID | None = None,
    **arguments: Any,
) -> ApiKey:
    """Return a new key, for the subject unless p_user_id says otherwise."""
    key = ApiKey.generate(tenant)
    given: dict[str, Any] = {"p_key_id": key.key_id, "p_secret_sha256": key.digest(), "p_name": "ci"} | arguments
    act(database, tenant, "keys.create", "core.create_key", subject=subject, roles=roles, api_key=by_key, **given)
    return key


def authenticate(database: Database, key: ApiKey) -> Any:
    """Return what PostgreSQL says of a key."""
    with database.connect("app") as app:
        return app.call(
            "core.authenticate_key", p_tenant_id=key.tenant_id, p_key_id=key.key_id, p_secret_sha256=key.digest()
        )


def begin(caller: Caller, message: str = "What is the limit?", **arguments: Any) -> Any:
    """Begin a turn."""
    return caller.call("chat.begin_turn", p_message=message, **arguments)


def claim(database: Database, tenant: UUID, turn: str) -> UUID:
    """Let a worker begin to generate a turn's answer; return its job."""
    with database.connect("postgres") as operator:
        job: UUID = operator.value("SELECT id FROM inference.jobs WHERE turn_id = %s", [turn])
    with database.connect("app") as app, app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenant, p_function="inference")
        app.call("inference.claim", p_job_id=job, p_worker="w", p_lease=LEASE)
    return job


def answer(database: Database, tenant: UUID, turn: str, content: str = "Ten [1].", tokens: int = 25) -> Any:
    """Answer a turn, as the inference function does: for the tenant, and for no user."""
    job = claim(database, tenant, turn)
    with database.connect("app") as app, app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenant, p_function="inference")
        return app.call(
            "inference.complete",
            p_job_id=job,
            p_worker="w",
            p_attempt=1,
            p_status="completed",
            p_content=content,
            p_prompt_tokens=tokens - 5,
            p_completion_tokens=5,
            p_event_source="/test",
            p_event_id=str(uuid4()),
        )


def renew(caller: Caller, tenant: UUID, job: UUID, worker: str = "w", attempt: int = 1) -> str:
    """Keep a worker's lease; return what the worker hears."""
    run = {"tenant_id": str(tenant), "job_id": str(job), "attempt": attempt, "generated_tokens": 0}
    [(renewed, _, state)] = caller.rows("inference.renew", p_worker=worker, p_lease=LEASE, p_runs=Jsonb([run]))
    assert renewed == job
    return str(state)


def entries(database: Database, chain: UUID) -> list[Any]:
    """Return (seq, actor, action, object, data) of a chain of the audit log."""
    with database.connect() as operator:
        return operator.query(
            "SELECT seq, actor, action, object, data FROM compliance.audit_log WHERE tenant_id = %s ORDER BY seq",
            [chain],
        )


def assert_balances_follow_from_the_ledger(database: Database, tenant: UUID) -> None:
    """Check every balance of a tenant, of whatever scope and period."""
    with database.connect() as operator:
        rows = operator.query(MOVED, [tenant])
    assert rows
    for scope, period, settled, reserved, was_settled, was_reserved in rows:
        assert (settled, reserved) == (was_settled, was_reserved), (scope, period)
