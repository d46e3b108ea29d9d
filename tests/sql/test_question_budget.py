"""What a question's embedding may take is held before the endpoint is asked, and what it took is charged once."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.sql.budget_steps import assert_sound, balance, cost_balance, limit, operator_of, price, reserve
from tests.sql.steps import act, refused, user
from tests.support import Caller, Database

QUESTION = "What is the limit?"


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


@pytest.fixture
def tenant(tenants: Sequence[UUID]) -> UUID:
    return tenants[0]


@pytest.fixture
def ann(database: Database, tenant: UUID) -> Iterator[Caller]:
    with database.connect("app", tenant) as caller:
        yield caller


def hold(caller: Caller, question: str = QUESTION) -> UUID:
    return UUID(caller.call("budget.reserve_question", p_question=question)["held"])


def settle(caller: Caller, held: UUID, tokens: int | None) -> int:
    charged: int = caller.call("budget.settle_embedding", p_id=held, p_tokens=tokens)
    return charged


def ledger(database: Database, held: UUID) -> list[tuple[str, int, str]]:
    with database.connect() as operator:
        return operator.query("SELECT entry, tokens, model FROM budget.ledger WHERE turn_id = %s ORDER BY id", [held])


def test_the_estimate_is_held_and_what_was_counted_is_charged_once(
    database: Database, tenant: UUID, ann: Caller
) -> None:
    model = ann.call("rag.active_model")
    told = ann.call("budget.reserve_question", p_question=QUESTION)
    assert told["model"] == model
    held, estimate = UUID(told["held"]), ann.value("SELECT budget.estimate_tokens(%s) + 2", [QUESTION])
    assert balance(database, tenant)[1:] == (0, estimate)
    assert [settle(ann, held, 5), settle(ann, held, 7)] == [5, 5]
    assert balance(database, tenant)[1:] == (5, 0)
    name = model["name"]
    assert ledger(database, held) == [("reserve", estimate, name), ("release", estimate, name), ("settle", 5, name)]
    assert_sound(database, tenant)


def test_an_endpoint_that_does_not_count_costs_what_was_held_and_one_that_does_not_answer_nothing(
    database: Database, tenant: UUID, ann: Caller
) -> None:
    estimate = ann.value("SELECT budget.estimate_tokens(%s) + 2", [QUESTION])
    assert [settle(ann, hold(ann), None), settle(ann, hold(ann), 0)] == [estimate, 0]
    assert balance(database, tenant)[1:] == (estimate, 0)
    assert_sound(database, tenant)


def test_only_so_much_of_a_question_is_held_as_is_embedded(database: Database, tenant: UUID, ann: Caller) -> None:
    hold(ann, "A1" * 50_000)
    assert balance(database, tenant)[2] == 8002


def test_a_price_of_the_embedding_model_is_charged(database: Database, tenant: UUID, ann: Caller) -> None:
    price(database, ann.call("rag.active_model")["name"], 3, None)
    settle(ann, hold(ann), 5)
    assert cost_balance(database, tenant)[1:] == (15, 0)
    assert_sound(database, tenant)


def test_what_was_counted_beyond_the_estimate_is_charged_as_far_as_it_fits(
    database: Database, tenant: UUID, ann: Caller
) -> None:
    limit(database, tenant, 40)
    held = hold(ann)
    assert settle(ann, held, 100) == 40
    assert ledger(database, held)[-1][:2] == ("overrun", 60)
    assert balance(database, tenant) == (40, 40, 0)
    with refused("EA004"):
        hold(ann)
    assert_sound(database, tenant)


def test_nobody_settles_what_another_one_holds_or_a_turn(database: Database, tenant: UUID, ann: Caller) -> None:
    held = hold(ann)
    turn = UUID(ann.call("chat.begin_turn", p_message=QUESTION)["turn_id"])
    with database.connect("app", tenant, "bob") as bob:
        assert settle(bob, held, 5) == 0
    assert [settle(ann, turn, 5), settle(ann, uuid4(), 5)] == [0, 0]
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM budget.reservations WHERE closed_at IS NULL") == 2


def test_a_turn_settles_its_question_and_gives_what_was_held_too_much_to_itself(
    database: Database, tenant: UUID, ann: Caller
) -> None:
    needed = ann.call("chat.begin_turn", p_message=QUESTION, p_max_tokens=100)["reserved_tokens"]
    limit(database, tenant, needed + needed + 5)
    held = UUID(ann.call("chat.begin_turn", p_message=QUESTION, p_max_tokens=100, p_reserve=True)["held"])
    assert ann.value("SELECT count(*) FROM chat.turns") == 1
    accepted = ann.call("chat.begin_turn", p_message=QUESTION, p_max_tokens=100, p_held=held, p_held_tokens=5)
    assert accepted["reserved_tokens"] == needed
    assert balance(database, tenant) == (2 * needed + 5, 5, 2 * needed)
    assert_sound(database, tenant)


def test_a_turn_that_is_refused_leaves_what_is_held_to_be_settled(
    database: Database, tenant: UUID, ann: Caller
) -> None:
    limit(database, tenant, 50)
    held = hold(ann)
    with refused("EA004"):
        ann.call("chat.begin_turn", p_message=QUESTION, p_held=held, p_held_tokens=5)
    assert settle(ann, held, 5) == 5
    assert balance(database, tenant) == (50, 5, 0)
    assert_sound(database, tenant)


@pytest.mark.parametrize("function", ["chat.begin_turn", "chat.begin_completion"])
def test_a_repeat_holds_nothing_and_one_that_was_overtaken_settles(
    database: Database, tenant: UUID, ann: Caller, function: str
) -> None:
    asked: dict[str, Any] = {"p_message": QUESTION}
    first: dict[str, Any] = {}
    if function == "chat.begin_completion":
        asked = {"p_messages": '[{"role": "user", "content": "What is the limit?"}]', "p_collections": [], "p_worker": "w",
                 "p_lease": "1 minute"}  # fmt: skip
        first = {"p_embedded": True}
    asked["p_idempotency_key"] = "once"
    held, overtaken = (ann.call(function, **asked, p_reserve=True)["held"] for _ in range(2))
    turn = ann.call(function, **asked, **first, p_held=held, p_held_tokens=5)["turn_id"]
    assert ann.call(function, **asked, **first, p_held=overtaken, p_held_tokens=6)["turn_id"] == turn
    assert ann.call(function, **asked, p_reserve=True)["turn_id"] == turn
    assert [entry[1] for held_ in (held, overtaken) for entry in ledger(database, UUID(held_))[2:]] == [5, 6]
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM budget.reservations WHERE closed_at IS NULL") == 1
    assert_sound(database, tenant)


def test_a_search_settles_its_question(database: Database, tenant: UUID, ann: Caller) -> None:
    ann.call("rag.find", p_query=QUESTION, p_held=hold(ann), p_held_tokens=5)
    assert balance(database, tenant)[1:] == (5, 0)
    assert_sound(database, tenant)


def test_what_a_dead_process_held_is_given_back(database: Database, tenant: UUID, ann: Caller) -> None:
    held = hold(ann)
    with database.connect() as operator:
        operator.run("UPDATE budget.reservations SET expires_at = now() - interval '1 second'")
    assert ann.call("budget.expire")["count"] == 1
    assert settle(ann, held, 5) == 0
    assert balance(database, tenant)[1:] == (0, 0)
    assert_sound(database, tenant)


def test_a_user_who_is_erased_takes_along_what_is_held(database: Database, tenant: UUID) -> None:
    with database.connect("app", tenant, "bob") as bob:
        held, settled = hold(bob), hold(bob)
        settle(bob, settled, 5)
        act(database, tenant, "users.erase", "core.erase_user", p_user_id=user(database, tenant, "bob"))
        assert settle(bob, held, 5) == 0
    assert balance(database, tenant)[1:] == (5, 0)
    with database.connect() as operator:
        assert operator.value("SELECT count(*) FROM budget.reservations") == 0
    assert_sound(database, tenant)


def test_of_questions_at_once_exactly_those_that_fit_are_held_and_their_turns_pass_no_limit(
    database: Database, tenant: UUID
) -> None:
    """Each is held, settled with more than was held, and begins its turn, beside turns that nobody embeds for."""
    with operator_of(database, tenant) as operator:
        estimate = operator.value("SELECT budget.estimate_tokens(%s) + 2", [QUESTION])
    limit(database, tenant, 12 * estimate + estimate // 2)
    with ExitStack() as stack:
        callers = [stack.enter_context(database.connect("app", tenant, f"user-{n % 3}")) for n in range(30)]
        start = threading.Barrier(len(callers))
        admitted: list[tuple[Caller, UUID]] = []

        def attempt(caller: Caller) -> None:
            start.wait()
            try:
                held = hold(caller)
            except psycopg.Error as error:
                if error.sqlstate != "EA004":
                    raise
                return
            admitted.append((caller, held))

        with ThreadPoolExecutor(len(callers)) as threads:
            list(threads.map(attempt, callers))
            assert len(admitted) == 12
            assert_sound(database, tenant)
            charged = list(threads.map(lambda pair: settle(pair[0], pair[1], 10 * estimate), admitted))
    # Together they have counted far more than there is: what fits is charged, and not one token more.
    total = sum(charged)
    assert balance(database, tenant) == (12 * estimate + estimate // 2, total, 0)
    assert total == 12 * estimate + estimate // 2
    with operator_of(database, tenant) as operator, refused("EA004"):
        reserve(operator, 1)
    assert_sound(database, tenant)
