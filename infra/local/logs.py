"""Following the log files of a stack, each line behind the name of the part that wrote it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

_POLL_SECONDS = 0.25
_TAIL_BYTES = 64 * 1024


@dataclass(slots=True)
class _Follower:
    """Reads complete lines of one growing file."""

    path: Path
    offset: int = 0
    rest: bytes = b""

    def lines(self) -> Iterator[str]:
        if self.path.stat().st_size < self.offset:
            self.offset, self.rest = 0, b""  # the file was replaced by a new one
        with self.path.open("rb") as log:
            log.seek(self.offset)
            data = self.rest + log.read()
            self.offset = log.tell()
        *complete, self.rest = data.split(b"\n")
        for line in complete:
            yield line.decode("utf-8", "replace")


def tail(
    folder: Path,
    names: Collection[str],
    *,
    last: int,
    follow: bool,
    write: Callable[[str], None] = print,
) -> None:
    """Write the last lines of each log (of `names`, or of every part), then, with `follow`, each new line.

    Raises FileNotFoundError for a name that has no log.
    """
    for name in names:
        if not (folder / f"{name}.log").exists():
            known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none"
            raise FileNotFoundError(f"there is no log of {name}; there are: {known}")
    followers: dict[str, _Follower] = {}
    while True:
        for path in sorted(folder.glob("*.log")):
            name = path.stem
            if names and name not in names:
                continue
            fresh = name not in followers
            if fresh:
                followers[name] = _Follower(path, offset=max(0, path.stat().st_size - _TAIL_BYTES))
            lines = list(followers[name].lines())
            for line in lines[-last:] if fresh and last else ([] if fresh else lines):
                write(f"{name:<16} | {line}")
        if not follow:
            return
        time.sleep(_POLL_SECONDS)
