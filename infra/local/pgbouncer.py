"""PgBouncer before the embedded PostgreSQL, with the configuration that a cluster gets."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from infra.local.process import ChildProcess, PartError
from infra.local.unprivileged import allow_traversal, ensure_account, is_root

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIGURATION = Path(__file__).resolve().parents[1] / "pgbouncer" / "pgbouncer.ini"
POOL_SIZE = 3
"""Connections to PostgreSQL for each role: enough for a laptop, and so few that requests which need two at once get stuck."""
STATISTICS_ROLE = "stats"
"""May ask PgBouncer itself, in the database `pgbouncer`, how full its pools are; no role of PostgreSQL."""

_ACCOUNT = "pgbouncer"
_HOST = "127.0.0.1"
# Debian has it where not every account looks.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_START_TIMEOUT_SECONDS = 20.0
_POLL_SECONDS = 0.02


def pgbouncer() -> str | None:
    """Return the program's path, or None where it is not installed."""
    return shutil.which("pgbouncer", path=_PATH)


class Pgbouncer:
    """PgBouncer on `127.0.0.1:port` before the PostgreSQL on `server_port`, for the roles whose passwords it is given.

    `folder` gets what infra/pgbouncer/pgbouncer.ini includes.
    """

    def __init__(
        self, folder: Path, port: int, server_port: int, passwords: Mapping[str, str], *, log_path: Path
    ) -> None:
        program = pgbouncer()
        if program is None:
            raise PartError("no pgbouncer on PATH: `apt-get install pgbouncer`, or leave PGBOUNCER unset")
        self.port = port
        self._folder = folder.absolute()
        self._server_port = server_port
        self._passwords = dict(passwords)
        self._process = ChildProcess(
            "pgbouncer", (program, str(CONFIGURATION)), env=os.environ, cwd=self._folder, log_path=log_path
        )

    @property
    def pid(self) -> int | None:
        """The process id while started."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.running

    def url(self, database: str, *, user: str, password: str) -> str:
        """Return a `postgresql://` URL."""
        return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{_HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start it and return once it takes connections; raises PartError with the end of its log."""
        if self.running:
            return
        self._configure()
        self._process.start()
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, whoever is connected; the server's connections are closed."""
        self._process.stop()

    def _configure(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        site = [
            f"listen_addr = {_HOST}",
            f"listen_port = {self.port}",
            f"default_pool_size = {POOL_SIZE}",
        ]
        files = [self._folder / "site.ini", self._folder / "userlist.txt"]
        if is_root():
            # It refuses to run as root, and changes to the account by itself.
            account = ensure_account(_ACCOUNT)
            allow_traversal(files[0])
            site.append(f"user = {account.name}")
        site += ["[databases]", f"* = host={_HOST} port={self._server_port}"]
        users = [f'"{role}" "{password}"' for role, password in self._passwords.items()]
        for path, lines in zip(files, (site, users), strict=True):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while True:
            if not self._process.running:
                raise PartError(f"PgBouncer ended (status {self._process.exit_status}):\n{self._process.log_tail()}")
            try:
                socket.create_connection((_HOST, self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline:
                    raise PartError(f"PgBouncer takes no connections:\n{self._process.log_tail()}") from None
                time.sleep(_POLL_SECONDS)
            else:
                return
