"""Cuts Markdown (or plain) text into units that can be quoted on their own.

A unit is a sentence, a list item, a table row or a line of code. This is a reader for quoting, not a
renderer: it follows the block structure of CommonMark and the tables of GitHub Flavored Markdown only as far
as needed to never quote half a construct.
"""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_MAX_UNIT_CHARACTERS = 400

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})(.*)$")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^\s{0,3}(=+|-+)\s*$")
_RULE = re.compile(r"^\s{0,3}([-*_])(\s*\1){2,}\s*$")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?(?=\S)")
_QUOTE = re.compile(r"^\s{0,3}(?:>\s?)+")
_TABLE_ROW = re.compile(r"^\s*\|.*\|\s*$")
_TABLE_DELIMITER = re.compile(r"^[\s|:-]*-[\s|:-]*$")
_CELL_BORDER = re.compile(r"(?<!\\)\|")
_CODE_COMMENT = re.compile(r"^\s*(?:#(?!!)|//|--)\s*(?=\S)(.*)$")

# Each construct is bounded in length, so that a text full of openings without ends is read in linear time.
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).{1,400}?(?<!`)\1(?!`)", re.DOTALL)
_IMAGE = re.compile(r"!\[([^\]]{0,200})\]\([^)]{0,400}\)")
_LINK = re.compile(r"\[([^\]]{1,200})\]\([^)]{0,400}\)")
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_{1,3}|~~)(?=\S)(.{1,200}?)(?<=\S)\1(?!\w)", re.DOTALL)
_COMMENT = re.compile(r"<!--.{0,400}?-->", re.DOTALL)
_TAG = re.compile(
    r"</?(?:a|b|br|center|code|details|div|em|h[1-6]|hr|i|img|kbd|li|ol|p|span|strong|su[bp]|summary|ul)\b[^<>]{0,400}>",
    re.IGNORECASE,
)
_FOOTNOTE = re.compile(r"\[\^[^\]]{1,50}\]:?")
_BRACKETED_NUMBER = re.compile(r"\[(\d+)\]")

_DECORATION = (
    (_COMMENT, " "),
    (_IMAGE, r"\1"),
    (_LINK, r"\1"),
    (_FOOTNOTE, ""),
    (_TAG, " "),
    (_BRACKETED_NUMBER, r"(\1)"),
    (_EMPHASIS, r"\2"),
)
# Private-use characters around a number stand for a code span while the text around it is changed.
_HIDDEN_SPAN = re.compile("\ue000[0-9]*\ue001")

_SENTENCE_END = re.compile(r"(?:[.!?…][\"')\]*_]*(?=\s+[\"'(\[*_`]*[^\Wa-z_])|[\u3002\uff01\uff1f])")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Z]|approx|cf|ca|Dr|e\.g|etc|Fig|i\.e|incl|Mr|Mrs|No|resp|vs)\.$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A quotable piece of a document: its text on one line, and the nearest heading above it ('' if none)."""

    text: str
    heading: str


def units(text: str, heading: str = "") -> list[Unit]:
    """Cut ``text`` into its quotable units, in order; ``heading`` stands above it."""
    reader = _Reader(heading)
    for line in _lines(text):
        reader.read(line)
    return reader.finish()


def plain(text: str) -> str:
    """Return running text on one line without Markdown's decoration; code spans stay as they are.

    A bracketed number becomes a number in parentheses, since in an answer it would read as a citation.
    """
    spans: dict[str, str] = {}

    def hide(span: re.Match[str]) -> str:
        name = f"\ue000{len(spans)}\ue001"
        spans[name] = span.group()
        return name

    text = _CODE_SPAN.sub(hide, _HIDDEN_SPAN.sub("", text))
    for pattern, replacement in _DECORATION:
        text = pattern.sub(replacement, text)
    text = _HIDDEN_SPAN.sub(lambda name: spans.get(name.group(), ""), html.unescape(text))
    return " ".join(text.split())


def sentences(text: str) -> list[str]:
    """Cut running text into sentences; no sentence ends inside a code span or after an abbreviation."""
    spans = [match.span() for match in _CODE_SPAN.finditer(text)]
    found: list[str] = []
    start = 0
    for end in (match.end() for match in _SENTENCE_END.finditer(text)):
        if any(a < end < b for a, b in spans) or _ABBREVIATION.search(text[start:end]):
            continue
        found.append(text[start:end].strip())
        start = end
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def _lines(text: str) -> list[str]:
    """Return the lines of ``text``, with the fence that its beginning lacks if it was cut inside code."""
    lines = text.splitlines()
    fences = [(number, match) for number, line in enumerate(lines) if (match := _FENCE.match(line))]
    if len(fences) % 2:
        number, first = fences[0]
        if not first.group(2).strip() and any(line.strip() for line in lines[:number]):
            return [first.group(1), *lines]
    return lines


def _shortened(text: str) -> str:
    if len(text) <= _MAX_UNIT_CHARACTERS:
        return text
    return text[:_MAX_UNIT_CHARACTERS].rsplit(" ", 1)[0] + " …"


@dataclass(slots=True)
class _Reader:
    """Collects the lines of one block at a time; ``_close`` turns the block into units."""

    heading: str
    _units: list[Unit] = field(default_factory=list)
    _block: list[str] = field(default_factory=list)
    _close: Callable[[], None] | None = None
    _fence: str | None = None

    def read(self, line: str) -> None:
        fence = _FENCE.match(line)
        if self._fence is not None:
            if fence and fence.group(1).startswith(self._fence) and not fence.group(2).strip():
                self._end()
                self._fence = None
            else:
                self._block.append(line)
        elif fence:
            self._begin(self._code)
            self._fence = fence.group(1)
        else:
            self._read_text(_QUOTE.sub("", line))

    def finish(self) -> list[Unit]:
        self._end()
        return self._units

    def _read_text(self, line: str) -> None:
        if not line.strip():
            self._end()
        elif match := _HEADING.match(line):
            self._end()
            self.heading = plain(match.group(1))
        elif self._close == self._prose and len(self._block) == 1 and _UNDERLINE.match(line):
            self.heading = plain(self._block.pop())
            self._end()
        elif _RULE.match(line):
            self._end()
        elif _TABLE_ROW.match(line):
            if self._close != self._table:
                self._begin(self._table)
            self._block.append(line)
        elif match := _ITEM.match(line):
            self._begin(self._item)
            self._block.append(line[match.end() :])
        else:
            if self._close not in (self._prose, self._item):
                self._begin(self._prose)
            self._block.append(line)

    def _begin(self, close: Callable[[], None]) -> None:
        self._end()
        self._close = close

    def _end(self) -> None:
        if self._close and self._block:
            self._close()
        self._block = []
        self._close = None

    def _add(self, text: str) -> None:
        if len(re.findall(r"\w+", text)) > 1:
            self._units.append(Unit(_shortened(text), self.heading))

    def _prose(self) -> None:
        for sentence in sentences(plain("\n".join(self._block))):
            self._add(sentence)

    def _item(self) -> None:
        text = plain("\n".join(self._block))
        for part in [text] if len(text) <= _MAX_UNIT_CHARACTERS else sentences(text):
            self._add(part)

    def _table(self) -> None:
        header: list[str] = []
        rows = [_cells(line) for line in self._block]
        if len(self._block) > 1 and _TABLE_DELIMITER.match(self._block[1]):
            header, rows = rows[0], rows[2:]
        for first, *others in rows:
            labelled = [
                f"{label}: {cell}" if label else cell
                for label, cell in zip(header[1:] or [""] * len(others), others, strict=False)
                if cell
            ]
            self._add(" — ".join(part for part in (first, "; ".join(labelled)) if part))

    def _code(self) -> None:
        comments: list[str] = []
        for line in _logical_lines(self._block):
            if match := _CODE_COMMENT.match(line):
                comments.append(match.group(1).strip())
            elif re.search(r"\w", line):
                ticks = "``" if "`" in line else "`"
                remark = " ".join(comments).rstrip(":.")
                self._add(f"{remark}: {ticks}{line}{ticks}" if remark else f"{ticks}{line}{ticks}")
                comments = []


def _cells(line: str) -> list[str]:
    cells = _CELL_BORDER.split(line.strip())[1:-1]
    return [plain(cell.replace(r"\|", "|")) for cell in cells] or [""]


def _logical_lines(lines: list[str]) -> Iterator[str]:
    """Join lines continued by a backslash."""
    pending = ""
    for line in lines:
        text = f"{pending} {line.strip()}" if pending else line.strip()
        pending = text[:-1].rstrip() if text.endswith("\\") else ""
        if not pending:
            yield text
    if pending:
        yield pending
