"""The tables of the job store, in SQL that SQLite and PostgreSQL share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
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
    TextClause,
    TypeDecorator,
    UniqueConstraint,
    column,
    false,
    table,
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
IN_LANE = text("state = 'pending' AND not_before IS NULL")
PAUSES = text("not_before IS NOT NULL")
RUNS = text("state = 'processing'")
# Of pending jobs. It does not name the state: SQLite would look at all that have it.
EXPIRES = text("expires_at IS NOT NULL AND started_at IS NULL AND completed_at IS NULL")
HAS_ENDED = text("completed_at IS NOT NULL")
WAITS = text("pending > 0")
IS_FAVOURITE = text("favourite")


def _partial(name: str, *columns: str, where: TextClause) -> Index:
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


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
    Column("excused", Integer, nullable=False, server_default="0", comment="Attempts that do not count as tried."),
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
    Column("webhook_url", Text, comment="To be called when it has ended."),
    Column("priority", Integer, nullable=False, server_default="1", comment="Rank of its class now; 0 goes first."),
    Column("asked_priority", Integer, nullable=False, server_default="1", comment="Rank that it was submitted with."),
    Column("not_before", UtcDateTime, comment="While it pauses between attempts, and is in no lane: until when."),
    Column("expires_in", Integer, comment="Seconds from its submit."),
    Column("expires_at", UtcDateTime),
    Column("batch_size", Integer, comment="Jobs of the batch that it came in."),
    Column("retry_of", String(64), comment="Id of the job that it tries again."),
    # The claim takes a lane's oldest jobs.
    _partial("ix_jobs_queue", "model_id", "client", "priority", "place", where=IN_LANE),
    # When a pause ends, and when a job expires.
    _partial("ix_jobs_not_before", "not_before", where=PAUSES),
    _partial("ix_jobs_expires_at", "expires_at", where=EXPIRES),
    # The newest ends tell how fast a queue moves, the oldest ones what is kept no longer.
    _partial("ix_jobs_completed_at", "completed_at", where=HAS_ENDED),
    Index("ix_jobs_claim_id", "claim_id"),
    # Lists, newest first, from any place on.
    Index("ix_jobs_created_at", "created_at", "number"),
    Index("ix_jobs_list_state", "state", "created_at", "number"),
    Index("ix_jobs_list_model", "model_id", "created_at", "number"),
    Index("ix_jobs_list_client", "client", "created_at", "number"),
    # A client's open and newest jobs.
    Index("ix_jobs_client", "client", "completed_at"),
)

lanes = Table(
    "lanes",
    metadata,
    Column("number", Integer, primary_key=True, comment="Rises with every client that is new at a model."),
    Column("model_id", String(255), nullable=False),
    Column("client", String(255), nullable=False),
    Column("priority", Integer, nullable=False, server_default="1", comment="Rank of the class; 0 goes first."),
    Column("pending", Integer, nullable=False, comment="Pending jobs of this client at this model."),
    Column("places", Integer, nullable=False, comment="Places given out so far."),
    Column("last_turn", Integer, nullable=False, comment="The newest turn of its jobs."),
    UniqueConstraint("model_id", "client", "priority"),
    # Who is next, and how many are ahead.
    _partial("ix_lanes_next", "model_id", "priority", "last_turn", "number", "pending", where=WAITS),
    _partial("ix_lanes_client", "client", "pending", where=WAITS),
    Index("ix_lanes_last_turn", "last_turn"),
)

blocks = Table(
    "blocks",
    metadata,
    Column("model_id", String(255), primary_key=True),
    Column("client", String(255), primary_key=True),
    Column("priority", Integer, primary_key=True, autoincrement=False),
    Column("block", Integer, primary_key=True, autoincrement=False, comment="A lane's places, so many at a time."),
    Column("pending", Integer, nullable=False, comment="Jobs that wait in the lane at these places."),
    # How many wait in front of a block.
    _partial("ix_blocks_pending", "model_id", "client", "priority", "block", "pending", where=WAITS),
)

pauses = Table(
    "pauses",
    metadata,
    Column("model_id", String(255), primary_key=True, comment="No job of this model is claimed."),
    Column("paused_at", UtcDateTime, nullable=False),
    Column("who", String(255), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("who", String(255), nullable=False),
    Column("action", String(32), nullable=False),
    Column("job_id", String(64)),
    Column("model_id", String(255)),
    Column("details", JSON, nullable=False),
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
    Column("model_id", String(255), nullable=False, server_default=""),
    Column("client", String(255), nullable=False, server_default=""),
    Column("width", Integer, nullable=False, server_default="0"),
    Column("height", Integer, nullable=False, server_default="0"),
    Column("favourite", Boolean, nullable=False, server_default=false()),
    # Indexed by what each kind of database has for it: see deployments.jobs.database.search.
    Column("words", Text, nullable=False, server_default="", comment="Of the prompt and the model id, for searches."),
    UniqueConstraint("job_id", "index"),
    # The gallery of a model, of an owner, of a size, of favourites: newest first, from any place on.
    Index("ix_images_model", "model_id", "number"),
    Index("ix_images_client", "client", "number"),
    Index("ix_images_size", "width", "height", "number"),
    _partial("ix_images_favourite", "number", where=IS_FAVOURITE),
    Index("ix_images_created_at", "created_at", "number"),
)

# What searches look at, which triggers keep in step with the images. In SQLite it is an FTS5 table: its `rowid` is the
# number, and what is named as itself is matched; PostgreSQL has a tsvector, `words`.
image_words = table("image_words", *map(column, ("rowid", "image_words", "number", "words")))

image_tags = Table(
    "image_tags",
    metadata,
    Column("tag", String(64), primary_key=True),
    Column("number", ForeignKey("images.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Index("ix_image_tags_number", "number"),
)

sources = Table(
    "sources",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(32), primary_key=True, comment="The setting that names the picture."),
    Column("picture_id", String(64), nullable=False, comment="An input, or an image; it may be gone."),
    Index("ix_sources_picture", "picture_id"),
)

holdings = Table(
    "holdings",
    metadata,
    Column("client", String(255), primary_key=True),
    Column("model_id", String(255), primary_key=True),
    Column("shard", Integer, primary_key=True, autoincrement=False, comment="So that few writers meet at one row."),
    Column("images", Integer, nullable=False, comment="That there are: the sum over the shards."),
    Column("bytes", BigInteger, nullable=False, comment="Of their files: the sum over the shards."),
)

chores = Table(
    "chores",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("begun_at", UtcDateTime, nullable=False, comment="By whichever process came first."),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("url", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", UtcDateTime, nullable=False, comment="While it is tried: its lease."),
    Column("last_error", Text, nullable=False, default=""),
    Index("ix_webhooks_due", "state", "due_at"),
    Index("ix_webhooks_job", "job_id"),
)

inputs = Table(
    "inputs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True, comment="Of its client and its sha256."),
    Column("key", String(255), nullable=False),
    Column("sha256", String(64), nullable=False, comment="Of the file as it is kept."),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("byte_count", Integer, nullable=False),
    Column("client", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_inputs_created_at", "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("hash", String(64), nullable=False, comment="SHA-256 of the whole key."),
    Column("scopes", JSON, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime, comment="To some minutes."),
    Column("revoked_at", UtcDateTime),
)

shared_secrets = Table(
    "shared_secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(255), nullable=False),
)

daily_images = Table(
    "daily_images",
    metadata,
    Column("client", String(255), primary_key=True),
    Column("day", Date, primary_key=True, comment="In UTC."),
    Column("images", Integer, nullable=False, comment="Asked for, by keys with such a limit."),
)
