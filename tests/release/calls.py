"""Which functions of the database a tree of Python calls, and with which arguments."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("functions", "shared")
IN_SQL = re.compile(r"\b([a-z]+\.[a-z_]+)\s*\(")

COMPLETE = frozenset({"call", "call_releasing_early"})
"""What passes its keywords on as they are: Database, Delivery and shared.access."""
ADDING = frozenset({"effect", "claim", "begin"})
"""What passes others besides. Whatever else is told a function's name passes them in a way of its own."""


@dataclass(frozen=True)
class Call:
    """A call of a SQL function; `arguments` None: not known. `whole`: there are no others."""

    place: str
    function: str
    arguments: frozenset[str] | None
    whole: bool


def calls(tree: Path) -> Iterator[Call]:
    """Yield the calls of SQL functions, which the tree's own `sql/` knows, in the Python of the functions."""
    known = {f"{path.parent.name}.{path.stem}" for path in (tree / "sql").rglob("*.sql")}
    for folder in FOLDERS:
        for path in sorted((tree / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for call in _calls(node, known):
                    yield Call(f"{path.relative_to(tree)}:{node.lineno}", *call)  # type: ignore[attr-defined]


def _calls(node: ast.AST, known: set[str]) -> Iterator[tuple[str, frozenset[str] | None, bool]]:
    if isinstance(node, ast.Call):
        by = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        constants = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        if any(isinstance(text, str) and text.startswith("p_") for text in constants):
            by = "together"  # which is told the name of the parameter that takes many
        for name in constants:
            if name in known:
                named = frozenset(k.arg for k in node.keywords if k.arg is not None and k.arg.startswith("p_"))
                complete = by in COMPLETE and all(keyword.arg is not None for keyword in node.keywords)
                yield name, named if by in COMPLETE | ADDING else None, complete
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        for name in IN_SQL.findall(node.value):
            if name in known:
                yield name, None, False
