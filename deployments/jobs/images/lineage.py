"""What an image was made from, and what was made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import select

from deployments.jobs.database.tables import images, inputs, sources
from deployments.jobs.images.images import Images
from deployments.jobs.records.jobs import Image, Record
from deployments.jobs.transaction.operations import Operations, reads

MOST_GENERATIONS = 50
MOST_RELATIVES = 500


class Relative(Record):
    """A picture that an image was made from, or an image that was made from it."""

    id: str
    kind: Annotated[
        Literal["image", "input", "deleted"], Field(description="What it is; deleted: it is no longer there.")
    ]
    role: Annotated[str, Field(description="The setting that named the older one: image, mask or control_image.")]
    of: Annotated[str, Field(description="The picture of this lineage that it is directly related to.")]
    generation: Annotated[int, Field(description="Steps between it and the image that was asked for; from 1.")]


class Lineage(Record):
    """Both sides, the nearest first; of each at most ``MOST_RELATIVES`` in ``MOST_GENERATIONS``."""

    ancestors: list[Relative]
    descendants: list[Relative]


class Lineages(Operations):
    """Which pictures were made from which."""

    @reads
    async def of(self, image_id: str, client: str | None = None) -> Lineage:
        """Return what an image was made from and what was made from it; what is not the client's is left out.

        Raises:
            UnknownImageError: There is none with this id.
        """
        image = await Images(self.transaction).get(image_id)
        return Lineage(
            ancestors=await self._ancestors(image, client), descendants=await self._descendants(image, client)
        )

    async def _ancestors(self, image: Image, client: str | None) -> list[Relative]:
        found: dict[str, Relative] = {}
        children = [image]
        for generation in range(1, MOST_GENERATIONS + 1):
            named = await self._sources_of(children)
            links = [(child, role, picture) for child, role, picture in named if picture not in found]
            pictures = list({picture for _, _, picture in links})
            made = {each.id: each for each in await Images(self.transaction).find(pictures)}
            sent = await self._owners_of_inputs(pictures)
            for child, role, picture in links:
                owner = made[picture].client if picture in made else sent.get(picture)
                if len(found) < MOST_RELATIVES and _is_for(client, owner):
                    kind: Literal["image", "input", "deleted"] = (
                        "image" if picture in made else "input" if picture in sent else "deleted"
                    )
                    found[picture] = Relative(id=picture, kind=kind, role=role, of=child, generation=generation)
            children = [each for each in made.values() if each.id in found]
            if not children:
                break
        return list(found.values())

    async def _descendants(self, image: Image, client: str | None) -> list[Relative]:
        found: dict[str, Relative] = {}
        parents = [image.id]
        for generation in range(1, MOST_GENERATIONS + 1):
            links = select(images.c.id, images.c.client, sources.c.role, sources.c.picture_id)
            of_parents = (
                links.join(sources, sources.c.job_id == images.c.job_id)
                .where(sources.c.picture_id.in_(parents))
                .order_by(images.c.number)
                .limit(MOST_RELATIVES)
            )
            parents = []
            rows = await self.connection.execute(of_parents)
            for child, owner, role, parent in rows:
                if child not in found and child != image.id and len(found) < MOST_RELATIVES and _is_for(client, owner):
                    found[child] = Relative(id=child, kind="image", role=role, of=parent, generation=generation)
                    parents.append(child)
            if not parents:
                break
        return list(found.values())

    async def _sources_of(self, children: Sequence[Image]) -> list[tuple[str, str, str]]:
        """Child, role and source, for each source of each child."""
        jobs_of = {child.job_id: child.id for child in children}
        wanted = select(sources).where(sources.c.job_id.in_(list(jobs_of))).order_by(sources.c.job_id, sources.c.role)
        return [(jobs_of[job_id], role, picture) for job_id, role, picture in await self.connection.execute(wanted)]

    async def _owners_of_inputs(self, pictures: Sequence[str]) -> dict[str, str]:
        wanted = select(inputs.c.id, inputs.c.client).where(inputs.c.id.in_(pictures))
        return {row.id: row.client for row in await self.connection.execute(wanted)}


def _is_for(client: str | None, owner: str | None) -> bool:
    """A deleted picture has no owner any more; its id alone tells nothing."""
    return client is None or owner is None or owner == client
