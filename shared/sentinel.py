"""Redis behind Sentinel: the sentinels say which server is the primary, and the client asks them for each connection it makes.

`redis+sentinel://[user]:password@host:26379,host:26379/service[/database]`, or `rediss+sentinel://` where the servers and the
sentinels speak TLS. The sentinels get the same user and password; `?sentinel_password=` names theirs where it is another one,
or none. A command that meets a failover fails as one does that meets a Redis that restarts, and later ones reach the new
primary: a server that is demoted closes the connections of its clients.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from redis.asyncio import Redis

SCHEMES = frozenset({"redis+sentinel", "rediss+sentinel"})
DEFAULT_PORT = 26379
PATIENCE_SECONDS = 0.2
"""A sentinel that takes longer to connect or to answer is passed over.

Two that are dead leave time for the third within the patience of a rate limit.
"""


@dataclass(frozen=True)
class Watched:
    """A service that sentinels watch, with the `username` and `password`, where there are any, for its servers and for them."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    database: int
    tls: bool
    credentials: dict[str, str] = field(repr=False)
    sentinel_credentials: dict[str, str] = field(repr=False)


def watched(url: str) -> Watched:
    """Return what a URL of SCHEMES names; raises ValueError, which does not repeat the URL."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.removeprefix("/").partition("/")
    options = parse_qs(parts.query, keep_blank_values=True)
    sentinels = tuple(map(_address, hosts.split(",")))
    if not service or not (database or "0").isdigit():
        raise ValueError("must name the service that the sentinels watch: .../mymaster or .../mymaster/0")
    if set(options) - {"sentinel_password"}:
        raise ValueError("takes no option but sentinel_password")
    user, _, password = map(unquote, login.partition(":"))
    credentials = _credentials(user, password)
    [*_, own] = options.get("sentinel_password", [None])
    return Watched(
        sentinels=sentinels,
        service=service,
        database=int(database or 0),
        tls=parts.scheme.startswith("rediss"),
        credentials=credentials,
        sentinel_credentials=credentials if own is None else _credentials("", own),
    )


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise ValueError("must name each sentinel as host or host:port, with commas between them")
    return parts.hostname, port or DEFAULT_PORT


def _credentials(user: str, password: str) -> dict[str, str]:
    return {name: value for name, value in (("username", user), ("password", password)) if value}


def client(url: str, **options: Any) -> "Redis":
    """Return a client of the primary; `options` are those of its connections. Raises ValueError."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff

    class Primary(Redis):
        """The client of the primary: with it the sentinels' connections are closed."""

        async def aclose(self, close_connection_pool: bool | None = None) -> None:
            await super().aclose(close_connection_pool)
            await sentinel.aclose()

    service = watched(url)
    tls = {"ssl": True} if service.tls else {}
    options |= {"db": service.database, **service.credentials, **tls}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        service.sentinels,
        sentinel_kwargs={
            "socket_connect_timeout": PATIENCE_SECONDS,
            "socket_timeout": PATIENCE_SECONDS,
            # The next sentinel is asked instead.
            "retry": Retry(NoBackoff(), 0),
            **service.sentinel_credentials,
            **tls,
        },
    )
    primary: Redis = sentinel.master_for(service.service, redis_class=Primary, **options)
    return primary
