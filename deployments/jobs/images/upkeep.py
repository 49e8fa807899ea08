"""What the records say to those who tidy up: which files belong to something, and what nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import and_, delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import RUNS, chores, images, inputs, jobs, sources
from deployments.jobs.database.upserts import upsert
from deployments.jobs.records.jobs import JobState, PictureKind, Record


class BegunJob(Record):
    """A job that has not ended, whose images an attempt may have written before there is a record of them."""

    job_id: str
    num_images: int


class KeptFile(Record):
    """The file of an image or of an input, as its record has it."""

    id: Annotated[str, Field(description="Of the image or the input.")]
    key: str
    sha256: str


class FileBatch(Record):
    """Some files, those with the oldest records first."""

    files: list[KeptFile]
    last: Annotated[int, Field(description="Where the next batch begins; of no meaning where there are no files.")]


async def known_ids(connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
    """See :meth:`StoreGallery.known_ids`."""
    found: set[str] = set()
    for column in (images.c.id, inputs.c.id):
        found |= set(await connection.scalars(select(column).where(column.in_(ids))))
    return found


async def begun_jobs(connection: AsyncConnection) -> list[BegunJob]:
    """See :meth:`StoreGallery.begun_jobs`."""
    waits_again = and_(jobs.c.state == JobState.PENDING, jobs.c.attempts > 0)
    found = await connection.execute(select(jobs.c.id, jobs.c.settings).where(or_(RUNS, waits_again)))
    return [BegunJob(job_id=job_id, num_images=settings["num_images"]) for job_id, settings in found]


async def files_after(connection: AsyncConnection, kind: PictureKind, last: int, limit: int) -> FileBatch:
    """See :meth:`StoreGallery.files_after`."""
    table = images if kind == "image" else inputs
    kept = select(table.c.number, table.c.id, table.c.key, table.c.sha256)
    found = await connection.execute(kept.where(table.c.number > last).order_by(table.c.number).limit(limit))
    rows = found.all()
    files = [KeptFile(id=row.id, key=row.key, sha256=row.sha256) for row in rows]
    return FileBatch(files=files, last=rows[-1].number if rows else last)


async def forget_unused_inputs(connection: AsyncConnection, before: datetime, limit: int) -> int:
    """See :meth:`StoreGallery.forget_unused_inputs`."""
    is_unused = ~exists().where(sources.c.picture_id == inputs.c.id)
    old = select(inputs.c.id).where(inputs.c.created_at < before, is_unused).order_by(inputs.c.created_at).limit(limit)
    # Looked at once more: it may have been sent again since the others were found.
    gone = delete(inputs).where(inputs.c.id.in_(old), inputs.c.created_at < before, is_unused)
    return (await connection.execute(gone)).rowcount


async def begin_chore(connection: AsyncConnection, name: str, now: datetime, every: timedelta) -> bool:
    """See :meth:`StoreGallery.begin_chore`."""
    begun = upsert(connection, chores).values(name=name, begun_at=now)
    is_due = chores.c.begun_at <= now - every
    claimed = begun.on_conflict_do_update(
        index_elements=[chores.c.name], set_={"begun_at": now}, where=is_due
    ).returning(chores.c.name)
    return (await connection.execute(claimed)).first() is not None
