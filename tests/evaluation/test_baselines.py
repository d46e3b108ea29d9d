"""The baselines are what they are called: BM25 as Lucene computes it, and exact nearest neighbours."""

from math import log

import numpy as np
import pytest

from infra.evaluation.baselines import K1, B, Bm25, Exact
from infra.evaluation.collection import Entry


def test_bm25_stems_and_leaves_out_stop_words() -> None:
    index = Bm25([Entry("a", "", "The pumps were cleaned"), Entry("b", "Cleaning", "of valves")])
    assert index.search("pump", 10) == ["a"]
    assert index.search("valve", 10) == ["b"]
    assert index.search("the of", 10) == []


def test_bm25_orders_as_its_formula_does() -> None:
    texts = {"short": "pump valve", "long": "pump pump pump gasket flange sensor motor cable", "other": "door"}
    lengths = {name: len(text.split()) for name, text in texts.items()}
    average = sum(lengths.values()) / len(lengths)
    inverse = log(1 + (3 - 2 + 0.5) / (2 + 0.5))

    def score(name: str, times: int) -> float:
        return inverse * times / (times + K1 * (1 - B + B * lengths[name] / average))

    index = Bm25([Entry(name, "", text) for name, text in texts.items()])
    expected = sorted(["short", "long"], key=lambda name: -score(name, texts[name].split().count("pump")))
    assert index.search("pump", 10) == expected == ["long", "short"]


def test_exact_search_ranks_documents_by_their_nearest_passage() -> None:
    vectors = np.array([[1, 0], [0, 2], [1, 1], [-1, 0]], np.float16)
    index = Exact(vectors, ["a", "b", "b", "c"])
    assert index.search(np.array([3, 0], np.float16), 10) == ["a", "b", "c"]
    assert index.search(np.array([1, 2], np.float16), 2) == ["b", "a"]


@pytest.mark.parametrize("limit", [1, 50])
def test_neither_returns_more_than_asked(limit: int) -> None:
    entries = [Entry(f"d{number}", "", "pump") for number in range(9)]
    vectors = np.ones((9, 2), np.float16)
    assert len(Bm25(entries).search("pump", limit)) == min(limit, 9)
    assert len(Exact(vectors, [entry.id for entry in entries]).search(vectors[0], limit)) == min(limit, 9)
