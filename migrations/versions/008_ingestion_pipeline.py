"""Ingestion as a chain of events: the queue of embeddings, the models that make them, and who may use a collection."""

from migrations import structure

revision = "008_ingestion_pipeline"
down_revision = "004_agent_traces"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
