"""Documents by number, no two alike: of every format that is read, and some that cannot be."""

from collections.abc import Callable
from random import Random

from tests.documents import (
    DOCX,
    EPUB,
    HTML,
    MAIL,
    PDF,
    PPTX,
    XLSX,
    Document,
    compound,
    docx,
    epub,
    mail,
    mail_in_mail,
    overlapping,
    paragraph,
    pdf,
    pptx,
    xlsx,
)

SENTENCES = (
    "The keeper of the lock writes the height of the water into the ledger every morning.",
    "Whoever leaves the harbour by night shows a white light at the stern.",
    "Grain is weighed before it is brought into the upper store.",
    "The bell is rung twice when the fog does not lift until noon.",
    "Ropes are turned at the end of each month, and those that are worn are given to the sailmaker.",
)
UNREADABLE_EVERY = 8
"""One document of so many cannot be read."""


def paper(number: int, random: Random) -> Document:
    """Return a document; its text has `berth<number>q`, unless its code says why it has none."""
    if number % UNREADABLE_EVERY == 0:
        return UNREADABLE[number // UNREADABLE_EVERY % len(UNREADABLE)](number)
    parts = [" ".join(random.choices(SENTENCES, k=random.randint(2, 6))) for _ in range(random.choice((1, 1, 2, 5)))]
    parts[-1] += f" It lies at berth{number}q."
    made = READABLE[number % len(READABLE)](number, parts)
    return Document(made.name, made.media_type, made.content, text=f"berth{number}q")


def _named(number: int, kind: str, media_type: str, content: bytes, code: str | None = None) -> Document:
    return Document(f"{number}.{kind}", media_type, content, code)


READABLE: tuple[Callable[[int, list[str]], Document], ...] = (
    lambda n, parts: _named(n, "docx", DOCX, docx("".join(map(paragraph, parts)))),
    lambda n, parts: _named(n, "xlsx", XLSX, xlsx({f"Sheet {n}": [("Part", "Text"), *enumerate_rows(parts)]})),
    lambda n, parts: _named(n, "pptx", PPTX, pptx([(f"Slide {n}", [part]) for part in parts])),
    lambda n, parts: _named(n, "pdf", PDF, pdf([[(11, line) for line in part.split(". ")] for part in parts])),
    lambda n, parts: _named(n, "epub", EPUB, epub([f"<h1>Chapter</h1><p>{part}</p>" for part in parts])),
    lambda n, parts: _named(n, "html", HTML, "".join(f"<h1>Part</h1><p>{part}</p>" for part in parts).encode()),
    lambda n, parts: _named(n, "eml", MAIL, mail("\n\n".join(parts), subject=f"Letter {n}")),
    lambda n, parts: _named(
        n, "csv", "text/csv", "".join(["Part;Text\n", *(f"{n};{part}\n" for part in parts)]).encode()
    ),
    lambda n, parts: _named(n, "md", "text/markdown", "".join(f"# Part\n\n{part}\n\n" for part in parts * 3).encode()),
    lambda n, parts: _named(n, "txt", "text/plain", "\n\n".join(parts).encode()),
    lambda n, parts: _named(
        n, "py", "text/x-python", "".join(f'def part():\n    """{p}"""\n\n\n' for p in parts).encode()
    ),
)


def enumerate_rows(parts: list[str]) -> list[tuple[float, str]]:
    """Return a row a part."""
    return [(float(row), part) for row, part in enumerate(parts, 1)]


def _cut_off(number: int) -> Document:
    whole = docx(paragraph(f"Berth {number}") * 50)
    return _named(number, "docx", DOCX, whole[: len(whole) * 2 // 3], "damaged_document")


UNREADABLE: tuple[Callable[[int], Document], ...] = (
    _cut_off,
    lambda n: _named(n, "pdf", PDF, pdf([[(12, f"Berth {n}")]], password="secret"), "encrypted_document"),
    lambda n: _named(
        n, "docx", DOCX, compound({"EncryptionInfo": b"", "EncryptedPackage": b"%d" % n}), "encrypted_document"
    ),
    lambda n: _named(n, "txt", "text/plain", b"berth %d\0" % n, "undecodable_document"),
    lambda n: _named(n, "html", HTML, b"<html><!-- %d --></html>" % n, "no_text"),
    lambda n: _named(n, "rtf.txt", "text/plain", rb"{\rtf1 %d}" % n, "unsupported_media_type"),
    lambda n: _named(n, "eml", MAIL, b"X-Number: %d\r\n" % n + mail_in_mail(12), "nested_too_deep"),
    lambda n: _named(n, "xlsx", XLSX, overlapping(), "archive_bomb"),
)
