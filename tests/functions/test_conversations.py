"""Conversations over HTTP: list, read, rename, archive, delete, search, other answers, branches, export."""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest

from tests.functions.asgi import Reply as Response
from tests.functions.asgi import events, exchange
from tests.functions.platform import Platform, said
from tests.functions.upstream import Reply, Upstream, hang_up, stream, text
from tests.support import bearer

UNKNOWN = "00000000-0000-4000-8000-000000000000"
LIMITS = "# Limits\n\nThe rate limit is sixty requests a minute for each user."
QUESTION = "What is the rate limit?"
UNPROCESSABLE = (422, "invalid_request")


async def get(platform: Platform, path: str, headers: Mapping[str, str] | None = None) -> Any:
    reply = await platform.call("chat", "GET", path, headers=dict(headers or {}))
    assert reply.status == 200, reply
    return reply.json()


async def regenerate(
    platform: Platform, turn: str, headers: dict[str, str] | None = None, **fields: object
) -> Response:
    """Ask for another answer and read the whole stream, while events are carried."""
    asking = asyncio.create_task(platform.call("chat", "POST", f"/turns/{turn}/regenerate", fields, headers=headers))
    while not asking.done():
        await platform.deliver()
        await asyncio.wait({asking}, timeout=0.02)
    return await asking


async def answered(platform: Platform, message: str = QUESTION, **fields: Any) -> Any:
    """Ask and return how the turn ended."""
    reply = await platform.ask(message, **fields)
    assert reply.status == 200, reply
    return await platform.read(events(reply.body)[0].data["turn_id"])


async def test_another_answer_is_streamed_beside_the_first(platform: Platform) -> None:
    await platform.store("limits.md", LIMITS)
    first = await answered(platform)
    reply = await regenerate(platform, first["turn_id"])
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    told = events(reply.body)
    assert told[0].name == "turn.accepted"
    accepted = told[0].data
    assert accepted["turn_id"] == reply.headers["x-turn-id"] != first["turn_id"]
    assert (accepted["conversation_id"], accepted["replayed"]) == (first["conversation_id"], False)
    assert accepted["passages"][0]["document"] == "limits.md"
    assert told[-1].name == "turn.completed"
    assert "sixty requests" in said(told)
    assert said(await platform.follow(accepted["turn_id"])) == said(told)
    found = await get(platform, f"/conversations/{first['conversation_id']}")
    second = await platform.read(accepted["turn_id"])
    assert [(m["id"], m["parent_id"], m["turn_id"]) for m in found["messages"]] == [
        (first["question_id"], None, first["turn_id"]),
        (first["message_id"], first["question_id"], first["turn_id"]),
        (second["message_id"], first["question_id"], second["turn_id"]),
    ]
    assert found["leaf_id"] == second["message_id"]
    assert found["messages"][2]["citations"] == second["citations"] != []
    assert platform.held() == 0


async def test_another_answer_may_be_another_models_and_come_later(platform: Platform) -> None:
    first = await answered(platform)
    wanted = {"model": "heavy", "max_tokens": 9, "stream": False}
    reply = await platform.call("chat", "POST", f"/turns/{first['turn_id']}/regenerate", wanted)
    assert (reply.status, reply.headers["content-type"]) == (202, "application/json")
    assert (reply.json()["model"], reply.json()["max_tokens"]) == ("local/extractive-heavy", 9)
    assert reply.headers["location"] == f"/turns/{reply.json()['turn_id']}"
    [pending] = (await get(platform, f"/conversations/{first['conversation_id']}"))["unanswered"]
    assert (pending["turn_id"], pending["status"]) == (reply.json()["turn_id"], "queued")
    await platform.deliver()
    assert (await get(platform, f"/conversations/{first['conversation_id']}"))["unanswered"] == []


async def test_one_key_is_one_answer_more_charged_once(platform: Platform) -> None:
    first = await answered(platform)
    headers = {"Idempotency-Key": "once"}
    streams = [events((await regenerate(platform, first["turn_id"], headers)).body) for _ in range(2)]
    assert len({told[0].data["turn_id"] for told in streams}) == 1
    assert [told[0].data["replayed"] for told in streams] == [False, True]
    assert len({said(told) for told in streams}) == 1
    assert platform.counts()["chat.turns"] == 2
    conflict = await regenerate(platform, first["turn_id"], headers, model="heavy")
    assert (conflict.status, conflict.code()) == (409, "idempotency_conflict")


async def test_a_turn_that_failed_is_answered_and_one_that_runs_is_not(platform: Platform, upstream: Upstream) -> None:
    upstream.chat = hang_up
    failed = await answered(platform)
    assert failed["status"] == "failed"
    upstream.chat = stream(*text("Sixty."))
    told = events((await regenerate(platform, failed["turn_id"])).body)
    assert (said(told), told[-1].name) == ("Sixty.", "turn.completed")
    running = await platform.begin()
    reply = await platform.call("chat", "POST", f"/turns/{running}/regenerate", {})
    assert (reply.status, reply.code()) == (409, "conflict")


async def test_a_question_may_follow_any_answer_or_take_anothers_place(platform: Platform, upstream: Upstream) -> None:
    upstream.chat = stream(*text("Sixty."))
    first = await answered(platform)
    here = {"conversation_id": first["conversation_id"]}
    second = await answered(platform, "For guests?", **here)
    await answered(platform, "For staff?", **here, edits=second["turn_id"])
    assert sent(upstream) == [QUESTION, "Sixty.", "For staff?"]
    await answered(platform, "And how long?", **here, parent_id=second["message_id"])
    assert sent(upstream) == [QUESTION, "Sixty.", "For guests?", "Sixty.", "And how long?"]
    await answered(platform, "Start over?", **here, edits=first["turn_id"])
    assert sent(upstream) == ["Start over?"]
    for place in ({"parent_id": first["question_id"]}, {"parent_id": UNKNOWN}, {"edits": UNKNOWN}):
        reply = await platform.call("chat", "POST", "/chat", {"message": "?", **here, **place})
        assert (reply.status, reply.code()) == (404, "not_found"), place
    both = {"parent_id": second["message_id"], "edits": second["turn_id"]}
    reply = await platform.call("chat", "POST", "/chat", {"message": "?", **here, **both})
    assert (reply.status, reply.code()) == UNPROCESSABLE


def sent(upstream: Upstream) -> list[str]:
    """Return what the model was sent last, after the system message."""
    messages = [request["messages"] for request in upstream.requests if "messages" in request][-1]
    return [message["content"] for message in messages[1:]]


async def test_the_list_is_read_in_pages_to_its_end_while_new_ones_appear(platform: Platform) -> None:
    turns = [await platform.begin(f"Question {number}?") for number in range(5)]
    wanted = [(await platform.read(turn))["conversation_id"] for turn in turns]
    page = await get(platform, "/conversations?limit=2")
    assert [c["title"] for c in page["conversations"]] == ["Question 4?", "Question 3?"]
    seen = [c["id"] for c in page["conversations"]]
    while page["next_cursor"] is not None:
        await platform.begin("Meanwhile?")
        page = await get(platform, f"/conversations?limit=2&cursor={page['next_cursor']}")
        seen += [c["id"] for c in page["conversations"]]
    assert seen == wanted[::-1]
    assert len((await get(platform, "/conversations"))["conversations"]) == 7
    assert (await get(platform, "/conversations", platform.bearer("bob")))["conversations"] == []


async def test_a_conversation_is_renamed_put_away_and_brought_back(platform: Platform) -> None:
    conversation = (await platform.read(await platform.begin()))["conversation_id"]

    async def change(**fields: object) -> Any:
        reply = await platform.call("chat", "PATCH", f"/conversations/{conversation}", fields)
        assert reply.status == 200, reply
        return reply.json()

    assert (await change(title="Limits & co."))["title"] == "Limits & co."
    archived = await change(archived=True)
    assert (archived["title"], archived["archived_at"] is not None) == ("Limits & co.", True)
    assert (await get(platform, "/conversations"))["conversations"] == []
    assert (await get(platform, "/conversations?archived=true"))["conversations"] == [archived]
    assert (await change())["archived_at"] == archived["archived_at"]
    assert (await change(archived=False))["archived_at"] is None
    assert (await get(platform, "/conversations?archived=true"))["conversations"] == []


async def test_a_deleted_conversation_is_gone_and_its_reader_and_its_worker_are_told(
    platform: Platform, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.follow.CHECK_SECONDS", 0.05)
    begun, gate = asyncio.Event(), asyncio.Event()

    async def answer(reply: Reply, _: object) -> None:
        await reply.begin_stream()
        await reply.tokens("Half of ", "it")
        begun.set()
        await gate.wait()

    upstream.chat = answer
    running = await platform.begin()
    conversation = (await platform.read(running))["conversation_id"]
    delivering = asyncio.create_task(platform.deliver())
    await begun.wait()
    queued = await platform.begin("And?", conversation_id=conversation)
    chat, bearer = platform.serve("chat"), platform.bearer()
    async with (
        exchange(chat, "GET", f"/turns/{running}/stream", bearer) as one,
        exchange(chat, "GET", f"/turns/{queued}/stream", bearer) as other,
    ):
        assert [await one.head(), await other.head()] == [200, 200]
        reply = await platform.call("chat", "DELETE", f"/conversations/{conversation}")
        assert (reply.status, reply.body) == (204, b"")
        for reader in (one, other):
            last = events(b"".join([chunk async for chunk in reader.chunks()]))[-1]
            assert (last.name, last.data["code"]) == ("turn.failed", "not_found")
    assert (await delivering)[0].status == 200, "the worker hears that its lease is lost, and leaves"
    gate.set()
    assert platform.held() == 0
    counts = platform.counts()
    for table in ("conversations", "turns", "messages", "passages"):
        assert counts[f"chat.{table}"] == 0, table
    # What the embeddings of the two questions have cost belongs to no turn.
    assert (counts["inference.jobs"], counts["budget.reservations"], len(platform.embedded())) == (0, 2, 2)
    with platform.database.connect() as operator:
        assert operator.rows("budget.verify") == []
    entry = platform.audited(platform.tenants[0])[-1]
    assert (entry.action, entry.object, entry.data) == ("conversation.deleted", conversation, {"turns": 2})
    for method, path in (("GET", f"/conversations/{conversation}"), ("DELETE", f"/conversations/{conversation}")):
        reply = await platform.call("chat", method, path)
        assert (reply.status, reply.code()) == (404, "not_found")


async def test_words_find_a_conversation_and_are_marked(platform: Platform) -> None:
    await platform.store("limits.md", LIMITS)
    turn = await answered(platform)
    await platform.begin("Something else?")
    [found] = (await get(platform, "/conversations/search?q=sixty+requests"))["results"]
    assert (found["conversation"]["id"], found["message_id"]) == (turn["conversation_id"], turn["message_id"])
    assert [piece["text"] for piece in found["snippet"] if piece["match"]] == ["sixty", "requests"]
    assert (await get(platform, "/conversations/search?q=sixty", platform.bearer("bob")))["results"] == []
    other = platform.bearer(tenant=platform.tenants[1])
    assert (await get(platform, "/conversations/search?q=sixty", other))["results"] == []


async def test_a_conversation_is_taken_along_as_a_file(platform: Platform) -> None:
    await platform.store("limits.md", LIMITS)
    turn = await answered(platform)
    path = f"/conversations/{turn['conversation_id']}"
    reply = await platform.call("chat", "GET", f"{path}/export")
    assert reply.json() == await get(platform, path)
    assert reply.headers["content-disposition"] == (
        "attachment; filename=\"What-is-the-rate-limit.json\"; filename*=UTF-8''What-is-the-rate-limit.json"
    )
    reply = await platform.call("chat", "GET", f"{path}/export?format=markdown")
    assert reply.headers["content-type"] == "text/markdown; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    markdown = reply.body.decode()
    assert markdown.startswith(f"# {QUESTION}\n\n## Question\n\n{QUESTION}\n\n## Answer (local/")
    assert '\n[^2-1]: limits.md > Limits: "' in markdown
    leaf = turn["question_id"]
    reply = await platform.call("chat", "GET", f"{path}/export?format=markdown&leaf={leaf}")
    assert "## Answer" not in reply.body.decode()


@pytest.mark.parametrize(
    ("title", "plain", "full"),
    [
        ("../../etc/passwd", "etc-passwd", "etc-passwd"),
        ('a"; filename="b\r\nX-Evil: 1', "a-filename-b-X-Evil-1", "a-filename-b-X-Evil-1"),
        ("Größe 5", "Gre-5", "Größe-5"),
        ("日本語", "conversation", "日本語"),
        ("🚀 ...", "conversation", "conversation"),
        ("x" * 200, "x" * 80, "x" * 80),
    ],
)
async def test_the_name_of_the_file_is_safe_whatever_the_title(
    platform: Platform, title: str, plain: str, full: str
) -> None:
    conversation = (await platform.read(await platform.begin()))["conversation_id"]
    renamed = await platform.call("chat", "PATCH", f"/conversations/{conversation}", {"title": title})
    assert renamed.status == 200
    reply = await platform.call("chat", "GET", f"/conversations/{conversation}/export?format=markdown")
    assert reply.headers["content-disposition"] == (
        f"attachment; filename=\"{plain}.md\"; filename*=UTF-8''{quote(full)}.md"
    )
    assert "x-evil" not in reply.headers


async def test_a_reader_of_a_shared_conversation_reads_and_takes_it_along_and_changes_nothing(
    platform: Platform,
) -> None:
    turn = await answered(platform)
    path = f"/conversations/{turn['conversation_id']}"
    bob = bearer(platform.tenants[0], "bob", ["member"])
    changes: list[tuple[str, str, object]] = [
        ("PATCH", path, {"title": "Mine"}), ("PATCH", path, {"archived": True}), ("DELETE", path, None),
        ("POST", f"/turns/{turn['turn_id']}/regenerate", {}),
        ("POST", "/chat", {"message": "And?", "conversation_id": turn["conversation_id"], "edits": turn["turn_id"]}),
    ]  # fmt: skip
    reads = [path, f"{path}/export", f"{path}/export?format=markdown"]
    for method, url, document in [*changes, *(("GET", url, None) for url in reads)]:
        reply = await platform.call("chat", method, url, document, headers=bob)
        assert (reply.status, reply.code()) == (404, "not_found"), (method, url)
    shared = await platform.call("chat", "PUT", f"{path}/shares", {"whole_tenant": True})
    assert shared.status == 200
    mine = await get(platform, path)
    assert await get(platform, path, bob) == mine
    [listed] = (await get(platform, "/conversations?shared=true", bob))["conversations"]
    assert listed["id"] == turn["conversation_id"]
    for url in reads:
        reply, own = await platform.call("chat", "GET", url, headers=bob), await platform.call("chat", "GET", url)
        assert (reply.status, reply.body) == (200, own.body)
    for method, url, document in changes:
        reply = await platform.call("chat", method, url, document, headers=bob)
        assert (reply.status, reply.code()) == (404, "not_found"), (method, url)
    assert await get(platform, path) == mine


QUERIES: dict[str, str] = {
    "limit is no number": "?limit=a",
    "no limit": "?limit=",
    "none at all": "?limit=0",
    "negative": "?limit=-1",
    "too many": "?limit=101",
    "half": "?limit=1.5",
    "enormous": f"?limit={10**40}",
    "archived is neither": "?archived=perhaps",
    "archived is empty": "?archived=",
    "shared is neither": "?shared=%00",
    "cursor is empty": "?cursor=",
    "cursor is none of ours": "?cursor=x",
    "cursor with NUL": "?cursor=1-%00",
    "cursor with a lone surrogate": "?cursor=%ED%A0%80",
    "long cursor": f"?cursor={'1' * 101}",
    "cursor out of range": f"?cursor={'9' * 40}-{'0' * 32}",
    "cursor with SQL": "?cursor=1-0'; DROP TABLE chat.turns",
    "unknown parameter": "?offset=5",
    "nothing to search": "/search",
    "empty search": "/search?q=",
    "blank search": "/search?q=%20%09",
    "search with NUL": "/search?q=a%00b",
    "long search": f"/search?q={'a' * 501}",
    "search for too many": "/search?q=a&limit=51",
    "unknown format": "/{conversation}/export?format=pdf",
    "empty format": "/{conversation}/export?format=",
    "leaf is no id": "/{conversation}/export?format=markdown&leaf=last",
    "leaf of JSON": "/{conversation}/export?leaf=" + UNKNOWN,
}
CHANGES: dict[str, object] = {
    "title is empty": {"title": ""},
    "title is blank": {"title": " \n"},
    "title is too long": {"title": "x" * 201},
    "title with NUL": {"title": "a\0b"},
    "title with a lone surrogate": {"title": "\ud800"},
    "title is a number": {"title": 5},
    "archived is a text": {"archived": "perhaps"},
    "unknown field": {"user_id": UNKNOWN},
    "list": ["title"],
    "null": None,
}
REGENERATIONS: dict[str, object] = {
    "model is empty": {"model": ""},
    "model with NUL": {"model": "\0"},
    "no tokens": {"max_tokens": 0},
    "too many tokens": {"max_tokens": 32_769},
    "stream is a text": {"stream": "perhaps"},
    "another question": {"message": "What else?"},
}


async def test_a_parameter_that_is_wrong_is_refused_and_changes_nothing(platform: Platform) -> None:
    turn = await answered(platform)
    conversation = turn["conversation_id"]
    before, shown = platform.counts(), await get(platform, f"/conversations/{conversation}")
    for case, url in QUERIES.items():
        reply = await platform.call("chat", "GET", f"/conversations{url.replace('{conversation}', conversation)}")
        assert (reply.status, reply.code()) == UNPROCESSABLE, case
    for case, document in CHANGES.items():
        body = b"null" if document is None else None
        reply = await platform.call("chat", "PATCH", f"/conversations/{conversation}", document, body=body)
        wrong = (400, "malformed_json") if "surrogate" in case else UNPROCESSABLE
        assert (reply.status, reply.code()) == wrong, case
    for case, document in REGENERATIONS.items():
        reply = await platform.call("chat", "POST", f"/turns/{turn['turn_id']}/regenerate", document)
        assert (reply.status, reply.code()) == UNPROCESSABLE, case
    for key in ("", "k" * 256, "a\0b"):
        headers = {"Idempotency-Key": key}
        reply = await platform.call("chat", "POST", f"/turns/{turn['turn_id']}/regenerate", {}, headers=headers)
        assert (reply.status, reply.code()) == UNPROCESSABLE, key
    for method, path in (
        ("GET", f"/conversations/{UNKNOWN}"), ("PATCH", f"/conversations/{UNKNOWN}"), ("DELETE", f"/conversations/{UNKNOWN}"),
        ("GET", f"/conversations/{UNKNOWN}/export"), ("POST", f"/turns/{UNKNOWN}/regenerate"),
        ("GET", f"/conversations/{conversation}/export?format=markdown&leaf={UNKNOWN}"),
    ):  # fmt: skip
        reply = await platform.call("chat", method, path, {})
        assert (reply.status, reply.code()) == (404, "not_found"), path
    for path in ("/conversations/5", "/conversations/a%00b", "/conversations/%ff/export"):
        reply = await platform.call("chat", "GET", path)
        assert (reply.status, reply.code()) == (404, "route_not_found"), path
    assert platform.counts() == before
    assert await get(platform, f"/conversations/{conversation}") == shown
