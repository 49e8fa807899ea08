"""Jobs and images."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INDEXES = {
    "ix_jobs_queue": ["state", "model_id", "client", "number"],
    "ix_jobs_turns": ["model_id", "client", "turn"],
    "ix_jobs_turn": ["turn"],
    "ix_jobs_claim_id": ["claim_id"],
    "ix_jobs_created_at": ["created_at"],
}


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, nullable=False, comment="Age: rises with every submit."),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("negative_prompt", sa.Text, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False, comment="Prompt and model id, case-folded."),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("phase", sa.String(16)),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("total_steps", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("completed_at", sa.DateTime(timezone=True)),
        sa.Column("processing_seconds", sa.Float, comment="Of the attempt that completed."),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("claim_id", sa.String(64), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("turn", sa.Integer, nullable=False, comment="Rises with every claim; 0 before the first."),
        sa.PrimaryKeyConstraint("number", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
    )
    for name, columns in INDEXES.items():
        op.create_index(name, "jobs", columns)
    op.create_table(
        "images",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("media_type", sa.String(64), nullable=False),
        sa.Column("byte_count", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_images"),
        sa.UniqueConstraint("id", name="uq_images_id"),
        sa.UniqueConstraint("job_id", "index", name="uq_images_job_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_images_job_id"),
    )


def downgrade() -> None:
    """Drop both tables, and with them every job."""
    op.drop_table("images")
    op.drop_table("jobs")
