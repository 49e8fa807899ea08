"""The gallery: the images that match, newest first; their favourites and tags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, select, text, update

from deployments.jobs.database.search import Search
from deployments.jobs.database.tables import IS_FAVOURITE, image_tags, images, jobs
from deployments.jobs.database.upserts import upsert
from deployments.jobs.images.holdings import Holdings
from deployments.jobs.records.cursors import Cursor, next_cursor
from deployments.jobs.records.exceptions import TooManyTagsError, UnknownImageError
from deployments.jobs.records.jobs import Image, Record
from deployments.jobs.transaction.operations import Operations, changes, reads

MOST_COUNTED = 1000
MOST_TAGS = 50


@dataclass(frozen=True)
class GalleryFilter:
    """Which images are shown; what is None, or empty, does not matter.

    Attributes:
        search: Words; each must be, or begin, one of the prompt or the model id, in whatever case.
        model_id: Their model.
        client: Whose jobs made them.
        created_after: They were made later.
        created_before: They were made earlier.
        size: Their width and height.
        favourite: Whether they are favourites.
        tags: They have all of these.
    """

    search: str = ""
    model_id: str | None = None
    client: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    size: tuple[int, int] | None = None
    favourite: bool | None = None
    tags: tuple[str, ...] = ()

    @property
    def is_counted(self) -> bool:
        """Whether it asks for nothing but a model and a client, whose images are counted as they come and go."""
        return replace(self, model_id=None, client=None) == GalleryFilter()


class GalleryImage(Image):
    """An image as the gallery has it."""

    prompt: str
    width: int
    height: int
    favourite: bool
    tags: Annotated[tuple[str, ...], Field(description="In alphabetical order.")] = ()


class GalleryPage(Record):
    """Some images, newest first."""

    images: list[GalleryImage]
    total: int
    """Images that match, on all pages; of a search or a filter no more than ``MOST_COUNTED`` are counted."""
    next_cursor: str | None
    """Where the next page begins; None on the last one."""


class TagCount(Record):
    """A tag, and how many images have it."""

    tag: str
    images: int


@dataclass(frozen=True)
class _Place:
    """Where a page is among the images that match.

    Attributes:
        limit: Images of the page.
        skipped: Newer ones that are left out.
        before: The number that all of them are below; None for any.
    """

    limit: int
    skipped: int = 0
    before: int | None = None

    def cut(self, numbers: Sequence[int]) -> Sequence[int]:
        """The page's numbers, and the next one, of numbers from the highest to the lowest."""
        older = [number for number in numbers if self.before is None or number < self.before]
        return older[self.skipped : self.skipped + self.limit + 1]


class Gallery(Operations):
    """Pages of images, their favourites and tags."""

    @reads
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
        if self.connection.dialect.name == "postgresql":
            # One plan for frequent and rare words, and sizes, would suit few of them.
            await self.connection.execute(text("SET LOCAL plan_cache_mode = force_custom_plan"))
        if cursor is None:
            place = _Place(limit, skipped=(page - 1) * limit)
        else:
            place = _Place(limit, before=Cursor.decode(cursor).number)
        numbers, total = await self._numbers(wanted, place)
        shown = await self._with_tags(numbers)
        ends = [Cursor(row["created_at"], row["number"]) for row, _ in shown]
        return GalleryPage(
            images=[_shown(row, tags) for row, tags in shown[:limit]],
            total=total,
            next_cursor=next_cursor(ends, limit),
        )

    @changes
    async def mark_favourite(self, image_id: str, *, favourite: bool) -> None:
        """Mark an image as a favourite, or take the mark away.

        Raises:
            UnknownImageError: There is none with this id.
        """
        marked = update(images).where(images.c.id == image_id).values(favourite=favourite)
        if not (await self.connection.execute(marked)).rowcount:
            raise UnknownImageError(f"There is no image {image_id}.")

    @changes
    async def tag(self, image_id: str, tag: str) -> list[str]:
        """Give an image a tag, and return all its tags.

        Raises:
            UnknownImageError: There is none with this id.
            TooManyTagsError: It has as many as it may.
        """
        number = await self._number(image_id)
        row = {"tag": tag, "number": number}
        await self.connection.execute(upsert(self.connection, image_tags).values(**row).on_conflict_do_nothing())
        tags = await self._tags_of(number)
        if len(tags) > MOST_TAGS:
            raise TooManyTagsError(f"tag: the image has {MOST_TAGS} tags, and cannot have more; take one away first.")
        return tags

    @changes
    async def untag(self, image_id: str, tag: str) -> list[str]:
        """Take a tag from an image, and return the tags that are left.

        Raises:
            UnknownImageError: There is none with this id.
        """
        number = await self._number(image_id)
        mine = (image_tags.c.number == number, image_tags.c.tag == tag)
        await self.connection.execute(delete(image_tags).where(*mine))
        return await self._tags_of(number)

    @reads
    async def list_tags(self, client: str | None = None) -> list[TagCount]:
        """Return the tags of a client's images, or of all images, in alphabetical order."""
        counted = select(image_tags.c.tag, func.count().label("images"))
        if client is not None:
            counted = counted.join(images, images.c.number == image_tags.c.number).where(images.c.client == client)
        found = await self.connection.execute(counted.group_by(image_tags.c.tag).order_by(image_tags.c.tag))
        return [TagCount(**row) for row in found.mappings()]

    async def _numbers(self, wanted: GalleryFilter, place: _Place) -> tuple[Sequence[int], int]:
        """The numbers of a page, with one more where there is another page; and how many match."""
        if wanted.is_counted:
            total = await Holdings(self.transaction).image_count(wanted.client, wanted.model_id)
            return await self._newest(wanted, place), total
        # Searching once for the page and once for the total would take twice as long.
        counted = await self._newest(wanted, _Place(MOST_COUNTED - 1))
        numbers = place.cut(counted)
        if len(numbers) <= place.limit and len(counted) == MOST_COUNTED:  # it ends beyond these
            numbers = await self._newest(wanted, place)
        return numbers, len(counted)

    async def _newest(self, wanted: GalleryFilter, place: _Place) -> Sequence[int]:
        conditions = _conditions(wanted)
        matching = Search.of(wanted.search).numbers(self.connection.dialect.name, of_images=bool(conditions))
        number = matching.selected_columns[0]
        if place.before is not None:
            conditions.append(number < place.before)
        newest = matching.where(*conditions).order_by(number.desc()).limit(place.limit + 1).offset(place.skipped)
        return (await self.connection.scalars(newest)).all()

    async def _with_tags(self, numbers: Sequence[int]) -> list[tuple[RowMapping, list[str]]]:
        wanted = select(images, jobs.c.prompt).join(jobs, jobs.c.id == images.c.job_id)
        of_page = wanted.where(images.c.number.in_(numbers)).order_by(images.c.number.desc())
        rows = (await self.connection.execute(of_page)).mappings().all()
        marks = select(image_tags).where(image_tags.c.number.in_(numbers)).order_by(image_tags.c.tag)
        tags: defaultdict[int, list[str]] = defaultdict(list)
        for tag, number in await self.connection.execute(marks):
            tags[number].append(tag)
        return [(row, tags[row["number"]]) for row in rows]

    async def _number(self, image_id: str) -> int:
        wanted = select(images.c.number).where(images.c.id == image_id).with_for_update()
        number: int | None = await self.connection.scalar(wanted)
        if number is None:
            raise UnknownImageError(f"There is no image {image_id}.")
        return number

    async def _tags_of(self, number: int) -> list[str]:
        wanted = select(image_tags.c.tag).where(image_tags.c.number == number).order_by(image_tags.c.tag)
        return list(await self.connection.scalars(wanted))


def _conditions(wanted: GalleryFilter) -> list[ColumnElement[bool]]:
    """All but the search."""
    equal = {images.c.model_id: wanted.model_id, images.c.client: wanted.client}
    conditions: list[ColumnElement[bool]] = [column == value for column, value in equal.items() if value is not None]
    # Images are read by their numbers: a bound of these says where to begin, and where there are no more.
    made = images.alias("made")
    number = made.c.number + 0  # SQLite would look for the least number from the first image on
    if wanted.created_after is not None:
        first = select(func.min(number)).where(made.c.created_at > wanted.created_after).scalar_subquery()
        conditions += [images.c.created_at > wanted.created_after, images.c.number >= first]
    if wanted.created_before is not None:
        last = select(func.max(number)).where(made.c.created_at < wanted.created_before).scalar_subquery()
        conditions += [images.c.created_at < wanted.created_before, images.c.number <= last]
    if wanted.size is not None:
        conditions += [images.c.width == wanted.size[0], images.c.height == wanted.size[1]]
    if wanted.favourite is not None:
        conditions.append(and_(IS_FAVOURITE) if wanted.favourite else images.c.favourite.is_(False))
    for tag in wanted.tags:
        conditions.append(images.c.number.in_(select(image_tags.c.number).where(image_tags.c.tag == tag)))
    return conditions


def _shown(row: RowMapping, tags: Sequence[str]) -> GalleryImage:
    fields = {name: row[name] for name in GalleryImage.model_fields if name != "tags"}
    return GalleryImage(**fields, tags=tuple(tags))
