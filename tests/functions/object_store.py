"""A small object store: GET and HEAD of objects by path, for whoever signs as S3 asks for it, and for nobody else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from aiohttp import web

from functions.ingestion.signing import Credentials, signed_headers

CREDENTIALS = Credentials("test-key-id", "test/secret+key", "eu-test-1")
Headers = dict[str, str]


@dataclass
class ObjectStore:
    """What is in the buckets, by bucket and key, and what was asked for."""

    url: str = ""
    objects: dict[tuple[str, str], tuple[bytes, Headers]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    status: int | None = None
    """What is answered to everybody, whatever they ask for."""

    def variables(self) -> dict[str, str]:
        """Return the platform's environment."""
        return {
            "S3_ENDPOINT_URL": self.url,
            "S3_ACCESS_KEY_ID": CREDENTIALS.access_key_id,
            "S3_SECRET_ACCESS_KEY": CREDENTIALS.secret_access_key,
            "S3_REGION": CREDENTIALS.region,
        }

    def put(self, bucket: str, key: str, body: bytes, content_type: str = "text/markdown", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.objects[bucket, key] = (body, {"Content-Type": content_type, **named})

    async def answer(self, request: web.Request) -> web.Response:
        """Serve an object. What was signed is the request as it came: its raw path."""
        self.asked.append((request.method, request.raw_path))
        if self.status is not None:
            return web.Response(status=self.status)
        moment = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        expected = signed_headers(request.method, f"http://{request.host}{request.raw_path}", CREDENTIALS, moment)
        fresh = abs((datetime.now(UTC) - moment).total_seconds()) < 300
        if not fresh or request.headers.get("Authorization") != expected["Authorization"]:
            return web.Response(status=403, text="<Error><Code>SignatureDoesNotMatch</Code></Error>")
        named = {
            f"/{quote(bucket, safe='')}/{quote(key, safe='/')}": content
            for (bucket, key), content in self.objects.items()
        }
        if request.raw_path not in named:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        body, headers = named[request.raw_path]
        return web.Response(body=body, headers=headers)


@asynccontextmanager
async def serving() -> AsyncIterator[ObjectStore]:
    """Run a store on a port of its own."""
    store = ObjectStore()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", store.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    store.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield store
    finally:
        await runner.cleanup()
