"""The search for secrets in the log, which watches every test here, finds what is planted."""

import logging
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from shared import logs
from shared.api_keys import ApiKey
from shared.settings import DEV_JWT_SECRET, DEV_SECRET_KEY
from tests.functions.asgi import call
from tests.functions.leaks import Watch, leaks
from tests.functions.platform import Platform
from tests.support import ISSUED, PASSWORDS, bearer

TOKEN = bearer(uuid4())["Authorization"].removeprefix("Bearer ")
KEY = ApiKey.generate(uuid4())
SECRETS = {
    "token": TOKEN,
    "signature of a token": TOKEN.rpartition(".")[2],
    "key": KEY.text(),
    "secret of a key": KEY.secret,
    "password of app": PASSWORDS["app"],
    "password in a URL": "redis://:hunter-2@redis:6379/0",
    "model server's key": "sk-test",
    "development secret": DEV_JWT_SECRET,
    "secret key": DEV_SECRET_KEY,
}


@pytest.fixture(autouse=True)
def planted(watch: Watch) -> Iterator[None]:
    """Take what was planted out again, once it was found."""
    ISSUED.update((TOKEN, KEY.text()))
    yield
    watch.lines.clear()


def in_an_exception(secret: str) -> None:
    try:
        raise ValueError(secret)
    except ValueError as error:
        logs.error("failed", error)


def in_the_cause_of_an_exception(secret: str) -> None:
    try:
        try:
            raise ValueError(secret)
        except ValueError as error:
            raise RuntimeError("failed") from error
    except RuntimeError as error:
        logs.error("failed", error)


WAYS: dict[str, Callable[[str], None]] = {
    "the event": lambda secret: logs.info(f"seen {secret}"),
    "a field": lambda secret: logs.warning("seen", value=secret),
    "a nested field": lambda secret: logs.info("seen", value={"headers": [secret]}),
    "an exception": in_an_exception,
    "the cause of an exception": in_the_cause_of_an_exception,
    "another library's message": lambda secret: logging.getLogger("aiohttp.access").info("GET %s", secret),
    "another library's field": lambda secret: logging.getLogger("httpx2").warning("%r", {"a": secret}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_the_log_is_found(watch: Watch, secret: str, way: str) -> None:
    logs.info("before")
    assert not watch.leaked()
    WAYS[way](SECRETS[secret])
    [found] = watch.leaked()
    assert SECRETS[secret] not in found


def test_a_secret_that_only_the_environment_has_is_found(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_API_KEY", "of-this-test-alone")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app:word-of-pass@db/x")
    logs.info("with of-this-test-alone")
    assert watch.leaked()
    watch.lines.clear()
    logs.info("FATAL: word-of-pass")
    assert watch.leaked()


async def test_what_a_test_sends_and_is_shown_is_looked_for(watch: Watch, platform: Platform) -> None:
    ISSUED.clear()
    made = await platform.call("identity", "POST", "/keys", {"name": "k"})
    await call(platform.serve("identity"), "GET", "/me", {"Authorization": f"Bearer {'made-up-' * 4}"})
    secret = ApiKey.parse(made.json()["key"])
    assert secret is not None
    assert not watch.leaked()
    for leaked in (secret.secret, "made-up-" * 4):
        logs.info("seen", value=leaked)
        assert watch.leaked()
        watch.lines.clear()


def test_ids_and_words_are_no_secrets() -> None:
    harmless = (
        f"key {KEY.key_id} of tenant {KEY.tenant_id}, http://localhost:8080/a:b@c, Bearer token refused, eyJ, eak_"
    )
    assert leaks(harmless, [TOKEN, KEY.text(), "short"]) == set()
