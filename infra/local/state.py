"""The folder in which a local stack keeps everything: data, secrets, logs, and the record of what runs."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING

from infra.local.ports import PGBOUNCER, POSTGRES, REDIS
from infra.local.process import birth, end_group, signal_group

if TYPE_CHECKING:
    from pathlib import Path

_MARKER = ".enterprise-agents-local-state"
_LARGE_LOG_BYTES = 5 * 1024 * 1024
_STORES = frozenset({POSTGRES, PGBOUNCER, REDIS})
_PATIENCE_SECONDS = 5.0
_HOLDER_ATTEMPTS = 50
_HOLDER_POLL_SECONDS = 0.02


class StateError(RuntimeError):
    """The state folder is not ours, in use, or has no running stack; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process as recorded: its id, and what tells it from a later process with the same id."""

    pid: int
    birth: str | None

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return self.birth is not None and birth(self.pid) == self.birth

    @classmethod
    def of(cls, pid: int) -> Running:
        """Describe a process that runs now."""
        return cls(pid, birth(pid))


@dataclass(slots=True)
class Record:
    """What `stack.json` says about a started stack; `variables` are the URLs of its stores by role."""

    urls: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Running] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)


class StateDir:
    """The state folder `path`: its layout, its lock, and its record.

    `create` makes it; a folder with other contents is refused, so that `delete` never removes what is not
    ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.postgres = self.path / "postgres" / "data"
        self.redis = self.path / "redis"
        self.pgbouncer = self.path / "pgbouncer"
        self._record_file = self.path / "stack.json"
        self._lock_file = self.path / "lock"
        self._lock: IO[str] | None = None

    @property
    def ours(self) -> bool:
        """Whether this is a state folder."""
        return (self.path / _MARKER).is_file()

    def create(self) -> None:
        """Make the folder, or accept one of ours; raises StateError for a folder with other contents."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.ours:
            if any(self.path.iterdir()):
                raise StateError(f"{self.path} holds other files; set LOCAL_STATE_DIR to a folder of its own")
            (self.path / _MARKER).write_text("Made by the local stack; `make dev-reset` deletes this folder.\n")
        self.logs.mkdir(exist_ok=True)
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > _LARGE_LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))

    def acquire(self) -> None:
        """Hold the folder while this process lives; raises StateError when another one does."""
        lock = self._lock_file.open("a+", encoding="ascii")
        for _ in range(_HOLDER_ATTEMPTS):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if self.holder() is not None:
                    lock.close()
                    hint = "`make dev-status` shows it, `make dev-stop` ends it"
                    raise StateError(f"a stack runs in {self.path} already; {hint}") from None
            # Somebody was just looking who holds it.
            time.sleep(_HOLDER_POLL_SECONDS)
        else:
            raise StateError(f"{self._lock_file} is locked by an unknown process")
        lock.truncate(0)
        lock.write(f"{os.getpid()} {birth(os.getpid())}")
        lock.flush()
        self._lock = lock

    def release(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def holder(self) -> int | None:
        """Return the id of the process that holds the folder, or None when nobody does."""
        for _ in range(_HOLDER_ATTEMPTS):
            try:
                lock = self._lock_file.open(encoding="ascii")
            except FileNotFoundError:
                return None
            with lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    pid, _, born = lock.read().partition(" ")
                    if pid and birth(int(pid)) == born:
                        return int(pid)
                else:
                    return None
            # Its holder is between taking the lock and writing down who it is, or the reverse.
            time.sleep(_HOLDER_POLL_SECONDS)
        raise StateError(f"{self._lock_file} is locked by an unknown process")

    def password(self, role: str) -> str:
        """Return the password of a login role, made at first use and kept (0600)."""
        path = self.path / "passwords.json"
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if role not in known:
            known[role] = secrets.token_urlsafe(24)
            _write_private(path, json.dumps(known))
        return known[role]

    def write_record(self, record: Record) -> None:
        """Write `stack.json` (0600: it holds passwords), whole or not at all."""
        _write_private(self._record_file, json.dumps(asdict(record), indent=2))

    def read_record(self) -> Record | None:
        """Return the record of the stack that was started last, unless it was stopped."""
        try:
            data = json.loads(self._record_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Record(
            urls=data["urls"],
            processes={name: Running(**process) for name, process in data["processes"].items()},
            variables=data["variables"],
        )

    def forget_record(self) -> None:
        """Remove `stack.json`: nothing runs any more."""
        self._record_file.unlink(missing_ok=True)

    def end_leftovers(self) -> list[str]:
        """End what a supervisor that was killed left running; return the names of those parts.

        Only for the holder of the folder: whatever runs of the last stack is then a leftover.
        """
        record = self.read_record()
        if record is None:
            return []
        alive = [(name, process) for name, process in record.processes.items() if process.alive]
        # Clients first: stores would write many complaints of theirs into the logs.
        for stores in (False, True):
            chosen = [(name, process) for name, process in alive if (name in _STORES) == stores]
            for name, process in chosen:
                # PostgreSQL takes SIGINT as fast shutdown; at SIGTERM it would wait for its clients.
                signal_group(process.pid, signal.SIGINT if name == POSTGRES else signal.SIGTERM)
            for name, process in chosen:
                end_group(process.pid, _PATIENCE_SECONDS, first=signal.SIGINT if name == POSTGRES else signal.SIGTERM)
        self.forget_record()
        return [name for name, _ in alive]

    def delete(self) -> None:
        """Delete the folder with everything in it; raises StateError unless it is a state folder of ours."""
        if not self.ours:
            raise StateError(f"{self.path} is no state folder of the local stack; nothing was deleted")
        # The marker goes last: an interrupted deletion can be repeated.
        for entry in self.path.iterdir():
            if entry.name == _MARKER:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (self.path / _MARKER).unlink()
        self.path.rmdir()


def _write_private(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
