"""Expand and contract: what a revision may not take away in the release that stops using it.

While a release is tried, and after it was taken back, the functions of the release before it run against its schema. So a
revision adds (expand); what nothing uses any more goes in a later release (contract), in files that begin with
`-- contract: 1.1.0`, the first release that did without it.
"""

import re
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

REVISIONS = Path("migrations") / "versions"
MARK = re.compile(r"\A-- contract: (\d+\.\d+\.\d+)\b")
FIRST_FROZEN = (1, 0, 0)
"""From this release on a revision that was released is not changed any more."""

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_BODY = re.compile(r"\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'", re.DOTALL)
_words = partial(re.compile, flags=re.IGNORECASE)
_CREATED = _words(r"CREATE TABLE (?:IF NOT EXISTS )?([\w.]+)")
_ALTERED = _words(r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?([\w.]+)")
_RULES = {
    "drops what a function may use": _words(r"^DROP (TABLE|VIEW|SCHEMA|TYPE|FUNCTION|PROCEDURE|SEQUENCE)\b"),
    "drops a column": _words(r"^ALTER TABLE .*\bDROP COLUMN\b"),
    "renames": _words(r"^ALTER .*\bRENAME\b"),
    "changes a column's type": _words(r"^ALTER TABLE .*\bALTER (COLUMN )?\w+ (SET DATA )?TYPE\b"),
    "adds a column that must be given": _words(
        r"^ALTER TABLE .*\bADD (COLUMN )?(IF NOT EXISTS )?(?!CONSTRAINT)\w+ "
        r"(?![^,]*\b(DEFAULT|GENERATED)\b)[^,]*\bNOT NULL\b"
    ),
}
_SET_NOT_NULL = _words(r"\bALTER (?:COLUMN )?(\w+) SET NOT NULL\b")


def version(tree: Path) -> tuple[int, ...]:
    """Return the version of a tree."""
    text: str = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return _parsed(text)


def _parsed(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("-")[0].split("."))


def statements(body: str) -> list[str]:
    """Return the statements of a file on one line each, without comments, strings and bodies of functions."""
    plain = _BODY.sub("''", _COMMENT.sub("", body))
    return [" ".join(statement.split()) for statement in plain.split(";") if statement.strip()]


def broken(tree: Path, previous: Path) -> Iterator[str]:
    """Yield what the revisions of a tree take away from the release before it, or change of what was released with it."""
    added = {path: _added(path, tree, previous) for path in _files(tree)}
    created = {table for found in added.values() for statement in found for table in _CREATED.findall(statement)}
    for path, found in added.items():
        marked = MARK.match((tree / path).read_text(encoding="utf-8"))
        if marked and _parsed(marked[1]) > version(previous):
            yield f"{path}: {marked[1]}, which does without it, is not out: the release before this one may use it"
        for statement in found if not marked else ():
            table = _ALTERED.match(statement)
            if table is None or table[1] not in created:
                yield from (f"{path}: {reason}: {statement[:100]}" for reason in _reasons(statement, found))
    if version(previous) >= FIRST_FROZEN:
        for path in _files(previous):
            if not (tree / path).exists() or (tree / path).read_bytes() != (previous / path).read_bytes():
                yield f"{path}: was released, and is not changed any more"


def _files(tree: Path) -> list[Path]:
    """Return the files of the upgrades, below the tree."""
    found = (tree / REVISIONS).glob("*/*.sql")
    return sorted(path.relative_to(tree) for path in found if path.name != "down.sql")


def _added(path: Path, tree: Path, previous: Path) -> list[str]:
    before = statements((previous / path).read_text(encoding="utf-8")) if (previous / path).exists() else []
    return [statement for statement in statements((tree / path).read_text(encoding="utf-8")) if statement not in before]


def _reasons(statement: str, beside: list[str]) -> Iterator[str]:
    yield from (reason for reason, rule in _RULES.items() if rule.search(statement))
    for column in _SET_NOT_NULL.findall(statement):
        given = _words(rf"\b{column}\b[^,]*\b(SET )?DEFAULT\b")
        if not any(given.search(other) for other in beside):
            yield f"asks for {column}, which the release before this one may not give"
