"""What the platform talks to besides PostgreSQL: Redis, the models, the identity provider, the collector, the object store."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import psycopg
from aiohttp import ClientError, ClientTimeout
from psycopg.rows import dict_row
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from functions.ingestion.signing import Credentials, signed_headers
from infra.doctor.clock import of_http, skew
from infra.doctor.findings import Finding, LeftOut
from infra.doctor.variables import from_lines, remedy
from shared import oidc, telemetry
from shared.embeddings import configured_model, request
from shared.model_endpoint import endpoint
from shared.problems import Problem
from shared.runtime import runtime
from shared.settings import DEV_ISSUER, Settings

SECONDS = 10.0
EMBEDDING_SECONDS = 60.0
"""An endpoint may have to load the model first."""
PROBE = "Harbour pump P-7"
MIN_REDIS = (6, 2)
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
TIERS = ("model_light", "model_standard", "model_heavy")
REACH = "Check its host and port, that it runs, and that a NetworkPolicy lets this pod reach it"
STORE_ERRORS = {
    "InvalidAccessKeyId": "S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "S3_SECRET_ACCESS_KEY",
    "AuthorizationHeaderMalformed": "S3_REGION",
    "RequestTimeTooSkewed": "clock",
}
"""Codes of the S3 API Reference (Error responses), and what each is about. Not AccessDenied: a key may be one for buckets."""


async def check_redis(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at the Redis of REDIS_URL: that it lets the functions in, and is one that keeps what they write."""
    del settings, environ
    name = "REDIS_URL"
    try:
        redis = runtime.redis()
        about: dict[str, Any] = await redis.info()
        seconds, micros = await redis.time()
    except (AuthenticationError, NoPermissionError) as error:
        return [
            Finding(
                name, f"Redis does not let the functions in: {error}", "Set the password of `requirepass` in the URL"
            )
        ]
    except (RedisError, OSError, TimeoutError) as error:
        return [Finding(name, f"Redis does not answer: {error}", REACH)]
    found = skew("Redis", datetime.fromtimestamp(seconds + micros / 1e6, UTC))
    version = str(about.get("redis_version", ""))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < MIN_REDIS:
        found.append(
            Finding(name, f"is a Redis {version}", "Redis 6.2 or later is needed, 7 is what is tested in a cluster")
        )
    if about.get("role") != "master":
        found.append(
            Finding(
                name, "is a replica, which takes no writes", "Name the primary, or the sentinels: redis+sentinel://"
            )
        )
    if about.get("maxmemory") and str(about.get("maxmemory_policy", "")).startswith("allkeys"):
        told = (
            f"evicts any key when it is full ({about['maxmemory_policy']}): streams of turns vanish while they are read"
        )
        found.append(Finding(name, told, "Set maxmemory-policy to noeviction or volatile-ttl", "warning"))
    return found


async def check_models(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at the model endpoint: that it takes the key, knows every model that is named, and embeds in the width set."""
    del environ
    url = f"{endpoint(settings.litellm_base_url)}/models"
    headers = {"Authorization": f"Bearer {settings.litellm_api_key.get_secret_value()}"}
    try:
        async with runtime.http().get(url, headers=headers, timeout=ClientTimeout(SECONDS)) as response:
            status, body, date = response.status, await response.text(errors="replace"), response.headers.get("Date")
    except (ClientError, OSError, TimeoutError) as error:
        return [Finding("LITELLM_BASE_URL", f"the model endpoint does not answer: {type(error).__name__}", REACH)]
    found = skew("the model endpoint", of_http(date), whole_seconds=True)
    if status in REFUSED:
        return [
            *found,
            Finding("LITELLM_API_KEY", f"the model endpoint refuses the key ({status})", remedy("LITELLM_API_KEY")),
        ]
    try:
        known = [str(model["id"]) for model in json.loads(body)["data"]] if status == HTTPStatus.OK else None
    except (ValueError, KeyError, TypeError):
        known = None
    if known is None:
        told = f"GET {urlsplit(url).path} is answered {status}, not with the list of models of the OpenAI API"
        return [*found, Finding("LITELLM_BASE_URL", told, "Set it to the proxy itself, with or without /v1 at its end")]
    named = {
        name: getattr(settings, name)
        for name in (*TIERS, "litellm_default_model", "litellm_embedding_model", "rerank_model")
    }
    unknown = {name: model for name, model in named.items() if model and not _serves(known, model)}
    advice = f"Add it to LiteLLM's model_list, pull it (`ollama pull`), or name one of: {', '.join(known[:20])}"
    found += [
        Finding(name.upper(), f"the model endpoint has no model {model}", advice) for name, model in unknown.items()
    ]
    if "litellm_embedding_model" not in unknown:
        found += await _embedding(settings)
    return found


def _serves(known: list[str], model: str) -> bool:
    # LiteLLM lists what it passes on as it is with an asterisk.
    return any(fnmatchcase(model, name) if name.endswith("*") else model == name for name in known)


async def _embedding(settings: Settings) -> list[Finding]:
    """Return what is wrong with the width of the embeddings: the endpoint's, the variable's and the database's are one."""
    name = settings.litellm_embedding_model
    try:
        answer = await request([PROBE], configured_model(settings), settings, EMBEDDING_SECONDS)
        width = len(json.loads(answer)["data"][0]["embedding"])
    except (Problem, ValueError, KeyError, TypeError, IndexError) as error:
        told = error.detail if isinstance(error, Problem) else "the endpoint's answer is not understood"
        return [
            Finding(
                "LITELLM_EMBEDDING_MODEL", f"{name} does not embed: {told}", "Name an embedding model of the endpoint"
            )
        ]
    wanted = settings.embedding_dimensions
    if width != wanted:
        told = f"is {wanted}, and the vectors of {name} have {width}"
        return [
            Finding(
                "EMBEDDING_DIMENSIONS",
                told,
                f"Set it to {width}, and run `make migrate`, or `make reembed` where there are vectors",
            )
        ]
    active = await asyncio.to_thread(_active_model, settings)
    if active is None or (active["name"], active["width"]) == (name, wanted):
        return []
    told = f"the database's vectors are made by {active['name']} with {active['width']} dimensions, which goes on answering"
    if active["width"] != wanted:
        return [
            Finding("EMBEDDING_DIMENSIONS", f"is {wanted}: {told}", "Set it back, or make new vectors: `make reembed`")
        ]
    return [
        Finding(
            "LITELLM_EMBEDDING_MODEL",
            f"is {name}: {told}",
            "Set it back, or make new vectors: `make reembed`",
            "warning",
        )
    ]


def _active_model(settings: Settings) -> dict[str, Any] | None:
    """Return the model of the stored vectors; None where the database does not say, of which its own check tells."""
    try:
        with psycopg.connect(
            settings.database_dsn(), autocommit=True, row_factory=dict_row, connect_timeout=5
        ) as connection:
            row = connection.execute("SELECT rag.active_model() AS model").fetchone()
    except psycopg.Error:
        return None
    model: dict[str, Any] | None = row and row["model"]
    return model


async def check_identity_provider(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at the identity provider: that its keys are there, and that it calls itself what tokens are checked against."""
    del environ
    local = settings.jwks_local_path
    if settings.environment != "prod" and local is None and settings.oidc_issuer_url == DEV_ISSUER:
        raise LeftOut("only development tokens are taken: OIDC_ISSUER_URL is not set")
    name = "JWKS_LOCAL_PATH" if local else "OIDC_ISSUER_URL"
    try:
        oidc.usable_keys(await oidc.loader(settings)())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        advice = (
            "Put the identity provider's JWK set there: curl its jwks_uri"
            if local
            else "curl $OIDC_ISSUER_URL/.well-known/openid-configuration from this pod: `issuer` must be this very text, and"
            " jwks_uri reachable; without a network, set JWKS_LOCAL_PATH"
        )
        return [Finding(name, f"no keys of the identity provider: {told}", advice)]
    return [] if local else await _provider_clock(settings)


async def _provider_clock(settings: Settings) -> list[Finding]:
    try:
        async with runtime.http().get(settings.oidc_issuer_url, timeout=ClientTimeout(SECONDS)) as response:
            return skew("the identity provider", of_http(response.headers.get("Date")), whole_seconds=True)
    except (ClientError, OSError, TimeoutError):
        return []


async def check_telemetry(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at the OTLP collector: that something listens there."""
    del environ
    if not settings.enable_telemetry:
        raise LeftOut("ENABLE_TELEMETRY is off")
    found = from_lines(telemetry.missing(settings))
    parts = urlsplit(settings.otlp_endpoint)
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 4317)
        writer.close()
        await writer.wait_closed()
    except (OSError, TimeoutError) as error:
        found.append(Finding("OTLP_ENDPOINT", f"the collector cannot be reached: {error}", remedy("OTLP_ENDPOINT")))
    return found


async def check_object_store(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look at the object store: that it takes the signature."""
    del environ
    if not settings.s3_endpoint_url:
        raise LeftOut("S3_ENDPOINT_URL is not set")
    url = f"{settings.s3_endpoint_url.rstrip('/')}/"
    secret = settings.s3_secret_access_key.get_secret_value()
    if not (settings.s3_access_key_id and secret):
        advice = "Put both keys of the store into the Secret `enterprise-agents`"
        return [Finding("S3_ACCESS_KEY_ID", "or S3_SECRET_ACCESS_KEY is not set, and S3_ENDPOINT_URL is", advice)]
    headers = signed_headers(
        "GET", url, Credentials(settings.s3_access_key_id, secret, settings.s3_region), datetime.now(UTC)
    )
    try:
        async with runtime.http().get(url, headers=headers, timeout=ClientTimeout(SECONDS)) as response:
            body = await response.text(errors="replace")
    except (ClientError, OSError, TimeoutError) as error:
        return [Finding("S3_ENDPOINT_URL", f"the object store does not answer: {type(error).__name__}", REACH)]
    return [
        Finding(
            about,
            f"the object store refuses the signature: {code}",
            "Compare it with the store's own access keys and region",
        )
        for code, about in STORE_ERRORS.items()
        if f"<Code>{code}</Code>" in body
    ]
