"""The measures are those of trec_eval, worked out by hand; the first case's nDCG is also what pytrec_eval 0.5.11 says."""

from math import log2

import pytest

from infra.evaluation.metrics import mean, measure, ndcg, percentile, recall, reciprocal_rank

JUDGEMENTS = {"a": 3, "b": 2, "c": 1, "d": 0}


def test_ndcg_has_a_linear_gain_and_a_logarithmic_discount() -> None:
    gained = 2 / log2(2) + 3 / log2(4) + 1 / log2(6)
    ideal = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)
    assert ndcg(["b", "x", "a", "d", "c"], JUDGEMENTS, 10) == pytest.approx(gained / ideal)
    assert ndcg(["b", "x", "a", "d", "c"], JUDGEMENTS, 10) == pytest.approx(0.8162468467211516)


def test_ndcg_looks_no_deeper_and_its_ideal_neither() -> None:
    many = {f"d{number}": 1 for number in range(30)}
    assert ndcg([f"d{number}" for number in range(10)], many, 10) == 1.0
    assert ndcg([*(f"x{number}" for number in range(10)), "d1"], many, 10) == 0.0


def test_a_negative_score_is_not_relevant_and_costs_nothing() -> None:
    judgements = {"spam": -1, "a": 1}
    assert measure(["spam", "a"], judgements) == {
        "nDCG@10": pytest.approx(1 / log2(3)),
        "recall@5": 1.0,
        "recall@20": 1.0,
        "MRR@10": 0.5,
    }


def test_recall_is_the_share_of_the_relevant_documents() -> None:
    assert recall(["x", "a", "d", "b"], JUDGEMENTS, 2) == pytest.approx(1 / 3)
    assert recall(["x", "a", "d", "b"], JUDGEMENTS, 20) == pytest.approx(2 / 3)


def test_the_reciprocal_rank_ends_at_its_depth() -> None:
    ranking = [*(f"x{number}" for number in range(9)), "c", "a"]
    assert reciprocal_rank(ranking, JUDGEMENTS, 10) == 0.1
    assert reciprocal_rank(ranking[1:], {"a": 3}, 10) == 0.1
    assert reciprocal_rank(ranking, {"a": 3}, 10) == 0.0


def test_a_query_without_results_or_without_relevant_documents_counts_as_zero() -> None:
    assert set(measure([], JUDGEMENTS).values()) == {0.0}
    assert set(measure(["d"], {"d": 0}).values()) == {0.0}


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile([7.0], 0.95)) == (50.0, 95.0, 7.0)
    assert mean([]) == 0.0
