"""A first tenant to begin with, as often as one likes."""

from typing import Any
from uuid import UUID

import jwt
import pytest

from infra import seed
from shared.api_keys import ApiKey
from shared.settings import DEV_JWT_SECRET, Settings
from tests.support import Database

TABLES = (
    "core.users", "core.role_grants", "core.api_keys", "rag.documents", "chat.turns", "chat.messages", "budget.ledger",
    "compliance.audit_log",
)  # fmt: skip


@pytest.fixture
def settings(database: Database) -> Settings:
    return Settings.model_validate(
        {"environment": "test", "migration_database_url": database.urls["postgres"], "dev_jwt_secret": DEV_JWT_SECRET}
    )


def counts(database: Database) -> dict[str, int]:
    with database.connect() as operator:
        return {table: operator.value(f"SELECT count(*) FROM {table}") for table in TABLES}


def authenticate(database: Database, text: str) -> Any:
    key = ApiKey.parse(text)
    assert key is not None
    with database.connect("app") as app:
        return app.call(
            "core.authenticate_key", p_tenant_id=key.tenant_id, p_key_id=key.key_id, p_secret_sha256=key.digest()
        )


def test_it_makes_a_user_of_each_role_with_a_conversation_documents_and_a_key(
    database: Database, settings: Settings
) -> None:
    made = seed.run(settings, "first", "First")
    with database.connect() as operator:
        users = operator.query(
            "SELECT subject, core.effective_roles(tenant_id, id) FROM core.users WHERE kind = 'person'"
        )
        assert {subject: tuple(roles) for subject, roles in users} == seed.PEOPLE
        assert operator.value("SELECT count(*) FROM rag.documents") == made.documents == 2
        assert operator.query("SELECT status FROM chat.turns") == [("completed",)]
        assert operator.value("SELECT sum(reserved) FROM budget.balances") == 0
        assert operator.query("SELECT * FROM compliance.chain_breaks(%s)", [made.tenant_id]) == []
    assert authenticate(database, made.keys[seed.SERVICE])["subject"] == f"service:{seed.SERVICE}"
    for subject in seed.PEOPLE:
        with database.connect("app", made.tenant_id, subject, operation="me.read", roles=()) as app:
            assert app.call("core.whoami")["user"]["subject"] == subject


def test_what_it_prints_are_tokens_of_the_new_users_and_the_key(database: Database, settings: Settings) -> None:
    assert database
    made = seed.run(settings, "first", "First")
    printed = seed.report(made, settings, fresh_tokens=False)
    tokens = [line.strip() for line in printed.splitlines() if line.strip().startswith("eyJ")]
    claims = [jwt.decode(token, DEV_JWT_SECRET, ["HS256"], audience=settings.oidc_audience) for token in tokens]
    assert {(c["sub"], c["tenant_id"]) for c in claims} == {(subject, str(made.tenant_id)) for subject in seed.PEOPLE}
    assert made.keys[seed.SERVICE] in printed


def test_again_it_changes_nothing_and_shows_no_secret(database: Database, settings: Settings) -> None:
    first = seed.run(settings, "first", "First")
    before = counts(database)
    second = seed.run(settings, "first", "First")
    assert (second.tenant_id, second.new, second.keys) == (first.tenant_id, set(), {})
    assert counts(database) == before
    printed = seed.report(second, settings, fresh_tokens=False)
    assert "eyJ" not in printed
    assert "eak_" not in printed
    assert seed.report(second, settings, fresh_tokens=True).count("  eyJ") == len(seed.PEOPLE)


def test_a_revoked_key_is_replaced_by_another(database: Database, settings: Settings) -> None:
    first = seed.run(settings, "first", "First")
    with database.connect() as operator:
        operator.run("UPDATE core.api_keys SET revoked_at = now()")
    again = seed.run(settings, "first", "First")
    assert again.keys[seed.SERVICE] != first.keys[seed.SERVICE]
    assert authenticate(database, first.keys[seed.SERVICE])["refused"] == "revoked"


def test_in_production_it_makes_one_key_that_ends_and_nothing_else(database: Database, settings: Settings) -> None:
    prod = settings.model_copy(update={"environment": "prod"})
    made = seed.run(prod, "company", "Company")
    assert list(made.keys) == [seed.BOOTSTRAP]
    with database.connect() as operator:
        assert operator.query("SELECT kind FROM core.users") == [("service",)]
        [(days,)] = operator.query("SELECT extract(day FROM expires_at - created_at) FROM core.api_keys")
        assert days in {seed.BOOTSTRAP_DAYS - 1, seed.BOOTSTRAP_DAYS}
        assert operator.value("SELECT count(*) FROM rag.documents") == 0
    assert "eyJ" not in seed.report(made, prod, fresh_tokens=True)
    key = ApiKey.parse(made.keys[seed.BOOTSTRAP])
    assert key is not None
    assert isinstance(made.tenant_id, UUID)
    # With it the first administrators are appointed.
    subject = f"service:{seed.BOOTSTRAP}"
    with database.connect("app", made.tenant_id, subject, operation="roles.grant", api_key=key.key_id) as app:
        granted = app.call("core.grant_roles", p_roles=["platform_admin", "tenant_admin"], p_group_name="admins")
    assert granted["roles"] == ["platform_admin", "tenant_admin"]
