"""The deployment's variables, and a start that refuses wrong ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.settings import Settings
from tests.support import TEST_ENVIRONMENT

ROOT = Path(__file__).parents[2]

RANGES = {
    "CHUNK_SIZE_TOKENS": (64, 2048),
    "CHUNK_OVERLAP_TOKENS": (0, 256),
    "VECTOR_TOP_K": (1, 20),
    "EMBEDDING_DIMENSIONS": (1, 4000),
    "BACKGROUND_WORKER_CONCURRENCY": (1, 32),
    "RATE_LIMIT_PER_MINUTE": (1, None),
    "TOKEN_BUDGET_DAILY": (0, None),
    "TOKEN_BUDGET_MONTHLY": (0, None),
    "JOB_LEASE_SECONDS": (1, None),
    "STREAM_TTL_SECONDS": (1, None),
    "LARGE_DOCUMENT_BYTES": (1, None),
    "EXTRACTION_MEMORY_BYTES": (256 * 1024 * 1024, None),
}
SECRET = "hunter2-secret"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no variable of the developer's shell."""
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def test_the_defaults_are_the_runbooks() -> None:
    settings = Settings()
    assert (settings.chunk_size_tokens, settings.chunk_overlap_tokens, settings.vector_top_k) == (512, 50, 5)
    assert (settings.rate_limit_per_minute, settings.background_worker_concurrency) == (60, 4)
    assert (settings.environment, settings.embedding_dimensions) == ("dev", 1536)


@pytest.mark.parametrize(("name", "limits"), RANGES.items())
def test_a_number_outside_its_range_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, limits: tuple[int, int | None]
) -> None:
    low, high = limits
    for good in (low, high):
        if good is not None:
            monkeypatch.setenv(name, str(good))
            assert getattr(Settings(), name.lower()) == good
    for bad in (low - 1, None if high is None else high + 1, "many", ""):
        if bad is not None:
            monkeypatch.setenv(name, str(bad))
            with pytest.raises(ValidationError, match=name.lower()):
                Settings()


@pytest.mark.parametrize(
    ("given", "dsn"),
    [
        ("postgresql+asyncpg://app:a%40b@db:5432/x", "postgresql://app:a%40b@db:5432/x"),
        ("postgres://app@db/x?sslmode=require", "postgresql://app@db/x?sslmode=require"),
        ("postgresql://db/x?pool_size=20&sslmode=require&max_overflow=10", "postgresql://db/x?sslmode=require"),
        ("postgresql://db/x?pool_pre_ping=true&pool_recycle=3600", "postgresql://db/x"),
    ],
)
def test_a_database_url_of_another_driver_is_understood(monkeypatch: pytest.MonkeyPatch, given: str, dsn: str) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    assert Settings().database_dsn() == dsn
    assert Settings().migration_url("postgresql+psycopg") == dsn.replace("postgresql:", "postgresql+psycopg:")


def test_migrations_may_use_another_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@db/x")
    monkeypatch.setenv("MIGRATION_DATABASE_URL", "postgresql+asyncpg://dba@db/x")
    assert Settings().database_dsn() == "postgresql://app@db/x"
    assert Settings().migration_url("postgresql") == "postgresql://dba@db/x"


@pytest.mark.parametrize(
    ("url", "size"),
    [
        ("postgresql://db/x", 8),
        ("postgresql://db/x?pool_size=20", 20),
        ("postgresql://db/x?pool_size=20&max_overflow=10", 30),
        ("postgresql://db/x?max_overflow=10", 8),
    ],
)
def test_the_pools_size_stands_in_the_url(monkeypatch: pytest.MonkeyPatch, url: str, size: int) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert Settings().database_pool_size() == size


WRONG_URLS = [
    ("DATABASE_URL", f"mysql://app:{SECRET}@db/x"),
    ("DATABASE_URL", f"app:{SECRET}@db/x"),
    ("DATABASE_URL", f"postgresql://app:{SECRET}@[db/x"),
    ("DATABASE_URL", f"postgresql://app:{SECRET}@db/x?pool_size=many"),
    ("DATABASE_URL", f"postgresql://app:{SECRET}@db/x?pool_size=0"),
    ("DATABASE_URL", f"postgresql://app:{SECRET}@db/x?max_overflow=-1"),
    ("MIGRATION_DATABASE_URL", f"sqlite:///{SECRET}"),
    ("REDIS_URL", f"http://:{SECRET}@redis:6379/0"),
    ("REDIS_URL", f"{SECRET}@redis:6379"),
    ("LITELLM_BASE_URL", "model:4000"),
    ("LITELLM_BASE_URL", "ftp://model:4000"),
]


@pytest.mark.parametrize(("name", "url"), WRONG_URLS)
def test_a_url_of_another_kind_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(ValidationError) as raised:
        Settings()
    [error] = raised.value.errors()
    assert error["loc"] == (name.lower(),)
    assert SECRET not in error["msg"]


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": f"postgresql://app:{SECRET}@db/x",
        "REDIS_URL": f"redis://:{SECRET}@redis",
        "LITELLM_API_KEY": SECRET,
        "DEV_JWT_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    assert SECRET not in repr(Settings())
    assert SECRET not in str(Settings().for_database())


def test_what_the_database_reads_is_text() -> None:
    assert Settings(vector_top_k=7, model_routing_enabled=False).for_database() == {
        "token_budget_daily": "1000000",
        "token_budget_monthly": "20000000",
        "vector_top_k": "7",
        "model_routing_enabled": "False",
        "model_light": "ollama/qwen2.5:7b",
        "model_standard": "ollama/qwen2.5:32b",
        "model_heavy": "vllm/qwen2.5:72b",
        "litellm_default_model": "openai/gpt-4o-mini",
        "litellm_embedding_model": "openai/text-embedding-3-small",
        "oidc_default_role": "member",
        "large_document_bytes": "10485760",
        "region": "local",
    }


def test_an_overlap_must_be_below_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHUNK_SIZE_TOKENS", "64")
    monkeypatch.setenv("CHUNK_OVERLAP_TOKENS", "63")
    assert Settings().chunk_overlap_tokens == 63
    monkeypatch.setenv("CHUNK_OVERLAP_TOKENS", "64")
    with pytest.raises(ValidationError, match=r"chunk_overlap_tokens\n.*must be below CHUNK_SIZE_TOKENS, which is 64"):
        Settings()
    monkeypatch.setenv("CHUNK_SIZE_TOKENS", "many")
    with pytest.raises(ValidationError, match="chunk_size_tokens"):
        Settings()


def test_an_empty_tokenizer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_TOKENIZER", "")
    assert Settings().embedding_tokenizer is None
    monkeypatch.setenv("EMBEDDING_TOKENIZER", "/models/tokenizer.json")
    assert Settings().embedding_tokenizer == Path("/models/tokenizer.json")


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    """Start a function with these variables besides the usual ones."""
    known = {"FUNCTION_SOURCE": "functions/chat/main.py", "FUNCTION_TARGET": "chat", "HOST": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "shared.serving"],
        cwd=ROOT,
        env={**os.environ, **TEST_ENVIRONMENT, **known, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_start_with_wrong_variables_is_refused_with_one_message_that_names_them() -> None:
    done = start(
        CHUNK_SIZE_TOKENS="63",
        ENVIRONMENT="staging",
        REDIS_URL=f"http://:{SECRET}@redis",
        PORT="high",
        FUNCTION_SOURCE="functions/nowhere.py",
        FUNCTION_TARGET="",
    )
    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith("Refusing to start: ")
    for name in ("CHUNK_SIZE_TOKENS", "ENVIRONMENT", "REDIS_URL", "PORT", "FUNCTION_SOURCE", "FUNCTION_TARGET"):
        assert f"{name}: " in line
    assert SECRET not in line


def test_a_start_without_such_an_entry_point_is_refused_with_a_message() -> None:
    done = start(FUNCTION_TARGET="chatter")
    assert done.returncode != 0
    assert "Refusing to start: " in done.stderr
    assert "chatter" in done.stderr
    assert "Traceback" not in done.stderr
