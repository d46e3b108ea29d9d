"""What comes out of each format: headings, tables, lists, code, pages, title and who wrote it."""

from collections.abc import AsyncIterator

import pytest

from functions.ingestion import extraction
from functions.ingestion.extraction import Extraction
from tests.documents import (
    DOCX,
    EPUB,
    HTML,
    MAIL,
    PDF,
    POLICY,
    PPTX,
    XLSX,
    Document,
    Line,
    docx,
    epub,
    mail,
    msg,
    paragraph,
    pdf,
    pptx,
    readable_documents,
    word_table,
    xlsx,
)

BODY = [(11, f"Rule {number} says that everybody may take thirty days of holiday in a year.") for number in range(6)]
RATES = [(11, ("Country", "Rate")), (11, ("Norway", "95")), (11, ("Italy", "70"))]
PAGES: list[list[Line]] = [[(22, "Handbook"), (16, "Holidays"), *BODY], [], [(16, "Sick leave"), *BODY, *RATES]]


@pytest.fixture(autouse=True)
async def _no_process_left() -> AsyncIterator[None]:
    yield
    await extraction.close()


async def read(content: bytes, media_type: str = "", name: str = "") -> Extraction:
    return await extraction.extract(content, media_type, name)


def pages(told: Extraction) -> list[str]:
    """Return the text of each page."""
    return [told.text[start:end].strip() for start, end in zip(told.pages, [*told.pages[1:], None], strict=True)]


@pytest.mark.parametrize("document", list(readable_documents()), ids=lambda document: document.name)
async def test_a_small_document_of_every_format_is_read(document: Document) -> None:
    told = await read(document.content, document.media_type, document.name)
    assert document.text in told.text
    by_name = await read(document.content, "application/octet-stream", document.name)
    assert by_name == told, "the name is enough"


async def test_docx() -> None:
    body = (
        POLICY
        + paragraph("Rates", "Heading2")
        + word_table([("Country", "Rate"), ("Norway", "a | b")])
        + paragraph("End.")
    )
    told = await read(docx(body), DOCX)
    assert told.text == (
        "# Travel policy\n\nTrains before planes.\n\n## Rates\n\n| Country | Rate |\n| --- | --- |\n"
        "| Norway | a \\| b |\n\nEnd.\n"
    )
    assert (told.format, told.pages, told.title, told.media_type) == ("text/markdown", [], "Travel policy", DOCX)
    assert told.metadata == {"author": "Accounting", "created": "2026-03-01T08:00:00Z"}


async def test_xlsx_has_a_page_a_sheet() -> None:
    told = await read(
        xlsx({"Budget": [("Month", "Amount"), ("January", 1200.5)], "Empty": [], "Staff": [("Name",), ("Bob",)]}), XLSX
    )
    assert pages(told) == [
        "## Budget\n\n| Month | Amount |\n| --- | --- |\n| January | 1200.5 |",
        "",
        "## Staff\n\n| Name |\n| --- |\n| Bob |",
    ]


async def test_pptx_has_a_page_a_slide() -> None:
    told = await read(pptx([("Results", ["Revenue grew", "Costs fell"]), ("Outlook", ["Rain"])]), PPTX)
    assert pages(told) == ["## Results\n\nRevenue grew\n\nCosts fell", "## Outlook\n\nRain"]


async def test_pdf_has_its_pages_and_headings_by_size_and_tables_by_their_rules() -> None:
    told = await read(pdf(PAGES), PDF)
    first, second, third = pages(told)
    assert first.startswith("# Handbook\n\n## Holidays\n\nRule 0 says")
    assert second == ""
    assert third.startswith("## Sick leave\n\nRule 0 says")
    assert third.endswith("| Country | Rate |\n| --- | --- |\n| Norway | 95 |\n| Italy | 70 |")
    assert (told.title, told.metadata["author"]) == ("Handbook", "Personnel")


async def test_epub() -> None:
    told = await read(
        epub(["<h1>One</h1><p>It was <em>night</em>.</p><ul><li>x</li></ul>", "<h1>Two</h1><p>Morning.</p>"]), EPUB
    )
    assert told.text == "# One\n\nIt was *night*.\n\n- x\n\n# Two\n\nMorning.\n"
    assert (told.title, told.metadata["author"], told.metadata["language"]) == ("A Book", "An Author", "en")


async def test_html() -> None:
    page = (
        "<!doctype html><html><head><title>The &amp; page</title><style>p{}</style><script>alert(1)</script></head><body>"
        "<nav>menu</nav><header><h1>Head</h1></header><form><p>Para <b>bold</b> <a href='https://a.test/'>link</a></p></form>"
        "<ul><li>one<li>two</ul><table><tr><th>A<th>B<tr><td>1<td>2</table><pre><code class=language-python>def f():\n"
        "    return 1\n</code></pre></body></html>"
    )
    told = await read(page.encode(), HTML)
    assert told.text == (
        "# Head\n\nPara **bold** [link](https://a.test/)\n\n- one\n- two\n\n| A | B |\n| --- | --- |\n| 1 | 2 |\n\n"
        "```python\ndef f():\n    return 1\n```\n"
    )
    assert told.title == "The & page"


async def test_email_with_an_attachment_of_another_format() -> None:
    attached = [
        ("policy.docx", DOCX, docx(POLICY)),
        ("logo.png", "image/png", b"\x89PNG\r\n"),
        ("a.txt", "text/plain", b"Hi"),
    ]
    told = await read(mail("The budget is settled.", "Grüße", html="<p>other</p>", attached=attached), MAIL)
    assert told.text == (
        "# Grüße\n\nFrom: Ann <ann@example.test>  \nTo: Bob <bob@example.test>  \nDate: Mon, 01 Jun 2026 10:00:00 +0200\n\n"
        "The budget is settled.\n\n## policy.docx\n\n# Travel policy\n\nTrains before planes.\n\n"
        "## logo.png\n\n(not read: The document is an image, whose text only OCR could read.)\n\n## a.txt\n\nHi\n"
    )
    assert (told.title, told.metadata["from"]) == ("Grüße", "Ann <ann@example.test>")


async def test_email_that_has_only_html() -> None:
    told = await read(mail("", html="<h1>Offer</h1><p>Buy <b>now</b></p>"), MAIL)
    assert "# Offer\n\nBuy **now**" in told.text


async def test_outlook_message() -> None:
    told = await read(msg("Budget", "The budget is settled."))
    assert "Budget" in told.text
    assert "The budget is settled." in told.text
    assert told.media_type == "application/vnd.ms-outlook"


async def test_csv_becomes_a_table() -> None:
    told = await read(b'Name;Note\r\nAnn;"a | b\nc"\r\nBob\r\n', "text/csv", "a.csv")
    assert told.text == "| Name | Note |\n| --- | --- |\n| Ann | a \\| b c |\n| Bob |  |\n"
    assert (await read(b"a,b\tc\n1,2\t3\n", name="a.tsv")).text.startswith("| a,b | c |")


@pytest.mark.parametrize(
    ("name", "media_type", "kind"),
    [
        ("tool.py", "text/plain", "text/x-source"),
        ("tool", "text/x-python", "text/x-source"),
        ("data.json", "application/json", "text/x-source"),
        ("notes.md", "", "text/markdown"),
        ("notes", "text/markdown; charset=utf-8", "text/markdown"),
        ("notes.txt", "application/octet-stream", "text/plain"),
        ("notes", "", "text/plain"),
    ],
)
async def test_a_text_is_left_as_it_is(name: str, media_type: str, kind: str) -> None:
    told = await read(b"# water(plants)\r\n\tif dry:\n", media_type, name)
    assert (told.format, told.text) == (kind, "# water(plants)\n\tif dry:\n")
    assert told.metadata == {"charset": "utf-8"}


async def test_an_email_is_known_by_its_first_lines() -> None:
    assert (
        await read(b"Received: x\nFrom: ann@example.test\nSubject: Hello\n\nText", "text/plain", "mail.txt")
    ).title == "Hello"


@pytest.mark.parametrize("charset", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
async def test_a_charset_is_found(charset: str) -> None:
    assert (await read("Ein Gruß aus Köln für alle".encode(charset))).text == "Ein Gruß aus Köln für alle"
