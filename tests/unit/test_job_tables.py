"""The schema of the job database: what the revisions build, from every earlier one, with jobs in it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from deployments.jobs.database import Database
from deployments.jobs.exceptions import StoreUnavailableError
from deployments.jobs.records import JobState
from deployments.jobs.schema import MIGRATIONS, migrate
from deployments.jobs.store import JobStore
from deployments.jobs.tables import metadata
from tests.unit.job_samples import claimed, image

ROOT = Path(__file__).parents[2]

_JOB = (
    "INSERT INTO jobs (id, model_id, client, prompt, negative_prompt, settings, search_text, state, step, total_steps,"
    " attempts, message, cancel_requested, created_at, holder, claim_id, turn{more}) VALUES ('{id}', '{model}',"
    " '{client}', 'a red circle', '', '{settings}', 'a red circle', '{state}', 0, 20, {attempts}, '', false,"
    " '2029-12-31 12:00:00.000000', '', '', {turn}{values})"
)
_SETTINGS = (
    '{"num_images": 2, "num_inference_steps": 10, "guidance_scale": 7.5, "width": 64, "height": 64, "seed": 1,'
    ' "max_sequence_length": null}'
)


def _job(job_id: str, client: str, state: str, turn: int = 0, model: str = "tiny", **more: str) -> str:
    columns, values = "".join(f", {name}" for name in more), "".join(f", {value}" for value in more.values())
    return _JOB.format(
        id=job_id, model=model, client=client, state=state, turn=turn, attempts=int(turn > 0), settings=_SETTINGS,
        more=columns, values=values,
    )  # fmt: skip


_ENDED = {"completed_at": "'2029-12-31 12:01:00.000000'", "processing_seconds": "3.5"}
_RUNNING = {"lease_until": "'2029-12-31 12:01:00.000000'", "started_at": "'2029-12-31 12:00:00.000000'"}

# Jobs as each revision keeps them; ann had the last turn but one at "tiny", bob the last one.
JOBS_OF_REVISIONS = {
    "0001": [
        _job("a1", "ann", "completed", 2, **_ENDED),
        _job("b1", "bob", "processing", 3, **_RUNNING),
        _job("b2", "bob", "pending"),
        _job("a2", "ann", "pending"),
        _job("a3", "ann", "cancelled"),
        _job("a4", "ann", "pending"),
        _job("a5", "ann", "failed", 1, model="huge"),
        'INSERT INTO images (id, job_id, "index", key, media_type, byte_count, sha256, metadata, created_at) VALUES'
        " ('a1-0', 'a1', 0, '2030/01/01/a1-0.png', 'image/png', 3, '" + "0" * 64 + "', '{\"seed\": 0}',"
        " '2029-12-31 12:01:00.000000')",
    ],
}


@pytest.fixture
def url(databases) -> str:
    return databases.empty()


def test_every_earlier_revision_has_its_jobs_here():
    script = ScriptDirectory(str(MIGRATIONS))
    earlier = {each.revision for each in script.walk_revisions()} - set(script.get_heads())
    assert set(JOBS_OF_REVISIONS) == earlier


async def test_revisions_build_what_the_tables_say(url):
    await migrate(url)
    database = Database(url)

    async def differences(connection) -> list:
        return await connection.run_sync(lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))

    assert await database.read(differences) == []
    await database.close()


@pytest.mark.parametrize("revision", JOBS_OF_REVISIONS)
async def test_jobs_of_an_earlier_revision_go_on(url, databases, revision, clock):
    await migrate(url, revision)
    for statement in JOBS_OF_REVISIONS[revision]:
        databases.execute(url, statement)
    store = await JobStore.open(url, clock)
    try:
        counts = await store.counts()
        assert {state: getattr(counts, state) for state in JobState} == {
            "pending": 3, "processing": 1, "completed": 1, "failed": 1, "cancelled": 1
        }  # fmt: skip
        assert (counts.models["huge"].failed, counts.models["tiny"].pending) == (1, 3)
        assert [found.metadata for found in await store.images_of("a1")] == [{"seed": 0}]
        assert [await store.queue_position(job_id) for job_id in ("a2", "b2", "a4")] == [1, 2, 3]
        assert [claim.job_id for claim in await claimed(store, "1", 3)] == ["a2", "b2", "a4"]
        assert await store.complete("b1", 1, [image("b1")])
    finally:
        await store.close()


async def test_twice_changes_nothing(url, databases):
    await migrate(url)
    before = databases.execute(url, "SELECT * FROM alembic_version")
    await migrate(url)
    assert databases.execute(url, "SELECT * FROM alembic_version") == before


async def test_upgrades_at_once(url, databases):
    await asyncio.gather(*(migrate(url) for _ in range(8)))
    assert databases.execute(url, "SELECT count(*) FROM alembic_version") == "1\n"


def test_processes_that_start_at_once(url, databases):
    code = "import asyncio, sys; from deployments.jobs.schema import migrate; asyncio.run(migrate(sys.argv[1]))"
    command = [sys.executable, "-c", code, url]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    assert databases.execute(url, "SELECT count(*) FROM alembic_version") == "1\n"


async def test_newer_schema_is_refused(url, databases):
    await migrate(url)
    databases.execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailableError, match=r"its schema \(9999\) is newer than this version of CyberImage"):
        await JobStore.open(url)
