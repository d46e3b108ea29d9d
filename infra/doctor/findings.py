"""What a check says: which setting is wrong, how, and what to do about it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from shared.settings import Settings


@dataclass(frozen=True)
class Finding:
    """Something that is wrong; no text of it holds a secret."""

    subject: str
    """The variable, or what else it is about."""
    told: str
    remedy: str
    severity: Literal["failure", "warning"] = "failure"


@dataclass(frozen=True)
class Checked:
    """What became of a check: its findings, or why it was not made."""

    name: str
    findings: tuple[Finding, ...] = ()
    left_out: str = ""


class LeftOut(Exception):
    """A check does not apply, for the reason given."""


Check = Callable[[Settings, Mapping[str, str]], Awaitable[list[Finding]]]
"""What looks at a part, given the settings and the environment; raises LeftOut."""
