"""Pictures that clients sent, and every picture that a job may start from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.tables import inputs
from deployments.jobs.database.upserts import upsert
from deployments.jobs.images.images import Images
from deployments.jobs.records.exceptions import UnknownImageError, UnknownPictureError
from deployments.jobs.records.jobs import Input, NewInput, Picture


@dataclass(frozen=True)
class Inputs:
    """What is done with inputs, within one transaction."""

    connection: AsyncConnection

    async def add(self, new: NewInput, now: datetime) -> Input:
        """See :meth:`JobStore.add_input`."""
        added = upsert(self.connection, inputs).values(**new.model_dump(), created_at=now)
        # One that is sent again is as good as new to those who remove what is old.
        await self.connection.execute(
            added.on_conflict_do_update(index_elements=[inputs.c.id], set_={"created_at": now})
        )
        kept = await self.find(new.id)
        return kept or Input(**new.model_dump(), created_at=now)

    async def find(self, input_id: str) -> Input | None:
        """See :meth:`JobStore.find_input`."""
        found = await self.connection.execute(select(inputs).where(inputs.c.id == input_id))
        row = found.mappings().one_or_none()
        return None if row is None else Input(**{name: row[name] for name in Input.model_fields})

    async def picture(self, picture_id: str) -> Picture:
        """See :meth:`JobStore.get_picture`."""
        sent = await self.find(picture_id)
        if sent is not None:
            shared = sent.model_dump(include=set(Picture.model_fields))
            return Picture(kind="input", **shared)
        try:
            made = await Images(self.connection).get(picture_id)
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
