"""Where a text may be cut: sections, blocks, and the rungs by which a block that is too long falls apart.

Everything here reads a text from front to back and yields offsets, in characters: memory stays small, and time grows with the
text alone, whatever it is. Patterns are matched against a line in place, and none goes back over more than a few characters.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

MAX_TITLE_CHARS = 200
"""Every passage carries the titles above it, and full text takes at most a megabyte."""
FRONT_MATTER_CHARS = 20_000

LINE = re.compile(r"([^\r\n]*)(?:\r\n|\r|\n)?")
VISIBLE = re.compile(r"\s*+\S")
MARKER = r"(?:[-*+]|[0-9]{1,9}[.)])(?=[ \t]|$)"
KIND = re.compile(
    r"(?P<blank>\s*+$)"
    r"| {0,3}(?P<heading>#{1,6}(?=[ \t]|$))"
    r"| {0,3}(?P<fence>`{3,}+(?=[^`]*$)|~{3,}+)"
    r"|(?P<underline> {0,3}(?:=+|-{2,})[ \t]*+$)"
    r"|(?P<delimiter>[ \t]*+(?:\|[ \t]*+)?:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+(?:\|[ \t]*+)?$)"
    rf"|(?P<item>[ \t]*+{MARKER})"
    r"|(?P<indented> {4}|\t)"
)
"""What a line begins, where it is no plain text (CommonMark 0.31, and tables of GitHub Flavored Markdown)."""
CLOSING = re.compile(r"[ \t]*+$")
FRONT_MATTER = re.compile(r"---[ \t]*+(?:\r\n|\r|\n)(?:[^\r\n]*+(?:\r\n|\r|\n))*?(?:---|\.\.\.)[ \t]*+(?:\r\n|\r|\n|$)")


class Kind(Enum):
    """What a block of Markdown is."""

    HEADING = "heading"
    PROSE = "prose"
    LIST = "list"
    TABLE = "table"
    CODE = "code"


@dataclass(slots=True)
class Block:
    """A block from `start` to the next one's start; `level` and `title` are a heading's."""

    kind: Kind
    start: int
    end: int = 0
    level: int = 0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text up to the next heading of any level, or the text before the first one (level 0).

    `body` is the offset behind the heading, `titles` the headings from the outermost to its own, `parent` the level of the one
    above it (0: none).
    """

    start: int
    body: int
    end: int
    level: int
    parent: int
    titles: tuple[str, ...]

    def has_text(self, text: str) -> bool:
        """Return whether anything but the heading stands in it."""
        return VISIBLE.match(text, self.body, self.end) is not None


Rung = Callable[[str, int, int], Iterator[int]]
"""Yields, ascending, the offsets inside a part of a text at which it falls into smaller parts."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Cuts before each line that begins as `pattern` says; with `after_blank` only where the line above it is blank."""

    pattern: re.Pattern[str]
    after_blank: bool = False

    def __call__(self, text: str, start: int, end: int) -> Iterator[int]:
        """Yield the offsets."""
        blank = False
        for at, stop in lines(text, start, end):
            if not VISIBLE.match(text, at, stop):
                blank = True
                continue
            if at > start and (blank or not self.after_blank) and self.pattern.match(text, at, stop):
                yield at
            blank = False


@dataclass(frozen=True, slots=True)
class Marks:
    """Cuts behind each match of `pattern`."""

    pattern: re.Pattern[str]

    def __call__(self, text: str, start: int, end: int) -> Iterator[int]:
        """Yield the offsets."""
        return (match.end() for match in self.pattern.finditer(text, start, end) if start < match.end() < end)


ANY = re.compile(r"")
SENTENCE = Marks(
    re.compile(
        r"(?<=[.!?…؟۔।])[\"'”’»)\]]{0,3}\s++(?=[^a-z])"  # noqa: RUF001 - a lower-case letter follows an abbreviation
        r"|(?<=[。！？｡])[」』”’）】]{0,3}(?![。！？｡])"  # noqa: RUF001
    )
)
LINES: tuple[Rung, ...] = (Lines(ANY),)
PROSE: tuple[Rung, ...] = (SENTENCE, *LINES)
PLAIN: tuple[Rung, ...] = (Lines(ANY, after_blank=True), *PROSE)
CODE: tuple[Rung, ...] = (
    Lines(re.compile(r"\S"), after_blank=True),
    Lines(re.compile(r" {0,4}\S|\t\S"), after_blank=True),
    Lines(ANY, after_blank=True),
    Lines(re.compile(r"[^\s)}\]]")),
    *LINES,
)
"""Definitions that stand apart, members, paragraphs, statements that are not indented, lines."""
LADDERS: dict[Kind, tuple[Rung, ...]] = {
    Kind.PROSE: PROSE,
    Kind.CODE: CODE,
    Kind.TABLE: (*LINES, Marks(re.compile(r"(?<!\\)\|")), SENTENCE),
    Kind.LIST: (*(Lines(re.compile(rf"[ \t]{{0,{most}}}{MARKER}")) for most in (1, 5, 64)), *PROSE),
}


def lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each line begins, and where it ends without its line break."""
    return (line.span(1) for line in LINE.finditer(text, start, end) if line.end() > line.start())


def header_end(text: str, start: int, end: int) -> int:
    """Return the offset behind the header of a table and the line under it."""
    offsets = (line.end() for line in LINE.finditer(text, start, end))
    next(offsets)
    return next(offsets)


def sections(text: str) -> Iterator[Section]:
    """Yield the sections of a Markdown text, which together are the whole text."""
    path: dict[int, str] = {}
    open_: Block = Block(Kind.HEADING, 0)
    for block in blocks(text, 0, len(text)):
        if block.kind is Kind.HEADING:
            yield _section(open_, block.start, path)
            path = {level: title for level, title in path.items() if level < block.level} | {block.level: block.title}
            open_ = block
    yield _section(open_, len(text), path)


def _section(heading: Block, end: int, path: dict[int, str]) -> Section:
    parent = max((level for level in path if level < heading.level), default=0)
    return Section(heading.start, heading.end, end, heading.level, parent, tuple(filter(None, path.values())))


def blocks(text: str, start: int, end: int) -> Iterator[Block]:
    """Yield the blocks of Markdown between two offsets; each begins where a line does, and reaches to the next one.

    The end of a heading is that of its own lines, so that what follows it can be told apart.
    """
    scanner = _Scanner(text)
    if start == 0 and (front := FRONT_MATTER.match(text, 0, min(end, FRONT_MATTER_CHARS))):
        yield Block(Kind.CODE, 0, front.end())
        start = front.end()
    for line in LINE.finditer(text, start, end):
        if line.end() > line.start():
            yield from scanner.read(*line.span(1), line.end())
    yield from scanner.close(end)


class _Scanner:
    """Reads Markdown line by line; `open` is the block that the last line belongs to."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._open: Block | None = None
        self._last = 0
        """Where the last line of the open block begins."""
        self._fence = ""
        self._gap = False
        """Whether a blank line stands behind the open block's last line."""

    def read(self, start: int, stop: int, end: int) -> Iterator[Block]:
        """Take a line, which ends at `stop` or with its line break at `end`; yield the blocks that it completes."""
        kind, marker, behind = _kind(self._text, start, stop)
        if self._fence:
            if kind == "fence" and marker.startswith(self._fence) and CLOSING.match(self._text, behind, stop):
                self._fence, self._gap = "", True
            return
        if kind == "blank":
            self._gap = True
            return
        if kind == "heading":
            yield from self.close(start)
            yield Block(Kind.HEADING, start, end, len(marker), _title(self._text, behind, stop))
        elif kind == "underline" and (prose := self._prose()) and self._is_title(prose, start):
            self._open = None
            yield Block(
                Kind.HEADING, prose.start, end, 1 if "=" in marker else 2, _title(self._text, prose.start, start)
            )
        elif kind == "delimiter" and (prose := self._prose()):
            # The line above it is the header.
            if self._last > prose.start:
                yield from self.close(self._last)
            self._open = Block(Kind.TABLE, self._last)
        else:
            opened = self._opens(kind, start)
            if opened is not None:
                yield from self.close(start)
                self._open = Block(opened, start)
            if kind == "fence":
                self._fence = marker
        self._last, self._gap = start, False

    def close(self, end: int) -> Iterator[Block]:
        """End the open block, if there is one."""
        if self._open is not None:
            self._open.end = end
            yield self._open
            self._open = None

    def _prose(self) -> Block | None:
        """Return the open block, when it is a paragraph that the line goes on with."""
        return self._open if self._open and self._open.kind is Kind.PROSE and not self._gap else None

    def _is_title(self, prose: Block, end: int) -> bool:
        # A longer paragraph above a line of dashes was hardly meant to be a heading, though CommonMark makes it one.
        return self._last == prose.start and end - prose.start <= MAX_TITLE_CHARS

    def _opens(self, kind: str, start: int) -> Kind | None:
        """Return what a line begins, or None when it belongs to the open block."""
        now = None if self._open is None else self._open.kind
        if kind == "fence":
            return Kind.CODE
        if kind == "item":
            return None if now is Kind.LIST else Kind.LIST
        if now is Kind.LIST and (not self._gap or self._text[start] in " \t"):
            return None
        if kind == "indented" and (now is None or self._gap or now is Kind.CODE):
            return Kind.CODE if now is not Kind.CODE or self._gap else None
        if now in {Kind.PROSE, Kind.TABLE} and not self._gap:
            return None
        return Kind.PROSE


def _kind(text: str, start: int, stop: int) -> tuple[str, str, int]:
    """Return what a line begins, the marker that says so, and the offset behind it."""
    match = KIND.match(text, start, stop)
    if match is None or match.lastgroup is None:
        return "text", "", start
    return match.lastgroup, match[match.lastgroup], match.end()


def _title(text: str, start: int, end: int) -> str:
    """Return a heading's text without the #s that may close it."""
    title = text[start : min(end, start + 2 * MAX_TITLE_CHARS)].strip()
    opened = title.rstrip("#")
    if opened != title and opened[-1:] in {"", " ", "\t"}:
        title = opened.rstrip()
    return title[:MAX_TITLE_CHARS]
