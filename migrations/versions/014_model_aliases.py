"""Names of a tenant's own for a model with collections, which clients of the OpenAI API ask by."""

from migrations import structure

revision = "014_model_aliases"
down_revision = "012_budget_metrics"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
