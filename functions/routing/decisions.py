"""Which model would answer, and why; the registry, the rules, and how the models are."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.routing.models import Question
from shared.access import admitted, call
from shared.http import read_json
from shared.runtime import runtime

MAX_BODY_BYTES = 1024 * 1024


async def explain(request: Request) -> Response:
    """Run the decision on a text: nothing is stored, reserved or generated."""
    question = await read_json(request, Question, MAX_BODY_BYTES)
    explanation = await call(
        request,
        "routing.explain",
        p_question=question.message,
        p_requested=question.model,
        p_max_tokens=question.max_tokens,
        p_tools=question.tools,
        p_passages=question.passages,
        p_history_chars=question.history_chars,
    )
    return JSONResponse(explanation)


async def list_models(request: Request) -> Response:
    """List the models and their tiers."""
    database = await runtime.database()
    rows = await database.rows("routing.list_models", admitted(request).principal)
    prices = ("input_price", "output_price")
    models = [row | {name: None if row[name] is None else float(row[name]) for name in prices} for row in rows]
    return JSONResponse({"models": models})


async def list_rules(request: Request) -> Response:
    """List the rules in their order."""
    return JSONResponse({"rules": await call(request, "routing.list_rules")})


async def list_health(request: Request) -> Response:
    """Tell how the models are."""
    return JSONResponse({"models": await call(request, "routing.list_health")})
