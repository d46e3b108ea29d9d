"""What a document is: containers by their content, kinds of text, which content cannot tell apart, by what they are called."""

import re
from pathlib import PurePosixPath
from typing import Literal

from functions.ingestion.reading.archives import Archive, open_archive
from functions.ingestion.reading.limits import Limits, Refusal

Binary = Literal["pdf", "docx", "pptx", "xlsx", "epub", "msg"]
Textual = Literal["html", "email", "csv", "markdown", "source", "text"]
Kind = Binary | Textual

OFFICE = "application/vnd.openxmlformats-officedocument."
MEDIA_TYPE: dict[Kind, str] = {
    "pdf": "application/pdf",
    "docx": OFFICE + "wordprocessingml.document",
    "pptx": OFFICE + "presentationml.presentation",
    "xlsx": OFFICE + "spreadsheetml.sheet",
    "epub": "application/epub+zip",
    "msg": "application/vnd.ms-outlook",
    "html": "text/html",
    "email": "message/rfc822",
    "csv": "text/csv",
    "markdown": "text/markdown",
    "source": "text/x-source",
    "text": "text/plain",
}
"""What a document of a kind is called, whatever it was sent as."""
ALIASES: dict[str, Kind] = {
    "application/pdf": "pdf",
    "application/x-pdf": "pdf",
    OFFICE + "wordprocessingml.document": "docx",
    OFFICE + "wordprocessingml.template": "docx",
    OFFICE + "presentationml.presentation": "pptx",
    OFFICE + "presentationml.slideshow": "pptx",
    OFFICE + "presentationml.template": "pptx",
    OFFICE + "spreadsheetml.sheet": "xlsx",
    OFFICE + "spreadsheetml.template": "xlsx",
    "application/vnd.ms-word.document.macroenabled.12": "docx",
    "application/vnd.ms-powerpoint.presentation.macroenabled.12": "pptx",
    "application/vnd.ms-excel.sheet.macroenabled.12": "xlsx",
    "application/epub+zip": "epub",
    "application/vnd.ms-outlook": "msg",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "message/rfc822": "email",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "application/json": "source",
    "application/xml": "source",
    "application/yaml": "source",
    "application/toml": "source",
    "application/sql": "source",
    "application/javascript": "source",
    "application/x-sh": "source",
    "text/xml": "source",
    "text/css": "source",
    "text/javascript": "source",
}
EXTENSIONS: dict[str, Kind] = {
    ".pdf": "pdf",
    **dict.fromkeys((".docx", ".docm", ".dotx", ".dotm"), "docx"),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx", ".ppsm", ".potx"), "pptx"),
    **dict.fromkeys((".xlsx", ".xlsm", ".xltx", ".xltm"), "xlsx"),
    ".epub": "epub",
    ".msg": "msg",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".eml", ".mht", ".mhtml"), "email"),
    **dict.fromkeys((".csv", ".tsv"), "csv"),
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys(
        (
            *(
                ".bash",
                ".bat",
                ".c",
                ".cc",
                ".cfg",
                ".clj",
                ".cpp",
                ".cs",
                ".css",
                ".dart",
                ".ex",
                ".go",
                ".gradle",
                ".h",
            ),
            *(
                ".hpp",
                ".hs",
                ".ini",
                ".java",
                ".js",
                ".json",
                ".jsonl",
                ".jsx",
                ".kt",
                ".lua",
                ".m",
                ".php",
                ".pl",
                ".proto",
            ),
            *(
                ".ps1",
                ".py",
                ".r",
                ".rb",
                ".rs",
                ".scala",
                ".scss",
                ".sh",
                ".sql",
                ".swift",
                ".tf",
                ".toml",
                ".ts",
                ".tsx",
            ),
            *(".vue", ".xml", ".yaml", ".yml", ".zig"),
        ),
        "source",
    ),
    **dict.fromkeys((".txt", ".text", ".log", ".rst"), "text"),
}
TEXTUAL = frozenset({"html", "email", "csv", "markdown", "source", "text"})
UNTOLD = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "text/plain", "application/x-www-form-urlencoded"}
)
"""Types that clients send when they do not know; then the name tells more."""

OLE = bytes.fromhex("d0cf11e0a1b11ae1")
OFFICE_PARTS: tuple[tuple[str, Kind], ...] = (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx"))
PDF_WITHIN = 1024
"""Readers look for a PDF's first and last mark within so many bytes (ISO 32000-1, annex H.3)."""
MESSAGE_HEADER = re.compile(
    rb"(?i)(?:from|to|subject|date|received|return-path|message-id|mime-version|delivered-to|x-[\w-]+):"
)
HTML = re.compile(rb"(?i)\s*(?:<!doctype html|<html[\s>])")
RTF = b"{\\rtf"
OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "an image, whose text only OCR could read"),
    (b"\xff\xd8\xff", "an image, whose text only OCR could read"),
    (b"II*\0", "an image, whose text only OCR could read"),
    (b"MM\0*", "an image, whose text only OCR could read"),
    (b"\x1f\x8b", "a compressed file: send what is inside"),
    (b"7z\xbc\xaf", "an archive: send what is inside"),
    (b"\x7fELF", "a program"),
    (RTF, "RTF: save it as DOCX"),
)


def declared(media_type: str, name: str) -> Kind | None:
    """Return what the document is called: by its media type, or by its name where the type says little."""
    essence = media_type.partition(";")[0].strip().lower()
    by_name = EXTENSIONS.get(PurePosixPath(name.lower()).suffix)
    if essence in UNTOLD:
        return by_name or ("text" if essence == "text/plain" else None)
    if essence in ALIASES:
        return ALIASES[essence]
    return by_name or ("source" if essence.startswith("text/x-") else None)


def detect(original: bytes, media_type: str, name: str, limits: Limits) -> tuple[Kind, Archive | None]:
    """Return the kind, and the checked container of those that are one.

    Raises Refusal `unsupported_media_type`, `encrypted_document`, `damaged_document`, `archive_bomb`.
    """
    called = declared(media_type, name)
    if original.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        archive = open_archive(original, limits)
        return _container(archive), archive
    if original.startswith(OLE):
        return _compound(original), None
    if b"%PDF-" in original[:PDF_WITHIN] and (called == "pdf" or original.lstrip().startswith(b"%PDF-")):
        return "pdf", None
    if what := next((what for magic, what in OTHERS if original.startswith(magic)), None):
        raise Refusal("unsupported_media_type", f"The document is {what}.")
    if called is None or called == "text":
        return _textual(original), None
    if called not in TEXTUAL:
        raise Refusal(
            "unsupported_media_type",
            f"The document is called {MEDIA_TYPE[called]}, and is none: send it as what it is.",
        )
    return called, None


def _container(archive: Archive) -> Kind:
    """Return the kind of a ZIP file; raises Refusal `unsupported_media_type`."""
    names = archive.names
    if "[Content_Types].xml" in names:
        for folder, kind in OFFICE_PARTS:
            if any(name.startswith(folder) for name in names):
                return kind
    if "META-INF/container.xml" in names:
        return "epub"
    if "mimetype" in names or "content.xml" in names:
        raise Refusal(
            "unsupported_media_type", "The document is an OpenDocument file: save it as DOCX, XLSX, PPTX or PDF."
        )
    raise Refusal("unsupported_media_type", "The document is an archive: send what is inside.")


def _compound(original: bytes) -> Kind:
    """Return the kind of an OLE compound file, told by the names in its directory (MS-CFB, section 2.6.1).

    Raises Refusal `encrypted_document` and `unsupported_media_type`.
    """
    if "EncryptedPackage".encode("utf-16-le") in original:
        raise Refusal("encrypted_document", "The document is protected by a password: save it without.")
    if "__properties_version1.0".encode("utf-16-le") in original:
        return "msg"
    raise Refusal("unsupported_media_type", "The document is of an old Office format: save it as DOCX, XLSX or PPTX.")


def _textual(original: bytes) -> Kind:
    """Return what a text is that nobody says more of."""
    start = original[:PDF_WITHIN].removeprefix(b"\xef\xbb\xbf")
    if HTML.match(start):
        return "html"
    lines = start.split(b"\n")[:2]
    return "email" if len(lines) == 2 and all(MESSAGE_HEADER.match(line) for line in lines) else "text"  # noqa: PLR2004
