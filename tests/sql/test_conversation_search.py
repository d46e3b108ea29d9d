"""Searching one's conversations: by words, ranked, with what was found marked, by index, and nobody else's."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from tests.sql.steps import act, answer, begin, refused
from tests.support import Caller, Database


@pytest.fixture
def database(cleared_database: Database) -> Database:
    return cleared_database


@pytest.fixture
def ann(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0], "ann", operation="chat.manage", roles=["member"]) as caller:
        yield caller


def search(caller: Caller, query: str, **arguments: Any) -> list[Any]:
    found: list[Any] = caller.call("chat.search_conversations", p_query=query, **arguments)
    return found


def titles(caller: Caller, query: str) -> list[str]:
    return [hit["conversation"]["title"] for hit in search(caller, query)]


def shown(hit: Any) -> str:
    """Return a snippet with what was found in brackets."""
    return "".join(f"[{piece['text']}]" if piece["match"] else piece["text"] for piece in hit["snippet"])


def test_words_of_questions_answers_and_titles_are_found_and_marked(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    turn = begin(ann, "How long may we stay?")
    answer(database, tenants[0], turn["turn_id"], "Employees have thirty <b>vacations</b> a year.")
    begin(ann, "Something else entirely")
    ann.call("chat.update_conversation", p_conversation_id=turn["conversation_id"], p_title="The long summer")
    [hit] = search(ann, "vacation")
    assert shown(hit) == "Employees have thirty  [vacations]  a year.", "a snippet leaves tags out"
    assert hit["message_id"] == ann.call("chat.read_turn", p_turn_id=turn["turn_id"])["message_id"]
    assert hit["conversation"]["id"] == turn["conversation_id"]
    [hit] = search(ann, "summer")
    assert (shown(hit), hit["message_id"]) == ("The long [summer]", None)
    assert titles(ann, "thirty employees") == ["The long summer"], "in whatever order"
    assert titles(ann, "thirty entirely") == [], "all of them in one text"
    assert titles(ann, "thirty or entirely") == ["Something else entirely", "The long summer"]
    assert titles(ann, '"have thirty"') == ["The long summer"]
    assert titles(ann, "employees -thirty") == []


def test_a_title_comes_before_a_text_and_a_conversation_comes_once(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    said = begin(ann, "Tell me more")
    answer(database, tenants[0], said["turn_id"], "zebra zebra zebra")
    begin(ann, "zebra again", p_conversation_id=said["conversation_id"])
    begin(ann, "zebra crossings")
    assert titles(ann, "zebra") == ["zebra crossings", "Tell me more"]
    assert len(search(ann, "zebra", p_limit=1)) == 1


def test_a_misspelt_word_of_a_title_is_found(ann: Caller) -> None:
    begin(ann, "Contact Katharina Wozniak about invoices")
    begin(ann, "Nothing to see here")
    for query in ("Wozniack", "wozniak invoces", "Katarina"):
        assert titles(ann, query) == ["Contact Katharina Wozniak about invoices"], query
    for query in ("Wozniack nowhere", '"Wozniack"', "Wozniak -invoices", "Wozniack -invoices"):
        assert titles(ann, query) == [], query


def test_an_archived_conversation_is_found_and_a_deleted_one_is_not(ann: Caller) -> None:
    conversation = begin(ann, "zebra")["conversation_id"]
    ann.call("chat.update_conversation", p_conversation_id=conversation, p_archived=True)
    assert titles(ann, "zebra") == ["zebra"]
    ann.call("chat.delete_conversation", p_conversation_id=conversation)
    assert titles(ann, "zebra") == []


@pytest.mark.parametrize(
    "query", ["the and of", "???", "' | & ! ( ) :* <->", "\\", "a" * 5000, "🚀", "x\ty\nz", "-", '"', "or", "\x02\x03"]
)
def test_no_query_is_an_error_and_what_it_holds_is_no_syntax_of_the_index(ann: Caller, query: str) -> None:
    begin(ann, "alpha beta \x02 gamma \x03 delta")
    assert titles(ann, query) == []
    [hit] = search(ann, "gamma")
    assert shown(hit) == "alpha beta  [gamma]  delta", "a mark of the text's own marks nothing"


def test_nobody_finds_what_is_anothers_not_even_what_is_shared(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    turn = begin(ann, "zebra")
    answer(database, tenants[0], turn["turn_id"], "badger")
    act(
        database, tenants[0], "chat.share", "chat.share_conversation",
        p_conversation_id=turn["conversation_id"], p_whole_tenant=True,
    )  # fmt: skip
    owner = ann.value("SELECT core.current_user_id()")
    with database.connect("app", tenants[0], "bob") as bob, database.connect("app", tenants[1], "ann") as stranger:
        for other in (bob, stranger):
            for query in ("zebra", "badger", "zebr", str(owner), f"zebra OR {owner}", f'"{owner}"'):
                assert search(other, query) == [], query
            begin(other, "My own zebra")
            assert titles(other, "zebra") == ["My own zebra"]
    assert titles(ann, "badger") == ["zebra"]
    assert search(ann, str(owner)) == [], "the owner's id is no word of a message"


def test_an_answer_of_the_openai_api_is_in_no_conversation_and_is_not_found(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    turn = ann.call("chat.begin_completion", p_messages='[{"role": "user", "content": "zebra"}]')["turn_id"]
    answer(database, tenants[0], turn, "zebra")
    assert search(ann, "zebra") == []
    with database.connect() as operator:
        assert operator.query("SELECT user_id, search_text FROM chat.messages") == [(None, None)]


def test_without_a_tenant_or_user_a_search_raises(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app") as app:
        with refused("EA001"):
            search(app, "zebra")
        app.query("SELECT set_config('app.tenant_id', %s, false)", [str(tenants[0])])
        with refused("EA009"):
            search(app, "zebra")


def test_a_text_of_any_length_is_stored_and_found_by_its_beginning(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    """A tsvector holds one megabyte; no answer may be lost to that."""
    turn = begin(ann, "Everything?")
    answer(database, tenants[0], turn["turn_id"], "zebra " + " ".join(f"{n:x}w" * 4 for n in range(150_000)))
    assert titles(ann, "zebra") == ["Everything?"]


def test_the_search_reads_the_own_messages_by_the_index_alone(
    ann: Caller, database: Database, tenants: Sequence[UUID]
) -> None:
    turn = begin(ann, "Where are the zebras?")
    me = ann.value("SELECT core.current_user_id()")
    with database.connect() as operator:
        # As if 20,000 others had been answered with the same word.
        operator.run(
            """
            WITH others AS (
              INSERT INTO chat.turns (tenant_id, conversation_id, user_id, request_sha256, max_tokens, question_id)
              SELECT t.tenant_id, t.conversation_id, t.user_id, '', 1, t.question_id
              FROM chat.turns AS t, generate_series(1, 20000)
              WHERE t.id = %s
              RETURNING tenant_id, conversation_id, id)
            INSERT INTO chat.messages (tenant_id, conversation_id, turn_id, user_id, role, content)
            SELECT tenant_id, conversation_id, id, gen_random_uuid(), 'assistant', 'zebra of somebody else' FROM others
            """,
            [turn["turn_id"]],
        )
        operator.run("VACUUM ANALYZE chat.messages")
        plan = [
            row[0]
            for row in operator.query(
                "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF)"
                " SELECT m.id FROM chat.messages AS m WHERE m.tenant_id = %s AND m.user_id = %s"
                " AND m.search_text @@ (quote_literal(%s::uuid)::tsquery && websearch_to_tsquery('english', 'zebra'))"
                " LIMIT 2000",
                [tenants[0], me, me],
            )
        ]
    assert not any("Seq Scan" in line for line in plan), plan
    [index] = [line for line in plan if "Index Scan on messages_search_text" in line]
    assert re.search(r"rows=1(\.00)? loops=1", index), "of all that hold the word it names the one that is the user's"
    # The function, too, reads nothing from end to end.
    ann.query("SELECT pg_stat_force_next_flush()")
    with ann.connection.transaction():
        assert [hit["conversation"]["id"] for hit in search(ann, "zebra")] == [turn["conversation_id"]]
        statistics = (
            "SELECT seq_tup_read, idx_scan FROM pg_stat_xact_user_tables WHERE relid = 'chat.messages'::regclass"
        )
        [(read, by_index)] = ann.query(statistics)
    assert (read, by_index > 0) == (0, True)
