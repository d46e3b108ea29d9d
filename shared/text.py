"""Text that PostgreSQL and UTF-8 can hold: no NUL characters, no lone surrogates."""

import codecs
import re
from typing import Annotated

from pydantic import AfterValidator

NUL = "\0"
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Return whether a text can be stored; escapes in JSON and odd charsets name characters that cannot."""
    return UNSTORABLE.search(text) is None


def storable(text: str) -> str:
    """Return the text without NUL characters, and with U+FFFD for lone surrogates."""
    return text if text.isascii() and NUL not in text else Cleaner().clean(text, final=True)


class Cleaner:
    """Makes the pieces of one text storable; a surrogate pair may be split between two of them."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")
        self._waits = False

    def clean(self, piece: str, *, final: bool = False) -> str:
        """Return the piece, without a half pair that waits for the next one unless this is the last."""
        if piece.isascii() and NUL not in piece and not self._waits:
            return piece
        cleaned = self._decoder.decode(piece.encode("utf-16-le", "surrogatepass"), final).replace(NUL, "")
        self._waits = bool(self._decoder.getstate()[0])
        return cleaned


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    if not is_storable(text):
        raise ValueError("must not contain NUL characters or lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_says_something)]
"""What a person wrote: not blank, and storable."""
