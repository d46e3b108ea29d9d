"""What was used, and what is left: by tenant, user, key, model and day, for whoever may see them."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.routing.models import BudgetQuery, Limit, TopUp, UsageQuery
from shared.access import call
from shared.http import read_json, validate

MAX_BODY_BYTES = 64 * 1024


async def show_usage(request: Request) -> Response:
    """Tell what was charged."""
    asked: dict[str, object] = dict(request.query_params)
    if "by" in asked:
        asked["by"] = [name for name in str(asked["by"]).split(",") if name]
    query = validate(UsageQuery, asked)
    usage = await call(
        request,
        "budget.usage",
        p_from=query.since,
        p_until=query.until,
        p_by=query.by,
        p_user_id=query.user_id,
        p_api_key_id=query.api_key_id,
        p_model=query.model,
        p_tenant_id=query.tenant_id,
    )
    return JSONResponse({"usage": usage})


async def list_budgets(request: Request) -> Response:
    """Tell what is left."""
    query = validate(BudgetQuery, dict(request.query_params))
    budgets = await call(request, "budget.list_budgets", p_tenant_id=query.tenant_id)
    return JSONResponse({"budgets": budgets})


async def set_limit(request: Request) -> Response:
    """Set, pause or take away a limit."""
    limit = await read_json(request, Limit, MAX_BODY_BYTES)
    changed = await call(
        request,
        "budget.set_limit",
        p_scope=limit.scope,
        p_holder_id=limit.holder_id,
        p_period=limit.period,
        p_tokens=limit.tokens,
        p_cost_micros=limit.cost_micros,
        p_paused=limit.paused,
        p_keep=limit.only_pauses(),
    )
    return JSONResponse(changed)


async def top_up(request: Request) -> Response:
    """Raise the running day's or month's limit."""
    more = await read_json(request, TopUp, MAX_BODY_BYTES)
    balance = await call(
        request,
        "budget.top_up",
        p_scope=more.scope,
        p_holder_id=more.holder_id,
        p_period=more.period,
        p_tokens=more.tokens,
        p_cost_micros=more.cost_micros,
    )
    return JSONResponse(balance)
