"""Which model answers, and the reason that is given for it."""

from collections.abc import Sequence
from uuid import UUID

import psycopg
import pytest

from tests.support import Database


@pytest.mark.parametrize(
    ("question", "tier"),
    [
        ("Classify this message as complaint or praise: I love it", "light"),
        ("Does this text contain personal data? John lives in Rome.", "light"),
        ("hello", "light"),
        ("How many days of leave do I have?", "standard"),
        ("Do a security review of this login handler.", "heavy"),
        ("Work out step by step why the invoice total differs.", "heavy"),
        ("x" * 5000, "heavy"),
    ],
)
def test_routing_gives_a_tier_and_its_reason(
    database: Database, tenants: Sequence[UUID], question: str, tier: str
) -> None:
    with database.connect("app", tenants[0]) as app:
        choice = app.call("routing.choose", p_question=question)
    assert choice["tier"] == tier
    assert choice["model"] == f"local/extractive-{tier}"
    assert choice["rule"]


def test_a_request_may_name_a_tier_or_a_model_that_exists(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        assert app.call("routing.choose", p_question="hello", p_requested="heavy")["model"] == "local/extractive-heavy"
        by_name = app.call("routing.choose", p_question="hello", p_requested="local/extractive-light")
        assert by_name["tier"] == "light"
        with pytest.raises(psycopg.Error) as raised:
            app.call("routing.choose", p_question="hello", p_requested="gpt-99")
        assert raised.value.sqlstate == "EA006"


def test_routing_that_is_switched_off_pins_the_default_model(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect() as operator:
        operator.run("SELECT ops.sync_settings('{\"model_routing_enabled\": \"False\"}', '{}')")
    with database.connect("app", tenants[0]) as app:
        choice = app.call("routing.choose", p_question="Do a security review.")
        assert choice["model"] == "local/extractive-standard"
        assert "switched off" in choice["reason"]
