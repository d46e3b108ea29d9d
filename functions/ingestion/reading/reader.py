"""Reading one document: what it is, and its text. Runs in a process of its own, which is given nothing but the document."""

import html
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from functions.ingestion.reading.archives import Archive
from functions.ingestion.reading.detection import MEDIA_TYPE, Kind, detect
from functions.ingestion.reading.library import MAX_HTML_DEPTH, convert
from functions.ingestion.reading.limits import Limits, Refusal, check_length
from functions.ingestion.reading.mail import mail_to_markdown
from functions.ingestion.reading.text import charset_of, csv_to_markdown, decode

MARKDOWN = "text/markdown"
MAX_METADATA_CHARS = 500
PDF_END = b"%%EOF"
PDF_END_WITHIN = 4096
"""ISO 32000-1 says 1024; some programs append more."""
FATAL = frozenset({"archive_bomb", "nested_too_deep", "document_too_large", "too_many_pages"})
"""Why an e-mail is refused for an attachment; any other attachment that cannot be read is named, and left out."""
FIRST_HEADING = re.compile(r"\s*#[ \t]+([^\n]{1,500})")
TITLE = re.compile(r"(?is)<title[^>]{0,100}>(.{0,1000}?)</title>")
TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(?:[\s/][^<>]*)?>")
NOT_NESTING = frozenset(
    (
        *(
            "area",
            "base",
            "br",
            "col",
            "dd",
            "dt",
            "embed",
            "hr",
            "img",
            "input",
            "li",
            "link",
            "meta",
            "p",
            "param",
            "source",
        ),
        *("tbody", "td", "tfoot", "th", "thead", "tr", "track", "wbr"),
    )
)
"""Elements that are empty, or whose end may be left out."""
PROTECTED_BOOK = re.compile(rb"CipherReference[^>]{0,200}?\.x?html?[\"']")


@dataclass
class Told:
    """A document's text, and what is told beside it."""

    text: str
    format: str = MARKDOWN
    pages: list[int] = field(default_factory=list)
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    media_type: str = ""


def read(original: bytes, media_type: str, name: str, limits: Limits) -> dict[str, Any]:
    """Return the members of Extraction, or `code` and `detail` of a refusal."""
    try:
        told = _read(original, media_type, name, limits, 0)
        told.text = told.text.replace("\0", "")
        check_length(len(told.text), limits)
        _check_text(told)
    except Refusal as refusal:
        return {"code": refusal.code, "detail": refusal.detail}
    except RecursionError:
        return {"code": "nested_too_deep", "detail": "The document is nested too deeply."}
    told.title, told.metadata = _short(told.title), {name: _short(text) for name, text in told.metadata.items() if text}
    return asdict(told)


def _read(original: bytes, media_type: str, name: str, limits: Limits, depth: int) -> Told:
    if len(original) > limits.size_bytes:
        raise Refusal("document_too_large", f"A document has at most {limits.size_bytes} bytes.")
    kind, archive = detect(original, media_type, name, limits)
    if kind == "email":
        told = _mail(original, limits, depth)
    elif kind in {"html", "csv", "markdown", "source", "text"}:
        told = _text(original, kind, media_type, name, limits)
    else:
        told = _binary(original, kind, archive, limits)
    told.media_type = MEDIA_TYPE[kind]
    return told


def _text(original: bytes, kind: Kind, media_type: str, name: str, limits: Limits) -> Told:
    text, charset = decode(original, charset_of(media_type), markup=kind == "html")
    told = Told(text, metadata={"charset": charset})
    if kind == "html":
        title = TITLE.search(text)
        told.title = html.unescape(title[1]) if title else ""
        told.text = _html(text, limits)
    elif kind == "csv":
        told.text = csv_to_markdown(text, name, limits)
    elif kind == "markdown":
        heading = FIRST_HEADING.match(text)
        told.title = heading[1] if heading else ""
    else:
        told.format = "text/x-source" if kind == "source" else "text/plain"
    return told


def _html(text: str, limits: Limits) -> str:
    depth = 0
    for tag in TAG.finditer(text):
        if tag[2].lower() not in NOT_NESTING and not tag[0].endswith("/>"):
            depth = max(0, depth - 1) if tag[1] else depth + 1
            if depth > MAX_HTML_DEPTH:
                raise Refusal(
                    "nested_too_deep", f"The page has elements within elements, more than {MAX_HTML_DEPTH} deep."
                )
    return convert(text.encode(), MEDIA_TYPE["html"], limits).text


def _mail(original: bytes, limits: Limits, depth: int) -> Told:
    def attached(content: bytes, media_type: str, name: str) -> str:
        if depth == limits.nesting:
            raise Refusal(
                "nested_too_deep", f"The e-mail holds documents within documents, more than {limits.nesting} deep."
            )
        try:
            return _read(content, media_type, name, limits, depth + 1).text
        except Refusal as refusal:
            if refusal.code in FATAL:
                raise
            return f"(not read: {refusal.detail})"

    text, headers = mail_to_markdown(original, lambda page: _html(page, limits), attached, limits)
    return Told(text, title=headers.pop("subject", ""), metadata=headers)


def _binary(original: bytes, kind: Kind, archive: Archive | None, limits: Limits) -> Told:
    if kind == "pdf" and PDF_END not in original[-PDF_END_WITHIN:]:
        raise Refusal("damaged_document", "The document is cut off: a PDF ends with a mark that is missing.")
    if archive and (
        PROTECTED_BOOK.search(archive.read("META-INF/encryption.xml")) or "META-INF/rights.xml" in archive.names
    ):
        raise Refusal("encrypted_document", "The book is protected against copying.")
    converted = convert(original, MEDIA_TYPE[kind], limits)
    told = Told(converted.text, title=converted.title, metadata=converted.metadata)
    if kind in {"pdf", "pptx", "xlsx"} and converted.pages:
        pages = converted.pages
        if len(pages) > limits.pages:
            raise Refusal("too_many_pages", f"The document has more than {limits.pages} pages: split it.")
        if kind == "xlsx":
            pages = [_sheet(name, page) for name, page in zip(converted.sheets, pages, strict=False)]
        told.text, told.pages = _joined(pages)
    return told


def _sheet(name: str, page: str) -> str:
    """Return a sheet under its name, nothing for an empty one: of such the library returns the heading alone."""
    heading = f"## {name}\n\n"
    content = page.removeprefix(heading)
    return heading + content if content.strip() else ""


def _joined(pages: list[str]) -> tuple[str, list[int]]:
    """Return the pages as one text, and where each begins in it."""
    starts, parts, length = [], [], 0
    for page in pages:
        starts.append(length)
        if page.strip():
            parts.append(page.strip("\n") + "\n\n")
            length += len(parts[-1])
    return "".join(parts), starts


def _check_text(told: Told) -> None:
    """Raise Refusal `no_text` where there is nothing to find."""
    if any(character.isalnum() for character in told.text):
        return
    if told.media_type == MEDIA_TYPE["pdf"]:
        raise Refusal(
            "no_text", "The PDF has no text, only pictures of it: put it through OCR, and send what comes out."
        )
    raise Refusal("no_text", "The document has no text.")


def _short(text: str) -> str:
    return " ".join(text.replace("\0", "").split())[:MAX_METADATA_CHARS]
