"""The `routing` function: which model would answer and why, names, budgets, usage; `probe` asks models that had failed."""

from functions_framework.aio import http
from starlette.requests import Request
from starlette.responses import Response

from functions.routing import aliases, decisions, models, probing, spending
from shared.events import consume
from shared.http import Operation, application, serves

DECISIONS = [
    Operation(
        "POST",
        "/routing/explain",
        decisions.explain,
        "Which model would answer, and why",
        "routing.explain",
        models.Question,
        models.Explanation,
    ),
    Operation(
        "GET",
        "/routing/models",
        decisions.list_models,
        "The models and their tiers",
        "routing.models",
        response=models.Models,
    ),
    Operation(
        "GET",
        "/routing/rules",
        decisions.list_rules,
        "The rules in their order",
        "routing.health",
        response=models.Rules,
    ),
    Operation(
        "GET",
        "/routing/health",
        decisions.list_health,
        "How the models are",
        "routing.health",
        response=models.HealthOfModels,
    ),
]
ALIASES = [
    Operation(
        "GET",
        "/aliases",
        aliases.list_aliases,
        "The tenant's own model names",
        "aliases.read",
        response=models.Aliases,
    ),
    Operation(
        "PUT",
        "/aliases",
        aliases.set_alias,
        "Make or change a model name that brings retrieval along",
        "aliases.update",
        models.Alias,
        models.Alias,
    ),
    Operation("DELETE", "/aliases/{alias:path}", aliases.drop_alias, "Take one away", "aliases.update", status=204),
]
SPENDING = [
    Operation(
        "GET",
        "/usage",
        spending.show_usage,
        "What was charged, by day, user, api_key, model",
        "usage.read",
        response=models.Usage,
        parameters=(
            "query:since",
            "query:until",
            "query:by",
            "query:user_id",
            "query:api_key_id",
            "query:model",
            "query:tenant_id",
        ),
    ),
    Operation(
        "GET",
        "/budgets",
        spending.list_budgets,
        "What is left",
        "budgets.read",
        response=models.Budgets,
        parameters=("query:tenant_id",),
    ),
    Operation(
        "PUT",
        "/budgets",
        spending.set_limit,
        "Set, pause or take away a limit",
        "budgets.update",
        models.Limit,
        models.Limit,
    ),
    Operation(
        "POST",
        "/budgets/top-up",
        spending.top_up,
        "Raise the running day's or month's limit",
        "budgets.update",
        models.TopUp,
        models.Budget,
    ),
]

APPLICATION = application("Routing", [*DECISIONS, *ALIASES, *SPENDING])


@http
@serves(APPLICATION)
async def routing(_: Request) -> Response:
    """Serve the function's HTTP requests."""
    return APPLICATION


@http
async def probe(request: Request) -> Response:
    """Consume the PingSource's tick."""
    return await consume(request, probing.probe)
