"""Thousands of documents while those who take them in, read and embed them are killed: `make chaos-ingest`.

Each ends indexed once, or failed with its cause; and when all are deleted nothing is left of any.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import aiohttp
import pytest

from tests.chaos.chance import DOCUMENTS, KILLS, chance
from tests.chaos.conftest import TALLIES
from tests.chaos.papers import paper
from tests.documents import Document
from tests.stack.platform import PATIENCE_SECONDS, POLL_SECONDS, Platform, leaking
from tests.stack.reader import User

UPLOADS = 6
"""So many are under way at a time."""
STANDSTILL_SECONDS = 180.0
"""Leases, restarts and the sweeper's minute take a part of this."""
COLLECTIONS = ("first", "second")
LOGS = ("ingestion", "ingestion-worker", "embedding", "relay", "broker", "sweeper")
ENDED = ("indexed", "failed")

KILLED = {"ingestion-worker": KILLS, "embedding": KILLS, "relay": 1, "ingestion": 1}
HANDED_IN = "SELECT count(*) FROM rag.documents WHERE tenant_id = %s"
AT_WORK = {
    "ingestion": (HANDED_IN, HANDED_IN),
    "ingestion-worker": (
        f"{HANDED_IN} AND (stage IN ('embedding', 'indexed') OR status = 'failed')",
        f"{HANDED_IN} AND leased_by IS NOT NULL",
    ),
    "relay": (
        f"{HANDED_IN} AND status IN ('indexed', 'failed')",
        "SELECT count(*) FROM events.outbox WHERE tenant_id = %s",
    ),
    "embedding": (
        f"{HANDED_IN} AND status IN ('indexed', 'failed')",
        "SELECT count(*) FROM rag.embedding_queue WHERE tenant_id = %s AND leased_by IS NOT NULL",
    ),
}
"""With how many documents a part is done, and what it has in hand."""

WRONG = {
    "a passage that is not there exactly once": """
        SELECT d.name, d.chunks_total, array_agg(c.ordinal ORDER BY c.ordinal)
        FROM rag.documents AS d LEFT JOIN rag.chunks AS c ON (c.tenant_id, c.document_id) = (d.tenant_id, d.id) AND c.live
        WHERE d.tenant_id = %(tenant)s AND d.status = 'indexed'
        GROUP BY d.tenant_id, d.id
        HAVING d.chunks_total = 0
          OR array_agg(c.ordinal ORDER BY c.ordinal) IS DISTINCT FROM
            (SELECT array_agg(n) FROM generate_series(1, d.chunks_total) AS n)""",
    "a passage of another version, or of none": """
        SELECT d.name, c.ordinal, c.version, c.live, d.live_version, d.status
        FROM rag.chunks AS c JOIN rag.documents AS d ON (d.tenant_id, d.id) = (c.tenant_id, c.document_id)
        WHERE d.tenant_id = %(tenant)s
          AND (NOT c.live OR d.status <> 'indexed' OR c.version <> d.version OR d.live_version IS DISTINCT FROM d.version)""",
    "a passage without its vector, or a vector without its passage": """
        SELECT c.id, e.chunk_id, e.text_hash
        FROM (
          SELECT k.*, rag.text_hash(rag.embedded_text(d.title, d.name, k.heading, k.content)) AS hash
          FROM rag.chunks AS k JOIN rag.documents AS d ON (d.tenant_id, d.id) = (k.tenant_id, k.document_id)
        ) AS c
        FULL JOIN rag.embeddings AS e ON (e.tenant_id, e.chunk_id, e.document_id) = (c.tenant_id, c.id, c.document_id)
        WHERE coalesce(c.tenant_id, e.tenant_id) = %(tenant)s AND (
          c.id IS NULL OR e.chunk_id IS NULL OR e.text_hash IS DISTINCT FROM c.hash)""",
    "a count that is wrong": """
        SELECT d.name, d.chunks_total, d.chunks_embedded, d.chunks_failed, d.error_code
        FROM rag.documents AS d
        WHERE d.tenant_id = %(tenant)s AND d.status = 'indexed'
          AND ((d.chunks_embedded, d.chunks_failed) <> (d.chunks_total, 0) OR d.error_code IS NOT NULL)""",
    "a lease": "SELECT d.name, d.leased_by FROM rag.documents AS d WHERE d.tenant_id = %(tenant)s AND d.leased_by IS NOT NULL",
    "a passage in the queue": "SELECT q.* FROM rag.embedding_queue AS q WHERE q.tenant_id = %(tenant)s",
    "a document without the bytes of its version alone": """
        SELECT d.name, array_agg(o.version)
        FROM rag.documents AS d LEFT JOIN rag.contents AS o ON (o.tenant_id, o.document_id) = (d.tenant_id, d.id)
        WHERE d.tenant_id = %(tenant)s
        GROUP BY d.tenant_id, d.id
        HAVING array_agg(o.version) <> ARRAY[d.version]""",
    "an event that nobody could take": "SELECT l.* FROM events.dead_letters AS l WHERE l.tenant_id = %(tenant)s",
}
"""What must not be there when all documents have ended."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform.in_folder(tmp_path_factory.mktemp("ingest") / "state")
    with platform.stack:
        yield platform
        secrets = platform.secrets()
    assert not leaking(platform.stack.state.logs, secrets)


class Archivist(User):
    """Uploads and deletes, and does not give up when a process is killed."""

    async def insist(self, method: str, path: str, *statuses: int, **options: Any) -> Any:
        """Make a request until it is answered; return its JSON, if it has any."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        url = f"{self.platform.stack.urls['ingestion']}/{path}"
        headers = self._headers | options.pop("headers", {})
        while True:
            try:
                async with self._session.request(method, url, headers=headers, **options) as response:
                    body = await response.json() if response.content_length else None
                    if response.status != 503:
                        assert response.status in statuses, body
                        return body
            except (aiohttp.ClientError, ConnectionError):
                assert time.monotonic() < deadline, self.platform.tail("ingestion")
            await asyncio.sleep(POLL_SECONDS)

    async def hand_in(self, number: int, document: Document) -> str:
        """Upload a document; return its id."""
        stored = await self.insist(
            "POST",
            "documents",
            202,
            params={"name": document.name, "collection": COLLECTIONS[number % len(COLLECTIONS)]},
            data=document.content,
            headers={"Content-Type": document.media_type},
        )
        return str(stored["id"])


class Archive:
    """The documents of one tenant, and what has become of them."""

    def __init__(self, user: Archivist) -> None:
        self.user, self.platform = user, user.platform
        self.expected: dict[str, Document] = {}
        """By their ids."""
        self._random = chance("ingest", DOCUMENTS, KILLS)

    async def hand_in_all(self) -> None:
        """Upload all documents, several at a time."""
        numbers = iter(range(DOCUMENTS))

        async def hand_in_some() -> None:
            for number in numbers:
                document = paper(number, chance("paper", number))
                self.expected[await self.user.hand_in(number, document)] = document

        async with asyncio.TaskGroup() as group:
            for _ in range(UPLOADS):
                group.create_task(hand_in_some())

    async def kill_some(self, part: str, times: int) -> None:
        """Kill a part at random moments of its work, each time when it has something in hand."""
        done, busy = AT_WORK[part]
        for moment in sorted(self._random.uniform(0, 0.97) * DOCUMENTS for _ in range(times)):
            await self._until(partial(self._reached, done, moment), f"{part} gets no further")
            # Where it has just ended with everything, nothing is lost by another moment.
            await self._until(
                lambda: self._count(busy) or self._count(done) == DOCUMENTS, f"{part} has nothing to do", 0.02
            )
            self.platform.kill(part)
            await self.platform.back(part)

    def _reached(self, query: str, number: float) -> bool:
        return self._count(query) >= number

    def _count(self, query: str) -> int:
        return int(self.platform.query(query, [self.user.tenant])[0][0])

    async def ended(self) -> None:
        """Return when every document has ended, and no event is on its way."""
        await self._until_ended(DOCUMENTS)
        left = "SELECT count(*) FROM events.outbox"
        await self._until(lambda: self.platform.query(left) == [(0,)], "an event is left")

    async def _until_ended(self, number: float) -> None:
        await self._until(lambda: sum(self.counts()[status] for status in ENDED) >= number, "documents do not end")

    async def _until(self, condition: Callable[[], object], complaint: str, pause: float = 0.2) -> None:
        """Return when the condition holds; fail when for long nothing has changed."""
        seen, since = self.counts(), time.monotonic()
        while not await asyncio.to_thread(condition):
            counts = await asyncio.to_thread(self.counts)
            if counts != seen:
                seen, since = counts, time.monotonic()
            assert time.monotonic() < since + STANDSTILL_SECONDS, f"{complaint}: {seen}\n{self.platform.tail(*LOGS)}"
            await asyncio.sleep(pause)

    def counts(self) -> Counter[str]:
        """Return the number of documents by status."""
        query = "SELECT status, count(*) FROM rag.documents WHERE tenant_id = %s GROUP BY status"
        return Counter(dict(self.platform.query(query, [self.user.tenant])))

    def assert_whole(self) -> None:
        """Fail unless each document is indexed once and whole, or has failed for the reason that it must."""
        found = {
            str(document): (status, code)
            for document, status, code in self.platform.query(
                "SELECT id, status, error_code FROM rag.documents WHERE tenant_id = %s", [self.user.tenant]
            )
        }
        wanted = {
            document: ("failed", made.code) if made.code else ("indexed", None)
            for document, made in self.expected.items()
        }
        different = {
            self.expected[id_].name: (found.get(id_), wanted[id_]) for id_ in wanted if found.get(id_) != wanted[id_]
        }
        assert not different
        assert found.keys() == wanted.keys()
        for wrong, query in WRONG.items():
            # No parameter style but this one lets a query name the tenant where it will.
            rows = self.platform.query(
                query.replace("%(tenant)s", "%s"), [self.user.tenant] * query.count("%(tenant)s")
            )
            assert rows == [], wrong
        texts = "SELECT document_id::text, string_agg(content, ' ') FROM rag.chunks WHERE tenant_id = %s GROUP BY 1"
        said = dict(self.platform.query(texts, [self.user.tenant]))
        assert all(made.text in said[document] for document, made in self.expected.items() if made.text)

    async def delete_all(self) -> None:
        """Delete the documents of the first collection one by one, and the second one with all it has."""
        query = (
            "SELECT d.id FROM rag.documents AS d JOIN rag.collections AS c ON c.id = d.collection_id"
            " WHERE c.tenant_id = %s AND c.name = %s"
        )
        documents = iter(self.platform.query(query, [self.user.tenant, COLLECTIONS[0]]))

        async def delete_some() -> None:
            for (document,) in documents:
                # One whose answer was lost is gone when it is asked for again.
                await self.user.insist("DELETE", f"documents/{document}", 204, 404)

        async with asyncio.TaskGroup() as group:
            for _ in range(UPLOADS):
                group.create_task(delete_some())
        for name in COLLECTIONS:
            await self.user.insist("DELETE", f"collections/{name}", 204)

    def left(self) -> dict[str, int]:
        """Return how many rows each table of the schema still has of the tenant."""
        tables = self.platform.query(
            "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid"
            " WHERE c.relnamespace = 'rag'::regnamespace AND c.relkind = 'r' AND a.attname = 'tenant_id'"
        )
        counted = {
            table: self.platform.query(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [self.user.tenant])[0][0]
            for (table,) in tables
        }
        assert len(counted) > 5
        return {table: count for table, count in counted.items() if count}


async def test_each_document_ends_once_and_nothing_is_left_of_deleted_ones(
    stack: Platform, session: aiohttp.ClientSession
) -> None:
    archive = Archive(Archivist(stack, session, stack.new_tenant()))
    for name in COLLECTIONS:
        await archive.user.insist("PUT", f"collections/{name}", 200, 201, json={})
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(archive.hand_in_all())
        for part, times in KILLED.items():
            group.create_task(archive.kill_some(part, times))
    await archive.ended()
    seconds = time.monotonic() - begun
    archive.assert_whole()

    tenant = [archive.user.tenant]
    tally = TALLIES.setdefault(
        f"kill -9 of {', '.join(f'{part} ({times})' for part, times in KILLED.items())}", Counter()
    )
    tally.update(times=1, documents=DOCUMENTS, **archive.counts())
    [(tally["passages"],)] = stack.query("SELECT count(*) FROM rag.chunks WHERE tenant_id = %s", tenant)
    [(tally["documents read more than once"],)] = stack.query(
        "SELECT count(*) FROM rag.documents WHERE tenant_id = %s AND attempts > 1", tenant
    )
    assert tally["documents read more than once"], "nobody was killed at work"
    tally["seconds"] = round(seconds)

    begun = time.monotonic()
    await archive.delete_all()
    tally["seconds of deleting"] = round(time.monotonic() - begun)
    assert archive.left() == {}
