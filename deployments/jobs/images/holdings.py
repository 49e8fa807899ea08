"""How many images, and how many bytes of them, each client has of each model, without a look at the images."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import ColumnElement, func, select

from deployments.jobs.database.tables import holdings
from deployments.jobs.database.upserts import add_counts
from deployments.jobs.records.jobs import Record
from deployments.jobs.transaction.ledger import SHARDS
from deployments.jobs.transaction.operations import Operations, reads

_IMAGES, _BYTES = (
    func.coalesce(func.sum(holdings.c.images), 0).label("images"),
    func.coalesce(func.sum(holdings.c.bytes), 0).label("bytes"),
)


class Holding(Record):
    """What a client has of a model."""

    client: str
    model_id: str
    images: int
    bytes: int


class Holdings(Operations):
    """What clients have; the numbers change in the transactions in which images come and go."""

    @reads
    async def of(self, client: str | None = None) -> list[Holding]:
        """Return how many images and bytes a client has of each model; of all clients where none is named."""
        names = (holdings.c.client, holdings.c.model_id)
        wanted = select(*names, _IMAGES, _BYTES).where(*_of(client)).group_by(*names).order_by(*names)
        found = (await self.connection.execute(wanted.having(func.sum(holdings.c.images) > 0))).mappings()
        return [Holding(**{**row, "bytes": int(row["bytes"])}) for row in found]

    async def image_count(self, client: str | None = None, model_id: str | None = None) -> int:
        """Return how many images there are, of a client and of a model where these are named."""
        of_model = () if model_id is None else (holdings.c.model_id == model_id,)
        return int(await self.connection.scalar(select(_IMAGES).where(*_of(client), *of_model)) or 0)

    async def byte_count(self, client: str | None = None) -> int:
        """Return how many bytes the images have, of a client where one is named."""
        return int(await self.connection.scalar(select(_BYTES).where(*_of(client))) or 0)

    async def note(self, changed: Iterable[tuple[str, str, int]], sign: int) -> None:
        """Count images that come or go.

        Args:
            changed: Client, model and bytes of each.
            sign: 1 where they come, -1 where they go.
        """
        found: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for client, model_id, byte_count in changed:
            found[client, model_id][0] += sign
            found[client, model_id][1] += sign * byte_count
        if not found:
            return
        shard = secrets.randbelow(SHARDS)
        # In order, so that no two transactions wait for each other.
        rows = [
            {"client": client, "model_id": model_id, "shard": shard, "images": count, "bytes": byte_count}
            for (client, model_id), (count, byte_count) in sorted(found.items())
        ]
        await add_counts(self.connection, holdings, rows)


def _of(client: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if client is None else (holdings.c.client == client,)
