"""Splitting a text into passages of about CHUNK_SIZE_TOKENS, along its own structure, each knowing where it stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(r"\w+|[^\w\s]")
LETTERS_A_TOKEN = 5
"""A word piece of the usual vocabularies seldom spans more; longer words count as several tokens."""
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^ {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
SEPARATOR = " > "


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
    """Split a text or Markdown document; headings, paragraphs, code blocks and sentences stay whole where they fit."""
    # Imported with the first document: a process that only takes documents in never needs it.
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

    overlap = min(overlap_tokens, size_tokens - 1)
    kind = MarkdownSplitter if media_type == "text/markdown" else TextSplitter
    pieces = kind.from_callback(count_tokens, size_tokens, overlap).chunk_indices(text)
    headings = list(_headings(text)) if media_type == "text/markdown" else []
    chunks: list[Chunk] = []
    for start, content in pieces:
        path = _path(headings, start)
        # A heading above nothing but further headings is no passage; the passages below carry it in their path.
        if not any(line.strip() and not HEADING.match(line) for line in content.splitlines()):
            continue
        chunks.append(Chunk(len(chunks) + 1, path, content, start, start + len(content), max(1, count_tokens(content))))
    return chunks


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (offset, level, title) of each ATX heading (CommonMark 0.31, section 4.2) outside fenced code."""
    fence, offset = "", 0
    for line in text.splitlines(keepends=True):
        if marker := FENCE.match(line):
            if not fence:
                fence = marker[1]
            elif marker[1].startswith(fence):
                fence = ""
        elif not fence and (heading := HEADING.match(line.rstrip("\r\n"))):
            yield offset, len(heading[1]), heading[2]
        offset += len(line)


def _path(headings: list[tuple[int, int, str]], position: int) -> str:
    """Return the headings that govern a position, outermost first."""
    path: dict[int, str] = {}
    for offset, level, title in headings:
        if offset > position:
            break
        path = {above: name for above, name in path.items() if above < level} | {level: title}
    return SEPARATOR.join(path.values())
