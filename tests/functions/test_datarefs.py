"""Documents that events bring: inside of them, or by an address from which they are fetched."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from functions.ingestion import fetching
from infra.local import cloudevent
from shared.events import INGESTION_SUBMITTED
from shared.problems import Problem
from shared.settings import get_settings
from tests.functions.asgi import Reply, call
from tests.functions.platform import Mode, Platform, binary, structured
from tests.functions.test_buckets import documents
from tests.functions.test_events import event as make_event


class FileServer:
    """A server of files, by path."""

    def __init__(self) -> None:
        self.files: dict[str, Callable[[], web.StreamResponse]] = {}
        self.asked: list[str] = []
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def put(self, path: str, body: bytes, content_type: str = "text/markdown") -> None:
        self.files[path] = lambda: web.Response(body=body, headers={"Content-Type": content_type})

    def lead(self, path: str, to: str, status: int = 302) -> None:
        self.files[path] = lambda: web.Response(status=status, headers={"Location": to})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        made = self.files.get(request.path)
        return web.Response(status=404) if made is None else made()


@pytest.fixture
async def files(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FileServer]:
    """A server from which documents may be fetched."""
    assert platform
    server = FileServer()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    monkeypatch.setenv("DATAREF_ALLOWED_ORIGINS", f'["http://127.0.0.1:{server.port}", "https://files.example.com"]')
    get_settings.cache_clear()
    yield server
    await runner.cleanup()


async def submit(
    platform: Platform, dataref: str, data: object = None, mode: Mode = structured, **attributes: Any
) -> Reply:
    extensions = {"tenantid": str(platform.tenants[0]), "dataref": dataref}
    event = make_event(platform, INGESTION_SUBMITTED, data, extensions=extensions, **attributes)
    return await platform.post(event, mode)


@pytest.mark.parametrize("mode", [binary, structured])
async def test_a_document_is_fetched_from_where_its_event_says(
    platform: Platform, files: FileServer, mode: Mode
) -> None:
    files.put("/a%20b.md".replace("%20", " "), b"# Lunch\n\nAt noon.", "text/markdown; charset=utf-8")
    data = {"name": "lunch.md", "collection": "notes", "metadata": {"team": "kitchen"}, "dated": "2026-01-02"}
    assert (await submit(platform, files.url("/a%20b.md"), data, mode)).status == 200
    assert documents(platform) == {"lunch.md": ("notes", b"# Lunch\n\nAt noon.")}
    [document] = (await platform.call("ingestion", "GET", "/documents")).json()["documents"]
    assert (document["metadata"], document["dated"]) == ({"team": "kitchen"}, "2026-01-02T00:00:00+00:00")
    assert {reply.status for reply in await platform.deliver()} == {200}


async def test_an_event_without_data_has_its_name_from_its_subject_or_its_address(
    platform: Platform, files: FileServer
) -> None:
    files.put("/folder/caf\u00e9.txt", b"Open.", "application/octet-stream")
    for subject, id_ in (("menu.txt", "1"), (None, "2")):
        reply = await submit(platform, files.url("/folder/caf%C3%A9.txt?x=/y"), subject=subject, id=id_)
        assert reply.status == 200, reply
    assert set(documents(platform)) == {"menu.txt", "caf\u00e9.txt"}


FORBIDDEN = (
    "http://127.0.0.1:1/a.md",
    "http://127.0.0.1/a.md",
    "https://127.0.0.1:{port}/a.md",
    "http://localhost:{port}/a.md",
    "http://127.0.0.1.example.com:{port}/a.md",
    "http://user@127.0.0.1:{port}/a.md",
    "http://user:word@127.0.0.1:{port}/a.md",
    "http://2130706433:{port}/a.md",
    "http://[::ffff:127.0.0.1]:{port}/a.md",
    "http://169.254.169.254/latest/meta-data",
    "http://files.example.com/a.md",
    "https://files.example.com:8443/a.md",
    "https://files.example.com.evil.example/a.md",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/a.md",
    "gopher://127.0.0.1:{port}/a.md",
    "//127.0.0.1:{port}/a.md",
    "http:127.0.0.1:{port}/a.md",
    "http://127.0.0.1:99999/a.md",
    "http://[::1/a.md",
    "a.md",
    "s3:/",
)


async def test_nothing_is_fetched_from_where_it_is_not_allowed(platform: Platform, files: FileServer) -> None:
    files.put("/a.md", b"Secret.")
    for address in FORBIDDEN:
        reply = await submit(platform, address.format(port=files.port), {"name": "a.md"})
        assert (reply.status, reply.code()) == (422, "dataref_forbidden"), address
    assert (files.asked, documents(platform)) == ([], {})


async def test_by_default_nothing_is_fetched_at_all(
    platform: Platform, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATAREF_ALLOWED_ORIGINS")
    get_settings.cache_clear()
    files.put("/a.md", b"Text.")
    assert (await submit(platform, files.url("/a.md"))).code() == "dataref_forbidden"
    assert files.asked == []


async def test_an_address_may_lead_on_within_what_is_allowed_and_no_further(
    platform: Platform, files: FileServer
) -> None:
    files.put("/there.md", b"Text.")
    files.lead("/a.md", "/there.md", 307)
    assert (await submit(platform, files.url("/a.md"))).status == 200
    for target in (
        "http://169.254.169.254/latest",
        files.url("/there.md", "localhost"),
        "file:///etc/passwd",
    ):
        files.lead("/b.md", target)
        assert (await submit(platform, files.url("/b.md"))).code() == "dataref_forbidden", target
    files.lead("/b.md", "http://[")
    assert (await submit(platform, files.url("/b.md"))).code() == "dataref_refused"
    files.lead("/c.md", "/c.md")
    assert (await submit(platform, files.url("/c.md"))).code() == "dataref_refused"
    assert files.asked.count("/c.md") == 4


HOSTS = {
    "files.example.com": "10.1.2.3",
    "metadata.example.com": "169.254.169.254",
    "mapped.example.com": "::ffff:169.254.169.254",
    "here.example.com": "127.0.0.1",
    "here6.example.com": "::1",
    "everywhere.example.com": "0.0.0.0",  # noqa: S104 - not to be bound to
    "many.example.com": "224.0.0.1",
    "link.example.com": "fe80::1",
}


@pytest.mark.parametrize("host", HOSTS)
async def test_an_allowed_name_that_leads_to_an_odd_address_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """A name is checked as it is resolved for the connection, so that no second answer can differ."""
    from aiohttp import ThreadedResolver

    async def resolve(_: ThreadedResolver, name: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        return [{"hostname": name, "host": HOSTS[name], "port": port, "family": family, "proto": 0, "flags": 0}]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    resolver = fetching.guarded_resolver()
    if host == "files.example.com":
        assert [found["host"] for found in await resolver.resolve(host)] == ["10.1.2.3"]
        return
    with pytest.raises(Problem) as raised:
        await resolver.resolve(host)
    assert raised.value.code == "dataref_forbidden"


async def test_a_server_that_refuses_is_not_asked_again_and_one_that_fails_is(
    platform: Platform, files: FileServer, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, expected in ((404, (422, "dataref_refused")), (403, (422, "dataref_refused")), (204, (422, "dataref_refused")),
                             (500, (503, "dataref_unavailable")), (429, (503, "dataref_unavailable"))):  # fmt: skip
        files.files["/a.md"] = lambda status=status: web.Response(status=status)  # type: ignore[misc]
        reply = await submit(platform, files.url("/a.md"))
        assert (reply.status, reply.code()) == expected
    monkeypatch.setenv("DATAREF_ALLOWED_ORIGINS", f'["http://127.0.0.1:{closed_port}"]')
    get_settings.cache_clear()
    reply = await submit(platform, f"http://127.0.0.1:{closed_port}/a.md")
    assert (reply.status, reply.code()) == (503, "dataref_unavailable")


async def test_what_is_too_large_empty_or_no_document_is_refused(
    platform: Platform, files: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_DOCUMENT_BYTES", "1000")
    get_settings.cache_clear()
    files.put("/large.md", b"x" * 1001)
    assert (await submit(platform, files.url("/large.md"))).code() == "request_too_large"
    files.put("/empty.md", b"")
    assert (await submit(platform, files.url("/empty.md"))).code() == "undecodable_document"
    files.put("/picture.png", b"\x89PNG", "image/png")
    assert (await submit(platform, files.url("/picture.png"))).code() == "unsupported_media_type"
    assert (await submit(platform, files.url("/"), subject=None)).code() == "dataref_refused"
    files.put("/", b"Text.", "text/plain")
    assert (await submit(platform, files.url("/"), subject=None)).code() == "invalid_request"
    assert documents(platform) == {}


async def test_bytes_inside_an_event_are_stored_as_they_are(platform: Platform) -> None:
    original = b"%PDF-1.7\n\xff\x00"
    encoded = base64.b64encode(original).decode()
    event = make_event(platform, INGESTION_SUBMITTED, {"name": "a.pdf", "content_base64": encoded})
    assert (await platform.post(event)).status == 200
    # And as CloudEvents themselves carry bytes: the data are the document.
    headers, _ = structured(event)
    envelope = {
        "specversion": "1.0", "id": "2", "source": "/test", "type": INGESTION_SUBMITTED, "subject": "b.pdf",
        "tenantid": str(platform.tenants[0]), "collection": "raw", "datacontenttype": "application/pdf",
        "data_base64": encoded,
    }  # fmt: skip
    assert (await platform.call("ingest", "POST", "/", envelope, headers=headers)).status == 200
    numbers = envelope | {"id": "3", "subject": "c.csv", "datacontenttype": "text/csv", "data_base64": "MTIz"}
    assert (await platform.call("ingest", "POST", "/", numbers, headers=headers)).status == 200
    assert documents(platform) == {
        "a.pdf": ("default", original),
        "b.pdf": ("raw", original),
        "c.csv": ("raw", b"123"),
    }


async def test_what_comes_as_bytes_in_structured_mode_comes_through_a_broker_too(platform: Platform) -> None:
    """A broker passes it on in binary mode: the data as they are, and the attributes in headers, percent-encoded."""
    envelope = {
        "specversion": "1.0", "id": "2", "source": "/test", "type": INGESTION_SUBMITTED, "subject": "fu\xdf 100%.txt",
        "tenantid": str(platform.tenants[0]), "collection": "raw", "datacontenttype": "text/plain; charset=latin-1",
        "data_base64": base64.b64encode(b"Gr\xfc\xdfe.").decode(),
    }  # fmt: skip
    event = cloudevent.parse({"content-type": "application/cloudevents+json"}, json.dumps(envelope).encode())
    assert (await call(platform.serve("ingest"), "POST", "/", event.headers(), event.data)).status == 200
    assert documents(platform) == {"fu\xdf 100%.txt": ("raw", b"Gr\xfc\xdfe.")}


WRONG: dict[str, dict[str, Any]] = {
    "no content": {"name": "a.md"},
    "two contents": {"name": "a.md", "content": "a", "content_base64": "YQ=="},
    "no base64": {"name": "a.md", "content_base64": "a!"},
    "empty": {"name": "a.md", "content": ""},
    "NUL": {"name": "a.md", "content": "a\0"},
    "a name that leads elsewhere": {"name": "../a.md", "content": "a"},
    "nested metadata": {"name": "a.md", "content": "a", "metadata": {"a": []}},
    "no collection": {"name": "a.md", "content": "a", "collection": ""},
    "unknown type": {"name": "a.xyz", "content": "a", "media_type": "image/png"},
    "unknown field": {"name": "a.md", "content": "a", "contents": "b"},
    "an object without a key": {"object": {"bucket": "b"}},
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
async def test_an_event_that_is_wrong_is_poison(platform: Platform, data: dict[str, Any]) -> None:
    reply = await platform.post(make_event(platform, INGESTION_SUBMITTED, data))
    assert reply.status in {415, 422}
    assert reply.code() in {"invalid_request", "undecodable_document", "unsupported_media_type"}
    assert documents(platform) == {}


async def test_an_event_has_content_or_an_address_and_not_both(platform: Platform, files: FileServer) -> None:
    reply = await submit(platform, files.url("/a.md"), {"name": "a.md", "content": "a"})
    assert reply.code() == "invalid_request"
    assert files.asked == []
