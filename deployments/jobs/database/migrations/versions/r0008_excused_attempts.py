"""Attempts that do not count, because the service was stopped under them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; so far every attempt counted."""
    op.add_column(
        "jobs",
        sa.Column(
            "excused", sa.Integer, nullable=False, server_default="0", comment="Attempts that do not count as tried."
        ),
    )


def downgrade() -> None:
    """Count every attempt."""
    op.drop_column("jobs", "excused")
