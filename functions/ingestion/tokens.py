"""Tokens of the embedding model: where they begin in a text, and how many there are.

The model's own vocabulary is a Hugging Face `tokenizer.json`, named by EMBEDDING_TOKENIZER. Nothing is ever downloaded: without
that file tokens are estimated, rather too many than too few.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shared import logs

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Vocabulary

ESTIMATED = re.compile(r"[A-Z]?[a-z]{1,5}|[A-Z]{1,3}|[0-9]|[\r\n]+|[^\s]")
"""What the usual vocabularies seldom need more than one token for: the tests hold it against word pieces and byte pairs."""
DENSE = (("\u0900", "\u1fff", 2), ("\uac00", "\ud7a3", 2), ("\U00010000", "\U0010ffff", 3))
"""Characters, from and to, that are several tokens where a vocabulary hardly knows their script, and how many."""


class Tokenizer(Protocol):
    """Counts as the embedding model does."""

    name: str
    """What the counts come from: a file's name, or `estimate`."""
    window: int | None
    """How many tokens of text the model reads, without the special ones around it; None where that is not known."""

    def starts(self, text: str) -> list[int]:
        """Return the offset, in characters, at which each token begins, ascending."""

    def count(self, text: str) -> int:
        """Return how many tokens the text has, without special ones."""


class Estimate:
    """Estimates tokens for a model whose vocabulary is not known."""

    name = "estimate"
    window: int | None = None

    def starts(self, text: str) -> list[int]:
        """Return where the estimated tokens begin; a character that is several tokens counts several times."""
        starts = [match.start() for match in ESTIMATED.finditer(text)]
        if not text.isascii():
            starts = [at for at in starts for _ in range(_weight(text[at]))]
        return starts

    def count(self, text: str) -> int:
        """Return the estimate."""
        return len(self.starts(text))


class TokenizerFile:
    """Counts by a `tokenizer.json`; its methods may be called from several threads at once.

    Raises ValueError for a file that is none, OSError where there is none.
    """

    def __init__(self, path: Path) -> None:
        # Imported with the first document: a process that only takes documents in never needs it.
        from tokenizers import Tokenizer as Vocabulary

        text = path.read_text(encoding="utf-8")
        try:
            vocabulary = Vocabulary.from_str(text)
        except Exception as error:
            raise ValueError(f"EMBEDDING_TOKENIZER: {path.name} is no Hugging Face tokenizer.json: {error}") from error
        self.name = path.name
        self.window = _window(path, vocabulary)
        # As loaded it may cut each text at that window, and fill it up to it.
        vocabulary.no_truncation()
        vocabulary.no_padding()
        self._vocabulary = vocabulary

    def starts(self, text: str) -> list[int]:
        """Return where the tokens begin."""
        return [start for start, _ in self._vocabulary.encode(text, add_special_tokens=False).offsets]

    def count(self, text: str) -> int:
        """Return how many there are; twice as quick as their offsets."""
        return len(self._vocabulary.encode_batch_fast([text], add_special_tokens=False)[0])


@cache
def load(path: Path | None, size_tokens: int) -> Tokenizer:
    """Return what counts, once a process, and log what it is and when the model reads less than `size_tokens`."""
    tokenizer: Tokenizer = Estimate() if path is None else TokenizerFile(path)
    logs.info("tokenizer_loaded", tokenizer=tokenizer.name, window=tokenizer.window)
    if tokenizer.window is not None and tokenizer.window < size_tokens:
        logs.warning("chunk_size_limited", chunk_size_tokens=size_tokens, window=tokenizer.window)
    return tokenizer


def _weight(character: str) -> int:
    return next((tokens for first, last, tokens in DENSE if first <= character <= last), 1)


def _window(path: Path, vocabulary: "Vocabulary") -> int | None:
    """Return the tokens that the model reads of a text, or None where nothing tells.

    A model for sentence-transformers says so in a file of its own, which outranks `truncation` of tokenizer.json: that of
    all-MiniLM-L6-v2 says 128, and the model reads 256.
    """
    beside = path.with_name("sentence_bert_config.json")
    length = json.loads(beside.read_text(encoding="utf-8")).get("max_seq_length") if beside.is_file() else None
    if length is None and vocabulary.truncation is not None:
        length = vocabulary.truncation["max_length"]
    return None if length is None else max(1, length - vocabulary.num_special_tokens_to_add(is_pair=False))
