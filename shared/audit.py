"""What is turned away goes into the audit log (compliance.audit_log), as much as it can stand: logins, access, other regions.

Everything else that is audited is written by the SQL that does it, in its own transaction. A refusal has no transaction that
commits, so it is written here, afterwards. Whoever floods the platform with bad tokens must not fill the log with it: beyond
MAX_A_MINUTE of one process and kind, refusals are counted, and the next entry says how many it stands for.
"""

import json
import re
import time
from typing import Any
from uuid import UUID

import psycopg
from starlette.requests import HTTPConnection

from shared import logs, metrics
from shared.problems import Problem
from shared.runtime import runtime
from shared.text import storable

MAX_A_MINUTE = 600
MAX_REASON_CHARS = 200
REQUEST_ID = re.compile(r"[\w.:-]{1,64}")


class Allowance:
    """So many entries a minute, in fixed windows."""

    def __init__(self) -> None:
        self._window = 0
        self._used = 0
        self.suppressed = 0

    def take(self) -> bool:
        """Return whether another entry may be written now; if not, it is counted as suppressed."""
        window = int(time.monotonic() // 60)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= MAX_A_MINUTE:
            self.suppressed += 1
            return False
        self._used += 1
        return True


allowances = {"login": Allowance(), "access": Allowance(), "residency": Allowance()}
"""The process's own, by kind: rubbish from strangers does not keep out what known users try."""


def entry(connection: HTTPConnection, kind: str) -> dict[str, Any] | None:
    """Count a request that is turned away; return what its entry says of it, or None when no further one may be written now."""
    metrics.refusals().labels(kind).inc()
    allowance = allowances[kind]
    if not allowance.take():
        return None
    suppressed, allowance.suppressed = allowance.suppressed, 0
    request_id = connection.headers.get("x-request-id", "")
    return {
        **({"request_id": request_id} if REQUEST_ID.fullmatch(request_id) else {}),
        **({"suppressed_before": suppressed} if suppressed else {}),
    }


async def refusal(
    connection: HTTPConnection,
    kind: str,
    operation: str,
    reason: str,
    *,
    tenant_id: UUID | None = None,
    subject: str | None = None,
) -> None:
    """Record that a request was refused: kind `login` or `access`. The refusal stands whether or not this succeeds."""
    told = entry(connection, kind)
    if told is None:
        return
    data = {"reason": storable(reason[:MAX_REASON_CHARS]), **told}
    try:
        database = await runtime.database()
        await database.call(
            "compliance.record_refusal",
            p_kind=kind,
            p_object=operation,
            p_data=json.dumps(data),
            p_tenant_id=tenant_id,
            p_subject=subject,
        )
    except (Problem, psycopg.Error) as error:
        unwritten(kind, operation, told, error)


def unwritten(kind: str, operation: str, told: dict[str, Any], error: Exception | None = None) -> None:
    """Count that an entry could not be written: the next one stands for it too, and for those that it stood for."""
    allowances[kind].suppressed += told.get("suppressed_before", 0) + 1
    metrics.problems().labels("refusal_unaudited").inc()
    logs.error("refusal_unaudited", error, kind=kind, operation=operation)
