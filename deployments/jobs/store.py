"""The job store: every fact about jobs and images that must outlive a process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import false, update
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.database.database import Database
from deployments.jobs.database.schema import upgrade
from deployments.jobs.database.tables import jobs
from deployments.jobs.parts import StoreParts
from deployments.jobs.transaction.backoff import NO_PAUSES, Backoff
from deployments.jobs.transaction.ledger import Ledger, Moves
from deployments.jobs.transaction.operations import Access, access_of, parts_of, set_parts
from deployments.jobs.transaction.transaction import Transaction

Clock = Callable[[], datetime]


class JobStore(StoreParts):
    """Jobs and images in a database.

    Each call of a part's operation, such as ``store.gallery.tag``, is one transaction, and may be repeated by a caller
    that does not know whether it was carried out. Each of them raises :class:`StoreUnavailableError` when the database
    does not answer.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock | None = None,
        backoff: Backoff = NO_PAUSES,
        on_moves: Callable[[Moves], None] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._backoff = backoff
        self._on_moves = on_moves
        set_parts(self, StoreParts, self.call)

    @classmethod
    async def open(
        cls,
        url: str,
        clock: Clock | None = None,
        backoff: Backoff = NO_PAUSES,
        on_moves: Callable[[Moves], None] | None = None,
    ) -> JobStore:
        """Open the database, upgraded to the newest schema.

        Args:
            url: An SQLAlchemy URL with an async driver.
            clock: Gives the time as an aware datetime; None for the database's own clock, by which leases hold whatever
                the clocks of hosts say.
            backoff: How long a job pauses between attempts.
            on_moves: Called after each transaction that moved jobs, or let more of them be claimed.

        Raises:
            StoreUnavailableError: It is missing, read-only, damaged, too old, or of a newer version of CyberImage.
        """
        database = Database(url)
        store = cls(database, clock, backoff, on_moves)
        try:
            await upgrade(database)
            await store.check()
        except BaseException:
            await database.close()
            raise
        return store

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def check(self) -> None:
        """Raise :class:`StoreUnavailableError` unless the database answers and may be written."""

        async def work(connection: AsyncConnection) -> None:
            # Changes nothing, but is refused where writing is: SQLite begins a "write" transaction on anything.
            await connection.execute(update(jobs).where(false()).values(turn=0))

        await self._database.write(work)

    async def call(self, part: str, operation: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Carry out a part's operation in a transaction of its own.

        Args:
            part: The part's attribute.
            operation: The operation's name.
            args: Its arguments.
            kwargs: Its arguments by name.

        Raises:
            AttributeError: The part has no marked operation of this name.
        """
        operations = _PARTS[part]
        return await self._run(
            access_of(operations, operation),
            lambda transaction: getattr(operations(transaction), operation)(*args, **kwargs),
        )

    async def _run(self, access: Access, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        async def once(connection: AsyncConnection) -> tuple[Any, Transaction]:
            time = None if access is Access.READ else await self._now(connection)
            transaction = Transaction(connection, Ledger(connection), self._backoff, time)
            result = await work(transaction)
            if access is Access.CHANGE:
                await transaction.ledger.book()
            return result, transaction

        begin = self._database.write if access is Access.CHANGE else self._database.read
        result, ended = await begin(once)
        if self._on_moves is not None and ended.ledger.moves:
            self._on_moves(ended.ledger.moves)
        for change in ended.afterwards:
            await self._run(Access.CHANGE, change)
        return result

    async def _now(self, connection: AsyncConnection) -> datetime:
        return await self._database.now(connection) if self._clock is None else self._clock()


_PARTS = parts_of(StoreParts)
