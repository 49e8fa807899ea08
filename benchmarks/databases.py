"""Databases of one run, which are gone after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.postgresql import PostgresqlServer


@contextmanager
def sqlite_file() -> Iterator[str]:
    """URL of an SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite+aiosqlite:///{Path(folder)}/jobs.db"


@contextmanager
def new_database(server: PostgresqlServer) -> Iterator[str]:
    """URL of a database of a PostgreSQL server."""
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)
