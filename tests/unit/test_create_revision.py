"""`make migrate-create` names a revision and makes its files."""

import shutil
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from migrations.create import create, next_id

MIGRATIONS = Path(__file__).parents[2] / "migrations"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A copy of the migrations."""
    shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "migrations"))
    config.set_main_option("file_template", "%%(rev)s")
    return config


@pytest.mark.parametrize(
    ("message", "revisions", "name"),
    [
        ("add_new_feature_table", ["000_core", "015_hybrid_search"], "016_add_new_feature_table"),
        ("Notes on turns!", ["000_core"], "001_notes_on_turns"),
        ("a message that is longer than any id may be", [], "000_a_message_that_is_longer_tha"),
    ],
)
def test_a_revision_is_the_next_number_and_the_messages_words(message: str, revisions: list[str], name: str) -> None:
    assert next_id(message, revisions) == name


def test_it_makes_the_revision_after_the_newest_with_two_empty_files(config: Config, tmp_path: Path) -> None:
    before = ScriptDirectory.from_config(config).get_current_head()
    files = create("notes on turns", "", config, tmp_path / "migrations" / "versions")
    assert [file.name for file in files[1:]] == ["01_up.sql", "down.sql"]
    assert all(file.is_file() for file in files)
    script = ScriptDirectory.from_config(config)
    made = script.get_revision(script.get_current_head() or "")
    assert (made.revision, made.down_revision) == (files[0].stem, before)
    assert made.doc == "notes on turns."


@pytest.mark.parametrize(("message", "revision"), [("", "016_notes"), ("again", "000_core")])
def test_without_a_message_or_with_an_id_that_is_taken_nothing_is_made(
    config: Config, tmp_path: Path, message: str, revision: str
) -> None:
    versions = tmp_path / "migrations" / "versions"
    before = {path.name for path in versions.iterdir()}
    with pytest.raises(CommandError):
        create(message, revision, config, versions)
    assert {path.name for path in versions.iterdir() if path.name != "__pycache__"} == before
