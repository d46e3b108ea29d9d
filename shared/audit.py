"""Refused logins and refused access go into the audit log (compliance.audit_log), as many as it can stand.

Everything else that is audited is written by the SQL that does it, in its own transaction. A refusal has no transaction that
commits, so it is written here, afterwards. Whoever floods the platform with bad tokens must not fill the log with it: beyond
MAX_A_MINUTE of one process and kind, refusals are counted, and the next entry says how many it stands for.
"""

import json
import re
import time
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


allowances = {"login": Allowance(), "access": Allowance()}
"""The process's own, by kind: rubbish from strangers does not keep out what known users try."""


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
    metrics.refusals().labels(kind).inc()
    allowance = allowances[kind]
    if not allowance.take():
        return
    suppressed, allowance.suppressed = allowance.suppressed, 0
    request_id = connection.headers.get("x-request-id", "")
    data = {
        "reason": storable(reason[:MAX_REASON_CHARS]),
        **({"request_id": request_id} if REQUEST_ID.fullmatch(request_id) else {}),
        **({"suppressed_before": suppressed} if suppressed else {}),
    }
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
        allowance.suppressed += suppressed + 1
        metrics.problems().labels("refusal_unaudited").inc()
        logs.error("refusal_unaudited", error, kind=kind, operation=operation)
