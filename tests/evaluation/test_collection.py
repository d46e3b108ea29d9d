"""A collection in BEIR's layout is read as BEIR reads it, and what is broken in it is named with its place."""

import json
from pathlib import Path

import pytest

from infra.evaluation.__main__ import OWN
from infra.evaluation.collection import CollectionError, read

CORPUS = (
    '{"_id": "a", "title": "T", "text": "one"}\n{"_id": "b", "text": "two"}\n{"_id": "c", "title": "", "text": " "}\n'
)
QUERIES = '{"_id": "q1", "text": "first", "metadata": {"kind": "code"}}\n{"_id": "q2", "text": "never judged"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tb\t0\nq1\tgone\t1\n"


def write(folder: Path, corpus: str = CORPUS, queries: str = QUERIES, qrels: str = QRELS, split: str = "test") -> Path:
    (folder / "qrels").mkdir()
    (folder / "corpus.jsonl").write_text(corpus, encoding="utf-8")
    (folder / "queries.jsonl").write_text(queries, encoding="utf-8")
    (folder / "qrels" / f"{split}.tsv").write_text(qrels, encoding="utf-8")
    return folder


def test_a_collection_is_read_with_the_queries_of_its_split(tmp_path: Path) -> None:
    collection = read(write(tmp_path, split="dev"), "dev")
    assert [(document.id, document.title, document.text) for document in collection.documents] == [
        ("a", "T", "one"),
        ("b", "", "two"),
    ]
    assert [(query.id, query.text, query.kind) for query in collection.queries] == [("q1", "first", "code")]
    assert collection.judgements == {"q1": {"a": 2, "b": 0, "gone": 1}}
    assert (collection.empty_documents, collection.unknown_judged) == (1, 1)


def test_a_document_that_is_only_a_title_is_found_by_it(tmp_path: Path) -> None:
    collection = read(write(tmp_path, corpus='{"_id": "a", "title": "Only this", "text": ""}\n'))
    assert [(document.title, document.text) for document in collection.documents] == [("Only this", "Only this")]


def test_lines_end_with_a_line_feed_only_and_files_may_come_from_windows(tmp_path: Path) -> None:
    corpus = "\ufeff" + json.dumps({"_id": "a", "text": "one\u2028two\x85three"}, ensure_ascii=False) + "\r\n\r\n"
    collection = read(write(tmp_path, corpus=corpus, qrels=QRELS.replace("\n", "\r\n")))
    assert collection.documents[0].text == "one\u2028two\x85three"
    assert collection.judgements["q1"]["a"] == 2


def test_judgements_may_stand_without_the_line_of_names(tmp_path: Path) -> None:
    assert read(write(tmp_path, qrels="q1\ta\t1\n")).judgements == {"q1": {"a": 1}}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"corpus": CORPUS + "{"}, "corpus.jsonl, line 4: is not JSON"),
        ({"corpus": CORPUS + "[]"}, "corpus.jsonl, line 4: is no JSON object"),
        (
            {"corpus": CORPUS + '{"_id": "a", "text": "again"}'},
            "corpus.jsonl, line 4: the _id 'a' occurs a second time",
        ),
        ({"corpus": '{"text": "one"}'}, "corpus.jsonl, line 1: the _id must be a text"),
        ({"corpus": json.dumps({"_id": "x" * 256, "text": "one"})}, "corpus.jsonl, line 1: the _id must be a text"),
        ({"corpus": '{"_id": "a", "text": 5}'}, "corpus.jsonl, line 1: has no text 'text'"),
        ({"corpus": "\n"}, "corpus.jsonl: has no document"),
        ({"queries": '{"_id": "q1"}'}, "queries.jsonl, line 1: has no text 'text'"),
        ({"queries": '{"_id": "q1", "text": " "}'}, "queries.jsonl, line 1: the text is blank"),
        ({"qrels": "q1 a 1\n"}, "test.tsv, line 1: has 1 fields between tabs"),
        ({"qrels": QRELS + "q1\tc\thigh\n"}, "test.tsv, line 5: the score 'high' is no whole number"),
        ({"qrels": QRELS + "q1\ta\t1\n"}, "test.tsv, line 5: judges 'a' for the query 'q1' a second time"),
        ({"qrels": QRELS + "q9\ta\t1\n"}, "test.tsv: judges the query 'q9', which queries.jsonl lacks"),
        ({"qrels": "q1\ta\t0\n"}, "test.tsv: judges no document relevant"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "test.tsv: has no judgement"),
    ],
)
def test_what_is_broken_is_named_with_its_place(tmp_path: Path, broken: dict[str, str], message: str) -> None:
    with pytest.raises(CollectionError) as error:
        read(write(tmp_path, **broken))
    assert message in str(error.value)


def test_a_missing_split_and_a_file_that_is_no_text_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with pytest.raises(CollectionError, match=r"dev\.tsv: there is no such file"):
        read(folder, "dev")
    (folder / "corpus.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(CollectionError, match=r"corpus\.jsonl: cannot be read"):
        read(folder)


def test_our_own_collection_is_whole() -> None:
    collection = read(OWN)
    assert (collection.empty_documents, collection.unknown_judged) == (0, 0)
    assert all(max(judged.values()) == 2 for judged in collection.judgements.values()), "each has a full answer"
    assert {query.kind for query in collection.queries} == {
        "code", "french", "german", "keyword", "misspelt", "mix", "paraphrase", "sentence",
    }  # fmt: skip
