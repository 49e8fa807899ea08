"""Whatever is killed under a steady load, every accepted job ends once, with its own right pictures."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.aftermath import pixels, report, survey, wait_for_quiet
from tests.chaos.load import ORDERS, Load, Order, submit
from tests.chaos.served import SETTINGS, ServedCluster
from tests.chaos.storm import Storm
from tests.chaos.thorough import thorough_only
from tests.support.postgresql import PostgresqlServer

# `make chaos` wants 200; the test of every change is shorter.
JOBS = int(os.environ.get("CHAOS_JOBS", "40"))
SUBMIT_EVERY_SECONDS = 0.5
STRIKES = max(8, JOBS * 12 // 100)
STRIKE_EVERY_SECONDS = 5.0
DATABASE_AWAY_SECONDS = 5.0
SEED = 20260
HELD_LEASES = "SELECT count(*) FROM jobs WHERE lease_until IS NOT NULL"


@pytest.mark.timeout(900)
def test_processes_die_one_after_the_other_and_then_all_at_once(served: ServedCluster):
    def cut_the_power() -> None:
        served.kill_everything()
        served.start()

    rage_and_look("SQLite, local disk", served, {6: ("the whole cluster killed", cut_the_power)})
    with sqlite3.connect(served.data_dir / "cyberimage.db") as database:
        assert database.execute(HELD_LEASES).fetchone() == (0,)


@thorough_only
@pytest.mark.timeout(900)
def test_processes_die_and_so_do_the_database_and_the_control_store(tmp_path: Path, postgresql: PostgresqlServer):
    name = postgresql.create_database()
    cluster = ServedCluster(tmp_path, {**SETTINGS, "database_url": postgresql.url(name)})

    def crash_the_database() -> None:
        postgresql.stop("immediate")
        time.sleep(DATABASE_AWAY_SECONDS)
        postgresql.start()

    def lose_the_control_store() -> None:
        # Ray Serve may wait for ever for a replica that is being started just then: docs/architecture.md tells of it.
        cluster.wait_for_replicas()
        cluster.restart_gcs()

    calamities = {
        3: ("the database crashed", crash_the_database),
        6: ("the control store killed", lose_the_control_store),
    }
    try:
        cluster.start()
        rage_and_look("PostgreSQL, local disk", cluster, calamities)
    finally:
        cluster.stop()
    assert postgresql.execute(HELD_LEASES, name).strip() == "0"


def rage_and_look(name: str, cluster: ServedCluster, calamities: Mapping[int, tuple[str, Callable[[], None]]]) -> None:
    """Strike a service under load, wait until it has done all it was asked for, and look at what it did."""
    expected = draw_in_calm(cluster.url)
    load = Load(cluster.url, JOBS, SUBMIT_EVERY_SECONDS, SEED)
    storm = Storm(cluster, SEED, STRIKE_EVERY_SECONDS, calamities)
    load.start()
    storm.rage(STRIKES)
    load.join()
    wait_for_quiet(cluster.url)
    aftermath = survey(cluster.url, list(load.accepted))
    print(f"\n{report(name, storm, aftermath, load.accepted)}")
    assert len(load.accepted) == JOBS
    aftermath.check(load.accepted, expected)


def draw_in_calm(url: str) -> dict[Order, Sequence[np.ndarray[Any, Any]]]:
    """What each order looks like where nothing is killed."""
    jobs = {submit(url, order, f"calm-{order.seed}"): order for order in ORDERS}
    wait_for_quiet(url)
    calm = survey(url, list(jobs))
    return {
        order: [pixels(calm.pictures[image["id"]]) for image in calm.jobs[job_id]["images"]]
        for job_id, order in jobs.items()
    }
