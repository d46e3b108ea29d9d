import re
from collections.abc import Iterator, Sequence

import pytest

from infra.local.model_server import answers
from infra.local.model_server.answers import NOTHING_FOUND, PREFIX, Answerer
from infra.local.model_server.embeddings import Embedded, Encoder
from infra.local.model_server.prompts import Message

BACKUP = "## Backup\nA full backup runs every night at 02:00. Backups are kept for 30 days."
PORTS = "| Component | Port |\n|---|---|\n| LiteLLM proxy | 4000 |\n| PostgreSQL | 5432 |\n| Redis | 6379 |"
RESTART = "Restart the API like this:\n\n```bash\nkubectl rollout restart deployment/api\n```\n"
ROLES = "- The `relay` role reads the outbox.\n- The `app` role calls functions.\n- Nobody logs in as owner."
DOCUMENTS = (BACKUP, PORTS, RESTART, ROLES)


def prompt(question: str, passages: Sequence[str] = DOCUMENTS) -> list[Message]:
    numbered = "\n\n".join(f"[{n}] guide.md\n{text}" for n, text in enumerate(passages, 1))
    system = f"Answer only from the passages.\n<passages>\n{numbered}\n</passages>"
    return [Message("system", system), Message("user", question)]


@pytest.fixture(scope="module")
def answerer(encoder: Encoder) -> Answerer:
    return Answerer(encoder)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How long are backups kept?", "Backups are kept for 30 days. [1]"),
        ("Which port does Redis listen on?", "Redis — Port: 6379 [2]"),
        ("Who reads the outbox?", "The `relay` role reads the outbox. [4]"),
    ],
)
def test_the_answer_quotes_the_unit_that_holds_it_and_cites_its_passage(
    answerer: Answerer, question: str, expected: str
) -> None:
    answer = answerer.answer(prompt(question))
    assert answer.startswith(PREFIX)
    assert expected in answer


def test_a_sentence_that_announces_code_is_quoted_with_the_code(answerer: Answerer) -> None:
    answer = answerer.answer(prompt("How do I restart the API?"))
    assert "- Restart the API like this: [3]\n- `kubectl rollout restart deployment/api` [3]" in answer


def test_a_sentence_that_refers_back_is_quoted_after_what_it_refers_to(answerer: Answerer) -> None:
    passage = "Snapshots are written to the archive disk. They are deleted after ninety days."
    answer = answerer.answer(prompt("After how many days are they deleted?", [passage]))
    assert answer.endswith(
        "- Snapshots are written to the archive disk. [1]\n- They are deleted after ninety days. [1]"
    )


@pytest.mark.parametrize(
    "question", ["What is the capital of France?", "How do I bake sourdough bread?", "hello", "", "   ", "?!"]
)
def test_a_question_that_the_documents_do_not_answer_cites_nothing(answerer: Answerer, question: str) -> None:
    assert answerer.answer(prompt(question)) == NOTHING_FOUND
    assert not re.search(r"\[\d+\]", NOTHING_FOUND)


@pytest.mark.parametrize("passages", [[], ["# How long are backups kept?\n\n## Backups kept how long"]])
def test_without_text_below_headings_there_is_no_answer(answerer: Answerer, passages: list[str]) -> None:
    assert answerer.answer(prompt("How long are backups kept?", passages)) == NOTHING_FOUND


def test_a_prompt_without_passages_is_not_answered(answerer: Answerer) -> None:
    assert answerer.answer([Message("user", "How long are backups kept?")]) == NOTHING_FOUND


def test_at_most_three_units_are_quoted_and_each_has_one_citation(answerer: Answerer) -> None:
    passage = "\n".join(
        f"- Backups of cluster {name} are kept for 30 days." for name in ("ash", "oak", "elm", "yew", "fir")
    )
    quotes = [
        line for line in answerer.answer(prompt("How long are backups kept?", [passage])).splitlines()[2:] if line
    ]
    assert 1 <= len(quotes) <= 3
    assert all(re.fullmatch(r"- .+ \[1\]", line) for line in quotes)


def test_text_that_overlapping_passages_repeat_is_quoted_once(answerer: Answerer) -> None:
    answer = answerer.answer(prompt("How long are backups kept?", [BACKUP, BACKUP]))
    assert answer.count("Backups are kept for 30 days.") == 1
    assert "[2]" not in answer


def test_numbers_in_brackets_within_a_passage_do_not_become_citations(answerer: Answerer) -> None:
    answer = answerer.answer(prompt("How long are backups kept?", ["Backups are kept for 30 days [7]."]))
    assert answer == f"{PREFIX} Backups are kept for 30 days (7). [1]"


class CountingEncoder(Encoder):
    """An encoder that notes the texts of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> Embedded:
        self.calls.append(list(texts))
        return super().embed(texts)


@pytest.fixture
def counting() -> Iterator[CountingEncoder]:
    encoder = CountingEncoder()
    yield encoder
    encoder.close()


def test_a_long_prompt_is_answered_with_a_bounded_amount_of_embedding(counting: CountingEncoder) -> None:
    filler = "\n".join(f"- Item {index} of the long list says nothing of note." for index in range(300))
    passages = [filler, *(f"Paragraph {index} is about the weather." for index in range(50)), BACKUP]
    answer = Answerer(counting).answer(prompt("How long are backups kept?", [BACKUP, *passages]))
    assert "Backups are kept for 30 days. [1]" in answer
    assert len(counting.calls) == 1
    assert len(counting.calls[0]) <= 41


def test_sentences_met_again_are_not_embedded_again(counting: CountingEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer(counting)
    first = answerer.answer(prompt("How long are backups kept?"))
    answerer.answer(prompt("When do backups run?"))
    assert counting.calls[1] == ["When do backups run?"]
    monkeypatch.setattr(answers, "_REMEMBERED_EMBEDDINGS", 2)
    answerer.answer(prompt("When do backups run?"))
    assert answerer.answer(prompt("How long are backups kept?")) == first
    assert len(counting.calls[3]) > 2


def test_the_embeddings_that_rank_are_of_the_unit_below_its_heading(counting: CountingEncoder) -> None:
    Answerer(counting).answer(prompt("How long are backups kept?", [BACKUP]))
    assert counting.calls[0][1:] == [
        "Backup: A full backup runs every night at 02:00.",
        "Backup: Backups are kept for 30 days.",
    ]
