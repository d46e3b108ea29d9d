"""What reading one document may cost, and what is said when it cannot be read."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one document may cost."""

    size_bytes: int = 50 * MEBIBYTE
    pages: int = 2_000
    """Pages of a PDF, slides or sheets."""
    seconds: float = 120
    memory_bytes: int = 1024 * MEBIBYTE
    """Address space of the process that reads it, of which about 150 MiB are its code."""
    nesting: int = 3
    """E-mails and documents inside one another: 1 is an attachment, 2 an attachment of an attached e-mail."""
    members: int = 10_000
    """Files in a container such as a DOCX."""
    expanded_bytes: int = 500 * MEBIBYTE
    """Size of all that a container unpacks to."""
    expansion_ratio: int = 200
    """Unpacked to packed; only what unpacks to more than RATIO_FREE_BYTES is judged by it."""
    characters: int = 10_000_000
    """Length of the text that comes out."""


class Refusal(Exception):
    """A document that is not read: a code of shared.problems, and a sentence for a person."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def check_length(characters: int, limits: Limits) -> None:
    """Raise Refusal `document_too_large` where a text is longer than the limits allow."""
    if characters > limits.characters:
        raise Refusal("document_too_large", f"The document has more than {limits.characters} characters of text.")
