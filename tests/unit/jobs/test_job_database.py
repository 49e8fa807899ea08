"""The job database as a file, and what is wrong with it in one line."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from deployments.jobs.database.schema import migrate
from deployments.jobs.records import exceptions
from deployments.jobs.records.exceptions import JobError, QueueFullError, StoreUnavailableError
from deployments.jobs.store import JobStore


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
def url(path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def refusal(url: str) -> str:
    """Why the store does not open: one line."""
    with pytest.raises(StoreUnavailableError) as error:
        await JobStore.open(url)
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_twice_and_from_any_folder(url, path, tmp_path, monkeypatch):
    elsewhere = tmp_path / "100% empty"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    await migrate(url)
    before = path.read_bytes()
    await migrate(url)
    assert path.read_bytes() == before
    assert list(elsewhere.iterdir()) == []


async def test_is_durable_and_strict(url):
    async def pragmas(connection) -> dict[str, object]:
        found = {}
        for pragma in ("journal_mode", "synchronous", "foreign_keys"):
            result = await connection.exec_driver_sql(f"PRAGMA {pragma}")
            found[pragma] = result.scalar()
        return found

    store = await JobStore.open(url)
    found = await store._database.read(pragmas)
    await store.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_corrupt_file(url, path):
    path.write_bytes(b"this is no database" * 1000)
    assert "file is not a database" in await refusal(url)


async def test_missing_folder(tmp_path):
    assert "unable to open database file" in await refusal(f"sqlite+aiosqlite:///{tmp_path}/missing/jobs.db")


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
async def test_read_only_file_that_needs_no_upgrade(url, path, journal_mode):
    await migrate(url)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
    message = await refusal(f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true")
    assert "readonly database" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_read_only_folder(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    assert "unable to open database file" in await refusal(f"sqlite+aiosqlite:///{folder}/jobs.db")


async def test_database_that_breaks_while_it_is_open(url, path):
    store = await JobStore.open(url)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE images")
    with pytest.raises(StoreUnavailableError, match="no such table"):
        await store.images.get("a")
    await store.check()
    await store.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("no url", "cannot be read"),
        ("mysql+aiomysql://host/db", "neither SQLite nor PostgreSQL"),
        ("nosuch+driver://host/db", "neither SQLite nor PostgreSQL"),
        ("sqlite:///sync.db", "async"),
        ("postgresql://host/db", "begins with postgresql+asyncpg://"),
        ("postgresql+psycopg2://host/db", "begins with postgresql+asyncpg://"),
    ],
)
async def test_url_that_cannot_work(url, reason):
    assert reason in await refusal(url)


@pytest.mark.parametrize(
    "url",
    [
        "nosuch+driver://user:hunter2@host/db",
        "postgresql://user:hunter2@host/db",
        "postgresql+asyncpg://user:hunter2/x@127.0.0.1:1/db",
        "postgresql+asyncpg://user:hunter2@127.0.0.1:1/db",
        "postgresql+asyncpg://user@127.0.0.1:1/db?password=hunter2",
    ],
)
async def test_password_is_not_told(url):
    assert "hunter2" not in await refusal(url)


ERRORS = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, JobError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_errors_survive_pickling(kind):
    error = pickle.loads(pickle.dumps(kind()))
    assert type(error) is kind
    assert str(error) == kind.__doc__
    assert error.status >= 400
    assert str(pickle.loads(pickle.dumps(kind("No luck.")))) == "No luck."


def test_retry_after_survives_pickling():
    error = pickle.loads(pickle.dumps(QueueFullError("Full.", retry_after_seconds=3)))
    assert (str(error), error.retry_after_seconds) == ("Full.", 3)
