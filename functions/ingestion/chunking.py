"""Splitting a text into passages of about CHUNK_SIZE_TOKENS, along its own structure, each knowing where it stands."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from shared.problems import Problem

TOKEN = re.compile(r"\w+|[^\w\s]")
LETTERS_A_TOKEN = 5
"""A word piece of the usual vocabularies seldom spans more; longer words count as several tokens."""
FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$")
HEADING = re.compile(r"^ {0,3}(#{1,6})(?:[ \t]+(.*))?$")
LINE = re.compile(r"[^\s][^\r\n]*")
"""A line from its first visible character on."""
MAX_TITLE_CHARS = 200
"""Every passage carries the titles above it, and full text takes at most a megabyte."""
SEPARATOR = " > "
BLOCK_CHARS = 20_000
MAX_CHUNKS = 20_000
"""What one document may become: its chunks are stored by one statement."""


@dataclass(frozen=True)
class Chunk:
    """A passage: characters `start_char` to `end_char` (exclusive) of the text, under `heading`."""

    ordinal: int
    heading: str
    content: str
    start_char: int
    end_char: int
    token_count: int


def count_tokens(text: str) -> int:
    """Return an estimate of a text's tokens for a word-piece vocabulary, without needing that vocabulary."""
    return sum(-(-len(match.group()) // LETTERS_A_TOKEN) for match in TOKEN.finditer(text))


def split(text: str, media_type: str, *, size_tokens: int, overlap_tokens: int) -> list[Chunk]:
    """Split a text or Markdown document; headings, paragraphs, code blocks and sentences stay whole where they fit.

    Raises Problem `document_too_large`.
    """
    # Imported with the first document: a process that only takes documents in never needs it.
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    overlap = min(overlap_tokens, size_tokens - 1)
    kind = MarkdownSplitter if media_type == "text/markdown" else TextSplitter
    splitter = kind.from_callback(count_tokens, size_tokens, overlap)
    pieces = ((at + start, piece) for at, block in _blocks(text) for start, piece in splitter.chunk_indices(block))
    headings = deque(_headings(text) if media_type == "text/markdown" else ())
    starts = {start for start, _, _ in headings}
    path: dict[int, str] = {}
    chunks: list[Chunk] = []
    for start, content in pieces:
        if len(chunks) == MAX_CHUNKS:
            raise Problem("document_too_large", f"The document becomes more than {MAX_CHUNKS} passages: split it.")
        first = start + len(content) - len(content.lstrip())
        while headings and headings[0][0] <= first:
            _, level, title = headings.popleft()
            path = {above: name for above, name in path.items() if above < level} | {level: title}
        # A heading above nothing but further headings is no passage; the passages below carry it in their path.
        if all(start + line.start() in starts for line in LINE.finditer(content)):
            continue
        heading, tokens = SEPARATOR.join(filter(None, path.values())), max(1, count_tokens(content))
        chunks.append(Chunk(len(chunks) + 1, heading, content, start, start + len(content), tokens))
    return chunks


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield (offset, block): parts of bounded length, cut where a paragraph, a line or a word ends.

    The splitter's time grows with the square of a text without structure.
    """
    start = 0
    while len(text) - start > BLOCK_CHARS:
        half, limit = start + BLOCK_CHARS // 2, start + BLOCK_CHARS
        ends = (text.rfind(mark, half, limit) + len(mark) for mark in ("\n\n", "\n", " ") if mark in text[half:limit])
        end = next(ends, limit)
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (offset of the first #, level, title) of each ATX heading (CommonMark 0.31, section 4.2) outside fenced code."""
    fence = ""
    for line in re.finditer(r"[^\r\n]+", text):
        if marker := FENCE.match(line.group()):
            if not fence:
                fence = marker[1]
            elif marker[1].startswith(fence) and not marker[2].strip():
                fence = ""
        elif not fence and (heading := HEADING.match(line.group())):
            yield line.start() + heading.start(1), len(heading[1]), _title(heading[2] or "")


def _title(text: str) -> str:
    """Return a heading's text without the #s that may close it."""
    title = text.strip(" \t")
    opened = title.rstrip("#")
    if opened != title and opened[-1:] in {"", " ", "\t"}:
        title = opened.rstrip(" \t")
    return title[:MAX_TITLE_CHARS]
