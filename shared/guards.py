"""What a process in production refuses to start with: every development default that the operators' runbook names."""

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from shared.settings import (
    DEV_BASE_URL,
    DEV_ISSUER,
    DEV_JWT_SECRET,
    DEV_ORIGINS,
    DEV_SECRET_KEY,
    Settings,
    get_settings,
    with_scheme,
)
from shared.telemetry import missing

MIN_SECRET_CHARS = 32
ROUTED = ("model_light", "model_standard", "model_heavy")
EXPORTED = ("otlp_endpoint",)
REQUIRED = (
    "oidc_audience",
    "oidc_client_id",
    "litellm_base_url",
    "litellm_default_model",
    "litellm_embedding_model",
    "embedding_dimensions",
)
"""Variables whose default may be right in production, but only when somebody has said so."""


def wrong_variables(read: Collection[str] | None = None) -> list[str]:
    """Return what is wrong with the process's variables, as `problems` does, also where they ask for what is not there."""
    try:
        settings = get_settings()
    except ValidationError as error:
        return malformed(error)
    exports = read is None or "enable_telemetry" in read
    return [*problems(settings, read), *(missing(settings) if exports else ())]


def malformed(error: ValidationError) -> list[str]:
    """Return a line for each variable that cannot be read, as `NAME: reason`, without its value."""
    return [f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_input=False)]


def problems(settings: Settings, read: Collection[str] | None = None) -> list[str]:
    """Return what is wrong, a line for each variable, as `NAME: reason`; nothing outside production.

    `read` names the fields that the process reads, where it does not read all. No line repeats a secret.
    """
    if settings.environment != "prod":
        return []
    required = (
        *REQUIRED,
        *(ROUTED if settings.model_routing_enabled else ()),
        *(EXPORTED if settings.enable_telemetry else ()),
    )
    found = {name: "must be set in production" for name in required if _is_left_out(settings, name)}
    found |= {name: reason for name, check in CHECKS.items() if (reason := check(settings))}
    wanted = set(Settings.model_fields if read is None else read)
    return [f"{name.upper()}: {found[name]}" for name in Settings.model_fields if name in found and name in wanted]


def _is_left_out(settings: Settings, name: str) -> bool:
    return name not in settings.model_fields_set or getattr(settings, name) == ""


def _secret_key(settings: Settings) -> str:
    key = settings.secret_key.get_secret_value()
    if key == DEV_SECRET_KEY:
        return "must be changed from default"
    return "" if len(key) >= MIN_SECRET_CHARS else f"must have at least {MIN_SECRET_CHARS} characters"


def _dev_jwt_secret(settings: Settings) -> str:
    # Without it no development token could be made; with it none is taken in production.
    left = (
        "dev_jwt_secret" in settings.model_fields_set and settings.dev_jwt_secret.get_secret_value() == DEV_JWT_SECRET
    )
    return "must be changed from default, or not be set" if left else ""


def _debug(settings: Settings) -> str:
    return "must be off in production" if settings.debug else ""


def _public_base_url(settings: Settings) -> str:
    if settings.public_base_url == DEV_BASE_URL:
        return "must be changed from default"
    return "" if urlsplit(settings.public_base_url).scheme == "https" else "must be an https:// URL in production"


def _cors_allowed_origins(settings: Settings) -> str:
    if settings.cors_allowed_origins == DEV_ORIGINS:
        return "must be changed from default"
    return "must name each origin: * and null are none" if {"*", "null"} & set(settings.cors_allowed_origins) else ""


def _default_of(name: str) -> Callable[[Settings], str]:
    def check(settings: Settings) -> str:
        value, default = getattr(settings, name), Settings.model_fields[name].default
        if isinstance(value, SecretStr) and not value.get_secret_value():
            return "must be set in production"
        return "must be changed from default" if value == default else ""

    return check


def _database_url(settings: Settings) -> str:
    # Whatever driver it names.
    default = Settings.model_fields["database_url"].default.get_secret_value()
    given = with_scheme(settings.database_url.get_secret_value(), "postgresql")
    published = urlsplit(given).password == urlsplit(default).password
    return "must be changed from default" if given == default or published else ""


def _oidc_issuer_url(settings: Settings) -> str:
    return "must be changed from default" if settings.oidc_issuer_url == DEV_ISSUER else ""


def _file_of(name: str) -> Callable[[Settings], str]:
    def check(settings: Settings) -> str:
        path = getattr(settings, name)
        return "" if path is None or path.is_file() else "names no file"

    return check


CHECKS: dict[str, Callable[[Settings], str]] = {
    "secret_key": _secret_key,
    "debug": _debug,
    "public_base_url": _public_base_url,
    "cors_allowed_origins": _cors_allowed_origins,
    "database_url": _database_url,
    "redis_url": _default_of("redis_url"),
    "dev_jwt_secret": _dev_jwt_secret,
    "oidc_issuer_url": _oidc_issuer_url,
    "jwks_local_path": _file_of("jwks_local_path"),
    "embedding_tokenizer": _file_of("embedding_tokenizer"),
    "litellm_api_key": _default_of("litellm_api_key"),
}
