"""The part of the job tracker that is about single pictures: those that were made, and those that clients sent."""

from __future__ import annotations

from deployments.jobs.records.jobs import Image, Input, NewInput, Picture
from deployments.tracker.part import TrackerPart


class TrackerPictures(TrackerPart):
    """Each method raises what the method of :class:`JobStore` with its name raises."""

    async def images_of(self, job_id: str) -> list[Image]:
        """Return a job's images by their index."""
        return await (await self._store()).images_of(job_id)

    async def get_image(self, image_id: str) -> Image:
        """Return an image."""
        return await (await self._store()).get_image(image_id)

    async def delete_image(self, image_id: str, who: str = "") -> Image:
        """Forget an image; the caller removes its bytes."""
        return await (await self._store()).delete_image(image_id, who)

    async def add_input(self, new: NewInput) -> Input:
        """Keep the record of a picture that a client sent, or return the one that already has its id."""
        return await (await self._store()).add_input(new)

    async def find_input(self, input_id: str) -> Input | None:
        """Return a picture that a client sent; None where there is none with this id."""
        return await (await self._store()).find_input(input_id)

    async def get_picture(self, picture_id: str) -> Picture:
        """Return a picture that a job may start from: an input, or an image that was made here."""
        return await (await self._store()).get_picture(picture_id)
