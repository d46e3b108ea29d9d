"""Who a request acts for."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Principal:
    """A tenant, and the subject within it: a token's `sub` claim, or a function's own name for work without a user."""

    tenant_id: UUID
    subject: str
    roles: tuple[str, ...] = ()
