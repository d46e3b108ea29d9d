"""Fusion by reciprocal rank, worked out by hand, and documents at the rank of their best passage."""

from infra.evaluation.fusion import documents, fuse


def test_plain_fusion_adds_reciprocal_ranks() -> None:
    # With k = 60: b 1/62 + 1/61, a 1/61, c 1/62.
    assert fuse([(1.0, ["a", "b"]), (1.0, ["b", "c"])]) == ["b", "a", "c"]


def test_what_two_rankings_name_late_comes_before_what_one_names_first() -> None:
    far = [f"x{number}" for number in range(40)]
    # 2 / 101 > 1 / 61 with k = 60; with k = 1 it is 2 / 42 < 1 / 2.
    rankings = [(1.0, ["first", *far[:39], "both"]), (1.0, ["other", *far[39:], *(f"y{n}" for n in range(38)), "both"])]
    assert fuse(rankings).index("both") < fuse(rankings).index("first")
    assert fuse(rankings, k=1).index("both") > fuse(rankings, k=1).index("first")


def test_weights_decide_between_rankings_that_share_nothing() -> None:
    assert fuse([(0.4, ["a"]), (0.6, ["b"])]) == ["b", "a"]
    assert fuse([(1.0, ["a"]), (0.0, ["b"])]) == ["a"], "a leg without weight adds nothing"


def test_a_document_stands_where_its_best_passage_does() -> None:
    assert documents([3, 1, 2, 4], {1: "a", 2: "b", 3: "b", 4: "c"}) == ["b", "a", "c"]
