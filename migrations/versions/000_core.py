"""The core: roles, tenants and users, documents, conversations, routing, inference jobs, events."""

from migrations import structure

revision = "000_core"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
