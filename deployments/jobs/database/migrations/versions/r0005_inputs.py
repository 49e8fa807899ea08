"""Pictures that clients send for jobs to start from."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "inputs",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String(64), nullable=False, comment="Of its client and its sha256."),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, comment="Of the file as it is kept."),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("byte_count", sa.Integer, nullable=False),
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_inputs"),
        sa.UniqueConstraint("id", name="uq_inputs_id"),
    )
    op.create_index("ix_inputs_created_at", "inputs", ["created_at"])


def downgrade() -> None:
    """Drop the table; the files stay in storage."""
    op.drop_table("inputs")
