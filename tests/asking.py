"""A document handed over, and a question about it: what a platform is there for, in one step."""

import asyncio
import re
from collections.abc import Mapping

import aiohttp

from infra.local.client import Answer, PlatformClient

PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.2
KEY = re.compile(r"^\s+(eak_\S+)$", re.MULTILINE)


def key_of(said: str) -> str:
    """Return the API key that `make seed` shows in production."""
    found = KEY.search(said)
    assert found, said
    return found[1]


async def ask_about(
    urls: Mapping[str, str], key: str, name: str, content: bytes, media_type: str, question: str
) -> Answer:
    """Upload a document, wait until it is indexed, and ask; `urls` are those of chat and ingestion."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)) as session:
        client = PlatformClient(session, urls, key)
        await client.upload(name, content, media_type)
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while (found := {document["status"] for document in await client.documents()}) != {"indexed"}:
            assert asyncio.get_running_loop().time() < deadline, found
            await asyncio.sleep(POLL_SECONDS)
        answer = await client.ask(question, lambda _: None, lambda: None)
    assert not answer.failure
    assert answer.completed
    return answer
