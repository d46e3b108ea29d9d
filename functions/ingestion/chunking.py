"""Splitting a text into passages along its own structure, each of at most so many tokens and knowing where it stands.

A section that fits is one passage. A longer one is filled block by block: what fits into one passage, be it a paragraph, a row,
an item of a list, a function or a sentence, is never cut, and what does not falls apart along the next rung of its ladder
(functions/ingestion/structure.py). Small sections side by side share a passage, under the heading that they have in common.

The text is read once from front to back, and each character is given to the tokenizer a bounded number of times.
"""

import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, pairwise, takewhile

from functions.ingestion.structure import (
    CODE,
    LADDERS,
    LINES,
    PLAIN,
    PROSE,
    Kind,
    Rung,
    Section,
    blocks,
    header_end,
    sections,
)
from functions.ingestion.tokens import Tokenizer
from shared.problems import Problem

MARKDOWN, SOURCE = "text/markdown", "text/x-source"
SEPARATOR = " > "
MAX_CHUNKS = 20_000
"""What one document may become: its chunks are stored by one statement."""
SMALL = 4
"""A section of at most this part of a passage may share one with its neighbours."""
TOKEN_CHARS = 20
"""A passage has at most so many characters for each token it may have: blanks have none, and a word without end may be one."""
MARGIN = 2
"""A text cut out of another may have a few tokens more or less than it had there: so close to the limit it counts by itself."""
WINDOW_CHARS = 16_000
"""The text is given to the tokenizer in windows, cut where a word ends in their last part."""
CLUSTER_CHARS = 32
"""So many characters at most are looked at for the beginning of one that people see as one."""
JOINER, SKIN_TONES = "\u200d", "\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"

SPACE = re.compile(r"\s+")
MARK = re.compile(r"[,;:}>|]")
BLANK_LINES = re.compile(r"(?:[^\S\r\n]*+(?:\r\n|\r|\n))*+")


@dataclass(frozen=True)
class Chunk:
    """A passage: characters `start_char` to `end_char` (exclusive) of the text, under `heading`.

    `content` is that range; where the range begins inside a table, the header of the table and its line break stand before it.
    `page` is that of the first character, from 1; None where the text has no pages. `token_count` is that of `content`.
    """

    ordinal: int
    heading: str
    page: int | None
    content: str
    start_char: int
    end_char: int
    token_count: int


def split(
    text: str,
    format: str,  # noqa: A002 - what extraction calls it
    pages: Sequence[int],
    *,
    size_tokens: int,
    overlap_tokens: int,
    tokenizer: Tokenizer,
    name: str = "",
) -> list[Chunk]:
    """Split a text; `format` is text/markdown, text/x-source, or else plain text.

    `pages` are the offsets in the text at which its pages begin. A passage has at most `size_tokens` tokens, and fewer where
    the model's window must also hold `name` and its heading, which stand before it when it is embedded; it repeats at most
    `overlap_tokens` of the passage before it, when both are of one section.

    Raises Problem `document_too_large`.
    """
    splitter = _Splitter(text, tokenizer, size_tokens, overlap_tokens, name)
    passages = splitter.markdown() if format == MARKDOWN else splitter.flat(CODE if format == SOURCE else PLAIN)
    chunks: list[Chunk] = []
    for heading, span, tokens in passages:
        if len(chunks) == MAX_CHUNKS:
            raise Problem("document_too_large", f"The document becomes more than {MAX_CHUNKS} passages: split it.")
        page = bisect_right(pages, span.start) or None
        content = span.content(text)
        chunks.append(Chunk(len(chunks) + 1, heading, page, content, span.start, span.end, max(1, tokens)))
    return chunks


@dataclass(frozen=True, slots=True)
class _Header:
    """The header of a table, as it is repeated."""

    text: str = ""
    tokens: int = 0


NO_HEADER = _Header()


@dataclass(frozen=True, slots=True)
class _Span:
    """Characters of the text that become a passage, behind a table's header where they begin inside one."""

    start: int
    end: int
    header: _Header = NO_HEADER

    def content(self, text: str) -> str:
        """Return the passage."""
        return self.header.text + text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class _Part:
    """Characters of the text that stay together where they fit; what falls apart does so by the first of `rungs`.

    `header` is the range of a table's header; what begins behind it repeats it. `code` is repeated by whole lines only.
    """

    start: int
    end: int
    rungs: tuple[Rung, ...] = ()
    header: tuple[int, int] | None = None
    code: bool = False

    def pieces(self, text: str) -> Iterator["_Part"]:
        """Yield the parts of this part."""
        rung, *rest = self.rungs
        cuts = rung(text, self.start, self.end)
        # The first row of a table stays with its header.
        wanted = (at for at in cuts if self.header is None or at > self.header[1])
        for start, end in pairwise(chain((self.start,), wanted, (self.end,))):
            yield _Part(start, end, tuple(rest), self.header, self.code)


class _Meter:
    """Knows how many tokens stand between two offsets of a text, which it reads as it is needed, from front to back."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        self._text = text
        self._tokenizer = tokenizer
        self._starts = array("L")
        self._read = 0

    def fits(self, start: int, end: int, limit: int) -> bool:
        """Return whether a range has at most so many tokens."""
        if end - start > limit * TOKEN_CHARS:
            return False
        tokens = self.between(start, end)
        if abs(tokens - limit) > MARGIN:
            return tokens < limit
        start, end = _visible(self._text, start, end)
        return self.count(self._text[start:end]) <= limit

    def count(self, text: str) -> int:
        """Return the tokens of a text by itself."""
        return self._tokenizer.count(text)

    def between(self, start: int, end: int) -> int:
        """Return how many tokens begin between two offsets."""
        self._read_to(end)
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def after(self, start: int, tokens: int) -> int:
        """Return the last offset that so many tokens, and the characters they may have, reach from `start`."""
        most = min(len(self._text), start + tokens * TOKEN_CHARS)
        self._read_to(most)
        at = bisect_left(self._starts, start) + tokens
        return min(most, self._starts[at]) if at < len(self._starts) else most

    def before(self, end: int, tokens: int) -> int:
        """Return the first offset from which so many tokens, and the characters they may have, reach `end`."""
        at = bisect_left(self._starts, end) - tokens
        return max(self._starts[at] if at >= 0 else 0, end - tokens * TOKEN_CHARS)

    def forget(self, before: int) -> None:
        """Let go of what is known of the text before an offset."""
        del self._starts[: bisect_left(self._starts, before)]

    def _read_to(self, end: int) -> None:
        while self._read < end:
            stop = min(len(self._text), self._read + WINDOW_CHARS)
            if stop < len(self._text):
                stop = _break(self._text, stop - WINDOW_CHARS // 16, stop)
            self._starts.extend(self._read + start for start in self._tokenizer.starts(self._text[self._read : stop]))
            self._read = stop


Passage = tuple[str, _Span, int]
"""Its heading, its place, its tokens."""


class _Splitter:
    """Finds what shares a passage: a section's text, or several small sections."""

    def __init__(self, text: str, tokenizer: Tokenizer, size: int, overlap: int, name: str) -> None:
        self._text = text
        self._size = size
        self._overlap = overlap
        self._meter = _Meter(text, tokenizer)
        self._window = tokenizer.window
        self._named = self._meter.count(name)
        # The titles above a section are those above its neighbours: each is counted about once.
        self._tokens = lru_cache(maxsize=64)(self._meter.count)

    def flat(self, rungs: tuple[Rung, ...]) -> Iterator[Passage]:
        """Yield the passages of a text without headings."""
        yield from self._passages((), [_Part(0, len(self._text), rungs, code=rungs is CODE)])

    def markdown(self) -> Iterator[Passage]:
        """Yield the passages of a Markdown text."""
        run: list[Section] = []
        for section in sections(self._text):
            if run and self._shares(run, section):
                run.append(section)
                continue
            yield from self._run(run)
            run = [section]
        yield from self._run(run)

    def _shares(self, run: list[Section], section: Section) -> bool:
        """Return whether a section goes into one passage with the small ones before it.

        A heading must stand above all of them: that of the first section, or the one above it.
        """
        first = run[0]
        if section.level <= (first.parent or first.level) or not first.level:
            return False
        limit = self._limit(section.titles)
        return (
            (len(run) > 1 or self._meter.fits(first.start, first.end, limit // SMALL))
            and self._meter.fits(section.start, section.end, limit // SMALL)
            and self._meter.fits(first.start, section.end, limit)
        )

    def _run(self, run: list[Section]) -> Iterator[Passage]:
        """Yield the passages of a section, or the one of several; what is only a heading above other sections is none."""
        told = [section for section in run if section.has_text(self._text)]
        if told:
            titles = _common([section.titles for section in told])
            together = len(run) > 1 or self._meter.fits(run[0].start, run[0].end, self._limit(titles))
            parts = [_Part(run[0].start, told[-1].end)] if together else self._parts(run[0])
            yield from self._passages(titles, parts)

    def _parts(self, section: Section) -> Iterator[_Part]:
        """Yield a section's blocks, of which the first has the heading with it."""
        start = section.start
        for block in blocks(self._text, section.start, section.end):
            if block.kind is Kind.HEADING:
                continue
            header = None
            if block.kind is Kind.TABLE:
                header = block.start, header_end(self._text, block.start, block.end)
            yield _Part(start, block.end, LADDERS[block.kind], header, block.kind is Kind.CODE)
            start = block.end

    def _passages(self, titles: tuple[str, ...], parts: Iterable[_Part]) -> Iterator[Passage]:
        filler = _Filler(self._text, self._meter, self._limit(titles), self._overlap)
        for span, tokens in filler.spans(parts):
            yield SEPARATOR.join(titles), span, tokens

    def _limit(self, titles: tuple[str, ...]) -> int:
        """Return how many tokens a passage may have: what stands before it must fit into the model's window as well."""
        if self._window is None:
            return self._size
        before = self._named + sum(self._tokens(title) + 1 for title in titles)
        return max(1, min(self._size, max(self._window - before, self._window // 2)))


class _Filler:
    """Fills passages with the parts of one section; `_open` is the passage that is being filled."""

    def __init__(self, text: str, meter: _Meter, limit: int, overlap: int) -> None:
        self._text = text
        self._meter = meter
        self._limit = limit
        self._overlap = min(overlap, limit // 2)
        self._open: _Span | None = None
        self._header = NO_HEADER
        """That of the last table."""
        self._barrier = 0
        """Behind a table or a block of code: what follows it repeats nothing of it."""
        self._told = 0
        """Where the last passage ends."""
        self._least = 0
        """Where the next passage may begin: behind the start of the last one, or the end of what was none."""

    def spans(self, parts: Iterable[_Part]) -> Iterator[tuple[_Span, int]]:
        """Yield the passages and their tokens."""
        for part in parts:
            if part.header is not None:
                self._header = self._repeatable(*part.header)
            for span in self._fill(part):
                yield from self._finish(span)
            if part.header is not None or part.code:
                self._barrier = part.end
        if self._open is not None:
            yield from self._finish(self._open)

    def _repeatable(self, start: int, end: int) -> _Header:
        """Return the header of a table, or none when it would leave little room for rows."""
        most = self._limit // 2
        if end - start > most * TOKEN_CHARS:
            return NO_HEADER
        tokens = self._meter.count(self._text[start:end])
        return _Header(self._text[start:end], tokens) if tokens <= most else NO_HEADER

    def _begin(self, part: _Part, start: int, end: int) -> _Span:
        """Return a passage that begins in a part or before it."""
        return _Span(start, end, self._header if part.header is not None and start >= part.header[1] else NO_HEADER)

    def _fits(self, span: _Span, end: int) -> bool:
        """Return whether a passage may reach so far."""
        return self._meter.fits(span.start, end, self._limit - span.header.tokens)

    def _fill(self, part: _Part) -> Iterator[_Span]:
        """Put a part into the open passage or a new one, whole where it fits; yield the passages that are full."""
        span, fresh = self._open, self._begin(part, part.start, part.end)
        if span is not None and self._fits(span, part.end):
            self._open = _Span(span.start, part.end, span.header)
        elif self._fits(fresh, part.end):
            if span is not None:
                yield span
                room = self._limit - MARGIN - self._meter.between(part.start, part.end)
                longer = self._begin(part, self._repeat(part, part.start, room), part.end)
                fresh = longer if self._fits(longer, part.end) else fresh
            self._open = fresh
        elif part.rungs:
            for piece in part.pieces(self._text):
                yield from self._fill(piece)
        else:
            yield from self._cut(part)

    def _cut(self, part: _Part) -> Iterator[_Span]:
        """Cut a part that has no structure where a word ends, or a character; yield the passages that are full."""
        span = self._open or self._begin(part, part.start, part.start)
        if self._meter.between(span.start, span.end) > self._limit // 2:
            yield span
            span = self._begin(part, self._repeat(part, part.start, self._overlap), part.start)
        while not self._fits(span, part.end):
            end = self._end(span, part.end)
            yield _Span(span.start, end, span.header)
            span = self._begin(part, self._repeat(part, end, self._overlap), end)
        self._open = _Span(span.start, part.end, span.header)

    def _repeat(self, part: _Part, at: int, room: int) -> int:
        """Return where the passage that goes on at `at` begins, so that it repeats the end of the one before it.

        That is where a sentence begins, or else a line or a word. Rows of a table are not repeated: their header is.
        """
        tokens = min(self._overlap, room)
        if tokens <= 0 or (part.header is not None and at >= part.header[1]):
            return at
        low = max(self._meter.before(at, tokens), self._least, self._barrier)
        if low >= at:
            return at
        for rung in LINES if part.code else PROSE:
            if (start := next(rung(self._text, low - 1, at), at)) < at:
                return start
        if part.code:
            return at
        if word := SPACE.search(self._text, low - 1, at):
            return word.end()
        start = next((start for start in range(low, at) if not _goes_on(self._text, start)), at)
        # A part of what is one unknown word may be many tokens.
        return start if self._meter.count(self._text[start:at]) <= tokens + MARGIN else at

    def _end(self, span: _Span, stop: int) -> int:
        """Return where a passage ends that begins where `span` does, goes on to `stop`, and is too long."""
        limit = room = self._limit - span.header.tokens
        while True:
            most = max(span.start + 1, min(stop, self._meter.after(span.start, room)))
            least = max(span.start + 1, self._meter.after(span.start, room - room // 4))
            end = _break(self._text, least, most)
            first, last = _visible(self._text, span.start, end)
            excess = self._meter.count(self._text[first:last]) - limit
            if excess <= 0 or room == 1:
                return end
            room = max(1, room - excess)

    def _finish(self, span: _Span) -> Iterator[tuple[_Span, int]]:
        """Yield a passage without the blanks around it, or nothing when it says nothing new, and its tokens."""
        start, end = _visible(self._text, span.start, span.end)
        if end <= max(start, self._told):
            self._least = span.end
            return
        span = replace(span, start=start, end=end)
        tokens = self._meter.count(span.content(self._text))
        # Only a vocabulary whose tokens depend on what stands far away brings this about.
        if tokens > self._limit and (cut := self._end(span, end)) < end:
            yield from self._finish(replace(span, end=cut))
            yield from self._finish(replace(span, start=cut))
            return
        self._meter.forget(span.start)
        self._told, self._least = end, start + 1
        yield span, tokens


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Return what all paths begin with."""
    same = takewhile(lambda titles: len(set(titles)) == 1, zip(*paths, strict=False))
    return tuple(titles[0] for titles in same)


def _visible(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a range without the blanks around it, but for those that indent its first line."""
    blank = BLANK_LINES.match(text, start, end)
    start = blank.end() if blank else start
    if start and text[start - 1] not in "\r\n" and (space := SPACE.match(text, start, end)):
        start = space.end()
    return start, start + len(text[start:end].rstrip())


def _break(text: str, least: int, most: int) -> int:
    """Return the last offset up to `most`, and behind `least`, where a word ends, or a mark, or at least a character."""
    for pattern in (SPACE, MARK):
        if last := deque(pattern.finditer(text, least, most), maxlen=1):
            return last[0].end()
    ends = (at for at in range(most, max(least, most - CLUSTER_CHARS), -1) if not _goes_on(text, at))
    return next(ends, most)


def _goes_on(text: str, at: int) -> bool:
    """Return whether the character at an offset is an accent, a joiner or a modifier of the one before it, or joined to it."""
    if at >= len(text):
        return False
    return (
        text[at - 1] == JOINER
        or text[at] == JOINER
        or text[at] in SKIN_TONES
        or unicodedata.category(text[at])[0] == "M"
    )
