"""API keys, the secrets that replicas share, and how many images clients asked for on a day."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "api_keys",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False, comment="SHA-256 of the whole key."),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), comment="To some minutes."),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("number", name="pk_api_keys"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
    )
    op.create_table(
        "shared_secrets",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_shared_secrets"),
    )
    op.create_table(
        "daily_images",
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("day", sa.Date, nullable=False, comment="In UTC."),
        sa.Column("images", sa.Integer, nullable=False, comment="Asked for, by keys with such a limit."),
        sa.PrimaryKeyConstraint("client", "day", name="pk_daily_images"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("daily_images", "shared_secrets", "api_keys"):
        op.drop_table(table)
