"""The documents name what there is: what they lead to exists, and nothing that an operator or client meets is left out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import ports
from shared.problems import PROBLEM_TYPES
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def anchors(document: Path) -> set[str]:
    """Return what a link may name in a document, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def log_events() -> Iterator[str]:
    """Yield the events that functions and the relay log."""
    for path in [*(ROOT / "functions").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="logs"), attr="info" | "warning" | "error"),
                    args=[ast.Constant(value=str(event)), *_],
                ):
                    yield event


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path = (document.parent / target).resolve() if target else document
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(f"{target}#{anchor}")
    assert broken == []


def test_every_problem_variable_and_port_has_its_line() -> None:
    problems, configuration, operations = text("api.md"), text("configuration.md"), text("operations.md")
    assert [code for code in PROBLEM_TYPES if f"`{code}`" not in problems] == []
    assert [name.upper() for name in Settings.model_fields if f"`{name.upper()}`" not in configuration] == []
    lines = [f"| {part} | {port} | `PORT_{part.upper().replace('-', '_')}`" for part, port in ports.DEFAULTS.items()]
    assert [line for line in lines if line not in operations] == []


def test_every_event_in_the_logs_is_told() -> None:
    operations, events = text("operations.md"), set(log_events())
    assert "turn_ended" in events
    assert [event for event in sorted(events) if f"`{event}`" not in operations] == []
