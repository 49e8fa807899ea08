"""Priority, expiry, pauses between attempts, paused models, lists and the record of actions."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

WAITS = sa.text("pending > 0")
INDEXES = {
    "ix_jobs_created_at": ["created_at", "number"],
    "ix_jobs_list_state": ["state", "created_at", "number"],
    "ix_jobs_list_model": ["model_id", "created_at", "number"],
    "ix_jobs_list_client": ["client", "created_at", "number"],
}
PARTIAL_INDEXES = {
    "ix_jobs_queue": (["model_id", "client", "priority", "place"], "state = 'pending' AND not_before IS NULL"),
    "ix_jobs_not_before": (["not_before"], "not_before IS NOT NULL"),
    "ix_jobs_expires_at": (["expires_at"], "expires_at IS NOT NULL AND started_at IS NULL AND completed_at IS NULL"),
    "ix_jobs_completed_at": (["completed_at"], "completed_at IS NOT NULL"),
}


def upgrade() -> None:
    """Give every job and lane the normal class, and count the jobs of the lanes by blocks of places."""
    for column in _new_columns():
        op.add_column("jobs", column)
    for name in ("ix_jobs_queue", "ix_jobs_left", "ix_jobs_created_at"):
        op.drop_index(name, "jobs")
    for name, columns in INDEXES.items():
        op.create_index(name, "jobs", columns)
    for name, (columns, where) in PARTIAL_INDEXES.items():
        _create_partial_index(name, "jobs", columns, sa.text(where))
    _give_lanes_a_class()
    op.create_table(
        "blocks",
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("block", sa.Integer, nullable=False, comment="A lane's places, so many at a time."),
        sa.Column("pending", sa.Integer, nullable=False, comment="Jobs that wait in the lane at these places."),
        sa.PrimaryKeyConstraint("model_id", "client", "priority", "block", name="pk_blocks"),
    )
    _create_partial_index("ix_blocks_pending", "blocks", ["model_id", "client", "priority", "block", "pending"], WAITS)
    op.execute(
        "INSERT INTO blocks (model_id, client, priority, block, pending)"
        " SELECT model_id, client, 1, place / 512, count(*) FROM jobs WHERE state = 'pending'"
        " GROUP BY model_id, client, place / 512"
    )
    op.create_table(
        "pauses",
        sa.Column("model_id", sa.String(255), nullable=False, comment="No job of this model is claimed."),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name="pk_pauses"),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(64)),
        sa.Column("model_id", sa.String(255)),
        sa.Column("details", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )


def downgrade() -> None:
    """Take it all back; a job that pauses may be claimed at once, and the record of actions is lost."""
    for table in ("audit", "pauses", "blocks"):
        op.drop_table(table)
    for name in (*INDEXES, *PARTIAL_INDEXES):
        op.drop_index(name, "jobs")
    for column in _new_columns():
        op.drop_column("jobs", column.name)
    _merge_lanes()
    op.create_index("ix_jobs_queue", "jobs", ["state", "model_id", "client", "place"])
    _create_partial_index("ix_jobs_left", "jobs", ["model_id", "client", "place"], sa.text("state <> 'pending'"))
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])


def _new_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "priority", sa.Integer, nullable=False, server_default="1", comment="Rank of its class now; 0 goes first."
        ),
        sa.Column(
            "asked_priority", sa.Integer, nullable=False, server_default="1", comment="Rank that it was submitted with."
        ),
        sa.Column(
            "not_before",
            sa.DateTime(timezone=True),
            comment="While it pauses between attempts, and is in no lane: until when.",
        ),
        sa.Column("expires_in", sa.Integer, comment="Seconds from its submit."),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("batch_size", sa.Integer, comment="Jobs of the batch that it came in."),
        sa.Column("retry_of", sa.String(64), comment="Id of the job that it tries again."),
    ]


def _give_lanes_a_class() -> None:
    op.drop_index("ix_lanes_next", "lanes")
    with op.batch_alter_table("lanes") as lanes:
        lanes.add_column(
            sa.Column(
                "priority", sa.Integer, nullable=False, server_default="1", comment="Rank of the class; 0 goes first."
            )
        )
        lanes.drop_constraint("uq_lanes_model_id", "unique")
        lanes.create_unique_constraint("uq_lanes_model_id", ["model_id", "client", "priority"])
    columns = ["model_id", "priority", "last_turn", "number", "pending"]
    _create_partial_index("ix_lanes_next", "lanes", columns, WAITS)
    _create_partial_index("ix_lanes_client", "lanes", ["client", "pending"], WAITS)


def _merge_lanes() -> None:
    for name in ("ix_lanes_next", "ix_lanes_client"):
        op.drop_index(name, "lanes")
    op.execute("DELETE FROM lanes")
    with op.batch_alter_table("lanes") as lanes:
        lanes.drop_constraint("uq_lanes_model_id", "unique")
        lanes.drop_column("priority")
        lanes.create_unique_constraint("uq_lanes_model_id", ["model_id", "client"])
    op.execute(
        """
        UPDATE jobs SET place = aged.place FROM (
            SELECT number, row_number() OVER (PARTITION BY model_id, client ORDER BY number) AS place FROM jobs
        ) AS aged WHERE aged.number = jobs.number
        """
    )
    op.execute(
        """
        INSERT INTO lanes (model_id, client, pending, places, last_turn)
        SELECT model_id, client, sum(CASE WHEN state = 'pending' THEN 1 ELSE 0 END), max(place), max(turn)
        FROM jobs GROUP BY model_id, client ORDER BY min(number)
        """
    )
    _create_partial_index("ix_lanes_next", "lanes", ["model_id", "last_turn", "number", "pending"], WAITS)


def _create_partial_index(name: str, table: str, columns: list[str], where: sa.TextClause) -> None:
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)
