"""The `openai_api` function: the OpenAI API over the platform's models, budgets and documents."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.openai_api import catalog, completions, embeddings
from functions.openai_api.errors import ErrorDocument, render
from functions.openai_api.models import Completion, Embeddings
from shared.http import JSON, Errors, Operation, application, serves

APPLICATION = application(
    "OpenAI API",
    [
        Operation(
            "POST",
            "/v1/chat/completions",
            completions.create,
            "Answer a list of messages; with stream=true as server-sent events",
            "chat.ask",
            Completion,
            parameters=("header:Idempotency-Key", "header:traceparent"),
        ),
        Operation("GET", "/v1/models", catalog.list_models, "The names that a request may ask for", "routing.models"),
        Operation("GET", "/v1/models/{model:path}", catalog.show_model, "One of these names", "routing.models"),
        Operation(
            "POST",
            "/v1/embeddings",
            embeddings.create,
            "The vectors of texts, by the model that the documents are indexed with",
            "embeddings.create",
            Embeddings,
        ),
    ],
    Errors(render, JSON, "An error as the OpenAI API tells it", ErrorDocument),
)


@http
@serves(APPLICATION)
async def openai_api(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
