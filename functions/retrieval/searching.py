"""The operations of the search. Every rule is in the database: here requests are read, and answers written."""

from typing import Any

from psycopg.types.json import Jsonb
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.retrieval.models import Results, Search, SearchParameters, SettingsChange
from shared import retrieval
from shared.access import admitted, call
from shared.connection import Row
from shared.http import read_json, validate
from shared.runtime import runtime
from shared.settings import get_settings

MAX_BODY_BYTES = 256 * 1024
LEGS = ("vector", "text", "trigram")


async def find(request: Request) -> Response:
    """Search, as the address says."""
    parameters: dict[str, Any] = dict(request.query_params)
    if names := request.query_params.getlist("collection"):
        parameters = {key: value for key, value in parameters.items() if key != "collection"} | {"collections": names}
    return await _answer(request, validate(SearchParameters, parameters))


async def search(request: Request) -> Response:
    """Search, as the body says."""
    return await _answer(request, await read_json(request, Search, MAX_BODY_BYTES))


async def show_settings(request: Request) -> Response:
    """Tell how the tenant is searched."""
    return JSONResponse(await call(request, "rag.read_search_settings"))


async def change_settings(request: Request) -> Response:
    """Change how the tenant is searched."""
    change = await read_json(request, SettingsChange, MAX_BODY_BYTES)
    settings = await call(request, "rag.set_search_settings", p_settings=Jsonb(change.model_dump()))
    return JSONResponse(settings)


async def _answer(request: Request, asked: Search) -> Response:
    filtered = None if asked.filter is None else asked.filter.for_database()
    wanted = retrieval.Wanted(asked.q, asked.limit, asked.collections, filtered, asked.explain)
    found = await retrieval.search(await runtime.database(), admitted(request).principal, wanted, get_settings())
    answer = {
        "mode": found.mode,
        "reason": found.reason,
        "rerank": found.rerank,
        "results": [_result(n, row) for n, row in enumerate(found.results, start=1)],
        "plan": found.plan,
    }
    return Response(Results.model_validate(answer).model_dump_json(), media_type="application/json")


def _result(n: int, row: Row) -> dict[str, Any]:
    scores = {
        leg: None if row[f"{leg}_rank"] is None else {"rank": row[f"{leg}_rank"], "score": row[f"{leg}_score"]}
        for leg in LEGS
    }
    return row | {"n": n, "document": row["document_name"], "scores": scores | {"rerank": row.get("rerank_score")}}
