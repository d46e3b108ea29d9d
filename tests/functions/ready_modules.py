"""Makes an entry point ready and lists what it loaded: `python -m tests.functions.ready_modules SOURCE TARGET`.

It goes through the interface that the HTTP server uses (ASGI), with one that is configured and not started: lifespan startup,
then GET /health/ready.
Prints a JSON object: `status` of that request, `modules` of the process.
"""

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from shared.serving import build, configuration

if TYPE_CHECKING:
    from starlette.types import Message

    from shared.service import Service


async def main(source: str, target: str) -> None:
    service = build(source, target)
    configuration(service, "127.0.0.1", 0).load()
    commands: asyncio.Queue[Message] = asyncio.Queue()
    told: asyncio.Queue[Message] = asyncio.Queue()
    lifespan = asyncio.create_task(service({"type": "lifespan", "asgi": {"version": "3.0"}}, commands.get, told.put))
    await commands.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    status = await get(service, "/health/ready")
    sys.stdout.write(json.dumps({"status": status, "modules": sorted(sys.modules)}))
    await commands.put({"type": "lifespan.shutdown"})
    await lifespan


async def get(service: "Service", path: str) -> int:
    sent: list[Message] = []

    async def receive() -> "Message":
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: "Message") -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
    }
    await service(scope, receive, send)
    status: int = sent[0]["status"]
    return status


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
