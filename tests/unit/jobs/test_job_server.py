"""The job database on a server: what is wrong with it in one line, lost connections, and whose clock counts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from deployments.jobs.database import postgresql as backend
from deployments.jobs.database.database import Database
from deployments.jobs.database.tables import lanes
from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.jobs.store import JobStore
from tests.support.job_databases import PostgresqlDatabases
from tests.support.job_samples import LEASE, LIMIT, claimed, processing, request, submit, submitted
from tests.support.postgresql import GUARDED_ROLE, PASSWORD


@pytest.fixture
def databases(postgresql):
    made = PostgresqlDatabases(postgresql)
    yield made
    made.remove()


async def refusal(url: str) -> str:
    """Why the store does not open: one line."""
    with pytest.raises(StoreUnavailableError) as error:
        await JobStore.open(url)
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_server_that_is_not_there():
    url = "postgresql+asyncpg://user:hunter2@127.0.0.1:1/jobs"
    message = await refusal(url)
    assert "postgresql+asyncpg://user:***@127.0.0.1:1/jobs cannot be used: 127.0.0.1:1 cannot be reached" in message


async def test_host_that_is_not_there():
    assert "nosuch.invalid:5432 cannot be reached" in await refusal("postgresql+asyncpg://nosuch.invalid/jobs")


async def test_wrong_password(postgresql, databases):
    name = databases.empty().rpartition("/")[2]
    postgresql.execute(f"CREATE ROLE {GUARDED_ROLE} LOGIN PASSWORD '{PASSWORD}'")
    message = await refusal(postgresql.url(name, f"{GUARDED_ROLE}:hunter2"))
    assert f'cannot be used: password authentication failed for user "{GUARDED_ROLE}"' in message
    assert "hunter2" not in message


async def test_missing_database(postgresql):
    message = await refusal(postgresql.url("nosuch"))
    assert message.endswith('cannot be used: database "nosuch" does not exist')


async def test_server_that_is_too_old(databases, monkeypatch):
    monkeypatch.setattr(backend, "MINIMUM_VERSION", 999)
    assert "; version 999 or later is needed" in await refusal(databases.empty())


async def test_server_that_only_reads(postgresql, databases):
    url = databases.create()
    name = url.rpartition("/")[2]
    postgresql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        assert "read-only transaction" in await refusal(url)
    finally:
        postgresql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


async def test_database_that_breaks_while_it_is_open(databases):
    url = databases.empty()
    store = await JobStore.open(url)
    databases.execute(url, "DROP TABLE images CASCADE")
    with pytest.raises(StoreUnavailableError, match='relation "images" does not exist') as error:
        await store.images.get("a")
    assert "SELECT" not in str(error.value)
    await store.close()


@pytest.mark.parametrize("how", ["dropped connections", "restart", "crash"])
async def test_lost_connections_are_made_again(postgresql, databases, how):
    url = databases.create()
    store = await JobStore.open(url)
    await submitted(store, "a")
    match how:
        case "dropped connections":
            postgresql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cyberimage'"
            )
        case "restart":
            postgresql.stop()
            postgresql.start()
        case "crash":
            postgresql.stop("immediate")
            postgresql.start()
    assert (await store.jobs.get("a")).id == "a"
    assert [claim.job_id for claim in await claimed(store, "1")] == ["a"]
    await store.close()


async def test_a_server_that_stays_away_is_reported_and_found_again(postgresql, databases, monkeypatch):
    monkeypatch.setattr("deployments.jobs.database.database.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("deployments.jobs.database.database.LONGEST_PAUSE_SECONDS", 0.001)
    store = await JobStore.open(databases.create())
    postgresql.stop()
    try:
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            await submit(store, "a", request(), LIMIT)
    finally:
        postgresql.start()
    assert (await submit(store, "a", request(), LIMIT)).id == "a"
    await store.close()


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_transaction_that_others_were_in_the_way_of_is_repeated(databases, state):
    url = databases.create()
    store = await JobStore.open(url)
    databases.execute(
        url,
        "CREATE SEQUENCE tries; CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('tries') < 4 THEN RAISE 'in the way' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER stumble BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION stumble()",
    )
    try:
        await submitted(store, "a")
        counts = await store.counts.by_state()
    finally:
        await store.close()
        databases.execute(url, "DROP FUNCTION stumble CASCADE; DROP SEQUENCE tries")
    assert counts.pending == 1


async def test_leases_hold_by_the_clock_of_the_server(databases):
    url = databases.create()
    store = await JobStore.open(url)
    fast = await JobStore.open(url, lambda: datetime.now(UTC) + timedelta(days=1))
    try:
        await processing(store)
        assert await store.attempts.reap(3) == []
        left = f"lease_until - clock_timestamp() BETWEEN interval '1 s' AND interval '{LEASE.seconds} s'"
        assert databases.execute(url, f"SELECT {left} FROM jobs") == "t\n"
        assert await fast.attempts.reap(3) == ["a"]  # so a host's clock would have ended it
    finally:
        await store.close()
        await fast.close()


class TestLockedLanes:
    """What a claim does while another transaction has a client's lane, as each submit has for a moment."""

    @pytest.fixture
    async def locked(self, databases):
        """A store with jobs of ann and bob, and a way to have ann's lane locked until it is let go."""
        url = databases.create()
        store, database, taken, let_go = await JobStore.open(url), Database(url), asyncio.Event(), asyncio.Event()
        await submitted(store, "a1", "a2", client="ann")
        await submitted(store, "b1", client="bob")

        async def hold(connection) -> None:
            await connection.execute(select(lanes).where(lanes.c.client == "ann").with_for_update())
            taken.set()
            await let_go.wait()

        holder = asyncio.create_task(database.write(hold))
        await taken.wait()
        yield store, url, let_go
        let_go.set()
        await holder
        await database.close()
        await store.close()

    async def test_is_passed_over_for_another(self, locked):
        store, _, _ = locked
        assert [claim.job_id for claim in await claimed(store, "1", 3)] == ["b1"]

    async def test_is_waited_for_where_there_is_no_other(self, locked, databases):
        store, url, let_go = locked
        await claimed(store, "1")
        claim = asyncio.create_task(claimed(store, "2", 2))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while await asyncio.to_thread(databases.execute, url, waiting) == "0\n":
            assert not claim.done()
        let_go.set()
        assert [each.job_id for each in await claim] == ["a1", "a2"]
