"""Waiting until a part that was started answers."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from infra.local.ports import MODEL_SERVER
from infra.local.process import ChildProcess, PartError

if TYPE_CHECKING:
    from threading import Event

_POLL_SECONDS = 0.05
_PROBE_TIMEOUT_SECONDS = 5.0
_OK = 200


def wait_until_ready(process: ChildProcess, url: str, *, timeout: float, abort: Event) -> None:
    """Return once `url` answers 200.

    Raises PartError with the end of the log when the process ends, when it is not ready after `timeout`
    seconds, or when `abort` is set.
    """
    deadline = time.monotonic() + timeout
    while not answers(url):
        if not process.running:
            raise PartError(f"{process.name} ended at start (status {process.exit_status}):\n{process.log_tail()}")
        if time.monotonic() > deadline:
            raise PartError(f"{process.name} is not ready after {timeout:g} s:\n{process.log_tail()}")
        if abort.wait(_POLL_SECONDS):
            raise PartError(f"{process.name}: the start was given up")


def health_path(part: str) -> str:
    """Return the path below a part's URL that answers 200 when it is ready."""
    return "/health" if part == MODEL_SERVER else "/health/ready"


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200 at once."""
    # No proxy: these are loopback addresses, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PROBE_TIMEOUT_SECONDS) as response:
            return bool(response.status == _OK)
    except (urllib.error.URLError, OSError):
        return False
