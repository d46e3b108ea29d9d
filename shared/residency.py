"""Residency: a tenant's requests are served in its home region alone; elsewhere they are redirected or refused.

PostgreSQL decides (core.residency), and audits what it decides in the same transaction. It is asked before anything of a
request is used: before its body is read, its question embedded, or its user counted in Redis. That a tenant is at home is
remembered for KNOWN_SECONDS, so that a process asks once for each in that time; core.enter asks again with every call, in its
round trip.
"""

import json
import math
from time import monotonic
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import psycopg
from starlette.requests import HTTPConnection

from shared import audit
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import ONLY_REGION, get_settings

MAX_KNOWN = 10_000
KNOWN_SECONDS = 5.0
"""So long after a tenant's home was set to another region a process may still use its requests, until core.enter refuses."""
ELSEWHERE = frozenset({"tenant_elsewhere", "residency_refused"})
"""What is answered to a request of a tenant whose home is another region."""
AWAY = frozenset({"redirect", "refuse"})
"""What core.residency decides of such a tenant, and compliance.record_residency writes down."""

_at_home: dict[UUID, float] = {}
"""Until when a tenant is taken to be at home (monotonic seconds)."""


async def is_known(connection: HTTPConnection, tenant_id: UUID, operation: str) -> bool:
    """Return whether there is such a tenant, which then is at home here; raises a Problem of ELSEWHERE."""
    # Without a name a deployment has no directory (core.set_region): there is nothing to ask before core.enter.
    if get_settings().region == ONLY_REGION or _at_home.get(tenant_id, -math.inf) > monotonic():
        return True
    database = await runtime.database()
    home = await database.call("core.residency", p_tenant_id=tenant_id)
    if home["decision"] in AWAY:
        await send_home(connection, tenant_id, operation, home)
    if home["decision"] != "serve":
        return False
    _at_home.pop(tenant_id, None)
    if len(_at_home) >= MAX_KNOWN:
        _at_home.clear()
    _at_home[tenant_id] = monotonic() + KNOWN_SECONDS
    return True


async def send_home(
    connection: HTTPConnection, tenant_id: UUID, operation: str, home: dict[str, Any] | None = None
) -> None:
    """Raise the Problem of ELSEWHERE that the tenant's request is answered with, and have it audited.

    `home` is what core.residency has said; without it, it is asked. Beyond what the log can stand, nothing is written: the
    next entry says how many it stands for. Returns when the tenant has just come home.
    """
    _at_home.pop(tenant_id, None)
    entry = audit.entry(connection, "residency")
    if entry is not None or home is None:
        database = await runtime.database()
        function = "core.residency" if entry is None else "compliance.record_residency"
        noted = {} if entry is None else {"p_operation": operation, "p_data": json.dumps(entry)}
        try:
            home = await database.call(function, p_tenant_id=tenant_id, **noted)
        except (Problem, psycopg.Error) as error:
            if entry is not None:
                audit.unwritten("residency", operation, entry, error)
            raise
        if entry is not None and home["decision"] not in AWAY:
            # The tenant has come home meanwhile, but the request was turned away before that.
            audit.unwritten("residency", operation, entry)
    match home["decision"]:
        case "refuse":
            raise Problem(
                "residency_refused",
                f"The tenant's home is the region {home['region']}, and it is not served from here.",
                extra={"region": home["region"]},
            )
        case "redirect":
            url = _url(connection, home)
            raise Problem(
                "tenant_elsewhere",
                f"The tenant's home is the region {home['region']}: ask there.",
                extra={"region": home["region"], "home": url},
                headers={"Location": url + _target(connection)},
            )


def _url(connection: HTTPConnection, home: dict[str, Any]) -> str:
    """Return where the home region's function is asked, without a slash at its end; ws:// or wss:// for a WebSocket."""
    function: str = connection.state.function
    url: str = home["function_urls"].get(function, home["url"]).replace("{function}", function).rstrip("/")
    if connection.scope["type"] == "websocket":
        parts = urlsplit(url)
        url = parts._replace(scheme={"http": "ws", "https": "wss"}[parts.scheme]).geturl()
    return url


def _target(connection: HTTPConnection) -> str:
    """Return path and query as the client sent them."""
    scope = connection.scope
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("ascii")
    query = scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path
