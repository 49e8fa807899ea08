"""The tables of the job store, in SQL that SQLite and PostgreSQL share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC also where the database has no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time: nobody could say later what it meant."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Give back an aware time in UTC."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

# Conditions of partial indexes, word for word as the queries have them: a parameter would not be recognized.
HAS_LEFT = text("state <> 'pending'")
WAITS = text("pending > 0")

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True, comment="Age: rises with every submit."),
    Column("id", String(64), nullable=False, unique=True),
    Column("model_id", String(255), nullable=False),
    Column("client", String(255), nullable=False),
    Column("prompt", Text, nullable=False),
    Column("negative_prompt", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("search_text", Text, nullable=False, comment="Prompt and model id, case-folded."),
    Column("state", String(16), nullable=False),
    Column("phase", String(16)),
    Column("step", Integer, nullable=False, default=0),
    Column("total_steps", Integer, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("message", Text, nullable=False, default=""),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("completed_at", UtcDateTime),
    Column("processing_seconds", Float, comment="Of the attempt that completed."),
    Column("holder", String(255), nullable=False, default=""),
    Column("claim_id", String(64), nullable=False, default=""),
    Column("lease_until", UtcDateTime),
    Column("turn", Integer, nullable=False, default=0, comment="Rises with every claim; 0 before the first."),
    Column("place", Integer, nullable=False, server_default="0", comment="In its lane, from 1: rises with its age."),
    # The claim takes a lane's oldest pending jobs, and the reaper looks at all processing ones.
    Index("ix_jobs_queue", "state", "model_id", "client", "place"),
    # How many have left a lane ahead of a job, of which there are few, tells its position.
    Index("ix_jobs_left", "model_id", "client", "place", sqlite_where=HAS_LEFT, postgresql_where=HAS_LEFT),
    Index("ix_jobs_claim_id", "claim_id"),
    Index("ix_jobs_created_at", "created_at"),
)

lanes = Table(
    "lanes",
    metadata,
    Column("number", Integer, primary_key=True, comment="Rises with every client that is new at a model."),
    Column("model_id", String(255), nullable=False),
    Column("client", String(255), nullable=False),
    Column("pending", Integer, nullable=False, comment="Pending jobs of this client at this model."),
    Column("places", Integer, nullable=False, comment="Places given out so far."),
    Column("last_turn", Integer, nullable=False, comment="The newest turn of its jobs."),
    UniqueConstraint("model_id", "client"),
    # Who is next, and how many are ahead.
    Index("ix_lanes_next", "model_id", "last_turn", "number", "pending", sqlite_where=WAITS, postgresql_where=WAITS),
    Index("ix_lanes_last_turn", "last_turn"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("state", String(16), primary_key=True),
    Column("model_id", String(255), primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False, comment="So that few writers meet at one row."),
    Column("jobs", Integer, nullable=False, comment="Jobs in this state: the sum over the shards."),
)

images = Table(
    "images",
    metadata,
    # The gallery is read newest first: along this key, backwards, which also makes its pages stable.
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("key", String(255), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("byte_count", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("job_id", "index"),
)
