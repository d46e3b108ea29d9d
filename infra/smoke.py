"""Whether a deployment does its job, seen from outside: `make smoke`, with a token or key of a user who may ask and upload.

Health of each function, an answer that streams, a document that is found and then is not, and nothing left behind. URL is the
one host of all functions, or with `{function}` in it the pattern of their hosts (https://{function}.agents.example.com);
URL_CHAT, ... say otherwise of one. Without URL it is the local platform that runs.
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp

from infra.local.client import ApiError, PlatformClient
from infra.target import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FUNCTIONS = ("health", "chat", "ingestion", "retrieval", "routing", "identity", "openai-api")
"""Those that clients reach."""
REQUEST_SECONDS = 30.0
COLD_SECONDS = 120.0
"""A document may meet functions, and an embedding model, that have to start first."""
POLL_SECONDS = 0.5
NOT_RUNNING = 3
WORD = "quokka"


class Failed(Exception):
    """A step did not do what it must; the message says how."""


@dataclass
class Smoke:
    """One run against the functions at `urls`; `lines` are what is printed."""

    urls: Mapping[str, str]
    token: str
    session: aiohttp.ClientSession
    tell: Callable[[str], None]
    failed: int = 0
    collection: str = field(default_factory=lambda: f"smoke-{secrets.token_hex(6)}")
    _used: int = 0
    _charged: int = 0
    _embedded: list[str] = field(default_factory=list)
    """What was asked, and embedded for it."""
    _document: str = ""
    _conversation: str = ""

    async def run(self) -> bool:
        """Take each step, those that need an earlier one only where that has passed; return whether all have."""
        for function in FUNCTIONS:
            await self._step(f"liveness of {function}", self._answers(function, "/health/live"))
            await self._step(f"readiness of {function}", self._answers(function, "/health/ready"))
        await self._step("metrics", self._metrics())
        if await self._step("token", self._token()):
            await self._step("models of the OpenAI API", self._models())
            try:
                await self._use()
            finally:
                await self._step("what was made is deleted", self._clean_up())
        return not self.failed

    async def _use(self) -> None:
        """Take the steps that leave something behind."""
        if not await self._step("a document is indexed", self._upload()):
            return
        await self._step("a search finds it", self._search(found=True))
        if await self._step("an answer is streamed", self._ask()):
            await self._step(
                "the budget is charged for it, for what was embedded, and for nothing else", self._budget()
            )
        await self._step("a document that is deleted is found no more", self._delete())

    async def _step(self, name: str, work: Awaitable[str]) -> bool:
        try:
            told = await work
        except (Failed, ApiError, aiohttp.ClientError, TimeoutError, OSError, KeyError, ValueError) as error:
            self.failed += 1
            self.tell(f"FAIL: {name}: {type(error).__name__ if not str(error) else error}")
            return False
        self.tell(f"PASS: {name}{': ' if told else ''}{told}")
        return True

    async def _answers(self, function: str, path: str) -> str:
        started = time.monotonic()
        async with self._request("GET", function, path, authorized=False) as response:
            if response.status != HTTPStatus.OK:
                raise Failed(f"{response.status} {(await response.text(errors='replace'))[:200]}")
        return f"{time.monotonic() - started:.2f} s"

    async def _metrics(self) -> str:
        async with self._request("GET", "chat", "/metrics", authorized=False) as response:
            # A process that has done nothing yet may have nothing to tell.
            if response.status != HTTPStatus.OK or response.content_type != "text/plain":
                raise Failed(f"{response.status} {response.content_type}")
        return ""

    async def _token(self) -> str:
        me = await self._json("GET", "identity", "/me")
        self._used = await self._usage()
        return f"{me['user']['subject']} of {me['tenant']['slug']}"

    async def _models(self) -> str:
        models = [model["id"] for model in (await self._json("GET", "openai-api", "/v1/models"))["data"]]
        if not models:
            raise Failed("there is none")
        return ", ".join(models[:6])

    async def _upload(self) -> str:
        await self._json("PUT", "ingestion", f"/collections/{self.collection}", json={"description": "make smoke"})
        text = f"The {WORD} of the harbour office sleeps in the blue crate beside the tide table.\n"
        made = await self._json(
            "POST",
            "ingestion",
            "/documents",
            params={"collection": self.collection, "name": "smoke.md"},
            data=text.encode(),
            headers={"Content-Type": "text/markdown"},
        )
        self._document = made["id"]
        started = time.monotonic()
        while (state := await self._json("GET", "ingestion", f"/documents/{self._document}"))["status"] != "indexed":
            if state["status"] == "failed":
                raise Failed(f"{state['error_code']}: {state['error_detail']}")
            if time.monotonic() > started + COLD_SECONDS:
                raise Failed(f"it is {state['status']} ({state['stage']}) after {COLD_SECONDS:.0f} s")
            await asyncio.sleep(POLL_SECONDS)
        return f"{time.monotonic() - started:.1f} s"

    async def _search(self, *, found: bool) -> str:
        query = {"q": f"Where does the {WORD} sleep?", "collection": self.collection}
        results = (await self._json("GET", "retrieval", "/search", params=query))["results"]
        self._embedded.append(query["q"])
        if bool(results) != found:
            raise Failed(f"{len(results)} results")
        return ""

    async def _ask(self) -> str:
        client = PlatformClient(self.session, self.urls, self.token)
        question = f"Where does the {WORD} of the harbour office sleep?"
        answer = await client.ask(question, lambda _: None, lambda: None, collections=[self.collection], max_tokens=256)
        self._conversation = str(answer.accepted.get("conversation_id", ""))
        if answer.completed is None or answer.failure:
            raise Failed(answer.failure)
        if answer.first_token_seconds is None:
            raise Failed("it came without a token")
        self._charged = int(answer.completed["charged_tokens"])
        self._embedded.append(question)
        return f"first token after {answer.first_token_seconds:.2f} s, by {answer.completed['model']}"

    async def _budget(self) -> str:
        used = await self._usage() - self._used
        # What an embedding costs is told where one is asked for by itself.
        told = await self._json("POST", "openai-api", "/v1/embeddings", json={"input": self._embedded})
        embedded = int(told["usage"]["total_tokens"])
        if used != self._charged + embedded:
            cost = f"the answer cost {self._charged} tokens, and the embeddings {embedded}"
            raise Failed(f"{cost}, and the user was charged {used}")
        return f"{self._charged} and {embedded} tokens"

    async def _usage(self) -> int:
        """Return what the caller was charged, over every day that it may be now in the tenant's time zone."""
        now = datetime.now(UTC)
        days = {"since": (now - timedelta(days=1)).date(), "until": (now + timedelta(days=1)).date()}
        me = await self._json("GET", "identity", "/me")
        usage = await self._json(
            "GET", "routing", "/usage", params={n: str(d) for n, d in days.items()} | {"user_id": me["user"]["id"]}
        )
        return sum(int(row["tokens"]) for row in usage["usage"])

    async def _delete(self) -> str:
        await self._json("DELETE", "ingestion", f"/documents/{self._document}")
        return await self._search(found=False)

    async def _clean_up(self) -> str:
        # With all documents that are still in it.
        await self._json("DELETE", "ingestion", f"/collections/{self.collection}")
        if self._conversation:
            await self._json("DELETE", "chat", f"/conversations/{self._conversation}")
        return ""

    async def _json(self, method: str, function: str, path: str, **request: Any) -> dict[str, Any]:
        """Return the answer to a request; raises Failed for a problem."""
        async with self._request(method, function, path, **request) as response:
            body = await response.text(errors="replace")
            if not response.ok:
                raise Failed(f"{method} {path} of {function} is answered {response.status}: {body[:300]}")
            answer: dict[str, Any] = await response.json() if body else {}
            return answer

    @asynccontextmanager
    async def _request(
        self, method: str, function: str, path: str, *, authorized: bool = True, **request: Any
    ) -> "AsyncIterator[aiohttp.ClientResponse]":
        headers = request.pop("headers", {}) | ({"Authorization": f"Bearer {self.token}"} if authorized else {})
        timeout = aiohttp.ClientTimeout(REQUEST_SECONDS)
        async with self.session.request(
            method, self.urls[function] + path, headers=headers, timeout=timeout, **request
        ) as response:
            yield response


def addresses(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the functions' addresses as URL and URL_<FUNCTION> say; empty where URL is not set."""
    pattern = environ.get("URL", "").rstrip("/")
    if not pattern:
        return {}
    return {
        function: environ.get(f"URL_{function.upper().replace('-', '_')}", "").rstrip("/")
        or pattern.replace("{function}", function)
        for function in FUNCTIONS
    }


async def run(urls: Mapping[str, str], token: str, tell: Callable[[str], None]) -> bool:
    """Run against a platform; return whether all has passed."""
    async with aiohttp.ClientSession() as session:
        return await Smoke(urls, token, session, tell).run()


def main() -> None:
    """Run against URL with TOKEN, or against the local platform."""
    urls, token = addresses(os.environ), os.environ.get("TOKEN", "")
    record = None if urls else running()
    if record is not None:
        from infra.local.cli import demo_token

        urls, token = record.urls, token or demo_token(record)
    if not urls:
        sys.stderr.write("No platform runs here: start one (make dev), or say which: make smoke URL=... TOKEN=...\n")
        sys.exit(NOT_RUNNING)
    if not token:
        sys.exit("error: TOKEN is needed: a token or API key of a user who may ask and upload")
    sys.exit(0 if asyncio.run(run(urls, token, _print)) else 1)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
