"""Documents over HTTP: forms, names in addresses, lists, what is handed out, retry and deletion."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest

from functions.ingestion.models import Documents
from shared.settings import get_settings
from tests.functions.asgi import Reply, call
from tests.functions.platform import CONSUMERS, Platform
from tests.functions.upstream import Reply as Upstreamed
from tests.functions.upstream import Upstream, status

UNKNOWN = "00000000-0000-4000-8000-000000000000"
BOUNDARY = "a-boundary"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

Part = tuple[dict[str, str], bytes]


def field(name: str, value: str) -> Part:
    return {"Content-Disposition": f'form-data; name="{name}"'}, value.encode()


def file(name: str, body: bytes, content_type: str | None = "text/markdown") -> Part:
    headers = {"Content-Disposition": f'form-data; name="file"; filename="{name}"'}
    return headers | ({"Content-Type": content_type} if content_type else {}), body


def form(parts: Sequence[Part]) -> bytes:
    """Return a form as a browser sends it."""
    written = b""
    for headers, body in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        written += f"--{BOUNDARY}\r\n{lines}\r\n".encode() + body + b"\r\n"
    return written + f"--{BOUNDARY}--\r\n".encode()


async def send(platform: Platform, *parts: Part, headers: dict[str, str] | None = None) -> Reply:
    return await platform.call("ingestion", "POST", "/documents", headers=FORM | (headers or {}), body=form(parts))


async def put(platform: Platform, name: str, body: bytes, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await platform.call(
        "ingestion", "PUT", f"/documents/shelf/{name}", headers={"Content-Type": "text/markdown"} | named, body=body
    )


async def ask(platform: Platform, method: str, path: str, **options: Any) -> Reply:
    return await platform.call("ingestion", method, path, **options)


async def listed(platform: Platform, query: str = "") -> Any:
    reply = await ask(platform, "GET", f"/documents{query}")
    assert reply.status == 200, reply
    Documents.model_validate(reply.json(), extra="forbid")
    return reply.json()


def names(page: Any) -> list[str]:
    return [document["name"] for document in page["documents"]]


# Forms


async def test_the_files_of_a_form_become_documents_with_its_fields(platform: Platform) -> None:
    reply = await send(
        platform,
        field("collection", "manuals"),
        field("metadata", '{"team": "pumps", "level": 2}'),
        field("dated", "2026-02-03T04:05:06Z"),
        file("a.md", b"# A\n\nFirst."),
        file("folder/sub folder/b.txt", b"Second.", "text/plain; charset=iso-8859-1"),
        file("c%22.py", b"print('third')", "application/octet-stream"),
        file("d.csv", b"a,b\r\n1,2\r\n--not-the-boundary\r\n", None),
    )
    assert reply.status == 202, reply
    stored = [outcome["document"] for outcome in reply.json()["files"]]
    assert [(d["name"], d["media_type"]) for d in stored] == [
        ("a.md", "text/markdown"),
        ("folder/sub folder/b.txt", "text/plain"),
        ('c".py', "text/x-source"),
        ("d.csv", "text/csv"),
    ]
    for document in stored:
        assert document["collection"] == "manuals"
        assert document["metadata"] == {"team": "pumps", "level": 2}
        assert document["dated"] == "2026-02-03T04:05:06+00:00"
    content = await ask(platform, "GET", f"/documents/{stored[3]['id']}/content")
    assert content.body == b"a,b\r\n1,2\r\n--not-the-boundary\r\n"


async def test_a_file_that_is_refused_stops_no_other(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_DOCUMENT_BYTES", "1000")
    get_settings.cache_clear()
    reply = await send(
        platform,
        file("empty.md", b""),
        file("large.md", b"x" * 1001),
        file("picture.png", b"\x89PNG", "image/png"),
        file("../../etc/passwd", b"root"),
        file("good.md", b"x" * 1000),
    )
    assert reply.status == 207
    outcomes = reply.json()["files"]
    assert [(o["name"], o["status"], o.get("problem", {}).get("code")) for o in outcomes] == [
        ("empty.md", 422, "undecodable_document"),
        ("large.md", 413, "request_too_large"),
        ("picture.png", 415, "unsupported_media_type"),
        ("../../etc/passwd", 422, "invalid_request"),
        ("good.md", 202, None),
    ]
    assert names(await listed(platform)) == ["good.md"]
    whole = [file(f"{n}.md", b"x" * 900) for n in range(10)]
    too_long = await send(platform, *whole)
    assert (too_long.status, too_long.code()) == (413, "request_too_large")


NO_FORMS: dict[str, tuple[str, bytes, str]] = {
    "no boundary": ("multipart/form-data", form([file("a.md", b"a")]), "malformed_multipart"),
    "another boundary": ("multipart/form-data; boundary=other", form([file("a.md", b"a")]), "malformed_multipart"),
    "a boundary of 2 kB": (f"multipart/form-data; boundary={'b' * 2000}", b"", "malformed_multipart"),
    "nothing": (FORM["Content-Type"], b"", "malformed_multipart"),
    "no part": (FORM["Content-Type"], form([]), "invalid_request"),
    "no file": (FORM["Content-Type"], form([field("collection", "a")]), "invalid_request"),
    "no end": (FORM["Content-Type"], form([field("a", "b")])[:-4], "malformed_multipart"),
    "rubbish": (FORM["Content-Type"], bytes(range(256)) * 10, "malformed_multipart"),
    "no disposition": (FORM["Content-Type"], form([({"Content-Type": "text/plain"}, b"a")]), "malformed_multipart"),
    "a header of 10 kB": (FORM["Content-Type"], form([({"X": "y" * 10_000}, b"a")]), "malformed_multipart"),
    "201 parts": (FORM["Content-Type"], form([field("a", "b")] * 201), "malformed_multipart"),
    "a field of 100 kB": (FORM["Content-Type"], form([field("metadata", "x" * 100_000)]), "request_too_large"),
    "a field that is no UTF-8": (
        FORM["Content-Type"], form([({"Content-Disposition": 'form-data; name="collection"'}, b"\xff")]), "invalid_request",
    ),
    "metadata that are no JSON": (FORM["Content-Type"], form([field("metadata", "{"), file("a.md", b"a")]), "invalid_request"),
    "no collection": (FORM["Content-Type"], form([field("collection", "../a"), file("a.md", b"a")]), "invalid_request"),
}  # fmt: skip


async def test_what_is_no_form_is_refused_and_leaves_nothing(platform: Platform) -> None:
    before = platform.counts()
    codes = {}
    for case, (kind, body, _) in NO_FORMS.items():
        reply = await ask(platform, "POST", "/documents", headers={"Content-Type": kind}, body=body)
        codes[case] = reply.code()
    assert codes == {case: code for case, (*_, code) in NO_FORMS.items()}
    assert platform.counts() == before


async def test_a_form_that_breaks_off_tells_what_was_stored_before(platform: Platform) -> None:
    whole = form([file("a.md", b"First."), file("b.md", b"Second.")])
    reply = await ask(platform, "POST", "/documents", headers=FORM, body=whole[: whole.index(b"Second")])
    assert reply.code() == "malformed_multipart"
    assert [outcome["name"] for outcome in reply.json()["files"]] == ["a.md"]
    assert names(await listed(platform)) == ["a.md"]


async def test_a_field_after_the_files_is_refused_and_what_was_stored_is_told(platform: Platform) -> None:
    reply = await send(platform, file("a.md", b"First."), field("collection", "manuals"))
    assert (reply.status, reply.code()) == (422, "invalid_request")
    assert "collection" in reply.json()["detail"]
    assert [outcome["document"]["collection"] for outcome in reply.json()["files"]] == ["default"]


async def test_a_form_may_come_in_pieces_of_any_size(platform: Platform) -> None:
    body = form([field("collection", "bits"), file("a.md", b"\r\n--a-boundar\r\nText.\r\n"), file("b.md", b"More.")])
    headers = platform.bearer() | FORM
    for size in (1, 7, 64):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        reply = await call(platform.serve("ingestion"), "POST", "/documents", headers, pieces)
        assert reply.status == 202, reply
    assert [(d["name"], d["size_bytes"], d["version"]) for d in (await listed(platform))["documents"]] == [
        ("a.md", len("\r\n--a-boundar\r\nText.\r\n"), 1),
        ("b.md", 5, 1),
    ]


# By name


async def test_a_name_in_the_address_may_be_anything_that_leads_nowhere_else(platform: Platform) -> None:
    for name in (
        "a.md",
        "folder/b c.md",
        "100% gr\u00fc\u00dfe & more?.md",
        'quote".md',
        "\u05e9\u05dc\u05d5\u05dd.md",
    ):
        reply = await put(platform, quote(name), b"Text.")
        assert (reply.status, reply.json()["name"], reply.json()["collection"]) == (202, name, "shelf"), name
        assert reply.headers["location"] == f"/documents/{reply.json()['id']}"
    for name in (
        "..",
        "../a.md",
        "a/../../b.md",
        "%2e%2e/a.md",
        "..%2Fa.md",
        "a%00.md",
        "%2Fetc/passwd",
        "a%5C..%5Cb",
        "n" * 256,
    ):
        assert (await put(platform, name, b"Text.")).code() == "invalid_request", name
    for name in ("", "a%0A.md"):
        assert (await put(platform, name, b"Text.")).code() in {"invalid_request", "route_not_found"}
    assert len((await listed(platform))["documents"]) == 5


async def test_storing_by_name_is_idempotent_and_can_ask_for_a_version(platform: Platform) -> None:
    first = await put(platform, "a.md", b"One.", If_None_Match="*")
    assert first.status == 202
    await platform.deliver()
    again = await put(platform, "a.md", b"One.")
    assert (again.status, again.headers["etag"], again.json()["version"]) == (200, first.headers["etag"], 1)
    assert await platform.deliver() == []
    exists = await put(platform, "a.md", b"Two.", If_None_Match="*")
    assert (exists.status, exists.code()) == (412, "precondition_failed")
    second = await put(platform, "a.md", b"Two.", If_Match=f'"other", {first.headers["etag"]}')
    assert (second.status, second.json()["version"]) == (202, 2)
    lost = await put(platform, "a.md", b"Three.", If_Match=first.headers["etag"])
    assert (lost.status, lost.json()["version"]) == (412, 2)
    assert (await put(platform, "a.md", b"Three.", If_Match="*")).status == 202
    assert (await put(platform, "b.md", b"One.", If_Match="*")).code() == "precondition_failed"
    assert (await put(platform, "b.md", b"One.", If_Match="nonsense")).code() == "invalid_request"
    assert (await put(platform, "b.md", b"One.", If_None_Match='"x"')).code() == "invalid_request"
    assert names(await listed(platform)) == ["a.md"]


async def test_the_same_upload_many_times_at_once_is_one_document(platform: Platform) -> None:
    replies = await asyncio.gather(*(put(platform, "a.md", b"Once.") for _ in range(8)))
    assert {(reply.status, reply.json()["version"], reply.json()["id"]) for reply in replies} == {
        (202, 1, replies[0].json()["id"])
    }
    assert len(platform.claim()) == 1
    different = await asyncio.gather(*(put(platform, "b.md", f"{n}".encode(), If_None_Match="*") for n in range(8)))
    assert sorted(reply.status for reply in different) == [202] + [412] * 7
    versions = await asyncio.gather(*(put(platform, "c.md", f"{n}".encode()) for n in range(8)))
    assert max(reply.json()["version"] for reply in versions) == 8


async def test_the_same_bytes_under_another_name_say_so(platform: Platform) -> None:
    first = (await put(platform, "a.md", b"Same.")).json()
    second = (await put(platform, "b.md", b"Same.")).json()
    other = (await platform.upload("c.md", b"Same.", collection="other")).json()
    assert (first["duplicate_of"], second["duplicate_of"], other["duplicate_of"]) == (None, first["id"], None)
    changed = (await put(platform, "b.md", b"Different.")).json()
    assert changed["duplicate_of"] is None


async def test_new_metadata_of_the_same_bytes_are_kept_without_indexing_again(platform: Platform) -> None:
    await put(platform, "a.md?metadata=%7B%22a%22:1%7D&dated=2026-01-01", b"Text.")
    await platform.deliver()
    changed = await put(platform, "a.md?metadata=%7B%22b%22:%22x%22%7D", b"Text.")
    assert (changed.status, changed.json()["metadata"]) == (200, {"a": 1, "b": "x", "charset": "utf-8"})
    assert changed.json()["dated"] == "2026-01-01T00:00:00+00:00"
    assert await platform.deliver() == []
    # Other bytes are another document of the same name.
    assert (await put(platform, "a.md", b"Other.")).json()["metadata"] == {}


# Lists


async def test_a_list_comes_page_by_page_and_filtered(platform: Platform) -> None:
    for number in range(5):
        await put(
            platform, f"guides/{number}.md?metadata=%7B%22odd%22:{'true' if number % 2 else 'false'}%7D", b"Text."
        )
    await platform.upload("a.md", b"Text.", collection="another")
    await platform.deliver()
    await put(platform, "late.md", b"Text.")
    everything: list[str] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        page = await listed(platform, f"?limit=2{cursor and f'&cursor={quote(cursor)}'}")
        assert page["counts"] == {"received": 1, "processing": 0, "indexed": 6, "failed": 0}
        everything += names(page)
        cursor, pages = page["next_cursor"], pages + 1
    assert everything == ["a.md", *(f"guides/{number}.md" for number in range(5)), "late.md"]
    assert pages == 4
    assert names(await listed(platform, "?collection=shelf&status=received")) == ["late.md"]
    assert names(await listed(platform, "?prefix=guides/&limit=1")) == ["guides/0.md"]
    odd = await listed(platform, "?collection=shelf&metadata=%7B%22odd%22:true%7D")
    assert (names(odd), odd["counts"]["indexed"]) == (["guides/1.md", "guides/3.md"], 2)
    assert names(await listed(platform, "?prefix=%25")) == []
    for query in (
        "limit=0",
        "limit=1001",
        "limit=x",
        "status=gone",
        "cursor=nowhere",
        "cursor=",
        "cursor=%00",
        "metadata=[]",
        "prefix=%00",
    ):
        assert (await ask(platform, "GET", f"/documents?{query}")).code() == "invalid_request", query


# What is handed out


@pytest.mark.parametrize(
    ("name", "plain"),
    [("\u65e5\u672c.md", "document.md"), ("\xe9.md", "document.md"), ("\xe9\xe9", "document"), (".env", "env")],
)
async def test_a_file_keeps_its_suffix_for_who_reads_ascii_names_only(
    platform: Platform, name: str, plain: str
) -> None:
    stored = await platform.upload(quote(name, safe=""), b"Text.", "text/plain")
    reply = await ask(platform, "GET", f"/documents/{stored.json()['id']}/content")
    assert f'filename="{plain}"' in reply.headers["content-disposition"]


async def test_the_original_is_handed_out_as_a_file(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.ingestion.documents.SLICE_BYTES", 1000)
    body = bytes(range(256)) * 20
    name = 'folder/<b>"; x=y\u2028.html'
    stored = await platform.upload(quote(name, safe=""), body, "text/html; charset=latin-1")
    assert stored.status == 202, stored
    url = f"/documents/{stored.json()['id']}/content"
    reply = await ask(platform, "GET", url)
    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["content-type"] == "text/html;charset=iso8859-1"
    assert reply.headers["content-length"] == str(len(body))
    assert reply.headers["content-disposition"] == "attachment; filename=\"b-x-y-.html\"; filename*=UTF-8''b-x-y-.html"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"] == "sandbox"
    cached = await ask(platform, "GET", url, headers={"If-None-Match": f'W/"x", {reply.headers["etag"]}'})
    assert (cached.status, cached.body) == (304, b"")
    assert (await ask(platform, "GET", f"/documents/{UNKNOWN}/content")).code() == "not_found"


async def test_a_citation_can_be_shown_in_its_place(platform: Platform) -> None:
    text = "# Gr\u00fc\u00dfe\n\nThe limit is ten. \U0001f600 Always.\n\n## More\n\nNothing.\n"
    document = (await platform.store("a.md", text))["id"]
    whole = (await ask(platform, "GET", f"/documents/{document}/text")).json()
    assert whole == {"document_id": document, "version": 1, "start": 0, "length": len(text), "text": text}
    with platform.database.connect() as operator:
        places = operator.query("SELECT start_char, end_char, content FROM rag.chunks")
    for start, end, content in places:
        place = (await ask(platform, "GET", f"/documents/{document}/text?start={start}&end={end}")).json()
        assert (place["text"], place["start"]) == (content, start)
    assert (await ask(platform, "GET", f"/documents/{document}/text?start=5&end=2")).json()["text"] == ""
    assert (await ask(platform, "GET", f"/documents/{document}/text?start=2147483646")).json()["text"] == ""
    for query in ("start=-1", "end=-1", "start=x", "start=2147483648", "end=99999999999"):
        assert (await ask(platform, "GET", f"/documents/{document}/text?{query}")).code() == "invalid_request", query
    waiting = (await platform.upload("b.md", b"Text.")).json()["id"]
    assert (await ask(platform, "GET", f"/documents/{waiting}/text")).code() == "conflict"
    # While a newer version waits, the text is that of the one that is found.
    await platform.upload("a.md", b"New.")
    assert (await ask(platform, "GET", f"/documents/{document}/text")).json() == whole


# Retry


async def test_a_document_that_failed_begins_anew_when_it_is_asked_to(platform: Platform, upstream: Upstream) -> None:
    healthy, upstream.embeddings = upstream.embeddings, status(400)
    failed = await platform.store("a.md", "Text.")
    assert (failed["status"], failed["error_code"]) == ("failed", "embedding_rejected")
    assert failed["advice"]
    await platform.store("b.md", "Text of b.")
    upstream.embeddings = healthy
    retried = await ask(platform, "POST", f"/documents/{failed['id']}/retry")
    assert (retried.status, retried.json()["status"], retried.json()["version"]) == (202, "processing", 1)
    assert retried.json()["error_code"] is retried.json()["advice"] is None
    busy = await ask(platform, "POST", f"/documents/{failed['id']}/retry")
    assert (busy.status, busy.code()) == (409, "conflict")
    await platform.deliver()
    assert [d["status"] for d in (await listed(platform))["documents"]] == ["indexed", "failed"]
    every = await ask(platform, "POST", "/documents/retry?collection=default")
    assert (every.status, every.json()) == (202, {"documents": 1})
    await platform.deliver()
    assert (await listed(platform))["counts"]["indexed"] == 2
    assert (await ask(platform, "POST", "/documents/retry?collection=default")).json() == {"documents": 0}
    assert (await ask(platform, "POST", "/documents/retry?collection=nowhere")).code() == "not_found"
    assert (await ask(platform, "POST", "/documents/retry")).code() == "invalid_request"
    assert (await ask(platform, "POST", f"/documents/{UNKNOWN}/retry")).code() == "not_found"


# Deletion


def left(platform: Platform) -> dict[str, int]:
    tables = ("rag.documents", "rag.contents", "rag.chunks", "rag.embeddings", "rag.embedding_queue")
    with platform.database.connect() as operator:
        return {table: operator.value(f"SELECT count(*) FROM {table}") for table in tables}


async def test_a_deleted_document_leaves_nothing_but_what_answers_quote(platform: Platform) -> None:
    document = (await platform.store("limits.md", "# Limits\n\nThe limit of uploads is ten megabytes."))["id"]
    stream = await platform.ask("What is the limit of uploads?")
    turn = stream.headers["x-turn-id"]
    [cited] = (await platform.read(turn))["citations"]
    assert (
        await ask(platform, "DELETE", f"/documents/{document}", headers={"If-Match": '"old"'})
    ).code() == "precondition_failed"
    assert (await ask(platform, "DELETE", f"/documents/{document}")).status == 204
    assert set(left(platform).values()) == {0}
    [kept] = (await platform.read(turn))["citations"]
    assert kept == cited | {"document_id": None}
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/content"),
        ("GET", "/text"),
        ("GET", "/progress"),
        ("POST", "/retry"),
    ):
        assert (await ask(platform, method, f"/documents/{document}{path}")).code() == "not_found", path
    entry = platform.audited(platform.tenants[0])[-1]
    assert (entry.action, entry.object, entry.data) == (
        "document.deleted",
        document,
        {"name": "limits.md", "version": 1},
    )


async def test_a_document_that_is_deleted_in_mid_work_stays_deleted(platform: Platform, upstream: Upstream) -> None:
    healthy = upstream.embeddings
    working, gate = asyncio.Event(), asyncio.Event()

    async def answer(reply: Upstreamed, request: dict[str, object]) -> None:
        working.set()
        await gate.wait()
        await healthy(reply, request)

    upstream.embeddings = answer
    document = (await platform.upload("a.md", b"Text.")).json()["id"]
    losing = asyncio.create_task(platform.deliver())
    await working.wait()
    assert (await ask(platform, "DELETE", f"/documents/{document}")).status == 204
    gate.set()
    assert {reply.status for reply in await losing} == {200}, "nothing is left to do for it"
    assert set(left(platform).values()) == {0}


async def test_what_becomes_of_a_document_is_told_to_whoever_subscribes(platform: Platform, upstream: Upstream) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    async def deliver() -> None:
        while claimed := platform.claim():
            for event in claimed:
                kind = event["type"].removeprefix("com.enterprise-agents.").removesuffix(".v1")
                if kind != "embedding.requested":
                    told.append((kind, event["data"]))
                if event["type"] in CONSUMERS:
                    assert (await platform.post(event)).status == 200
            with platform.database.connect("relay") as relay:
                relay.call("events.acknowledge", p_seqs=[event["seq"] for event in claimed])

    document = (await put(platform, "a.md", b"Text.")).json()["id"]
    await deliver()
    upstream.embeddings = status(400)
    await put(platform, "a.md", b"New.")
    await deliver()
    await ask(platform, "DELETE", f"/documents/{document}")
    await deliver()
    named = {"document_id": document, "name": "a.md", "collection": "shelf"}
    assert [kind for kind, _ in told] == [
        "ingestion.received", "ingestion.indexed", "ingestion.received", "ingestion.failed", "document.deleted",
    ]  # fmt: skip
    assert told[1][1] == named | {"version": 1, "chunks": 1, "chunks_failed": 0}
    assert told[3][1] == named | {"version": 2, "chunks": 1, "chunks_failed": 1, "error_code": "embedding_rejected"}
    assert told[4][1] == named | {"version": 2}
    assert json.dumps(told).count("Text.") == 0
