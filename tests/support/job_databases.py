"""Databases to test the job store with: an SQLite file, or one of a PostgreSQL server."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from deployments.jobs.database.schema import migrate
from deployments.jobs.database.tables import metadata
from tests.support.postgresql import PostgresqlServer


class JobDatabases(ABC):
    """New databases of one kind; they are gone after :meth:`remove`."""

    kind: str

    @abstractmethod
    def empty(self) -> str:
        """The URL of a database with nothing in it."""

    @abstractmethod
    def create(self) -> str:
        """The URL of a database with the newest schema and no jobs."""

    @abstractmethod
    def execute(self, url: str, statement: str) -> str:
        """Run a statement behind the store's back, and return its rows: a line each, values parted by ``|``."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the databases."""


class SqliteFiles(JobDatabases):
    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def empty(self) -> str:
        return f"sqlite+aiosqlite:///{self._folder}/{uuid4()}.db"

    def create(self) -> str:
        path = self._folder / f"{uuid4()}.db"
        write_job_database(path)
        return f"sqlite+aiosqlite:///{path}"

    def execute(self, url: str, statement: str) -> str:
        with closing(sqlite3.connect(url.removeprefix("sqlite+aiosqlite:///"))) as connection, connection:
            rows = connection.execute(statement).fetchall()
        return "".join("|".join(map(str, row)) + "\n" for row in rows)

    def remove(self) -> None:
        """Leave the files to the folder's owner."""


class PostgresqlDatabases(JobDatabases):
    kind = "postgresql"
    # By the port of the server: one with the newest schema, to be copied; and copies without jobs.
    _newest: ClassVar[dict[int, str]] = {}
    _clean: ClassVar[defaultdict[int, list[str]]] = defaultdict(list)

    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server
        self._made: list[str] = []
        self._lent: list[str] = []

    def empty(self) -> str:
        self._made.append(self._server.create_database())
        return self._server.url(self._made[-1])

    def create(self) -> str:
        port = self._server.port
        if port not in self._newest:
            self._newest[port] = self._server.create_database()
            _migrate(self._server.url(self._newest[port]))
        clean = self._clean[port]
        self._lent.append(clean.pop() if clean else self._server.create_database(self._newest[port]))
        return self._server.url(self._lent[-1])

    def execute(self, url: str, statement: str) -> str:
        return self._server.execute(statement, url.rpartition("/")[2])

    def remove(self) -> None:
        emptying = ";".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
        for name in self._lent:
            self._server.execute(emptying, name)
            self._clean[self._server.port].append(name)
        for name in self._made:
            self._server.drop_database(name)


def write_job_database(path: Path) -> None:
    """Write an SQLite file with the newest schema and no jobs: sooner done than to upgrade an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_newest_schema())


@cache
def _newest_schema() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.db"
        _migrate(f"sqlite+aiosqlite:///{path}")
        return path.read_bytes()


def _migrate(url: str) -> None:
    with ThreadPoolExecutor() as thread:  # this one may have a loop that runs
        thread.submit(asyncio.run, migrate(url)).result()
