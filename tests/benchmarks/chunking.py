"""Splitting documents into passages, beside the bare tokenizer and a library's splitter on the same texts.

Started as `python -m tests.benchmarks.chunking` (`make bench-chunking`). Per kind of text, in characters a second of CPU time,
the best of some rounds that alternate:

    platform    functions/ingestion/chunking.py
    tokenizer   its floor: the text's tokens and their offsets, once
    library     semantic-text-splitter in Rust, with the same vocabulary, size and overlap

Fails when the platform takes more than 4 times the floor, or longer than the library.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer as Vocabulary

from functions.ingestion import tokens
from functions.ingestion.chunking import MARKDOWN, SOURCE, split
from infra.local.model_server.files import model_directory

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SIZE, OVERLAP = 192, 32
ROUNDS = 5
CHARACTERS = 200_000
MOST = 4.0


def texts() -> dict[str, tuple[str, str]]:
    """Return (format, text) of each kind: this repository's documents and code, and prose without structure."""
    documents = "\n\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    code = "\n\n".join(path.read_text() for path in sorted((ROOT / "functions").glob("*/*.py")))
    table = "| name | what | how many |\n|---|---|---|\n" + "".join(
        f"| part {number} | what part {number} is for | {number} |\n" for number in range(5000)
    )
    line = " ".join(documents.split())
    cut = {
        "documents": (MARKDOWN, documents),
        "table": (MARKDOWN, table),
        "code": (SOURCE, code),
        "one line": ("", line),
    }
    return {kind: (format_, text[:CHARACTERS]) for kind, (format_, text) in cut.items()}


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call and its result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def main() -> None:
    """Print the table; exit with 1 beyond the limits."""
    path = model_directory() / "tokenizer.json"
    tokenizer = tokens.load(path, SIZE)
    vocabulary = Vocabulary.from_file(str(path))
    vocabulary.no_truncation()
    vocabulary.no_padding()
    failed = False
    print(f"{'':12}{'platform':>22}{'tokenizer':>22}{'library':>22}   (characters/s, passages)")
    for kind, (format_, text) in texts().items():
        library = (MarkdownSplitter if format_ == MARKDOWN else TextSplitter).from_huggingface_tokenizer(
            vocabulary, SIZE, OVERLAP
        )
        sides: dict[str, Callable[[], Any]] = {
            "platform": lambda text=text, format_=format_: split(  # type: ignore[misc]
                text, format_, (), size_tokens=SIZE, overlap_tokens=OVERLAP, tokenizer=tokenizer
            ),
            "tokenizer": lambda text=text: tokenizer.starts(text),  # type: ignore[misc]
            "library": lambda text=text, library=library: library.chunks(text),  # type: ignore[misc]
        }
        best = {side: float("inf") for side in sides}
        found = dict.fromkeys(sides, 0)
        for _ in range(ROUNDS):
            for side, work in sides.items():
                seconds, result = cpu(work)
                best[side], found[side] = min(best[side], seconds), len(result)
        figures = "".join(f"{len(text) / best[side]:>14,.0f} {found[side]:>7,}" for side in sides)
        ratio, gain = best["platform"] / best["tokenizer"], best["library"] / best["platform"]
        print(f"{kind:12}{figures}   {ratio:.1f} times the floor, {gain:.1f} times as quick as the library")
        failed |= ratio > MOST or gain < 1
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
