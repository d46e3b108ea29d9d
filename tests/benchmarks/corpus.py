"""Files to ingest: the sentences of this repository's documents, mixed anew for each file by a seed, in six formats.

No two files, nor two rounds, share a passage: every sentence names something that is made up for its place, so that no
comparison of texts saves an embedding. `revised` gives the same files again with a part of their sentences changed.
"""

from __future__ import annotations

import csv
import io
import random
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from tests import documents
from tests.documents import DOCX, HTML, PDF

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
MARKDOWN, TEXT, CSV = "text/markdown", "text/plain", "text/csv"
SHARES = {"md": 30, "txt": 20, "html": 15, "docx": 15, "csv": 8, "pdf": 12}
"""Files of each kind, of a hundred."""
SECTIONS = (1, 12)
PARAGRAPHS, SENTENCES = (2, 5), (2, 6)
"""From and to, of a file's sections, a section's paragraphs and a paragraph's sentences."""
PAGE_LINES, LINE_CHARACTERS = 48, 92
WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Section:
    """A heading and paragraphs, each a list of sentences."""

    heading: str
    paragraphs: list[list[str]]


@dataclass(frozen=True)
class File:
    """A document as it is uploaded."""

    name: str
    media_type: str
    content: bytes


def corpus(seed: str, count: int, *, changed: float = 0.0) -> list[File]:
    """Return files; the same seed gives the same files, but for the share `changed` of their paragraphs."""
    suffixes = [suffix for suffix, share in SHARES.items() for _ in range(share)]
    order = random.Random(f"{seed} order")  # noqa: S311 - nothing secret
    order.shuffle(suffixes)
    return [_file(f"{seed}-{number:04}", suffixes[number % len(suffixes)], changed) for number in range(count)]


def _file(stem: str, suffix: str, changed: float) -> File:
    media_type, write = WRITERS[suffix]
    return File(f"{stem}.{suffix}", media_type, write(stem, _sections(stem, changed)))


def _sections(stem: str, changed: float) -> list[Section]:
    source = random.Random(stem)  # noqa: S311
    edits = random.Random(f"{stem} edits")  # noqa: S311
    sections = []
    for _ in range(source.randint(*SECTIONS)):
        paragraphs = []
        for _ in range(source.randint(*PARAGRAPHS)):
            paragraph = [_sentence(source) for _ in range(source.randint(*SENTENCES))]
            if edits.random() < changed:
                paragraph[0] = _sentence(edits)
            paragraphs.append(paragraph)
        sections.append(Section(" ".join(_words(source, 3)).capitalize(), paragraphs))
    return sections


def _sentence(source: random.Random) -> str:
    """Return a sentence of the repository that speaks of something of its own."""
    name = f"{source.choice(_vocabulary())}-{source.randrange(100_000)}"
    return f"{source.choice(_sentences())[:-1]}, as for {name}."


def _words(source: random.Random, count: int) -> list[str]:
    return [source.choice(_vocabulary()) for _ in range(count)]


@cache
def _sentences() -> tuple[str, ...]:
    """Return the sentences of the repository's documents: what a PDF's letters can show, without markup."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    prose = [
        line.lstrip("-*0123456789. ")
        for path in paths
        for line in re.sub(r"(?ms)^```.*?^```$", "", path.read_text(encoding="utf-8")).splitlines()
        if not line.startswith(("#", "|"))
    ]
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*_]", r"\1", " ".join(prose))
    found = re.findall(r"[A-Z][^.!?|]{40,240}\.(?= )", plain)
    return tuple(dict.fromkeys(" ".join(sentence.split()) for sentence in found if sentence.isascii()))


@cache
def _vocabulary() -> tuple[str, ...]:
    words = {word for sentence in _sentences() for word in WORD.findall(sentence.lower()) if len(word) > 4}
    return tuple(sorted(words))


def _markdown(stem: str, sections: Sequence[Section]) -> bytes:
    parts = [f"# Report {stem}"]
    for section in sections:
        parts += [f"## {section.heading}", *(" ".join(paragraph) for paragraph in section.paragraphs)]
    return "\n\n".join(parts).encode()


def _text(stem: str, sections: Sequence[Section]) -> bytes:
    parts = [f"Report {stem}"]
    for section in sections:
        parts += [section.heading, *(" ".join(paragraph) for paragraph in section.paragraphs)]
    return "\n\n".join(parts).encode()


def _html(stem: str, sections: Sequence[Section]) -> bytes:
    body = [f"<h1>Report {stem}</h1>"]
    for section in sections:
        body.append(f"<h2>{escape(section.heading)}</h2>")
        body += [f"<p>{escape(' '.join(paragraph))}</p>" for paragraph in section.paragraphs]
    head = f'<head><meta charset="utf-8"><title>Report {stem}</title></head>'
    return f"<!DOCTYPE html>\n<html>{head}<body>{''.join(body)}</body></html>".encode()


def _docx(stem: str, sections: Sequence[Section]) -> bytes:
    body = [documents.paragraph(f"Report {stem}", "Heading1")]
    for section in sections:
        body.append(documents.paragraph(section.heading, "Heading2"))
        body += [documents.paragraph(" ".join(paragraph)) for paragraph in section.paragraphs]
    return documents.docx("".join(body))


def _csv(stem: str, sections: Sequence[Section]) -> bytes:
    target = io.StringIO()
    table = csv.writer(target)
    table.writerow(["report", "subject", "remark"])
    for section in sections:
        for number, paragraph in enumerate(section.paragraphs):
            table.writerow([f"{stem}/{number}", section.heading, " ".join(paragraph)])
    return target.getvalue().encode()


def _pdf(stem: str, sections: Sequence[Section]) -> bytes:
    lines: list[documents.Line] = [(16, f"Report {stem}")]
    for section in sections:
        lines.append((13, section.heading))
        for paragraph in section.paragraphs:
            lines += [(10, line) for line in _wrapped(" ".join(paragraph))]
    pages = [lines[start : start + PAGE_LINES] for start in range(0, len(lines), PAGE_LINES)]
    return documents.pdf(pages)


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > LINE_CHARACTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


WRITERS: dict[str, tuple[str, Callable[[str, Sequence[Section]], bytes]]] = {
    "md": (MARKDOWN, _markdown),
    "txt": (TEXT, _text),
    "html": (HTML, _html),
    "docx": (DOCX, _docx),
    "csv": (CSV, _csv),
    "pdf": (PDF, _pdf),
}
