"""Collections with an access of their own: who does not belong to one finds nothing of it, anywhere."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from functions.ingestion.models import Collections, Grants
from tests import support
from tests.functions.asgi import Reply
from tests.functions.platform import Platform

ANN, BOB, EVE, BOSS, VIEWER = "ann", "bob", "eve", "boss", "vera"
WORD = "The secret word is aardvark."


def who(platform: Platform, subject: str, groups: Sequence[str] = ()) -> dict[str, str]:
    roles = {BOSS: ("tenant_admin",), VIEWER: ("member", "viewer")}.get(subject, ("member",))
    return support.bearer(platform.tenants[0], subject, roles=roles, groups=groups)


async def ask(
    platform: Platform,
    subject: str,
    method: str,
    path: str,
    document: object = None,
    groups: Sequence[str] = (),
    **more: Any,
) -> Reply:
    headers = who(platform, subject, groups) | more.pop("headers", {})
    return await platform.call("ingestion", method, path, document, headers=headers, **more)


async def me(platform: Platform, subject: str) -> str:
    reply = await platform.call("identity", "GET", "/me", headers=who(platform, subject))
    user: str = reply.json()["user"]["id"]
    return user


async def store(platform: Platform, subject: str, path: str, groups: Sequence[str] = ()) -> Reply:
    markdown = {"Content-Type": "text/markdown"}
    return await ask(platform, subject, "PUT", path, groups=groups, headers=markdown, body=WORD.encode())


@pytest.fixture
async def document(platform: Platform) -> str:
    """An indexed document of ann's restricted collection `board`."""
    made = await ask(platform, ANN, "PUT", "/collections/board", {"description": "Minutes", "visibility": "restricted"})
    assert made.status == 201, made
    stored = await store(platform, ANN, "/documents/board/minutes.md")
    assert stored.status == 202, stored
    await platform.deliver()
    id_: str = stored.json()["id"]
    return id_


async def sees(platform: Platform, subject: str, document: str, groups: Sequence[str] = ()) -> bool:
    """Return whether a user finds the document; all ways to look must say the same."""

    async def look(path: str) -> Reply:
        return await ask(platform, subject, "GET", path, groups=groups)

    listed = (await look("/collections")).json()
    Collections.model_validate(listed, extra="forbid")
    found = [
        "board" in [collection["name"] for collection in listed["collections"]],
        document in [d["id"] for d in (await look("/documents")).json()["documents"]],
        document in [d["id"] for d in (await look("/documents?collection=board")).json()["documents"]],
        (await look("/documents")).json()["counts"]["indexed"] > 0,
        *[
            (await look(f"/documents/{document}{path}")).status == 200
            for path in ("", "/content", "/text", "/progress")
        ],
        (await look("/progress?collection=board")).status == 200,
        b'"indexed":1' in (await look("/progress")).body,
        await finds(platform, subject, groups, None),
    ]
    named = await finds(platform, subject, groups, ["board"])
    assert {*found, named} in ({True}, {False}), found
    return True in found


async def finds(platform: Platform, subject: str, groups: Sequence[str], collections: list[str] | None) -> bool:
    """Return whether a question finds the passage; one that names a collection which is not there is refused."""
    question = {"message": "What is the secret word?", "stream": False} | (
        {"collections": collections} if collections else {}
    )
    reply = await platform.call("chat", "POST", "/chat", question, headers=who(platform, subject, groups))
    if reply.status == 404:
        assert (reply.code(), reply.json()["collection"]) == ("not_found", "board")
        return False
    assert reply.status == 202, reply
    return bool(reply.json()["passages"])


async def grant(platform: Platform, *grants: dict[str, str], by: str = ANN) -> Reply:
    return await ask(platform, by, "PUT", "/collections/board/grants", {"grants": list(grants)})


async def test_a_restricted_collection_is_its_creators_and_the_administrators(
    platform: Platform, document: str
) -> None:
    assert await sees(platform, ANN, document)
    assert await sees(platform, BOSS, document)
    assert not await sees(platform, BOB, document)
    # What is not there and what may not be known are one.
    unknown = "00000000-0000-4000-8000-000000000000"
    for method, path in (
        ("GET", "/documents/{}"), ("DELETE", "/documents/{}"), ("POST", "/documents/{}/retry"),
        ("GET", "/documents/{}/content"), ("GET", "/documents/{}/text"), ("GET", "/documents/{}/progress"),
    ):  # fmt: skip
        hidden = (await ask(platform, BOB, method, path.format(document))).json()
        missing = (await ask(platform, BOB, method, path.format(unknown))).json()
        assert hidden | {"document_id": unknown} == missing, path
    for method, path, body in (
        ("PUT", "/collections/{}", {"description": "Mine."}), ("DELETE", "/collections/{}", None),
        ("GET", "/collections/{}/grants", None), ("PUT", "/collections/{}/grants", {"grants": []}),
        ("POST", "/documents/retry?collection={}", None), ("GET", "/progress?collection={}", None),
    ):  # fmt: skip
        assert (await ask(platform, BOB, method, path.format("board"), body)).code() == "not_found", path
        if method != "PUT" or "grants" in path:
            assert (await ask(platform, BOB, method, path.format("nowhere"), body)).code() == "not_found", path
    assert (await store(platform, BOB, "/documents/board/mine.md")).code() == "not_found"
    assert await sees(platform, ANN, document)


async def test_it_is_shared_with_users_groups_and_roles_and_taken_back(platform: Platform, document: str) -> None:
    for given, subject, groups in (
        ({"user": await me(platform, BOB)}, BOB, ()),
        ({"group": "directors"}, EVE, ("staff", "directors")),
        ({"role": "viewer"}, VIEWER, ()),
    ):
        assert not await sees(platform, subject, document, groups)
        reply = await grant(platform, {**given, "access": "read"})
        Grants.model_validate(reply.json(), extra="forbid")
        assert reply.json() == {
            "collection": "board",
            "visibility": "restricted",
            "grants": [{**given, "access": "read"}],
        }
        assert await sees(platform, subject, document, groups)
        assert (await ask(platform, ANN, "GET", "/collections/board/grants")).json() == reply.json()
        await grant(platform)
        assert not await sees(platform, subject, document, groups)
    entries = [e for e in platform.audited(platform.tenants[0]) if e.action == "collection.shared"]
    assert len(entries) == 6
    assert entries[0].data["grants"][0]["access"] == "read"


async def test_whoever_may_read_may_not_write_and_whoever_writes_does_not_manage(
    platform: Platform, document: str
) -> None:
    bob = await me(platform, BOB)
    await grant(platform, {"user": bob, "access": "read"})
    for reply in (
        await store(platform, BOB, "/documents/board/b.md"),
        await ask(platform, BOB, "DELETE", f"/documents/{document}"),
        await ask(platform, BOB, "POST", f"/documents/{document}/retry"),
        await ask(platform, BOB, "DELETE", "/collections/board"),
        await ask(platform, BOB, "PUT", "/collections/board", {"visibility": "tenant"}),
        await grant(platform, {"user": bob, "access": "write"}, by=BOB),
        await ask(platform, BOB, "GET", "/collections/board/grants"),
    ):
        assert (reply.status, reply.code()) == (403, "forbidden"), reply
    [seen] = (await ask(platform, BOB, "GET", "/collections")).json()["collections"]
    assert seen["access"] == "read"
    # Named twice, the wider one counts.
    await grant(platform, {"user": bob, "access": "write"}, {"user": bob, "access": "read"})
    assert (await store(platform, BOB, "/documents/board/b.md")).status == 202
    assert (await ask(platform, BOB, "PUT", "/collections/board", {"visibility": "tenant"})).code() == "forbidden"
    assert (await ask(platform, BOB, "DELETE", f"/documents/{document}")).status == 204


async def test_an_upload_makes_a_collection_for_everybody_that_nobody_owns(platform: Platform) -> None:
    assert (await store(platform, ANN, "/documents/open/a.md")).status == 202
    assert (await store(platform, BOB, "/documents/open/b.md")).status == 202
    for subject, access in ((ANN, "write"), (BOB, "write"), (BOSS, "manage")):
        [seen] = (await ask(platform, subject, "GET", "/collections")).json()["collections"]
        assert (seen["name"], seen["visibility"], seen["access"], seen["created_by"]) == (
            "open",
            "tenant",
            access,
            None,
        )
        assert seen["documents"] == {"received": 2, "processing": 0, "indexed": 0, "failed": 0}
    assert (await ask(platform, ANN, "PUT", "/collections/open", {"visibility": "restricted"})).code() == "forbidden"
    assert (await ask(platform, ANN, "DELETE", "/collections/open")).code() == "forbidden"
    changed = await ask(platform, BOSS, "PUT", "/collections/open", {"visibility": "restricted"})
    assert (changed.status, changed.json()["visibility"], changed.json()["description"]) == (200, "restricted", "")
    assert (await ask(platform, ANN, "GET", "/collections")).json() == {"collections": []}


async def test_a_deleted_collection_leaves_nothing(platform: Platform, document: str) -> None:
    for number in range(3):
        await store(platform, ANN, f"/documents/board/{number}.md")
    assert document
    assert (await ask(platform, ANN, "DELETE", "/collections/board")).status == 204
    with platform.database.connect() as operator:
        for table in ("collections", "collection_grants", "documents", "contents", "chunks", "embeddings"):
            assert operator.value(f"SELECT count(*) FROM rag.{table}") == 0, table
    entry = platform.audited(platform.tenants[0])[-1]
    assert (entry.action, entry.data) == ("collection.deleted", {"name": "board", "documents": 4})
    assert (await ask(platform, ANN, "DELETE", "/collections/board")).code() == "not_found"
    # Events that were on their way have nothing left to do.
    assert {reply.status for reply in await platform.deliver()} <= {200}


async def test_a_collection_that_is_deleted_while_it_is_filled_and_indexed_leaves_nothing(platform: Platform) -> None:
    replies: list[Reply] = []

    async def fill(number: int) -> None:
        replies.append(await store(platform, BOSS, f"/documents/board/{number}.md"))

    async def empty() -> None:
        replies.append(await ask(platform, BOSS, "DELETE", "/collections/board"))

    for _ in range(3):
        await asyncio.gather(*(fill(number) for number in range(12)))
        delivering = asyncio.create_task(platform.deliver())
        await asyncio.gather(*(fill(number) for number in range(8, 16)), empty(), empty(), fill(1))
        assert {reply.status for reply in await delivering} <= {200}
    await empty()
    assert {reply.status for reply in replies} <= {200, 202, 204, 404}, "no deadlock, and nothing half done"
    await platform.deliver()
    with platform.database.connect() as operator:
        for table in ("collections", "documents", "contents", "chunks", "embeddings", "embedding_queue"):
            assert operator.value(f"SELECT count(*) FROM rag.{table}") == 0, table


async def test_whose_creator_is_erased_is_left_to_the_administrators(platform: Platform, document: str) -> None:
    ann = await me(platform, ANN)
    erased = await platform.call("identity", "DELETE", f"/users/{ann}", headers=who(platform, BOSS))
    assert erased.status == 200, erased
    assert not await sees(platform, ANN, document), "whoever comes by that name later"
    assert await sees(platform, BOSS, document)


async def test_an_event_stores_in_a_restricted_collection_too(platform: Platform, document: str) -> None:
    assert document
    from tests.functions.test_events import event as make_event

    data = {"name": "b.md", "collection": "board", "content": "By the mail."}
    event = make_event(platform, "com.enterprise-agents.ingestion.submitted.v1", data)
    assert (await platform.post(event)).status == 200
    assert (await ask(platform, ANN, "GET", "/documents?collection=board")).json()["counts"]["received"] == 1
    assert (await ask(platform, BOB, "GET", "/documents")).json()["documents"] == []


WRONG: tuple[tuple[str, str, object], ...] = (
    ("PUT", "/collections/..", {}),
    ("PUT", "/collections/a%00", {}),
    ("PUT", "/collections/" + "c" * 101, {}),
    ("PUT", "/collections/a", {"visibility": "secret"}),
    ("PUT", "/collections/a", {"visibility": None, "description": "x" * 2001}),
    ("PUT", "/collections/a", {"description": "\0"}),
    ("PUT", "/collections/a", {"owner": "me"}),
    ("PUT", "/collections/a", []),
    ("PUT", "/collections/board/grants", {}),
    ("PUT", "/collections/board/grants", {"grants": [{"access": "read"}]}),
    ("PUT", "/collections/board/grants", {"grants": [{"group": "a", "role": "viewer", "access": "read"}]}),
    ("PUT", "/collections/board/grants", {"grants": [{"group": "", "access": "read"}]}),
    ("PUT", "/collections/board/grants", {"grants": [{"group": "a", "access": "own"}]}),
    ("PUT", "/collections/board/grants", {"grants": [{"role": "king", "access": "read"}]}),
    ("PUT", "/collections/board/grants", {"grants": [{"user": "bob", "access": "read"}]}),
    ("PUT", "/collections/board/grants", {"grants": [{"group": "a", "access": "read"}] * 1001}),
    ("DELETE", "/collections/a%20b", None),
)


async def test_what_is_wrong_is_refused_and_changes_nothing(platform: Platform, document: str) -> None:
    assert document
    before = platform.counts()
    for method, path, body in WRONG:
        assert (await ask(platform, ANN, method, path, body)).code() == "invalid_request", (path, body)
    stranger = {"user": "00000000-0000-4000-8000-000000000000", "access": "read"}
    assert (await grant(platform, {"group": "a", "access": "read"}, stranger)).code() == "not_found"
    assert platform.counts() == before
