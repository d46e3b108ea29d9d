"""The `routing` function: which model would answer, and why."""

from typing import Annotated

from functions_framework.aio import http
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.access import admitted
from shared.http import Operation, application, read_json
from shared.runtime import runtime
from shared.text import Text

MAX_BODY_BYTES = 1024 * 1024


class Question(BaseModel):
    """A question to route without asking it."""

    model_config = ConfigDict(extra="forbid")

    message: Annotated[Text, Field(min_length=1, max_length=100_000)]
    model: Annotated[Text, Field(min_length=1, max_length=200)] | None = None


class Choice(BaseModel):
    """The decision and its reason."""

    model: str
    tier: str
    rule: str | None
    reason: str
    requested: str


async def explain(request: Request) -> Response:
    """Run routing.choose on a text: nothing is stored, reserved or generated."""
    admission = admitted(request)
    question = await read_json(request, Question, MAX_BODY_BYTES)
    database = await runtime.database()
    choice = await database.call(
        "routing.choose", admission.principal, p_question=question.message, p_requested=question.model
    )
    return JSONResponse(choice)


async def list_models(request: Request) -> Response:
    """List the models and their tiers."""
    admission = admitted(request)
    database = await runtime.database()
    models = await database.rows("routing.list_models", admission.principal)
    return JSONResponse({"models": models})


APPLICATION = application(
    "Routing",
    [
        Operation(
            "POST",
            "/routing/explain",
            explain,
            "Which model would answer, and why",
            "routing.explain",
            Question,
            Choice,
        ),
        Operation("GET", "/routing/models", list_models, "The models and their tiers", "routing.models"),
    ],
)


@http
async def routing(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
