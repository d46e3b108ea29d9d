"""The breaker of a model: when it opens and closes, who may try, and that nobody waits for it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.routing_desk import HEAVY, LIGHT, SECURITY, STANDARD
from tests.sql.steps import answer, begin, claim
from tests.support import Caller, Database

QUESTION = "How many days of leave do I have?"
HEALTH = "SELECT state, failures, openings FROM routing.health WHERE model = %s"
REST = "SELECT extract(epoch FROM retry_at - updated_at)::numeric(9, 1) FROM routing.health WHERE model = %s"


@pytest.fixture(scope="module")
def tenant(module_database: Database) -> UUID:
    with module_database.connect() as operator:
        made: UUID = operator.call("core.provision_tenant", p_slug="breaker", p_name="Breaker")
    return made


@pytest.fixture
def operator(module_database: Database) -> Iterator[Caller]:
    with module_database.connect() as operator:
        yield operator
        operator.run("DELETE FROM routing.health")


def fail(operator: Caller, times: int = 1, model: str = STANDARD) -> str:
    """Report failures; return the state after the last."""
    states = [operator.call("routing.report", p_model=model, p_ok=False, p_error="model_timeout") for _ in range(times)]
    return str(states[-1])


def succeed(operator: Caller, milliseconds: float = 100, model: str = STANDARD) -> str:
    """Report an answer; return the state after it."""
    return str(operator.call("routing.report", p_model=model, p_ok=True, p_latency_ms=milliseconds))


def health(operator: Caller, model: str = STANDARD) -> tuple[Any, ...]:
    """Return a model's state, failures in a row and openings."""
    return operator.query(HEALTH, [model])[0]


def end_rest(operator: Caller, model: str = STANDARD) -> None:
    """Let the rest of a model be over."""
    assert operator.run("UPDATE routing.health SET retry_at = clock_timestamp() WHERE model = %s", [model]) == 1


def chosen(caller: Caller, question: str = QUESTION) -> str:
    """Return the model that would answer."""
    return str(caller.call("routing.choose", p_question=question)["model"])


def test_it_opens_at_the_fifth_failure_in_a_row(operator: Caller) -> None:
    assert [fail(operator) for _ in range(4)] == ["closed"] * 4
    assert (health(operator), chosen(operator)) == (("closed", 4, 0), STANDARD)
    assert fail(operator) == "open"
    assert (health(operator), chosen(operator)) == (("open", 5, 1), LIGHT)
    assert chosen(operator, SECURITY) == HEAVY, "other models are not concerned"
    last = operator.query("SELECT last_error, last_failure_at IS NOT NULL, last_success_at FROM routing.health")
    assert last == [("model_timeout", True, None)]


def test_an_answer_in_between_begins_the_count_anew(operator: Caller) -> None:
    fail(operator, 4)
    assert succeed(operator) == "closed"
    assert fail(operator, 4) == "closed"
    assert health(operator) == ("closed", 4, 0)
    assert fail(operator) == "open"


def test_what_fails_while_it_is_open_does_not_lengthen_its_rest(operator: Caller) -> None:
    fail(operator, 5)
    before = operator.value("SELECT retry_at FROM routing.health")
    assert fail(operator, 7) == "open"
    assert operator.value("SELECT retry_at FROM routing.health") == before
    assert health(operator) == ("open", 12, 1)


def test_its_rest_doubles_up_to_ten_minutes(operator: Caller) -> None:
    fail(operator, 5)
    rests = [operator.value(REST, [STANDARD])]
    for _ in range(12):
        end_rest(operator)
        assert operator.call("routing.begin_trial", p_model=STANDARD)
        assert fail(operator) == "open", "a trial that fails opens it at once"
        rests.append(operator.value(REST, [STANDARD]))
    assert [float(rest) for rest in rests] == [30, 60, 120, 240, 480, *[600] * 8]
    end_rest(operator)
    assert operator.call("routing.begin_trial", p_model=STANDARD)
    assert succeed(operator) == "closed"
    assert health(operator) == ("closed", 0, 0)
    fail(operator, 5)
    assert operator.value(REST, [STANDARD]) == 30, "after an answer it is trusted again"


def test_one_at_a_time_tries_it(module_database: Database, operator: Caller) -> None:
    fail(operator, 5)
    assert not operator.call("routing.begin_trial", p_model=STANDARD), "its rest is not over"
    end_rest(operator)

    def attempt(_: int) -> bool:
        with module_database.connect() as session:
            return bool(session.call("routing.admit", p_model=STANDARD))

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(attempt, range(16))) == [False] * 15 + [True]
    assert (health(operator)[0], chosen(operator)) == ("half_open", LIGHT)
    assert operator.call("routing.admit", p_model=LIGHT), "a model that answers admits everybody"


def test_of_turns_at_once_one_goes_to_the_model_on_trial(
    module_database: Database, operator: Caller, tenant: UUID
) -> None:
    fail(operator, 5)
    end_rest(operator)

    def ask(number: int) -> str:
        with module_database.connect("app", tenant, f"user-{number}") as app:
            return str(begin(app, QUESTION)["model"])

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(ask, range(6))) == [LIGHT] * 5 + [STANDARD]


def test_a_second_session_waits_for_the_trial_and_then_chooses_another(
    module_database: Database, operator: Caller, tenant: UUID
) -> None:
    fail(operator, 5)
    end_rest(operator)
    with (
        module_database.connect("app", tenant) as first,
        module_database.connect("app", tenant, "ben") as second,
        ThreadPoolExecutor(1) as thread,
    ):
        with first.connection.transaction():
            assert begin(first, QUESTION)["model"] == STANDARD
            waiting = thread.submit(begin, second, QUESTION)
            pid = second.connection.info.backend_pid
            while not operator.value("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]):
                assert not waiting.done()
        assert waiting.result(10)["model"] == LIGHT


def test_a_probe_and_a_turn_do_not_try_it_both(module_database: Database, operator: Caller, tenant: UUID) -> None:
    fail(operator, 5)
    end_rest(operator)
    with module_database.connect("app") as probe, module_database.connect("app", tenant) as app:
        assert probe.rows("routing.claim_probes") == [(STANDARD, None)]
        assert probe.rows("routing.claim_probes") == []
        assert begin(app, QUESTION)["model"] == LIGHT
        assert probe.call("routing.report_probe", p_model=STANDARD, p_ok=True, p_latency_ms=5) == "closed"
        assert begin(app, QUESTION)["model"] == STANDARD


def test_a_trial_of_which_nothing_is_heard_is_over_after_two_minutes(operator: Caller) -> None:
    fail(operator, 5)
    end_rest(operator)
    assert operator.call("routing.begin_trial", p_model=STANDARD)
    assert operator.value(REST, [STANDARD]) == 120
    end_rest(operator)
    assert operator.call("routing.begin_trial", p_model=STANDARD), "somebody else may try"


def test_a_disabled_model_is_not_probed(module_database: Database, operator: Caller) -> None:
    fail(operator, 5)
    end_rest(operator)
    operator.run("UPDATE routing.models SET enabled = false WHERE name = %s", [STANDARD])
    with module_database.connect("app") as probe:
        assert probe.rows("routing.claim_probes") == []
    operator.run("UPDATE routing.models SET enabled = true WHERE name = %s", [STANDARD])


def test_a_model_that_is_in_no_registry_has_no_breaker(operator: Caller) -> None:
    assert operator.call("routing.report", p_model="gpt-99", p_ok=False) is None
    assert operator.value("SELECT count(*) FROM routing.health") == 0


FAILURES = {
    "model_unavailable": 1,
    "model_timeout": 1,
    "model_stream_broken": 1,
    "model_refused": 0,
    "attempts_exhausted": 0,
    "internal_error": 0,
}


@pytest.mark.parametrize(("code", "counted"), FAILURES.items())
def test_a_failed_turn_counts_against_its_model_unless_the_model_refused_it(
    module_database: Database, operator: Caller, tenant: UUID, code: str, counted: int
) -> None:
    with module_database.connect("app", tenant) as app:
        turn = begin(app, QUESTION)["turn_id"]
    job = claim(module_database, tenant, turn)
    with module_database.connect("app") as app, app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenant, p_function="inference")
        app.call(
            "inference.fail", p_job_id=job, p_worker="w", p_attempt=1, p_code=code, p_detail="", p_generated="",
            p_event_source="/test", p_event_id=str(uuid4()),
        )  # fmt: skip
    expected = [(1, code)] if counted else []
    assert operator.query("SELECT failures, last_error FROM routing.health") == expected


def complete(database: Database, tenant: UUID, turn: str, first_token_ms: float | None) -> None:
    """Answer a turn whose first token came after so long."""
    job = claim(database, tenant, turn)
    with database.connect("app") as app, app.connection.transaction():
        app.call("core.enter_function", p_tenant_id=tenant, p_function="inference")
        app.connection.execute("SET LOCAL lock_timeout = '2s'")
        app.call(
            "inference.complete", p_job_id=job, p_worker="w", p_attempt=1, p_status="completed", p_content="Ten.",
            p_prompt_tokens=20, p_completion_tokens=5, p_event_source="/test", p_event_id=str(uuid4()),
            p_first_token_ms=first_token_ms,
        )  # fmt: skip


def test_an_answered_turn_speaks_for_its_model(module_database: Database, operator: Caller, tenant: UUID) -> None:
    fail(operator, 4)
    with module_database.connect("app", tenant) as app:
        turns = [begin(app, QUESTION)["turn_id"] for _ in range(2)]
    complete(module_database, tenant, turns[0], None)
    assert health(operator) == ("closed", 4, 0), (
        "an answer without a first token, of a worker that took over, says nothing"
    )
    complete(module_database, tenant, turns[1], 250)
    assert health(operator) == ("closed", 0, 0)
    assert operator.value("SELECT latency_ms FROM routing.health") == 250


def test_the_turn_that_tries_a_model_closes_it(module_database: Database, operator: Caller, tenant: UUID) -> None:
    fail(operator, 5)
    end_rest(operator)
    with module_database.connect("app", tenant) as app:
        turn = begin(app, QUESTION)
    assert (turn["model"], health(operator)[0]) == (STANDARD, "half_open")
    complete(module_database, tenant, turn["turn_id"], 10)
    assert health(operator) == ("closed", 0, 0)


VERSION = "SELECT xmin::text, ctid::text FROM routing.health WHERE model = %s"


def test_that_all_is_well_is_written_every_ten_seconds_at_most(operator: Caller) -> None:
    succeed(operator, 100)
    version = operator.query(VERSION, [STANDARD])
    for _ in range(20):
        assert succeed(operator, 500) == "closed"
    assert operator.query(VERSION, [STANDARD]) == version
    operator.run("UPDATE routing.health SET updated_at = updated_at - interval '11 seconds'")
    version = operator.query(VERSION, [STANDARD])
    succeed(operator, 200)
    assert operator.query(VERSION, [STANDARD]) != version
    assert operator.value("SELECT latency_ms FROM routing.health") == pytest.approx(120), "a moving average"
    fail(operator)
    succeed(operator, 120)
    assert health(operator) == ("closed", 0, 0), "what ends a row of failures is written at once"


def test_a_completion_waits_for_nobody_who_holds_the_models_row(
    module_database: Database, operator: Caller, tenant: UUID
) -> None:
    fail(operator, 2)
    with module_database.connect("app", tenant) as app:
        turn = begin(app, QUESTION)["turn_id"]
    with module_database.connect() as other, other.connection.transaction():
        other.run("UPDATE routing.health SET failures = 3 WHERE model = %s", [STANDARD])
        complete(module_database, tenant, turn, 10)
    assert operator.value("SELECT status FROM chat.turns WHERE id = %s", [turn]) == "completed"
    assert health(operator) == ("closed", 3, 0)


def test_answers_at_once_do_not_wait_for_each_other(module_database: Database, operator: Caller, tenant: UUID) -> None:
    succeed(operator)
    operator.run("UPDATE routing.health SET updated_at = '-infinity'")
    with module_database.connect("app", tenant) as app:
        turn = begin(app, QUESTION)["turn_id"]
    with module_database.connect() as other, other.connection.transaction():
        succeed(other)
        complete(module_database, tenant, turn, 10)
    assert answer(module_database, tenant, _begin(module_database, tenant))["status"] == "completed"


def _begin(database: Database, tenant: UUID) -> str:
    with database.connect("app", tenant) as app:
        turn: str = begin(app, QUESTION)["turn_id"]
    return turn


def test_the_state_of_every_enabled_model_can_be_read(
    module_database: Database, operator: Caller, tenant: UUID
) -> None:
    fail(operator, 5)
    with module_database.connect("app", tenant) as app:
        listed = {entry["model"]: entry for entry in app.call("routing.list_health")}
    assert list(listed) == [LIGHT, STANDARD, HEAVY]
    assert (listed[LIGHT]["state"], listed[LIGHT]["failures"]) == ("closed", 0)
    assert (listed[STANDARD]["state"], listed[STANDARD]["failures"], listed[STANDARD]["last_error"]) == (
        "open",
        5,
        "model_timeout",
    )
    assert listed[STANDARD]["retry_at"]
