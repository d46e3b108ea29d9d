"""What a reader gets over HTTP is what docs/openapi.json says of it."""

import re
from typing import Any

from tests import support
from tests.api_docs.documents import openapi, wrong_in
from tests.functions.platform import Platform
from tests.functions.test_buckets import assign
from tests.functions.test_spending import QUESTION, span, user_id

ROLES = ("tenant_admin", "platform_admin", "auditor", "member")
QUERIES = {"/search": "q=lunch", "/conversations/search": "q=lunch", "/usage": None}
WITHOUT_SCHEMA = {
    "/health", "/v1/models", "/v1/models/{model}", "/saml/metadata", "/documents/{document_id}/content",
    "/documents/{document_id}/progress", "/progress", "/turns/{turn_id}/stream",
}  # fmt: skip
"""Streams and files, which are no JSON, and answers without a model."""


async def prepared(platform: Platform) -> dict[str, str]:
    """Fill the platform with one of each; return what the paths' parameters name."""
    document = await platform.store("a.md", "Lunch is at noon.")
    told = await platform.ask("When is lunch?")
    turn = told.headers["x-turn-id"]
    await platform.call("openai_api", "POST", "/v1/embeddings", {"model": "auto", "input": "a"})
    alias = {"name": "handbook", "model": "standard", "collections": ["default"]}
    admin = support.bearer(platform.tenants[0], "boss", roles=("tenant_admin",))
    assert (await platform.call("routing", "PUT", "/aliases", alias, headers=admin)).status == 200
    key = await platform.call("identity", "POST", "/keys", {"name": "a key", "scopes": ["chat"]}, headers=admin)
    assert key.status == 201, key
    support.ISSUED.add(key.json()["key"])
    assert (await assign(platform, "company", "")).status == 200
    return {
        "tenant_id": str(platform.tenants[0]),
        "document_id": document["id"],
        "turn_id": turn,
        "conversation_id": (await platform.read(turn))["conversation_id"],
        "collection": "default",
        "user_id": await user_id(platform, "ann"),
    }


async def test_every_reading_operation_answers_as_its_entry_says(platform: Platform) -> None:
    named = await prepared(platform)
    unseen = set()
    for path, item in openapi()["paths"].items():
        if "get" in item:
            content = item["get"]["responses"]["200"]["content"]
            if schema := content.get("application/json", {}).get("schema"):
                body = await answered(platform, item["x-service"].replace("-", "_"), address(path, named))
                assert wrong_in(openapi(), body, schema) == [], path
            else:
                unseen.add(path)
    assert unseen == WITHOUT_SCHEMA


def address(path: str, named: dict[str, str]) -> str:
    filled = re.sub(r"\{(\w+)\}", lambda found: named[found[1]], path)
    return f"{filled}?{QUERIES[path] or span()}" if path in QUERIES else filled


async def answered(platform: Platform, function: str, url: str) -> Any:
    """Return the answer to whoever may ask."""
    for role in ROLES:
        subject = "ann" if role in {"member", "tenant_admin"} else role
        headers = support.bearer(platform.tenants[0], subject, roles=(role,))
        reply = await platform.call(function, "GET", url, headers=headers)
        if reply.status != 403:
            break
    assert reply.status == 200, (url, reply)
    return reply.json()


async def test_a_problem_is_as_its_document_says(platform: Platform) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    for function, url, method, body in (
        ("chat", f"/turns/{unknown}", "GET", None),
        ("chat", "/chat", "POST", {"mesage": "typo"}),
        (
            "openai_api",
            "/v1/chat/completions",
            "POST",
            {"model": "none", "messages": [{"role": "user", "content": "a"}]},
        ),
        ("routing", "/budgets", "PUT", QUESTION),
    ):
        reply = await platform.call(function, method, url, body)
        assert reply.status >= 400
        [entry] = [
            item[method.lower()]
            for path, item in openapi()["paths"].items()
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), url) and method.lower() in item
        ]
        [told] = entry["responses"]["default"]["content"].values()
        assert wrong_in(openapi(), reply.json(), told["schema"]) == [], url
