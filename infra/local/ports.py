"""Which part listens where, how a port is moved, and what is said when one is taken."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOST = "127.0.0.1"

POSTGRES = "postgres"
REDIS = "redis"
PGBOUNCER = "pgbouncer"
MODEL_SERVER = "model-server"
BROKER = "broker"
JOB_SINK = "job-sink"

# The runbook's ports (section 1.4) where it has one.
DEFAULTS: dict[str, int] = {
    POSTGRES: 5432,
    REDIS: 6379,
    PGBOUNCER: 6432,
    MODEL_SERVER: 4000,
    BROKER: 8010,
    "health": 8000,
    "chat": 8001,
    "ingestion": 8002,
    "routing": 8003,
    "ingestion-worker": 8004,
    "inference-standard": 8005,
    "sweeper": 8006,
    "identity": 8007,
    "model-prober": 8008,
    "openai-api": 8009,
    "inference-light": 8011,
    "inference-heavy": 8012,
    "retrieval": 8013,
    "embedding": 8014,
    "dead-letters": 8015,
    "maintenance": 8016,
    JOB_SINK: 8017,
}

_OFFSET = "PORT_OFFSET"
_LOWEST, _HIGHEST = 1, 65535
# Below Linux' range of ephemeral ports (32768 and up): no outgoing connection takes one of these in between.
_FREE_RANGE = range(18_000, 32_000)
_ATTEMPTS = 1_000


class PortError(RuntimeError):
    """A port is taken or not usable; the message names the port, the part, and the variable that moves it."""


def variable(part: str) -> str:
    """Return the environment variable that moves a part's port: `PORT_MODEL_SERVER` for `model-server`."""
    return "PORT_" + part.upper().replace("-", "_")


def from_environment(parts: Iterable[str], environ: Mapping[str, str]) -> dict[str, int]:
    """Return each part's port: its variable where set, otherwise its default plus PORT_OFFSET.

    Raises PortError for a value that is no port, a part without a default, and two parts on one port.
    """
    offset = _number(environ.get(_OFFSET) or "0", _OFFSET)
    ports: dict[str, int] = {}
    for part in parts:
        name = variable(part)
        if environ.get(name):
            port = _number(environ[name], name)
        elif part in DEFAULTS:
            port = DEFAULTS[part] + offset
        else:
            raise PortError(f"{part} has no default port: set {name}, or give it one in infra/local/ports.py")
        if not _LOWEST <= port <= _HIGHEST:
            raise PortError(f"{port} is no port ({part}, moved by {name} or {_OFFSET})")
        if port in ports.values():
            other = next(p for p, taken in ports.items() if taken == port)
            raise PortError(f"{part} and {other} are both to use port {port}; {name} moves the former")
        ports[part] = port
    return ports


def free(parts: Iterable[str]) -> dict[str, int]:
    """Return a free port for each part, at random, so that stacks started side by side rarely meet."""
    chosen: dict[str, int] = {}
    for part in parts:
        for _ in range(_ATTEMPTS):
            port = secrets.choice(_FREE_RANGE)
            if port not in chosen.values() and is_free(port):
                chosen[part] = port
                break
        else:
            raise PortError(f"no free port for {part} between {_FREE_RANGE.start} and {_FREE_RANGE.stop}")
    return chosen


def check(ports: Mapping[str, int]) -> None:
    """Raise PortError naming every part whose port somebody else listens on."""
    taken = [
        f"port {port} for {part} is taken; move it with {variable(part)}=<port>"
        for part, port in ports.items()
        if not is_free(port)
    ]
    if taken:
        raise PortError("\n".join([*taken, f"{_OFFSET}=<n> moves all ports at once."]))


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of the past in TIME_WAIT does not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _number(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise PortError(f"{name}={text!r} is no number") from error
