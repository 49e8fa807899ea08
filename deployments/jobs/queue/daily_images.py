"""The daily limit of images that an API key may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from sqlalchemy import delete, select

from deployments.jobs.database.tables import daily_images
from deployments.jobs.database.upserts import add_counts
from deployments.jobs.records.exceptions import DailyLimitError
from deployments.jobs.transaction.transaction import Transaction


async def spend_images(transaction: Transaction, client: str, count: int, limit: int) -> None:
    """Count images that a client asks for today.

    Args:
        transaction: The transaction; it must not go on where this raises.
        client: Who asks.
        count: How many images more.
        limit: How many a day there may be.

    Raises:
        DailyLimitError: They would be too many.
    """
    connection, now = transaction.connection, transaction.now.astimezone(UTC)
    day = now.date()
    mine = daily_images.c.client == client
    await connection.execute(delete(daily_images).where(mine, daily_images.c.day < day))
    await add_counts(connection, daily_images, [{"client": client, "day": day, "images": count}])
    spent = await connection.scalar(select(daily_images.c.images).where(mine, daily_images.c.day == day))
    if spent is not None and spent > limit:
        left = max(0, limit - (spent - count))
        midnight = datetime.combine(day + timedelta(days=1), time(), UTC)
        raise DailyLimitError(
            f"You may ask for {limit} images a day (UTC), and {left} are left of them; try again tomorrow.",
            retry_after_seconds=int((midnight - now).total_seconds()) + 1,
        )
