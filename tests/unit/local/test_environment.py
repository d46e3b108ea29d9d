from pathlib import Path

import pytest

from functions.ingestion.tokens import TokenizerFile
from infra.local import environment, manifests
from infra.local.assembly import MANIFESTS, parts
from infra.local.environment import ConfigurationError, Connections

URLS = Connections("db", "relay-db", "owner-db", "redis", "http://model")


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({}, set()),
        ({"DATABASE_URL": ""}, set()),
        ({"DATABASE_URL": "a"}, {"postgres"}),
        ({"DATABASE_URL": "a", "MIGRATION_DATABASE_URL": "b"}, {"postgres"}),
        ({"REDIS_URL": "a", "LITELLM_BASE_URL": "b"}, {"redis", "model-server"}),
    ],
)
def test_variables_replace_embedded_parts(environ: dict[str, str], parts: set[str]) -> None:
    assert environment.external(environ) == parts


def test_a_migration_url_alone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="without DATABASE_URL"):
        environment.external({"MIGRATION_DATABASE_URL": "a"})


@pytest.mark.parametrize(("value", "wanted"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_a_pgbouncer_is_wanted_by_name_and_before_the_embedded_database_only(value: str | None, wanted: bool) -> None:
    environ = {} if value is None else {"PGBOUNCER": value}
    assert environment.pooled(environ) == wanted
    services = manifests.load(MANIFESTS)
    assert ("pgbouncer" in parts(services, frozenset(), pooled=wanted)) == wanted
    if wanted:
        with pytest.raises(ConfigurationError, match="which DATABASE_URL replaces"):
            environment.pooled({**environ, "DATABASE_URL": "a"})


def test_a_throw_away_stack_sees_no_real_store_but_may_see_a_real_model() -> None:
    environ = dict.fromkeys(
        ["DATABASE_URL", "MIGRATION_DATABASE_URL", "RELAY_DATABASE_URL", "REDIS_URL", "LITELLM_BASE_URL"], "x"
    )
    assert environment.embedded_only(environ) == {"LITELLM_BASE_URL": "x"}


def test_embedded_urls_are_used_where_there_are_any() -> None:
    urls = environment.connections({}, embedded_database=("a", "b", "c"), embedded_redis="d", model_port=4000)
    assert urls == Connections("a", "b", "c", "d", "http://127.0.0.1:4000")


def test_relay_and_migrations_fall_back_to_the_database_url() -> None:
    environ = {"DATABASE_URL": "db", "REDIS_URL": "r", "LITELLM_BASE_URL": "http://m"}
    urls = environment.connections(environ, embedded_database=None, embedded_redis=None, model_port=None)
    assert urls == Connections("db", "db", "db", "r", "http://m")
    named = {**environ, "RELAY_DATABASE_URL": "relay", "MIGRATION_DATABASE_URL": "owner"}
    urls = environment.connections(named, embedded_database=None, embedded_redis=None, model_port=None)
    assert (urls.relay_database_url, urls.migration_database_url) == ("relay", "owner")


def test_what_the_caller_sets_wins_over_local_defaults() -> None:
    found = environment.variables({"CHUNK_SIZE_TOKENS": "100"}, URLS, embedded_models=True)
    assert found.config["CHUNK_SIZE_TOKENS"] == "100"
    assert found.config["EMBEDDING_DIMENSIONS"] == "384"
    assert found.config["LITELLM_BASE_URL"] == "http://model"


def test_the_embedded_model_counts_by_its_own_tokenizer() -> None:
    found = environment.variables({}, URLS, embedded_models=True)
    assert TokenizerFile(Path(found.config["EMBEDDING_TOKENIZER"])).count("words") == 1


def test_a_real_model_server_brings_its_own_models() -> None:
    found = environment.variables({"LITELLM_BASE_URL": "x"}, URLS, embedded_models=False)
    assert "EMBEDDING_DIMENSIONS" not in found.config
    assert "EMBEDDING_TOKENIZER" not in found.config
    assert "MODEL_LIGHT" not in found.config


def test_secrets_are_not_inherited_but_handed_out() -> None:
    environ = {"PATH": "/bin", "DATABASE_URL": "real", "SECRET_KEY": "k", "LITELLM_API_KEY": "sk"}
    found = environment.variables(environ, URLS, embedded_models=True)
    assert found.inherited == {"PATH": "/bin"}
    assert found.secret["SECRET_KEY"] == "k"
    assert found.secret["LITELLM_API_KEY"] == "sk"
    assert found.secret["RELAY_DATABASE_URL"] == "relay-db"
    assert "DEV_JWT_SECRET" not in found.secret
