"""Lanes and tallies: the next job, a job's position and the counts without a look at every pending job."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HAS_LEFT = sa.text("state <> 'pending'")
WAITS = sa.text("pending > 0")


def upgrade() -> None:
    """Create both tables and fill them from the jobs."""
    op.add_column(
        "jobs",
        sa.Column(
            "place", sa.Integer, nullable=False, server_default="0", comment="In its lane, from 1: rises with its age."
        ),
    )
    op.create_table(
        "lanes",
        sa.Column("number", sa.Integer, nullable=False, comment="Rises with every client that is new at a model."),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("pending", sa.Integer, nullable=False, comment="Pending jobs of this client at this model."),
        sa.Column("places", sa.Integer, nullable=False, comment="Places given out so far."),
        sa.Column("last_turn", sa.Integer, nullable=False, comment="The newest turn of its jobs."),
        sa.PrimaryKeyConstraint("number", name="pk_lanes"),
        sa.UniqueConstraint("model_id", "client", name="uq_lanes_model_id"),
    )
    op.create_table(
        "tallies",
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("shard", sa.Integer, nullable=False, comment="So that few writers meet at one row."),
        sa.Column("jobs", sa.Integer, nullable=False, comment="Jobs in this state: the sum over the shards."),
        sa.PrimaryKeyConstraint("state", "model_id", "shard", name="pk_tallies"),
    )
    _fill()
    for name in ("ix_jobs_queue", "ix_jobs_turns", "ix_jobs_turn"):
        op.drop_index(name, "jobs")
    op.create_index("ix_jobs_queue", "jobs", ["state", "model_id", "client", "place"])
    op.create_index(
        "ix_jobs_left", "jobs", ["model_id", "client", "place"], sqlite_where=HAS_LEFT, postgresql_where=HAS_LEFT
    )
    op.create_index(
        "ix_lanes_next",
        "lanes",
        ["model_id", "last_turn", "number", "pending"],
        sqlite_where=WAITS,
        postgresql_where=WAITS,
    )
    op.create_index("ix_lanes_last_turn", "lanes", ["last_turn"])


def downgrade() -> None:
    """Drop both tables; the jobs hold all that they told."""
    op.drop_table("tallies")
    op.drop_table("lanes")
    for name in ("ix_jobs_queue", "ix_jobs_left"):
        op.drop_index(name, "jobs")
    op.drop_column("jobs", "place")
    op.create_index("ix_jobs_queue", "jobs", ["state", "model_id", "client", "number"])
    op.create_index("ix_jobs_turns", "jobs", ["model_id", "client", "turn"])
    op.create_index("ix_jobs_turn", "jobs", ["turn"])


def _fill() -> None:
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
    op.execute(
        "INSERT INTO tallies (state, model_id, shard, jobs)"
        " SELECT state, model_id, 0, count(*) FROM jobs GROUP BY state, model_id"
    )
