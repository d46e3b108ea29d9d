"""Token budgets: limits, balances, reservations, ledger."""

from migrations import structure

revision = "012_budget_metrics"
down_revision = "009_api_keys"
branch_labels = None
depends_on = None


def upgrade() -> None:
    structure.upgrade(revision)


def downgrade() -> None:
    structure.downgrade(revision)
