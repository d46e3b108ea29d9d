"""What is told of a defect: in development where it is, elsewhere that there is one."""

import pytest

from shared.settings import get_settings
from tests.functions.asgi import Reply
from tests.functions.identity_provider import claims, sign
from tests.functions.platform import Platform

TURN = "/turns/00000000-0000-4000-8000-000000000000"


async def fails(platform: Platform, monkeypatch: pytest.MonkeyPatch, environment: str, debug: str | None) -> Reply:
    """Return the answer to a request that runs into a defect."""
    monkeypatch.setattr("functions.chat.turns.read", None)
    monkeypatch.setenv("ENVIRONMENT", environment)
    if debug is not None:
        monkeypatch.setenv("DEBUG", debug)
    get_settings.cache_clear()
    return await platform.call("chat", "GET", TURN)


@pytest.mark.parametrize(("environment", "debug"), [("dev", None), ("dev", "true"), ("test", "true")])
async def test_where_debugging_is_on_a_defect_is_shown(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, environment: str, debug: str | None
) -> None:
    reply = await fails(platform, monkeypatch, environment, debug)
    assert (reply.status, reply.code()) == (500, "internal_error")
    shown = reply.json()["exception"]
    assert "TypeError" in shown
    assert "functions/chat/turns.py" in shown


@pytest.mark.parametrize(("environment", "debug"), [("dev", "false"), ("test", None), ("test", "false")])
async def test_elsewhere_nobody_learns_of_it_but_the_log(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environment: str,
    debug: str | None,
) -> None:
    reply = await fails(platform, monkeypatch, environment, debug)
    assert (reply.status, reply.code()) == (500, "internal_error")
    assert set(reply.json()) == {"type", "title", "status", "detail", "code"}
    assert b"TypeError" not in reply.body
    assert "TypeError" in caplog.text


@pytest.mark.parametrize("debug", [None, "false"])
async def test_in_production_nobody_learns_of_it_but_the_log(
    prod: Platform, monkeypatch: pytest.MonkeyPatch, debug: str | None
) -> None:
    headers = {"Authorization": f"Bearer {sign(claims(prod.tenants[0]))}"}
    monkeypatch.setattr("functions.chat.turns.read", None)
    if debug is not None:
        monkeypatch.setenv("DEBUG", debug)
        get_settings.cache_clear()
    reply = await prod.call("chat", "GET", TURN, headers=headers)
    assert (reply.status, reply.code()) == (500, "internal_error")
    assert set(reply.json()) == {"type", "title", "status", "detail", "code"}


async def test_a_refusal_is_told_alike_everywhere(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "dev")
    get_settings.cache_clear()
    reply = await platform.call("routing", "POST", "/routing/explain", {"message": ""})
    assert (reply.status, reply.code()) == (422, "invalid_request")
    assert "exception" not in reply.json()
