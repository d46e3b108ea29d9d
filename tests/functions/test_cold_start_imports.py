"""A function that scales from zero loads what its first answer needs, and nothing that only some requests need."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.redis import EmbeddedRedis
from tests.support import TEST_ENVIRONMENT, Database

ROOT = Path(__file__).parents[2]
NEEDED_LATER = (
    "aiohttp",
    "alembic",
    "cryptography.hazmat",  # redis looks whether the package is there, which loads its empty outer module
    "jwt",
    "numpy",
    "openai",
    "grpc",
    "opentelemetry",
    "prometheus_client",
    "sqlalchemy",
    "tokenizers",
    "websockets",
    "xberg",
)
ENTRY_POINTS = [
    ("functions/chat/main.py", "chat"),
    ("functions/dead_letters/main.py", "bury"),
    ("functions/embedding/main.py", "embed"),
    ("functions/health/main.py", "health"),
    ("functions/identity/main.py", "identity"),
    ("functions/inference/main.py", "infer"),
    ("functions/inference/main.py", "sweep"),
    ("functions/ingestion/main.py", "ingest"),
    ("functions/ingestion/main.py", "ingestion"),
    ("functions/maintenance/main.py", "maintain"),
    ("functions/retrieval/main.py", "retrieval"),
    ("functions/routing/main.py", "probe"),
    ("functions/routing/main.py", "routing"),
]


@pytest.mark.parametrize(("source", "target"), ENTRY_POINTS, ids=[target for _, target in ENTRY_POINTS])
def test_a_function_that_is_ready_has_not_loaded_what_is_needed_later(
    source: str, target: str, database: Database, redis_server: EmbeddedRedis
) -> None:
    variables = {"DATABASE_URL": database.urls["app"], "REDIS_URL": redis_server.url}
    done = subprocess.run(
        [sys.executable, "-m", "tests.functions.ready_modules", source, target],
        cwd=ROOT,
        env={**os.environ, **TEST_ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ready = json.loads(done.stdout)
    assert ready["status"] == 200
    assert [name for name in NEEDED_LATER if name in ready["modules"]] == []
