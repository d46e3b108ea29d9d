"""The `retrieval` function: search the documents of a tenant, and say how it is searched."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.retrieval import searching
from functions.retrieval.models import Results, Search, SearchSettings, SettingsChange
from shared.http import Operation, application, serves

APPLICATION = application(
    "Retrieval",
    [
        Operation(
            "GET",
            "/search",
            searching.find,
            "Find passages of the documents; with explain=true also how they were found",
            "search",
            response=Results,
            parameters=("query:q", "query:collection", "query:limit", "query:filter", "query:explain"),
        ),
        Operation("POST", "/search", searching.search, "The same, asked in a body", "search", Search, Results),
        Operation(
            "GET",
            "/search/settings",
            searching.show_settings,
            "How the tenant is searched",
            "search",
            response=SearchSettings,
        ),
        Operation(
            "PUT",
            "/search/settings",
            searching.change_settings,
            "Change how the tenant is searched",
            "search.configure",
            SettingsChange,
            SearchSettings,
        ),
    ],
)


@http
@serves(APPLICATION)
async def retrieval(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION
