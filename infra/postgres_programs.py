"""PostgreSQL's own client programs: which ones to run, and how they learn where the server is."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

VERSION = re.compile(rb"\(PostgreSQL\) (\d+)")


class ProgramError(Exception):
    """A program is missing, too old, or has failed; the message says what to do."""


def client(name: str, major: int) -> Path:
    """Return the program that fits a server of a major version best; raises ProgramError when there is none.

    A dump is readable by the server's own version and later ones, so that the oldest program that is not older than the
    server is right. Those looked at are the one on PATH and the embedded server's.
    """
    found = {path: version for path in _candidates(name) if (version := _major(path)) is not None}
    fitting = [path for path, version in found.items() if version >= major]
    if fitting:
        return min(fitting, key=lambda path: found[path])
    seen = "; ".join(f"{path} is of version {version}" for path, version in found.items()) or "there is none"
    raise ProgramError(
        f"{name} of PostgreSQL {major} or later is needed, and {seen}. Install postgresql-client-{major} and put it on PATH"
    )


def any_client(name: str) -> Path:
    """Return the program of whatever version, the one on PATH first; raises ProgramError."""
    for path in _candidates(name):
        if _major(path) is not None:
            return path
    raise ProgramError(f"there is no {name}. Install postgresql-client and put it on PATH")


def connection(url: str) -> tuple[dict[str, str], str]:
    """Return libpq's environment variables for a connection, and what has no variable as a connection string.

    A password on a command line could be read by every account of the machine.
    """
    named: dict[str, str] = {}
    rest: dict[str, str] = {}
    for option in Conninfo.parse(url.encode()):
        if option.val is None:
            continue
        keyword, value = option.keyword.decode(), option.val.decode()
        if option.envvar is None:
            rest[keyword] = value
        else:
            named[option.envvar.decode()] = value
    return named, make_conninfo("", **rest)


def _candidates(name: str) -> list[Path]:
    on_path = shutil.which(name)
    found = [] if on_path is None else [Path(on_path)]
    try:
        # The image has neither this module nor the server.
        from infra.local.postgres import PostgresError, binaries
    except ModuleNotFoundError:
        return found
    try:
        embedded = binaries() / name
    except PostgresError:
        return found
    return [*found, embedded] if embedded.is_file() else found


@cache
def _major(path: Path) -> int | None:
    """Return a program's major version; None for one that does not run."""
    try:
        told = subprocess.run([path, "--version"], capture_output=True, check=False).stdout  # noqa: S603 - found by name
    except OSError:
        return None
    match = VERSION.search(told)
    return int(match[1]) if match else None
