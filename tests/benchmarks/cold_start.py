"""How long a function takes from nothing to its first 200, in multiples of a bare Starlette + uvicorn application.

Started as `python -m tests.benchmarks.cold_start` (`make bench-cold`). Each sample of a function is taken right
after one of the floor and compared with that one: what else the machine does slows both, so the ratio means
something where the seconds do not. A first round, not counted, compiles every module, as the image's build does.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from infra.local import manifests, ports
from infra.local.assembly import MANIFESTS, ROOT
from infra.local.ports import HOST
from infra.local.process import ChildProcess
from tests.benchmarks.launch import Start, start_once
from tests.benchmarks.stores import throw_away_stores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIVE, READY = "/health/live", "/health/ready"
MAX_RATIO = 3.0
"""For the first 200 on READY, which Knative waits for before it sends the first request."""
MAX_CHAT_BYTES = 75_000_000
_MB = 1_000_000


@dataclass(slots=True)
class Samples:
    """What was measured of one function: pairs of its own start and that of the floor just before it."""

    live: list[tuple[Start, Start]] = field(default_factory=list)
    ready: list[tuple[Start, Start]] = field(default_factory=list)

    def resident_bytes(self) -> float:
        """Return the median of what it holds when it is ready."""
        return median(own.resident_bytes for own, _ in self.ready)


def ratio(pairs: Sequence[tuple[Start, Start]]) -> float:
    """Return the median of the pairs' ratios."""
    return median(own.seconds / floor.seconds for own, floor in pairs)


def seconds(pairs: Sequence[tuple[Start, Start]]) -> float:
    """Return the median time of the function itself."""
    return median(own.seconds for own, _ in pairs)


def measure(rounds: int, names: Sequence[str]) -> dict[str, Samples]:
    """Return the samples of each function, or of those that are named."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-cold-", ignore_cleanup_errors=True) as folder,
        throw_away_stores(Path(folder)) as assembly,
    ):
        functions = {name: part for name, part in assembly.functions.items() if not names or name in names}
        floor = _floor(next(iter(functions.values())).env, Path(folder) / "floor.log")
        samples = {name: Samples() for name in functions}
        for number in range(rounds + 1):
            for name, function in functions.items():
                live, ready = _pair(floor, function, LIVE), _pair(floor, function, READY)
                if number > 0:
                    samples[name].live.append(live)
                    samples[name].ready.append(ready)
        return samples


def _pair(floor: ChildProcess, function: ChildProcess, path: str) -> tuple[Start, Start]:
    bare = start_once(floor, int(floor.env["PORT"]), LIVE)
    return start_once(function, int(function.env["PORT"]), path), bare


def _floor(env: Mapping[str, str], log: Path) -> ChildProcess:
    [port] = ports.free(["floor"]).values()
    return ChildProcess(
        "floor",
        (sys.executable, "-m", "tests.benchmarks.floor"),
        env={**env, "HOST": HOST, "PORT": str(port)},
        cwd=ROOT,
        log_path=log,
    )


def report(samples: Mapping[str, Samples]) -> list[str]:
    """Print the table, and return the targets that were missed, as sentences."""
    print(f"{'':18}{'first 200 on ' + LIVE:>27}{'on ' + READY:>25}{'resident':>12}")
    missed = []
    for name, own in samples.items():
        columns = "".join(
            f"{seconds(pairs) * 1000:>{width}.0f} ms {ratio(pairs):5.2f} x"
            for pairs, width in ((own.live, 17), (own.ready, 15))
        )
        print(f"{name:18}{columns}{own.resident_bytes() / _MB:>9.1f} MB")
        if ratio(own.ready) > MAX_RATIO:
            missed.append(f"{name} is ready after {ratio(own.ready):.2f} times the floor, not {MAX_RATIO:g}")
    floors = [floor for own in samples.values() for _, floor in own.live + own.ready]
    print(
        f"{'floor':18}{median(floor.seconds for floor in floors) * 1000:>17.0f} ms {1:5.2f} x"
        f"{'':25}{median(floor.resident_bytes for floor in floors) / _MB:>9.1f} MB"
    )
    if "chat" in samples and samples["chat"].resident_bytes() > MAX_CHAT_BYTES:
        missed.append(f"chat holds more than {MAX_CHAT_BYTES // _MB} MB")
    return missed


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 1 when --check was asked for and a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cold_start", description=__doc__)
    parser.add_argument("functions", nargs="*", help="Services to measure; all of them by default")
    parser.add_argument("--rounds", type=int, default=7, help="samples of each figure (default: 7)")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    options = parser.parse_args(arguments)
    known = manifests.load(MANIFESTS).services
    if unknown := sorted(set(options.functions) - set(known)):
        parser.error(f"no such Service: {', '.join(unknown)}; there are {', '.join(known)}")
    # A request to end is an interruption, so that everything that was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    missed = report(measure(options.rounds, options.functions))
    print(f"Medians of {options.rounds}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")
    for sentence in missed:
        print(f"missed: {sentence}")
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
