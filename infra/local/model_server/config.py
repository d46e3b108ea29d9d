"""The model server's settings, read from the environment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

_DEFAULT_PORT = 4000
_DEFAULT_TOKENS_PER_SECOND = 200.0
_HIGHEST_PORT = 65535


class ConfigError(ValueError):
    """An environment variable has a value that the server cannot use; the message names both."""


@dataclass(frozen=True, slots=True)
class Config:
    """Where to listen, what key to demand (None: no key) and how fast to write (0: as fast as possible)."""

    host: str = "127.0.0.1"
    port: int = _DEFAULT_PORT
    api_key: str | None = None
    tokens_per_second: float = _DEFAULT_TOKENS_PER_SECOND

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Config":
        """Read ``HOST``, ``PORT``, ``LITELLM_API_KEY`` and ``MODEL_TOKENS_PER_SECOND``.

        An empty variable counts as unset. Raises ConfigError on a value that is out of range or no number.
        """
        return cls(
            host=environment.get("HOST") or "127.0.0.1",
            port=_port(environment.get("PORT") or str(_DEFAULT_PORT)),
            api_key=environment.get("LITELLM_API_KEY") or None,
            tokens_per_second=_rate(environment.get("MODEL_TOKENS_PER_SECOND") or str(_DEFAULT_TOKENS_PER_SECOND)),
        )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= _HIGHEST_PORT):
        raise ConfigError(f"PORT must be a number from 1 to {_HIGHEST_PORT}, not {text!r}")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (math.isfinite(rate) and rate >= 0):
        raise ConfigError(f"MODEL_TOKENS_PER_SECOND must be a number of at least 0, not {text!r}")
    return rate
