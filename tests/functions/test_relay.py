"""The relay between the outbox and a broker that accepts, refuses, dawdles or is not there."""

import asyncio
import json
import logging
import os
import signal
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from functions.relay import posting, relaying
from functions.relay.main import http_session, listen
from functions.relay.posting import seconds_to_wait
from functions.relay.relaying import Relay
from shared.database import Database as Pool
from shared.events import EMBEDDING_REQUESTED, INFERENCE_REQUESTED, INGESTION_INDEXED, INGESTION_RECEIVED
from tests.conftest import ROOT
from tests.functions.platform import until
from tests.support import TEST_ENVIRONMENT, Caller, Database, add_document

RESPONSE = "HTTP/1.1 {status} Told\r\n{headers}Content-Length: {length}\r\n\r\n"
TEST = "com.enterprise-agents.test.happened.v1"
LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND query = 'LISTEN outbox'"
SLOW = "com.enterprise-agents.test.dawdled.v1"


class Sink:
    """A broker: keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], Any]] = []
        self.statuses: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.body = b"told"
        self.port = 0
        self.refuse_once = False
        self.accepted: list[str] = []
        """Subjects of the events that were accepted, in their order."""
        self.open = {TEST: asyncio.Event(), SLOW: asyncio.Event()}
        """Events of these types are answered once the gate is open."""
        self.open[TEST].set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.close()

    def ids(self) -> Counter[str]:
        """Return how often each event came."""
        return Counter(headers["ce-id"] for headers, _ in self.received)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._answer(reader, writer)
        self._connections.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        headers = {name.lower(): value for name, value in headers.items()}
        data = json.loads(await reader.readexactly(int(headers["content-length"])))
        again = headers["ce-id"] in self.ids()
        self.received.append((headers, data))
        if gate := self.open.get(headers["ce-type"]):
            await gate.wait()
        status = self.statuses.get(headers["ce-type"], 202)
        if self.refuse_once and not again and int(headers["ce-subject"]) % 3 == 0:
            status = 503
        if status == 202:
            self.accepted.append(headers["ce-subject"])
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        writer.write(RESPONSE.format(status=status, headers=more, length=len(self.body)).encode() + self.body)
        await writer.drain()


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    sink = Sink()
    await sink.start()
    yield sink
    sink.stop()


MakeRelay = Callable[..., Awaitable[Relay]]


@pytest.fixture
async def make_relay(database: Database) -> AsyncIterator[MakeRelay]:
    pool = Pool(database.urls["relay"], pool_size=6)
    await pool.open()
    async with http_session() as session:

        async def make(url: str, **overrides: str) -> Relay:
            return Relay(pool, session, url, overrides)

        yield make
    await pool.close()


@asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    """Let relays run."""
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        for relay in relays:
            relay.stop()
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks)


def begin(database: Database, tenant: UUID) -> Any:
    """Begin a turn of an indexed document's tenant, which puts three events into the outbox."""
    with database.connect("app", tenant) as app:
        add_document(app, "a.md", ["Text."])
        return app.call("chat.begin_turn", p_message="What?", p_traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")


def emit(database: Database, tenant: UUID, count: int, kind: str = TEST) -> set[str]:
    """Emit events of no domain; return the ids of those in the outbox."""
    with database.connect() as operator:
        operator.run(
            "SELECT events.emit(%s, %s, n::text, '{}', '{}') FROM generate_series(1, %s) n", [kind, tenant, count]
        )
        return {str(id_) for (id_,) in operator.query("SELECT id FROM events.outbox")}


def outbox(operator: Caller) -> list[tuple[Any, ...]]:
    return operator.query(
        "SELECT type, attempts, last_status, last_error, available_at > now() FROM events.outbox ORDER BY seq"
    )


def waiting(database: Database) -> int:
    """Return how many events are in the outbox."""
    with database.connect() as operator:
        return int(operator.value("SELECT count(*) FROM events.outbox"))


async def test_a_sink_that_asks_who_sends_gets_the_token_that_knative_mounts_and_renews(
    database: Database,
    tenants: tuple[UUID, UUID],
    sink: Sink,
    make_relay: MakeRelay,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posting, "TOKEN", tmp_path / "token")
    async with running(await make_relay(sink.url)):
        for token in (None, "first", "second"):
            if token:
                (tmp_path / "token").write_text(f"{token}\n")
            emit(database, tenants[0], 1)
            await until(lambda: not waiting(database))
    assert [headers.get("authorization") for headers, _ in sink.received] == [None, "Bearer first", "Bearer second"]


def certificate(folder: Path) -> str:
    """Write key and certificate of 127.0.0.1, signed by itself, into one file; return the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink")])
    day = timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - day)
        .not_valid_after(datetime.now(UTC) + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "sink.pem").write_bytes(private + made)
    return made.decode()


async def test_a_sink_with_tls_is_trusted_by_the_certificates_that_knative_names(tmp_path: Path) -> None:
    authority = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "sink.pem")
    sink = Sink()
    await sink.start(context)
    url = sink.url.replace("http:", "https:")
    event = {
        "id": UUID(int=1),
        "source": "/test",
        "type": "any",
        "subject": "1",
        "created_at": datetime.now(UTC),
        "extensions": {},
        "data": "{}",
    }
    async with http_session(authority) as trusting, http_session() as wary:
        assert (await posting.post(trusting, url, event, {})).accepted
        refused = await posting.post(wary, url, event, {})
    sink.stop()
    assert (refused.status, refused.error) == (None, "ClientConnectorCertificateError")
    assert len(sink.received) == 1


async def test_events_are_posted_in_binary_mode_and_leave_the_outbox(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    accepted = begin(database, tenants[0])
    async with running(await make_relay(sink.url, cluster="north", region="overridden")):
        await until(lambda: not waiting(database))
    by_type = {headers["ce-type"]: (headers, data) for headers, data in sink.received}
    assert set(by_type) == {INGESTION_RECEIVED, EMBEDDING_REQUESTED, INGESTION_INDEXED, INFERENCE_REQUESTED}
    headers, data = by_type[INFERENCE_REQUESTED]
    assert data["turn_id"] == accepted["turn_id"]
    UUID(headers["ce-id"])
    datetime.fromisoformat(headers["ce-time"])
    named = {name: headers[name] for name in headers if name.startswith("ce-") and name not in {"ce-id", "ce-time"}}
    assert named == {
        "ce-specversion": "1.0",
        "ce-source": f"/tenants/{tenants[0]}",
        "ce-type": INFERENCE_REQUESTED,
        "ce-subject": accepted["turn_id"],
        "ce-tenantid": str(tenants[0]),
        "ce-tier": "standard",
        "ce-partitionkey": accepted["turn_id"],
        "ce-traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "ce-region": "overridden",
        "ce-cluster": "north",
    }
    assert headers["content-type"] == "application/json"
    assert len(sink.received) == 4


async def test_what_a_broker_refuses_for_now_stays_and_comes_again_when_its_back_off_ends(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "platform")
    begin(database, tenants[0])
    sink.statuses[INFERENCE_REQUESTED] = 500
    sink.body = b"\xff no \x00 room"
    with database.connect() as operator:
        async with running(await make_relay(sink.url)):
            await until(
                lambda: [row[:4] for row in outbox(operator)] == [(INFERENCE_REQUESTED, 1, 500, "\ufffd no  room")]
            )
            del sink.statuses[INFERENCE_REQUESTED]
            await until(lambda: not outbox(operator))
    [rejected] = [vars(r)["fields"] for r in caplog.records if r.getMessage() == "event_rejected"]
    assert (rejected["event_type"], rejected["status"], rejected["outcome"]) == (INFERENCE_REQUESTED, 500, "retry")
    [told] = [vars(r)["fields"] for r in caplog.records if r.getMessage() == "outbox_relayed"]
    assert (told["accepted"], told["retry"]) == (4, 1)


async def test_a_broker_that_asks_for_patience_is_given_it(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    emit(database, tenants[0], 1)
    sink.statuses[TEST], sink.headers["Retry-After"] = 429, "120"
    with database.connect() as operator:
        async with running(await make_relay(sink.url)):
            await until(lambda: outbox(operator)[0][2] == 429)
        assert 110 < operator.value("SELECT extract(epoch FROM available_at - now()) FROM events.outbox") <= 120


@pytest.mark.parametrize("value", [None, "soon", "-1", "1.5", "²", ""])
def test_a_retry_after_without_sense_is_none(value: str | None) -> None:
    assert seconds_to_wait(value) is None


def test_a_retry_after_is_seconds_or_a_date() -> None:
    assert seconds_to_wait("7") == 7
    assert seconds_to_wait("9" * 400) == 999_999_999
    in_an_hour = seconds_to_wait(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert in_an_hour is not None
    assert 3500 < in_an_hour <= 3600


async def test_what_a_broker_refuses_for_good_is_a_dead_letter(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    begin(database, tenants[0])
    sink.statuses[INFERENCE_REQUESTED] = 400
    async with running(await make_relay(sink.url)):
        await until(lambda: not waiting(database))
    with database.connect() as operator:
        assert operator.query("SELECT type, last_status, last_error, attempts FROM events.dead_letters") == [
            (INFERENCE_REQUESTED, 400, "told", 1)
        ]


async def test_an_attribute_that_no_header_can_carry_is_poison_and_holds_up_nothing(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    with database.connect() as operator:
        operator.run("SELECT events.emit(%s, %s, 'odd', %s, '{}')", [TEST, tenants[0], '{"a\\nb": "c"}'])
        emit(database, tenants[0], 1)
        async with running(await make_relay(sink.url)):
            await until(lambda: not waiting(database))
        assert operator.query("SELECT subject, last_status FROM events.dead_letters") == [("odd", 400)]
    assert sink.accepted == ["1"]


async def test_attributes_are_percent_encoded_in_headers(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    with database.connect() as operator:
        operator.run(
            "SELECT events.emit(%s, %s, %s, %s, '{}')", [TEST, tenants[0], "f\xfcr\n100%", '{"note": "a \\"b\\""}']
        )
        async with running(await make_relay(sink.url)):
            await until(lambda: not waiting(database))
        assert operator.query("SELECT 1 FROM events.dead_letters") == []
    [(headers, _)] = sink.received
    assert (headers["ce-subject"], headers["ce-note"]) == ("f%C3%BCr%0A100%25", "a%20%22b%22")


async def test_a_broker_that_is_not_there_is_waited_for_and_most_events_never_notice(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "PAUSE_SECONDS", (0.01, 0.02))
    ids = emit(database, tenants[0], 400)
    sink.stop()
    with database.connect() as operator:
        operator.run("UPDATE events.outbox SET attempts = 50")
        async with running(await make_relay(sink.url)):
            tried = "SELECT count(*) FROM events.outbox WHERE attempts > 50"
            refused = "SELECT count(*) FROM events.outbox WHERE last_error IS NOT NULL"
            await until(lambda: operator.value(refused) > relaying.BATCH + 2)
            assert operator.value(tried) < 300
            errors = operator.query(
                "SELECT DISTINCT last_status, last_error FROM events.outbox WHERE last_error IS NOT NULL"
            )
            assert errors == [(None, "ClientConnectorError")]
            await sink.start()

            def over() -> bool:
                # A refusal that was on its way may begin a pause at any time.
                operator.run("UPDATE events.outbox SET available_at = now() WHERE available_at > now()")
                return not waiting(database)

            await until(over)
        assert operator.value("SELECT count(*) FROM events.dead_letters") == 0
    assert sink.ids() == dict.fromkeys(ids, 1)


async def test_a_slow_subscriber_delays_neither_acknowledgements_nor_claims(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    emit(database, tenants[0], 3, SLOW)
    emit(database, tenants[0], 50)
    async with running(await make_relay(sink.url)):
        await until(lambda: waiting(database) == 3)
        emit(database, tenants[0], 150)
        await until(lambda: waiting(database) == 3)
        assert len(sink.accepted) == 200
        sink.open[SLOW].set()
        await until(lambda: waiting(database) == 0)


async def test_posts_under_way_are_bounded(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "MAX_IN_FLIGHT", 5)
    monkeypatch.setattr(relaying, "BATCH", 4)
    sink.open[TEST].clear()
    emit(database, tenants[0], 30)
    async with running(await make_relay(sink.url)):
        await until(lambda: len(sink.received) == 5)
        with database.connect() as operator:
            assert operator.value("SELECT count(*) FROM events.outbox WHERE attempts > 0") == 5
        sink.open[TEST].set()
        await until(lambda: not waiting(database))
    assert set(sink.ids().values()) == {1}


async def test_relays_side_by_side_post_each_event_once(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "BATCH", 7)
    ids = emit(database, tenants[0], 300)
    async with running(*[await make_relay(sink.url) for _ in range(3)]):
        await until(lambda: not waiting(database))
    assert sink.ids() == dict.fromkeys(ids, 1)


async def test_relays_side_by_side_deliver_a_partition_in_its_order(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    sink.refuse_once = True
    with database.connect() as operator:
        for number in range(12):
            operator.query(
                "SELECT events.emit(%s, %s, %s, %s, '{}', true)",
                [TEST, tenants[0], str(number), json.dumps({"partitionkey": f"p{number % 3}"})],
            )
    async with running(*[await make_relay(sink.url) for _ in range(2)]):
        await until(lambda: not waiting(database))
    by_partition = [[int(s) for s in sink.accepted if int(s) % 3 == p] for p in range(3)]
    assert by_partition == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


async def test_a_relay_that_is_stopped_settles_what_is_in_flight_and_claims_no_more(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "MAX_IN_FLIGHT", 5)
    sink.open[TEST].clear()
    emit(database, tenants[0], 8)
    relay = await make_relay(sink.url)
    task = asyncio.create_task(relay.run())
    await until(lambda: len(sink.received) == 5)
    relay.stop()
    sink.open[TEST].set()
    async with asyncio.timeout(30):
        await task
    assert len(sink.received) == 5
    assert waiting(database) == 3


async def start_process(database: Database, sink: Sink) -> asyncio.subprocess.Process:
    """Start a relay as a cluster does."""
    variables = {
        "DATABASE_URL": database.urls["relay"],
        "K_SINK": sink.url,
        "K_CE_OVERRIDES": '{"extensions":{"cluster":"x"}}',
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "functions.relay.main", cwd=ROOT, env=os.environ | TEST_ENVIRONMENT | variables
    )


async def test_relays_that_are_killed_in_mid_batch_lose_nothing(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink
) -> None:
    ids = emit(database, tenants[0], 500)
    sink.open[TEST].clear()
    processes = [await start_process(database, sink) for _ in range(2)]
    try:
        in_hand = relaying.MAX_IN_FLIGHT
        await until(lambda: len(sink.received) == 2 * in_hand)
        processes[0].kill()
        await processes[0].wait()
        sink.open[TEST].set()
        await until(lambda: waiting(database) == in_hand)
        processes.append(await start_process(database, sink))
        with database.connect() as operator:
            await until(lambda: operator.value(LISTENING) == 2)
            assert waiting(database) == in_hand, "what the dead one had in hand is leased still"
            operator.run("UPDATE events.outbox SET leased_until = now()")
        await until(lambda: not waiting(database))
        for process in processes[1:]:
            process.send_signal(signal.SIGTERM)
        assert [await process.wait() for process in processes[1:]] == [0, 0]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    came = sink.ids()
    assert set(came) == ids
    assert sum(came.values()) == 500 + in_hand, "only what was in hand came twice"
    assert {headers["ce-cluster"] for headers, _ in sink.received} == {"x"}


async def test_a_notification_wakes_a_relay_that_waits(
    database: Database,
    tenants: tuple[UUID, UUID],
    sink: Sink,
    make_relay: MakeRelay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relaying, "POLL_SECONDS", (3600, 3600))
    relay = await make_relay(sink.url)
    async with running(relay):
        listening = asyncio.create_task(listen(database.urls["relay"], relay.wake))
        with database.connect() as operator:
            await until(lambda: operator.value(LISTENING))
        begin(database, tenants[0])
        await until(lambda: not waiting(database))
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening


async def test_without_notifications_the_outbox_is_looked_at_anyway(
    database: Database, tenants: tuple[UUID, UUID], sink: Sink, make_relay: MakeRelay
) -> None:
    async with running(await make_relay(sink.url)):
        for _ in range(2):
            emit(database, tenants[0], 1)
            await until(lambda: not waiting(database))


async def test_a_relay_outlives_a_database_that_is_away(
    database: Database, closed_port: int, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert database
    caplog.set_level(logging.WARNING, "platform")
    monkeypatch.setattr("shared.database.POOL_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(relaying, "RECONNECT_SECONDS", 0.01)
    dsn = f"postgresql://relay:secret@127.0.0.1:{closed_port}/functions"
    pool = Pool(dsn, pool_size=2)
    await pool.open()
    async with http_session() as session:
        relay = Relay(pool, session, sink.url, {})
        async with running(relay):
            listening = asyncio.create_task(listen(dsn, relay.wake))
            await until(lambda: [r.getMessage() for r in caplog.records].count("outbox_unreachable") >= 2)
            assert not listening.done()
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
    await pool.close()
    assert any(record.getMessage() == "listen_failed" for record in caplog.records)
