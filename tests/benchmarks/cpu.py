"""The processor time of processes and their children, from Linux' /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/<pid>/stat, counted from the one after the command's name: the parent, and utime, stime, cutime, cstime.
_PARENT = 1
_TIMES = slice(11, 15)


def seconds(roots: Iterable[int]) -> float:
    """Return the processor seconds of processes and everything they started, also of what has ended by now.

    A child that was waited for counts in its parent's cutime and cstime: the backends and workers of a PostgreSQL that came and
    went are in its postmaster's.
    """
    ticks, parents = _table()
    wanted = {root for root in roots if root in ticks}
    while more := {pid for pid, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return sum(ticks[pid] for pid in wanted) / _TICKS_A_SECOND


def by_part(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Return the processor seconds of each part."""
    return {name: seconds(roots) for name, roots in parts.items()}


def _table() -> tuple[dict[int, int], dict[int, int]]:
    """Return the clock ticks and the parent of each process there is."""
    ticks: dict[int, int] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = stat.rpartition(")")[2].split()
        ticks[int(entry.name)] = sum(map(int, fields[_TIMES]))
        parents[int(entry.name)] = int(fields[_PARENT])
    return ticks, parents
