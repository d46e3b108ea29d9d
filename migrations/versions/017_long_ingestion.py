"""Documents that no request has time for are indexed by a job of their own."""

from migrations import structure

revision = "017_long_ingestion"
down_revision = "016_regions"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
