"""The variables by themselves: what production refuses, and secrets and addresses that are set but no good."""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from infra.doctor.findings import Finding
from shared.guards import problems
from shared.settings import Settings

MIN_DISTINCT = 10
"""A secret of fewer different characters was typed by somebody, not drawn."""
MIN_PASSWORD_CHARS = 16
SECRET = "Draw one with `openssl rand -hex 32`, and put it into the Secret `enterprise-agents`"  # noqa: S105 - advice
MODEL = "Name a model of `GET /v1/models` of LITELLM_BASE_URL"
REMEDIES = {
    "SECRET_KEY": SECRET,
    "DEV_JWT_SECRET": "Leave it out: no development token is taken in production",
    "DEBUG": "Leave it out, or set it to false",
    "PUBLIC_BASE_URL": "Set it to the address at which browsers reach the platform, https://agents.example.com",
    "CORS_ALLOWED_ORIGINS": """Set it to the front end's origins as a JSON list, '["https://agents.example.com"]'""",
    "DATABASE_URL": "Set it to postgresql://app:PASSWORD@HOST:5432/enterprise_agents with the password of the role app",
    "REDIS_URL": "Set it to rediss://:PASSWORD@HOST:6379/0, or redis:// within the cluster",
    "OIDC_ISSUER_URL": "Set it to the identity provider's issuer, as its tokens name it in `iss`",
    "OIDC_AUDIENCE": "Set it to the `aud` of the identity provider's tokens for this platform",
    "OIDC_CLIENT_ID": "Set it to the `azp` of the identity provider's tokens for this platform",
    "JWKS_LOCAL_PATH": "Mount the identity provider's JWK set there, or leave the variable out to fetch it",
    "EMBEDDING_TOKENIZER": "Mount the embedding model's tokenizer.json there, or leave the variable out to estimate tokens",
    "LITELLM_BASE_URL": "Set it to the model endpoint, http://litellm:4000",
    "LITELLM_API_KEY": "Set it to the LITELLM_MASTER_KEY of the proxy",
    "LITELLM_DEFAULT_MODEL": MODEL,
    "LITELLM_EMBEDDING_MODEL": MODEL,
    "MODEL_LIGHT": MODEL,
    "MODEL_STANDARD": MODEL,
    "MODEL_HEAVY": MODEL,
    "EMBEDDING_DIMENSIONS": "Set it to the width of the embedding model: 768 for nomic-embed-text, 1024 for mxbai-embed-large",
    "OTLP_ENDPOINT": "Set it to the collector, http://otel-collector:4317, or ENABLE_TELEMETRY to false",
    "ENABLE_TELEMETRY": "Set it to false, or build the image with the extra `telemetry`",
    "REGION": "Set it to the region of this cluster, for example eu-west-1",
}


def remedy(name: str) -> str:
    """Return what to do about a variable that is wrong."""
    return REMEDIES.get(name, "See docs/configuration.md for what it may be")


def from_lines(lines: list[str]) -> list[Finding]:
    """Return findings of lines as shared.guards writes them."""
    split = (line.partition(": ") for line in lines)
    return [Finding(name, reason, remedy(name)) for name, _, reason in split]


async def check(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at the variables."""
    found = from_lines(problems(settings))
    if settings.environment == "prod":
        known = {finding.subject for finding in found}
        found += [f for f in (*_secrets(settings, environ), *_addresses(settings)) if f.subject not in known]
    return found


def _secrets(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    found = []
    secrets = {
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "LITELLM_API_KEY": settings.litellm_api_key.get_secret_value(),
        **{name: _password(environ.get(name, "")) for name in ("DATABASE_URL", "RELAY_DATABASE_URL", "REDIS_URL")},
    }
    if environ.get("RELAY_DATABASE_URL") == environ.get("DATABASE_URL"):
        # The one login for both is told when the relay's role is looked at.
        del secrets["RELAY_DATABASE_URL"]
    if len(set(secrets["SECRET_KEY"])) < MIN_DISTINCT:
        found.append(Finding("SECRET_KEY", "is no random value: it has few different characters", remedy("SECRET_KEY")))
    seen: dict[str, str] = {}
    for name, secret in secrets.items():
        if secret and secret in seen:
            found.append(Finding(name, f"is the same secret as that of {seen[secret]}", SECRET))
        seen[secret] = name
    found += [
        Finding(name, f"has a secret of fewer than {MIN_PASSWORD_CHARS} characters", SECRET, "warning")
        for name, secret in secrets.items()
        if name != "SECRET_KEY" and 0 < len(secret) < MIN_PASSWORD_CHARS
    ]
    if not secrets["REDIS_URL"]:
        found.append(Finding("REDIS_URL", "has no password: whoever reaches Redis reads answers", SECRET, "warning"))
    return found


def _password(url: str) -> str:
    return unquote(urlsplit(url).password or "")


def _addresses(settings: Settings) -> list[Finding]:
    found = [
        Finding(
            "CORS_ALLOWED_ORIGINS", f"{origin!r} is no origin of https without a path", remedy("CORS_ALLOWED_ORIGINS")
        )
        for origin in settings.cors_allowed_origins
        if not _is_origin(origin)
    ]
    public = urlsplit(settings.public_base_url)
    if public.hostname in ("localhost", "127.0.0.1", "::1") or public.query or public.fragment:
        found.append(Finding("PUBLIC_BASE_URL", "is no address of other machines' browsers", remedy("PUBLIC_BASE_URL")))
    if settings.region == "local":
        found.append(Finding("REGION", "is `local`, the name of a laptop", remedy("REGION"), "warning"))
    return found


def _is_origin(origin: str) -> bool:
    parts = urlsplit(origin)
    return parts.scheme == "https" and bool(parts.hostname) and origin == f"https://{parts.netloc}"
