"""The labelled set of prompts through routing.choose: the confusion matrix, which every run prints, and its thresholds."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import Caller, Database

if TYPE_CHECKING:
    from uuid import UUID

TIERS = ("light", "standard", "heavy")
PROMPTS: list[dict[str, str]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data/routing/prompts.jsonl").read_text("utf-8").splitlines()
]
ACCURACY = 0.95
"""Of prompts on which the patterns were improved; what new ones came to at first sight: docs/routing.md."""

PROSE = (
    "We run a warehouse in Lyon and the carrier changed its pickup times last month, so the pallets wait longer at the "
    "dock; people asked whether the labels are right (they are). "
)
USUAL = (PROSE * 12)[:2000]
HOSTILE = {
    "prose": PROSE * 600,
    "one word": "x" * 100_000,
    "two words": "a " * 50_000,
    "quotation marks": '"' * 100_000,
    "apostrophes": "'a " * 33_000,
    "brackets": "{}\n" * 33_000,
    "parentheses": "(" * 100_000,
    "fences": "```\n" * 25_000,
    "backticks": "`" * 100_000,
    "empty lines": "\n" * 100_000,
    "spaces": " " * 100_000,
    "colons": "this: " * 16_000,
    "greetings": "hello please can you " * 4_800,
    "beginnings of patterns": "how should we compare why although is this or " * 2_200,
    "closing tags": "</a" * 33_000,
    "accents": "ü" * 100_000,
    "ideographs": "日本" * 50_000,
}


@pytest.fixture(scope="module")
def caller(module_database: Database) -> Iterator[Caller]:
    with module_database.connect() as operator:
        tenant: UUID = operator.call("core.provision_tenant", p_slug="prompts", p_name="Prompts")
    with module_database.connect("app", tenant) as app:
        yield app


@pytest.fixture(scope="module")
def decisions(caller: Caller) -> list[tuple[dict[str, str], dict[str, Any]]]:
    return [(prompt, caller.call("routing.choose", p_question=prompt["text"])) for prompt in PROMPTS]


def matrix(decisions: list[tuple[dict[str, str], dict[str, Any]]], part: str) -> Counter[tuple[str, str]]:
    return Counter((prompt["tier"], choice["tier"]) for prompt, choice in decisions if part in ("all", prompt["part"]))


def rendered(title: str, counts: Counter[tuple[str, str]]) -> str:
    right, total = sum(counts[tier, tier] for tier in TIERS), counts.total()
    head = f"{title}: {right} of {total} = {right / total:.1%}"
    rows = [f"  {tier:9}" + "".join(f"{counts[tier, chosen]:10}" for chosen in TIERS) for tier in TIERS]
    return "\n".join([head, "  deserves  " + "".join(f"{tier:>10}" for tier in TIERS).lstrip(), *rows])


def test_the_set_is_large_enough_and_balanced() -> None:
    tiers = Counter(prompt["tier"] for prompt in PROMPTS)
    assert len(PROMPTS) >= 150
    assert min(tiers[tier] for tier in TIERS) >= 45
    assert len({prompt["text"] for prompt in PROMPTS}) == len(PROMPTS)
    assert {prompt["language"] for prompt in PROMPTS} == {"en", "de", "fr", "es"}


def test_the_tiers_are_those_that_people_gave(
    decisions: list[tuple[dict[str, str], dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {part: matrix(decisions, part) for part in ("tuned", "later", "all")}
    wrong = [
        f"  {prompt['tier']} -> {choice['tier']} ({choice['features']['question_type']}): {prompt['text'][:90]!r}"
        for prompt, choice in decisions
        if choice["tier"] != prompt["tier"]
    ]
    with capsys.disabled():
        print("\n\nTiers chosen (columns) for prompts that deserve (rows):")  # noqa: T201 - it is to be seen
        for part, counts in parts.items():
            print(rendered(part, counts))  # noqa: T201
        print("\n".join(wrong))  # noqa: T201
    for part, counts in parts.items():
        accuracy = sum(counts[tier, tier] for tier in TIERS) / counts.total()
        assert accuracy >= ACCURACY, part
        assert counts["light", "heavy"] == counts["heavy", "light"] == 0, part


@pytest.mark.parametrize("tier", TIERS)
def test_each_tier_is_found_and_trusted(decisions: list[tuple[dict[str, str], dict[str, Any]]], tier: str) -> None:
    counts = matrix(decisions, "all")
    assert counts[tier, tier] >= 0.9 * sum(counts[tier, chosen] for chosen in TIERS), "recall"
    assert counts[tier, tier] >= 0.9 * sum(counts[deserved, tier] for deserved in TIERS), "precision"


def test_the_language_is_told(decisions: list[tuple[dict[str, str], dict[str, Any]]]) -> None:
    told = sum(choice["features"]["language"] == prompt["language"] for prompt, choice in decisions)
    assert told >= 0.9 * len(decisions)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("これは何ですか", "ja"),
        ("這是什麼", "zh"),
        ("이것은 무엇입니까", "ko"),
        ("Что это такое?", "ru"),
        ("ما هذا؟", "ar"),
        ("Che cos'è questo e come funziona?", "it"),
        ("Wat is dit en hoe werkt het?", "nl"),
        ("O que é isto e como funciona?", "pt"),
        ("12345", "und"),
        ("", "und"),
    ],
)
def test_other_languages_are_told_as_well(caller: Caller, text: str, language: str) -> None:
    assert caller.call("routing.language", p_text=text) == language


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```\nx\n```", True),
        ("def f(x):\n  return x", True),
        ("SELECT a FROM b", True),
        ("if (a) { b(); }", True),
        ("x => x + 1", True),
        ("<b>bold</b>", True),
        ("Please import the list from the class of 2020.", False),
        ("Where do I select the form from the menu? It is urgent; thanks.", False),
    ],
)
def test_code_is_told_from_prose(caller: Caller, text: str, code: bool) -> None:
    assert caller.call("routing.features", p_question=text)["code"] is code


@pytest.mark.parametrize(
    ("question", "own_words"),
    [
        ("Hi team, could you please translate this?", " § translate this § "),
        ('Translate: "Do a security review!"', " § translate § ¶ § "),
        ("Summarise this thread:\nAnna: hack it\nBen: no", " § summarise this thread ¶ § "),
        ("Was ist für „Größe und Maß“ zulässig?", " § was ist fur ¶ zulassig § "),
        ("Fix `rm -rf /` and\n```\nDROP TABLE x;\n```", " § fix ¶ and § ¶ § "),
        ("Hello!", " § § "),
        ("", " § § "),
    ],
)
def test_what_is_brought_along_is_not_what_is_asked(caller: Caller, question: str, own_words: str) -> None:
    assert caller.call("routing.own_words", p_question=question) == own_words


def fastest(caller: Caller, text: str, times: int) -> float:
    """Return the milliseconds of the fastest of several calls."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        caller.call("routing.features", p_question=text)
        took.append(time.perf_counter() - began)
    return min(took) * 1000


def test_a_usual_question_takes_little_time(caller: Caller, module_database: Database) -> None:
    """A sixth or less of what it takes where each expression is compiled, as in a session that has not seen them."""
    firsts = []
    for _ in range(3):
        with module_database.connect("app") as fresh:
            firsts.append(fastest(fresh, USUAL, 1))
    assert 2.5 * fastest(caller, USUAL, 30) < min(firsts)


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_takes_long(caller: Caller, kind: str) -> None:
    """Up to four times as long as a usual question; where one looked at each character again and again, a hundred times."""
    assert len(HOSTILE[kind]) > 90_000
    assert fastest(caller, HOSTILE[kind], 5) < 15 * fastest(caller, USUAL, 5)


def test_the_expressions_fit_into_the_cache_of_a_session(caller: Caller) -> None:
    """PostgreSQL keeps 32 compiled; a turn needs a handful of others, and compiling all anew takes ten milliseconds."""
    assert caller.value("SELECT count(*) FROM routing.question_types()") <= 21
