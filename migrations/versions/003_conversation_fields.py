"""Messages as a tree, archived conversations, and turns of the OpenAI API, which bring their own messages."""

from migrations import structure

revision = "003_conversation_fields"
down_revision = "000_core"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
