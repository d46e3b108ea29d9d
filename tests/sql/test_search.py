"""Hybrid search finds by meaning, by words and by spelling, and uses its indexes."""

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import TupleRow

from tests.support import Caller, Database, add_document, claim_chunks, embed_chunks, store_chunks, vector

MANY_WORDS = " ".join(f"w{number:x}" for number in range(20_000))


@pytest.fixture
def app(database: Database, tenants: Sequence[UUID]) -> Iterator[Caller]:
    with database.connect("app", tenants[0]) as caller:
        yield caller


def names(caller: Caller, query: str, embedding: str | None = None, **arguments: object) -> list[str]:
    return [row[2] for row in caller.rows("rag.search", p_query=query, p_embedding=embedding, **arguments)]


def test_each_leg_contributes_by_its_weight_its_rank_and_what_it_has_matched(app: Caller) -> None:
    add_document(app, "leave.md", ["Employees have thirty days of vacation."])
    [row] = app.rows("rag.search", p_query="vacation", p_embedding=vector(1.0))
    assert row[6:9] == (1, 1, None)
    vectors, text = row[9:11]
    assert vectors == pytest.approx(1.0)
    assert row[5] == pytest.approx((1.0 + 1.5 * text) / 11)


def test_a_passage_found_by_two_legs_comes_before_those_found_by_one(app: Caller) -> None:
    add_document(app, "near.md", ["Nothing of that.", "zebra crossing"])
    found = app.rows("rag.search", p_query="zebra", p_embedding=vector(0.0, 1.0))
    assert found[0][4] == "zebra crossing"
    assert found[0][5] > found[1][5]


def test_any_word_of_a_question_may_match(app: Caller) -> None:
    add_document(app, "a.md", ["The quarterly report is due in March."])
    assert names(app, "When exactly must we hand in the report?") == ["a.md"]


def test_a_misspelt_word_is_found_by_its_trigrams(app: Caller) -> None:
    add_document(app, "names.md", ["Contact Katharina Wozniak about invoices."])
    add_document(app, "other.md", ["Nothing to see here."])
    [row] = app.rows("rag.search", p_query="Wozniack", p_embedding=None)
    assert row[2] == "names.md"
    assert row[6:9] == (None, None, 1)


def test_without_an_embedding_the_text_is_searched(app: Caller) -> None:
    add_document(app, "a.md", ["alpha beta"])
    assert names(app, "beta") == ["a.md"]
    assert names(app, "unrelated") == []


@pytest.mark.parametrize(
    "query",
    [
        "the and of",
        "???",
        "' | & ! ( ) :* <->",
        "\\",
        "a" * 5000,
        "🚀",
        "x\ty\nz",
        MANY_WORDS,
    ],
)
def test_no_query_text_is_an_error(app: Caller, query: str) -> None:
    add_document(app, "a.md", ["alpha beta"])
    assert names(app, query, vector(1.0)) == ["a.md"]


def test_collections_limit_every_leg(app: Caller) -> None:
    add_document(app, "hr.md", ["vacation days"], collection="hr")
    add_document(app, "it.md", ["vacation notebook"], collection="it")
    assert names(app, "vacation", vector(1.0), p_collections=["it"]) == ["it.md"]
    assert names(app, "vacaton", vector(1.0), p_collections=["hr"]) == ["hr.md"]
    assert sorted(names(app, "vacation", vector(1.0), p_collections=["hr", "it"])) == ["hr.md", "it.md"]


def test_an_unknown_collection_is_named(app: Caller) -> None:
    with pytest.raises(psycopg.Error, match="nowhere") as raised:
        names(app, "x", p_collections=["nowhere"])
    assert raised.value.sqlstate == "EA002"


def test_a_replaced_document_answers_with_its_new_text_only(app: Caller) -> None:
    add_document(app, "a.md", ["the old wording"])
    add_document(app, "a.md", ["the new wording"])
    assert [row[4] for row in app.rows("rag.search", p_query="wording", p_embedding=vector(1.0))] == ["the new wording"]


def test_a_document_that_is_stored_again_answers_with_its_old_text_until_indexed(app: Caller) -> None:
    add_document(app, "a.md", ["the old wording"])
    app.call(
        "rag.store_document", p_collection="default", p_name="a.md", p_media_type="text/markdown", p_original="new one"
    )
    assert [row[4] for row in app.rows("rag.search", p_query="wording", p_embedding=None)] == ["the old wording"]
    assert app.call("rag.list_documents")["documents"][0]["status"] == "received"


def test_the_same_text_again_has_nothing_to_do(app: Caller) -> None:
    document = add_document(app, "a.md", ["same"])
    again = app.call(
        "rag.store_document", p_collection="default", p_name="a.md", p_media_type="text/markdown", p_original="same"
    )
    assert again == document
    assert app.query("SELECT status, version FROM rag.documents") == [("indexed", 1)]


def test_a_vector_of_another_width_is_refused(app: Caller) -> None:
    add_document(app, "a.md", ["alpha"])
    with pytest.raises(psycopg.Error, match="3 dimensions, and the database was made for 384") as raised:
        names(app, "alpha", "[1,2,3]")
    assert raised.value.sqlstate == "EA007"


def test_the_best_of_few_words_does_not_outweigh_the_nearest(app: Caller) -> None:
    """A passage with one word of ten is the best that the text leg finds, and no answer."""
    add_document(app, "near.md", ["far away", "Holidays are requested with the help desk."])
    add_document(app, "word.md", ["The portal of the cathedral was restored."])
    found = names(app, "how do employees book leave for whole weeks through portal software", vector(0.0, 1.0))
    assert found[0] == "near.md"


@pytest.mark.parametrize(
    "query",
    ["AX-4711-B", "ax-4711-b", "AX4711B", "AX 4711 B", "AX-4711", "AX-4711-C", "AY-4711-B", "part AX-4711-B please"],
)
def test_a_code_is_found_however_it_is_written(app: Caller, query: str) -> None:
    add_document(app, "pump.md", ["The pump AX-4711-B needs oil."])
    add_document(app, "other.md", [f"The pump of another maker, number {number}." for number in range(20)])
    assert names(app, query)[0] == "pump.md"


@pytest.mark.parametrize("query", ["jane.doe@example.com", "doe", "Jane Doe", "jane.do@example.com", "example.com"])
def test_an_address_is_found_whole_in_parts_and_misspelt(app: Caller, query: str) -> None:
    add_document(app, "contacts.md", ["Write to jane.doe@example.com for access."])
    add_document(app, "other.md", ["Write a letter to somebody else."])
    assert names(app, query)[0] == "contacts.md"


@pytest.mark.parametrize(
    "query", ["Wozniak", "Wosniak", "Wozniack", "Woznaik", "Wozni", "ozniak", "Katarina", "Katherina"]
)
def test_a_name_is_found_by_near_spellings(app: Caller, query: str) -> None:
    add_document(app, "names.md", ["Contact Katharina Wozniak about invoices."])
    add_document(app, "other.md", ["Nothing to see here.", "The warden of the castle."])
    assert names(app, query)[0] == "names.md"


def test_another_number_is_no_spelling_of_a_number(app: Caller) -> None:
    add_document(app, "a.md", ["Invoice 20240117 was paid."])
    assert names(app, "20240118") == []


def test_title_and_name_of_the_document_are_searched(database: Database, app: Caller) -> None:
    document = add_document(app, "travel-policy_2024.pdf", ["Flights are booked by the office."])
    assert names(app, "travel policy") == ["travel-policy_2024.pdf"]
    with database.connect() as operator:
        operator.run("UPDATE rag.documents SET title = 'Business trips' WHERE id = %s", [document])
        for query in ("trips", "busines", "travel policy"):
            assert names(app, query) == ["travel-policy_2024.pdf"]
        operator.run("UPDATE rag.documents SET title = '', name = 'journeys.pdf' WHERE id = %s", [document])
    assert names(app, "journeys") == ["journeys.pdf"]
    assert [names(app, query) for query in ("trips", "busines")] == [[], []]


def test_an_older_version_is_found_by_what_it_was_called_until_the_new_one_is_indexed(
    database: Database, app: Caller
) -> None:
    document = add_document(app, "travel.md", ["Flights are booked by the office."])
    with database.connect() as operator:
        operator.run("UPDATE rag.documents SET title = 'Business trips' WHERE id = %s", [document])
    embed_chunks(app, lambda _: vector(1.0))
    app.call(
        "rag.store_document",
        p_collection="default",
        p_name="travel.md",
        p_media_type="text/markdown",
        p_original="new",
    )
    store_chunks(app, document, ["Nobody flies any more."])
    assert [row[4] for row in app.rows("rag.search", p_query="trips", p_embedding=None)] == [
        "Flights are booked by the office."
    ]
    assert [chunk["text"] for chunk in claim_chunks(app)["chunks"]] == ["travel.md \nNobody flies any more."]


def test_words_in_a_heading_count_more(app: Caller) -> None:
    body = "Some text about many other things that people do at work every day."
    add_document(app, "a.md", [f"{body} budget"])
    add_document(app, "budget.md", [body])  # its heading is its name
    assert names(app, "budget") == ["budget.md", "a.md"]


def test_every_language_of_the_tenant_reads_the_query(database: Database, app: Caller) -> None:
    for name, language, text in (
        ("en.md", "english", "The invoices were paid."),
        ("de.md", "german", "Die Rechnungen wurden bezahlt."),
        ("xx.md", "simple", "invoices Rechnungen"),
    ):
        document = add_document(app, name, [text])
        with database.connect() as operator:
            operator.run("UPDATE rag.chunks SET language = %s WHERE document_id = %s", [language, document])
    assert sorted(names(app, "invoice")) == ["en.md"]
    assert sorted(names(app, "invoices")) == ["en.md", "xx.md"]
    assert sorted(names(app, "Rechnung")) == ["de.md"]
    assert sorted(names(app, "Rechnungen")) == ["de.md", "xx.md"]


def test_stop_words_that_another_language_keeps_find_nothing_before_the_rare_words(
    database: Database, app: Caller
) -> None:
    add_document(app, "bearing.md", ["The bearing of the turbine is greased each spring."])
    for number in range(5):
        add_document(app, f"other{number}.md", [f"This is about the canteen on floor {number}."])
    words = add_document(
        app, "words.md", ["what is it that we do with this for the one who has been there and where are they"]
    )
    with database.connect() as operator:
        operator.run("UPDATE rag.chunks SET language = 'simple' WHERE document_id = %s", [words])
    question = (
        "What is it that we do with the turbine, for the one who has been there and has seen where the bearing is?"
    )
    assert names(app, question)[0] == "bearing.md"


def test_a_word_that_a_language_drops_is_not_corrected(database: Database, app: Caller) -> None:
    add_document(app, "en.md", ["The view is good wherever one is."])
    simple = add_document(app, "xx.md", ["4711 4712"])
    with database.connect() as operator:
        operator.run("UPDATE rag.chunks SET language = 'simple' WHERE document_id = %s", [simple])
    assert names(app, "where") == []
    assert names(app, "wherevr") == ["en.md"]


LONG = " ".join(f"other{number:x}" for number in range(400))


def test_a_long_question_finds_what_its_rare_words_name(app: Caller) -> None:
    add_document(app, "near.md", ["far away", "Nothing of that."])
    add_document(app, "pump.md", ["The gasket of the pump AX-4711-B leaks oil."])
    add_document(app, "other.md", [f"A passage that is about other{number:x}." for number in range(20)])
    question = f"{LONG} the gasket of our pump AX-4711-B leaks oil"
    assert names(app, question)[0] == "pump.md"
    assert names(app, question, vector(0.0, 1.0))[0] == "pump.md"


def test_a_match_of_a_long_question_counts_as_one_of_a_short_question(app: Caller) -> None:
    add_document(app, "pump.md", ["The gasket of the pump leaks oil."])
    [of_short], [of_long] = (
        [row[10] for row in app.rows("rag.search", p_query=query, p_embedding=None)]
        for query in ("gasket pump leaks oil", f"gasket pump leaks oil {LONG}")
    )
    assert 0 < of_long <= of_short <= 1
    # Words that nobody has weigh more.
    assert of_long > of_short / 10


def test_what_a_question_repeats_it_is_about(app: Caller) -> None:
    add_document(app, "gearbox.md", ["The gearbox was bought in spring."])
    add_document(app, "turbine.md", ["The turbine was bought in spring."])
    for one, other in (("turbine", "gearbox"), ("gearbox", "turbine")):
        question = f"The {one} hums. A {one} like that is no {other}: who knows such a {one}?"
        assert names(app, question) == [f"{one}.md", f"{other}.md"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The invoice is to be paid within thirty days of the date on which it was sent.", "english"),
        ("Die Rechnung ist innerhalb von 30 Tagen zu bezahlen, und zwar ohne Abzug.", "german"),
        ("Le contrat est signé par les deux parties et prend effet dans un mois.", "french"),
        ("El contrato se firma por las dos partes y entra en vigor en un mes.", "spanish"),
        ("4711; 4712; 4713", "simple"),
        ("Wozniak, Kowalska, Nowak", "simple"),
        ("", "simple"),
        ("合同自双方签字之日起生效", "simple"),
    ],
)
def test_the_language_of_a_text_is_told_by_its_stop_words(app: Caller, text: str, language: str) -> None:
    assert app.call("rag.detect_language", p_text=text) == language


def set_document(database: Database, document: UUID, **columns: object) -> None:
    """Change a document as its intake would."""
    with database.connect() as operator:
        for column, value in columns.items():
            operator.run(f"UPDATE rag.documents SET {column} = %s WHERE id = %s", [value, document])


FILTERS = [
    ({"metadata": {"team": "blue"}}, ["a", "b"]),
    ({"metadata": {"team": "blue", "year": 2024}}, ["b"]),
    ({"metadata": {"team": "green"}}, []),
    ({"media_types": ["text/html", "text/csv"]}, ["c"]),
    ({"dated_from": "2024-02-01T00:00:00Z"}, ["b", "c"]),
    ({"dated_before": "2024-02-01T00:00:00Z"}, ["a"]),
    ({"dated_from": "2024-02-01T00:00:00Z", "dated_before": "2024-03-01T00:00:00+00:00"}, ["b"]),
    ({"collections": ["one"]}, ["a", "b"]),
    ({"collections": ["one"], "metadata": {"year": 2024}}, ["b"]),
    ({"collections": []}, []),
    ({}, ["a", "b", "c", "d"]),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS, ids=[json.dumps(wanted) for wanted, _ in FILTERS])
@pytest.mark.parametrize("many", [False, True], ids=["named documents", "many documents"])
def test_a_filter_limits_every_leg(
    database: Database, app: Caller, wanted: dict[str, object], expected: list[str], many: bool
) -> None:
    described = {
        "a": ("one", {"metadata": '{"team": "blue"}', "dated": "2024-01-15"}),
        "b": ("one", {"metadata": '{"team": "blue", "year": 2024}', "dated": "2024-02-01"}),
        "c": ("two", {"media_type": "text/html", "dated": "2024-03-01"}),
        "d": ("two", {}),
    }
    for name, (collection, columns) in described.items():
        set_document(database, add_document(app, name, [f"vacation {name}"], collection), **columns)
    if many:
        with database.connect() as operator:  # more documents pass than are named
            function = operator.value("SELECT pg_get_functiondef('rag.search_filter'::regproc)")
            operator.connection.execute(
                function.replace("c_few constant integer := 1000", "c_few constant integer := -1")
            )
    for query, embedding in (
        ("vacation", None),
        ("vacaton", None),
        ("nothing", vector(1.0)),
        ("vacation", vector(1.0)),
    ):
        assert sorted(names(app, query, embedding, p_filter=json.dumps(wanted), p_limit=10)) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        "x",
        {"colour": "red"},
        {"media_types": "text/html"},
        {"media_types": [1]},
        {"metadata": []},
        {"dated_from": "soon"},
        {"dated_before": 7},
        {"documents": ["00000000-0000-0000-0000-000000000000"]},
        {"chunks": 5},
    ],
    ids=json.dumps,
)
def test_a_filter_that_is_not_understood_is_refused(app: Caller, wanted: object) -> None:
    with pytest.raises(psycopg.Error, match="filter") as raised:
        names(app, "x", p_filter=json.dumps(wanted))
    assert raised.value.sqlstate == "EA012"


def test_collections_of_the_filter_are_among_those_asked_for(app: Caller) -> None:
    for collection in ("one", "two"):
        add_document(app, f"{collection}.md", ["vacation"], collection)
    assert names(app, "vacation", p_collections=["one"], p_filter='{"collections": ["one", "two"]}') == ["one.md"]


SENTENCES = "The quarterly report is due in March. It is sent to the board, which discusses it in its next meeting."


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        (SENTENCES, False),
        (SENTENCES.upper().replace(" ", "  "), False),
        (SENTENCES.replace("board", "boards"), False),
        (SENTENCES.replace("March", "March 2024"), True),
        ("The quarterly report of the other company.", True),
    ],
)
def test_of_near_duplicates_the_best_is_told(database: Database, app: Caller, other: str, kept: bool) -> None:
    add_document(app, "one.md", [SENTENCES])
    add_document(app, "two.md", [other])  # with the same vector
    found = names(app, "quarterly report", vector(1.0))
    assert len(found) == 1 + kept
    with database.connect() as operator:
        operator.run("DELETE FROM rag.embeddings")  # of passages that no vector could be had for
    assert len(names(app, "quarterly report")) == 1 + kept


def test_duplicates_cost_no_results(app: Caller) -> None:
    for number, word in enumerate(("ask", "wait", "plan", "rest", "book")):
        add_document(app, f"copy{number}.md", ["The same notice about vacation."])
        add_document(app, f"own{number}.md", [f"Vacation notice {number}: {word} first."])
    assert len(names(app, "vacation notice", p_limit=6)) == 6


def place_chunks(database: Database, document: UUID, starts: Sequence[int]) -> None:
    """Say where the chunks of a document stand in its text."""
    with database.connect() as operator:
        for ordinal, start in enumerate(starts, start=1):
            operator.run(
                "UPDATE rag.chunks SET start_char = %s, end_char = %s + length(content), page = %s"
                " WHERE document_id = %s AND ordinal = %s",
                [start, start, ordinal, document, ordinal],
            )


def passage(row: TupleRow) -> tuple[str, str, str]:
    """Return what stands before a result, the result, and what stands after it."""
    return row[20], row[4], row[21]


def test_a_short_passage_is_told_with_what_stands_around_it(database: Database, app: Caller) -> None:
    text = "First part. zebra crossing. Third part. Fourth part."
    pieces = ["First part. ", "part. zebra crossing.", " Third part.", " Fourth part."]
    document = add_document(app, "a.md", pieces)
    place_chunks(database, document, [text.index(piece) for piece in pieces])
    [row] = app.rows("rag.search", p_query="zebra", p_embedding=None)
    assert passage(row) == ("First ", "part. zebra crossing.", " Third part.")
    assert row[17:20] == (2, 6, 27)
    # A neighbour that is a result itself is not told twice.
    first, second = app.rows("rag.search", p_query="zebra third", p_embedding=None)
    assert {passage(first), passage(second)} == {
        ("First ", "part. zebra crossing.", ""),
        ("", " Third part.", " Fourth part."),
    }


def test_the_context_stays_within_the_tokens_of_a_passage(database: Database, app: Caller) -> None:
    document = add_document(app, "a.md", ["one two three", "zebra", "four five six"])
    place_chunks(database, document, [0, 20, 40])
    for tokens, expected in (
        (0, ("", "")),
        (3, ("", "")),
        (4, ("one two three", "")),
        (7, ("one two three", "four five six")),
    ):
        with database.connect() as operator:
            operator.call(
                "rag.set_search_settings", p_settings=json.dumps({"passage_tokens": tokens}), p_tenant_id=None
            )
        [row] = app.rows("rag.search", p_query="zebra", p_embedding=None)
        assert row[20:22] == expected


def test_weights_are_the_tenants_own_or_else_the_platforms(database: Database, tenants: Sequence[UUID]) -> None:
    def best(tenant: UUID) -> str:
        with database.connect("app", tenant) as app:
            return names(app, "zebra", vector(0.0, 1.0))[0]

    def change(tenant: UUID | None, **settings: float | None) -> None:
        with database.connect() as operator:
            operator.call("rag.set_search_settings", p_settings=json.dumps(settings), p_tenant_id=tenant)

    for tenant in tenants:
        with database.connect("app", tenant) as app:
            add_document(app, "vector.md", ["far", "Nothing of that."])
            add_document(app, "text.md", ["zebra zebra zebra"])
    change(None, text_weight=0, vector_weight=1)
    assert [best(tenant) for tenant in tenants] == ["vector.md", "vector.md"]
    change(tenants[1], text_weight=10, vector_weight=0.1)
    assert [best(tenant) for tenant in tenants] == ["vector.md", "text.md"]
    change(tenants[1], text_weight=None, vector_weight=None)
    assert [best(tenant) for tenant in tenants] == ["vector.md", "vector.md"]


@pytest.mark.parametrize(
    "settings", [{"rrf_k": 0}, {"text_weight": 11}, {"depth": "many"}, {"depth": 1.5}, {"tenant_id": 1}, {"x": 1}]
)
def test_settings_out_of_range_or_unknown_are_refused(app: Caller, settings: dict[str, object]) -> None:
    before = app.call("rag.read_search_settings")
    with pytest.raises(psycopg.Error) as raised:
        app.call("rag.set_search_settings", p_settings=json.dumps(settings))
    assert raised.value.sqlstate == "EA012"
    assert app.call("rag.read_search_settings") == before


def test_a_tenant_changes_no_other_and_not_the_platforms(database: Database, tenants: Sequence[UUID]) -> None:
    with database.connect("app", tenants[0]) as app:
        for other in (tenants[1], None):
            app.call("rag.set_search_settings", p_settings='{"depth": 60}', p_tenant_id=other)
        assert app.call("rag.read_search_settings")["depth"] == 60
    with database.connect("app", tenants[1]) as app:
        assert app.call("rag.read_search_settings")["depth"] == 40


def explain(app: Caller, **arguments: object) -> Any:
    """Return how a search is done."""
    return app.call("rag.find", **arguments, p_explain=True)["plan"]


def test_the_plan_tells_what_was_searched_for_and_how(app: Caller) -> None:
    add_document(app, "a.md", ["Contact Katharina Wozniak about invoices."])
    plan = explain(app, p_query="invoices of Wosniak", p_embedding=vector(1.0))
    assert plan["languages"] == ["english"]
    assert [(word["lexeme"], word["chunks"]) for word in plan["words"]] == [("invoic", 1), ("wosniak", 0)]
    legs = plan["legs"]
    assert (legs["vector"]["method"], legs["text"]["any_of"]) == ("exact", ["invoic"])
    assert [(c["word"], c["lexeme"]) for c in legs["trigram"]["corrections"]] == [("wosniak", "wozniak")]
    assert {name: leg["found"] for name, leg in legs.items()} == {"vector": 1, "text": 1, "trigram": 1}
    assert plan["settings"]["rrf_k"] == 10
    assert any("chunks_lexemes" in line for line in legs["text"]["plan"])


@pytest.mark.parametrize("query", ["the and of", "???", "", "zzz"])
def test_every_search_can_be_explained(app: Caller, query: str) -> None:
    add_document(app, "a.md", ["alpha beta"])
    for wanted in (None, '{"metadata": {}}', '{"collections": ["default"]}'):
        plan = explain(app, p_query=query, p_embedding=None, p_filter=wanted)
        assert set(plan["legs"]) == {"text", "trigram"}
