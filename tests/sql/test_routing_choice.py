"""Which rule applies, which models are considered, which answers, and how all of it is told."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.routing_desk import CLASSIFY, HEAVY, LIGHT, SECURITY, STANDARD, Desk, rejections, sit_down
from tests.support import Database

PLAIN = "Please tell me when the canteen opens."


@pytest.fixture(scope="module")
def tenant(module_database: Database) -> UUID:
    with module_database.connect() as operator:
        made: UUID = operator.call("core.provision_tenant", p_slug="routing", p_name="Routing")
    return made


@pytest.fixture
def desk(module_database: Database, tenant: UUID) -> Iterator[Desk]:
    with sit_down(module_database, tenant, roles=("member", "auditor")) as desk:
        yield desk


def refusal(desk: Desk, question: str = PLAIN, **arguments: object) -> tuple[str, Any]:
    """Return the problem that a question meets, and its data."""
    with pytest.raises(psycopg.Error) as raised, desk.connection.transaction():
        desk.choose(question, **arguments)
    return str(raised.value.sqlstate), json.loads(raised.value.diag.message_detail or "{}")


NO_MODEL, NO_HEALTHY_MODEL, BUDGET_EXCEEDED = "EA006", "EA015", "EA004"

CONDITIONS: dict[str, tuple[dict[str, Any], tuple[str, dict[str, object]], tuple[str, dict[str, object]]]] = {
    "at least so long": ({"min_chars": 10}, ("x" * 10, {}), ("x" * 9, {})),
    "at most so long": ({"max_chars": 10}, ("x" * 10, {}), ("x" * 11, {})),
    "a type": ({"question_types": ["writing"]}, ("Translate this: Hallo", {}), (PLAIN, {})),
    "one of types": ({"question_types": ["pii", "other"]}, ("zzz", {}), (PLAIN, {})),
    "a language": ({"languages": ["de", "fr"]}, ("Wie ist das Wetter und was kostet es?", {}), (PLAIN, {})),
    "code": ({"code": True}, ("What is this? ```x```", {}), (PLAIN, {})),
    "no code": ({"code": False}, (PLAIN, {}), ("What is this? ```x```", {})),
    "tools": ({"tools": True}, (PLAIN, {"p_tools": 1}), (PLAIN, {})),
    "no tools": ({"tools": False}, (PLAIN, {}), (PLAIN, {"p_tools": 2})),
    "tasks": (
        {"min_tasks": 2},
        ("Compare the two canteens and recommend one.", {}),
        ("Compare the two canteens, compare them again.", {}),
    ),
    "many passages": ({"min_passages": 3}, (PLAIN, {"p_passages": 3}), (PLAIN, {"p_passages": 2})),
    "few passages": ({"max_passages": 3}, (PLAIN, {"p_passages": 3}), (PLAIN, {"p_passages": 4})),
    "a history": ({"min_history_chars": 9}, (PLAIN, {"p_history_chars": 9}), (PLAIN, {"p_history_chars": 8})),
    "a pattern": ({"pattern": "canteen .*OPENS"}, (PLAIN, {}), ("When does the shop open?", {})),
    "asked for nothing": ({"requested": ["auto"]}, (PLAIN, {"p_requested": "auto"}), (PLAIN, {"p_requested": LIGHT})),
    "several": (
        {"languages": ["en"], "min_chars": 5, "max_passages": 0, "code": False},
        (PLAIN, {}),
        (PLAIN, {"p_passages": 1}),
    ),
    "nothing": ({}, (PLAIN, {}), (PLAIN, {"p_requested": "light"})),
}


@pytest.mark.parametrize(("conditions", "holds", "fails"), CONDITIONS.values(), ids=CONDITIONS.keys())
def test_a_rule_applies_when_its_condition_holds(
    desk: Desk,
    conditions: dict[str, Any],
    holds: tuple[str, dict[str, object]],
    fails: tuple[str, dict[str, object]],
) -> None:
    desk.add_rule(**conditions)
    chosen = desk.choose(holds[0], **holds[1])
    assert (chosen["rule"], chosen["tier"]) == ("mine", "heavy"), chosen["features"]
    other = desk.choose(fails[0], **fails[1])
    assert other["rule"] != "mine", other["features"]


def test_every_column_of_the_rules_is_tested_here(desk: Desk) -> None:
    columns = {
        name
        for (name,) in desk.query(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'routing.rules'::regclass AND attnum > 0 AND NOT attisdropped"
        )
    }
    tested = {column for conditions, _, _ in CONDITIONS.values() for column in conditions}
    assert columns - tested == {"position", "name", "tier", "model", "enabled", "tenants", "roles"}


def test_a_rule_may_be_for_tenants_or_for_roles(desk: Desk) -> None:
    desk.add_rule("others'", tenants=[uuid4()], position=1)
    desk.add_rule("admins", roles=["tenant_admin"], position=2)
    desk.add_rule("auditors", roles=["tenant_admin", "auditor"], position=3)
    desk.add_rule("ours", tenants=[uuid4(), desk.tenant], position=4)
    assert desk.choose()["rule"] == "auditors"
    desk.run("DELETE FROM routing.rules WHERE position = 3")
    assert desk.choose()["rule"] == "ours"
    listed = {rule["name"]: rule for rule in desk.call("routing.list_rules")}
    assert "others'" not in listed, "what concerns another tenant only, nobody else reads"
    assert listed["admins"] == {
        "position": 2,
        "name": "admins",
        "tier": "heavy",
        "roles": ["tenant_admin"],
        "enabled": True,
    }
    assert "tenants" not in listed["ours"]


def test_rules_are_read_in_their_order_and_disabled_ones_not_at_all(desk: Desk) -> None:
    desk.add_rule("second", "light", position=2)
    desk.add_rule("first", "heavy", position=1)
    assert desk.choose()["rule"] == "first"
    desk.run("UPDATE routing.rules SET enabled = false WHERE name = 'first'")
    assert desk.choose()["rule"] == "second"
    desk.run("UPDATE routing.rules SET position = 5000 WHERE name = 'second'")
    assert desk.choose()["rule"] == "everything else"


def test_without_any_rule_there_is_a_problem_and_no_guess(desk: Desk) -> None:
    desk.run("DELETE FROM routing.rules")
    state, problem = refusal(desk)
    assert (state, problem["considered"]) == (NO_MODEL, [])


def test_a_rules_own_model_is_tried_before_the_others_of_its_tier(desk: Desk) -> None:
    special = desk.add_model("acme/special", "standard", output_price=100)
    desk.add_rule("special", "standard", model=special)
    choice = desk.choose()
    assert (choice["model"], choice["fallback"]) == (special, None)
    assert list(rejections(choice)) == [special, STANDARD, LIGHT]
    desk.change(special, enabled=False)
    choice = desk.choose()
    assert (choice["model"], choice["fallback"]) == (STANDARD, "within standard: disabled")
    desk.run("DELETE FROM routing.models WHERE name = %s", [special])
    assert desk.choose()["rule"] == "everything else", "a rule goes with its model"


def test_within_a_tier_the_deployments_model_comes_first_then_the_cheaper(desk: Desk) -> None:
    for name, price in (("b/dear", 9), ("c/cheap", 1), ("a/unknown", None)):
        desk.add_model(name, "heavy", output_price=price)
    choice = desk.choose(SECURITY)
    assert list(rejections(choice)) == [HEAVY, "c/cheap", "b/dear", "a/unknown", STANDARD, LIGHT]
    assert set(rejections(choice).values()) == {None}
    assert (choice["model"], choice["rule"], choice["reason"], choice["fallback"]) == (
        HEAVY, "security review", "the first rule whose conditions hold", None,
    )  # fmt: skip


def test_a_choice_falls_back_within_its_tier_then_down_and_never_up(desk: Desk) -> None:
    spare = desk.add_model("acme/spare", "standard")
    desk.change(STANDARD, enabled=False)
    choice = desk.choose()
    assert (choice["model"], choice["fallback"]) == (spare, "within standard: disabled")
    desk.break_model(spare)
    choice = desk.choose()
    assert (choice["model"], choice["tier"]) == (LIGHT, "light")
    assert choice["fallback"] == "from standard down to light: disabled, health"
    assert rejections(choice) == {STANDARD: "disabled", spare: "health", LIGHT: None}
    desk.change(LIGHT, enabled=False)
    state, problem = refusal(desk)
    assert state == NO_HEALTHY_MODEL, "the heavy model is well, but costs more than was decided"
    assert [c["model"] for c in problem["considered"]] == [STANDARD, spare, LIGHT]
    desk.change(spare, enabled=False)
    state, problem = refusal(desk)
    assert (state, problem["wanted"]) == (NO_MODEL, "standard")
    assert {c["rejected"] for c in problem["considered"]} == {"disabled"}
    assert desk.choose(SECURITY)["model"] == HEAVY


def test_prompt_and_answer_must_fit_into_the_context_window(desk: Desk) -> None:
    desk.change(STANDARD, context_window=1000)
    desk.change(LIGHT, context_window=4000)
    assert desk.choose(p_prompt_tokens=900, p_max_tokens=100)["model"] == STANDARD
    choice = desk.choose(p_prompt_tokens=901, p_max_tokens=100)
    assert (choice["model"], choice["fallback"]) == (LIGHT, "from standard down to light: context_window")
    assert choice["considered"][0]["why"] == "1001 tokens are needed, and its window has 1000"
    state, problem = refusal(desk, p_prompt_tokens=4000, p_max_tokens=1)
    assert (state, [c["rejected"] for c in problem["considered"]]) == (NO_MODEL, ["context_window"] * 2)


def test_data_stays_in_its_region(desk: Desk) -> None:
    desk.change(STANDARD, regions=["eu", "us"])
    desk.change(LIGHT, regions=["eu", "test"])
    choice = desk.choose()
    assert (choice["model"], rejections(choice)[STANDARD]) == (LIGHT, "residency")
    assert choice["considered"][0]["why"] == "it runs in eu, us, and the tenant's data stays in test"
    desk.change(LIGHT, regions=["eu"])
    assert refusal(desk)[0] == NO_MODEL
    assert refusal(desk, p_requested=STANDARD)[0] == NO_MODEL, "asking for it by name does not help"
    desk.run("UPDATE core.tenants SET region = 'us' WHERE id = %s", [desk.tenant])
    assert desk.choose()["model"] == STANDARD


def test_a_turn_with_tools_needs_a_model_that_calls_them(desk: Desk) -> None:
    desk.change(STANDARD, tools=False)
    assert desk.choose(p_tools=0)["model"] == STANDARD
    choice = desk.choose(p_tools=1)
    assert (choice["model"], choice["considered"][0]["why"]) == (LIGHT, "it calls no tools")


def test_what_stands_against_a_model_is_named_once_and_the_gravest(desk: Desk) -> None:
    desk.break_model(STANDARD)
    assert rejections(desk.choose(p_tools=1))[STANDARD] == "health"
    desk.change(STANDARD, tools=False)
    assert rejections(desk.choose(p_tools=1))[STANDARD] == "tools"
    desk.change(STANDARD, context_window=1)
    assert rejections(desk.choose(p_tools=1, p_prompt_tokens=2))[STANDARD] == "context_window"
    desk.change(STANDARD, regions=["moon"])
    assert rejections(desk.choose(p_tools=1, p_prompt_tokens=2))[STANDARD] == "residency"
    desk.change(STANDARD, enabled=False)
    assert rejections(desk.choose(p_tools=1, p_prompt_tokens=2))[STANDARD] == "disabled"


def test_a_model_that_fails_is_left_alone_and_the_refusal_says_until_when(desk: Desk) -> None:
    desk.break_model(HEAVY)
    choice = desk.choose(SECURITY)
    assert (choice["model"], choice["fallback"]) == (STANDARD, "from heavy down to standard: health")
    assert choice["considered"][0]["why"].startswith(
        "it failed 5 times in a row, at last with model_timeout; tried again from "
    )
    desk.break_model(STANDARD, rest="2 hours")
    desk.break_model(LIGHT, rest="3 hours")
    state, problem = refusal(desk, SECURITY)
    assert (state, problem["wanted"]) == (NO_HEALTHY_MODEL, "heavy")
    assert desk.value(
        "SELECT %s::timestamptz = retry_at FROM routing.health WHERE model = %s", [problem["retry_at"], HEAVY]
    )
    desk.run("UPDATE routing.health SET retry_at = clock_timestamp() WHERE model = %s", [HEAVY])
    assert desk.choose(SECURITY)["model"] == HEAVY, "its rest is over: it may be tried"


def test_money_steps_down_a_tier_and_says_so(desk: Desk) -> None:
    desk.change(HEAVY, input_price=10, output_price=50)
    desk.change(STANDARD, input_price=1, output_price=5)
    desk.change(LIGHT, input_price=0, output_price=0)
    tokens = {"p_prompt_tokens": 100, "p_max_tokens": 100}
    desk.limit_money(6000)
    assert [c["cost_micros"] for c in desk.choose(SECURITY, **tokens)["considered"]] == [6000, 600, 0]
    assert desk.choose(SECURITY, **tokens)["model"] == HEAVY, "it just fits"
    desk.run("UPDATE budget.limits SET cost_micros = 5999")
    choice = desk.choose(SECURITY, **tokens)
    assert (choice["model"], choice["fallback"]) == (STANDARD, "from heavy down to standard: budget")
    assert choice["considered"][0]["why"] == "6000 millionths are needed, and 5999 are left"
    desk.run("UPDATE budget.limits SET cost_micros = 0")
    choice = desk.choose(SECURITY, **tokens)
    assert (choice["model"], choice["fallback"]) == (LIGHT, "from heavy down to light: budget")
    assert rejections(choice) == {HEAVY: "budget", STANDARD: "budget", LIGHT: None}


def test_within_a_tier_a_cheaper_model_that_fits_is_taken(desk: Desk) -> None:
    desk.change(HEAVY, output_price=50)
    cheap = desk.add_model("acme/cheap", "heavy", output_price=10)
    desk.limit_money(1000)
    choice = desk.choose(SECURITY, p_max_tokens=100)
    assert (choice["model"], choice["fallback"]) == (cheap, "within heavy: budget")


def test_where_no_model_fits_the_money_the_budget_refuses(desk: Desk) -> None:
    for model, price in ((HEAVY, 50), (STANDARD, 5), (LIGHT, 8)):
        desk.change(model, input_price=price, output_price=price)
    desk.limit_money(100)
    choice = desk.choose(SECURITY, p_prompt_tokens=100, p_max_tokens=100)
    assert (choice["model"], choice["fallback"]) == (STANDARD, "no model fits the budget")
    assert rejections(choice) == {HEAVY: "budget", STANDARD: "budget", LIGHT: "budget"}
    explained = desk.call("routing.explain", p_question=SECURITY)
    assert (explained["model"], explained["budget"]["admitted"], explained["budget"]["scope"]) == (
        STANDARD,
        False,
        "tenant",
    )
    with pytest.raises(psycopg.Error) as raised, desk.connection.transaction():
        desk.call("chat.begin_turn", p_message=SECURITY)
    assert raised.value.sqlstate == BUDGET_EXCEEDED
    assert json.loads(raised.value.diag.message_detail or "{}")["resets_at"]


def test_a_request_may_name_a_model_or_a_tier(desk: Desk) -> None:
    choice = desk.choose(SECURITY, p_requested="light")
    assert (choice["model"], choice["rule"], choice["reason"], choice["requested"]) == (
        LIGHT, None, "the request names the tier", "light",
    )  # fmt: skip
    choice = desk.choose(SECURITY, p_requested=LIGHT)
    assert (choice["model"], choice["reason"], list(rejections(choice))) == (
        LIGHT,
        "the request names the model",
        [LIGHT],
    )
    assert desk.choose(SECURITY, p_requested="auto") == desk.choose(SECURITY)
    desk.break_model(HEAVY)
    assert desk.choose(p_requested="heavy")["fallback"] == "from heavy down to standard: health"
    state, problem = refusal(desk, p_requested=HEAVY)
    assert (state, problem["wanted"]) == (NO_HEALTHY_MODEL, HEAVY), "no other than the one that was named"
    state, problem = refusal(desk, p_requested="gpt-99")
    assert (state, problem["wanted"], problem["considered"]) == (NO_MODEL, "gpt-99", [])


def test_routing_that_is_switched_off_pins_the_default_model(desk: Desk) -> None:
    desk.set_variables(model_routing_enabled="false", litellm_default_model="acme/pinned")
    choice = desk.choose(SECURITY)
    assert (choice["model"], choice["tier"], choice["rule"], list(rejections(choice))) == (
        "acme/pinned", "standard", None, ["acme/pinned"],
    )  # fmt: skip
    assert choice["reason"] == "routing is switched off: LITELLM_DEFAULT_MODEL answers"
    assert desk.choose(p_requested="heavy")["model"] == HEAVY, "who names a tier gets it all the same"
    desk.break_model("acme/pinned")
    assert refusal(desk)[0] == NO_HEALTHY_MODEL


def test_the_decision_tells_all_that_it_was_made_from(desk: Desk) -> None:
    choice = desk.choose(CLASSIFY, p_tools=2, p_passages=3, p_history_chars=40)
    assert choice["features"] == {
        "requested": "auto", "chars": len(CLASSIFY), "question_type": "classification", "language": "en", "code": False,
        "tasks": 0, "tools": 2, "passages": 3, "history_chars": 40, "roles": ["auditor", "member"], "region": "test",
    }  # fmt: skip
    assert choice["considered"] == [{"model": LIGHT, "tier": "light", "cost_micros": 0}]


@pytest.mark.parametrize("question", [SECURITY, CLASSIFY, "hello", PLAIN, "Prüfe, ob der Vertrag Namen enthält."])
@pytest.mark.parametrize("requested", [None, "auto", "light", HEAVY])
def test_explain_stores_nothing_and_agrees_with_the_turn(desk: Desk, question: str, requested: str | None) -> None:
    desk.break_model(STANDARD)
    tables = ("chat.turns", "chat.conversations", "chat.messages", "budget.reservations", "budget.ledger", "budget.balances",
              "events.outbox", "inference.jobs", "compliance.audit_log")  # fmt: skip

    def stored() -> list[int]:
        return [desk.value(f"SELECT count(*) FROM {table}") for table in tables]

    before = stored()
    explained = desk.call("routing.explain", p_question=question, p_requested=requested, p_max_tokens=50)
    assert stored() == before
    assert explained["estimate"]["tokens"] == explained["estimate"]["prompt_tokens"] + 50
    assert explained["budget"] == {"admitted": True}
    turn = desk.call("chat.begin_turn", p_message=question, p_model=requested, p_max_tokens=50)
    same = ("model", "tier", "rule", "reason", "requested", "fallback", "considered", "features")
    assert {name: turn["routing"][name] for name in same} == {name: explained[name] for name in same}
    assert (turn["model"], turn["tier"]) == (explained["model"], explained["tier"])
    assert desk.query("SELECT model, tier FROM inference.jobs WHERE turn_id = %s", [turn["turn_id"]]) == [
        (explained["model"], explained["tier"])
    ]


def test_a_turn_that_no_model_can_answer_leaves_nothing(desk: Desk) -> None:
    desk.run("UPDATE routing.models SET enabled = false")
    with (
        pytest.raises(psycopg.Error, match="an administrator has disabled it") as raised,
        desk.connection.transaction(),
    ):
        desk.call("chat.begin_turn", p_message=PLAIN)
    assert raised.value.sqlstate == NO_MODEL
    assert desk.value("SELECT count(*) FROM chat.turns") == 0


MODELS = "SELECT name, tier, enabled FROM routing.models ORDER BY name"


def test_the_registry_follows_the_variables(desk: Desk) -> None:
    assert desk.query(MODELS) == [(HEAVY, "heavy", True), (LIGHT, "light", True), (STANDARD, "standard", True)]
    desk.change(
        HEAVY, context_window=9, input_price=1, output_price=2, regions=["test"], endpoint="http://heavy.example"
    )
    own = desk.add_model("acme/own", "heavy")
    desk.set_variables(model_light="acme/small")
    assert desk.query(MODELS) == [
        (own, "heavy", True), ("acme/small", "light", True), (HEAVY, "heavy", True),
        (LIGHT, "light", False), (STANDARD, "standard", True),
    ]  # fmt: skip
    kept = desk.query(
        "SELECT context_window, input_price, regions, endpoint FROM routing.models WHERE name = %s", [HEAVY]
    )
    assert kept == [(9, 1, ["test"], "http://heavy.example")], "what the variables do not say stays"
    desk.set_variables(model_light=LIGHT)
    assert (LIGHT, "light", True) in desk.query(MODELS)
    assert ("acme/small", "light", False) in desk.query(MODELS)


def test_what_an_administrator_disabled_stays_disabled(desk: Desk) -> None:
    desk.change(HEAVY, enabled=False)
    desk.set_variables(model_heavy=HEAVY, model_light="acme/small")
    assert (HEAVY, "heavy", False) in desk.query(MODELS)


def test_one_model_for_all_tiers_is_a_standard_one(desk: Desk) -> None:
    desk.set_variables(
        **dict.fromkeys(("model_light", "model_standard", "model_heavy", "litellm_default_model"), "acme/only")
    )
    assert ("acme/only", "standard", True) in desk.query(MODELS)
    choice = desk.choose(SECURITY)
    assert (choice["model"], choice["tier"]) == ("acme/only", "standard")
