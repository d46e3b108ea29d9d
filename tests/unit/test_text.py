"""What can be stored, and what is made storable."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.text import Cleaner, Text, is_storable, storable

ANY = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=30)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("", ""),
        ("a\0b", "ab"),
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("ü漢", "ü漢"),
    ],
)
def test_text_is_made_storable(text: str, clean: str) -> None:
    assert storable(text) == clean


@given(ANY)
def test_any_text_becomes_storable_and_what_was_stays(text: str) -> None:
    assert is_storable(storable(text))
    storable(text).encode()
    if is_storable(text):
        assert storable(text) == text


@given(ANY, st.integers(0, 30))
def test_pieces_are_cleaned_as_the_whole(text: str, cut: int) -> None:
    cleaner = Cleaner()
    assert cleaner.clean(text[:cut]) + cleaner.clean(text[cut:], final=True) == storable(text)


@pytest.mark.parametrize("text", ["", " ", "\u00a0\n", "a\0", "\ud800"])
def test_what_a_person_cannot_have_written_is_no_text(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Text).validate_python(text)


def test_what_a_person_wrote_stays_as_it_is() -> None:
    assert TypeAdapter(Text).validate_json(json.dumps(" ü\n🏙 ")) == " ü\n🏙 "
