from pathlib import Path

import pytest

from infra.local.demo import DemoError, collect, run


def test_documents_of_a_folder_are_named_by_their_place_in_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "sub/a.MD", "c.pdf", "d"):
        (tmp_path / name).touch()
    assert collect(str(tmp_path)) == {"b.txt": tmp_path / "b.txt", "sub/a.MD": tmp_path / "sub" / "a.MD"}


def test_one_document_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    assert collect(str(tmp_path / "a.md")) == {"a.md": tmp_path / "a.md"}


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_documents_is_an_error(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DemoError, match=r"no \.md or \.txt files in .*DOCS=path"):
        collect(str(tmp_path / name))
    assert run({"DOCS": str(tmp_path / name)}) == 1
    assert "choose others with DOCS=path" in capsys.readouterr().out
