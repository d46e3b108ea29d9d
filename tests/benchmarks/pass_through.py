"""The least that a gateway can do: an aiohttp server that forwards bytes both ways and looks at none of them.

Started as `python -m tests.benchmarks.pass_through` with HOST, PORT and UPSTREAM (a base URL).
"""

from __future__ import annotations

import os

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

_KEPT = ("Content-Type", "Authorization")
_UPSTREAM = web.AppKey("upstream", str)
_SESSION = web.AppKey("session", ClientSession)


async def forward(request: web.Request) -> web.StreamResponse:
    """Send the request on, and its answer back as it comes."""
    headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
    body = await request.read()
    url = request.app[_UPSTREAM] + request.raw_path
    async with request.app[_SESSION].request(request.method, url, data=body, headers=headers) as answer:
        kind = answer.headers.get("Content-Type", "application/octet-stream")
        if answer.content_length is not None:
            return web.Response(status=answer.status, body=await answer.read(), headers={"Content-Type": kind})
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": kind})
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


def application(upstream: str) -> web.Application:
    """Return the server in front of a base URL."""
    app = web.Application()
    app[_UPSTREAM] = upstream

    async def session(app: web.Application) -> object:
        async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(None)) as opened:
            app[_SESSION] = opened
            yield

    app.cleanup_ctx.append(session)  # type: ignore[arg-type]
    app.router.add_route("*", "/{path:.*}", forward)
    return app


if __name__ == "__main__":
    web.run_app(
        application(os.environ["UPSTREAM"]),
        host=os.environ["HOST"],
        port=int(os.environ["PORT"]),
        access_log=None,
        print=None,
    )
