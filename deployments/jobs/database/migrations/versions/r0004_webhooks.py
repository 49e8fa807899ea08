"""Calls to clients that are due, and a client's open and newest jobs without a look at the others."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the outbox; no job of before wants a call."""
    op.add_column("jobs", sa.Column("webhook_url", sa.Text, comment="To be called when it has ended."))
    op.create_index("ix_jobs_client", "jobs", ["client", "completed_at"])
    op.create_table(
        "webhooks",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False, comment="While it is tried: its lease."),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_webhooks"),
        sa.UniqueConstraint("id", name="uq_webhooks_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_webhooks_job_id", ondelete="CASCADE"),
    )
    op.create_index("ix_webhooks_due", "webhooks", ["state", "due_at"])
    op.create_index("ix_webhooks_job", "webhooks", ["job_id"])


def downgrade() -> None:
    """Forget the calls."""
    op.drop_table("webhooks")
    op.drop_index("ix_jobs_client", "jobs")
    op.drop_column("jobs", "webhook_url")
