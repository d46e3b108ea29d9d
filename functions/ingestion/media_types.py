"""Which documents are taken at once, by their media type or, where a client does not know it, by the name's suffix.

What they are, and whether they can be read, turns out when they are (functions/ingestion/reading/detection.py).
"""

import codecs
from pathlib import PurePosixPath

from shared.problems import Problem

TAKEN = ("text/*", "application/*", "message/rfc822")
"""For the OpenAPI document: of application/* those in detection.ALIASES."""
BYTES = "application/octet-stream"
UNTOLD = frozenset({"", BYTES, "binary/octet-stream", "application/x-www-form-urlencoded"})
"""What clients and stores say that do not know: the last one is what curl says of --data."""
NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined"})
"""Encodings that Python has and documents have not; some take a time that grows with the square of the length."""
MAX_TYPE_CHARS = 200


def by_name(name: str) -> str | None:
    """Return the media type that a document of that name has as a rule."""
    # Imported with the first document, like the rest of what reads: a process that lists documents never needs it.
    from functions.ingestion.reading.detection import EXTENSIONS, MEDIA_TYPE

    kind = EXTENSIONS.get(PurePosixPath(name.lower()).suffix)
    return None if kind is None else MEDIA_TYPE[kind]


def understood(content_type: str, name: str) -> str:
    """Return the media type of a document as it is kept: in lower case, with the charset of a text where one is told.

    Where the client does not know the type the name's suffix tells, or else the content will. Raises Problem
    `unsupported_media_type`.
    """
    media_type, _, parameters = content_type[:MAX_TYPE_CHARS].partition(";")
    media_type = media_type.strip().lower()
    if media_type in UNTOLD:
        return by_name(name) or BYTES
    if not _taken(media_type):
        raise Problem(
            "unsupported_media_type",
            f"Documents of type {media_type} are not read: send text, PDF, DOCX, PPTX, XLSX, EPUB, HTML or e-mail.",
            headers={"Accept-Post": ", ".join(TAKEN)},
        )
    charset = _charset(parameters) if media_type.startswith("text/") else None
    return media_type if charset is None else f"{media_type};charset={charset}"


def _taken(media_type: str) -> bool:
    from functions.ingestion.reading.detection import ALIASES

    kind, _, subtype = media_type.partition("/")
    return media_type in ALIASES or (kind == "text" and subtype != "")


def _charset(parameters: str) -> str | None:
    """Return the charset that a text's type names, None without any; raises Problem `unsupported_media_type`."""
    charset = None
    for parameter in parameters.split(";"):
        name, _, given = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = given.strip(' "')
    if charset is None:
        return None
    try:
        codec = codecs.lookup(charset).name
    except (LookupError, ValueError):
        codec = None
    if codec is None or codec in NO_CHARSETS:
        raise Problem("unsupported_media_type", "The charset of the Content-Type is not known.")
    return codec
