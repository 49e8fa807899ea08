"""How SQLite finds jobs: by an index that the backlog is not in, or that has it in the order that is wanted."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

import pytest
from sqlalchemy import event

from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.queue.jobs import JobFilter
from deployments.jobs.records.jobs import JobState
from deployments.jobs.store import JobStore
from tests.support.job_samples import claimed, submitted


@pytest.fixture
async def planned(tmp_path, clock):
    """A store, and a way to learn the plans of the SELECTs that a call makes."""
    path = tmp_path / "jobs.db"
    store = await JobStore.open(f"sqlite+aiosqlite:///{path}", clock)
    await submitted(store, "a", "b")
    engine = store._database._backend.readers.sync_engine

    async def plans_of(call) -> list[str]:
        statements = []

        def note(connection, cursor, statement, parameters, *_) -> None:
            statements.append((statement, parameters))

        event.listen(engine, "before_cursor_execute", note)
        await call
        event.remove(engine, "before_cursor_execute", note)
        with sqlite3.connect(path) as connection:
            found = [
                connection.execute(f"EXPLAIN QUERY PLAN {statement}", [str(each) for each in parameters])
                for statement, parameters in statements
                if statement.lstrip().startswith("SELECT") and ("FROM jobs" in statement or "FROM images" in statement)
            ]
            return [" | ".join(row[3] for row in rows) for rows in found]

    yield store, plans_of
    await store.close()


async def test_a_claim_and_the_timer_look_at_no_backlog(planned):
    store, plans_of = planned
    plans = (
        await plans_of(claimed(store, "1"))
        + await plans_of(store.deadlines.settle())
        + await plans_of(store.deadlines.next())
    )
    assert len(plans) > 4
    for plan in plans:
        assert "SCAN jobs" not in plan
        assert "ix_jobs_list" not in plan
    assert any("ix_jobs_expires_at" in plan for plan in plans)
    assert any("ix_jobs_queue" in plan for plan in plans)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "ix_jobs_created_at"),
        ({"state": JobState.PENDING}, "ix_jobs_list_state"),
        ({"model_id": "tiny"}, "ix_jobs_list_model"),
        ({"client": "ann"}, "ix_jobs_list_client"),
    ],
)
async def test_a_page_is_read_along_an_index(planned, wanted, index):
    store, plans_of = planned
    (plan,) = await plans_of(store.jobs.page(JobFilter(**wanted), 1))
    assert index in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({"model_id": "tiny"}, "ix_images_model"),
        ({"client": "ann"}, "ix_images_client"),
        ({"size": (64, 64)}, "ix_images_size"),
        ({"favourite": True}, "ix_images_favourite"),
        ({"tags": ("best",)}, "sqlite_autoindex_image_tags_1"),
        ({"created_before": datetime(2030, 1, 1, tzinfo=UTC)}, "made USING COVERING INDEX ix_images_created_at"),
        ({"search": "red circle", "client": "ann"}, "image_words VIRTUAL TABLE"),
    ],
)
async def test_a_page_of_the_gallery_reads_no_image_that_is_not_on_it(planned, wanted, index):
    store, plans_of = planned
    plan = (await plans_of(store.gallery.page(GalleryFilter(**wanted))))[0]
    assert index in plan
    assert "SCAN images |" not in f"{plan} |"
