"""API keys: `eak_<tenant id>_<key id>_<secret>`, both ids in hexadecimal, the secret 256 random bits in base64url.

The prefix lets secret scanners recognise a key. PostgreSQL stores the SHA-256 of the secret alone, and compares it in constant
time (core.authenticate_key); nothing here or there keeps the key itself.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID, uuid4

PREFIX = "eak_"
PATTERN = re.compile(r"eak_([0-9a-f]{32})_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
SECRET_BYTES = 32


@dataclass(frozen=True)
class ApiKey:
    """A key with its secret, which its printed form leaves out."""

    tenant_id: UUID
    key_id: UUID
    secret: str = field(repr=False)

    @classmethod
    def generate(cls, tenant_id: UUID, key_id: UUID | None = None) -> Self:
        """Return a new key of a tenant, or a key with another secret for an id that there is."""
        return cls(tenant_id, key_id or uuid4(), secrets.token_urlsafe(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the key that a text is, or None."""
        found = PATTERN.fullmatch(text)
        return cls(UUID(found[1]), UUID(found[2]), found[3]) if found else None

    def text(self) -> str:
        """Return the key as its user sends it."""
        return f"{PREFIX}{self.tenant_id.hex}_{self.key_id.hex}_{self.secret}"

    def digest(self) -> bytes:
        """Return the SHA-256 of the secret."""
        return hashlib.sha256(self.secret.encode()).digest()
