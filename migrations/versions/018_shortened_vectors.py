"""Embedding models whose vectors are shorter than by themselves, because they are asked to be."""

from migrations import structure

revision = "018_shortened_vectors"
down_revision = "017_long_ingestion"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
