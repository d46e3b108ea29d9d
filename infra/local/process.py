"""Child processes of the local stack: each in a session of its own, ended by process id, verified gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_POLL_SECONDS = 0.02
_KILL_PATIENCE_SECONDS = 5.0
_PROC = Path("/proc/self")
# Fields of /proc/<pid>/stat, counted from the one after the command's name, which is the state.
_STAT_PGRP = 2
_STAT_STARTTIME = 19


class PartError(RuntimeError):
    """A part of the stack cannot be started or stopped."""


class Part(Protocol):
    """One server of the stack; `start` and `stop` return when it is started or gone, and may be repeated."""

    @property
    def pid(self) -> int | None:
        """The process id while started."""

    @property
    def running(self) -> bool:
        """Whether the process is alive."""

    def start(self) -> None:
        """Start it; raises PartError."""

    def stop(self) -> None:
        """End it and wait for its end; raises PartError when it cannot be ended."""


class ChildProcess:
    """A command with its output in `log_path`, in its own process group.

    `patience` is the seconds from SIGTERM to SIGKILL. `input_text` is written to its standard input.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_path: Path,
        patience: float = 10.0,
        input_text: str | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.env = dict(env)
        self.cwd = cwd
        self.log_path = log_path
        self._patience = patience
        self._input = input_text
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id; None before `start` and after `stop`."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """The exit status once it ended (negative: by which signal), None before."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the command, unless it runs; raises PartError when there is no such program."""
        if self.running:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            try:
                process = subprocess.Popen(
                    self.command,
                    env=self.env,
                    cwd=self.cwd,
                    stdin=subprocess.DEVNULL if self._input is None else subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C in a terminal reaches only the supervisor, which stops all in order.
                    start_new_session=True,
                )
            except OSError as error:
                raise PartError(f"{self.name}: cannot start {self.command[0]}: {error}") from error
        if self._input is not None and process.stdin is not None:
            with process.stdin as stdin:
                stdin.write(self._input.encode())
        self._process = process

    def stop(self) -> None:
        """Ask the whole group to end, insist after `patience`, and wait until no process of it is left."""
        process = self._process
        if process is None:
            return
        end_group(process.pid, self._patience, reap=process.poll)
        process.wait(_KILL_PATIENCE_SECONDS)
        self._process = None

    def wait(self, timeout: float) -> int:
        """Wait for its end and return its exit status; raises PartError after `timeout` seconds."""
        if self._process is None:
            raise PartError(f"{self.name} was not started")
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise PartError(f"{self.name} did not end within {timeout:g} s") from error

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines it wrote since its last start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            text = log.read().decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])


def program(command: Sequence[str]) -> tuple[str, ...]:
    """Return a container's command as it is called here: the image's `python` is this interpreter."""
    return (sys.executable if command[0] == "python" else command[0], *command[1:])


def end_group(
    pid: int,
    patience: float,
    *,
    first: signal.Signals = signal.SIGTERM,
    reap: Callable[[], object] | None = None,
) -> None:
    """End the process group that `pid` leads: `first`, then SIGKILL after `patience` seconds.

    Returns when it is gone; raises PartError when something of it survives. `reap` is called between looks,
    so that an ended child of ours does not linger as a zombie.
    """
    for sign, seconds in ((first, patience), (signal.SIGKILL, _KILL_PATIENCE_SECONDS)):
        signal_group(pid, sign)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if reap is not None:
                reap()
            if not _group_alive(pid):
                return
            time.sleep(_POLL_SECONDS)
    raise PartError(f"process group {pid} does not end")


def signal_group(pid: int, sign: signal.Signals) -> None:
    """Send a signal to the process group that `pid` leads, if there is one."""
    # macOS refuses with EPERM when only zombies are left of it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, sign)


def birth(pid: int) -> str | None:
    """Return what tells this process from a later one with the same id; None when it is gone or a zombie.

    On Linux the start time in clock ticks since boot, elsewhere the start time as ps(1) prints it.
    """
    if _PROC.exists():
        fields = _stat(pid)
        return None if fields is None or fields[0] == "Z" else fields[_STAT_STARTTIME]
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return shown or None


def _group_alive(group: int) -> bool:
    """Whether a process of the group is alive; zombies, which an init that reaps nothing keeps, are not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not _PROC.exists():
        return True
    found = (_stat(int(entry.name)) for entry in _PROC.parent.iterdir() if entry.name.isdigit())
    return any(fields[0] != "Z" and fields[_STAT_PGRP] == str(group) for fields in found if fields is not None)


def _stat(pid: int) -> list[str] | None:
    """Return the fields of Linux' /proc/<pid>/stat after the command's name, or None without such a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
