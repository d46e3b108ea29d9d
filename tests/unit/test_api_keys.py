"""API keys as text: made, read again, and printed without what makes them secret."""

import hashlib
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.api_keys import PATTERN, PREFIX, ApiKey

SECRET = "AbC-_0" * 7 + "x"
GOOD = f"eak_{'0123456789abcdef' * 2}_{'f' * 32}_{SECRET}"


@given(tenant=st.uuids(), key=st.none() | st.uuids())
def test_a_key_that_was_made_is_read_again(tenant: UUID, key: UUID | None) -> None:
    made = ApiKey.generate(tenant, key)
    assert made.tenant_id == tenant
    assert key is None or made.key_id == key
    assert made.text().startswith(PREFIX)
    assert ApiKey.parse(made.text()) == made
    assert made.digest() == hashlib.sha256(made.secret.encode()).digest()


@given(text=st.from_regex(PATTERN, fullmatch=True))
def test_whatever_has_the_form_of_a_key_is_one(text: str) -> None:
    key = ApiKey.parse(text)
    assert key is not None
    assert key.text() == text


def test_no_two_keys_have_one_secret() -> None:
    tenant, id_ = uuid4(), uuid4()
    assert len({ApiKey.generate(tenant, id_).secret for _ in range(1000)}) == 1000
    # 256 bits in base64url.
    assert {len(ApiKey.generate(tenant).secret) for _ in range(100)} == {43}


@pytest.mark.parametrize(
    "text",
    [
        "", "eak_", GOOD[:-1], f"{GOOD}A", f"{GOOD}\n", f" {GOOD}", GOOD.replace("_", "-"), GOOD.upper(), GOOD[4:],
        GOOD.replace("eak_", "EAK_"), GOOD.replace("0123", "012G", 1), GOOD.replace("0123", "0123-", 1),
        GOOD.replace("0123", "012\u0663", 1), GOOD[:-1] + "=", GOOD[:-1] + "+", GOOD[:-1] + "\0", GOOD[:-1] + "é",
        f"{GOOD} {GOOD}", f"Bearer {GOOD}",
    ],
)  # fmt: skip
def test_what_has_another_form_is_no_key(text: str) -> None:
    assert ApiKey.parse(GOOD) is not None
    assert ApiKey.parse(text) is None


@given(text=st.text() | st.text(alphabet="eak_0123456789abcdefAZ-", max_size=120).map(lambda tail: PREFIX + tail))
@example(text=GOOD)
def test_rubbish_is_no_key(text: str) -> None:
    key = ApiKey.parse(text)
    assert key is None or key.text() == text


def test_a_keys_printed_form_holds_no_secret() -> None:
    key = ApiKey.generate(uuid4())
    for printed in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert key.secret not in printed
        assert str(key.key_id) in printed
