"""What a revision may not take away from the functions of the release before it."""

from pathlib import Path

import pytest

from infra.local.assembly import ROOT
from migrations.contracts import broken, statements


def test_this_tree_takes_nothing_away_from_the_previous_release(previous: Path) -> None:
    assert list(broken(ROOT, previous)) == []


def tree(folder: Path, version: str, **files: str) -> Path:
    """Return a tree of a version with the files of its revisions, `r001` standing for `r001/01.sql`."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    for revision, body in files.items():
        path = folder / "migrations" / "versions" / revision / "01.sql"
        path.parent.mkdir(parents=True)
        path.write_text(body)
        (path.parent / "down.sql").write_text("DROP TABLE core.things;")
    return folder


OLD = "CREATE TABLE core.things (id uuid, name text);"
TAKEN_AWAY = {
    "DROP TABLE core.things": "drops what",
    "drop function core.f(uuid)": "drops what",
    "ALTER TABLE core.things DROP COLUMN name": "drops a column",
    "ALTER TABLE core.things\n  ADD COLUMN more text,\n  DROP COLUMN name": "drops a column",
    "ALTER TABLE core.things RENAME TO objects": "renames",
    "ALTER TABLE core.things RENAME COLUMN name TO title": "renames",
    "ALTER TYPE core.kind RENAME VALUE 'a' TO 'b'": "renames",
    "ALTER TABLE core.things ALTER COLUMN name TYPE varchar(9)": "type",
    "ALTER TABLE core.things ALTER name SET DATA TYPE varchar(9)": "type",
    "ALTER TABLE core.things ADD COLUMN more text NOT NULL": "must be given",
    "ALTER TABLE core.things ADD COLUMN a text DEFAULT 'x', ADD COLUMN b text NOT NULL": "must be given",
    "ALTER TABLE core.things ALTER COLUMN name SET NOT NULL": "asks for name",
}
ADDED = [
    "CREATE TABLE core.more (id uuid NOT NULL); ALTER TABLE core.more RENAME TO others;",
    "ALTER TABLE core.things ADD COLUMN more text",
    "ALTER TABLE core.things ADD COLUMN more text NOT NULL DEFAULT 'x'",
    "ALTER TABLE core.things ADD COLUMN more text DEFAULT 'x' NOT NULL",
    "ALTER TABLE core.things ADD COLUMN more int NOT NULL GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE core.things ALTER name SET DEFAULT ''; ALTER TABLE core.things ALTER name SET NOT NULL;",
    "ALTER TABLE core.things ADD CONSTRAINT named CHECK (name IS NOT NULL) NOT VALID",
    "ALTER TABLE core.things DROP CONSTRAINT named",
    "-- DROP TABLE core.things;\nCOMMENT ON TABLE core.things IS 'no DROP TABLE; really'",
    "DO $$ BEGIN EXECUTE 'x'; ALTER TABLE core.things RENAME TO y; END $$",
]


@pytest.mark.parametrize(("statement", "reason"), TAKEN_AWAY.items())
def test_what_the_release_before_may_use_is_not_taken_away(tmp_path: Path, statement: str, reason: str) -> None:
    before = tree(tmp_path / "before", "1.0.0", r001=OLD)
    now = tree(tmp_path / "now", "1.1.0", r001=OLD, r002=statement)
    [told] = broken(now, before)
    assert told.startswith("migrations/versions/r002/01.sql: ")
    assert reason in told
    out = tree(tmp_path / "out", "1.1.0", r001=OLD, r002=f"-- contract: 1.0.0 does without it\n{statement}")
    assert list(broken(out, before)) == []
    early = tree(tmp_path / "early", "1.1.0", r001=OLD, r002=f"-- contract: 1.1.0 does without it\n{statement}")
    [told] = broken(early, before)
    assert "1.1.0, which does without it, is not out" in told


@pytest.mark.parametrize("statement", ADDED)
def test_what_is_added_is_added(tmp_path: Path, statement: str) -> None:
    before = tree(tmp_path / "before", "1.0.0", r001=OLD)
    assert list(broken(tree(tmp_path / "now", "1.1.0", r001=OLD, r002=statement), before)) == []


@pytest.mark.parametrize(("version", "told"), [("0.9.0", 0), ("1.0.0", 1)])
def test_a_revision_is_frozen_with_the_release_that_it_came_with(tmp_path: Path, version: str, told: int) -> None:
    before = tree(tmp_path / "before", version, r001=OLD)
    now = tree(tmp_path / "now", "1.1.0", r001=f"{OLD} COMMENT ON TABLE core.things IS 'Things.';")
    assert len(list(broken(now, before))) == told


def test_statements_are_told_apart() -> None:
    assert statements("SELECT ';' ; -- a;b\nDO $x$ a; $$ b; $$ $x$;\n\n/* c; */ SELECT\n 1") == [
        "SELECT ''",
        "DO ''",
        "SELECT 1",
    ]
