"""Keeps a stack's parts alive: what ends by itself is started again with back-off, as Kubernetes does."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.local.process import Part, PartError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_POLL_SECONDS = 0.05
_FIRST_DELAY_SECONDS = 0.2
_LONGEST_DELAY_SECONDS = 10.0
# Alive for this long, a part has earned that its next end counts as its first.
_STABLE_SECONDS = 30.0


@dataclass(slots=True)
class _Watch:
    started: float
    delay: float = _FIRST_DELAY_SECONDS
    due: float | None = None


class Supervisor:
    """Watches parts from a thread of its own between `start` and `stop`.

    `report` gets a line for each end and restart, `changed` is called after a restart (process ids are new).
    """

    def __init__(
        self, parts: Mapping[str, Part], *, report: Callable[[str], None], changed: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._report = report
        self._changed = changed
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; on return no part is being started any more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        now = time.monotonic()
        watches = {name: _Watch(started=now) for name in self._parts}
        while not self._stopped.wait(_POLL_SECONDS):
            for name, part in self._parts.items():
                if not part.running:
                    self._revive(name, part, watches[name], time.monotonic())

    def _revive(self, name: str, part: Part, watch: _Watch, now: float) -> None:
        if watch.due is None:
            if now - watch.started > _STABLE_SECONDS:
                watch.delay = _FIRST_DELAY_SECONDS
            watch.due = now + watch.delay
            self._report(f"{name} ended by itself; starting it again in {watch.delay:g} s")
            watch.delay = min(watch.delay * 2, _LONGEST_DELAY_SECONDS)
            return
        if now < watch.due or self._stopped.is_set():
            return
        watch.due = None
        watch.started = now
        try:
            part.stop()  # also what it may have left behind in its process group
            part.start()
        except PartError as error:
            self._report(f"{name} cannot be started again: {error}")
            return
        self._report(f"{name} runs again (pid {part.pid})")
        self._changed()
