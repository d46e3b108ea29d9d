"""The fenced commands of docs/runbook.md, by what they need."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNBOOK = ROOT / "docs" / "runbook.md"
FENCE = re.compile(r"^```(\w+)(?: +(\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {None, "terminal", "cluster", "docker"}


@dataclass(frozen=True)
class Fence:
    """A block of shell commands; `needs` is None where it works as it stands."""

    line: int
    needs: str | None
    commands: str


def fences() -> list[Fence]:
    """Return the runbook's shell commands, from top to bottom."""
    text = RUNBOOK.read_text(encoding="utf-8")
    return [
        Fence(text[: match.start()].count("\n") + 2, match[2], match[3])
        for match in FENCE.finditer(text)
        if match[1] == "bash"
    ]
