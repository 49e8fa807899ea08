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

from deployments.jobs.database.database import Database
from deployments.jobs.database.schema import MIGRATIONS, migrate
from deployments.jobs.database.tables import metadata
from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.jobs.records.jobs import JobState
from deployments.jobs.store import JobStore
from tests.support.job_samples import claimed, complete, image

ROOT = Path(__file__).parents[3]

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

_IMAGE = (
    'INSERT INTO images (id, job_id, "index", key, media_type, byte_count, sha256, metadata, created_at) VALUES'
    " ('a1-0', 'a1', 0, '2030/01/01/a1-0.png', 'image/png', 3, '" + "0" * 64 + "', '{\"seed\": 0}',"
    " '2029-12-31 12:01:00.000000')"
)
_LANES = [("tiny", "ann", 2, 4, 2), ("tiny", "bob", 1, 2, 3), ("huge", "ann", 0, 1, 1)]
_TALLIES = [
    ("pending", "tiny", 3), ("processing", "tiny", 1), ("completed", "tiny", 1), ("cancelled", "tiny", 1),
    ("failed", "huge", 1),
]  # fmt: skip


def _jobs(*, with_places: bool) -> list[str]:
    """Ann had the last turn but one at "tiny", bob the last one."""

    def place(number: int) -> dict[str, str]:
        return {"place": str(number)} if with_places else {}

    return [
        _job("a1", "ann", "completed", 2, **_ENDED, **place(1)),
        _job("b1", "bob", "processing", 3, **_RUNNING, **place(1)),
        _job("b2", "bob", "pending", **place(2)),
        _job("a2", "ann", "pending", **place(2)),
        _job("a3", "ann", "cancelled", **place(3)),
        _job("a4", "ann", "pending", **place(4)),
        _job("a5", "ann", "failed", 1, model="huge", **place(1)),
        _IMAGE,
    ]


def _counted() -> list[str]:
    lanes = "INSERT INTO lanes (model_id, client, pending, places, last_turn) VALUES ('{}', '{}', {}, {}, {})"
    tallies = "INSERT INTO tallies (state, model_id, shard, jobs) VALUES ('{}', '{}', 0, {})"
    return [lanes.format(*row) for row in _LANES] + [tallies.format(*row) for row in _TALLIES]


_CONTROL = [
    "INSERT INTO blocks (model_id, client, priority, block, pending) VALUES ('tiny', 'ann', 1, 0, 2)",
    "INSERT INTO blocks (model_id, client, priority, block, pending) VALUES ('tiny', 'bob', 1, 0, 1)",
    "INSERT INTO pauses (model_id, paused_at, who) VALUES ('huge', '2029-12-31 12:00:00.000000', 'eve')",
    "INSERT INTO audit (at, who, action, model_id, details)"
    " VALUES ('2029-12-31 12:00:00.000000', 'eve', 'pause', 'huge', '{}')",
]

# Jobs as each revision keeps them.
JOBS_OF_REVISIONS = {
    "0001": _jobs(with_places=False),
    "0002": [*_jobs(with_places=True), *_counted()],
    **{
        revision: [*_jobs(with_places=True), *_counted(), *_CONTROL]
        for revision in ("0003", "0004", "0005", "0006", "0007")
    },
}

# What each kind of database has in its own way: how it searches.
OF_ONE_KIND = ("image_words",)


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
        options = {"include_name": lambda name, kind, parents: not (name or "").startswith(OF_ONE_KIND)}
        return await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync, opts=options), metadata)
        )

    assert await database.read(differences) == []
    await database.close()


@pytest.mark.parametrize("revision", JOBS_OF_REVISIONS)
async def test_jobs_of_an_earlier_revision_go_on(url, databases, revision, clock):
    await migrate(url, revision)
    for statement in JOBS_OF_REVISIONS[revision]:
        databases.execute(url, statement)
    store = await JobStore.open(url, clock)
    try:
        counts = await store.counts.by_state()
        assert {state: getattr(counts, state) for state in JobState} == {
            "pending": 3, "processing": 1, "completed": 1, "failed": 1, "cancelled": 1
        }  # fmt: skip
        assert (counts.models["huge"].failed, counts.models["tiny"].pending) == (1, 3)
        assert [found.metadata for found in await store.images.of_jobs(["a1"])] == [{"seed": 0}]
        assert [await store.jobs.position(job_id) for job_id in ("a2", "b2", "a4")] == [1, 2, 3]
        assert [claim.job_id for claim in await claimed(store, "1", 3)] == ["a2", "b2", "a4"]
        assert await complete(store, "b1", 1, [image("b1")])
        if revision < "0007":
            page = await store.gallery.page(GalleryFilter(search="red tiny", model_id="tiny"))
            assert [found.id for found in page.images] == ["b1-0", "a1-0"]
            assert [(held.client, held.images, held.bytes) for held in await store.holdings.of()] == [
                ("ann", 1, 3), ("bob", 1, 3)
            ]  # fmt: skip
        paused = ["huge"] if revision >= "0003" else []
        assert await store.administration.paused_models() == paused
        assert [entry.who for entry in (await store.audit.page()).entries] == ["eve"] * len(paused)
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
    code = (
        "import asyncio, sys; from deployments.jobs.database.schema import migrate; asyncio.run(migrate(sys.argv[1]))"
    )
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
