"""What a turn's trace tells beside the columns that are there: when it was decided, and what became of each attempt."""

from migrations import structure

revision = "004_agent_traces"
down_revision = "003_conversation_fields"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
