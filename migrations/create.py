"""Starts a revision: `make migrate-create message="add a table"`, optionally with its id."""

import re
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

VERSIONS = Path(__file__).parent / "versions"
MAX_ID_CHARS = 32
"""As long as alembic's table has room for."""
NUMBER = re.compile(r"\A(\d{3})_")


def next_id(message: str, revisions: list[str]) -> str:
    """Return the next number and the message's words."""
    numbers = [int(match[1]) for revision in revisions if (match := NUMBER.match(revision))]
    words = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")
    return f"{max(numbers, default=-1) + 1:03}_{words}"[:MAX_ID_CHARS].rstrip("_")


def create(message: str, revision: str, config: Config, versions: Path = VERSIONS) -> list[Path]:
    """Make a revision's files, with an id of its message where none is given, and return them; raises CommandError."""
    if not message:
        raise CommandError('a message is needed: make migrate-create message="add a table"')
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    revision = revision or next_id(message, known)
    if revision in known:
        # alembic would write over it.
        raise CommandError(f"there is a revision {revision}")
    command.revision(config, message=message, rev_id=revision)
    folder = versions / revision
    folder.mkdir()
    files = [folder / "01_up.sql", folder / "down.sql"]
    for file in files:
        file.touch()
    return [versions / f"{revision}.py", *files]


def main() -> None:
    """Make the revision that the command line describes: message, id."""
    message, revision = (*sys.argv[1:], "", "")[:2]
    try:
        files = create(message, revision, Config(toml_file="pyproject.toml"))
    except CommandError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write("".join(f"{file.relative_to(Path.cwd())}\n" for file in files))


if __name__ == "__main__":
    main()
