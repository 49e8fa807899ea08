"""The part of the job tracker for images: the gallery, marks, lineage, and what upkeep needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from deployments.jobs.images.gallery import GalleryFilter, GalleryPage, TagCount
from deployments.jobs.images.holdings import Holding
from deployments.jobs.images.lineage import Lineage
from deployments.jobs.images.store_gallery import StoreGallery
from deployments.jobs.images.upkeep import BegunJob, FileBatch
from deployments.jobs.records.jobs import Image, PictureKind
from deployments.tracker.part import TrackerPart


class TrackerGallery(TrackerPart):
    """Each method raises what that of :class:`StoreGallery` with its name raises, or, of ``gallery_page``, ``page``."""

    async def _gallery(self) -> StoreGallery:
        return (await self._store()).gallery

    async def gallery_page(
        self, wanted: GalleryFilter, page: int = 1, limit: int = 20, cursor: str | None = None
    ) -> GalleryPage:
        """Return a page of the gallery, newest first."""
        return await (await self._gallery()).page(wanted, page, limit, cursor)

    async def find_images(self, image_ids: Sequence[str]) -> list[Image]:
        """Return those of some images that there are, in the order of the ids."""
        return await (await self._gallery()).find_images(image_ids)

    async def delete_images(self, image_ids: Sequence[str], who: str) -> list[str]:
        """Forget images whose bytes are gone, and return the ids of those that there were."""
        return await (await self._gallery()).delete_images(image_ids, who)

    async def mark_favourite(self, image_id: str, *, favourite: bool) -> None:
        """Make an image a favourite, or an image like others."""
        await (await self._gallery()).mark_favourite(image_id, favourite=favourite)

    async def tag(self, image_id: str, tag: str) -> list[str]:
        """Give an image a tag, and return all that it has."""
        return await (await self._gallery()).tag(image_id, tag)

    async def untag(self, image_id: str, tag: str) -> list[str]:
        """Take a tag from an image, and return those that it has left."""
        return await (await self._gallery()).untag(image_id, tag)

    async def list_tags(self, client: str | None = None) -> list[TagCount]:
        """Return the tags of a client's images, or of all, in alphabetical order."""
        return await (await self._gallery()).list_tags(client)

    async def lineage(self, image_id: str, client: str | None = None) -> Lineage:
        """Return what an image was made from and what was made from it."""
        return await (await self._gallery()).lineage(image_id, client)

    async def usage(self, client: str | None = None) -> list[Holding]:
        """Return how many images and bytes a client has of each model; of all clients where none is named."""
        return await (await self._gallery()).usage(client)

    async def known_ids(self, ids: Sequence[str]) -> set[str]:
        """Return those of some ids that are those of an image or an input."""
        return await (await self._gallery()).known_ids(ids)

    async def begun_jobs(self) -> list[BegunJob]:
        """Return the jobs that were claimed and have not ended."""
        return await (await self._gallery()).begun_jobs()

    async def files_after(self, kind: PictureKind, last: int, limit: int) -> FileBatch:
        """Return up to ``limit`` files of a kind behind the ``last`` of an earlier batch."""
        return await (await self._gallery()).files_after(kind, last, limit)

    async def forget_unused_inputs(self, older_than: timedelta, limit: int) -> int:
        """Forget inputs that no job names and that were sent long ago, and return how many."""
        return await (await self._gallery()).forget_unused_inputs(older_than, limit)

    async def begin_chore(self, name: str, every: timedelta) -> bool:
        """Whether a chore is due; True for one of those who ask."""
        return await (await self._gallery()).begin_chore(name, every)
