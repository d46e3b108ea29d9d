"""Use and budgets over HTTP: who may see them, who may change them, and what a refusal says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests import support
from tests.functions.platform import Platform

QUESTION = {"message": "What is the limit?", "max_tokens": 50}


def span() -> str:
    """Return the query of a usage that has today in it, whatever day it is in the tenant's time zone by then."""
    today = datetime.now(UTC).date()
    return f"since={today - timedelta(days=1)}&until={today + timedelta(days=1)}"


def headers(platform: Platform, subject: str, *roles: str) -> dict[str, str]:
    return support.bearer(platform.tenants[0], subject, roles)


async def user_id(platform: Platform, subject: str) -> str:
    me = await platform.call("identity", "GET", "/me", headers=headers(platform, subject, "member"))
    id_: str = me.json()["user"]["id"]
    return id_


async def usage(platform: Platform, subject: str, role: str, query: str = "") -> list[dict[str, Any]]:
    reply = await platform.call("routing", "GET", f"/usage?{span()}{query}", headers=headers(platform, subject, role))
    assert reply.status == 200, reply
    rows: list[dict[str, Any]] = reply.json()["usage"]
    return rows


async def set_limit(platform: Platform, role: str, **limit: object) -> Any:
    return await platform.call("routing", "PUT", "/budgets", limit, headers=headers(platform, "admin", role))


async def test_use_is_told_by_day_user_key_and_model(platform: Platform) -> None:
    began = datetime.now(UTC).date()
    for subject in ("ann", "ann", "bob"):
        await platform.ask(str(QUESTION["message"]), max_tokens=50, headers=headers(platform, subject, "member"))
    [own] = await usage(platform, "ann", "member")
    assert str(began) <= own["day"] <= str(datetime.now(UTC).date())
    assert own["turns"] == 2
    assert own["tokens"] == own["prompt_tokens"] + own["completion_tokens"] > 0
    everyone = await usage(platform, "boss", "tenant_admin", "&by=user,model")
    assert sorted((row["model"], row["turns"]) for row in everyone) == [
        ("local/all-minilm-l6-v2", 0), ("local/all-minilm-l6-v2", 0),
        ("local/extractive-standard", 1), ("local/extractive-standard", 2),
    ]  # fmt: skip
    assert sum(row["tokens"] for row in everyone if row["turns"] == 0) == sum(platform.embedded()) > 0
    ann = await user_id(platform, "ann")
    assert [row["turns"] for row in await usage(platform, "eve", "auditor", f"&user_id={ann}")] == [2]
    # Who may see only the own use cannot ask for another's.
    assert [row["turns"] for row in await usage(platform, "bob", "member", f"&user_id={ann}")] == [1]


@pytest.mark.parametrize(
    "query",
    [
        "", "since=2026-01-01", "since=yesterday&until=2026-01-01", "since=2026-02-01&until=2026-01-01",
        "since=2020-01-01&until=2026-01-01", "since=2026-01-01&until=2026-01-02&by=hour",
        "since=2026-01-01&until=2026-01-02&user_id=ann", "since=2026-01-01&until=2026-01-02&model=%00",
    ],
)  # fmt: skip
async def test_a_query_that_is_wrong_is_refused(platform: Platform, query: str) -> None:
    reply = await platform.call("routing", "GET", f"/usage?{query}")
    assert (reply.status, reply.code()) == (422, "invalid_request")


async def test_a_user_sees_the_tenants_budget_and_the_own_limits_and_an_administrator_all(platform: Platform) -> None:
    ann, bob = await user_id(platform, "ann"), await user_id(platform, "bob")
    for holder, tokens in ((ann, 5000), (bob, 7000)):
        reply = await set_limit(
            platform, "tenant_admin", scope="user", holder_id=holder, period="day", tokens=tokens, cost_micros=9
        )
        assert reply.status == 200, reply

    async def seen(subject: str, role: str) -> set[tuple[str, str, str, int]]:
        reply = await platform.call("routing", "GET", "/budgets", headers=headers(platform, subject, role))
        return {(b["scope"], b["holder_id"], b["period"], b["limit"]) for b in reply.json()["budgets"]}

    tenant = str(platform.tenants[0])
    common = {("tenant", tenant, "day", 1_000_000), ("tenant", tenant, "month", 20_000_000)}
    assert await seen("ann", "member") == common | {("user", ann, "day", 5000)}
    assert await seen("boss", "auditor") == common | {("user", ann, "day", 5000), ("user", bob, "day", 7000)}


async def test_a_tenants_own_limit_is_the_platforms_to_set(platform: Platform) -> None:
    limit = {"scope": "tenant", "holder_id": str(platform.tenants[0]), "period": "month", "tokens": 123}
    refused = await set_limit(platform, "tenant_admin", **limit)
    assert (refused.status, refused.code()) == (403, "forbidden")
    assert (await set_limit(platform, "platform_admin", **limit)).status == 200
    stranger = limit | {"scope": "user"}
    missing = await set_limit(platform, "tenant_admin", **stranger)
    assert (missing.status, missing.code()) == (404, "not_found")


async def test_a_full_budget_says_whose_it_is_and_when_to_come_back_and_is_told_once(platform: Platform) -> None:
    ann = await user_id(platform, "ann")
    accepted = await platform.call("chat", "POST", "/chat", QUESTION | {"stream": False})
    tokens = accepted.json()["reserved_tokens"] + sum(platform.embedded()) + 10
    limit = {"scope": "user", "holder_id": ann, "period": "day"}
    assert (await set_limit(platform, "tenant_admin", **limit, tokens=tokens)).status == 200
    platform.claim()
    for _ in range(3):
        reply = await platform.call("chat", "POST", "/chat", QUESTION)
        assert (reply.status, reply.code()) == (429, "budget_exceeded")
        told = reply.json()
        assert (told["scope"], told["holder_id"], told["period"], told["limit"]) == ("user", ann, "day", tokens)
        resets = datetime.fromisoformat(told["resets_at"]) - datetime.now(UTC)
        assert abs(int(reply.headers["retry-after"]) - resets.total_seconds()) < 5
    [event] = platform.claim()
    assert event["type"] == "com.enterprise-agents.budget.reached.v1"
    assert event["subject"] == ann
    assert (event["data"]["scope"], event["data"]["percent"], event["data"]["limit"]) == ("user", 100, tokens)
    more = await platform.call(
        "routing",
        "POST",
        "/budgets/top-up",
        {**limit, "tokens": 100_000},
        headers=headers(platform, "admin", "tenant_admin"),
    )
    assert (more.status, more.json()["remaining"]) == (200, 100_010)
    assert (await platform.call("chat", "POST", "/chat", QUESTION | {"stream": False})).status == 202


@pytest.mark.parametrize(
    ("used", "advice"), [(True, "wait for the next day"), (False, "No day's budget would hold it")]
)
async def test_a_full_budget_says_whether_waiting_helps(platform: Platform, used: bool, advice: str) -> None:
    limit = {"scope": "user", "holder_id": await user_id(platform, "ann"), "period": "day"}
    tokens = 10
    if used:
        tokens = (await platform.call("chat", "POST", "/chat", QUESTION | {"stream": False})).json()["reserved_tokens"]
    await set_limit(platform, "tenant_admin", **limit, tokens=tokens)
    detail = (await platform.call("chat", "POST", "/chat", QUESTION)).json()["detail"]
    assert advice in detail, detail
    assert "max_tokens" in detail


async def test_a_paused_budget_admits_nothing_until_it_is_resumed(platform: Platform) -> None:
    limit = {"scope": "user", "holder_id": await user_id(platform, "ann"), "period": "month", "tokens": 10**6}
    assert (await set_limit(platform, "tenant_admin", **limit, paused=True)).status == 200
    reply = await platform.call("chat", "POST", "/chat", QUESTION)
    assert (reply.status, reply.code()) == (429, "budget_paused")
    assert "retry-after" not in reply.headers
    assert (await set_limit(platform, "tenant_admin", **limit)).status == 200
    assert (await platform.call("chat", "POST", "/chat", QUESTION | {"stream": False})).status == 202


async def test_who_only_pauses_and_resumes_leaves_the_limit_as_it_was(platform: Platform) -> None:
    holder = {"scope": "user", "holder_id": await user_id(platform, "ann"), "period": "month"}
    await set_limit(platform, "tenant_admin", **holder, tokens=10**6, cost_micros=7)
    for paused in (True, False):
        changed = (await set_limit(platform, "tenant_admin", **holder, paused=paused)).json()
        assert (changed["tokens"], changed["cost_micros"], changed["paused"]) == (10**6, 7, paused)
    changed = (await set_limit(platform, "tenant_admin", **holder, tokens=None, paused=False)).json()
    assert (changed["tokens"], changed["cost_micros"]) == (None, None), "no limit, where it is said"


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "team"}, {"holder_id": "ann"}, {"period": "year"}, {"tokens": -1}, {"tokens": 2**63}, {"cost_micros": 1.5},
        {"paused": "maybe"}, {"colour": "red"},
    ],
)  # fmt: skip
async def test_a_limit_that_is_wrong_is_refused(platform: Platform, change: dict[str, object]) -> None:
    limit = {"scope": "user", "holder_id": str(UUID(int=1)), "period": "day", "tokens": 5} | change
    reply = await set_limit(platform, "tenant_admin", **limit)
    assert (reply.status, reply.code()) == (422, "invalid_request")


async def test_an_answer_that_is_stopped_or_broken_costs_what_was_generated(platform: Platform) -> None:
    turn = await platform.begin()
    stopped = await platform.call("chat", "POST", f"/turns/{turn}/stop")
    assert (stopped.json()["status"], stopped.json()["charged_tokens"]) == ("stopped", 0)
    assert platform.held() == 0
    assert sum(row["tokens"] for row in await usage(platform, "ann", "member")) == sum(platform.embedded())
