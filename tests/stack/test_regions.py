"""Two complete stacks side by side, in two regions: nothing of a tenant is in the one that is not its home."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import openai
import pytest
import redis
import uvicorn
from openai import AsyncOpenAI

from infra.local import ports
from infra.local.model_server.config import Config
from infra.local.model_server.embeddings import Encoder
from infra.local.model_server.files import model_directory
from infra.local.model_server.server import create_app
from shared.auth import issue_dev_token
from shared.settings import DEV_JWT_SECRET
from tests.stack.platform import Platform, leaking
from tests.stack.reader import Connection, Transcript, User, connections
from tests.support import TEST_ENVIRONMENT

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

EUROPE, AMERICA = "eu-west-1", "us-east-1"
PUBLIC = ("chat", "ingestion", "retrieval", "openai-api", "identity", "routing")
MODELS = ("EMBEDDING", "CHUNK", "LITELLM", "MODEL")


@dataclass(frozen=True)
class Papers:
    """What a tenant's documents and questions are about: no other tenant's are."""

    place: str
    subject: str
    answer: str

    @property
    def name(self) -> str:
        return f"{self.place.lower()}.md"

    @property
    def manual(self) -> str:
        return f"# {self.place}\n\nThe {self.subject} of {self.place} is opened at {self.answer} by the keeper.\n"

    @property
    def question(self) -> str:
        return f"When is the {self.subject} of {self.place} opened?"

    @property
    def words(self) -> tuple[str, ...]:
        return self.place, self.subject, self.name

    @property
    def asked(self) -> Any:
        return [{"role": "user", "content": self.question}]


DUTCH = Papers("Zwanenburg", "southern sluice", "17 centimetres")
AMERICAN = Papers("Ashfordville", "upper spillway", "nine feet")
MARKDOWN = {"Content-Type": "text/markdown"}
RETRIEVAL = {"retrieval": {"collections": ["default"]}}


class Recording:
    """A real model server, and what it was asked for."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app
        self.requests: list[tuple[str, bytes]] = []

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"] == "/health":
            await self._app(scope, receive, send)
            return
        body = bytearray()

        async def reading() -> "Message":
            message = await receive()
            if message["type"] == "http.request":
                body.extend(message["body"])
                if not message.get("more_body"):
                    self.requests.append((scope["path"], bytes(body)))
            return message

        await self._app(scope, reading, send)


@contextmanager
def model_server() -> Iterator[tuple[str, Recording]]:
    """Run a model server of a region's own; yield its URL and its record."""
    port, encoder = ports.free(["model"])["model"], Encoder()
    config = Config(port=port, api_key=TEST_ENVIRONMENT["LITELLM_API_KEY"], tokens_per_second=200)
    recording = Recording(create_app(config, encoder))
    server = uvicorn.Server(uvicorn.Config(recording, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}", recording
    finally:
        server.should_exit = True
        thread.join()
        encoder.close()


@dataclass
class Region:
    """A complete stack: stores, broker, functions and a model server of its own."""

    name: str
    platform: Platform
    models: Recording

    @property
    def tenant(self) -> UUID:
        """The tenant that is at home here."""
        return self.platform.stack.tenant_id

    @property
    def urls(self) -> dict[str, str]:
        return {name: self.platform.stack.urls[name] for name in PUBLIC}

    async def administer(self, session: aiohttp.ClientSession, method: str, path: str, document: object) -> Any:
        """Make a request of this region's operator."""
        token = issue_dev_token(secret=DEV_JWT_SECRET, tenant_id=self.tenant, subject="root", roles=["platform_admin"])
        self.platform.issued.add(token)
        headers = {"Authorization": f"Bearer {token}"}
        async with session.request(method, self.urls["identity"] + path, json=document, headers=headers) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    def rows_with(self, *texts: str) -> dict[str, int]:
        """Return how many rows of which tables hold one of the texts, as text or as bytes; the directory is left out."""
        tables = self.platform.query(
            "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema)'"
            " AND c.oid NOT IN ('core.regions'::regclass, 'core.tenant_homes'::regclass)"
        )
        assert len(tables) > 40
        found = {}
        for (table,) in tables:
            decision = " AND t.action <> 'residency.decided'" if table == "compliance.audit_log" else ""
            [(count,)] = self.platform.query(
                f"SELECT count(*) FROM {table} AS t WHERE EXISTS (SELECT FROM unnest(%s::text[]) AS s (text)"
                f" WHERE strpos(lower(t::text), lower(s.text)) > 0"
                f" OR strpos(t::text, encode(convert_to(s.text, 'UTF8'), 'hex')) > 0){decision}",
                [list(texts)],
            )
            if count:
                found[table] = count
        return found

    def redis_with(self, *texts: str) -> list[str]:
        """Return the keys of Redis that hold one of the texts, in their name or their value."""
        with redis.Redis.from_url(self.platform.stack.connections.redis_url) as store:
            kept = {key: key + (store.dump(key) or b"") for key in store.scan_iter()}
        return [key.decode() for key, value in kept.items() if any(text.encode() in value for text in texts)]

    async def events(self, session: aiohttp.ClientSession) -> tuple[int, int]:
        """Return how many events were ever put into the outbox, and how many the broker has ever accepted."""
        [(numbered,)] = self.platform.query(
            "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('events.outbox', 'seq')::regclass), 0)"
        )
        async with session.get(self.platform.stack.urls["broker"] + "/status") as response:
            return numbered, (await response.json())["accepted"]

    async def trace(self, session: aiohttp.ClientSession, *texts: str) -> dict[str, Any]:
        """Return all that would be found here of whom the texts belong to."""
        return {
            "rows": self.rows_with(*texts),
            "redis": self.redis_with(*texts),
            "events": await self.events(session),
            "models": [path for path, _ in self.models.requests],
        }

    def decisions(self, tenant: UUID) -> list[tuple[str, dict[str, Any]]]:
        """Return operation and data of each decision about a tenant in the platform's log."""
        return self.platform.query(
            "SELECT object, data FROM compliance.audit_log"
            " WHERE action = 'residency.decided' AND data ->> 'tenant_id' = %s ORDER BY seq",
            [str(tenant)],
        )


@contextmanager
def region(folder: Path, name: str) -> Iterator[Region]:
    """Start a region; whatever is done there, no secret is in its logs."""
    with model_server() as (url, models):
        variables = {key: value for key, value in TEST_ENVIRONMENT.items() if key.startswith(MODELS)}
        variables |= {
            "EMBEDDING_TOKENIZER": str(model_directory() / "tokenizer.json"),
            "LITELLM_BASE_URL": url,
            "REGION": name,
        }
        platform = Platform.in_folder(folder / name, **variables)
        with platform.stack:
            yield Region(name, platform, models)
            secrets = platform.secrets()
        assert not leaking(platform.stack.state.logs, secrets)


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Region, Region]]:
    """Europe and America, which do not know of each other yet."""
    folder = tmp_path_factory.mktemp("regions")
    with region(folder, EUROPE) as europe, region(folder, AMERICA) as america:
        yield europe, america


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with connections() as session:
        yield session


async def introduce(session: aiohttp.ClientSession, to: Region, home: Region, policy: str) -> None:
    """Let the operators of a region know of another one and of its tenant."""
    change = {"url": "https://{function}.example", "function_urls": home.urls, "policy": policy}
    await to.administer(session, "PUT", f"/regions/{home.name}", change)
    told = await to.administer(session, "PUT", f"/tenants/{home.tenant}/home", {"region": home.name})
    assert (told["region"], told["decision"]) == (home.name, policy)


@dataclass
class Visitor:
    """A user of a tenant of one region at the functions of another one."""

    user: User
    """At home."""
    there: Region
    papers: Papers
    session: aiohttp.ClientSession

    async def ask(self, function: str, method: str, path: str, **options: Any) -> tuple[int, str | None, Any]:
        """Return status, Location and document of an answer of the other region, whatever they are."""
        headers = {"Authorization": f"Bearer {self.user.token}", **options.pop("headers", {})}
        url = self.there.urls[function] + path
        async with self.session.request(method, url, headers=headers, allow_redirects=False, **options) as response:
            return response.status, response.headers.get("Location"), await response.json(content_type=None)

    def requests(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """Return function, method, path and body of requests, each of another kind."""
        papers, question = self.papers, self.papers.question
        completion = {"model": "auto", "messages": papers.asked, **RETRIEVAL}
        return [
            ("chat", "POST", "/chat", {"json": {"message": question}}),
            ("ingestion", "POST", f"/documents?name={papers.name}", {"data": papers.manual, "headers": MARKDOWN}),
            ("retrieval", "POST", "/search", {"json": {"q": question}}),
            ("openai-api", "POST", "/v1/embeddings", {"json": {"input": question}}),
            ("openai-api", "POST", "/v1/chat/completions", {"json": completion}),
            ("routing", "POST", "/routing/explain", {"json": {"message": question}}),
            ("identity", "GET", "/me", {}),
        ]


async def test_nothing_of_a_european_tenant_is_in_america(
    regions: tuple[Region, Region], session: aiohttp.ClientSession
) -> None:
    europe, america = regions
    texts = (str(europe.tenant), europe.tenant.hex, "kees@example.com", *DUTCH.words)
    await introduce(session, america, europe, "redirect")
    untouched = await america.trace(session, *texts)
    # Its operator's doing alone: the entry that says where the tenant is at home.
    assert (set(untouched["rows"]), untouched["redis"]) == ({"compliance.audit_log"}, [])

    user = User(europe.platform, session, europe.tenant, "kees@example.com")
    visitor = Visitor(user, america, DUTCH, session)
    # At home it is served.
    await user.upload(DUTCH.name, DUTCH.manual)
    assert DUTCH.answer in (await user.answer(DUTCH.question)).text

    # In America every request is redirected to the same address at home.
    for function, method, path, options in visitor.requests():
        status, location, document = await visitor.ask(function, method, path, **options)
        told = document.get("error", document)
        assert (status, location) == (HTTPStatus.TEMPORARY_REDIRECT, europe.urls[function] + path), document
        assert (told["region"], told["home"]) == (EUROPE, europe.urls[function])

    # Who follows, and says again who asks, is served at home.
    _, location, _ = await visitor.ask("chat", "POST", "/chat", json={"message": DUTCH.question})
    headers = {"Authorization": f"Bearer {user.token}"}
    async with session.post(str(location), json={"message": DUTCH.question}, headers=headers) as response:
        assert response.status == HTTPStatus.OK
        followed = await Connection(europe.platform, response, Transcript()).end()
    assert DUTCH.answer in followed.text
    large = (DUTCH.manual + "The keeper of Zwanenburg writes it down.\n" * 50_000).encode()
    path = f"/documents/default/large-{DUTCH.name}"
    status, location, _ = await visitor.ask("ingestion", "PUT", path, data=BytesIO(large), headers=MARKDOWN)
    assert status == HTTPStatus.TEMPORARY_REDIRECT, "also where most of the body was still to be sent"
    async with session.put(str(location), data=DUTCH.manual, headers={**headers, **MARKDOWN}) as response:
        assert response.status == HTTPStatus.ACCEPTED
        await europe.platform.indexed((await response.json())["id"])
    _, location, _ = await visitor.ask("retrieval", "GET", "/search?q=southern%20sluice&limit=1")
    async with session.get(str(location), headers=headers) as response:
        assert DUTCH.answer in (await response.json())["results"][0]["content"]

    await the_sdk_must_be_told_the_home(europe, america, user)
    await an_api_key_finds_home(europe, visitor)
    await a_socket_is_told_where_to_go(europe, visitor)

    await europe.platform.until(
        lambda: not europe.platform.query("SELECT FROM events.outbox"), "events wait", "relay", "broker"
    )
    # The evidence is such that it shows what is there: at home.
    at_home = await europe.trace(session, *texts)
    assert {"chat.messages", "chat.turns", "rag.chunks", "rag.contents", "core.users", "events.inbox"} <= set(
        at_home["rows"]
    )
    assert at_home["redis"]
    assert min(at_home["events"]) > 0
    assert {"/v1/embeddings", "/v1/chat/completions"} <= set(at_home["models"])
    # And away from home there is as much as before.
    assert await america.trace(session, *texts) == untouched
    decisions = america.decisions(europe.tenant)
    assert len(decisions) >= len(visitor.requests())
    assert {data["decision"] for _, data in decisions} == {"redirect"}
    assert {operation for operation, _ in decisions} >= {"chat.ask", "documents.write", "search", "embeddings.create"}
    assert not any(word in json.dumps(decisions) for word in ("kees", *DUTCH.words))


async def the_sdk_must_be_told_the_home(europe: Region, america: Region, user: User) -> None:
    """The openai SDK follows redirects, and its HTTP client leaves the key behind on the way to another origin."""
    url = america.urls["openai-api"]
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=user.token, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            await client.chat.completions.create(model="auto", messages=DUTCH.asked)
    assert str(raised.value.response.url).startswith(europe.urls["openai-api"])
    home = europe.urls["openai-api"]
    async with AsyncOpenAI(base_url=f"{home}/v1", api_key=user.token, max_retries=0) as client:
        answered = await client.chat.completions.create(model="auto", messages=DUTCH.asked, extra_body=RETRIEVAL)
    assert DUTCH.answer in (answered.choices[0].message.content or "")


async def an_api_key_finds_home(europe: Region, visitor: Visitor) -> None:
    key = europe.platform.service_key("visitor")
    headers = {"Authorization": f"Bearer {key}"}
    status, location, document = await visitor.ask("chat", "GET", "/conversations", headers=headers)
    assert (status, document["code"]) == (HTTPStatus.TEMPORARY_REDIRECT, "tenant_elsewhere")
    async with visitor.session.get(str(location), headers=headers) as response:
        assert response.status == HTTPStatus.OK


async def a_socket_is_told_where_to_go(europe: Region, visitor: Visitor) -> None:
    async with visitor.session.ws_connect(f"{visitor.there.urls['chat']}/ws") as socket:
        await socket.send_json({"type": "authenticate", "token": visitor.user.token})
        problem = (await socket.receive_json())["problem"]
        assert (problem["code"], problem["region"]) == ("tenant_elsewhere", EUROPE)
        closed = await socket.receive()
        assert (closed.data, closed.extra) == (aiohttp.WSCloseCode.POLICY_VIOLATION, f"at home in {EUROPE}")
    assert problem["home"] == europe.urls["chat"].replace("http://", "ws://")
    text = ""
    async with visitor.session.ws_connect(f"{problem['home']}/ws") as socket:
        await socket.send_json({"type": "authenticate", "token": visitor.user.token})
        await socket.send_json({"type": "ask", "ref": "1", "message": DUTCH.question})
        async with asyncio.timeout(30):
            while (frame := await socket.receive_json()).get("event") != "turn.completed":
                text += frame["data"]["text"] if frame.get("event") == "turn.delta" else ""
    assert DUTCH.answer in text


async def test_an_event_that_has_lost_its_way_is_dropped_where_it_does_not_belong(
    regions: tuple[Region, Region], session: aiohttp.ClientSession
) -> None:
    europe, america = regions
    await introduce(session, america, europe, "redirect")
    before = america.rows_with(*DUTCH.words), len(america.models.requests)
    broker = america.platform.stack.urls["broker"]
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "lost",
        "ce-type": "com.enterprise-agents.ingestion.submitted.v1",
        "ce-source": "/crm",
    }
    document = {"name": DUTCH.name, "content": DUTCH.manual}

    async def dropped() -> int:
        async with session.get(f"{broker}/status") as response:
            return int((await response.json())["triggers"]["ingestion-submitted"]["dropped"])

    for number, lost in enumerate(
        (
            {"ce-tenantid": str(europe.tenant), "ce-region": EUROPE},
            {"ce-tenantid": str(europe.tenant)},
            {"ce-tenantid": str(america.tenant), "ce-region": EUROPE},
        ),
        start=await dropped() + 1,
    ):
        async with session.post(broker, json=document, headers={**headers, **lost}) as response:
            assert response.status == HTTPStatus.ACCEPTED
        async with asyncio.timeout(30):
            while await dropped() < number:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)

    def refused(function: str) -> int:
        return (america.platform.stack.state.logs / f"{function}.log").read_text().count('"foreign_event"')

    assert refused("ingestion-worker") == 3
    # The broker hands over what it has given up: it is not kept as a dead letter either.
    await america.platform.until(lambda: refused("dead-letters") == 3, "no dead letter came", "broker", "dead-letters")
    assert (america.rows_with(*DUTCH.words), len(america.models.requests)) == before


async def test_an_american_tenant_is_refused_in_europe_where_policy_says_so(
    regions: tuple[Region, Region], session: aiohttp.ClientSession
) -> None:
    europe, america = regions
    await introduce(session, europe, america, "refuse")
    user = User(america.platform, session, america.tenant, "jo@example.com")
    visitor = Visitor(user, europe, AMERICAN, session)
    texts = (str(america.tenant), america.tenant.hex, "jo@example.com", *AMERICAN.words)
    untouched = await europe.trace(session, *texts)
    assert (set(untouched["rows"]), untouched["redis"]) == ({"compliance.audit_log"}, [])

    # At home it is served: only there is its model asked.
    await user.upload(AMERICAN.name, AMERICAN.manual)
    assert AMERICAN.answer in (await user.answer(AMERICAN.question)).text
    assert america.models.requests
    assert "rag.contents" in america.rows_with(*AMERICAN.words)

    for function, method, path, options in visitor.requests():
        status, location, document = await visitor.ask(function, method, path, **options)
        told = document.get("error", document)
        assert (status, location) == (HTTPStatus.FORBIDDEN, None), document
        assert (told["code"], told["region"], "home" in told) == ("residency_refused", AMERICA, False)
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await session.ws_connect(f"{europe.urls['chat']}/ws", headers={"Authorization": f"Bearer {user.token}"})
    assert raised.value.status == HTTPStatus.FORBIDDEN
    url = europe.urls["openai-api"]
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=user.token, max_retries=0) as client:
        with pytest.raises(openai.PermissionDeniedError) as denied:
            await client.chat.completions.create(model="auto", messages=AMERICAN.asked)
    assert denied.value.body["region"] == AMERICA  # type: ignore[index]

    assert await europe.trace(session, *texts) == untouched
    assert {data["decision"] for _, data in europe.decisions(america.tenant)} == {"refuse"}
