"""The extraction library, xberg: the only place that knows it. It is given bytes, never an address, and loads no model."""

import asyncio
from dataclasses import dataclass, field

import xberg

from functions.ingestion.reading.limits import Limits, Refusal

MAX_HTML_DEPTH = 400
"""Elements within elements. It leaves out without a word what stands deeper, so that somebody has to look before."""
MOST_CELLS = 5_000_000
MOST_DEFLATE = 1100
"""Deflate packs nothing better than 1032 to 1."""
LIBRARY_BYTES_A_CHARACTER = 8
"""It counts bytes, and some of them twice."""
REASONS = (
    ("max_pages", "too_many_pages", "The document has more than {limits.pages} pages: split it."),
    ("cell limit", "document_too_large", "A table of the document has too many cells."),
    ("nesting", "nested_too_deep", "The document is nested too deeply."),
    ("depth", "nested_too_deep", "The document is nested too deeply."),
    ("zip bomb", "archive_bomb", "The document unpacks to far more than it is."),
    ("security violation", "archive_bomb", "The document becomes far larger than it is."),
    ("password", "encrypted_document", "The document is protected by a password: save it without."),
    ("encrypt", "encrypted_document", "The document is protected by a password: save it without."),
)
"""What its messages contain in small letters, and what is said then; the first that fits."""


@dataclass(frozen=True)
class Converted:
    """What it makes of a document."""

    text: str
    pages: list[str] | None = None
    """Markdown of each page, slide or sheet, where the format has them; the first is page 1."""
    title: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    sheets: list[str] = field(default_factory=list)
    """Names of the sheets."""


def convert(original: bytes, media_type: str, limits: Limits) -> Converted:
    """Return a document as Markdown.

    Raises Refusal `damaged_document`, `encrypted_document`, `too_many_pages`, `nested_too_deep`, `document_too_large`,
    `archive_bomb`.
    """
    source = xberg.ExtractInput(kind="bytes", bytes=original, mime_type=media_type)
    configuration = _configuration(limits)
    try:
        result = asyncio.run(_extract(source, configuration))
    except (RuntimeError, xberg.XbergError) as error:
        raise _refusal(str(error), limits) from error
    if not result.results:
        raise _refusal("; ".join(error.message for error in result.errors), limits)
    return _converted(result.results[0])


async def _extract(source: xberg.ExtractInput, configuration: xberg.ExtractionConfig) -> xberg.ExtractionResult:
    return await xberg.extract(source, configuration)


def _configuration(limits: Limits) -> xberg.ExtractionConfig:
    return xberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        disable_ocr=True,
        output_format="markdown",
        max_archive_depth=0,
        concurrency=xberg.ConcurrencyConfig(max_threads=1),
        content_filter=xberg.ContentFilterConfig(include_footnotes=True),
        html_options=xberg.ConversionOptions(
            extract_metadata=False,  # it would stand as front matter in the text
            inline_data_media=xberg.InlineDataMedia.ALT_TEXT_ONLY,
            # What it takes for navigation is also the heading in a <header>, and for a form what some pages are as a whole.
            preprocessing=xberg.PreprocessingOptions(remove_navigation=False, remove_forms=False),
            exclude_selectors=["nav", "title"],
            max_depth=MAX_HTML_DEPTH,
        ),
        pages=xberg.PageConfig(extract_pages=True),
        security_limits=xberg.SecurityLimits(
            max_archive_size=limits.expanded_bytes,
            max_compression_ratio=MOST_DEFLATE,  # what a container unpacks to is known already
            max_files_in_archive=limits.members,
            max_content_size=LIBRARY_BYTES_A_CHARACTER * limits.characters,
            max_table_cells=MOST_CELLS,
            max_pages=limits.pages,
        ),
    )


def _refusal(message: str, limits: Limits) -> Refusal:
    said = message.lower()
    if "out of memory" in said:
        raise MemoryError
    for words, code, detail in REASONS:
        if words in said:
            return Refusal(code, detail.format(limits=limits))
    return Refusal("damaged_document", "The document is cut off or damaged.")


def _converted(document: xberg.ExtractedDocument) -> Converted:
    told = document.metadata
    metadata = {
        "author": ", ".join(told.authors or []) or told.created_by,
        "created": told.created_at,
        "modified": told.modified_at,
        "subject": told.subject,
        "keywords": ", ".join(told.keywords or []),
        "language": told.language,
    }
    workbook = told.format.excel if told.format else None
    return Converted(
        text=document.content,
        pages=_in_order({page.page_number: page.content for page in document.pages}) if document.pages else None,
        title=told.title or "",
        metadata={name: value for name, value in metadata.items() if value},
        sheets=list(workbook.sheet_names or []) if workbook else [],
    )


def _in_order(contents: dict[int, str]) -> list[str]:
    """Return the pages from 1 on; those without content may be missing."""
    return [contents.get(number, "") for number in range(1, max(contents) + 1)]
