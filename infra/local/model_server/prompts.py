"""Reads the platform's prompt: the numbered passages of the system message, and the question.

The passages stand between a line ``<passages>`` and a line ``</passages>``; each begins on its own line with
``[n]`` and its title, its text follows, and a blank line separates it from the next.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_OPENING, _CLOSING = "<passages>", "</passages>"
_PASSAGE = re.compile(r"^\[(\d{1,4})\] +(\S.*)$")

_SYSTEM_ROLES = frozenset({"system", "developer"})


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message, its content as text."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document, and the number by which an answer cites it."""

    number: int
    title: str
    text: str


def question_of(messages: Sequence[Message]) -> str:
    """Return the last user message, '' if there is none."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def passages_of(messages: Sequence[Message]) -> list[Passage]:
    """Return the passages of the last system message that has any.

    Only system messages are read: a passage that a user wrote would be quoted as if a document said it.
    """
    for message in reversed(messages):
        if message.role in _SYSTEM_ROLES and (found := _passages(message.content)):
            return found
    return []


def _passages(text: str) -> list[Passage]:
    lines = [line.rstrip() for line in text.splitlines()]
    if _OPENING not in lines or _CLOSING not in lines:
        return []
    # The outermost pair counts, so that a document which contains the closing line ends nothing early.
    first = lines.index(_OPENING) + 1
    last = len(lines) - 1 - lines[::-1].index(_CLOSING)
    found: list[Passage] = []
    title, number, body = "", 0, list[str]()
    previous = ""
    for line in lines[first:last]:
        match = _PASSAGE.match(line)
        # A passage's own text may hold such a line (a bibliography). Numbers rise, and a blank line precedes.
        if match and not previous and int(match.group(1)) > number:
            if number:
                found.append(Passage(number, title, "\n".join(body).strip()))
            number, title, body = int(match.group(1)), match.group(2), []
        elif number:
            body.append(line)
        previous = line
    if number:
        found.append(Passage(number, title, "\n".join(body).strip()))
    return found
