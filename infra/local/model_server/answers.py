"""The stand-in for a language model: it answers by quoting the passages it was given.

It picks the sentences, list items, table rows or code lines that are closest to the question, by the cosine
of their embeddings and by the words they share, and says plainly that it quotes and does not reason.
"""

import math
import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from infra.local.model_server.bert import Array
from infra.local.model_server.embeddings import Encoder
from infra.local.model_server.markdown import plain, units
from infra.local.model_server.prompts import Message, Passage, passages_of, question_of

PREFIX = "From the documents (extractive stand-in, no language model):"
NOTHING_FOUND = "Nothing in the documents answers this (extractive stand-in, no language model)."

_MAX_QUOTES = 3
# Bounds of the work for one prompt: embedding a sentence takes about 4 ms of a core.
_MAX_PASSAGES = 20
_MAX_PASSAGE_CHARACTERS = 8000
_MAX_UNITS = 400
_MAX_EMBEDDED = 40
_REMEMBERED_EMBEDDINGS = 4096

# Chosen on questions about two operations documents: the best unit scored 0.45 or more for each of 20 that
# they answer (two others, worded unlike the documents, stayed below), 0.27 or less for each of 14 that they
# do not.
_LEXICAL_WEIGHT = 0.35
_HEADING_CREDIT = 0.5
_MIN_SCORE = 0.34
_MIN_SHARE_OF_BEST = 0.75
_SAME_MEANING = 0.93

_WORD = re.compile(r"\w+(?:[.:/_-]\w+)*")
_REFERS_BACK = re.compile(r"(?:It|Its|They|Their|This|These|Those|That)\b")
_PART = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        a about after all also am an and any are as at be been before but by can could did do does
        for from get had has have how i if in into is it its long make many may me mean more much
        must my need no not of on one or our out please should show so some tell than that the their
        them then there these they this to us use used want was way we were what when where which
        while who whose why will with work would you your
        """,
    )
)
_SUFFIXES = ("ings", "ing", "ies", "ed", "es", "s", "e", "y")
_SHORTEST_STEM = 3


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A quotable unit of a passage, with its position among all units and the words above and in it."""

    position: int
    passage: int
    text: str
    context: str
    words: frozenset[str]
    context_words: frozenset[str]


class Answerer:
    """Answers chat prompts extractively; it may be called from several threads at once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: OrderedDict[str, Array] = OrderedDict()
        self._lock = Lock()

    def answer(self, messages: Sequence[Message]) -> str:
        """Return the answer to the last user message: quotes, each followed by its passage's ``[n]``.

        Without passages, or when none of them is close to the question, it says that and cites nothing.
        """
        question = question_of(messages).strip()
        candidates = _candidates(passages_of(messages))
        if not question or not candidates:
            return NOTHING_FOUND
        quotes = self._quotes(question, candidates)
        lines = [f"{quote.text} [{quote.passage}]" for quote in quotes]
        if not lines:
            return NOTHING_FOUND
        if len(lines) == 1:
            return f"{PREFIX} {lines[0]}"
        return f"{PREFIX}\n\n" + "\n".join(f"- {line}" for line in lines)

    def _quotes(self, question: str, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """Return the units that answer, best first."""
        overlap = _overlap(question, candidates)
        shortlist = _shortlist(candidates, overlap)
        texts = [f"{unit.context}: {unit.text}" if unit.context else unit.text for unit in shortlist]
        vectors = self._embed([question, *texts])
        closeness = vectors[1:] @ vectors[0]
        shared = np.array([overlap[unit.position] for unit in shortlist])
        scores = (1 - _LEXICAL_WEIGHT) * closeness + _LEXICAL_WEIGHT * shared
        order = [int(index) for index in np.argsort(-scores, kind="stable")]
        best = float(scores[order[0]])
        if best < _MIN_SCORE:
            return []
        chosen: list[int] = []
        for index in order:
            if scores[index] < max(_MIN_SCORE, _MIN_SHARE_OF_BEST * best) or len(chosen) == _MAX_QUOTES:
                break
            if all(float(vectors[1 + index] @ vectors[1 + other]) < _SAME_MEANING for other in chosen):
                chosen.append(index)
        return _with_neighbours([shortlist[index] for index in chosen], candidates)

    def _embed(self, texts: Sequence[str]) -> Array:
        """Embed the texts in one batch, except those whose embeddings are remembered."""
        with self._lock:
            vectors = {text: self._known[text] for text in texts if text in self._known}
        missing = [text for text in dict.fromkeys(texts) if text not in vectors]
        vectors |= zip(missing, self._encoder.embed(missing).vectors, strict=True)
        with self._lock:
            for text in vectors:
                self._known[text] = vectors[text]
                self._known.move_to_end(text)
            while len(self._known) > _REMEMBERED_EMBEDDINGS:
                self._known.popitem(last=False)
        return np.stack([vectors[text] for text in texts])


def _candidates(passages: Sequence[Passage]) -> list[_Candidate]:
    """Return the units of all passages; a text that overlapping passages repeat counts once."""
    found: dict[str, _Candidate] = {}
    for passage in passages[:_MAX_PASSAGES]:
        title = plain(passage.title[:_MAX_PASSAGE_CHARACTERS])
        for unit in units(passage.text[:_MAX_PASSAGE_CHARACTERS], title):
            if len(found) == _MAX_UNITS:
                return list(found.values())
            if unit.text in found:
                continue
            found[unit.text] = _Candidate(
                position=len(found),
                passage=passage.number,
                text=unit.text,
                context=unit.heading,
                words=frozenset(_words(unit.text)),
                context_words=frozenset(_words(f"{title} {unit.heading}")),
            )
    return list(found.values())


def _overlap(question: str, candidates: Sequence[_Candidate]) -> list[float]:
    """Return for each unit the share, 0 to 1, of the question's words it has, weighted by their rarity.

    A word that only stands in the title or heading above a unit counts half.
    """
    asked = set(_words(question))
    frequency = Counter(word for unit in candidates for word in unit.words & asked)
    weights = {word: math.log(1 + len(candidates) / (1 + frequency[word])) for word in asked}
    total = sum(weights.values()) or 1.0
    return [
        sum(
            weight * (1 if word in unit.words else _HEADING_CREDIT if word in unit.context_words else 0)
            for word, weight in weights.items()
        )
        / total
        for unit in candidates
    ]


def _shortlist(candidates: Sequence[_Candidate], overlap: Sequence[float]) -> list[_Candidate]:
    """Choose the units worth embedding: most by shared words, the rest by how early retrieval ranked them."""
    if len(candidates) <= _MAX_EMBEDDED:
        return list(candidates)
    by_words = sorted(candidates, key=lambda unit: -overlap[unit.position])[: _MAX_EMBEDDED * 3 // 4]
    chosen = {unit.position for unit in by_words}
    early = [unit for unit in candidates if unit.position not in chosen]
    return by_words + early[: _MAX_EMBEDDED - len(by_words)]


def _with_neighbours(quotes: Sequence[_Candidate], candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Complete quotes that make no sense alone, within the limit of quotes.

    What follows one that ends in a colon, and what precedes one that begins with a pronoun, stands beside it.
    """
    complete: dict[int, _Candidate] = {}
    for quote in quotes:
        first = quote.position - 1 if _REFERS_BACK.match(quote.text) else quote.position
        last = quote.position + 1 if quote.text.endswith(":") else quote.position
        for neighbour in candidates[max(first, 0) : last + 1]:
            if neighbour.passage == quote.passage:
                complete.setdefault(neighbour.position, neighbour)
    return list(complete.values())[:_MAX_QUOTES]


def _words(text: str) -> Iterator[str]:
    """Yield the words that carry meaning, without their inflection; compounds also by their parts."""
    for compound in _WORD.findall(text.lower()):
        for word in {compound, *_PART.findall(compound)}:
            if word not in _STOP_WORDS:
                yield _stem(word)


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word.removesuffix(suffix)
    return word
