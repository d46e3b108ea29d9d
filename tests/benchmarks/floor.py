"""What a cold start is measured against: one route on Starlette and uvicorn, as a person would write it."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def live(_: Request) -> JSONResponse:
    """Answer 200."""
    return JSONResponse({"status": "ok"})


app = Starlette(routes=[Route("/health/live", live)])

if __name__ == "__main__":
    uvicorn.run(app, host=os.environ["HOST"], port=int(os.environ["PORT"]), log_level="warning")
