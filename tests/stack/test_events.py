"""Documents that arrive as CloudEvents from outside, and what becomes of events that come twice or are no use."""

import asyncio
import json
import time
from datetime import datetime
from uuid import UUID, uuid4

import aiohttp
import pytest

from tests.stack.platform import PATIENCE_SECONDS, POLL_SECONDS, Platform

TRIGGER = "ingestion-submitted"


class Source:
    """An event source outside of the platform, which hands over documents of a new tenant."""

    def __init__(self, platform: Platform, session: aiohttp.ClientSession) -> None:
        self._platform = platform
        self._session = session
        self._broker = platform.stack.urls["broker"]
        self.tenant = platform.new_tenant()

    async def send(
        self, text: str, *, id_: str, structured: bool = False, tenant: str | None = None, **extensions: str
    ) -> str:
        """Send `crm.md` in an event; return `delivered` or `dropped` once the broker is done with it."""
        before = await self._counters()
        attributes = {
            "specversion": "1.0",
            "id": id_,
            "source": "/crm/exports",
            "type": "com.enterprise-agents.ingestion.submitted.v1",
            "tenantid": str(self.tenant) if tenant is None else tenant,
            **extensions,
        }
        data = {"name": "crm.md", "collection": "crm", "content": text}
        if structured:
            media_type = "application/cloudevents+json; charset=utf-8"
            headers, body = {}, json.dumps({**attributes, "datacontenttype": "application/json", "data": data})
        else:
            media_type = "application/json"
            headers, body = {f"ce-{name}": value for name, value in attributes.items()}, json.dumps(data)
        headers["Content-Type"] = media_type
        async with self._session.post(self._broker, data=body.encode(), headers=headers) as response:
            assert response.status == 202, await response.text()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (after := await self._counters()) == before:
            assert time.monotonic() < deadline, self._platform.tail("broker", "ingestion-worker")
            await asyncio.sleep(POLL_SECONDS)
        [outcome] = [name for name, count in after.items() if count > before[name]]
        return outcome

    async def _counters(self) -> dict[str, int]:
        async with self._session.get(self._broker + "/status") as response:
            counters = (await response.json())["triggers"][TRIGGER]
        return {name: int(counters[name]) for name in ("delivered", "dropped")}

    async def dead_letter(self, before: datetime | None = None) -> tuple[UUID, datetime, int, str, dict[str, str]]:
        """Return id, time, status, error and extensions of the tenant's dead letter, when it died later than that."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = self._platform.query(
                "SELECT id, died_at, last_status, last_error, extensions FROM events.dead_letters"
                " WHERE tenant_id = %s AND died_at > coalesce(%s::timestamptz, '-infinity')",
                [self.tenant, before],
            )
            if found:
                [letter] = found
                return letter
            await asyncio.sleep(POLL_SECONDS)
        raise AssertionError(self._platform.tail("broker", "dead-letters", "relay"))

    async def document(self) -> tuple[int, str]:
        """Return version and text of what is stored, when it is indexed."""
        [(document, version, content)] = self._platform.query(
            "SELECT id, version, convert_from(original, 'UTF8') FROM rag.documents JOIN rag.contents"
            " USING (tenant_id, version) WHERE tenant_id = %s AND document_id = id",
            [self.tenant],
        )
        await self._platform.indexed(document)
        return version, content


@pytest.fixture
def source(platform: Platform, session: aiohttp.ClientSession) -> Source:
    return Source(platform, session)


@pytest.mark.parametrize("structured", [False, True], ids=["binary", "structured"])
async def test_a_document_in_an_event_is_indexed_and_the_same_event_again_changes_nothing(
    platform: Platform, source: Source, structured: bool
) -> None:
    first, second = str(uuid4()), str(uuid4())
    assert await source.send("The customer is called Ünal.", id_=first, structured=structured) == "delivered"
    assert await source.document() == (1, "The customer is called Ünal.")
    assert await source.send("The customer is called Óscar.", id_=second, structured=structured) == "delivered"
    assert await source.document() == (2, "The customer is called Óscar.")
    # At least once, in any order: the first one comes again, late, and must not bring its text back.
    assert await source.send("The customer is called Ünal.", id_=first, structured=structured) == "delivered"
    assert await source.document() == (2, "The customer is called Óscar.")
    chunks = platform.query("SELECT content FROM rag.chunks WHERE tenant_id = %s", [source.tenant])
    assert chunks == [("The customer is called Óscar.",)]


@pytest.mark.parametrize(
    ("text", "tenant"),
    [
        ("No tenant has this one.", str(uuid4())),
        ("This is nobody's.", "somebody"),
        ("A NUL character, which is no text: \0", None),
        ("A lone surrogate: \ud800", None),
    ],
    ids=["unknown tenant", "no tenant id", "NUL", "surrogate"],
)
async def test_an_event_that_can_never_be_used_is_dropped_at_once(
    platform: Platform, source: Source, text: str, tenant: str | None
) -> None:
    assert await source.send(text, id_=str(uuid4()), tenant=tenant) == "dropped"
    assert platform.query("SELECT count(*) FROM rag.documents WHERE tenant_id = %s", [source.tenant]) == [(0,)]


async def test_an_event_that_its_consumer_refuses_is_a_dead_letter_and_so_again_when_it_is_sent_again(
    platform: Platform, source: Source
) -> None:
    both = "https://files.example.com/crm.md"
    assert await source.send("Here, and elsewhere.", id_="7", dataref=both) == "dropped"
    letter, died_at, status, error, extensions = await source.dead_letter()
    assert (status, extensions) == (422, {"originsource": "/crm/exports", "originid": "7", "dataref": both})
    assert platform.stack.urls["ingestion-worker"] in error
    assert '"code":"invalid_request"' in error.replace(" ", "")
    platform.query("SELECT events.replay(%s)", [letter])
    again, _, *told = await source.dead_letter(died_at)
    assert (again, told) == (letter, [status, error, extensions])
