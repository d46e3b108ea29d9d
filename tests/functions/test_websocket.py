"""Turns over a WebSocket: many on one socket, resumed by id, under the same rules as over HTTP."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from redis.asyncio import Redis

from functions.chat import sockets
from shared.auth import issue_dev_token
from shared.serving import MAX_FRAME_BYTES
from shared.settings import DEV_JWT_SECRET, get_settings
from shared.streams import TurnWriter
from tests import support
from tests.functions.asgi import call
from tests.functions.conftest import serve
from tests.functions.leaks import Watch
from tests.functions.platform import PLATFORM_CHAIN, Platform, said, until
from tests.functions.talk import UPGRADE, Server, Talk, carried, event_of, serving
from tests.functions.upstream import Reply as Answering
from tests.functions.upstream import Upstream, text
from tests.support import ISSUED

LISTED = "https://agents.example.com"
QUESTION = "What is the limit?"


@pytest.fixture
async def server(platform: Platform) -> AsyncIterator[Server]:
    async with serving(platform.serve("chat")) as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


@pytest.fixture
async def redis(platform: Platform) -> AsyncIterator[Redis]:
    client = Redis.from_url(platform.redis_url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
def open_talk(server: Server, session: aiohttp.ClientSession, platform: Platform) -> "Opening":
    return Opening(server, session, platform)


class Opening:
    """Opens sockets to the chat function, as the first tenant's user by default."""

    def __init__(self, server: Server, session: aiohttp.ClientSession, platform: Platform) -> None:
        self.url = f"{server.url}/ws"
        self._session = session
        self._platform = platform

    def __call__(self, headers: dict[str, str] | None = None, query: str = "") -> Talk:
        return Talk(self._session, self.url + query, self._platform.bearer() if headers is None else headers)

    async def handshake(self, **headers: str) -> tuple[int, Any]:
        """Return the status and the document with which a handshake is refused."""
        async with self._session.get(self.url, headers={**UPGRADE, **headers}) as response:
            assert response.status != 101
            assert response.headers["content-type"] == "application/problem+json"
            return response.status, await response.json(content_type=None)


class Pausing:
    """A model that answers each question with its own tokens, one after the other as the test lets it."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = tokens
        self._allowed = asyncio.Semaphore(0)
        self.waiting = 0
        """How many answers wait for the test."""

    def go_on(self, tokens: int = 1) -> None:
        for _ in range(tokens):
            self._allowed.release()

    async def __call__(self, reply: Answering, _: object) -> None:
        await reply.begin_stream()
        for token in self.tokens:
            self.waiting += 1
            await self._allowed.acquire()
            self.waiting -= 1
            await reply.tokens(token)
            # Longer than tokens wait for each other: each is an event of its own.
            await asyncio.sleep(0.025)
        for part in text()[-3:]:
            await reply.send(part)
        await reply.end_stream()


def token_for(platform: Platform, ttl_seconds: int, subject: str = "ann") -> str:
    token = issue_dev_token(
        secret=DEV_JWT_SECRET, tenant_id=platform.tenants[0], subject=subject, ttl_seconds=ttl_seconds
    )
    ISSUED.add(token)
    return token


def token_of(headers: dict[str, str]) -> str:
    return headers["Authorization"].removeprefix("Bearer ")


async def test_a_turn_is_told_to_its_end_with_the_events_and_ids_of_the_stream(
    platform: Platform, open_talk: Opening
) -> None:
    await platform.store("limits.md", "# Limits\n\nThe limit is 42 requests a minute.")
    async with open_talk() as talk, carried(platform):
        assert (await talk.opened())["expires_at"] > "2026"
        await talk.say("ask", ref="a", message=QUESTION)
        told = await talk.turn("a")
    assert told[0].name == "turn.accepted"
    turn = told[0].data["turn_id"]
    stored = await platform.read(turn)
    assert stored["status"] == "completed"
    assert said(told) == stored["answer"] != ""
    assert told[1:] == await platform.follow(turn)


async def test_turns_are_interleaved_on_one_socket(platform: Platform, upstream: Upstream, open_talk: Opening) -> None:
    model = upstream.chat = Pausing("One ", "two ", "three.")
    async with open_talk() as talk, carried(platform):
        await talk.opened()
        for ref in ("a", "b", "c"):
            await talk.say("ask", ref=ref, message=f"Question {ref}?")
        frames: list[dict[str, Any]] = []
        for _ in range(3):
            await until(lambda: model.waiting == 3)
            model.go_on(3)
            frames += await talk.words(3)
        ended = 0
        while ended < 3:
            frames.append(await talk.hear())
            ended += frames[-1].get("event") == "turn.completed"
    by_ref = {ref: [event_of(frame) for frame in frames if frame["ref"] == ref] for ref in ("a", "b", "c")}
    assert [frame["ref"] for frame in frames] != sorted(frame["ref"] for frame in frames), "one after the other"
    turns = {ref: events[0].data["turn_id"] for ref, events in by_ref.items()}
    assert len(set(turns.values())) == 3
    for ref, events in by_ref.items():
        assert {frame["turn_id"] for frame in frames if frame["ref"] == ref} == {turns[ref]}
        assert said(events) == (await platform.read(turns[ref]))["answer"] == "One two three."


async def test_a_socket_that_is_cut_is_resumed_by_id_and_nothing_is_told_twice(
    platform: Platform, upstream: Upstream, open_talk: Opening
) -> None:
    model = upstream.chat = Pausing(*(f"{number} " for number in range(12)))
    told = []
    async with carried(platform):
        talk = open_talk()
        async with talk:
            await talk.opened()
            await talk.say("ask", message=QUESTION)
            told += [event_of(frame) for frame in await talk.hear_all(lambda f: f["event"] == "turn.started")]
            turn = told[0].data["turn_id"]
            talk.cut()
        for _ in range(5):
            async with open_talk() as talk:
                await talk.opened()
                await talk.say("resume", turn_id=turn, after=told[-1].id)
                model.go_on(2)
                told += [event_of(frame) for frame in await talk.words(2)]
                talk.cut()
        async with open_talk() as talk:
            await talk.opened()
            await talk.say("resume", ref="last", turn_id=turn, after=told[-1].id)
            model.go_on(2)
            told += await talk.turn("last")
    assert said(told) == (await platform.read(turn))["answer"] == "0 1 2 3 4 5 6 7 8 9 10 11 "
    assert [event.name for event in told].count("turn.restarted") == 0
    assert told[1:] == await platform.follow(turn)
    assert platform.counts()["chat.turns"] == 1


async def test_a_turn_goes_on_when_its_socket_is_cut(
    platform: Platform, upstream: Upstream, open_talk: Opening
) -> None:
    model = upstream.chat = Pausing("One ", "two.")
    async with carried(platform):
        async with open_talk() as talk:
            await talk.opened()
            await talk.say("ask", message=QUESTION)
            turn = (await talk.hear())["turn_id"]
            talk.cut()
        model.go_on(2)
        told = await platform.follow(turn)
    assert (said(told), told[-1].name) == ("One two.", "turn.completed")


async def test_stopping_a_turn_ends_it_and_tells_how_it_stands(
    platform: Platform, upstream: Upstream, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_LEASE_SECONDS", "1")
    get_settings.cache_clear()
    model = upstream.chat = Pausing("Half of ", "it")
    async with open_talk() as talk, carried(platform):
        await talk.opened()
        await talk.say("ask", ref="a", message=QUESTION)
        model.go_on()
        turn = (await talk.hear_all(lambda frame: frame["event"] == "turn.delta"))[0]["turn_id"]
        await talk.say("stop", ref="s", turn_id=turn)
        heard = await talk.hear_all(lambda frame: frame.get("event") == "turn.stopped")
    [stopped] = [frame for frame in heard if frame["type"] == "stopped"]
    assert (stopped["ref"], stopped["turn_id"], stopped["turn"]["turn_id"]) == ("s", turn, turn)
    assert heard[-1]["ref"] == "a"
    assert (await platform.read(turn))["answer"] == "Half of "


async def test_a_turn_that_is_left_goes_on_unheard(platform: Platform, upstream: Upstream, open_talk: Opening) -> None:
    model = upstream.chat = Pausing("One ", "two.")
    async with open_talk() as talk, carried(platform):
        await talk.opened()
        await talk.say("ask", ref="a", message=QUESTION)
        model.go_on()
        turn = (await talk.hear_all(lambda frame: frame["event"] == "turn.delta"))[0]["turn_id"]
        await talk.say("leave", ref="l", turn_id=turn)
        assert await talk.hear() == {"type": "left", "ref": "l", "turn_id": turn}
        model.go_on()
        assert said(await platform.follow(turn)) == "One two."
        await talk.say("ping", ref="p")
        assert await talk.hear() == {"type": "pong", "ref": "p"}, "events of a turn that was left"


async def test_resuming_a_turn_that_is_followed_takes_the_place_of_the_first(
    platform: Platform, upstream: Upstream, open_talk: Opening
) -> None:
    model = upstream.chat = Pausing("One ", "two.")
    async with open_talk() as talk, carried(platform):
        await talk.opened()
        await talk.say("ask", ref="first", message=QUESTION)
        model.go_on()
        heard = await talk.hear_all(lambda frame: frame["event"] == "turn.delta")
        await talk.say("resume", ref="second", turn_id=heard[0]["turn_id"], after=heard[-2]["id"])
        assert event_of(repeated := await talk.hear()) == event_of(heard[-1])
        assert repeated["ref"] == "second"
        model.go_on()
        assert said(await talk.turn("second")) == "two."


async def test_the_same_question_with_the_same_key_is_one_turn(platform: Platform, open_talk: Opening) -> None:
    async with open_talk() as talk, carried(platform):
        await talk.opened()
        accepted = []
        for ref in ("a", "b"):
            await talk.say("ask", ref=ref, message=QUESTION, idempotency_key="k-1")
            accepted.append((await talk.turn(ref))[0].data)
        headers = {"Idempotency-Key": "k-1"}
        over_http = await platform.call(
            "chat", "POST", "/chat", {"message": QUESTION, "stream": False}, headers=headers
        )
    assert [data["replayed"] for data in accepted] == [False, True]
    assert {data["turn_id"] for data in accepted} == {over_http.json()["turn_id"]}
    assert platform.counts()["chat.turns"] == 1


async def test_a_turn_that_need_not_be_streamed_is_only_accepted(platform: Platform, open_talk: Opening) -> None:
    async with open_talk() as talk:
        await talk.opened()
        await talk.say("ask", message=QUESTION, stream=False)
        accepted = event_of(await talk.hear())
        async with carried(platform):
            await platform.follow(accepted.data["turn_id"])
        await talk.say("ping")
        assert await talk.hear() == {"type": "pong"}


async def test_a_browser_authenticates_by_its_first_frame(platform: Platform, open_talk: Opening) -> None:
    async with open_talk({}) as talk, carried(platform):
        await talk.say("ask", ref="early", message=QUESTION)
        assert (await talk.refusal("early"))["code"] == "unauthenticated"
        await talk.say("authenticate", ref="me", token=token_of(platform.bearer()))
        assert (await talk.hear())["type"] == "authenticated"
        await talk.say("ask", message=QUESTION)
        assert (await talk.turn())[-1].name == "turn.completed"
    assert platform.counts()["chat.turns"] == 1


async def test_a_socket_that_says_nothing_is_closed(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert platform
    monkeypatch.setattr(sockets, "AUTHENTICATE_SECONDS", 0.05)
    async with open_talk({}) as talk:
        assert await talk.closed() == 1008


async def test_a_first_frame_with_a_bad_token_closes_the_socket_and_is_audited(
    platform: Platform, open_talk: Opening
) -> None:
    good = token_of(platform.bearer())
    before = len(platform.audited(PLATFORM_CHAIN))
    wrong = (token_for(platform, -60), good[:-4] + "AAAA", "not.a.token", "eak_x")
    for number, token in enumerate(wrong, start=before + 1):
        async with open_talk({}) as talk:
            await talk.say("authenticate", ref="me", token=token)
            assert (await talk.refusal("me"))["code"] == "unauthenticated"
            assert await talk.closed() == 1008
        audited = platform.audited(PLATFORM_CHAIN)
        assert len(audited) == number
        assert (audited[-1].action, audited[-1].object) == ("login.refused", "chat.read")


async def test_a_header_with_a_bad_token_is_refused_at_the_handshake_and_audited(
    platform: Platform, open_talk: Opening
) -> None:
    before = len(platform.audited(PLATFORM_CHAIN))
    wrong = (f"Bearer {token_for(platform, -60)}", "Bearer rubbish", "Basic YTpi")
    for number, value in enumerate(wrong, start=before + 1):
        status, problem = await open_talk.handshake(Authorization=value)
        assert (status, problem["code"]) == (401, "unauthenticated")
        audited = platform.audited(PLATFORM_CHAIN)
        assert len(audited) == number
        assert audited[-1].action == "login.refused"


async def test_an_api_key_opens_a_socket_and_its_end_is_the_sockets(platform: Platform, open_talk: Opening) -> None:
    made = await platform.call("identity", "POST", "/keys", {"name": "a script", "scopes": ["chat"]})
    key = made.json()["key"]
    ISSUED.add(key)
    async with open_talk({"Authorization": f"Bearer {key}"}) as talk, carried(platform):
        assert (await talk.opened())["expires_at"] is None
        await talk.say("ask", message=QUESTION)
        assert (await talk.turn())[-1].name == "turn.completed"
        assert (await platform.call("identity", "DELETE", f"/keys/{made.json()['id']}")).status == 200
        await talk.say("ask", ref="late", message=QUESTION)
        assert (await talk.refusal("late"))["code"] == "unauthenticated"


async def test_when_the_token_expires_turns_are_left_until_it_is_renewed(
    platform: Platform, upstream: Upstream, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = upstream.chat = Pausing("One ", "two.")
    async with open_talk() as talk, carried(platform):
        await talk.opened()
        await talk.say("ask", ref="a", message=QUESTION)
        model.go_on()
        heard = await talk.hear_all(lambda frame: frame["event"] == "turn.delta")
        turn = heard[0]["turn_id"]
        # This one is still taken, by the leeway of those who verify it, and is over by the clock.
        monkeypatch.setattr(sockets, "LEEWAY_SECONDS", 0)
        await talk.say("authenticate", token=token_for(platform, -5))
        await talk.opened()
        ended = await talk.hear()
        assert (ended["type"], ended["ref"], ended["turn_id"]) == ("problem", "a", turn)
        assert ended["problem"]["code"] == "unauthenticated"
        monkeypatch.setattr("shared.auth.LEEWAY_SECONDS", 0)
        for kind, members in (
            ("ask", {"message": QUESTION}),
            ("resume", {"turn_id": turn}),
            ("stop", {"turn_id": turn}),
        ):
            await talk.say(kind, ref=kind, **members)
            assert (await talk.refusal(kind))["code"] == "unauthenticated"
        await talk.say("authenticate", token=token_for(platform, 60))
        await talk.opened()
        await talk.say("resume", turn_id=turn, after=heard[-1]["id"])
        model.go_on()
        assert said(await talk.turn()) == "two."
    assert (await platform.read(turn))["answer"] == "One two."


async def test_a_socket_whose_token_is_not_renewed_is_closed(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "LEEWAY_SECONDS", 0)
    monkeypatch.setattr(sockets, "AUTHENTICATE_SECONDS", 0.05)
    async with open_talk({"Authorization": f"Bearer {token_for(platform, -5)}"}) as talk:
        await talk.opened()
        assert await talk.closed() == 1008


async def test_a_bad_renewal_changes_nothing(platform: Platform, open_talk: Opening) -> None:
    async with open_talk() as talk:
        await talk.opened()
        await talk.say("authenticate", token="not.a.token")
        assert (await talk.refusal())["code"] == "unauthenticated"
        await talk.say("authenticate", token=token_of(platform.bearer("bob")))
        assert (await talk.refusal())["code"] == "forbidden"
        await talk.say("authenticate", token=token_of(platform.bearer("ann", platform.tenants[1])))
        assert (await talk.refusal())["code"] == "forbidden"
        await talk.say("ask", message=QUESTION, stream=False)
        turn = event_of(await talk.hear()).data["turn_id"]
    assert (await platform.read(turn))["status"] == "queued", "the turn is ann's"


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", f"{LISTED}.evil.com", "http://agents.example.com"]
)
async def test_a_page_of_another_origin_is_refused_at_the_handshake(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch, watch: Watch, origin: str
) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", json.dumps([LISTED]))
    get_settings.cache_clear()
    status, problem = await open_talk.handshake(Origin=origin, **platform.bearer())
    assert (status, problem["code"]) == (403, "forbidden")
    await until(lambda: any('"WEBSOCKET"' in line for line in watch.lines))
    assert not any('"level": "error"' in line for line in watch.lines), "a refusal is no failure of the server's"


async def test_a_page_of_a_listed_origin_or_of_the_same_host_may_open_a_socket(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORS_ALLOWED_ORIGINS", json.dumps([LISTED]))
    get_settings.cache_clear()
    for origin in (LISTED, open_talk.url.removesuffix("/ws")):
        async with open_talk({"Origin": origin}) as talk:
            await talk.say("authenticate", token=token_of(platform.bearer()))
            await talk.opened()


RUBBISH = {
    "no JSON": ("{", "malformed_json"),
    "empty": ("", "malformed_json"),
    "deep": ("[" * 100_000, "malformed_json"),
    "a lone surrogate": ('{"type": "ping", "ref": "\\ud800"}', "malformed_json"),
    "a list": ("[]", "invalid_request"),
    "null": ("null", "invalid_request"),
    "no type": ("{}", "invalid_request"),
    "an unknown type": ('{"type": "shout"}', "invalid_request"),
    "a type that is none": ('{"type": ["ask"]}', "invalid_request"),
    "no message": ('{"type": "ask"}', "invalid_request"),
    "a blank message": ('{"type": "ask", "message": " "}', "invalid_request"),
    "an unknown field": ('{"type": "ask", "message": "a", "tenant_id": "b"}', "invalid_request"),
    "an odd key": ('{"type": "ask", "message": "a", "idempotency_key": "\\u0007"}', "invalid_request"),
    "a number as reference": ('{"type": "ping", "ref": 7}', "invalid_request"),
    "NUL in a reference": ('{"type": "ping", "ref": "\\u0000"}', "invalid_request"),
    "no turn": ('{"type": "resume"}', "invalid_request"),
    "a turn that is none": ('{"type": "stop", "turn_id": "7"}', "invalid_request"),
    "an odd position": (f'{{"type": "resume", "turn_id": "{uuid4()}", "after": "$"}}', "invalid_request"),
    "digits of another script": (f'{{"type": "resume", "turn_id": "{uuid4()}", "after": "\u0661-\u0662"}}', "invalid_request"),
    "an empty token": ('{"type": "authenticate", "token": ""}', "invalid_request"),
    "a token with spaces": ('{"type": "authenticate", "token": "a b"}', "invalid_request"),
    "a turn that nobody has": (f'{{"type": "stop", "turn_id": "{uuid4()}"}}', "not_found"),
}  # fmt: skip


async def test_rubbish_is_answered_with_a_problem_and_the_socket_goes_on(
    platform: Platform, open_talk: Opening
) -> None:
    before = platform.counts()
    async with open_talk() as talk:
        await talk.opened()
        for what, (frame, code) in RUBBISH.items():
            await talk.socket.send_str(frame)
            heard = await talk.hear()
            assert (heard["type"], heard["problem"]["code"]) == ("problem", code), what
        await talk.socket.send_bytes(b'{"type": "ping"}')
        assert (await talk.refusal())["code"] == "unsupported_media_type"
        await talk.say("shout", ref="r")
        assert (await talk.refusal("r"))["code"] == "invalid_request"
        await talk.say("ping")
        assert await talk.hear() == {"type": "pong"}
    assert platform.counts() == before


async def test_a_frame_over_the_limit_closes_the_socket(platform: Platform, open_talk: Opening) -> None:
    async with open_talk() as talk:
        await talk.opened()
        await talk.socket.send_str("a" * MAX_FRAME_BYTES)
        assert (await talk.refusal())["code"] == "malformed_json"
        await talk.socket.send_str("a" * (MAX_FRAME_BYTES + 1))
        assert await talk.closed() == 1009
    assert platform.counts()["chat.turns"] == 0


async def test_a_flood_of_frames_closes_the_socket(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert platform
    monkeypatch.setattr(sockets, "MAX_UNCOUNTED_A_MINUTE", 3)
    async with open_talk() as talk:
        await talk.opened()
        # Wherever in them a minute ends, there are enough for another one.
        for _ in range(4):
            await talk.say("ping")
            await talk.socket.send_str("{")
        heard = await talk.hear_all(lambda frame: frame.get("problem", {}).get("code") == "rate_limited")
        assert [frame["type"] for frame in heard[:3]] == ["pong", "problem", "pong"]
        assert await talk.closed() == 1008


async def test_every_frame_that_asks_for_something_counts_as_a_request(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = await platform.begin()
    monkeypatch.setenv("RATE_LIMIT_PER_MINUTE", "5")
    get_settings.cache_clear()
    async with open_talk() as talk:  # with the turn that was begun: two
        await talk.opened()
        await talk.say("stop", turn_id=turn)  # three
        assert (await talk.hear())["type"] == "stopped"
        await talk.say("resume", turn_id=turn)  # four
        assert (await talk.turn())[-1].name == "turn.stopped"
        await talk.say("authenticate", token=token_of(platform.bearer()))  # five
        await talk.opened()
        before = platform.counts()
        for kind, members in (
            ("ask", {"message": QUESTION}),
            ("resume", {"turn_id": turn}),
            ("stop", {"turn_id": turn}),
        ):
            await talk.say(kind, ref=kind, **members)
            frame = await talk.hear()
            assert (frame["ref"], frame["problem"]["code"]) == (kind, "rate_limited")
            assert 1 <= frame["retry_after"] <= 60
        await talk.say("ping")
        assert (await talk.hear())["type"] == "pong"
    assert platform.counts() == before
    status, problem = await open_talk.handshake(**platform.bearer())
    assert (status, problem["code"]) == (429, "rate_limited")


FRAMES = {"ask": "chat.ask", "resume": "chat.read", "stop": "chat.stop"}


@pytest.mark.parametrize("role", ["platform_admin", "tenant_admin", "member", "viewer", "auditor", "service"])
async def test_a_socket_may_do_what_its_role_may(platform: Platform, open_talk: Opening, role: str) -> None:
    """core.operations() says what that is, and each refusal is audited."""
    turn = await platform.begin()
    assert (await platform.call("chat", "POST", f"/turns/{turn}/stop")).status == 200
    with platform.database.connect() as operator:
        table = {name: set(roles) for name, roles in operator.query("SELECT name, roles FROM core.operations()")}
    async with open_talk(support.bearer(platform.tenants[0], roles=[role])) as talk:
        await talk.opened()
        for kind, operation in FRAMES.items():
            await talk.say(
                kind, ref=kind, **({"message": QUESTION, "stream": False} if kind == "ask" else {"turn_id": turn})
            )
            heard = await talk.hear()
            if role in table[operation]:
                assert heard["type"] in {"event", "stopped"}, (kind, heard)
            else:
                assert (heard["problem"]["code"], heard["problem"]["operation"]) == ("forbidden", operation)
                refused = platform.audited(platform.tenants[0])[-1]
                assert (refused.action, refused.object) == ("access.refused", operation)
            await talk.say("leave", turn_id=turn)
            await talk.hear_all(lambda frame: frame["type"] == "left")


async def test_nobody_else_can_follow_or_stop_a_turn(platform: Platform, open_talk: Opening) -> None:
    turn = await platform.begin()
    for headers in (platform.bearer("ann", platform.tenants[1]), platform.bearer("bob")):
        async with open_talk(headers) as talk:
            await talk.opened()
            for kind in ("resume", "stop"):
                await talk.say(kind, ref=kind, turn_id=turn)
                assert (await talk.refusal(kind))["code"] == "not_found"
    assert (await platform.read(turn))["status"] == "queued"


async def test_a_user_who_is_disabled_is_refused_at_the_next_frame(platform: Platform, open_talk: Opening) -> None:
    async with open_talk() as talk:
        await talk.opened()
        await talk.say("ask", message=QUESTION, stream=False)
        assert (await talk.hear())["type"] == "event"
        with platform.database.connect() as operator:
            operator.run("UPDATE core.users SET disabled_at = now()")
        await talk.say("ask", message=QUESTION)
        assert (await talk.refusal())["code"] == "user_disabled"


async def test_a_budget_that_is_used_up_refuses_a_question(platform: Platform, open_talk: Opening) -> None:
    with platform.database.connect() as operator:
        operator.run(
            "INSERT INTO budget.limits (tenant_id, scope, holder_id, period, tokens) VALUES (%s, 'tenant', %s, 'day', 100)",
            [platform.tenants[0], platform.tenants[0]],
        )
    async with open_talk() as talk:
        await talk.opened()
        await talk.say("ask", ref="a", message=QUESTION)
        frame = await talk.hear()
    assert (frame["type"], frame["ref"]) == ("problem", "a")
    assert (frame["problem"]["code"], frame["problem"]["scope"]) == ("budget_exceeded", "tenant")
    assert frame["retry_after"] > 0


async def test_a_socket_follows_so_many_turns_at_once(
    platform: Platform, upstream: Upstream, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MAX_TURNS", 2)
    model = upstream.chat = Pausing("Fine.")
    other = await platform.begin()
    async with open_talk() as talk:
        await talk.opened()
        turns = []
        for _ in range(2):
            await talk.say("ask", message=QUESTION)
            turns.append((await talk.hear())["turn_id"])
        await talk.say("ask", ref="c", message=QUESTION)
        assert (await talk.refusal("c"))["code"] == "too_many_turns"
        await talk.say("resume", ref="d", turn_id=other)
        assert (await talk.refusal("d"))["code"] == "too_many_turns"
        await talk.say("resume", turn_id=turns[0])
        await talk.say("leave", turn_id=turns[1])
        assert (await talk.hear())["type"] == "left"
        await talk.say("resume", ref="e", turn_id=other)
        await talk.say("leave", turn_id=turns[0])
        assert (await talk.hear())["type"] == "left"
        async with carried(platform):
            model.go_on(3)
            assert said(await talk.turn("e")) == "Fine."
    assert platform.counts()["chat.turns"] == 3


async def test_a_defect_ends_one_frame_and_not_the_socket(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = await platform.begin()
    async with open_talk() as talk:
        await talk.opened()
        with monkeypatch.context() as broken:
            broken.setattr("functions.chat.turns.read", None)
            await talk.say("resume", ref="r", turn_id=turn)
            assert (await talk.refusal("r"))["code"] == "internal_error"
        with monkeypatch.context() as broken:
            broken.setattr("functions.chat.turns.followed", None)
            await talk.say("resume", ref="s", turn_id=turn)
            assert (await talk.refusal("s"))["code"] == "internal_error"
        await talk.say("stop", turn_id=turn)
        assert (await talk.hear())["type"] == "stopped"


async def test_a_service_that_ends_tells_its_clients_to_come_again(
    platform: Platform, upstream: Upstream, session: aiohttp.ClientSession
) -> None:
    model = upstream.chat = Pausing("One ", "two.")
    async with carried(platform):
        # In this process the inference would lose its connections with the function's lifespan.
        async with (
            serving(platform.serve("chat"), lifespan="off") as first,
            Opening(first, session, platform)() as talk,
        ):
            await talk.opened()
            await talk.say("ask", message=QUESTION)
            model.go_on()
            heard = await talk.hear_all(lambda frame: frame["event"] == "turn.delta")
            first.should_exit = True
            assert await talk.closed() == 1012
        async with serving(platform.serve("chat")) as second, Opening(second, session, platform)() as talk:
            await talk.opened()
            await talk.say("resume", turn_id=heard[0]["turn_id"], after=heard[-1]["id"])
            model.go_on()
            assert said(await talk.turn()) == "two."


async def stuck(server: Server, token: str, *frames: dict[str, Any]) -> socket.socket:
    """Open a socket, say something, and never read a byte; return the connection."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", server.config.port))
    head = {**UPGRADE, "Host": f"127.0.0.1:{server.config.port}", "Authorization": f"Bearer {token}"}
    lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    await loop.sock_sendall(connection, "\r\n".join(lines).encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await loop.sock_recv(connection, 1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    for frame in frames:
        body = json.dumps(frame).encode()
        # A final text frame, masked with zeros (RFC 6455, section 5.2).
        await loop.sock_sendall(connection, bytes([0x81, 0x80 | len(body)]) + bytes(4) + body)
    return connection


async def long_answer(platform: Platform, redis: Redis, pieces: int, chars: int) -> str:
    """Return a turn whose stream holds far more than the buffers of a connection."""
    turn = await platform.begin()
    writer = TurnWriter(redis, turn, 1, 600)
    await writer.write("turn.started", {"attempt": 1})
    for _ in range(pieces):
        await writer.write("turn.delta", {"text": "x" * chars})
    await writer.write("turn.completed", {"turn_id": turn})
    return turn


async def test_a_client_that_does_not_read_holds_up_nobody_and_little_memory(
    platform: Platform, server: Server, open_talk: Opening, redis: Redis
) -> None:
    turn = await long_answer(platform, redis, pieces=100, chars=100_000)
    frame = {"type": "resume", "turn_id": turn}
    connection = await stuck(server, token_of(platform.bearer()), frame)
    try:
        await until(lambda: [c for c in server.server_state.connections if not c.writable.is_set()])  # type: ignore[union-attr]
        async with open_talk() as talk:
            await talk.opened()
            await talk.say(kind="resume", turn_id=turn)
            assert len(said(await talk.turn())) == 10_000_000
        [waiting] = [c for c in server.server_state.connections if not c.writable.is_set()]  # type: ignore[union-attr]
        assert waiting.transport.get_write_buffer_size() < 400_000
    finally:
        connection.close()
    await until(lambda: not server.server_state.connections and not server.server_state.tasks)


async def test_a_client_that_answers_no_pings_is_given_up(platform: Platform, redis: Redis) -> None:
    turn = await long_answer(platform, redis, pieces=30, chars=100_000)
    async with serving(platform.serve("chat"), ws_ping_interval=0.05, ws_ping_timeout=0.05) as server:
        connection = await stuck(server, token_of(platform.bearer()), {"type": "resume", "turn_id": turn})
        await until(lambda: server.server_state.connections)
        await until(lambda: not server.server_state.connections and not server.server_state.tasks)
        connection.close()


async def test_a_silent_socket_hears_heartbeats(
    platform: Platform, open_talk: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert platform
    monkeypatch.setenv("STREAM_HEARTBEAT_SECONDS", "0.05")
    get_settings.cache_clear()
    async with open_talk() as talk:
        await talk.opened()
        for _ in range(3):
            assert (await talk.socket.receive_json(timeout=30)) == {"type": "heartbeat"}


@pytest.mark.parametrize("function", ["identity", "infer", "health"])
async def test_a_function_without_websockets_refuses_them(
    platform: Platform, session: aiohttp.ClientSession, function: str
) -> None:
    async with serving(serve(function)) as server:
        status, problem = await Opening(server, session, platform).handshake(**platform.bearer())
        assert (status, problem["code"]) == (404, "route_not_found")


async def test_another_address_and_a_request_that_is_no_handshake_are_refused(
    platform: Platform, server: Server, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{server.url}/ws/other", headers=UPGRADE | platform.bearer()) as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (404, "route_not_found")
    assert (await call(platform.serve("chat"), "GET", "/ws", platform.bearer())).code() == "route_not_found"


async def test_sockets_and_frames_are_counted_and_logged_without_a_secret(
    platform: Platform, open_talk: Opening, watch: Watch
) -> None:
    async def value(sample: str) -> float:
        lines = (await call(platform.serve("chat"), "GET", "/metrics")).body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample))

    samples = (
        'enterprise_agent_requests_total{method="WEBSOCKET",status="101"}',
        'enterprise_agent_frames_total{code="ok",type="ask"}',
        'enterprise_agent_frames_total{code="malformed_json",type="other"}',
        'enterprise_agent_problems_total{code="malformed_json"}',
    )
    before = [await value(sample) for sample in samples]
    token = token_of(platform.bearer())
    # A client that puts its token where it must not: the server's log does not tell it either.
    async with open_talk(platform.bearer() | {"X-Request-Id": "r-7"}, query=f"?token={token}") as talk:
        await talk.opened()
        assert await value("enterprise_agent_sockets ") == 1
        await talk.say("ask", message=QUESTION, stream=False)
        turn = (await talk.hear())["turn_id"]
        await talk.socket.send_str("{")
        await talk.refusal()
    await until(lambda: any('"WEBSOCKET"' in line for line in watch.lines))
    assert [await value(sample) for sample in samples] == [number + 1 for number in before]
    assert await value("enterprise_agent_sockets ") == 0
    entries = [json.loads(line) for line in watch.lines]
    by_event = {entry["event"]: entry for entry in entries}
    assert by_event["frame"]["turn_id"] == turn
    assert by_event["frame_refused"]["code"] == "malformed_json"
    [request] = [entry for entry in entries if entry.get("method") == "WEBSOCKET"]
    assert (request["path"], request["status"], request["request_id"]) == ("/ws", 101, "r-7")
    assert not any("?token" in line or token in line for line in watch.lines)
