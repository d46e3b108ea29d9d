"""What processes cost: memory and CPU of each part of a stack, with the processes it has started itself."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat, counted from the one after the command's name, which is the state.
_PARENT, _USER, _SYSTEM, _RESIDENT = 1, 11, 12, 21


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of CPU since the start, and resident bytes (what processes share counts in each)."""

    cpu_seconds: float
    resident_bytes: int


def costs(roots: Mapping[str, int], *, alone: Mapping[str, int]) -> dict[str, Cost]:
    """Return what each part costs, by the process id of its first process; `alone` are counted without their children."""
    stats: dict[int, list[str]] = {}
    for path in _PROC.iterdir():
        if path.name.isdigit():
            try:
                stats[int(path.name)] = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
    children = defaultdict(list)
    for pid, stat in stats.items():
        children[int(stat[_PARENT])].append(pid)
    parts = {name: _sum(pid, stats, children) for name, pid in roots.items()}
    return parts | {name: _sum(pid, stats, {}) for name, pid in alone.items()}


def _sum(pid: int, stats: Mapping[int, list[str]], children: Mapping[int, list[int]]) -> Cost:
    cpu, resident, todo = 0.0, 0, [pid]
    while todo:
        one = todo.pop()
        if (stat := stats.get(one)) is not None:
            cpu += (int(stat[_USER]) + int(stat[_SYSTEM])) / _TICKS
            resident += int(stat[_RESIDENT]) * _PAGE
            todo += children.get(one, [])
    return Cost(cpu, resident)
