"""Getting a document from elsewhere: from an address that an event names, or an object from the configured store.

An event may be anybody's wish, so that an address is asked only where DATAREF_ALLOWED_ORIGINS names its origin, and never one
that no document server has: link-local ones, where clouds keep their credentials, multicast, unspecified and reserved ones; and
this machine only where the setting names it as such. Private addresses are what a company's own servers have.
"""

import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from functions.ingestion.signing import Credentials, quoted, signed_headers
from shared.problems import Problem
from shared.settings import Settings

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from aiohttp.abc import AbstractResolver

SECONDS = 120
CONNECT_SECONDS = 10
MAX_REDIRECTS = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that may pass."""
GONE = frozenset({404, 410, 405})
"""405: the newest version of the object is a mark of its deletion (S3 API Reference, GetObject)."""
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Fetched:
    """A document as its server gave it; header names are in lower case."""

    body: bytes
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """What the server says that it is."""
        return self.headers.get("content-type", "")


async def get(url: str, settings: Settings) -> Fetched:
    """Return what is at an allowed address.

    Raises Problem `dataref_forbidden`, `dataref_refused`, `dataref_unavailable` (which may pass) or `request_too_large`.
    """
    for _ in range(MAX_REDIRECTS + 1):
        _require_allowed(url, settings.dataref_allowed_origins)
        async with _requested("GET", url, {}) as response:
            if response.status in REDIRECTS:
                # Followed by hand, so that every step is looked at.
                url = urljoin(url, response.headers.get("location", ""))
                continue
            _require_success(response, url)
            return await _read(response, settings.max_document_bytes)
    raise Problem("dataref_refused", "The address leads from one to the next, and to no document.")


async def get_object(bucket: str, key: str, settings: Settings) -> Fetched | None:
    """Return an object as it is now, None when it is gone; raises as `get`."""
    async with _object("GET", bucket, key, settings) as response:
        if response.status in GONE:
            return None
        _require_success(response, f"s3://{bucket}/{key}")
        return await _read(response, settings.max_document_bytes)


async def has_object(bucket: str, key: str, settings: Settings) -> bool:
    """Return whether an object is there now; raises as `get`."""
    async with _object("HEAD", bucket, key, settings) as response:
        if response.status in GONE:
            return False
        _require_success(response, f"s3://{bucket}/{key}")
        return True


@asynccontextmanager
async def _object(method: str, bucket: str, key: str, settings: Settings) -> "AsyncIterator[ClientResponse]":
    if not settings.s3_endpoint_url:
        raise Problem("dataref_forbidden", "The platform has no object store: S3_ENDPOINT_URL is not set.")
    path = f"{quoted(bucket)}/{quoted(key, safe='/')}"
    url = f"{settings.s3_endpoint_url.rstrip('/')}/{path}"
    secret = settings.s3_secret_access_key.get_secret_value()
    credentials = Credentials(settings.s3_access_key_id, secret, settings.s3_region)
    headers = signed_headers(method, url, credentials, datetime.now(UTC))
    # The operator has named the store: it may be on any address.
    async with _requested(method, url, headers, guarded=False) as response:
        yield response


def _require_allowed(url: str, origins: tuple[str, ...]) -> None:
    """Raise Problem `dataref_forbidden` unless the address is of an allowed origin, and such as documents have."""
    origin = _origin(url)
    if origin is None or origin not in {_origin(allowed) for allowed in origins}:
        raise Problem("dataref_forbidden", "The address is of no origin that DATAREF_ALLOWED_ORIGINS names.")
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    _require_plain(str(address), host)


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port (RFC 6454); None for what is no plain address of HTTP."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in PORTS or not parts.hostname or parts.username is not None or parts.password is not None:
        return None
    return parts.scheme, parts.hostname.rstrip(".").lower(), port or PORTS[parts.scheme]


def _require_plain(address: str, host: str) -> None:
    """Raise Problem `dataref_forbidden` for an address that no document server has."""
    found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    here = host == "localhost" or _is_address(host)
    odd = found.is_link_local or found.is_multicast or found.is_unspecified
    if odd or (found.is_loopback and not here) or (found.is_reserved and not found.is_loopback):
        raise Problem("dataref_forbidden", "The address is one from which nothing is fetched.")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def guarded_resolver() -> "AbstractResolver":
    """Return a resolver that gives no address from which nothing is fetched; what it gives is what is connected to."""
    from aiohttp import ThreadedResolver
    from aiohttp.abc import ResolveResult

    class Guarded(ThreadedResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await super().resolve(host, port, family)
            for each in found:
                _require_plain(each["host"], host)
            return found

    return Guarded()


@asynccontextmanager
async def _requested(
    method: str, url: str, headers: dict[str, str], *, guarded: bool = True
) -> "AsyncIterator[ClientResponse]":
    """Make a request; raises Problem `dataref_unavailable` when it is not answered."""
    from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, InvalidURL, TCPConnector
    from yarl import URL

    timeout = ClientTimeout(total=SECONDS, sock_connect=CONNECT_SECONDS)
    connector = TCPConnector(resolver=guarded_resolver()) if guarded else TCPConnector()
    async with ClientSession(connector=connector, timeout=timeout, cookie_jar=DummyCookieJar()) as session:
        try:
            # The path is sent as it stands: encoding it once more would break its signature.
            address = URL(url, encoded=not guarded)
            # A length that is not the document's, as with a compression, would let more through than may be.
            sent = {"Accept-Encoding": "identity", **headers}
            async with session.request(method, address, headers=sent, allow_redirects=False) as response:
                yield response
        except (InvalidURL, ValueError) as error:
            raise Problem("dataref_refused", "The address is none that can be asked.") from error
        except (ClientError, TimeoutError, OSError) as error:
            raise Problem("dataref_unavailable", f"The address does not answer: {type(error).__name__}.") from error


def _require_success(response: "ClientResponse", place: str) -> None:
    status = response.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING:
        raise Problem("dataref_unavailable", f"{place} answers {status}.")
    if status != HTTPStatus.OK:
        raise Problem("dataref_refused", f"{place} answers {status}.")


async def _read(response: "ClientResponse", limit: int) -> Fetched:
    too_large = Problem("request_too_large", f"The document is larger than {limit} bytes (MAX_DOCUMENT_BYTES).")
    if (response.content_length or 0) > limit:
        raise too_large
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > limit:
            raise too_large
    return Fetched(bytes(body), {name.lower(): value for name, value in response.headers.items()})
