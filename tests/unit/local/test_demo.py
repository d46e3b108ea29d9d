from pathlib import Path

import pytest

from infra.local.assembly import ROOT
from infra.local.demo import collect, run
from tests.documents import readable_documents


def test_documents_of_every_format_are_taken_and_named_by_their_place_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    documents = {f"sub/{document.name}": document for document in readable_documents()}
    for name, document in documents.items():
        (tmp_path / name).write_bytes(document.content)
    (tmp_path / "LICENSE").write_text("A text without a suffix.")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\x00")
    (tmp_path / ".env").touch()
    left_out: dict[str, list[str]] = {}
    found = {file.name: file.path for file in collect(str(tmp_path), left_out)}
    assert found == {name: tmp_path / name for name in ("LICENSE", *documents)}
    assert left_out == {"of a kind that is not read": ["picture.png"], "hidden": [".env"]}


def test_one_document_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    [file] = collect(str(tmp_path / "a.pdf"), {})
    assert (file.name, file.path, file.media_type) == ("a.pdf", tmp_path / "a.pdf", "application/pdf")


def test_the_project_s_own_documents_are_its_texts() -> None:
    left_out: dict[str, list[str]] = {}
    names = {file.name: file.path for file in collect("", left_out)}
    assert names == {path.name: path for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md")}
    assert left_out == {}


@pytest.mark.parametrize(
    ("name", "told"), [("empty", ""), ("missing", ""), ("pictures", "a.png"), ("pictures/a.png", "a.png")]
)
def test_a_folder_without_documents_is_an_error_that_tells_what_was_left_out(
    tmp_path: Path, name: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG\x00")
    assert run({"DOCS": str(tmp_path / name)}) == 1
    printed = capsys.readouterr().out
    assert "choose others with DOCS=path" in printed
    assert ("Left out, 1 of a kind that is not read: a.png" in printed) == bool(told)


def test_more_documents_than_the_demo_takes_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.txt").touch()
    assert run({"DOCS": str(tmp_path)}) == 1
    assert "has 1,001 documents; the demo takes 1,000" in capsys.readouterr().out
