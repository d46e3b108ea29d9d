"""Documents that were made to fail, hang, swallow memory or deceive: each ends with a status that says what is wrong."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from functions.ingestion import extraction
from functions.ingestion.extraction import Limits
from shared.problems import Problem
from tests.documents import EPUB, HOSTILE, Document, docx, epub, mail, mail_in_mail, paragraph

PATIENCE = Limits(seconds=2)
"""For what never ends."""


@pytest.fixture(autouse=True)
async def _no_process_left() -> AsyncIterator[None]:
    yield
    await extraction.close()


async def outcome(document: Document, limits: Limits | None = None) -> tuple[str | None, str]:
    """Return the code of the problem, if any, and detail or text."""
    try:
        told = await extraction.extract(document.content, document.media_type, document.name, limits)
    except Problem as problem:
        return problem.code, problem.detail
    return None, told.text


@pytest.mark.parametrize("group", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_document_has_its_status(group: Callable[[], Iterator[Document]]) -> None:
    wrong, seen = [], 0
    for document in group():
        limits = PATIENCE if document.code == "extraction_timeout" else None
        code, said = await outcome(document, limits)
        seen += 1
        if code != document.code or (code is None and document.text not in said):
            wrong.append((document.name, code, said[:200]))
    assert wrong == []
    assert seen > 2


async def test_an_external_entity_is_not_followed() -> None:
    (thief,) = (document for document in HOSTILE["entities"]() if document.name == "thief.docx")
    code, said = await outcome(thief)
    assert code is None
    assert "root:" not in said


@pytest.mark.parametrize(("depth", "code"), [(3, None), (4, "nested_too_deep")])
async def test_documents_within_an_email_are_read_as_deep_as_the_limit_says(depth: int, code: str | None) -> None:
    told, said = await outcome(Document("a.eml", "message/rfc822", mail_in_mail(depth)))
    assert told == code
    assert code or "the innermost" in said


@pytest.mark.parametrize(
    ("limits", "document", "code"),
    [
        (Limits(size_bytes=10), Document("a.txt", "text/plain", b"eleven bytes"), "document_too_large"),
        (Limits(characters=10), Document("a.txt", "text/plain", b"eleven letters"), "document_too_large"),
        (Limits(members=5), Document("a.docx", "", docx(paragraph("a"))), "archive_bomb"),
        (Limits(expanded_bytes=500), Document("a.docx", "", docx(paragraph("a"))), "archive_bomb"),
        (
            Limits(nesting=0),
            Document("a.eml", "", mail("a", attached=[("a.txt", "text/plain", b"b")])),
            "nested_too_deep",
        ),
    ],
)
async def test_each_limit_is_a_setting(limits: Limits, document: Document, code: str) -> None:
    assert (await outcome(document, limits))[0] == code
    assert (await outcome(document))[0] is None


async def test_a_book_under_copy_protection_is_said_to_be_encrypted() -> None:
    key = '<encryption xmlns="x"><EncryptedData><CipherReference URI="o/c0.xhtml"/></EncryptedData></encryption>'
    book = epub(["<p>x</p>"], extra=[("META-INF/encryption.xml", key)])
    assert (await outcome(Document("a.epub", EPUB, book)))[0] == "encrypted_document"
    font = key.replace("o/c0.xhtml", "o/font.otf")
    assert (await outcome(Document("a.epub", EPUB, epub(["<p>x</p>"], extra=[("META-INF/encryption.xml", font)]))))[
        0
    ] is None
