"""The embedded PostgreSQL: the one module that knows which wheel carries the binaries and how to run them.

For development and tests. The server is a child process of ours, speaks TCP on 127.0.0.1 only, and asks for a
password (scram-sha-256) even there, because other accounts of the same machine can reach a loopback port.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self
from urllib.parse import quote

from infra.local.process import PartError
from infra.local.unprivileged import Account, allow_reading, allow_traversal, ensure_account, is_root

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_WHEEL = "pgserver"
_SYSTEM_USER = "pgserver"
_HOST = "127.0.0.1"
_LOG_TAIL_LINES = 20
_POLL_SECONDS = 0.02
_STATUS_LINE = 7  # of postmaster.pid, counted from 0: "starting", "ready", "standby", "stopping"

_DEFAULTS: dict[str, str] = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class PostgresError(PartError):
    """The embedded PostgreSQL cannot be found, started or stopped; the message holds the end of its log."""


def binaries() -> Path:
    """Return the directory of the wheel's PostgreSQL programs, without importing the wheel.

    Raises PostgresError when the wheel is not installed or carries no server for this platform.
    """
    spec = importlib.util.find_spec(_WHEEL)
    roots = spec.submodule_search_locations if spec is not None else None
    for root in roots or ():
        bin_dir = Path(root) / "pginstall" / "bin"
        if (bin_dir / "postgres").is_file():
            return bin_dir.resolve()
    raise PostgresError("no embedded PostgreSQL: install the extra 'local', or set DATABASE_URL to a real server")


class EmbeddedPostgres:
    """A PostgreSQL server on `127.0.0.1:port` whose cluster lives in `data_dir`.

    Beside `data_dir` stand `<data_dir>.password` (the superuser's, 0600), `<data_dir>.lock` and, unless
    `log_path` says otherwise, `<data_dir>.log`. `settings` are server parameters and win over this module's.
    Use it as a context manager, or call `start` and `stop`; both raise PostgresError.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        settings: Mapping[str, str] | None = None,
        log_path: Path | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.log_path = log_path if log_path is not None else self._beside(".log")
        self._settings = {**_DEFAULTS, **(settings or {})}
        self._start_timeout = start_timeout
        self._bin_dir = binaries()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._password: str | None = None

    @property
    def bin_dir(self) -> Path:
        """Where initdb, postgres, pg_dump, psql and their like are."""
        return self._bin_dir

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None before `start` and after `stop`."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def superuser_password(self) -> str:
        """The password of `postgres`, made before the cluster is; raises PostgresError when it was lost."""
        if self._password is None:
            if not self._password_file.exists():
                if self._initialised:
                    raise PostgresError(f"the superuser's password is missing: {self._password_file}")
                self._password_file.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(secrets.token_urlsafe(24) + "\n")
            self._password = self._password_file.read_text(encoding="ascii").strip()
        return self._password

    @property
    def superuser_url(self) -> str:
        """Connection URL of the superuser for the database `postgres`."""
        return self.url("postgres")

    def url(self, database: str, *, user: str = "postgres", password: str | None = None) -> str:
        """Return a `postgresql://` URL; without `password`, only the superuser's URL carries one."""
        if password is None and user == "postgres":
            password = self.superuser_password
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{quote(user, safe='')}{secret}@{_HOST}:{self.port}/{quote(database, safe='')}"

    def start(self) -> None:
        """Make the cluster on first use, start the server, and return once it accepts connections."""
        if self.running:
            return
        self._release_lock()  # held still when the server died by itself
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        self._acquire_lock()
        try:
            account = self._prepare_account()
            if not self._initialised:
                self._initdb(account)
            self._end_orphan()
            self._launch(account)
        except BaseException:
            self._release_lock()
            raise

    def stop(self) -> None:
        """Shut down fast (open sessions are ended, nothing is lost) and return when the server is gone."""
        process = self._process
        if process is None:
            return
        try:
            # Fast, then immediate (recovery at the next start), then what no process can refuse.
            for sign, patience in ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
                if process.poll() is None:
                    process.send_signal(sign)
                try:
                    process.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    continue
            else:
                raise PostgresError(f"PostgreSQL (pid {process.pid}) does not end")
        finally:
            if process.poll() is not None:
                self._process = None
                self._release_lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _initialised(self) -> bool:
        return (self.data_dir / "PG_VERSION").exists()

    @property
    def _password_file(self) -> Path:
        return self._beside(".password")

    def _beside(self, suffix: str) -> Path:
        return self.data_dir.with_name(self.data_dir.name + suffix)

    def _acquire_lock(self) -> None:
        """Hold the cluster while this process lives; the kernel frees it however the process ends."""
        lock = self._beside(".lock").open("a", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise PostgresError(f"the PostgreSQL cluster {self.data_dir} is in use by another process") from error
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _prepare_account(self) -> Account | None:
        """Return the account to run under, with binaries and data made reachable; None means our own."""
        if not is_root():
            return None
        try:
            account = ensure_account(_SYSTEM_USER)
            allow_traversal(self._bin_dir)
            allow_reading(self._bin_dir.parent)
            allow_traversal(self.data_dir)
        except OSError as error:
            raise PostgresError(f"cannot prepare an unprivileged account for PostgreSQL: {error}") from error
        return account

    def _initdb(self, account: Account | None) -> None:
        # Into another directory, renamed when complete: an interrupted initdb never looks like a cluster.
        fresh = self._beside(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if not self.superuser_password:
            raise PostgresError(f"the superuser's password is empty: {self._password_file}")
        if account is not None:
            os.chown(fresh, account.uid, account.gid)
            os.chown(self._password_file, account.uid, account.gid)
        done = subprocess.run(
            [
                str(self._bin_dir / "initdb"),
                f"--pgdata={fresh}",
                f"--pwfile={self._password_file}",
                "--username=postgres",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "--no-instructions",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            # Without TZ, initdb compares every zone file of the machine with the clock.
            env={**os.environ, "TZ": "UTC"},
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
        if done.returncode != 0:
            raise PostgresError(f"initdb failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
        if self.data_dir.exists():
            self.data_dir.rmdir()  # fails unless empty: other contents are not ours to replace
        fresh.rename(self.data_dir)

    def _end_orphan(self) -> None:
        """End a server left behind by a killed supervisor: we hold the lock, so nobody uses it.

        A postmaster.pid whose process number belongs to somebody else by now is removed instead.
        """
        pid_file = self.data_dir / "postmaster.pid"
        pid = self._recorded_pid()
        if pid is None:
            return
        if not _is_postmaster(pid, self.data_dir):
            pid_file.unlink(missing_ok=True)
            return
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + 20.0
        while _is_postmaster(pid, self.data_dir):
            if time.monotonic() > deadline:
                raise PostgresError(f"a left-over PostgreSQL (pid {pid}) on {self.data_dir} does not end")
            time.sleep(_POLL_SECONDS)

    def _launch(self, account: Account | None) -> None:
        command = [str(self._bin_dir / "postgres"), "-D", str(self.data_dir), "-p", str(self.port)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log_path.open("ab") as log:
            log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                # Its own session: Ctrl-C in a terminal reaches only the supervisor, which stops all in order.
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
                umask=0o077,
            )
        try:
            self._wait_until_ready(self._process, log_start)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        deadline = time.monotonic() + self._start_timeout
        while True:
            status = process.poll()
            if status is not None:
                raise PostgresError(f"PostgreSQL ended at start (status {status}):\n{self._log_tail(log_start)}")
            # What pg_ctl -w does: the postmaster writes its state into its pid file.
            if self._recorded_pid() == process.pid and self._recorded_status() == "ready":
                return
            if time.monotonic() > deadline:
                raise PostgresError(
                    f"PostgreSQL is not ready after {self._start_timeout:g} s:\n{self._log_tail(log_start)}"
                )
            time.sleep(_POLL_SECONDS)

    def _recorded_pid(self) -> int | None:
        first = self._pid_file_line(0)
        return int(first) if first.isdigit() else None

    def _recorded_status(self) -> str:
        return self._pid_file_line(_STATUS_LINE)

    def _pid_file_line(self, number: int) -> str:
        try:
            lines = (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return ""
        return lines[number].strip() if len(lines) > number else ""

    def _log_tail(self, start: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(start)
            text = log.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])


def _is_postmaster(pid: int, data_dir: Path) -> bool:
    """Whether process `pid` is a PostgreSQL server on `data_dir` (and not a zombie)."""
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        command = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    return "postgres" in command and str(data_dir) in command
