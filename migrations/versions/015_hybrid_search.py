"""Search by meaning, words and spelling that stays quick: a vocabulary of each tenant, its index, and settings."""

from migrations import structure

revision = "015_hybrid_search"
down_revision = "014_model_aliases"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
