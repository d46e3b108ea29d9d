"""Conversations: the tree of messages, other answers, the list, deletion, and what is taken along."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.steps import (
    LEASE,
    act,
    answer,
    assert_balances_follow_from_the_ledger,
    begin,
    claim,
    entries,
    refused,
    renew,
    user,
)
from tests.sql.test_erasure import KEPT, TOLD_BY_OTHERS, contents
from tests.support import Caller, Database, add_document, vector

WAITING = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app' AND wait_event_type = 'Lock')
"""


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


@pytest.fixture
def ann(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0], "ann", operation="chat.manage", roles=["member"]) as caller:
        yield caller


def ask(ann: Caller, database: Database, tenant: UUID, message: str, said: str, **arguments: Any) -> Any:
    """Ask and have it answered; return the turn as it ended."""
    turn = begin(ann, message, **arguments)
    return answer(database, tenant, turn["turn_id"], said)


def tree(caller: Caller, conversation: str) -> Any:
    return caller.call("chat.read_conversation", p_conversation_id=conversation)


def prompt(caller: Caller, turn: str) -> list[str]:
    """Return what the model is sent after the system message."""
    return [message["content"] for message in caller.call("chat.prompt", p_turn_id=turn)[1:]]


def fail(database: Database, tenant: UUID, turn: str) -> None:
    job = claim(database, tenant, turn)
    with database.connect("app", tenant) as worker:
        worker.call(
            "inference.fail",
            p_job_id=job, p_worker="w", p_attempt=1, p_code="model_unavailable", p_detail="down", p_generated="",
        )  # fmt: skip


def shape(document: Any) -> dict[str, str | None]:
    """Return the content of each message's parent by the content of the message."""
    content = {message["id"]: message["content"] for message in document["messages"]}
    assert len(set(content.values())) == len(document["messages"])
    return {m["content"]: content[m["parent_id"]] if m["parent_id"] else None for m in document["messages"]}


def test_messages_form_a_tree_and_each_branch_is_answered_from_itself_alone(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    first = ask(ann, database, tenants[0], "Q1", "A1")
    conversation = first["conversation_id"]
    here = {"p_conversation_id": conversation}
    second = ask(ann, database, tenants[0], "Q2", "A2", **here)
    assert tree(ann, conversation)["leaf_id"] == second["message_id"]
    edited = ask(ann, database, tenants[0], "Q2 edited", "A2 edited", **here, p_edits=second["turn_id"])
    beside = ask(ann, database, tenants[0], "Q3 of the first", "A3", **here, p_parent_id=second["message_id"])
    newest = begin(ann, "Q3 of the newest", **here, p_parent_id=edited["message_id"])
    anew = begin(ann, "Q1 edited", **here, p_edits=first["turn_id"])

    found = tree(ann, conversation)
    assert shape(found) == {
        "Q1": None, "A1": "Q1",
        "Q2": "A1", "A2": "Q2", "Q3 of the first": "A2", "A3": "Q3 of the first",
        "Q2 edited": "A1", "A2 edited": "Q2 edited", "Q3 of the newest": "A2 edited",
        "Q1 edited": None,
    }  # fmt: skip
    assert prompt(ann, beside["turn_id"]) == ["Q1", "A1", "Q2", "A2", "Q3 of the first"]
    assert prompt(ann, newest["turn_id"]) == ["Q1", "A1", "Q2 edited", "A2 edited", "Q3 of the newest"]
    assert prompt(ann, anew["turn_id"]) == ["Q1 edited"]
    assert found["leaf_id"] == next(m["id"] for m in found["messages"] if m["content"] == "Q1 edited")
    assert [(turn["turn_id"], turn["status"]) for turn in found["unanswered"]] == [
        (newest["turn_id"], "queued"), (anew["turn_id"], "queued"),
    ]  # fmt: skip
    assert {(m["role"], m["status"], m["model"] is None) for m in found["messages"]} == {
        ("user", None, True), ("assistant", "completed", False),
    }  # fmt: skip


def test_a_place_is_one_of_the_conversation_itself(ann: Caller, database: Database, tenants: Sequence[UUID]) -> None:
    here = ask(ann, database, tenants[0], "Here?", "Yes.")
    other = ask(ann, database, tenants[0], "There?", "No.")
    conversation = {"p_conversation_id": here["conversation_id"]}
    for place in (
        {"p_parent_id": other["message_id"]}, {"p_edits": other["turn_id"]}, {"p_parent_id": uuid4()},
        {"p_parent_id": here["question_id"]}, {"p_edits": uuid4()},
    ):  # fmt: skip
        with refused("EA002"):
            begin(ann, **conversation, **place)
    with refused("EA012"):
        begin(ann, **conversation, p_parent_id=here["message_id"], p_edits=here["turn_id"])
    with refused("EA012"):
        begin(ann, p_parent_id=here["message_id"])
    assert len(tree(ann, here["conversation_id"])["messages"]) == 2


def test_another_answer_stands_beside_the_first_and_is_from_the_same_passages(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    add_document(ann, "limits.md", ["The limit is ten."])
    before = ask(ann, database, tenants[0], "Earlier?", "Yes.")
    here = {"p_conversation_id": before["conversation_id"]}
    first = ask(ann, database, tenants[0], "What?", "Ten [1].", p_embedding=vector(1.0), p_max_tokens=77, **here)
    sent = ann.call("chat.prompt", p_turn_id=first["turn_id"])
    add_document(ann, "limits.md", ["The limit is twelve now."])
    again = ann.call("chat.regenerate_turn", p_turn_id=first["turn_id"])
    assert ann.call("chat.prompt", p_turn_id=again["turn_id"]) == sent
    assert (again["conversation_id"], again["max_tokens"], again["retrieval"]) == (
        before["conversation_id"], 77, {"mode": "hybrid"},
    )  # fmt: skip
    running = tree(ann, before["conversation_id"])
    assert [(turn["turn_id"], turn["question_id"]) for turn in running["unanswered"]] == [
        (again["turn_id"], first["question_id"])
    ]
    second = answer(database, tenants[0], again["turn_id"], "It is ten [1].")
    assert [c["quote"] for c in second["citations"]] == ["The limit is ten."]
    found = tree(ann, before["conversation_id"])
    assert shape(found) == {
        "Earlier?": None, "Yes.": "Earlier?", "What?": "Yes.", "Ten [1].": "What?", "It is ten [1].": "What?",
    }  # fmt: skip
    assert (found["leaf_id"], found["unanswered"]) == (second["message_id"], [])
    # What follows one of the two holds that one.
    for chosen, said in ((first, "Ten [1]."), (second, "It is ten [1].")):
        turn = begin(ann, "And?", **here, p_parent_id=chosen["message_id"])["turn_id"]
        assert prompt(ann, turn) == ["Earlier?", "Yes.", "What?", said, "And?"]
    assert_balances_follow_from_the_ledger(database, tenants[0])


def test_another_answer_may_be_another_models(ann: Caller, database: Database, tenants: Sequence[UUID]) -> None:
    first = ask(ann, database, tenants[0], "What?", "Ten.", p_model="light")
    same = ann.call("chat.regenerate_turn", p_turn_id=first["turn_id"])
    assert (same["model"], same["routing"]["requested"]) == ("local/extractive-light", "light")
    other = ann.call("chat.regenerate_turn", p_turn_id=first["turn_id"], p_model="heavy", p_max_tokens=5)
    assert (other["model"], other["max_tokens"]) == ("local/extractive-heavy", 5)
    with refused("EA006"):
        ann.call("chat.regenerate_turn", p_turn_id=first["turn_id"], p_model="nobody")


def test_a_failed_turn_is_answered_in_a_new_one(ann: Caller, database: Database, tenants: Sequence[UUID]) -> None:
    first = begin(ann, "What?")
    fail(database, tenants[0], first["turn_id"])
    [unanswered] = tree(ann, first["conversation_id"])["unanswered"]
    assert (unanswered["status"], unanswered["error"]["code"]) == ("failed", "model_unavailable")
    again = ann.call("chat.regenerate_turn", p_turn_id=first["turn_id"])
    second = answer(database, tenants[0], again["turn_id"], "Ten.")
    found = tree(ann, first["conversation_id"])
    assert shape(found) == {"What?": None, "Ten.": "What?"}
    assert [turn["turn_id"] for turn in found["unanswered"]] == [first["turn_id"]]
    assert found["leaf_id"] == second["message_id"]


def test_a_turn_that_has_not_ended_gets_no_second_answer(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    turn = begin(ann)["turn_id"]
    with refused("EA013"):
        ann.call("chat.regenerate_turn", p_turn_id=turn)
    claim(database, tenants[0], turn)
    with refused("EA013"):
        ann.call("chat.regenerate_turn", p_turn_id=turn)


def test_one_key_is_one_answer_more(ann: Caller, database: Database, tenants: Sequence[UUID]) -> None:
    first = ask(ann, database, tenants[0], "What?", "Ten.")
    wanted = {"p_turn_id": first["turn_id"], "p_idempotency_key": "once"}
    again = ann.call("chat.regenerate_turn", **wanted)
    replayed = ann.call("chat.regenerate_turn", **wanted)
    assert (replayed["turn_id"], again["replayed"], replayed["replayed"]) == (again["turn_id"], False, True)
    with refused("EA003"):
        ann.call("chat.regenerate_turn", **wanted, p_model="heavy")
    with refused("EA003"):
        begin(ann, "What?", p_idempotency_key="once")
    assert ann.value("SELECT count(*) FROM chat.turns") == 2


def test_only_what_was_asked_in_an_own_conversation_is_answered_again(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    first = ask(ann, database, tenants[0], "What?", "Ten.")
    act(
        database, tenants[0], "chat.share", "chat.share_conversation",
        p_conversation_id=first["conversation_id"], p_whole_tenant=True,
    )  # fmt: skip
    strangers = ((tenants[0], "bob"), (tenants[1], "ann"))
    for tenant, subject in strangers:
        with refused("EA002"):
            act(database, tenant, "chat.ask", "chat.regenerate_turn", subject=subject, p_turn_id=first["turn_id"])
    completion = ann.call("chat.begin_completion", p_messages='[{"role": "user", "content": "Hi"}]')
    ann.call("chat.stop_turn", p_turn_id=completion["turn_id"])
    with refused("EA002"):
        ann.call("chat.regenerate_turn", p_turn_id=completion["turn_id"])


def test_pages_hold_every_conversation_once_while_new_ones_appear(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    wanted = [begin(ann, f"Question {number}")["conversation_id"] for number in range(9)]
    with database.connect() as operator:
        # Several at the same instant, as an import makes them.
        operator.run("UPDATE chat.conversations SET updated_at = date_trunc('minute', updated_at) - interval '1 hour'")
    with database.connect("app", tenants[0], "bob") as bob:
        begin(bob, "Mine")
    seen: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = ann.call("chat.list_conversations", p_cursor=cursor, p_limit=2)
        assert len(page["conversations"]) == (2 if page["next_cursor"] else 1)
        seen += [conversation["id"] for conversation in page["conversations"]]
        cursor, pages = page["next_cursor"], pages + 1
        begin(ann, f"Meanwhile {pages}")
    assert sorted(seen) == sorted(wanted)
    assert pages == 5
    everything = ann.call("chat.list_conversations")["conversations"]
    assert [c["title"] for c in everything[:2]] == ["Meanwhile 5", "Meanwhile 4"]
    assert len(everything) == 9 + pages


def test_a_page_that_ends_with_the_last_conversation_has_no_next(ann: Caller) -> None:
    for number in range(4):
        begin(ann, f"Question {number}")
    first = ann.call("chat.list_conversations", p_limit=2)
    last = ann.call("chat.list_conversations", p_limit=2, p_cursor=first["next_cursor"])
    assert (len(last["conversations"]), last["next_cursor"]) == (2, None)


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "-", "1-", f"1-{'g' * 32}", f"-1-{'0' * 32}", f"{'9' * 17}-{'0' * 32}", f"1-{'0' * 32}\n"]
)
def test_a_cursor_of_no_list_is_refused(ann: Caller, cursor: str) -> None:
    with refused("EA012"):
        ann.call("chat.list_conversations", p_cursor=cursor)


def test_an_archived_conversation_is_listed_only_where_it_is_asked_for(ann: Caller) -> None:
    kept, put_away = begin(ann, "Kept")["conversation_id"], begin(ann, "Put away")["conversation_id"]
    archived = ann.call("chat.update_conversation", p_conversation_id=put_away, p_archived=True)
    assert archived["archived_at"] is not None
    again = ann.call("chat.update_conversation", p_conversation_id=put_away, p_archived=True)
    assert again["archived_at"] == archived["archived_at"]

    def listed(*, archived: bool) -> list[str]:
        return [c["id"] for c in ann.call("chat.list_conversations", p_archived=archived)["conversations"]]

    assert (listed(archived=False), listed(archived=True)) == ([kept], [put_away])
    ann.call("chat.update_conversation", p_conversation_id=put_away, p_archived=False)
    assert (listed(archived=False), listed(archived=True)) == ([put_away, kept], [])


def test_what_is_said_moves_a_conversation_and_a_new_name_does_not(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    old, new = begin(ann, "Old"), begin(ann, "New")

    def first() -> str:
        return str(ann.call("chat.list_conversations", p_limit=1)["conversations"][0]["title"])

    assert first() == "New"
    answer(database, tenants[0], old["turn_id"], "Yes.")
    assert first() == "Old"
    begin(ann, "And?", p_conversation_id=new["conversation_id"])
    assert first() == "New"
    ann.call("chat.regenerate_turn", p_turn_id=old["turn_id"])
    assert first() == "Old"
    ann.call("chat.update_conversation", p_conversation_id=new["conversation_id"], p_title="Named")
    assert first() == "Old"


def test_what_others_share_is_listed_apart_and_only_read(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    bob = user(database, tenants[0], "bob", ["viewer"])
    shared = ask(ann, database, tenants[0], "Shared?", "Yes.")
    begin(ann, "Not shared?")
    conversation = shared["conversation_id"]
    act(
        database, tenants[0], "chat.share", "chat.share_conversation",
        roles=["member"], p_conversation_id=conversation, p_users=[bob],
    )  # fmt: skip
    assert ann.call("chat.list_conversations", p_shared=True)["conversations"] == []
    with database.connect("app", tenants[0], "bob", operation="chat.manage", roles=["member"]) as reader:
        assert reader.call("chat.list_conversations")["conversations"] == []
        [listed] = reader.call("chat.list_conversations", p_shared=True)["conversations"]
        assert (listed["id"], listed["title"]) == (conversation, "Shared?")
        assert tree(reader, conversation) == tree(ann, conversation)
        exported = {"p_conversation_id": conversation}
        assert reader.call("chat.export_markdown", **exported) == ann.call("chat.export_markdown", **exported)
        for function, arguments in (
            ("chat.update_conversation", {"p_title": "Mine now"}),
            ("chat.update_conversation", {"p_archived": True}),
            ("chat.delete_conversation", {}),
        ):
            with refused("EA002"):
                reader.call(function, p_conversation_id=conversation, **arguments)
    assert [m["content"] for m in tree(ann, conversation)["messages"]] == ["Shared?", "Yes."]


@pytest.mark.parametrize("tenant", [0, 1])
def test_a_conversation_that_is_not_shared_is_unknown_to_others(
    ann: Caller, database: Database, tenants: Sequence[UUID], tenant: int
) -> None:
    conversation = ask(ann, database, tenants[0], "Mine?", "Yes.")["conversation_id"]
    with database.connect("app", tenants[tenant], "eve", operation="chat.manage", roles=["tenant_admin"]) as eve:
        for function in ("read_conversation", "export_markdown", "update_conversation", "delete_conversation"):
            with refused("EA002"):
                eve.call(f"chat.{function}", p_conversation_id=conversation)
        assert eve.value("SELECT chat.newest_leaf(%s)", [conversation]) is None
    assert len(tree(ann, conversation)["messages"]) == 2


def test_who_was_not_admitted_to_it_deletes_and_renames_nothing(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0], "ann", operation="chat.ask") as ann:
        conversation = begin(ann)["conversation_id"]
        for function in ("chat.update_conversation", "chat.delete_conversation"):
            with refused("EA008"):
                ann.call(function, p_conversation_id=conversation)


def mentions(database: Database, ids: Sequence[str]) -> set[str]:
    """Return the tables in which one of the ids stands anywhere."""
    with database.connect() as operator:
        return {
            table
            for table, rows in contents(operator).items()
            if any(id_ in str(row) for row in rows for id_ in ids)
        }  # fmt: skip


def test_deleting_ends_what_is_generated_leaves_no_row_and_keeps_the_accounts(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    tenant = tenants[0]
    add_document(ann, "limits.md", ["The limit is ten."])
    answered = ask(ann, database, tenant, "What?", "Ten [1].", p_embedding=vector(1.0))
    conversation = answered["conversation_id"]
    here = {"p_conversation_id": conversation}
    act(database, tenant, "chat.share", "chat.share_conversation", **here, p_whole_tenant=True)
    queued = begin(ann, "Queued?", **here)
    running = begin(ann, "Running?", **here, p_edits=answered["turn_id"])
    job = claim(database, tenant, running["turn_id"])
    other = ask(ann, database, tenant, "Elsewhere?", "Yes.")
    elsewhere = begin(ann, "Still?", p_conversation_id=other["conversation_id"])
    before = tree(ann, other["conversation_id"])
    ids = [conversation, *(turn["turn_id"] for turn in (answered, queued, running))]
    ids += [message["id"] for message in tree(ann, conversation)["messages"]]
    assert {"chat.shares", "chat.passages", "chat.citations", "inference.jobs"} <= mentions(database, ids)

    assert ann.call("chat.delete_conversation", p_conversation_id=conversation) == ""
    assert mentions(database, ids) <= KEPT | TOLD_BY_OTHERS
    assert "budget.ledger" in mentions(database, [answered["turn_id"]])
    # What the running one held is charged, because nobody knows what it had used; the queued one costs nothing.
    charged = answered["charged_tokens"] + other["charged_tokens"] + running["reserved_tokens"]
    held = elsewhere["reserved_tokens"]
    assert set(ann.query("SELECT settled, reserved FROM budget.balances")) == {(charged, held)}
    assert_balances_follow_from_the_ledger(database, tenant)
    assert tree(ann, other["conversation_id"]) == before

    with database.connect("app", tenant) as worker:
        assert renew(worker, tenant, job) == "lost"
        with refused("EA005"):
            worker.call(
                "inference.complete",
                p_job_id=job, p_worker="w", p_attempt=1, p_status="completed", p_content="Late.",
                p_prompt_tokens=1, p_completion_tokens=1,
            )  # fmt: skip
        with refused("EA002"):
            worker.call("inference.claim", p_job_id=job, p_worker="w2", p_lease=LEASE)
    assert_balances_follow_from_the_ledger(database, tenant)
    actor, action, object_, data = entries(database, tenant)[-1][1:]
    assert (actor.split(":")[0], action, object_, data) == ("user", "conversation.deleted", conversation, {"turns": 3})
    with refused("EA002"):
        ann.call("chat.delete_conversation", p_conversation_id=conversation)


def test_an_answer_that_arrives_while_its_conversation_is_deleted_does_not_deadlock(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    """Whoever ends a turn holds its job, and writes an answer that refers to the conversation, which the deletion holds."""
    tenant = tenants[0]
    turns = [begin(ann)]
    turns += [begin(ann, p_conversation_id=turns[0]["conversation_id"]) for _ in range(3)]
    last = max((turn["turn_id"] for turn in turns), key=UUID)
    job = claim(database, tenant, last)
    with (
        database.connect() as operator,
        database.connect("postgres", tenant) as worker,
        ThreadPoolExecutor(1) as thread,
    ):
        with worker.connection.transaction():
            worker.run("SELECT FROM inference.jobs WHERE id = %s FOR UPDATE", [job])
            deletion = thread.submit(
                ann.call, "chat.delete_conversation", p_conversation_id=turns[0]["conversation_id"]
            )
            while not operator.value(WAITING):
                assert not deletion.done()
            ended = worker.call(
                "inference.complete",
                p_job_id=job, p_worker="w", p_attempt=1, p_status="completed", p_content="Just in time.",
                p_prompt_tokens=20, p_completion_tokens=5,
            )  # fmt: skip
        deletion.result(timeout=60)
    assert ended["charged_tokens"] == 25
    assert ann.query("SELECT id FROM chat.conversations") == []
    assert set(ann.query("SELECT settled, reserved FROM budget.balances")) == {(25, 0)}
    assert_balances_follow_from_the_ledger(database, tenant)


def test_a_question_that_arrives_while_its_conversation_is_deleted_is_refused(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    first = ask(ann, database, tenants[0], "What?", "Ten.")
    with (
        database.connect() as operator,
        database.connect("app", tenants[0], "ann") as asking,
        ThreadPoolExecutor(1) as thread,
    ):
        for function, arguments in (
            ("chat.begin_turn", {"p_message": "And?", "p_conversation_id": first["conversation_id"]}),
            ("chat.regenerate_turn", {"p_turn_id": first["turn_id"]}),
        ):
            with ann.connection.transaction(force_rollback=function == "chat.begin_turn"):
                ann.call("chat.delete_conversation", p_conversation_id=first["conversation_id"])
                asked = thread.submit(asking.call, function, **arguments)
                while not operator.value(WAITING):
                    assert not asked.done()
            if function == "chat.begin_turn":
                assert asked.result(timeout=60)["replayed"] is False, "it was not deleted after all"
            else:
                with refused("EA002"):
                    asked.result(timeout=60)
    assert_balances_follow_from_the_ledger(database, tenants[0])


def test_a_branch_is_taken_along_as_markdown_with_its_citations_as_footnotes(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    add_document(ann, "limits.md", ["The limit\nis ten."])
    first = ask(ann, database, tenants[0], "What is\nthe limit [1]?", "Ten [1], not [2].", p_embedding=vector(1.0))
    here = {"p_conversation_id": first["conversation_id"]}
    second = ask(ann, database, tenants[0], "Sure?", "Yes [1].", p_embedding=vector(1.0), **here)
    other = ask(ann, database, tenants[0], "Really?", "No.", p_edits=second["turn_id"], **here)
    heading = "# What is the limit [1]?\n\n## Question\n\nWhat is\nthe limit [1]?\n\n## Answer (local/extractive-standard)\n\n"
    note = 'limits.md > limits.md: "The limit is ten."\n'
    assert ann.call("chat.export_markdown", **here, p_leaf_id=second["message_id"]) == {
        "title": "What is the limit [1]?",
        "markdown": heading
        + "Ten [^2-1], not [2].\n\n## Question\n\nSure?\n\n## Answer (local/extractive-standard)\n\n"
        f"Yes [^4-1].\n\n[^2-1]: {note}[^4-1]: {note}",
    }
    newest = ann.call("chat.export_markdown", **here)
    assert newest == ann.call("chat.export_markdown", **here, p_leaf_id=other["message_id"])
    assert newest["markdown"].endswith(
        f"Ten [^2-1], not [2].\n\n## Question\n\nReally?\n\n## Answer (local/extractive-standard)\n\nNo.\n\n[^2-1]: {note}"
    )
    beginning = ann.call("chat.export_markdown", **here, p_leaf_id=first["question_id"])["markdown"]
    assert beginning == "# What is the limit [1]?\n\n## Question\n\nWhat is\nthe limit [1]?\n"
    elsewhere = ask(ann, database, tenants[0], "Elsewhere?", "Yes.")
    for leaf in (uuid4(), elsewhere["message_id"], first["turn_id"]):
        with refused("EA002"):
            ann.call("chat.export_markdown", **here, p_leaf_id=leaf)
