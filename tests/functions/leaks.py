"""Looks for secrets in what was logged: the deployment's, those that a test made or sent, and whatever looks like one."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from shared.logs import JsonFormatter
from shared.settings import DEV_JWT_SECRET, DEV_SECRET_KEY, Settings
from tests.support import ISSUED, PASSWORDS, TEST_ENVIRONMENT

SHORTEST = 7
"""What is shorter is a word that a log line may hold for another reason."""
PATTERNS = {
    "a token": re.compile(r"eyJ[\w-]{10,}\.[\w-]+\.[\w-]*"),
    "an API key": re.compile(r"eak_[0-9a-f]{32}_[0-9a-f]{32}_[\w-]{43}"),
    "a password in a URL": re.compile(r"[a-z]://[^\s/@:]*:[^\s/@]+@"),
}
VARIABLES = tuple(name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation))
PUBLISHED = {
    **{f"the password of {role}": password for role, password in PASSWORDS.items()},
    "LITELLM_API_KEY": TEST_ENVIRONMENT["LITELLM_API_KEY"],
    "DEV_JWT_SECRET": DEV_JWT_SECRET,
    "SECRET_KEY": DEV_SECRET_KEY,
}


def passwords(urls: Iterable[str]) -> Iterator[str]:
    """Yield the passwords that URLs hold."""
    for url in urls:
        if password := urlsplit(url).password:
            yield password


def parts(credential: str) -> Iterator[str]:
    """Yield what of a credential must not be logged: itself, and what makes it secret (signature, or secret of a key)."""
    yield credential
    yield credential.split("_", 3)[3] if PATTERNS["an API key"].fullmatch(credential) else credential.rpartition(".")[2]


def leaks(text: str, secrets: Iterable[str]) -> set[str]:
    """Return what kinds of secrets a text holds; no message repeats one."""
    found = {kind for kind, pattern in PATTERNS.items() if pattern.search(text)}
    found |= {kind for kind, secret in PUBLISHED.items() if secret in text}
    known = {part for secret in secrets for part in parts(secret) if len(part) >= SHORTEST}
    return found | {f"a secret of {len(secret)} characters" for secret in known if secret in text}


class Watch(logging.Handler):
    """Keeps everything that is logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []
        self._variables: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, and the deployment's secrets at this moment."""
        self.lines.append(self.format(record))
        values = {os.environ.get(name, "") for name in VARIABLES}
        self._variables |= {value for value in values if "://" not in value} | set(passwords(values))

    def leaked(self) -> list[str]:
        """Return what was logged and must not be: the lines' events, each with the kinds of secrets."""
        found = leaks("\n".join(self.lines), ISSUED | self._variables)
        return [f"{sorted(found)} in {self._where()}"] if found else []

    def _where(self) -> list[str]:
        known = ISSUED | self._variables
        return [f"line {number}: {line[:60]}" for number, line in enumerate(self.lines) if leaks(line, known)]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to every logger, from the level of production on."""
        root = logging.getLogger()
        level = root.level
        root.addHandler(self)
        root.setLevel(min(level, logging.INFO))
        try:
            yield
        finally:
            root.removeHandler(self)
            root.setLevel(level)
