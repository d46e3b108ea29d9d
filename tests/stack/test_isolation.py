"""Two tenants, and two users of one, over HTTP."""

from uuid import uuid4

import aiohttp
import pytest

from tests.stack.conftest import QUESTION
from tests.stack.platform import Platform
from tests.stack.reader import User


async def test_a_tenant_is_never_answered_from_anothers_documents(user: User, stranger: User) -> None:
    foreign = await stranger.answer(QUESTION)
    assert foreign.data["turn.accepted"]["passages"] == []
    assert foreign.data["turn.citations"] == {"citations": []}
    assert "31 bar" not in foreign.text

    # Under the same name each has a document of its own.
    await stranger.upload("manual.md", "# Harbour pump P-7\n\nThe relief valve of harbour pump P-7 opens at 12 bar.\n")
    theirs, ours = await stranger.answer(QUESTION), await user.answer(QUESTION)
    assert ("12 bar" in theirs.text, "31 bar" in theirs.text) == (True, False)
    assert ("12 bar" in ours.text, "31 bar" in ours.text) == (False, True)


@pytest.fixture
def colleague(platform: Platform, session: aiohttp.ClientSession) -> User:
    """Another user of the demo tenant."""
    return User(platform, session, platform.stack.tenant_id, "colleague")


async def test_a_turn_is_its_own_users_only(user: User, stranger: User, colleague: User) -> None:
    status, _, accepted = await user.request("POST", "chat/chat", json={"message": QUESTION, "stream": False})
    assert status == 202
    turn, conversation = accepted["turn_id"], accepted["conversation_id"]
    for other in (stranger, colleague):
        for method, path in (("GET", ""), ("GET", "/stream"), ("POST", "/stop")):
            assert await problem(other, method, f"chat/turns/{turn}{path}") == (404, "not_found")
        asked = {"message": "And then?", "conversation_id": conversation}
        assert await problem(other, "POST", "chat/chat", json=asked) == (404, "not_found")
    assert (await user.replay(turn)).names[-1] == "turn.completed"
    # There is no difference to a turn that never was.
    assert await problem(user, "GET", f"chat/turns/{uuid4()}") == (404, "not_found")


async def test_a_document_is_its_own_tenants_only(user: User, stranger: User, colleague: User) -> None:
    _, _, listed = await user.request("GET", "ingestion/documents")
    document = next(d["id"] for d in listed["documents"] if d["name"] == "manual.md")
    assert await problem(stranger, "GET", f"ingestion/documents/{document}") == (404, "not_found")
    assert (await stranger.request("GET", "ingestion/documents"))[2]["documents"] == []
    status, _, shown = await colleague.request("GET", f"ingestion/documents/{document}")
    assert (status, shown["status"]) == (200, "indexed")


async def problem(user: User, method: str, url: str, **options: object) -> tuple[int, str]:
    status, media_type, body = await user.request(method, url, **options)
    assert media_type == "application/problem+json", body
    return status, body["code"]
