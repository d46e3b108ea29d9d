"""Text: from bytes to characters, and from CSV to a table."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence

from functions.ingestion.reading.limits import Limits, Refusal, check_length

NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7"})
"""Encodings that Python has and documents have not; some take a time that grows with the square of the length."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAMPLE = 64 * 1024
HTML_CHARSET = re.compile(rb"""(?i)<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""")
XML_CHARSET = re.compile(rb"""<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{1,40})""")
NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Control characters that no text file has; a tab, ends of line and of page, and an escape may be."""
WESTERN = "windows-1252"
MOST_WESTERN = 0.2
"""Languages of Western Europe have at most so large a part of letters outside ASCII; those of other scripts have far more."""
DELIMITERS = ",;\t|"


def charset_of(media_type: str) -> str | None:
    """Return the charset parameter of a Content-Type as Python calls it; raises Refusal `unsupported_media_type`."""
    for parameter in media_type.split(";")[1:]:
        name, _, given = parameter.partition("=")
        if name.strip().lower() == "charset" and given.strip(' "'):
            codec = known(given.strip(' "'))
            if codec is None:
                raise Refusal("unsupported_media_type", "The charset of the Content-Type is not known.")
            return codec
    return None


def known(charset: str) -> str | None:
    """Return the name of a text encoding as Python calls it, None where it is none."""
    try:
        codec = codecs.lookup(charset)
    except (LookupError, ValueError):
        return None
    # base64 and its like turn bytes into bytes.
    is_text = getattr(codec, "_is_text_encoding", True)
    return codec.name if is_text and codec.name not in NO_CHARSETS else None


def decode(original: bytes, charset: str | None, *, markup: bool = False) -> tuple[str, str]:
    """Return text and the charset it was in: by its mark, as was said, as its markup says, or else as it looks.

    UTF-8 with a few broken characters is read with U+FFFD in their place. Lines then end with a line feed.
    Raises Refusal `undecodable_document`.
    """
    marked = next(((mark, codec) for mark, codec in MARKS if original.startswith(mark)), None)
    if marked:
        mark, charset = marked
        text = _strict(original[len(mark) :], charset)
    elif charset:
        text = _strict(original, charset)
    elif markup and (charset := _told_inside(original)):
        text = original.decode(charset, "replace")
    else:
        text, charset = _guessed(original)
    if "\0" in text:
        raise Refusal("undecodable_document", "The document contains NUL characters: it is no text.")
    return text.replace("\r\n", "\n").replace("\r", "\n"), charset


def _strict(original: bytes, charset: str) -> str:
    try:
        return original.decode(charset)
    except (UnicodeError, LookupError) as error:
        raise Refusal("undecodable_document", f"The document is not {charset} text.") from error


def _told_inside(original: bytes) -> str | None:
    told = HTML_CHARSET.search(original[:4096]) or XML_CHARSET.match(original)
    codec = known(told[1].decode("ascii")) if told else None
    # Whoever could read that line read no UTF-16.
    return None if codec is None or codec.startswith("utf-16") else codec


def _guessed(original: bytes) -> tuple[str, str]:
    """Return text and charset of bytes that nobody says anything of."""
    if codec := _utf_16(original[:SAMPLE]):
        return _strict(original, codec), codec
    try:
        return original.decode(), "utf-8"
    except UnicodeDecodeError:
        pass
    if NOT_TEXT.search(original):
        raise Refusal("undecodable_document", "The document is no text, and of no format that is read.")
    text = original.decode("utf-8", "replace")
    broken, high = text.count("\ufffd"), sum(1 for character in text if character > "\x7f")
    if high - broken > broken:
        return text, "utf-8"
    if broken <= MOST_WESTERN * len(original):
        return original.decode(WESTERN, "replace"), WESTERN
    raise Refusal(
        "undecodable_document",
        "The document is not UTF-8. Name its charset in the Content-Type, as in text/plain; charset=windows-1251.",
    )


def _utf_16(sample: bytes) -> str | None:
    """Return which UTF-16 a text without a mark is in: every other byte of Western text is then zero."""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = max(1, len(sample) // 2)
    if odd > half / 3 and even < half / 100:
        return "utf-16-le"
    return "utf-16-be" if even > half / 3 and odd < half / 100 else None


def csv_to_markdown(text: str, name: str, limits: Limits) -> str:
    """Return a CSV file as a Markdown table, its first row as heading.

    Raises Refusal `damaged_document`, `document_too_large`.
    """
    csv.field_size_limit(len(text) + 1)
    delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter(text[:SAMPLE])
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise Refusal("damaged_document", "The document is no CSV that can be read.") from error
    return table(rows, limits)


def _delimiter(sample: str) -> str:
    """Return the delimiter that stands most evenly in the first lines."""
    lines = [line for line in sample.split("\n")[:20] if line]
    counts = {delimiter: [line.count(delimiter) for line in lines] for delimiter in DELIMITERS}
    return max(DELIMITERS, key=lambda delimiter: (min(counts[delimiter], default=0), sum(counts[delimiter])))


def table(rows: Sequence[Sequence[str]], limits: Limits) -> str:
    """Return rows as a Markdown table; rows may differ in length. Raises Refusal `document_too_large`."""
    if not rows:
        return ""
    width = max(map(len, rows))
    # Padding is text too: one wide row among many short ones would become far more than was sent.
    check_length(len(rows) * width * 2, limits)
    lines = [_line(rows[0], width), _line(["---"] * width, width)]
    lines += [_line(row, width) for row in rows[1:]]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str], width: int) -> str:
    shown = [" ".join(cell.split()).replace("|", "\\|") for cell in cells]
    return "| " + " | ".join(shown + [""] * (width - len(shown))) + " |"
