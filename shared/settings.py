"""The deployment's variables, named as in the operators' runbook, read once a process."""

import json
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared import sentinel

DEV_JWT_SECRET = "dev-only-jwt-secret-not-for-production"  # noqa: S105 - the published default; prod takes no such token
DEFAULT_POOL_SIZE = 8
"""PgBouncer in transaction mode stands between many processes and the server."""

DEV_SECRET_KEY = "dev-secret-key-not-for-production"  # noqa: S105 - the published default; prod refuses it
DEV_BASE_URL = "http://localhost:8000"
DEV_ORIGINS = ("http://localhost:5173", "http://localhost:3000")
DEV_ISSUER = "http://localhost:8080/realms/dev"
DEV_AUDIENCE = "enterprise-agents-api"
ONLY_REGION = "local"
"""What a deployment is called that is the only one."""


class Settings(BaseSettings):
    """Every variable that the platform reads. Field names are the variables in lower case; units are in the names."""

    model_config = SettingsConfigDict(extra="ignore", hide_input_in_errors=True)

    environment: Literal["dev", "prod", "test"] = "dev"
    secret_key: SecretStr = SecretStr(DEV_SECRET_KEY)
    debug: bool | None = None
    public_base_url: str = DEV_BASE_URL
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode] = DEV_ORIGINS

    database_url: SecretStr = SecretStr("postgresql://app:app_password@localhost:5432/enterprise_agents")
    migration_database_url: SecretStr | None = None
    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")

    dev_jwt_secret: SecretStr = SecretStr(DEV_JWT_SECRET)
    oidc_issuer_url: str = DEV_ISSUER
    oidc_audience: str = DEV_AUDIENCE
    oidc_client_id: str = "enterprise-agents"
    oidc_tenant_claim: str = "tenant_id"
    oidc_roles_claim: str = "roles"
    oidc_groups_claim: str = "groups"
    oidc_default_role: Literal["", "member", "viewer"] = "member"
    jwks_local_path: Path | None = None

    litellm_base_url: str = "http://localhost:4000"
    litellm_api_key: SecretStr = SecretStr("sk-dev-key")
    litellm_default_model: str = "openai/gpt-4o-mini"
    litellm_embedding_model: str = "openai/text-embedding-3-small"
    rerank_model: str = ""
    model_routing_enabled: bool = True
    model_light: str = "ollama/qwen2.5:7b"
    model_standard: str = "ollama/qwen2.5:32b"
    model_heavy: str = "vllm/qwen2.5:72b"
    model_connect_timeout_seconds: Annotated[float, Field(gt=0)] = 5
    model_first_token_timeout_seconds: Annotated[float, Field(gt=0)] = 120
    model_token_timeout_seconds: Annotated[float, Field(gt=0)] = 30

    token_budget_daily: Annotated[int, Field(ge=0)] = 1_000_000
    token_budget_monthly: Annotated[int, Field(ge=0)] = 20_000_000

    chunk_size_tokens: Annotated[int, Field(ge=64, le=2048)] = 512
    chunk_overlap_tokens: Annotated[int, Field(ge=0, le=256)] = 50
    vector_top_k: Annotated[int, Field(ge=1, le=20)] = 5
    embedding_dimensions: Annotated[int, Field(ge=1, le=4000)] = 1536
    embedding_send_dimensions: bool = False
    embedding_tokenizer: Path | None = None

    max_document_bytes: Annotated[int, Field(ge=1, le=1024**3)] = 50 * 1024 * 1024
    large_document_bytes: Annotated[int, Field(ge=1)] = 10 * 1024 * 1024
    extraction_timeout_seconds: Annotated[float, Field(gt=0)] = 120
    extraction_memory_bytes: Annotated[int, Field(ge=256 * 1024 * 1024)] = 1024 * 1024 * 1024
    dataref_allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    s3_endpoint_url: str = ""
    s3_access_key_id: str = ""
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_region: str = "us-east-1"

    background_worker_concurrency: Annotated[int, Field(ge=1, le=32)] = 4
    rate_limit_per_minute: Annotated[int, Field(ge=1)] = 60
    region: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = ONLY_REGION

    enable_telemetry: bool = False
    otlp_endpoint: str = "http://localhost:4317"

    job_lease_seconds: Annotated[float, Field(ge=1)] = 15
    shutdown_seconds: Annotated[int, Field(ge=1)] = 540
    stream_ttl_seconds: Annotated[int, Field(ge=1)] = 600
    stream_heartbeat_seconds: Annotated[float, Field(gt=0)] = 15

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _check_scheme(url.get_secret_value(), "postgresql", "postgres")
            sizes = parse_qs(urlsplit(url.get_secret_value()).query)
            if not all(size.isdigit() for size in (*sizes.get("pool_size", ()), *sizes.get("max_overflow", ()))):
                raise ValueError("pool_size and max_overflow must be numbers")
            if sizes.get("pool_size") == ["0"]:
                raise ValueError("pool_size must be at least 1")
        return url

    @field_validator("chunk_overlap_tokens")
    @classmethod
    def _is_below_the_size(cls, tokens: int, info: ValidationInfo) -> int:
        if tokens >= (size := info.data.get("chunk_size_tokens", tokens + 1)):
            raise ValueError(f"must be below CHUNK_SIZE_TOKENS, which is {size}")
        return tokens

    @field_validator("embedding_tokenizer", "jwks_local_path", mode="before")
    @classmethod
    def _is_named(cls, path: object) -> object:
        return path or None

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: SecretStr) -> SecretStr:
        scheme = urlsplit(url.get_secret_value()).scheme
        if scheme in sentinel.SCHEMES:
            sentinel.watched(url.get_secret_value())
        elif scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("must be a URL that begins with redis://, rediss://, unix:// or redis+sentinel://")
        return url

    @field_validator("cors_allowed_origins", "dataref_allowed_origins", mode="before")
    @classmethod
    def _are_origins(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        try:
            origins = json.loads(given)
        except ValueError:
            origins = None
        if not isinstance(origins, list) or not all(isinstance(origin, str) for origin in origins):
            raise ValueError('must be a JSON list of origins, such as ["https://agents.example.com"]')
        return tuple(origins)

    @field_validator("public_base_url", "oidc_issuer_url", "litellm_base_url", "otlp_endpoint", "s3_endpoint_url")
    @classmethod
    def _is_http(cls, url: str, info: ValidationInfo) -> str:
        if url or info.field_name != "s3_endpoint_url":
            _check_scheme(url, "http", "https")
        return url

    def for_database(self) -> dict[str, str]:
        """Return the variables that the logic in PostgreSQL reads from ops.settings, as text."""
        names = (
            "token_budget_daily",
            "token_budget_monthly",
            "vector_top_k",
            "model_routing_enabled",
            "model_light",
            "model_standard",
            "model_heavy",
            "litellm_default_model",
            "litellm_embedding_model",
            "oidc_default_role",
            "large_document_bytes",
            "region",
        )
        return {name: str(getattr(self, name)) for name in names}

    def verbose_errors(self) -> bool:
        """Return whether a defect is told in its answer: DEBUG, which is on in dev unless it is set."""
        return self.environment == "dev" if self.debug is None else self.debug

    def job_lease(self) -> timedelta:
        """Return for how long a job belongs to the worker that has claimed it."""
        return timedelta(seconds=self.job_lease_seconds)

    def database_dsn(self) -> str:
        """Return the functions' connection string for psycopg."""
        return with_scheme(self.database_url.get_secret_value(), "postgresql")

    def database_pool_size(self) -> int:
        """Return how many connections a process may hold: `pool_size` + `max_overflow` of DATABASE_URL, 8 by default."""
        query = parse_qs(urlsplit(self.database_url.get_secret_value()).query)
        if "pool_size" not in query:
            return DEFAULT_POOL_SIZE
        return int(query["pool_size"][0]) + int(query.get("max_overflow", ["0"])[0])

    def migration_url(self, scheme: str) -> str:
        """Return the connection string of the role that migrates, for the given URL scheme."""
        return with_scheme((self.migration_database_url or self.database_url).get_secret_value(), scheme)


def _check_scheme(url: str, *schemes: str) -> None:
    """Raise ValueError for a URL of another scheme; the message does not repeat it, because it may hold a password."""
    if urlsplit(url).scheme.partition("+")[0] not in schemes:
        raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")


def with_scheme(url: str, scheme: str) -> str:
    """Return the URL under another scheme: the runbook's `postgresql+asyncpg://` names a driver that is not used here.

    SQLAlchemy's pool parameters (`pool_size`, `max_overflow`, `pool_pre_ping`, `pool_recycle`) are no connection options
    of PostgreSQL and are left out.
    """
    parts = urlsplit(url)
    query = "&".join(item for item in parts.query.split("&") if item and not item.startswith(("pool_", "max_overflow")))
    return urlunsplit(parts._replace(scheme=scheme, query=query))


@cache
def get_settings() -> Settings:
    """Return the process's settings; raises pydantic.ValidationError that names each wrong variable."""
    return Settings()
