"""Running a module as a server process, for a test or a benchmark."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from infra.local import ports
from infra.local.ports import HOST
from infra.local.process import ChildProcess, PartError
from infra.local.readiness import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
_TIMEOUT_SECONDS = 60.0


@contextmanager
def server(
    name: str, module: str, folder: Path, *, port: int | None = None, **variables: str
) -> Iterator[tuple[str, int]]:
    """Run a module that listens on HOST and PORT (a free one by default); yield its URL and process id.

    It is ready when it answers GET /health. Its log is in `folder`. Raises PartError.
    """
    port = port or ports.free([name])[name]
    process = ChildProcess(
        name,
        (sys.executable, "-m", module),
        env={**os.environ, **variables, "HOST": HOST, "PORT": str(port)},
        cwd=ROOT,
        log_path=folder / f"{name}.log",
    )
    url = f"http://{HOST}:{port}"
    process.start()
    try:
        wait_until_ready(process, f"{url}/health", timeout=_TIMEOUT_SECONDS, abort=Event())
        if process.pid is None:
            raise PartError(f"{name} was not started")
        yield url, process.pid
    finally:
        process.stop()
