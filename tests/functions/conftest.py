"""The functions in this process, on real PostgreSQL and Redis, before a model server that stands in or misbehaves."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest
import uvicorn

from infra.local import ports
from infra.local.model_server.config import Config
from infra.local.model_server.embeddings import Encoder
from infra.local.model_server.server import create_app
from infra.local.postgres import EmbeddedPostgres
from infra.local.redis import EmbeddedRedis
from shared import audit, rate_limit
from shared.auth import provider_keys
from shared.runtime import runtime
from shared.service import Service
from shared.serving import build
from shared.settings import get_settings
from tests.conftest import new_database
from tests.functions import identity_provider
from tests.functions.leaks import Watch
from tests.functions.platform import Platform
from tests.functions.upstream import Upstream, misbehaving
from tests.support import ISSUED, PASSWORDS, TEST_ENVIRONMENT, Database

SOURCES = {
    "bury": "functions/dead_letters/main.py",
    "chat": "functions/chat/main.py",
    "embed": "functions/embedding/main.py",
    "health": "functions/health/main.py",
    "identity": "functions/identity/main.py",
    "infer": "functions/inference/main.py",
    "sweep": "functions/inference/main.py",
    "ingest": "functions/ingestion/main.py",
    "ingestion": "functions/ingestion/main.py",
    "maintain": "functions/maintenance/main.py",
    "probe": "functions/routing/main.py",
    "openai_api": "functions/openai_api/main.py",
    "retrieval": "functions/retrieval/main.py",
    "routing": "functions/routing/main.py",
}


@pytest.fixture(autouse=True)
def watch() -> Iterator[Watch]:
    """What was logged during the test; no secret may be in it."""
    ISSUED.clear()
    watch = Watch()
    with watch.watching():
        yield watch
    assert not watch.leaked()


@pytest.fixture(autouse=True)
def every_refusal_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a quick machine these tests refuse more in a minute than one process may audit."""
    monkeypatch.setattr(audit, "allowances", {kind: audit.Allowance() for kind in audit.allowances})


@pytest.fixture(autouse=True)
def redis_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Redis may answer later than a request would wait, which then is not counted."""
    monkeypatch.setattr(rate_limit, "PATIENCE_SECONDS", 30)


@cache
def serve(target: str) -> Service:
    """Return the service of an entry point; it keeps no state between tests."""
    return build(SOURCES[target], target)


@pytest.fixture(scope="session")
def model_server() -> Iterator[str]:
    """The URL of the stand-in model server, which writes as fast as it can."""
    port = ports.free(["model"])["model"]
    encoder = Encoder()
    config = Config(port=port, api_key=TEST_ENVIRONMENT["LITELLM_API_KEY"], tokens_per_second=0)
    server = uvicorn.Server(
        uvicorn.Config(create_app(config, encoder), host="127.0.0.1", port=port, log_config=None, lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    encoder.close()


@pytest.fixture(scope="session")
def only_database(postgres: EmbeddedPostgres, template: str) -> Iterator[Database]:
    """One database for these tests; a clone for each would take longer than most of them."""
    with new_database(postgres, "functions", template):
        yield Database(
            {
                "postgres": postgres.url("functions"),
                **{
                    role: postgres.url("functions", user=role, password=password)
                    for role, password in PASSWORDS.items()
                },
            }
        )


@pytest.fixture
def database(only_database: Database) -> Iterator[Database]:
    """The database, without any tenant and so without any row."""
    yield only_database
    with only_database.connect() as operator:
        operator.run("DELETE FROM core.tenants")
        operator.run("DELETE FROM routing.health")
        # What a test has added or priced.
        operator.run("DELETE FROM routing.models WHERE NOT starts_with(name, 'local/')")
        operator.run("UPDATE routing.models SET input_price = NULL, output_price = NULL")


@pytest.fixture
async def platform(
    database: Database,
    tenants: tuple[UUID, UUID],
    redis_server: EmbeddedRedis,
    model_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Platform]:
    """The functions before the stand-in model server."""
    variables = {"DATABASE_URL": database.urls["app"], "REDIS_URL": redis_server.url, "LITELLM_BASE_URL": model_server}
    for name, value in (TEST_ENVIRONMENT | variables).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    # What a service is built with it keeps; a test that changes the environment builds its own.
    for target in SOURCES:
        serve(target)
    yield Platform(database, tenants, serve, redis_server.url)
    await close()


@pytest.fixture
def prod(platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Platform]:
    """The platform as in production, with the provider's keys in a file: no network."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(identity_provider.JWKS))
    for name, value in identity_provider.VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JWKS_LOCAL_PATH", str(path))
    get_settings.cache_clear()
    provider_keys.cache_clear()
    yield platform
    provider_keys.cache_clear()


async def close() -> None:
    """Close what the process holds open, in the loop that opened it."""
    await runtime.close()
    get_settings.cache_clear()
    # Connections end in the loop's next rounds.
    await asyncio.sleep(0.01)


@pytest.fixture
async def upstream(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Upstream]:
    """A model server that does as the test says; the platform stands before it."""
    assert platform
    async with misbehaving() as server:
        monkeypatch.setenv("LITELLM_BASE_URL", server.url)
        get_settings.cache_clear()
        yield server
        await close()
