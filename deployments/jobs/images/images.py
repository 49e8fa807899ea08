"""Images of completed jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, delete, insert, select

from deployments.jobs.database.rows import find_job, image_of
from deployments.jobs.database.search import indexed_words
from deployments.jobs.database.tables import images
from deployments.jobs.images.holdings import Holdings
from deployments.jobs.records.exceptions import UnknownImageError
from deployments.jobs.records.jobs import Image, NewImage
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.operations import Operations, changes, reads
from deployments.jobs.transaction.transaction import Transaction


class Images(Operations):
    """Records of images; storage has their bytes."""

    @reads
    async def of_jobs(self, job_ids: Sequence[str]) -> list[Image]:
        """Return the images of some jobs, each job's by their index; none of an unknown job."""
        found = await self.connection.execute(
            select(images).where(images.c.job_id.in_(job_ids)).order_by(images.c.index)
        )
        return [image_of(row) for row in found.mappings()]

    @reads
    async def get(self, image_id: str) -> Image:
        """Return an image.

        Raises:
            UnknownImageError: There is none with this id.
        """
        found = await self.find([image_id])
        if not found:
            raise UnknownImageError(f"There is no image {image_id}.")
        return found[0]

    @reads
    async def find(self, image_ids: Sequence[str]) -> list[Image]:
        """Return those of some images that exist, in the order of the ids."""
        found = await self.connection.execute(select(images).where(images.c.id.in_(image_ids)))
        by_id = {row["id"]: image_of(row) for row in found.mappings()}
        return [by_id[image_id] for image_id in dict.fromkeys(image_ids) if image_id in by_id]

    @changes
    async def delete(self, image_id: str, who: str = "") -> Image:
        """Delete an image's record and return it; the caller removes the bytes that it names.

        Raises:
            UnknownImageError: There is none with this id.
        """
        image = await self.get(image_id)
        await self._delete(images.c.id == image_id)
        job = await find_job(self.connection, image.job_id)
        await Audit(self.transaction).note(who, Action.DELETE_IMAGE, job, image_id=image_id)
        return image

    @changes
    async def delete_many(self, image_ids: Sequence[str], who: str) -> list[str]:
        """Delete the records of images whose bytes are gone, and return the ids of those that existed."""
        there = [image.id for image in await self.find(image_ids)]
        if there:
            await self._delete(images.c.id.in_(there))
            await Audit(self.transaction).note(who, Action.DELETE_IMAGES, images=len(there), image_ids=there)
        return there

    async def delete_of_jobs(self, job_ids: Sequence[str]) -> None:
        """Delete the records of the images of some jobs."""
        await self._delete(images.c.job_id.in_(job_ids))

    async def add(self, made: Sequence[tuple[RowMapping, Sequence[NewImage]]]) -> None:
        """Keep the records of jobs' images.

        Args:
            made: The row of each job, and its images; a job may have none.
        """
        rows = [row for job, of_job in made for row in _rows_of(self.transaction, job, of_job)]
        if not rows:
            return
        await self.connection.execute(insert(images), rows)
        await Holdings(self.transaction).note([(row["client"], row["model_id"], row["byte_count"]) for row in rows], 1)

    async def _delete(self, which: ColumnElement[bool]) -> None:
        gone = delete(images).where(which).returning(images.c.client, images.c.model_id, images.c.byte_count)
        found = await self.connection.execute(gone)
        await Holdings(self.transaction).note([(row[0], row[1], row[2]) for row in found], -1)


def _rows_of(change: Transaction, job: RowMapping, made: Sequence[NewImage]) -> list[dict[str, Any]]:
    shared = {
        "job_id": job["id"],
        "created_at": change.now,
        "model_id": job["model_id"],
        "client": job["client"],
        "width": job["settings"]["width"],
        "height": job["settings"]["height"],
        "words": indexed_words(job["prompt"], job["model_id"]),
    }
    return [{**image.model_dump(), **shared} for image in sorted(made, key=lambda image: image.index)]
