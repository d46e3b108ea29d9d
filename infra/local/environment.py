"""Where the parts of a stack find each other: URLs and variables, embedded or from the environment.

The variables are those of the operators' runbook. In a cluster they come from a ConfigMap and a Secret;
here this module stands for both, and the manifests say which process sees which of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.model_server.files import model_directory
from infra.local.ports import HOST, MODEL_SERVER, POSTGRES, REDIS

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE = "enterprise_agents"
FUNCTIONS_ROLE = "app"
RELAY_ROLE = "relay"

# Variables that replace an embedded part by a real one.
EXTERNAL = {"DATABASE_URL": POSTGRES, "REDIS_URL": REDIS, "LITELLM_BASE_URL": MODEL_SERVER}

_SECRETS = (
    "DATABASE_URL",
    "MIGRATION_DATABASE_URL",
    "RELAY_DATABASE_URL",
    "REDIS_URL",
    "LITELLM_API_KEY",
    "SECRET_KEY",
)
_OPTIONAL_SECRETS = ("DEV_JWT_SECRET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")

_CONFIG = {"ENVIRONMENT": "dev", "PYTHONUNBUFFERED": "1"}

# What fits the embedded model server: MiniLM reads 256 word pieces and returns 384 numbers.
_MODEL_CONFIG = {
    "EMBEDDING_DIMENSIONS": "384",
    "CHUNK_SIZE_TOKENS": "192",
    "CHUNK_OVERLAP_TOKENS": "32",
    "LITELLM_EMBEDDING_MODEL": "local/all-minilm-l6-v2",
    "LITELLM_DEFAULT_MODEL": "local/extractive-standard",
    "MODEL_LIGHT": "local/extractive-light",
    "MODEL_STANDARD": "local/extractive-standard",
    "MODEL_HEAVY": "local/extractive-heavy",
}


class ConfigurationError(RuntimeError):
    """Variables contradict each other; the message says which."""


@dataclass(frozen=True, slots=True)
class Connections:
    """The URLs of the stores and of the model server, whoever runs them."""

    database_url: str
    relay_database_url: str
    migration_database_url: str
    redis_url: str
    model_url: str


@dataclass(frozen=True, slots=True)
class Variables:
    """What processes are started with: `inherited` by all, `config` and `secret` as the manifests say."""

    inherited: Mapping[str, str]
    config: Mapping[str, str]
    secret: Mapping[str, str]


def external(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the parts that a variable replaces by a real one; raises ConfigurationError."""
    if environ.get("MIGRATION_DATABASE_URL") and not environ.get("DATABASE_URL"):
        raise ConfigurationError("MIGRATION_DATABASE_URL is set without DATABASE_URL: set both, or neither")
    return frozenset(part for name, part in EXTERNAL.items() if environ.get(name))


def pooled(environ: Mapping[str, str]) -> bool:
    """Return whether functions and relay reach the embedded PostgreSQL through PgBouncer; raises ConfigurationError."""
    wanted = environ.get("PGBOUNCER", "0") not in {"", "0"}
    if wanted and environ.get("DATABASE_URL"):
        raise ConfigurationError("PGBOUNCER stands before the embedded PostgreSQL, which DATABASE_URL replaces")
    return wanted


def embedded_only(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the stores it names, for a stack that must not touch real data."""
    return {
        name: value
        for name, value in environ.items()
        if name not in {"DATABASE_URL", "MIGRATION_DATABASE_URL", "RELAY_DATABASE_URL", "REDIS_URL"}
    }


def connections(
    environ: Mapping[str, str],
    *,
    embedded_database: tuple[str, str, str] | None,
    embedded_redis: str | None,
    model_port: int | None,
) -> Connections:
    """Return every URL; what is embedded comes from the arguments, the rest from the environment.

    `embedded_database` holds the URLs of the functions, the relay and the role that migrates.
    """
    if embedded_database is None:
        functions = environ["DATABASE_URL"]
        relay = environ.get("RELAY_DATABASE_URL") or functions
        owner = environ.get("MIGRATION_DATABASE_URL") or functions
    else:
        functions, relay, owner = embedded_database
    return Connections(
        database_url=functions,
        relay_database_url=relay,
        migration_database_url=owner,
        redis_url=environ["REDIS_URL"] if embedded_redis is None else embedded_redis,
        model_url=environ["LITELLM_BASE_URL"] if model_port is None else f"http://{HOST}:{model_port}",
    )


def _embedded_models() -> dict[str, str]:
    return {**_MODEL_CONFIG, "EMBEDDING_TOKENIZER": str(model_directory() / "tokenizer.json")}


def variables(environ: Mapping[str, str], urls: Connections, *, embedded_models: bool) -> Variables:
    """Return what processes are started with. What the caller's environment says wins over local defaults."""
    defaults = {**_CONFIG, **(_embedded_models() if embedded_models else {})}
    config = {name: environ.get(name, value) for name, value in defaults.items()}
    config["LITELLM_BASE_URL"] = urls.model_url
    secret = {
        "DATABASE_URL": urls.database_url,
        "RELAY_DATABASE_URL": urls.relay_database_url,
        "MIGRATION_DATABASE_URL": urls.migration_database_url,
        "REDIS_URL": urls.redis_url,
        "LITELLM_API_KEY": environ.get("LITELLM_API_KEY", "sk-dev-key"),
        "SECRET_KEY": environ.get("SECRET_KEY", "dev-secret-key-not-for-production"),
        **{name: environ[name] for name in _OPTIONAL_SECRETS if environ.get(name)},
    }
    # A process gets the secrets that its manifest names, and no other.
    hidden = {*_SECRETS, *_OPTIONAL_SECRETS}
    inherited = {name: value for name, value in environ.items() if name not in hidden}
    return Variables(inherited=inherited, config=config, secret=secret)
