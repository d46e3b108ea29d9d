"""The functions side by side in one process, with the relay's and the broker's part played by the test."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import UUID, uuid4

from functions.relay.posting import attributes
from shared.events import EMBEDDING_REQUESTED, INFERENCE_REQUESTED, INGESTION_RECEIVED, INGESTION_SUBMITTED, PING
from tests.functions.asgi import Event, Reply, call, events
from tests.support import Database, bearer

if TYPE_CHECKING:
    from shared.service import Service

CONSUMERS = {
    EMBEDDING_REQUESTED: "embed",
    INFERENCE_REQUESTED: "infer",
    INGESTION_RECEIVED: "ingest",
    INGESTION_SUBMITTED: "ingest",
}


def structured(event: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return an outbox event as headers and body of a request in structured mode."""
    headers = {name: value and unquote(value) for name, value in attributes(event, {}).items()}
    envelope = {name.removeprefix("ce-"): value for name, value in headers.items() if "ce-" in name}
    envelope |= {"datacontenttype": "application/json", "data": event["data"]}
    return {"content-type": "application/cloudevents+json"}, json.dumps(envelope).encode()


def binary(event: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return an outbox event as headers and body of a request in binary mode."""
    return attributes(event, {}), json.dumps(event["data"]).encode()


IN_PROGRESS = 409
PLATFORM_CHAIN = UUID(int=0)


@dataclass(frozen=True)
class Entry:
    """An entry of the audit log."""

    seq: int
    actor: str
    action: str
    object: str
    data: dict[str, Any]


Mode = Callable[[dict[str, Any]], tuple[dict[str, str], bytes]]


@dataclass
class Platform:
    """The functions, by entry point, on one database and one Redis."""

    database: Database
    tenants: tuple[UUID, UUID]
    serve: Callable[[str], "Service"]
    redis_url: str

    def bearer(self, subject: str = "ann", tenant: UUID | None = None) -> dict[str, str]:
        """Return the Authorization header of a user, of the first tenant by default."""
        return bearer(tenant or self.tenants[0], subject)

    async def call(
        self,
        function: str,
        method: str,
        url: str,
        document: object = None,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        """Make a request as the first tenant's user, with a JSON document or a raw body."""
        sent = self.bearer() | {"Content-Type": "application/json"} | (headers or {})
        content = body if body is not None else b"" if document is None else json.dumps(document).encode()
        return await call(self.serve(function), method, url, sent, content)

    def claim(self) -> list[dict[str, Any]]:
        """Claim the outbox as the relay does."""
        with self.database.connect("relay") as relay:
            cursor = relay.connection.execute("SELECT * FROM events.claim()")
            names = [column.name for column in cursor.description or ()]
            claimed = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [event | {"data": json.loads(event["data"])} for event in claimed]

    async def post(self, event: dict[str, Any], mode: Mode = binary) -> Reply:
        """Deliver an event to its consumer, once."""
        headers, body = mode(event)
        return await call(self.serve(CONSUMERS[event["type"]]), "POST", "/", headers, body)

    async def deliver(self, mode: Mode = binary) -> list[Reply]:
        """Carry every due event to its consumer, all at once, as often as one leads to the next; return the last answers.

        One that is in progress elsewhere comes again as soon as all of its round are answered.
        """
        replies: list[Reply] = []
        busy: list[dict[str, Any]] = []
        while (claimed := self.claim()) or busy:
            # What nobody subscribes to, a broker drops.
            taken = [*busy, *(event for event in claimed if event["type"] in CONSUMERS)]
            arrived = await asyncio.gather(*(self.post(event, mode) for event in taken))
            with self.database.connect("relay") as relay:
                relay.call("events.acknowledge", p_seqs=[event["seq"] for event in claimed])
            again = [reply.status == IN_PROGRESS for reply in arrived]
            assert not busy or not all(again), "whoever is in progress would have ended by now"
            busy = [event for event, busy in zip(taken, again, strict=True) if busy]
            replies += [reply for reply, busy in zip(arrived, again, strict=True) if not busy]
        return replies

    async def tick(self) -> Reply:
        """Deliver a PingSource's event to the sweeper."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": str(uuid4()),
            "ce-type": PING,
            "ce-source": "/apis/v1/namespaces/test/pingsources/sweep",
            "content-type": "application/json",
        }
        return await call(self.serve("sweep"), "POST", "/", headers, b"{}")

    async def store(self, name: str, text: str, *, mode: Mode = binary, **parameters: str) -> Any:
        """Upload a document and have it indexed; return how it stands then."""
        uploaded = await self.upload(name, text.encode(), **parameters)
        assert uploaded.status == 202, uploaded
        for reply in await self.deliver(mode):
            assert reply.status == 200, reply
        return (await self.call("ingestion", "GET", uploaded.headers["location"])).json()

    async def upload(
        self, name: str, body: bytes, content_type: str = "text/markdown", collection: str = "default"
    ) -> Reply:
        """Upload a document."""
        return await self.call(
            "ingestion",
            "POST",
            f"/documents?name={name}&collection={collection}",
            headers={"Content-Type": content_type},
            body=body,
        )

    async def begin(self, message: str = "What is the limit?", **fields: object) -> str:
        """Begin a turn without reading its stream; return its id."""
        accepted = await self.call("chat", "POST", "/chat", {"message": message, "stream": False, **fields})
        assert accepted.status == 202, accepted
        turn: str = accepted.json()["turn_id"]
        return turn

    async def ask(
        self, message: str, *, headers: dict[str, str] | None = None, mode: Mode = binary, **fields: object
    ) -> Reply:
        """Ask and read the whole stream, while events are carried."""
        asking = asyncio.create_task(
            self.call("chat", "POST", "/chat", {"message": message, **fields}, headers=headers)
        )
        while not asking.done():
            await self.deliver(mode)
            await asyncio.wait({asking}, timeout=0.02)
        return await asking

    async def read(self, turn: str) -> Any:
        """Return how a turn stands."""
        reply = await self.call("chat", "GET", f"/turns/{turn}")
        assert reply.status == 200, reply
        return reply.json()

    async def follow(self, turn: str, after: str | None = None) -> list[Event]:
        """Return the events of a turn's stream, from the beginning or after a position."""
        headers = {} if after is None else {"Last-Event-ID": after}
        reply = await self.call("chat", "GET", f"/turns/{turn}/stream", headers=headers)
        assert reply.status == 200, reply
        return events(reply.body)

    def counts(self) -> dict[str, int]:
        """Return how many rows the tables hold that a request may write, besides the user that its token provisions."""
        tables = (
            "chat.conversations", "chat.turns", "chat.messages", "chat.passages", "chat.citations",
            "inference.jobs", "budget.reservations", "budget.ledger", "rag.collections", "rag.documents", "rag.chunks",
            "rag.embedding_queue", "rag.collection_grants", "rag.buckets",
            "events.outbox", "events.inbox",
            "core.tenants", "core.regions", "core.tenant_homes", "core.role_grants", "core.api_keys", "budget.limits",
            "chat.shares", "routing.aliases",
        )  # fmt: skip
        with self.database.connect() as operator:
            return {table: operator.value(f"SELECT count(*) FROM {table}") for table in tables}

    def audited(self, chain: UUID | None = None, after: int = 0) -> list[Entry]:
        """Return the entries of a tenant's audit log, or of the platform's own, after a number."""
        with self.database.connect() as operator:
            rows = operator.query(
                "SELECT seq, actor, action, object, data FROM compliance.audit_log"
                " WHERE tenant_id = %s AND seq > %s ORDER BY seq",
                [chain or PLATFORM_CHAIN, after],
            )
        return [Entry(*row) for row in rows]

    def embedded(self) -> list[int]:
        """Return the tokens that were charged for embeddings, one by one."""
        with self.database.connect() as operator:
            charged = operator.query(
                "SELECT l.tokens FROM budget.ledger l JOIN rag.embedding_models m ON m.name = l.model WHERE l.entry = 'settle'"
            )
        return [tokens for (tokens,) in charged]

    def held(self) -> int:
        """Return the tokens that open reservations hold."""
        with self.database.connect() as operator:
            return int(operator.value("SELECT coalesce(sum(reserved), 0) FROM budget.balances"))


def after_embeddings(counts: dict[str, int], charged: int) -> dict[str, int]:
    """Return what Platform.counts returns after so many embeddings more: each is reserved, released and settled."""
    return counts | {
        "budget.reservations": counts["budget.reservations"] + charged,
        "budget.ledger": counts["budget.ledger"] + 3 * charged,
    }


def said(stream: list[Event]) -> str:
    """Return the text that a client shows at the end of a stream."""
    shown = ""
    for event in stream:
        if event.name == "turn.restarted":
            shown = ""
        elif event.name == "turn.delta":
            shown += event.data["text"]
    return shown


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds that nobody announces; raises TimeoutError after half a minute."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
