"""What the job store offers of images: the gallery, marks, lineage, who has how many, and what upkeep needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.images.gallery import Gallery, GalleryFilter, GalleryPage, TagCount
from deployments.jobs.images.holdings import Holding, list_holdings
from deployments.jobs.images.images import Images
from deployments.jobs.images.lineage import Lineage, lineage_of
from deployments.jobs.images.upkeep import (
    BegunJob,
    FileBatch,
    begin_chore,
    begun_jobs,
    files_after,
    forget_unused_inputs,
    known_ids,
)
from deployments.jobs.records.jobs import Image, PictureKind
from deployments.jobs.transaction.audit import Action, Audit
from deployments.jobs.transaction.change import Change
from deployments.jobs.transaction.store_part import StorePart


class StoreGallery(StorePart):
    """Images: pages of them, marks, lineage, upkeep."""

    async def page(
        self, wanted: GalleryFilter, page: int = 1, limit: int = 20, cursor: str | None = None
    ) -> GalleryPage:
        """Return a page of the gallery, newest first.

        Args:
            wanted: Which images.
            page: From 1; of no meaning with a cursor.
            limit: Images on a page.
            cursor: ``next_cursor`` of the page before.

        Raises:
            InvalidCursorError: The cursor is not one of these lists.
        """
        return await self._database.read(lambda connection: Gallery(connection).page(wanted, page, limit, cursor))

    async def find_images(self, image_ids: Sequence[str]) -> list[Image]:
        """Return those of some images that there are, in the order of the ids."""
        return await self._database.read(lambda connection: Images(connection).find(image_ids))

    async def delete_images(self, image_ids: Sequence[str], who: str) -> list[str]:
        """Forget images whose bytes are gone, and return the ids of those that there were."""

        async def work(change: Change) -> list[str]:
            there = [image.id for image in await Images(change.connection).find(image_ids)]
            await Images(change.connection).delete(there)
            if there:
                await Audit(change, who).note(Action.DELETE_IMAGES, images=len(there), image_ids=there)
            return there

        return await self._change(work)

    async def mark_favourite(self, image_id: str, *, favourite: bool) -> None:
        """Make an image a favourite, or an image like others.

        Raises:
            UnknownImageError: There is none with this id.
        """
        await self._change(lambda change: Gallery(change.connection).mark(image_id, favourite=favourite))

    async def tag(self, image_id: str, tag: str) -> list[str]:
        """Give an image a tag, and return all that it has.

        Raises:
            UnknownImageError: There is none with this id.
            TooManyTagsError: It has as many as it may.
        """
        return await self._change(lambda change: Gallery(change.connection).tag(image_id, tag))

    async def untag(self, image_id: str, tag: str) -> list[str]:
        """Take a tag from an image, and return those that it has left; raises :class:`UnknownImageError`."""
        return await self._change(lambda change: Gallery(change.connection).untag(image_id, tag))

    async def list_tags(self, client: str | None = None) -> list[TagCount]:
        """Return the tags of a client's images, or of all, in alphabetical order."""
        return await self._database.read(lambda connection: Gallery(connection).tags(client))

    async def lineage(self, image_id: str, client: str | None = None) -> Lineage:
        """Return what an image was made from and what was made from it; what is not the client's is left out.

        Raises:
            UnknownImageError: There is none with this id.
        """

        async def work(connection: AsyncConnection) -> Lineage:
            return await lineage_of(connection, await Images(connection).get(image_id), client)

        return await self._database.read(work)

    async def usage(self, client: str | None = None) -> list[Holding]:
        """Return how many images and bytes a client has of each model; of all clients where none is named."""
        return await self._database.read(lambda connection: list_holdings(connection, client))

    async def known_ids(self, ids: Sequence[str]) -> set[str]:
        """Return those of some ids that are those of an image or an input."""
        return await self._database.read(lambda connection: known_ids(connection, ids))

    async def begun_jobs(self) -> list[BegunJob]:
        """Return the jobs that were claimed and have not ended."""
        return await self._database.read(begun_jobs)

    async def files_after(self, kind: PictureKind, last: int, limit: int) -> FileBatch:
        """Return up to ``limit`` files of a kind behind the ``last`` of an earlier batch (0: from the oldest on)."""
        return await self._database.read(lambda connection: files_after(connection, kind, last, limit))

    async def forget_unused_inputs(self, older_than: timedelta, limit: int) -> int:
        """Forget inputs that no job names and that were sent long ago, and return how many; their bytes stay."""
        return await self._change(
            lambda change: forget_unused_inputs(change.connection, change.now - older_than, limit)
        )

    async def begin_chore(self, name: str, every: timedelta) -> bool:
        """Whether a chore is due; True for one of those who ask, and for nobody again until its time comes."""
        return await self._change(lambda change: begin_chore(change.connection, name, change.now, every))
