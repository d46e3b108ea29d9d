"""What processes cost: processor time and memory of each part, with the processes it has started itself, from Linux' /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/<pid>/stat, counted from the one after the command's name, which is the state.
_PARENT, _RESIDENT = 1, 21
_OWN_TIMES = slice(11, 13)
_TIMES = slice(11, 15)
"""With those of children that have ended and were waited for, such as the backends of a PostgreSQL that came and went."""

_Stats = dict[int, list[str]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of CPU since the start, and resident bytes (what processes share counts in each)."""

    cpu_seconds: float
    resident_bytes: int


def costs(roots: Mapping[str, int], *, alone: Mapping[str, int]) -> dict[str, Cost]:
    """Return what each part costs, by the process id of its first process; `alone` are counted without their children."""
    stats = _stats()
    parts = {name: _cost(stats, _family([pid], stats), _TIMES) for name, pid in roots.items()}
    return parts | {name: _cost(stats, {pid} & stats.keys(), _OWN_TIMES) for name, pid in alone.items()}


def seconds(roots: Iterable[int]) -> float:
    """Return the processor seconds of processes and everything they started, also of what has ended by now."""
    stats = _stats()
    return _cost(stats, _family(roots, stats), _TIMES).cpu_seconds


def seconds_by_part(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Return the processor seconds of each part."""
    return {name: seconds(roots) for name, roots in parts.items()}


def _cost(stats: _Stats, pids: Iterable[int], times: slice) -> Cost:
    counted = [stats[pid] for pid in pids]
    ticks = sum(int(field) for stat in counted for field in stat[times])
    return Cost(ticks / _TICKS_A_SECOND, sum(int(stat[_RESIDENT]) for stat in counted) * _PAGE)


def _family(roots: Iterable[int], stats: _Stats) -> set[int]:
    """Return the processes and everything they started, as far as it lives."""
    family = {root for root in roots if root in stats}
    while more := {pid for pid, stat in stats.items() if int(stat[_PARENT]) in family} - family:
        family |= more
    return family


def _stats() -> _Stats:
    """Return the fields of each process there is."""
    stats: _Stats = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            stats[int(entry.name)] = text.rpartition(")")[2].split()
    return stats
