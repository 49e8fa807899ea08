"""Pictures that clients sent, and every picture that a job may start from."""

from __future__ import annotations

from sqlalchemy import select

from deployments.jobs.database.tables import inputs
from deployments.jobs.database.upserts import upsert
from deployments.jobs.images.images import Images
from deployments.jobs.records.exceptions import UnknownImageError, UnknownPictureError
from deployments.jobs.records.jobs import Input, NewInput, Picture
from deployments.jobs.transaction.operations import Operations, changes, reads


class Inputs(Operations):
    """Records of inputs; storage has their bytes."""

    @changes
    async def add(self, new: NewInput) -> Input:
        """Keep the record of a picture that a client sent, or return the one that already has its id."""
        now = self.transaction.now
        added = upsert(self.connection, inputs).values(**new.model_dump(), created_at=now)
        # One that is sent again is as good as new to those who remove what is old.
        await self.connection.execute(
            added.on_conflict_do_update(index_elements=[inputs.c.id], set_={"created_at": now})
        )
        kept = await self.find(new.id)
        return kept or Input(**new.model_dump(), created_at=now)

    @reads
    async def find(self, input_id: str) -> Input | None:
        """Return a picture that a client sent; None where there is none with this id."""
        found = await self.connection.execute(select(inputs).where(inputs.c.id == input_id))
        row = found.mappings().one_or_none()
        return None if row is None else Input(**{name: row[name] for name in Input.model_fields})

    @reads
    async def picture(self, picture_id: str) -> Picture:
        """Return a picture that a job may start from: an input, or an image that was made here.

        Raises:
            UnknownPictureError: There is none with this id.
        """
        sent = await self.find(picture_id)
        if sent is not None:
            shared = sent.model_dump(include=set(Picture.model_fields))
            return Picture(kind="input", **shared)
        try:
            made = await Images(self.transaction).get(picture_id)
        except UnknownImageError:
            raise UnknownPictureError(f"There is no input and no image {picture_id}.") from None
        settings = made.metadata["settings"]
        return Picture(
            kind="image",
            id=made.id,
            key=made.key,
            sha256=made.sha256,
            width=settings["width"],
            height=settings["height"],
            client=made.client,
        )
