"""A connection on which the registry, the rules and a tenant's decisions are tried out and undone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.support import Caller, Database

LIGHT, STANDARD, HEAVY = (f"local/extractive-{tier}" for tier in ("light", "standard", "heavy"))
SECURITY = "Do a security review of this login handler."
CLASSIFY = 'Classify this message as complaint or praise: "I love it"'


@dataclass(frozen=True)
class Desk(Caller):
    """A user of a tenant on a superuser's connection, within a transaction that is rolled back."""

    tenant: UUID

    def choose(self, question: str = "How many days of leave do I have?", **arguments: object) -> Any:
        """Return the decision on a question."""
        return self.call("routing.choose", p_question=question, **arguments)

    def add_model(self, name: str, tier: str, **columns: object) -> str:
        """Add a model to the registry; return its name."""
        self._insert("routing.models", {"name": name, "tier": tier} | columns)
        return name

    def change(self, model: str, **columns: object) -> None:
        """Change columns of a model."""
        setting = ", ".join(f"{column} = %({column})s" for column in columns)
        assert self.run(f"UPDATE routing.models SET {setting} WHERE name = %(model)s", {"model": model} | columns) == 1

    def add_rule(self, name: str = "mine", tier: str = "heavy", position: int = 1, **conditions: object) -> None:
        """Put a rule before the others."""
        self._insert("routing.rules", {"position": position, "name": name, "tier": tier} | conditions)

    def limit_money(self, micros: int) -> None:
        """Limit the tenant's money of the day."""
        self._insert(
            "budget.limits",
            {
                "tenant_id": self.tenant,
                "scope": "tenant",
                "holder_id": self.tenant,
                "period": "day",
                "cost_micros": micros,
            },
        )

    def break_model(self, model: str, *, rest: str = "1 hour") -> None:
        """Open a model's breaker."""
        for _ in range(5):
            self.call("routing.report", p_model=model, p_ok=False, p_error="model_timeout")
        self.run(
            "UPDATE routing.health SET retry_at = clock_timestamp() + %s::interval WHERE model = %s", [rest, model]
        )

    def set_variables(self, **variables: str) -> None:
        """Deploy with other variables."""
        self.run("SELECT ops.sync_settings(%s, '{}')", [json.dumps(variables)])

    def _insert(self, table: str, row: dict[str, object]) -> None:
        names, places = ", ".join(row), ", ".join(f"%({name})s" for name in row)
        self.run(f"INSERT INTO {table} ({names}) VALUES ({places})", row)


@contextmanager
def sit_down(database: Database, tenant: UUID, subject: str = "ann", **rights: Any) -> Iterator[Desk]:
    """Yield a desk of a subject of a tenant."""
    with (
        database.connect("postgres", tenant, subject, **rights) as owner,
        owner.connection.transaction(force_rollback=True),
    ):
        yield Desk(owner.connection, tenant)


def rejections(choice: Any) -> dict[str, str | None]:
    """Return the models that were considered, in their order, each with what stood against it."""
    return {c["model"]: c.get("rejected") for c in choice["considered"]}
