"""Runs the frozen SQL of one revision.

A revision is `versions/<revision>.py` and a folder beside it: its `*.sql` files, in order of their names, are the
upgrade, and `down.sql` is the downgrade. The text is frozen: it never refers to the living files of `sql/`.
"""

from pathlib import Path

from alembic import context, op
from alembic.script import ScriptDirectory

from migrations import logic
from shared.settings import get_settings

VERSIONS = Path(__file__).parent / "versions"


WIDTH = "1536 /* EMBEDDING_DIMENSIONS */"


def upgrade(revision: str) -> None:
    """Run the revision's upgrade files as the owner of the platform's objects.

    Files named `*.admin.sql` run as the connecting role, because only that one may create roles and schemas.
    """
    for path in sorted((VERSIONS / revision).glob("*.sql")):
        if path.name == "down.sql":
            continue
        run(path, as_owner=not path.name.endswith(".admin.sql"))


def downgrade(revision: str) -> None:
    """Remove the logic that needs the revision, undo the structure, and bring back the logic that stood before."""
    connection = op.get_bind()
    restorable = logic.remove_requiring(connection, revision, revisions_up_to(revision) - {revision})
    run(VERSIONS / revision / "down.sql", as_owner=False)
    logic.restore(connection, restorable)


def revisions_up_to(heads: str | tuple[str, ...]) -> frozenset[str]:
    """Return the given revisions and all that they build on."""
    script = ScriptDirectory.from_config(context.config)
    return frozenset(s.revision for s in script.iterate_revisions(heads, "base")) if heads else frozenset()


def run(path: Path, *, as_owner: bool) -> None:
    """Execute one frozen file; the deployment's width of embeddings takes the place of the default that it names."""
    body = path.read_text().replace(WIDTH, str(get_settings().embedding_dimensions))
    connection = op.get_bind()
    if as_owner:
        logic.run_script(connection, "SET LOCAL ROLE ea_owner")
    logic.run_script(connection, body)
    logic.run_script(connection, "RESET ROLE")
