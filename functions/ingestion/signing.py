"""AWS Signature Version 4 of a request without a body, as every S3-compatible store asks for it.

Source: "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference. A library for it would bring one of
the AWS SDKs along, which are many times the size of a function.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "s3"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Credentials:
    """A key and the region that it is used in."""

    access_key_id: str
    secret_access_key: str
    region: str


def quoted(text: str, safe: str = "") -> str:
    """Return a text percent-encoded as the signature wants it: all but letters, digits and `-._~` are."""
    return quote(text, safe=safe)


def signed_headers(
    method: str, url: str, credentials: Credentials, now: datetime, headers: dict[str, str] | None = None
) -> dict[str, str]:
    """Return the headers of a signed request, with those given.

    The path of `url` is encoded already, by `quoted` with the slash as safe; `now` is in UTC.
    """
    parts = urlsplit(url)
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": parts.netloc, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": moment}
    signed |= {name.lower(): " ".join(value.split()) for name, value in (headers or {}).items()}
    names = ";".join(sorted(signed))
    query = sorted((quoted(name), quoted(value)) for name, value in parse_qsl(parts.query, keep_blank_values=True))
    request = "\n".join(
        (
            method,
            parts.path or "/",
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            EMPTY_SHA256,
        )
    )
    scope = f"{moment[:8]}/{credentials.region}/{SERVICE}/aws4_request"
    told = "\n".join((ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        key = _digest(key, part)
    signature = _digest(key, told).hex()
    del signed["host"]
    return signed | {
        "Authorization": (
            f"{ALGORITHM} Credential={credentials.access_key_id}/{scope},SignedHeaders={names},Signature={signature}"
        )
    }


def _digest(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
