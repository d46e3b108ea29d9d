"""`make doctor` says nothing against a good deployment, and of a broken one which setting it is and what to do."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import psycopg
import pytest
from aiohttp import web

from infra.doctor.__main__ import as_text, examine, is_well
from infra.doctor.findings import Checked, Finding
from infra.local.postgres import EmbeddedPostgres
from infra.local.redis import EmbeddedRedis
from shared.settings import Settings, get_settings
from tests.conftest import ROOT, new_database
from tests.functions.identity_provider import JWKS
from tests.functions.object_store import ObjectStore, serving
from tests.servers import server
from tests.support import PASSWORDS, TEST_ENVIRONMENT, Database

KEY = "sk-" + secrets.token_hex(16)


@dataclass
class Provider:
    """An identity provider: discovery and keys."""

    url: str = ""
    keys: object = field(default_factory=lambda: JWKS)
    date: str | None = None

    async def answer(self, request: web.Request) -> web.Response:
        documents = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": self.keys,
        }
        headers = {} if self.date is None else {"Date": self.date}
        if request.path not in documents:
            return web.Response(status=404, headers=headers)
        return web.json_response(documents[request.path], headers=headers)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_get("/{path:.*}", provider.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()


@pytest.fixture
async def collector() -> AsyncIterator[str]:
    """The address of something that listens, which is all that is asked of a collector."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


@pytest.fixture
async def store() -> AsyncIterator[ObjectStore]:
    async with serving() as store:
        yield store


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    with server("model-server", "infra.local.model_server", folder, LITELLM_API_KEY=KEY) as (url, _):
        yield url


def urls(postgres: EmbeddedPostgres, name: str) -> dict[str, str]:
    logins = {role: postgres.url(name, user=role, password=password) for role, password in PASSWORDS.items()}
    return {"postgres": postgres.url(name), **logins}


@pytest.fixture(scope="module")
def kept(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """A database that no test changes."""
    with new_database(postgres, "doctor", template):
        yield Database(urls(postgres, "doctor"))


@pytest.fixture
def good(
    kept: Database, redis_server: EmbeddedRedis, models: str, provider: Provider, collector: str, store: ObjectStore
) -> dict[str, str]:
    """The variables of a deployment in production of which every part is there."""
    return {
        **TEST_ENVIRONMENT,
        "ENVIRONMENT": "prod",
        "SECRET_KEY": secrets.token_hex(32),
        "PUBLIC_BASE_URL": "https://agents.example.com",
        "CORS_ALLOWED_ORIGINS": '["https://agents.example.com"]',
        "DATABASE_URL": kept.urls["app"],
        "RELAY_DATABASE_URL": kept.urls["relay"],
        "REDIS_URL": redis_server.url,
        "OIDC_ISSUER_URL": provider.url,
        "OIDC_AUDIENCE": "enterprise-agents-api",
        "OIDC_CLIENT_ID": "enterprise-agents",
        "LITELLM_BASE_URL": models,
        "LITELLM_API_KEY": KEY,
        "ENABLE_TELEMETRY": "true",
        "OTLP_ENDPOINT": collector,
        **store.variables(),
    }


async def examined(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> list[Checked]:
    with monkeypatch.context() as environment:
        for name in list(os.environ):
            if name.lower() in Settings.model_fields or name == "RELAY_DATABASE_URL":
                environment.delenv(name)
        for name, value in variables.items():
            environment.setenv(name, value)
        get_settings.cache_clear()
        checked = await examine(variables)
        get_settings.cache_clear()
    # Connections end in the loop's next rounds.
    await asyncio.sleep(0.01)
    return checked


def failures(checked: list[Checked]) -> list[Finding]:
    return [finding for check in checked for finding in check.findings if finding.severity == "failure"]


async def test_a_good_deployment_has_no_failure_and_every_part_was_looked_at(
    good: dict[str, str], kept: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = await examined(good | {"MIGRATION_DATABASE_URL": kept.urls["postgres"]}, monkeypatch)
    assert failures(checked) == []
    assert is_well(checked)
    assert [check.name for check in checked if check.left_out] == []
    # The passwords of the tests' roles are short.
    assert {f.subject for check in checked for f in check.findings} == {"DATABASE_URL", "RELAY_DATABASE_URL"}


@pytest.fixture(scope="module")
def another(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a superuser of another database."""
    with new_database(postgres, "doctor_other"):
        yield postgres.url("doctor_other")


@pytest.fixture(scope="module")
def unbound(postgres: EmbeddedPostgres, kept: Database) -> Iterator[dict[str, str]]:
    """Logins of roles that no policy binds, and of one that writes tables by itself, by what is wrong with them."""
    statements = {
        "bypass": "BYPASSRLS IN ROLE app",
        "owner": "IN ROLE ea_owner",
        "writer": "IN ROLE app",
    }
    with kept.connect() as operator:
        for role, attributes in statements.items():
            operator.run(f"CREATE ROLE doctor_{role} LOGIN PASSWORD 'a-password-of-some-length' {attributes}")
        operator.run("GRANT INSERT ON core.tenants TO doctor_writer")
        yield {
            role: postgres.url("doctor", user=f"doctor_{role}", password="a-password-of-some-length")
            for role in statements
        }
        for role in statements:
            operator.run(f"DROP OWNED BY doctor_{role}")
            operator.run(f"DROP ROLE doctor_{role}")


@pytest.fixture
def places(
    good: dict[str, str], kept: Database, another: str, unbound: dict[str, str], closed_port: int, tmp_path: Path
) -> dict[str, str]:
    """What a broken value may refer to, besides the variables of the good deployment."""
    (tmp_path / "jwks.json").write_text("{")
    functions, relational = urlsplit(good["DATABASE_URL"]), urlsplit(good["REDIS_URL"])
    return {
        **good,
        **{f"AS_{role.upper()}": url for role, url in unbound.items()},
        "AS_SUPERUSER": kept.urls["postgres"],
        "AS_DBA": kept.urls["dba_readonly"],
        "ANOTHER": another,
        "WRONG_PASSWORD": good["DATABASE_URL"].replace(PASSWORDS["app"], "wrong"),
        "ABSENT": good["DATABASE_URL"].replace(functions.path, "/absent"),
        "REDIS_WRONG": f"redis://:wrong@127.0.0.1:{relational.port}/0",
        "REDIS_WITHOUT": f"redis://127.0.0.1:{relational.port}/0",
        "CLOSED": f"127.0.0.1:{closed_port}",
        "NO_JWKS": str(tmp_path / "jwks.json"),
    }


BREAKAGES = [
    # Variable, its broken value, words of what is told of it, words of the remedy.
    ("SECRET_KEY", "dev-secret-key-not-for-production", "must be changed from default", "openssl rand"),
    ("SECRET_KEY", "a1" * 20, "no random value", "openssl rand"),
    ("LITELLM_API_KEY", "$SECRET_KEY", "same secret", "openssl rand"),
    ("DEV_JWT_SECRET", "dev-only-jwt-secret-not-for-production", "must be changed from default", "Leave it out"),
    ("DEBUG", "true", "must be off", "false"),
    ("PUBLIC_BASE_URL", "https://localhost", "browsers", "https://agents"),
    ("PUBLIC_BASE_URL", "http://agents.example.com", "https", "https://agents"),
    ("CORS_ALLOWED_ORIGINS", '["*"]', "each origin", "JSON list"),
    ("CORS_ALLOWED_ORIGINS", '["https://agents.example.com/app"]', "no origin", "JSON list"),
    ("EMBEDDING_DIMENSIONS", "many", "integer", "768"),
    ("EMBEDDING_DIMENSIONS", "768", "have 384", "Set it to 384"),
    ("DATABASE_URL", "$WRONG_PASSWORD", "authentication failed", "password"),
    ("DATABASE_URL", "postgresql://app:some-password@$CLOSED/doctor", "refused", "host and port"),
    ("DATABASE_URL", "$ABSENT", "does not exist", "make migrate"),
    ("DATABASE_URL", "$ANOTHER", "not migrated", "make migrate"),
    ("DATABASE_URL", "$AS_SUPERUSER", "is a superuser", "NOSUPERUSER"),
    ("DATABASE_URL", "$AS_BYPASS", "has BYPASSRLS", "NOBYPASSRLS"),
    ("DATABASE_URL", "$AS_OWNER", "member of ea_owner", "REVOKE ea_owner"),
    ("DATABASE_URL", "$AS_WRITER", "may write 1 tables", "REVOKE INSERT"),
    ("DATABASE_URL", "$RELAY_DATABASE_URL", "not the rights of the role app", "as the role app"),
    ("RELAY_DATABASE_URL", "$DATABASE_URL", "not the rights of the role relay", "as the role relay"),
    ("MIGRATION_DATABASE_URL", "$ANOTHER", "another database", "same host"),
    ("MIGRATION_DATABASE_URL", "$AS_DBA", "may not migrate", "superuser"),
    ("VECTOR_TOP_K", "9", "the database goes by 5", "make migrate"),
    ("REGION", "eu-west-1", "the database goes by test", "make migrate"),
    ("REDIS_URL", "$REDIS_WRONG", "not let the functions in", "requirepass"),
    ("REDIS_URL", "$REDIS_WITHOUT", "not let the functions in", "requirepass"),
    ("REDIS_URL", "redis://:some-password@$CLOSED/0", "does not answer", "host and port"),
    ("LITELLM_BASE_URL", "http://$CLOSED", "does not answer", "host and port"),
    ("LITELLM_BASE_URL", "$OIDC_ISSUER_URL", "answered 404", "/v1"),
    ("LITELLM_API_KEY", "sk-0f1e2d3c4b5a6978", "refuses the key", "LITELLM_MASTER_KEY"),
    ("MODEL_HEAVY", "vllm/qwen2.5:72b", "no model vllm/qwen2.5:72b", "local/extractive-heavy"),
    ("LITELLM_DEFAULT_MODEL", "openai/gpt-4o-mini", "no model openai/gpt-4o-mini", "model_list"),
    ("LITELLM_EMBEDDING_MODEL", "nomic-embed-text", "no model nomic-embed-text", "ollama pull"),
    ("LITELLM_EMBEDDING_MODEL", "local/extractive-light", "does not embed", "embedding model"),
    ("OIDC_ISSUER_URL", "http://$CLOSED", "no keys", "openid-configuration"),
    ("OIDC_ISSUER_URL", "$OIDC_ISSUER_URL/", "calls itself", "this very text"),
    ("JWKS_LOCAL_PATH", "$NO_JWKS", "no keys", "JWK set"),
    ("JWKS_LOCAL_PATH", "/absent/jwks.json", "names no file", "Mount"),
    ("EMBEDDING_TOKENIZER", "/absent/tokenizer.json", "names no file", "Mount"),
    ("OTLP_ENDPOINT", "http://$CLOSED", "cannot be reached", "ENABLE_TELEMETRY"),
    ("S3_ENDPOINT_URL", "http://$CLOSED", "does not answer", "host and port"),
    ("S3_SECRET_ACCESS_KEY", "another", "SignatureDoesNotMatch", "access keys"),
    ("S3_ACCESS_KEY_ID", "", "not set", "Secret"),
]


@pytest.mark.parametrize(("variable", "value", "told", "remedy"), BREAKAGES)
async def test_a_setting_that_is_broken_is_named_with_its_remedy(
    good: dict[str, str],
    places: dict[str, str],
    variable: str,
    value: str,
    told: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = good | {variable: Template(value).substitute(places)}
    checked = await examined(variables, monkeypatch)
    found = [f for f in failures(checked) if f.subject == variable and told in f.told]
    assert found, as_text(checked)
    assert remedy in found[0].remedy
    assert not is_well(checked)
    # Nothing else is blamed for it.
    assert {f.subject for f in failures(checked)} == {variable}
    assert not [secret for secret in secrets_of(variables) if secret in as_text(checked)]


async def test_a_provider_without_a_key_that_signs_is_named(
    good: dict[str, str], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.keys = {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}
    [found] = failures(await examined(good, monkeypatch))
    assert (found.subject, "no key that signs" in found.told) == ("OIDC_ISSUER_URL", True)


async def test_a_clock_that_is_wrong_is_named(
    good: dict[str, str], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.date = "Mon, 05 Jan 2026 10:00:00 GMT"
    [found] = failures(await examined(good, monkeypatch))
    assert (found.subject, "identity provider" in found.told, "NTP" in found.remedy) == ("clock", True, True)


def secrets_of(variables: Mapping[str, str]) -> set[str]:
    """Return what must not be printed."""
    plain = {variables[name] for name in ("SECRET_KEY", "LITELLM_API_KEY", "S3_SECRET_ACCESS_KEY")}
    stores = ("DATABASE_URL", "RELAY_DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL")
    passwords = {urlsplit(variables.get(name, "")).password or "" for name in stores}
    # Words of the messages themselves are no secrets that leak.
    return {secret for secret in plain | passwords if len(secret) > len("another")}


@pytest.mark.parametrize(
    ("statement", "subject", "told"),
    [
        ("DROP EXTENSION pg_trgm CASCADE", "extensions", "pg_trgm is missing"),
        ("UPDATE alembic_version SET version_num = '012_budget_metrics'", "migrations", "012_budget_metrics"),
        ("DROP FUNCTION ops.problems", "drift", "ops.problems"),
        ("ALTER TABLE rag.chunks DISABLE ROW LEVEL SECURITY", "row-level security", "rag.chunks"),
        ("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA core FROM app", "DATABASE_URL", "not the rights of the role app"),
    ],
)
async def test_a_database_that_is_not_as_it_should_be_is_told(
    good: dict[str, str],
    postgres: EmbeddedPostgres,
    template: str,
    statement: str,
    subject: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"doctor_{uuid.uuid4().hex}"
    with new_database(postgres, name, template):
        logins = urls(postgres, name)
        with psycopg.connect(logins["postgres"], autocommit=True) as operator:
            operator.execute(statement.encode())
        variables = good | {
            "DATABASE_URL": logins["app"],
            "RELAY_DATABASE_URL": logins["relay"],
            "MIGRATION_DATABASE_URL": logins["postgres"],
        }
        checked = await examined(variables, monkeypatch)
    assert [f for f in failures(checked) if f.subject == subject and told in f.told], as_text(checked)


async def test_vectors_of_another_model_are_told(
    good: dict[str, str], postgres: EmbeddedPostgres, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another width it is a failure, of the same a warning: what is there goes on answering."""
    name = f"doctor_{uuid.uuid4().hex}"
    with new_database(postgres, name, template):
        variables = good | {"DATABASE_URL": urls(postgres, name)["app"]}
        for width, severity in ((384, "warning"), (768, "failure")):
            with psycopg.connect(postgres.url(name), autocommit=True) as operator:
                operator.execute("UPDATE rag.embedding_models SET name = 'earlier', width = %s", [width])
            [models] = [c for c in await examined(variables, monkeypatch) if c.name == "models"]
            assert [(f.severity, "made by earlier" in f.told) for f in models.findings] == [(severity, True)]


def test_the_command_prints_for_people_or_as_json_and_its_status_says_which(
    kept: Database, redis_server: EmbeddedRedis, models: str, closed_port: int
) -> None:
    """As on a laptop: no production, no identity provider."""
    variables = {
        **{n: v for n, v in os.environ.items() if n.lower() not in Settings.model_fields},
        **TEST_ENVIRONMENT,
        "DATABASE_URL": kept.urls["app"],
        "MIGRATION_DATABASE_URL": kept.urls["postgres"],
        "REDIS_URL": redis_server.url,
        "LITELLM_BASE_URL": models,
        "LITELLM_API_KEY": KEY,
    }

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.doctor"]
        return subprocess.run(command, cwd=ROOT, env=variables | changes, capture_output=True, text=True, check=False)

    good = run()
    assert (good.returncode, good.stderr) == (0, ""), good.stdout
    assert "ok    PostgreSQL\nok    Redis\nok    models\n" in good.stdout
    bad = run(JSON="1", REDIS_URL=f"redis://127.0.0.1:{closed_port}/0")
    document = json.loads(bad.stdout)
    assert (bad.returncode, bad.stderr, document["healthy"]) == (1, "", False)
    [redis] = [check for check in document["checks"] if check["name"] == "Redis"]
    assert redis["findings"][0]["subject"] == "REDIS_URL"
