"""REDIS_URL where sentinels say who the primary is."""

import pytest
from pydantic import SecretStr, ValidationError

from shared.sentinel import Watched, watched
from shared.settings import Settings

SECRET = "p@ss/word"
ESCAPED = "p%40ss%2Fword"
OWN = {"password": SECRET}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            f"redis+sentinel://:{ESCAPED}@redis-headless:26379/mymaster/0",
            Watched((("redis-headless", 26379),), "mymaster", 0, False, OWN, OWN),
        ),
        (
            f"redis+sentinel://ann:{ESCAPED}@one,two:26380,[::1]:26381/main/3",
            Watched(
                (("one", 26379), ("two", 26380), ("::1", 26381)),
                "main",
                3,
                False,
                {"username": "ann", **OWN},
                {"username": "ann", **OWN},
            ),
        ),
        ("redis+sentinel://one/mymaster", Watched((("one", 26379),), "mymaster", 0, False, {}, {})),
        (
            f"rediss+sentinel://:{ESCAPED}@one/mymaster?sentinel_password=",
            Watched((("one", 26379),), "mymaster", 0, True, OWN, {}),
        ),
        (
            f"redis+sentinel://ann:x@one/mymaster/1?sentinel_password={ESCAPED}",
            Watched((("one", 26379),), "mymaster", 1, False, {"username": "ann", "password": "x"}, OWN),
        ),
    ],
)
def test_the_url_names_sentinels_service_and_database(url: str, expected: Watched) -> None:
    assert Settings(redis_url=SecretStr(url)).redis_url.get_secret_value() == url
    assert watched(url) == expected
    assert SECRET not in repr(watched(url))


@pytest.mark.parametrize(
    "url",
    [
        f"redis+sentinel://:{ESCAPED}@one:26379",
        f"redis+sentinel://:{ESCAPED}@one:26379/",
        f"redis+sentinel://:{ESCAPED}@one:26379/mymaster/first",
        f"redis+sentinel://:{ESCAPED}@one:26379/mymaster/0/0",
        f"redis+sentinel://:{ESCAPED}@/mymaster",
        f"redis+sentinel://:{ESCAPED}@one,,two/mymaster",
        f"redis+sentinel://:{ESCAPED}@one:port/mymaster",
        f"redis+sentinel://:{ESCAPED}@one:0/mymaster",
        f"redis+sentinel://:{ESCAPED}@one/mymaster?socket_timeout=1",
        f"redis+cluster://:{ESCAPED}@one/mymaster",
    ],
)
def test_a_url_that_leaves_something_open_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(redis_url=SecretStr(url))
    [error] = raised.value.errors(include_input=False)
    assert error["loc"] == ("redis_url",)
    assert ESCAPED not in error["msg"]
    assert SECRET not in error["msg"]
