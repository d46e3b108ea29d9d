"""`make reembed` while people ask, upload and delete, and while it, or the function that embeds, is killed."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from string import ascii_lowercase
from typing import Any

import pytest

from tests.functions.platform import until
from tests.functions.upstream import Reply, misbehaving
from tests.servers import ROOT
from tests.stack.platform import Platform, leaking
from tests.stack.reader import User, connections

FIRST, SAME_WIDTH, WIDER, REFUSED = "local/all-minilm-l6-v2", "second", "third", "unknown"
WIDTHS = {FIRST: 384, SAME_WIDTH: 384, WIDER: 512}
FULL = 768
"""The width of WIDER's vectors, unless it is asked for shorter ones."""
TURNS = {FIRST: 0, SAME_WIDTH: 101, WIDER: 57}
"""By how far a model's axes are turned: a question embedded by one model is nowhere near its passage by another one."""
DOCUMENTS, PASSAGES = 12, 20


class Models:
    """An endpoint with several embedding models. Texts with the same number are alike, and no others are."""

    def __init__(self) -> None:
        self.texts = dict.fromkeys(WIDTHS, 0)
        """How many texts each model has embedded."""
        self.open = asyncio.Event()
        """Unless it is set, SAME_WIDTH and WIDER embed no passages beyond their first hundred texts."""
        self.open.set()

    async def answer(self, reply: Reply, request: dict[str, Any]) -> None:
        """Answer a request for embeddings."""
        model, texts = request["model"], request["input"]
        if model not in WIDTHS:
            await reply.whole(404, b'{"error": {"message": "no such model"}}')
            return
        if "dimensions" in request and model != WIDER:
            await reply.whole(400, b'{"error": {"message": "this model knows no dimensions"}}')
            return
        # What asks for one text finds out how wide the vectors are.
        if model != FIRST and len(texts) > 1 and self.texts[model] + len(texts) > 100:
            await self.open.wait()
        self.texts[model] += len(texts)
        full = [0.0] * (FULL - WIDTHS[WIDER]) if model == WIDER and request.get("dimensions") != WIDTHS[WIDER] else []
        data = [{"index": index, "embedding": embedding(model, text) + full} for index, text in enumerate(texts)]
        await reply.whole(200, json.dumps({"data": data}).encode())


def embedding(model: str, text: str) -> list[float]:
    found = re.search(r"number(\d+)q|^(\d+)\?$", text)
    axis = int(found[1] or found[2]) if found else 0
    vector = [0.0] * WIDTHS[model]
    vector[(axis + TURNS[model]) % WIDTHS[model]] = 1.0
    return vector


def passage(number: int) -> str:
    """Return a text that shares no word with the question for it, which is the number alone: their vectors are the same."""
    return f"# Part\n\nThis is about number{number}q. " + "Nothing follows from it. " * 12


def called(document: int) -> str:
    """Return a document's name: without a number, which would be found by the words of questions, too."""
    return f"{ascii_lowercase[document]}.md"


class World:
    """The platform, its endpoint, and a user who asks all the time."""

    def __init__(self, platform: Platform, models: Models, user: User) -> None:
        self.platform, self.models, self.user = platform, models, user
        self.documents: dict[str, set[int]] = {}
        """The numbers of each indexed document's passages."""
        self.answered = 0

    async def upload(self, document: int) -> None:
        """Have a document indexed, of passages whose numbers nobody else has."""
        name = called(document)
        numbers = range(document * PASSAGES, (document + 1) * PASSAGES)
        await self.user.upload(name, "\n\n".join(map(passage, numbers)))
        self.documents[name] = set(numbers)

    async def delete(self, document: int) -> None:
        """Delete a document."""
        name = called(document)
        del self.documents[name]
        await asyncio.to_thread(self.platform.query, "DELETE FROM rag.documents WHERE name = %s", [name])

    async def ask(self) -> None:
        """Ask about one passage after another, each of which is found by its vector alone; until cancelled."""
        random = Random(6)  # noqa: S311
        while True:
            number = random.choice(sorted(number for numbers in self.documents.values() for number in numbers))
            seen = await self.user.answer(f"{number}?")
            found = await asyncio.to_thread(
                self.platform.query,
                "SELECT content FROM chat.passages WHERE turn_id = %s AND vector_rank = 1",
                [seen.turn],
            )
            if any(number in numbers for numbers in self.documents.values()):
                assert [f"number{number}q" in content for (content,) in found] == [True], await self.user.turn(
                    seen.turn
                )
                self.answered += 1

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """Let somebody ask meanwhile, at least ten times; fail when a question finds another passage than its own."""
        asking = asyncio.create_task(self.ask())
        before = self.answered
        try:
            yield
            await until(lambda: self.answered >= before + 10 or asking.done())
        finally:
            asking.cancel()
            [ended] = await asyncio.gather(asking, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), f"{ended!r}\n{self.platform.tail('chat')}"

    async def reembed(self, model: str = "", **variables: str) -> asyncio.subprocess.Process:
        """Start the script."""
        urls = self.platform.stack.connections
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "infra.reembed",
            cwd=ROOT,
            env={
                **os.environ,
                "MIGRATION_DATABASE_URL": urls.migration_database_url,
                "DATABASE_URL": urls.database_url,
                "LITELLM_BASE_URL": urls.model_url,
                "MODEL": model,
                "DIMENSIONS": str(WIDTHS.get(model, 384)),
                "SEND_DIMENSIONS": "true" if model == WIDER else "",
                **variables,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def half_made(self) -> None:
        """Return once some new vectors are there."""
        await until(lambda: self.platform.query("SELECT to_regclass('rag.embeddings_next') IS NOT NULL") == [(True,)])
        await until(lambda: self.platform.query("SELECT count(*) > 30 FROM rag.embeddings_next") == [(True,)])

    def assert_whole(self, model: str) -> None:
        """Fail unless exactly the live chunks have a vector, each that of this model and of its own text."""
        rows = self.platform.query(
            "SELECT c.content, e.embedding::text FROM rag.chunks AS c"
            " FULL JOIN rag.embeddings AS e ON (e.tenant_id, e.chunk_id) = (c.tenant_id, c.id) WHERE c.live IS NOT FALSE"
        )
        assert len(rows) == sum(map(len, self.documents.values()))
        for content, vector in rows:
            assert [float(component) for component in json.loads(vector)] == embedding(model, content)
        assert self.platform.query("SELECT count(*) FROM rag.embedding_queue") == [(0,)]
        assert self.platform.query("SELECT rag.active_model() ->> 'name'") == [(model,)]
        tables = "SELECT relname FROM pg_class WHERE relname ~ '^embeddings_(next|old)'"
        assert self.platform.query(tables) == []


async def output(process: asyncio.subprocess.Process, code: int = 0) -> str:
    """Return what a script has said when it ended, with this status."""
    async with asyncio.timeout(90):
        said = (await process.communicate())[0].decode()
    assert process.returncode == code, said
    return said


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    models = Models()
    async with misbehaving() as upstream, connections() as session:
        upstream.embeddings = models.answer
        platform = Platform.in_folder(
            tmp_path / "state",
            LITELLM_BASE_URL=upstream.url,
            LITELLM_EMBEDDING_MODEL=FIRST,
            EMBEDDING_DIMENSIONS=str(WIDTHS[FIRST]),
            BACKGROUND_WORKER_CONCURRENCY="2",
            CHUNK_SIZE_TOKENS="192",
        )
        await asyncio.to_thread(platform.stack.__enter__)
        try:
            world = World(platform, models, User(platform, session, platform.stack.tenant_id))
            for document in range(DOCUMENTS):
                await world.upload(document)
            yield world
            secrets = platform.secrets()
        finally:
            await asyncio.to_thread(platform.stack.__exit__, None, None, None)
        assert not leaking(platform.stack.state.logs, secrets)


async def test_another_model_takes_over_while_everybody_goes_on(world: World) -> None:
    platform, models = world.platform, world.models
    world.assert_whole(FIRST)
    assert "nothing to do" in await output(await world.reembed(FIRST))
    assert "no such model" in await output(await world.reembed(REFUSED), code=1)
    assert f"returned {FULL}" in await output(await world.reembed(WIDER, SEND_DIMENSIONS=""), code=1)
    assert "knows no dimensions" in await output(await world.reembed(SAME_WIDTH, SEND_DIMENSIONS="true"), code=1)

    async with world.asked():
        # Killed in the middle, and not alone.
        models.open.clear()
        killed = await world.reembed(SAME_WIDTH)
        await world.half_made()
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
        platform.kill("embedding")
        # What is uploaded meanwhile can be found at once, what is deleted is gone, what is replaced is found by its new text.
        await world.upload(DOCUMENTS)
        await world.delete(3)
        assert platform.query("SELECT rag.active_model() ->> 'name'") == [(FIRST,)]
        # The leases of the dead would hold for twenty seconds.
        platform.query("UPDATE rag.embedding_queue SET due_at = now() WHERE status = 'waiting'")
        once, twice = await asyncio.gather(world.reembed(SAME_WIDTH), world.reembed(SAME_WIDTH))
        # Until one of them has met the other, neither gets to its end.
        ending = {asyncio.create_task(process.wait()) for process in (once, twice)}
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        models.open.set()
        await world.upload(DOCUMENTS + 1)
        await asyncio.gather(*ending)
        winner, loser = (once, twice) if once.returncode == 0 else (twice, once)
        assert "Going on with" in await output(winner)
        assert "elsewhere" in await output(loser, code=1)
    world.assert_whole(SAME_WIDTH)

    async with world.asked():
        models.open.clear()
        running = await world.reembed(WIDER)
        await world.half_made()
        assert "is removed" in await output(await world.reembed(CANCEL="1"))
        assert "cancelled elsewhere" in await output(running, code=1)
        models.open.set()
        assert "Nothing was" in await output(await world.reembed(CANCEL="1"))
        await world.upload(DOCUMENTS + 2)
    world.assert_whole(SAME_WIDTH)

    async with world.asked():
        running = await world.reembed(WIDER)
        await world.upload(DOCUMENTS + 3)
        await world.delete(5)
        assert f"{WIDER} answers" in await output(running)
    world.assert_whole(WIDER)
    assert "nothing to do" in await output(await world.reembed(WIDER))
