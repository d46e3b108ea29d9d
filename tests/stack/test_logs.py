"""What the stack's processes log. That no secret is among it is seen when all tests are done: see conftest.py."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from shared.api_keys import ApiKey
from tests.stack.platform import Platform, leaking
from tests.stack.reader import User
from tests.support import bearer

TOKEN = bearer(uuid4())["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("planted", [TOKEN, TOKEN.rpartition(".")[2], ApiKey.generate(uuid4()).text(), "word-of-app"])
def test_a_secret_in_a_log_is_found(tmp_path: Path, planted: str) -> None:
    (tmp_path / "chat.log").write_text('{"event": "request"}\n')
    (tmp_path / "routing.log.1").write_text(f'{{"event": "request"}}\n{{"event": "seen", "value": "{planted}"}}\n')
    found = leaking(tmp_path, [TOKEN, "word-of-app"])
    assert set(found) == {"routing.log.1"}
    assert found["routing.log.1"]
    assert planted not in str(found)


async def test_the_secrets_that_are_looked_for_are_those_in_use(platform: Platform, user: User) -> None:
    assert (await user.request("GET", "identity/me"))[0] == 200
    secrets = platform.secrets()
    assert any(secret.count(".") == 2 for secret in secrets)
    for url in (platform.stack.connections.database_url, platform.stack.connections.redis_url):
        assert any(f":{secret}@" in url for secret in secrets)


async def test_refused_credentials_are_not_logged(platform: Platform, user: User) -> None:
    key = ApiKey.generate(user.tenant).text()
    forged = f"{TOKEN[:-8]}AAAAAAAA"
    platform.issued |= {key, forged}
    log = platform.stack.state.logs / "identity.log"
    before = len(log.read_text().splitlines())
    for credential in (key, forged):
        headers = {"Authorization": f"Bearer {credential}"}
        status, _, body = await user.request("GET", "identity/me", headers=headers)
        assert (status, body["code"]) == (401, "unauthenticated")
    lines = log.read_text().splitlines()[before:]
    refused = [entry for line in lines if (entry := json.loads(line))["event"] == "token_refused"]
    assert {entry["reason"].partition(":")[0] for entry in refused} == {"unknown key", "InvalidSignatureError"}
