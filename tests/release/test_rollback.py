"""make db-rollback: one revision back, or as many as one says."""

import os
import re
import shutil
import subprocess

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.conftest import ROOT, alembic

REVISIONS = [
    script.revision
    for script in ScriptDirectory.from_config(Config(toml_file=ROOT / "pyproject.toml")).walk_revisions()
]


def arguments(*variables: str) -> list[str]:
    """Return what `make db-rollback` gives alembic."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    command = [make, "--dry-run", "--no-print-directory", "db-rollback", *variables]
    # Variables of a make that runs these tests are not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    [found] = re.findall(r"bin/alembic (.+)$", done.stdout, re.MULTILINE)
    return str(found).split()


@pytest.mark.parametrize(("variables", "steps"), [((), 1), (("STEPS=3",), 3)])
def test_revisions_are_undone_and_done_again(empty_database: str, variables: tuple[str, ...], steps: int) -> None:
    for command in (["upgrade", "head"], arguments(*variables)):
        done = alembic(empty_database, *command)
        assert done.returncode == 0, done.stderr
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISIONS[steps],)]
    done = alembic(empty_database, "upgrade", "head")
    assert done.returncode == 0, done.stderr
