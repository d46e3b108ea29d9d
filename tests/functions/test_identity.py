"""The identity API as its users see it: themselves, keys, users, roles, tenants, the audit log, and shared conversations."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.api_keys import PATTERN, ApiKey
from shared.settings import get_settings
from tests import support
from tests.functions.asgi import Reply, call
from tests.functions.platform import Platform, after_embeddings

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Client:
    """Somebody who uses the API, by token or by key."""

    platform: Platform
    credential: dict[str, str]

    async def ask(self, method: str, url: str, document: object = None, *, function: str = "identity") -> Reply:
        """Make a request; whatever is answered, nobody on its way may keep it."""
        reply = await self.platform.call(function, method, url, document, headers=self.credential)
        if function == "identity" and reply.status < 400:
            assert reply.headers["cache-control"] == "no-store"
        return reply

    async def get(self, url: str) -> Any:
        """Return what is answered to a request that is served."""
        return await self.do("GET", url)

    async def do(self, method: str, url: str, document: object = None, *, function: str = "identity") -> Any:
        """Return what is answered to a request that is served."""
        reply = await self.ask(method, url, document, function=function)
        assert reply.status in {200, 201, 202}, reply
        return reply.json()

    async def refused(self, method: str, url: str, document: object = None, *, function: str = "identity") -> str:
        """Return the code of a request that is refused."""
        reply = await self.ask(method, url, document, function=function)
        assert 400 <= reply.status < 500, reply
        return reply.code()

    async def works(self) -> bool:
        """Return whether this credential is taken."""
        return (await self.ask("GET", "/me")).status == 200

    async def me(self) -> str:
        """Return the caller's user id."""
        return str((await self.get("/me"))["user"]["id"])

    def by_key(self, made: dict[str, Any]) -> "Client":
        """Return who acts by a key that was just shown."""
        return Client(self.platform, {"Authorization": f"Bearer {made['key']}"})


@dataclass(frozen=True)
class People:
    """Who there is in the first tenant, unless another is named."""

    platform: Platform

    def who(self, subject: str, *roles: str, groups: Sequence[str] = (), tenant: UUID | None = None) -> Client:
        """Return somebody with a token that names roles and groups."""
        tenant = tenant or self.platform.tenants[0]
        return Client(self.platform, support.bearer(tenant, subject, roles=roles, groups=groups))

    @property
    def admin(self) -> Client:
        return self.who("root", "tenant_admin")

    @property
    def ann(self) -> Client:
        return self.who("ann", "member")

    @property
    def auditor(self) -> Client:
        return self.who("otto", "auditor")

    @property
    def operator(self) -> Client:
        return self.who("pat", "platform_admin")

    async def service_account(self, *roles: str, name: str = "nightly") -> tuple[str, Client]:
        """Return a service account's id, and itself."""
        user = await self.admin.do("POST", "/users", {"name": name, "roles": list(roles)})
        made = await self.admin.do("POST", "/keys", {"name": name, "user_id": user["id"]})
        return user["id"], self.admin.by_key(made)


@pytest.fixture
def people(platform: Platform) -> People:
    return People(platform)


def of_the_last(seconds: float, moment: str) -> bool:
    return abs(datetime.now(UTC) - datetime.fromisoformat(moment)) < timedelta(seconds=seconds)


# Who am I


async def test_who_i_am_by_token(people: People, platform: Platform) -> None:
    with platform.database.connect() as operator:
        operator.run("UPDATE core.tenants SET time_zone = 'Europe/Berlin' WHERE slug = 'alpha'")
    me = await people.who("ann", "member", "auditor", "unheard-of", groups=["staff", "berlin"]).get("/me")
    assert me["tenant"] | {"created_at": ""} == {
        "id": str(platform.tenants[0]), "slug": "alpha", "name": "Alpha", "region": "test", "time_zone": "Europe/Berlin",
        "active": True, "created_at": "",
    }  # fmt: skip
    user = me["user"]
    assert (user["subject"], user["kind"], user["active"]) == ("ann", "person", True)
    assert (user["roles"], user["groups"]) == (["auditor", "member"], ["berlin", "staff"])
    assert of_the_last(60, user["created_at"])
    assert of_the_last(60, user["seen_at"])
    assert me["key"] is None
    assert me["tenant"] == await people.who("ann", "member").get("/tenant")


@pytest.mark.parametrize(
    ("roles", "scopes"),
    [
        (("member",), None),
        (("member",), ["chat", "identity:read"]),
        (("tenant_admin",), ["documents:read", "identity"]),
        (("tenant_admin", "platform_admin", "auditor"), ["identity:read", "platform", "routing:read"]),
    ],
)
async def test_the_operations_that_are_listed_are_those_that_work(
    people: People, roles: tuple[str, ...], scopes: list[str] | None
) -> None:
    person = people.who("ann", *roles)
    made = await people.who("ann", "member", *roles).do("POST", "/keys", {"name": "k", "scopes": scopes})
    for client in (person, person.by_key(made)):
        # The roles are those of the latest token.
        await person.get("/me")
        listed = set((await client.get("/me"))["operations"])
        for operation, (function, method, url) in {
            "chat.read": ("chat", "GET", f"/turns/{UNKNOWN}"),
            "chat.stop": ("chat", "POST", f"/turns/{UNKNOWN}/stop"),
            "documents.read": ("ingestion", "GET", "/documents"),
            "routing.models": ("routing", "GET", "/routing/models"),
            "keys.read": ("identity", "GET", "/keys"),
            "tenant.read": ("identity", "GET", "/tenant"),
            "users.read": ("identity", "GET", "/users"),
            "users.erase": ("identity", "DELETE", f"/users/{UNKNOWN}"),
            "roles.read": ("identity", "GET", "/roles"),
            "tenants.read": ("identity", "GET", "/tenants"),
        }.items():
            reply = await client.ask(method, url, function=function)
            assert (reply.status != 403) == (operation in listed), operation


async def test_what_a_key_says_of_itself(people: People) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "a script", "scopes": ["chat", "identity:read"]})
    me = await people.ann.by_key(made).get("/me")
    assert me["user"]["subject"] == "ann"
    assert me["key"] | {"last_used_at": None} == {name: value for name, value in made.items() if name != "key"}
    assert of_the_last(60, me["key"]["last_used_at"])
    assert "chat.ask" in me["operations"]
    assert "keys.create" not in me["operations"]


# The tenant


async def test_a_tenants_name_is_its_administrators_and_its_time_zone_the_platforms(people: People) -> None:
    changed = await people.admin.do("PATCH", "/tenant", {"name": "Alpha AG"})
    assert (changed["name"], changed["time_zone"]) == ("Alpha AG", "UTC")
    assert await people.ann.get("/tenant") == changed
    assert await people.admin.refused("PATCH", "/tenant", {"time_zone": "Asia/Tokyo"}) == "invalid_request"
    assert await people.ann.get("/tenant") == changed
    assert (await people.who("eve", "member", tenant=people.platform.tenants[1]).get("/tenant"))["name"] == "Beta"


# Keys


async def test_a_key_is_shown_once_and_used(people: People, platform: Platform) -> None:
    expires = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    reply = await people.ann.ask("POST", "/keys", {"name": "a script", "expires_at": expires})
    assert reply.status == 201
    made = reply.json()
    key = ApiKey.parse(made["key"])
    assert key is not None
    assert (key.tenant_id, str(key.key_id)) == (platform.tenants[0], made["id"])
    assert (made["status"], made["scopes"], made["name"]) == ("active", None, "a script")
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(expires)
    assert made["user_id"] == await people.ann.me()
    [listed] = (await people.ann.get("/keys"))["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert not PATTERN.search(json.dumps(listed))
    script = people.ann.by_key(made)
    assert await script.works()
    accepted = await script.do("POST", "/chat", {"message": "What?", "stream": False}, function="chat")
    assert await people.ann.do("GET", f"/turns/{accepted['turn_id']}", function="chat")
    with platform.database.connect() as operator:
        # The turn's, and its question's embedding's.
        assert operator.query("SELECT api_key_id::text FROM budget.reservations") == [(made["id"],)] * 2
        stored = operator.value("SELECT k::text FROM core.api_keys AS k")
    assert key.secret not in stored
    [entry] = platform.audited(platform.tenants[0])
    assert (entry.action, entry.object) == ("key.created", made["id"])
    assert key.secret not in json.dumps(entry.data)


async def test_a_rotated_key_has_two_secrets_for_as_long_as_was_asked(people: People, platform: Platform) -> None:
    first = await people.ann.do("POST", "/keys", {"name": "a script"})
    second = await people.ann.do("POST", f"/keys/{first['id']}/rotate", {"overlap_seconds": 3600})
    assert second["id"] == first["id"]
    assert second["key"] != first["key"]
    assert second["key"][: -len("_") - 43] == first["key"][: -len("_") - 43]
    left = datetime.fromisoformat(second["previous_until"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    assert [await people.ann.by_key(key).works() for key in (first, second)] == [True, True]
    third = await people.ann.do("POST", f"/keys/{first['id']}/rotate", {"overlap_seconds": 3600})
    assert [await people.ann.by_key(key).works() for key in (first, second, third)] == [False, True, True]
    fourth = await people.ann.do("POST", f"/keys/{first['id']}/rotate", {})
    assert fourth["previous_until"] is None
    works = [await people.ann.by_key(key).works() for key in (first, second, third, fourth)]
    assert works == [False, False, False, True]
    assert [entry.action for entry in platform.audited(platform.tenants[0]) if "key" in entry.action] == [
        "key.created", *["key.rotated"] * 3,
    ]  # fmt: skip


async def test_a_revoked_key_ends_with_the_next_request(people: People, platform: Platform) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "a script"})
    script = people.ann.by_key(made)
    assert await script.works()
    revoked = await people.ann.do("DELETE", f"/keys/{made['id']}")
    assert revoked["status"] == "revoked"
    assert await script.refused("GET", "/me") == "unauthenticated"
    assert await people.ann.do("DELETE", f"/keys/{made['id']}") == revoked
    assert await people.ann.refused("POST", f"/keys/{made['id']}/rotate", {}) == "conflict"
    assert [key["status"] for key in (await people.ann.get("/keys"))["keys"]] == ["revoked"]
    actions = [entry.action for entry in platform.audited(platform.tenants[0])]
    assert actions.count("key.revoked") == 1


async def test_a_key_may_end_itself(people: People) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "a script"})
    script = people.ann.by_key(made)
    assert (await script.do("DELETE", f"/keys/{made['id']}"))["status"] == "revoked"
    assert not await script.works()


async def test_keys_are_seen_and_ended_by_their_user_and_the_administrator(people: People) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "ann's"})
    bob, stranger = people.who("bob", "member"), people.who("eve", "tenant_admin", tenant=people.platform.tenants[1])
    await bob.do("POST", "/keys", {"name": "bob's"})

    async def names(client: Client, query: str = "") -> list[str]:
        return [key["name"] for key in (await client.get(f"/keys{query}"))["keys"]]

    assert (await names(people.ann), await names(bob), await names(stranger)) == (["ann's"], ["bob's"], [])
    assert await names(people.admin) == await names(people.auditor) == ["bob's", "ann's"]
    assert await names(people.admin, f"?user_id={await bob.me()}") == ["bob's"]
    assert await names(bob, f"?user_id={await people.ann.me()}") == []
    for other in (bob, stranger):
        assert await other.refused("DELETE", f"/keys/{made['id']}") == "not_found"
        assert await other.refused("POST", f"/keys/{made['id']}/rotate", {}) == "not_found"
    # Who got the new secret would act as ann.
    assert await people.admin.refused("POST", f"/keys/{made['id']}/rotate", {}) == "forbidden"
    assert await people.ann.by_key(made).works()
    assert (await people.admin.do("DELETE", f"/keys/{made['id']}"))["status"] == "revoked"


async def test_a_key_is_for_oneself_or_a_service_account(people: People) -> None:
    bob = await people.who("bob", "member").me()
    user, account = await people.service_account("member")
    wanted = {"name": "k", "user_id": bob}
    assert await people.ann.refused("POST", "/keys", wanted) == "forbidden"
    assert await people.admin.refused("POST", "/keys", wanted) == "forbidden"
    assert await people.ann.refused("POST", "/keys", {"name": "k", "user_id": user}) == "forbidden"
    assert await people.admin.refused("POST", "/keys", {"name": "k", "user_id": UNKNOWN}) == "forbidden"
    assert (await account.get("/me"))["user"]["kind"] == "service"
    [key] = (await account.get("/keys"))["keys"]
    rotated = await people.admin.do("POST", f"/keys/{key['id']}/rotate", {})
    assert not await account.works()
    assert await people.admin.by_key(rotated).works()


async def test_a_tenant_admin_does_not_become_platform_admin_by_a_service_account(people: People) -> None:
    # Nobody gives the one role that reaches beyond the tenant without having it: not by a key either.
    both = people.who("pat", "platform_admin", "tenant_admin")
    account = await both.do("POST", "/users", {"name": "fleet", "roles": ["platform_admin"]})
    made = await both.do("POST", "/keys", {"name": "fleet", "user_id": account["id"]})
    assert await people.admin.refused("GET", "/tenants") == "forbidden"
    wanted = {"name": "mine", "user_id": account["id"]}
    gained = [
        await people.admin.ask("POST", "/keys", wanted),
        await people.admin.ask("POST", f"/keys/{made['id']}/rotate", {"overlap_seconds": 60}),
    ]
    assert [reply.status for reply in gained] == [403, 403]


async def test_a_key_has_its_scopes_and_makes_no_key_that_has_more(people: People) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "k", "scopes": ["documents", "keys", "chat:read"]})
    script = people.ann.by_key(made)
    await script.do("GET", "/documents", function="ingestion")
    await script.do("GET", "/keys")
    assert await script.refused("GET", f"/turns/{UNKNOWN}", function="chat") == "not_found"
    for function, method, url, document in (
        ("chat", "POST", "/chat", {"message": "What?"}),
        ("chat", "POST", f"/turns/{UNKNOWN}/stop", None),
        ("identity", "GET", "/me", None),
        ("routing", "GET", "/routing/models", None),
    ):
        reply = await script.ask(method, url, document, function=function)
        assert (reply.status, reply.code()) == (403, "forbidden"), url
        assert "scope" in reply.json()
    for scopes in (None, ["chat"], ["chat:read", "identity:read"]):
        assert await script.refused("POST", "/keys", {"name": "k", "scopes": scopes}) == "forbidden", scopes
    for narrower in (["documents:read"], ["chat:read", "documents"]):
        await script.do("POST", "/keys", {"name": "k", "scopes": narrower})
    whole = await people.ann.do("POST", "/keys", {"name": "whole"})
    assert await script.refused("POST", f"/keys/{whole['id']}/rotate", {}) == "forbidden"
    for unknown in (["everything"], ["chat", "*"], ["chat:write"]):
        assert await people.ann.refused("POST", "/keys", {"name": "k", "scopes": unknown}) == "invalid_request"


async def test_a_key_with_a_rate_limit_has_a_window_of_its_own(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "5")
    get_settings.cache_clear()
    wanted = {"name": "k", "rate_limit_per_minute": 2}
    assert await people.ann.refused("POST", "/keys", wanted) == "forbidden"
    _, account = await people.service_account("tenant_admin")
    limited = people.admin.by_key(await account.do("POST", "/keys", wanted))

    async def rate(client: Client) -> tuple[int, ...]:
        reply = await client.ask("GET", "/documents", function="ingestion")
        if reply.status == 429:
            assert reply.code() == "rate_limited"
            assert reply.headers["retry-after"] == reply.headers["ratelimit-reset"]
        return (reply.status, *(int(reply.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining")))

    # The account has used one of its own five for making the key.
    assert [await rate(limited) for _ in range(3)] == [(200, 2, 1), (200, 2, 0), (429, 2, 0)]
    assert await rate(account) == (200, 5, 3)


async def test_keys_without_a_limit_count_in_their_users_window(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "4")
    get_settings.cache_clear()
    made = [await people.ann.do("POST", "/keys", {"name": "k"}) for _ in range(2)]
    for client, status in ((people.ann.by_key(made[0]), 200), (people.ann.by_key(made[1]), 200), (people.ann, 429)):
        assert (await client.ask("GET", "/documents", function="ingestion")).status == status


@pytest.mark.parametrize(("field", "period"), [("token_budget_daily", "day"), ("token_budget_monthly", "month")])
async def test_a_key_has_a_budget_of_its_own(people: People, platform: Platform, field: str, period: str) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "k", field: 1500})
    assert made[field] == 1500
    script, question = people.ann.by_key(made), {"message": "What?", "max_tokens": 1000, "stream": False}
    await script.do("POST", "/chat", question, function="chat")
    before = platform.counts()
    reply = await script.ask("POST", "/chat", question, function="chat")
    assert (reply.status, reply.code()) == (429, "budget_exceeded")
    told = reply.json()
    assert (told["scope"], told["period"], told["limit"]) == ("api_key", period, 1500)
    assert told["remaining"] < 1000
    assert datetime.fromisoformat(told["resets_at"]) > datetime.now(UTC)
    # That it is used up is told to whoever subscribes, once; the question was embedded, for which there was room.
    after = platform.counts()
    assert after == after_embeddings(before, 1) | {"events.outbox": after["events.outbox"]}
    await people.ann.do("POST", "/chat", question, function="chat")
    assert await people.ann.by_key(await people.ann.do("POST", "/keys", {"name": "nothing", field: 0})).refused(
        "POST", "/chat", question, function="chat"
    ) == "budget_exceeded"  # fmt: skip


# Users


async def test_users_are_listed_a_page_at_a_time_and_shown(people: People, platform: Platform) -> None:
    for subject in ("ann", "bob", "eve"):
        await people.who(subject, "member").get("/me")
    await people.who("zoe", "member", tenant=platform.tenants[1]).get("/me")
    await people.service_account("service")

    async def page(query: str) -> list[str]:
        return [user["subject"] for user in (await people.admin.get(f"/users{query}"))["users"]]

    everybody = ["ann", "bob", "eve", "root", "service:nightly"]
    assert await page("") == everybody
    assert await page("?limit=2") == everybody[:2]
    assert await page("?limit=2&after=bob") == everybody[2:4]
    assert await page("?after=service%3Anightly") == []
    bob = await people.who("bob", "member").me()
    shown = await people.auditor.get(f"/users/{bob}")
    assert (shown["subject"], shown["roles"], shown["kind"]) == ("bob", ["member"], "person")
    zoe = await people.who("zoe", "member", tenant=platform.tenants[1]).me()
    for user in (zoe, UNKNOWN):
        assert await people.admin.refused("GET", f"/users/{user}") == "not_found"
    reads = [entry for entry in platform.audited(platform.tenants[0]) if entry.action == "users.read"]
    assert {entry.actor for entry in reads} == {f"user:{await people.admin.me()}", f"user:{await people.auditor.me()}"}


async def test_a_service_account_is_made_and_acts_by_keys_alone(people: People, platform: Platform) -> None:
    reply = await people.admin.ask("POST", "/users", {"name": "nightly"})
    assert reply.status == 201
    user = reply.json()
    assert reply.headers["location"] == f"/users/{user['id']}"
    assert (user["subject"], user["kind"], user["roles"]) == ("service:nightly", "service", ["service"])
    assert await people.admin.get(reply.headers["location"]) == user
    assert await people.admin.refused("POST", "/users", {"name": "nightly"}) == "conflict"
    assert await people.who("service:nightly", "tenant_admin").refused("GET", "/me") == "unauthenticated"
    assert await people.admin.refused("POST", "/users", {"name": "x", "roles": ["platform_admin"]}) == "forbidden"
    made = await people.admin.do("POST", "/keys", {"name": "k", "user_id": user["id"]})
    account = people.admin.by_key(made)
    await account.do("POST", "/chat", {"message": "What?", "stream": False}, function="chat")
    assert await account.refused("POST", "/keys", {"name": "k"}) == "forbidden"
    # The name is free in another tenant.
    await people.who("eve", "tenant_admin", tenant=platform.tenants[1]).do("POST", "/users", {"name": "nightly"})


async def test_a_disabled_user_is_refused_at_once_by_token_and_key(people: People, platform: Platform) -> None:
    user, key = await people.ann.me(), people.ann.by_key(await people.ann.do("POST", "/keys", {"name": "k"}))
    disabled = await people.admin.do("PATCH", f"/users/{user}", {"active": False})
    assert disabled["active"] is False
    assert await people.ann.refused("GET", "/me") == "user_disabled"
    assert await key.refused("GET", "/me") == "unauthenticated"
    enabled = await people.admin.do("PATCH", f"/users/{user}", {"active": True})
    assert enabled == disabled | {"active": True}
    assert [await people.ann.works(), await key.works()] == [True, True]
    actions = [entry.action for entry in platform.audited(platform.tenants[0]) if entry.object == user]
    assert actions == ["user.disabled", "user.enabled"]


async def test_nobody_disables_or_erases_themselves_or_a_platform_admin(people: People) -> None:
    own, operators = await people.admin.me(), await people.operator.me()
    for user in (own, operators):
        assert await people.admin.refused("PATCH", f"/users/{user}", {"active": False}) == "forbidden"
        assert await people.admin.refused("DELETE", f"/users/{user}") == "forbidden"
    for method, document in (("PATCH", {"active": False}), ("DELETE", None)):
        assert await people.admin.refused(method, f"/users/{UNKNOWN}", document) == "not_found"
    assert await people.operator.works()


async def test_an_erased_user_leaves_nothing_but_what_was_spent(people: People, platform: Platform) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "k", "token_budget_daily": 100_000})
    user, key = await people.ann.me(), people.ann.by_key(made)
    accepted = await key.do("POST", "/chat", {"message": "What?", "stream": False}, function="chat")
    await people.ann.do(
        "PUT", f"/conversations/{accepted['conversation_id']}/shares", {"whole_tenant": True}, function="chat"
    )
    erased = await people.admin.do("DELETE", f"/users/{user}")
    assert erased == {"user_id": user, "conversations": 1, "keys": [made["id"]]}
    assert await people.admin.refused("GET", f"/users/{user}") == "not_found"
    assert await people.admin.refused("DELETE", f"/users/{user}") == "not_found"
    assert await key.refused("GET", "/me") == "unauthenticated"
    left = {table for table, rows in platform.counts().items() if rows}
    assert left <= {"core.tenants", "core.role_grants", "budget.ledger", "events.outbox"}
    assert platform.held() == 0
    # Who still has a token begins anew.
    assert await people.ann.me() != user
    assert (await people.ann.get("/keys"))["keys"] == []
    assert await people.ann.refused("GET", f"/turns/{accepted['turn_id']}", function="chat") == "not_found"


# Roles


async def test_the_table_of_roles_is_shown(people: People, platform: Platform) -> None:
    shown = (await people.auditor.get("/roles"))["operations"]
    with platform.database.connect() as operator:
        known = operator.query("SELECT name, scope, roles, audited, meaning FROM core.operations()")
    assert [tuple(row.values()) for row in shown] == known


async def test_a_grant_to_a_group_holds_with_the_next_token_that_names_it(people: People) -> None:
    granted = await people.admin.do("PUT", "/roles/grants", {"group": "library", "roles": ["auditor", "viewer"]})
    assert granted == {"user_id": None, "group": "library", "roles": ["auditor", "viewer"]}
    outside, inside = people.who("ann"), people.who("ann", groups=["library"])
    assert await outside.refused("GET", "/users") == "forbidden"
    await inside.get("/users")
    assert (await inside.get("/me"))["user"]["roles"] == ["auditor", "viewer"]
    assert await inside.refused("POST", "/chat", {"message": "What?"}, function="chat") == "forbidden"
    assert await outside.refused("GET", "/users") == "forbidden"
    assert (await people.auditor.get("/roles/grants"))["grants"] == [granted]
    other = people.who("eve", groups=["library"], tenant=people.platform.tenants[1])
    assert await other.refused("GET", "/users") == "forbidden"
    assert (await people.admin.do("PUT", "/roles/grants", {"group": "library", "roles": []}))["roles"] == []
    assert await inside.refused("GET", "/users") == "forbidden"
    assert (await people.auditor.get("/roles/grants"))["grants"] == []


async def test_a_grant_to_a_user_holds_at_once_for_token_and_key(people: People, platform: Platform) -> None:
    key = people.ann.by_key(await people.ann.do("POST", "/keys", {"name": "k"}))
    user = await people.ann.me()
    for roles, status in ((["auditor"], 200), ([], 403)):
        await people.admin.do("PUT", "/roles/grants", {"user_id": user, "roles": roles})
        for client in (people.ann, key):
            assert (await client.ask("GET", "/users")).status == status
    changes = [entry for entry in platform.audited(platform.tenants[0]) if entry.action == "roles.changed"]
    assert [(entry.object, entry.data) for entry in changes] == [
        (user, {"before": [], "after": ["auditor"]}), (user, {"before": ["auditor"], "after": []}),
    ]  # fmt: skip


async def test_what_may_not_be_granted(people: People) -> None:
    user = await people.ann.me()
    own = await people.admin.me()
    for document, code in (
        ({"user_id": own, "roles": ["auditor"]}, "forbidden"),
        ({"user_id": user, "roles": ["platform_admin"]}, "forbidden"),
        ({"group": "staff", "roles": ["member", "platform_admin"]}, "forbidden"),
        ({"user_id": UNKNOWN, "roles": ["member"]}, "not_found"),
        ({"user_id": user, "group": "staff", "roles": []}, "invalid_request"),
        ({"roles": ["member"]}, "invalid_request"),
    ):
        assert await people.admin.refused("PUT", "/roles/grants", document) == code, document
    await people.operator.do("PUT", "/roles/grants", {"user_id": user, "roles": ["platform_admin"]})
    # Nor taken away.
    assert await people.admin.refused("PUT", "/roles/grants", {"user_id": user, "roles": []}) == "forbidden"
    await people.ann.get("/tenants")


# Tenants


async def test_the_platforms_administrator_makes_suspends_and_resumes_tenants(
    people: People, platform: Platform
) -> None:
    wanted = {"slug": "gamma", "name": "Gamma", "time_zone": "Europe/Berlin", "admin_subject": "greta"}
    made = await people.operator.do("POST", "/tenants", wanted)
    assert (made["slug"], made["time_zone"], made["region"], made["active"]) == ("gamma", "Europe/Berlin", "test", True)
    tenant = UUID(made["id"])
    assert await people.operator.refused("POST", "/tenants", wanted) == "conflict"
    greta = people.who("greta", tenant=tenant)
    assert (await greta.get("/me"))["user"]["roles"] == ["tenant_admin"]
    key = greta.by_key(await greta.do("POST", "/keys", {"name": "k"}))
    suspended = await people.operator.do("PATCH", f"/tenants/{tenant}", {"active": False})
    assert suspended == made | {"active": False}
    for client in (greta, key):
        assert await client.refused("GET", "/me") == "tenant_suspended"
    assert await people.operator.do("PATCH", f"/tenants/{tenant}", {"active": True, "name": "Gamma AG"}) == made | {
        "name": "Gamma AG"
    }
    assert [await greta.works(), await key.works()] == [True, True]
    slugs = [t["slug"] for t in (await people.operator.get("/tenants"))["tenants"]]
    assert slugs == ["alpha", "beta", "gamma"]
    page = await people.operator.get("/tenants?after=alpha&limit=1")
    assert [t["slug"] for t in page["tenants"]] == ["beta"]
    own = f"/tenants/{platform.tenants[0]}"
    assert await people.operator.refused("PATCH", own, {"active": False}) == "invalid_request"
    assert await people.operator.refused("PATCH", f"/tenants/{UNKNOWN}", {"name": "x"}) == "not_found"
    actions = [entry.action for entry in platform.audited(tenant)]
    assert actions[:1] == ["tenant.created"]
    assert actions.count("tenant.updated") == 2


# The audit log


async def test_the_log_is_read_a_page_at_a_time(people: People, platform: Platform) -> None:
    made = await people.ann.do("POST", "/keys", {"name": "k"})
    await people.ann.do("DELETE", f"/keys/{made['id']}")
    assert await people.ann.refused("GET", "/users") == "forbidden"
    ann = f"user:{await people.ann.me()}"
    first = (await people.auditor.get("/audit"))["entries"]
    assert [(entry["seq"], entry["actor"], entry["action"], entry["object"]) for entry in first[:3]] == [
        (1, ann, "key.created", made["id"]),
        (2, ann, "key.revoked", made["id"]),
        (3, ann, "access.refused", "users.read"),
    ]
    assert first[2]["data"] == {"reason": "forbidden"}
    assert all(of_the_last(60, entry["at"]) and len(entry["hash"]) == 64 for entry in first)
    second = (await people.admin.get("/audit?after=1&limit=2"))["entries"]
    assert second == first[1:3]
    # Reading is an entry itself.
    reads = (await people.admin.get("/audit?action=audit.read"))["entries"]
    assert [entry["actor"] for entry in reads[:2]] == [f"user:{await c.me()}" for c in (people.auditor, people.admin)]
    stranger = people.who("eve", "auditor", tenant=platform.tenants[1])
    assert {entry["action"] for entry in (await stranger.get("/audit"))["entries"]} <= {"audit.read"}


async def test_the_platforms_log_is_the_platforms_administrators(people: People, platform: Platform) -> None:
    await call(platform.serve("identity"), "GET", "/me", {"Authorization": "Bearer rubbish"})
    refusals = await people.operator.get("/audit?platform=true&action=login.refused&limit=1000")
    assert refusals["entries"][-1]["object"] == "me.read"
    assert (await people.operator.get("/audit/verify?platform=true"))["intact"] is True
    for client, query in ((people.admin, "?platform=true"), (people.auditor, "?platform=true"), (people.operator, "")):
        assert await client.refused("GET", f"/audit{query}") == "forbidden"
        assert await client.refused("GET", f"/audit/verify{query}") == "forbidden"


async def test_whoever_has_tampered_with_the_log_is_found(people: People, platform: Platform) -> None:
    for _ in range(3):
        await people.admin.get("/users")
    verdict = await people.auditor.get("/audit/verify")
    assert (verdict["intact"], verdict["breaks"], verdict["entries"]) == (True, [], 3)
    assert verdict["head"] == (await people.auditor.get("/audit"))["entries"][2]["hash"]
    with platform.database.connect() as operator, operator.connection.transaction():
        operator.run("ALTER TABLE compliance.audit_log DISABLE TRIGGER append_only")
        operator.run(
            "UPDATE compliance.audit_log SET actor = 'x' WHERE tenant_id = %s AND seq = 2", [platform.tenants[0]]
        )
        operator.run("ALTER TABLE compliance.audit_log ENABLE TRIGGER append_only")
    verdict = await people.auditor.get("/audit/verify")
    assert verdict["intact"] is False
    assert verdict["breaks"] == [{"seq": 2, "reason": "changed"}]


# Shared conversations


async def test_a_conversation_is_read_by_those_it_is_shared_with_and_by_nobody_else(people: People) -> None:
    accepted = await people.ann.do("POST", "/chat", {"message": "What?", "stream": False}, function="chat")
    turn, path = f"/turns/{accepted['turn_id']}", f"/conversations/{accepted['conversation_id']}/shares"
    bob, eve, staff = (
        people.who("bob", "viewer"),
        people.who("eve", "member"),
        people.who("sam", "member", groups=["staff"]),
    )
    stranger = people.who("bob", "member", tenant=people.platform.tenants[1])
    everybody = (bob, eve, staff, stranger)

    async def share(**shares: object) -> list[bool]:
        told = await people.ann.do("PUT", path, shares, function="chat")
        private = {"users": [], "groups": [], "whole_tenant": False}
        assert told == private | shares | {"conversation_id": accepted["conversation_id"]}
        assert await people.ann.do("GET", path, function="chat") == told
        return [(await client.ask("GET", turn, function="chat")).status == 200 for client in everybody]

    assert await share() == [False, False, False, False]
    assert await share(users=[await bob.me()]) == [True, False, False, False]
    assert (await bob.do("GET", path, function="chat"))["users"] == [await bob.me()]
    assert await eve.refused("GET", path, function="chat") == "not_found"
    assert await share(groups=["staff", "ünïcode"]) == [False, False, True, False]
    assert await share(whole_tenant=True) == [True, True, True, False]
    # Reading is all: the conversation is still its owner's.
    for client, method, url, document in (
        (eve, "PUT", path, {}),
        (eve, "POST", f"{turn}/stop", None),
        (eve, "POST", "/chat", {"message": "And?", "conversation_id": accepted["conversation_id"]}),
        (stranger, "PUT", path, {"whole_tenant": True}),
    ):
        assert await client.refused(method, url, document, function="chat") == "not_found", url
    assert await share() == [False, False, False, False]


async def test_a_conversation_is_shared_with_nobody_who_is_unknown(people: People, platform: Platform) -> None:
    accepted = await people.ann.do("POST", "/chat", {"message": "What?", "stream": False}, function="chat")
    path = f"/conversations/{accepted['conversation_id']}/shares"
    bob = people.who("bob", "member")
    stranger = await people.who("zoe", "member", tenant=platform.tenants[1]).me()
    await people.ann.do("PUT", path, {"users": [await bob.me()]}, function="chat")
    before = platform.counts()
    for users in ([UNKNOWN], [await bob.me(), stranger]):
        assert await people.ann.refused("PUT", path, {"users": users}, function="chat") == "not_found"
    assert await people.ann.refused("PUT", f"/conversations/{UNKNOWN}/shares", {}, function="chat") == "not_found"
    assert platform.counts() == before
    assert (await people.ann.do("GET", path, function="chat"))["users"] == [await bob.me()]


# Bad input

BODIES: dict[tuple[str, str, str], dict[str, Any]] = {
    ("identity", "PATCH", "/tenant"): {
        "name": [5, "", " ", "a\0b", "x" * 201, ["a"], "\ud800"],
        "time_zone": ["", "a\0b", "Mars/Olympus", "x" * 101, 5, "UTC; DROP TABLE core.tenants"],
        "slug": ["alpha"],
        "active": [False],
    },
    ("identity", "POST", "/keys"): {
        "name": [5, None, "", " ", "a\0b", "x" * 101, {}, "\udfff"],
        "user_id": ["me", 5, "", UNKNOWN[:-1]],
        "scopes": [[], "chat", [""], ["chat\0"], [5], ["everything"], ["chat"] * 51, ["x" * 51], {}],
        "expires_at": [
            "2999-01-01T00:00:00", "2999-01-01", "tomorrow", "", "2000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+23:59", [], True, -1e30, 1e400,
        ],
        "rate_limit_per_minute": [0, -1, 2**31, 1.5, "many", [], 10**400],
        "token_budget_daily": [-1, 2**63, 0.5, "all", [], 10**400],
        "token_budget_monthly": [-1, 2**63, "NaN", float("nan"), float("inf")],
        "secret": ["x"], "key_id": [UNKNOWN],
    },
    ("identity", "POST", "/keys/{key}/rotate"): {
        "overlap_seconds": [-1, 30 * 24 * 3600 + 1, 1.5, "long", None, [], 10**400],
        "secret": ["x"],
    },
    ("identity", "POST", "/users"): {
        "name": [5, None, "", " \t", "a\0b", "x" * 101, "\ud83d"],
        "roles": ["member", ["root"], [""], [None], [5], {}, ["member\0"], ["Member"]],
        "kind": ["person"],
        "subject": ["root"],
    },
    ("identity", "PATCH", "/users/{user}"): {
        "active": [None, "perhaps", 5, [], {}, "\0"],
        "roles": [["tenant_admin"]],
        "subject": ["root"],
    },
    ("identity", "PUT", "/roles/grants"): {
        "group": [None, "", " ", "a\0b", "x" * 256, 5, [], "\ud800"],
        "user_id": [UNKNOWN, "me", 5],
        "roles": [None, "member", ["root"], [5], [["member"]], {}],
        "until": ["2999-01-01T00:00:00Z"],
    },
    ("identity", "POST", "/tenants"): {
        "slug": ["", "Alpha", "-a", "a b", "a_b", "x" * 64, "a\n", "a\0", 5, None, "ä", "alpha"],
        "name": ["", " ", "a\0b", "x" * 201, 5, None, "\ud800"],
        "time_zone": ["", "Mars/Olympus", "a\0b", None, 5],
        "admin_subject": ["", "a\0b", "x" * 256, 5, "\ud800"],
        "id": [UNKNOWN],
    },
    ("identity", "PATCH", "/tenants/{tenant}"): {
        "name": ["", " ", "a\0b", "x" * 201, 5, "\ud800"],
        "time_zone": ["", "Mars/Olympus", "a\0b", 5],
        "active": ["perhaps", 5, []],
        "slug": ["gamma"],
    },
    ("chat", "PUT", "/conversations/{conversation}/shares"): {
        "users": ["ann", [5], ["ann"], [UNKNOWN], [None], {}, [UNKNOWN] * 1001],
        "groups": ["staff", [""], [" "], ["a\0b"], ["x" * 256], [5], {}, ["a"] * 1001, ["\ud800"]],
        "whole_tenant": ["perhaps", 5, None, []],
        "readers": [[]],
    },
}  # fmt: skip
"""Values of each field that must be refused; unknown fields too."""
GOOD: dict[tuple[str, str, str], dict[str, Any]] = {
    ("identity", "PATCH", "/tenant"): {"name": "Alpha"},
    ("identity", "POST", "/keys"): {"name": "k"},
    ("identity", "POST", "/keys/{key}/rotate"): {},
    ("identity", "POST", "/users"): {"name": "nightly"},
    ("identity", "PATCH", "/users/{user}"): {"active": True},
    ("identity", "PUT", "/roles/grants"): {"group": "staff", "roles": ["viewer"]},
    ("identity", "POST", "/tenants"): {"slug": "gamma", "name": "Gamma"},
    ("identity", "PATCH", "/tenants/{tenant}"): {"name": "Beta"},
    ("chat", "PUT", "/conversations/{conversation}/shares"): {},
}
"""What is right, into which the wrong values are put."""
RAW = (b"", b"{", b"[]", b"null", b'"name"', b"\xff", b"5", b"[" * 60_000, b'{"name": ' + b"1" * 5000 + b"}")


def broken(route: tuple[str, str, str]) -> Iterable[bytes]:
    """Yield the bodies of a route that are wrong."""
    yield from RAW
    yield json.dumps({"name": "x" * 300_000}).encode()
    for name, values in BODIES[route].items():
        yield from (json.dumps(GOOD[route] | {name: value}).encode() for value in values)


def state(platform: Platform) -> tuple[object, ...]:
    """Return what is stored of people and keys, and how long the logs are, but for reads and refusals."""
    tables = ("core.tenants", "core.users", "core.role_grants", "core.api_keys", "budget.limits", "chat.shares")
    with platform.database.connect() as operator:
        rows = [sorted(operator.query(f"SELECT t::text FROM {table} AS t")) for table in tables]
        log = operator.query("SELECT action, count(*) FROM compliance.audit_log WHERE action !~ 'refused$' GROUP BY 1")
    return (*rows, sorted(log))


@pytest.mark.parametrize("route", BODIES, ids=lambda route: f"{route[1]} {route[2]}")
async def test_a_body_that_is_wrong_is_refused_and_writes_nothing(
    people: People, platform: Platform, route: tuple[str, str, str]
) -> None:
    anybody = people.who("root", "platform_admin", "tenant_admin", "member")
    accepted = await anybody.do("POST", "/chat", {"message": "What?", "stream": False}, function="chat")
    function, method, path = route
    url = path.format(
        key=(await anybody.do("POST", "/keys", {"name": "k"}))["id"],
        user=await people.ann.me(),
        tenant=platform.tenants[1],
        conversation=accepted["conversation_id"],
    )
    await anybody.do(method, url, GOOD[route], function=function)
    before = state(platform)
    for body in broken(route):
        reply = await platform.call(function, method, url, headers=anybody.credential, body=body)
        assert 400 <= reply.status < 500, (body[:200], reply)
        assert reply.code() in {
            "malformed_json", "invalid_request", "request_too_large", "not_found", "conflict", "forbidden",
        }, (body[:200], reply)  # fmt: skip
        assert len(reply.body) < 10_000
    assert state(platform) == before


QUERIES = {
    "/users": ["after=%00", f"after={'x' * 256}", "limit=0", "limit=-1", "limit=1001", "limit=many", "limit=1.5", "page=2"],
    "/tenants": ["after=%00", "limit=0", "limit=99999999999999999999", "slug=alpha"],
    "/keys": ["user_id=me", "user_id=", "user_id=%00", "status=active"],
    "/audit": [
        "after=-1", "after=9223372036854775808", "after=a", "limit=0", "limit=1001", "action=", "action=%00",
        f"action={'a' * 101}", "platform=perhaps", "platform=%00", "tenant_id=x",
    ],
    "/audit/verify": ["platform=perhaps", "platform=", "after=1"],
}  # fmt: skip


@pytest.mark.parametrize(("path", "query"), [(path, query) for path, queries in QUERIES.items() for query in queries])
async def test_a_query_that_is_wrong_is_refused(people: People, path: str, query: str) -> None:
    anybody = people.who("root", "platform_admin", "tenant_admin")
    reply = await anybody.ask("GET", f"{path}?{query}")
    assert (reply.status, reply.code()) == (422, "invalid_request"), reply


@pytest.mark.parametrize(
    "path",
    ["/users/me", "/users/%00", "/keys/1/rotate", f"/tenants/{UNKNOWN}x", "/saml", f"/users/{UNKNOWN}/keys"],
)
async def test_an_address_that_is_none_is_not_found(people: People, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert await people.admin.refused(method, path) == "route_not_found"


async def test_ids_in_any_case_mean_the_same(people: People) -> None:
    user = await people.ann.me()
    assert (await people.admin.get(f"/users/{user.upper()}"))["id"] == user
    assert await people.admin.refused("GET", f"/users/{uuid4()}") == "not_found"
