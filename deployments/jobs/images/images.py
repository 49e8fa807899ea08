"""Images of completed jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.rows import image_of
from deployments.jobs.database.search import indexed_words
from deployments.jobs.database.tables import images
from deployments.jobs.images.holdings import note_images
from deployments.jobs.records.exceptions import UnknownImageError
from deployments.jobs.records.jobs import Image, NewImage
from deployments.jobs.transaction.change import Change


@dataclass(frozen=True)
class Images:
    """What is done with images, within one transaction."""

    connection: AsyncConnection

    async def of_job(self, job_id: str) -> list[Image]:
        """See :meth:`JobStore.images_of`."""
        return await self.of_jobs([job_id])

    async def of_jobs(self, job_ids: Sequence[str]) -> list[Image]:
        """Return the images of some jobs, each job's by their index."""
        found = await self.connection.execute(
            select(images).where(images.c.job_id.in_(job_ids)).order_by(images.c.index)
        )
        return [image_of(row) for row in found.mappings()]

    async def get(self, image_id: str) -> Image:
        """See :meth:`JobStore.get_image`."""
        found = await self.find([image_id])
        if not found:
            raise UnknownImageError(f"There is no image {image_id}.")
        return found[0]

    async def find(self, image_ids: Sequence[str]) -> list[Image]:
        """See :meth:`StoreGallery.find_images`."""
        found = await self.connection.execute(select(images).where(images.c.id.in_(image_ids)))
        by_id = {row["id"]: image_of(row) for row in found.mappings()}
        return [by_id[image_id] for image_id in dict.fromkeys(image_ids) if image_id in by_id]

    async def delete(self, image_ids: Sequence[str]) -> None:
        """Forget those of some images that there are."""
        await self._forget(images.c.id.in_(image_ids))

    async def delete_of_jobs(self, job_ids: Sequence[str]) -> None:
        """Forget the images of some jobs."""
        await self._forget(images.c.job_id.in_(job_ids))

    async def _forget(self, which: ColumnElement[bool]) -> None:
        gone = delete(images).where(which).returning(images.c.client, images.c.model_id, images.c.byte_count)
        found = await self.connection.execute(gone)
        await note_images(self.connection, [(row[0], row[1], row[2]) for row in found], -1)


async def add_images(change: Change, made: Sequence[tuple[RowMapping, Sequence[NewImage]]]) -> None:
    """Keep the records of jobs' images.

    Args:
        change: The transaction.
        made: The row of each job, and its images; none is no error.
    """
    rows = [row for job, of_job in made for row in _rows_of(change, job, of_job)]
    if not rows:
        return
    await change.connection.execute(insert(images), rows)
    await note_images(change.connection, [(row["client"], row["model_id"], row["byte_count"]) for row in rows], 1)


def _rows_of(change: Change, job: RowMapping, made: Sequence[NewImage]) -> list[dict[str, Any]]:
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
