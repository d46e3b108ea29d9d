"""Starting a server as a cluster does, and looking at it until it answers."""

from __future__ import annotations

import http.client
import subprocess
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from infra.local.ports import HOST
from infra.local.process import ChildProcess, PartError

_POLL_SECONDS = 0.002
_TIMEOUT_SECONDS = 30.0
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds from the process's start to its first 200, and its resident bytes then."""

    seconds: float
    resident_bytes: int


def start_once(process: ChildProcess, port: int, path: str) -> Start:
    """Start the server, wait for the first 200 on a path, and end it; raises PartError when none comes."""
    began = time.perf_counter()
    process.start()
    try:
        answered = _first_ok(port, path, process)
        return Start(answered - began, resident_bytes(process.pid))
    finally:
        process.stop()


def _first_ok(port: int, path: str, process: ChildProcess) -> float:
    """Return the clock (time.perf_counter) at the first 200."""
    deadline = time.perf_counter() + _TIMEOUT_SECONDS
    while not _answers(port, path):
        if not process.running or time.perf_counter() > deadline:
            raise PartError(f"{process.name} does not answer {path}:\n{process.log_tail()}")
        time.sleep(_POLL_SECONDS)
    return time.perf_counter()


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def resident_bytes(pid: int | None) -> int:
    """Return a process's resident set: from /proc where there is one, else from ps(1), which prints KiB too."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        [line] = [line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * _KIB
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(shown.stdout) * _KIB
