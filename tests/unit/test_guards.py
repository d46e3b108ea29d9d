"""What a process in production refuses to start with."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared import guards
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT.parent / "shared" / "reference" / "runbook.md"
SECRETS = {
    "SECRET_KEY": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "DATABASE_URL": "postgresql+asyncpg://app:word-of-the-database@db:5432/enterprise_agents",
    "REDIS_URL": "rediss://:word-of-redis@redis:6379/0",
    "LITELLM_API_KEY": "sk-word-of-litellm",
}
GOOD = {
    "ENVIRONMENT": "prod",
    "PUBLIC_BASE_URL": "https://agents.example.com",
    "CORS_ALLOWED_ORIGINS": '["https://agents.example.com"]',
    "OIDC_ISSUER_URL": "https://idp.example.com/realms/company",
    "OIDC_CLIENT_ID": "enterprise-agents",
    "OIDC_AUDIENCE": "enterprise-agents-api",
    "LITELLM_BASE_URL": "http://litellm:4000",
    "LITELLM_DEFAULT_MODEL": "ollama/qwen2.5:32b",
    "LITELLM_EMBEDDING_MODEL": "ollama/nomic-embed-text",
    "EMBEDDING_DIMENSIONS": "768",
    "MODEL_LIGHT": "ollama/qwen2.5:7b",
    "MODEL_STANDARD": "ollama/qwen2.5:32b",
    "MODEL_HEAVY": "vllm/qwen2.5:72b",
    **SECRETS,
}
"""A complete set: each variable that the runbook requires in production."""
MODELS = {"MODEL_LIGHT", "MODEL_STANDARD", "MODEL_HEAVY"}
REQUIRED = set(GOOD) - {"ENVIRONMENT"}
PUBLISHED = {
    "SECRET_KEY": "dev-secret-key-not-for-production",
    "PUBLIC_BASE_URL": "http://localhost:8000",
    "DATABASE_URL": "postgresql+asyncpg://app:app_password@localhost:5432/enterprise_agents",
    "REDIS_URL": "redis://localhost:6379/0",
    "OIDC_ISSUER_URL": "http://localhost:8080/realms/dev",
    "DEV_JWT_SECRET": "dev-only-jwt-secret-not-for-production",
    "CORS_ALLOWED_ORIGINS": '["http://localhost:5173","http://localhost:3000"]',
    "LITELLM_API_KEY": "sk-dev-key",
}
"""The runbook's defaults that are no value for production, whoever sets them. The others may be right."""
CHEAP = {"FUNCTION_SOURCE": "functions/health/main.py", "FUNCTION_TARGET": "health", "HOST": "127.0.0.1"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no variable of the developer's shell."""
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def found(
    variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, read: Collection[str] | None = None
) -> dict[str, str]:
    """Return what is wrong with the variables, by their names."""
    with monkeypatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        lines = guards.problems(Settings(), read)
    by_name = dict(line.split(": ", 1) for line in lines)
    assert len(by_name) == len(lines)
    assert not [line for line in lines for secret in SECRETS.values() if secret in line]
    return by_name


def start(module: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a process with these variables and none of the platform's besides; it must end by itself."""
    inherited = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    command = [sys.executable, "-m", module]
    return subprocess.run(
        command, cwd=ROOT, env={**inherited, **variables}, capture_output=True, text=True, check=False, timeout=120
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which a process has refused to start."""
    assert done.returncode != 0
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("Refusing to start: ")
    return line


def names(line: str) -> set[str]:
    return set(re.findall(r"(?:: |; )([A-Z_]+): ", line))


def test_the_runbook_requires_what_this_file_says() -> None:
    if not RUNBOOK.is_file():
        pytest.skip("the operators' runbook is not beside this repository (../shared/reference)")
    rows = [line.split("|") for line in RUNBOOK.read_text().splitlines() if line.startswith("| `")]
    required = {row[1].strip(" `"): row[3].strip() for row in rows if len(row) == 6}
    assert {name for name, value in required.items() if value.startswith("Yes")} == set(GOOD)
    assert {name for name, value in required.items() if value == "Yes (if routing enabled)"} == MODELS
    defaults = {row[1].strip(" `"): row[2].strip(" `") for row in rows if len(row) == 6}
    assert {name: defaults[name] for name in PUBLISHED} == PUBLISHED


def test_in_production_nothing_is_left_to_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(found({"ENVIRONMENT": "prod"}, monkeypatch)) == REQUIRED


def test_without_routing_its_models_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = {"ENVIRONMENT": "prod", "MODEL_ROUTING_ENABLED": "false"}
    assert set(found(bare, monkeypatch)) == REQUIRED - MODELS
    without = {name: value for name, value in GOOD.items() if name not in MODELS}
    assert found(without | {"MODEL_ROUTING_ENABLED": "false"}, monkeypatch) == {}
    assert set(found(without, monkeypatch)) == MODELS


def test_a_complete_set_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(GOOD, monkeypatch) == {}
    assert found(GOOD | {"DEV_JWT_SECRET": "another-secret-of-32-characters!", "DEBUG": "false"}, monkeypatch) == {}


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_each_variable_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    without = {other: value for other, value in GOOD.items() if other != name}
    assert set(found(without, monkeypatch)) == {name}


@pytest.mark.parametrize("name", sorted(REQUIRED - {"DATABASE_URL", "REDIS_URL", "EMBEDDING_DIMENSIONS"}))
def test_each_variable_that_is_set_to_nothing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # As a template does whose value is missing. The three left out are refused by Settings itself.
    try:
        named = set(found(GOOD | {name: ""}, monkeypatch))
    except ValidationError as error:
        named = {str(e["loc"][0]).upper() for e in error.errors()}
    assert named == {name}


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_published_default_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert set(found(GOOD | {name: PUBLISHED[name]}, monkeypatch)) == {name}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "true"),
        ("DEBUG", "1"),
        ("SECRET_KEY", "x" * 31),
        ("SECRET_KEY", ""),
        ("PUBLIC_BASE_URL", "http://agents.example.com"),
        ("PUBLIC_BASE_URL", "http://localhost:8000/"),
        ("CORS_ALLOWED_ORIGINS", '["*"]'),
        ("CORS_ALLOWED_ORIGINS", '["https://agents.example.com", "*"]'),
        ("CORS_ALLOWED_ORIGINS", '["http://localhost:5173", "http://localhost:3000"]'),
        ("DATABASE_URL", "postgresql://app:app_password@localhost:5432/enterprise_agents"),
        ("DATABASE_URL", "postgres://app:app_password@localhost:5432/enterprise_agents"),
        ("DATABASE_URL", "postgresql+asyncpg://app:app_password@localhost:5432/enterprise_agents?pool_size=20"),
        ("JWKS_LOCAL_PATH", "/nowhere/jwks.json"),
        ("JWKS_LOCAL_PATH", "/"),
        ("EMBEDDING_TOKENIZER", "/nowhere/tokenizer.json"),
    ],
)
def test_what_is_no_value_for_production_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert set(found(GOOD | {name: value}, monkeypatch)) == {name}


def test_a_key_set_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text('{"keys": []}')
    assert found(GOOD | {"JWKS_LOCAL_PATH": str(path), "EMBEDDING_TOKENIZER": str(path)}, monkeypatch) == {}


@pytest.mark.parametrize("environment", ["dev", "test"])
def test_elsewhere_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, environment: str) -> None:
    assert found({"ENVIRONMENT": environment}, monkeypatch) == {}
    everything = {"DEBUG": "true", "CORS_ALLOWED_ORIGINS": '["*"]', "JWKS_LOCAL_PATH": "/nowhere", "SECRET_KEY": "x"}
    assert found(PUBLISHED | everything | {"ENVIRONMENT": environment}, monkeypatch) == {}


def test_a_process_is_asked_for_what_it_reads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(found({"ENVIRONMENT": "prod"}, monkeypatch, ["database_url"])) == {"DATABASE_URL"}
    assert found({"ENVIRONMENT": "prod", "DATABASE_URL": SECRETS["DATABASE_URL"]}, monkeypatch, ["database_url"]) == {}


@pytest.mark.parametrize("value", ["https://a.example.com", "[", "{}", '"*"', "[1]", "[null]", "", '["a", ["b"]]'])
def test_origins_that_are_no_list_are_refused_with_one_message(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    [error] = raised.value.errors()
    assert error["loc"] == ("cors_allowed_origins",)
    assert "JSON list of origins" in error["msg"]


def test_origins_are_read_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = ["https://b.example.com", "https://a.example.com:8443"]
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", json.dumps(origins))
    assert Settings().cors_allowed_origins == tuple(origins)


def test_a_bare_start_in_production_ends_with_one_message() -> None:
    line = refusal(start("shared.serving", CHEAP | {"ENVIRONMENT": "prod"}))
    assert names(line) == REQUIRED
    assert not [value for value in PUBLISHED.values() if value in line]


def test_what_is_wrong_is_told_at_once_and_without_secrets() -> None:
    wrong = {
        "SECRET_KEY": "too-short",
        "DEBUG": "true",
        "DEV_JWT_SECRET": PUBLISHED["DEV_JWT_SECRET"],
        "JWKS_LOCAL_PATH": "/nowhere",
        "PORT": "none",
    }
    line = refusal(start("shared.serving", CHEAP | GOOD | wrong))
    assert names(line) == set(wrong)
    assert not [secret for secret in (*SECRETS.values(), "too-short", wrong["DEV_JWT_SECRET"]) if secret in line]


def test_malformed_origins_end_the_start_with_one_message() -> None:
    line = refusal(start("shared.serving", CHEAP | GOOD | {"CORS_ALLOWED_ORIGINS": "https://agents.example.com"}))
    assert names(line) == {"CORS_ALLOWED_ORIGINS"}
    assert '["https://agents.example.com"]' in line


def test_a_good_set_gets_past_the_guards() -> None:
    # The one thing that is wrong is looked for after them.
    done = start("shared.serving", CHEAP | GOOD | {"FUNCTION_TARGET": "nowhere"})
    assert names(refusal(done)) == {"FUNCTION_TARGET"}


def test_the_relay_refuses_the_published_database_and_asks_for_nothing_else() -> None:
    line = refusal(start("functions.relay.main", {"ENVIRONMENT": "prod", "K_SINK": "http://127.0.0.1:9"}))
    assert names(line) == {"DATABASE_URL"}
    assert PUBLISHED["DATABASE_URL"] not in line


SECRET = "word-of-the-relay"


@pytest.mark.parametrize("module", ["functions.relay.main", "alembic"])
def test_no_process_repeats_a_malformed_url(module: str) -> None:
    wrong = {"K_SINK": "http://127.0.0.1:9", "DATABASE_URL": f"mysql://app:{SECRET}@db/x"}
    done = subprocess.run(
        [sys.executable, "-m", module, *(["current"] if module == "alembic" else [])],
        cwd=ROOT,
        env={**os.environ, **wrong},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "DATABASE_URL" in done.stderr.upper()
    assert SECRET not in done.stdout + done.stderr
