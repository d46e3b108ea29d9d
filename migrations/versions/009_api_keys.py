"""API keys: hashed secrets, scopes, expiry, rotation."""

from migrations import structure

revision = "009_api_keys"
down_revision = "008_ingestion_pipeline"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
