"""Records that upkeep needs: which files belong to an image or an input, and which inputs nobody uses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import and_, delete, exists, or_, select

from deployments.jobs.database.tables import RUNS, chores, images, inputs, jobs, sources
from deployments.jobs.database.upserts import upsert
from deployments.jobs.records.jobs import JobState, PictureKind, Record
from deployments.jobs.transaction.operations import Operations, changes, reads


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


class UpkeepRecords(Operations):
    """Queries and changes for upkeep."""

    @reads
    async def known_ids(self, ids: Sequence[str]) -> set[str]:
        """Return those of some ids that belong to an image or an input."""
        found: set[str] = set()
        for column in (images.c.id, inputs.c.id):
            found |= set(await self.connection.scalars(select(column).where(column.in_(ids))))
        return found

    @reads
    async def begun_jobs(self) -> list[BegunJob]:
        """Return the jobs that were claimed and have not ended."""
        waits_again = and_(jobs.c.state == JobState.PENDING, jobs.c.attempts > 0)
        found = await self.connection.execute(select(jobs.c.id, jobs.c.settings).where(or_(RUNS, waits_again)))
        return [BegunJob(job_id=job_id, num_images=settings["num_images"]) for job_id, settings in found]

    @reads
    async def files_after(self, kind: PictureKind, last: int, limit: int) -> FileBatch:
        """Return up to ``limit`` files of a kind behind the ``last`` of an earlier batch; 0 begins with the oldest."""
        table = images if kind == "image" else inputs
        kept = select(table.c.number, table.c.id, table.c.key, table.c.sha256)
        found = await self.connection.execute(kept.where(table.c.number > last).order_by(table.c.number).limit(limit))
        rows = found.all()
        files = [KeptFile(id=row.id, key=row.key, sha256=row.sha256) for row in rows]
        return FileBatch(files=files, last=rows[-1].number if rows else last)

    @changes
    async def forget_unused_inputs(self, older_than: timedelta, limit: int) -> int:
        """Delete the records of old inputs that no job names, and return how many; their bytes stay."""
        before = self.transaction.now - older_than
        is_unused = ~exists().where(sources.c.picture_id == inputs.c.id)
        is_old = inputs.c.created_at < before
        old = select(inputs.c.id).where(is_old, is_unused).order_by(inputs.c.created_at).limit(limit)
        # Looked at once more: it may have been sent again since the others were found.
        gone = delete(inputs).where(inputs.c.id.in_(old), is_old, is_unused)
        return (await self.connection.execute(gone)).rowcount

    @changes
    async def begin_chore(self, name: str, every: timedelta) -> bool:
        """Return whether a chore is due: True for one caller, and for no other one until its time comes again."""
        now = self.transaction.now
        begun = upsert(self.connection, chores).values(name=name, begun_at=now)
        is_due = chores.c.begun_at <= now - every
        claimed = begun.on_conflict_do_update(
            index_elements=[chores.c.name], set_={"begun_at": now}, where=is_due
        ).returning(chores.c.name)
        return (await self.connection.execute(claimed)).first() is not None
