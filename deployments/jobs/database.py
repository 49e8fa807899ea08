"""The connection to the job database: transactions, and errors in one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from deployments.jobs import sqlite
from deployments.jobs.exceptions import StoreUnavailableError


class Database:
    """An engine whose transactions either commit as a whole or raise.

    Args:
        url: An SQLAlchemy URL with an async driver, such as ``sqlite+aiosqlite:////var/lib/cyberimage/jobs.db``.

    Raises:
        StoreUnavailableError: The URL cannot be read, or its driver is not installed or not async.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StoreUnavailableError("The URL of the job database cannot be read.") from error
        self.name = parsed.render_as_string(hide_password=True)
        try:
            self._readers: AsyncEngine = create_async_engine(parsed)
        except (SQLAlchemyError, ImportError) as error:
            raise StoreUnavailableError.because(self.name, error) from error
        self._writers = self._readers.execution_options(**{sqlite.WRITES: True})
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if is_sqlite:
            sqlite.configure(self._readers)
        # SQLite has one writer: waiting in line here is fair, while its own busy handler sleeps and tries again.
        self._writer_turn = asyncio.Lock() if is_sqlite else nullcontext()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that only reads, from one snapshot."""
        async with self._transaction(self._readers) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that may write."""
        async with self._writer_turn, self._transaction(self._writers) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise  # a defect of ours, not a state of the database
        except DBAPIError as error:
            raise StoreUnavailableError.because(self.name, error.orig) from error
        except (OSError, PoolTimeoutError) as error:
            raise StoreUnavailableError.because(self.name, error) from error

    async def close(self) -> None:
        """Close every connection; a later transaction would open new ones."""
        await self._readers.dispose()
