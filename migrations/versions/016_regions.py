"""Regions: where the deployments are, and which tenants are at home in which of them."""

from migrations import structure

revision = "016_regions"
down_revision = "015_hybrid_search"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
