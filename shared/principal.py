"""Who a call into the database acts for."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class Principal:
    """A user of a tenant who is about to do one operation, as a token or an API key has named the user.

    PostgreSQL decides whether the user may do it (core.enter). Roles, groups, name and email are the token's; with a key they
    are the ones that PostgreSQL knows.
    """

    tenant_id: UUID
    subject: str
    operation: str
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    name: str | None = None
    email: str | None = None
    api_key_id: UUID | None = None
    api_key_sha256: bytes | None = None
    """Of the key's secret: a key whose secret has been replaced is not good any more."""
    issued_at: datetime | None = None
    """When the token was issued: an older one does not bring former roles back."""


@dataclass(frozen=True)
class Worker:
    """An event function that works for a tenant, and for no user."""

    tenant_id: UUID
    function: str
    region: str | None = None
    """The region that the event names: another one's is refused (core.enter_function)."""


Actor = Principal | Worker
