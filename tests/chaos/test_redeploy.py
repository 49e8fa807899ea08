"""A redeploy under load: no request fails, and every job is completed."""

from __future__ import annotations

import sqlite3

import httpx
import pytest
from ray._common.test_utils import wait_for_condition

from deployments.settings.service import Settings
from tests.chaos.aftermath import survey, wait_for_quiet
from tests.chaos.load import Load
from tests.chaos.served import SETTINGS, Role, ServedCluster

CHANGED = SETTINGS | {"dispatch": {"poll_seconds": 1.5}}
REDEPLOY_SECONDS = 180


@pytest.mark.timeout(600)
def test_jobs_and_requests_do_not_notice_a_redeploy(served: ServedCluster):
    old = {role: set(served.pids(role)) for role in (Role.MODEL, Role.INGRESS)}
    load = Load(served.url, jobs=None, every_seconds=1.0, seed=7)
    load.start()
    wait_for_condition(lambda: len(load.accepted) > 8, timeout=60)
    served.redeploy(CHANGED)

    def is_replaced() -> bool:
        return all(new and not new & old[role] for role in old if (new := set(served.pids(role))) is not None)

    wait_for_condition(is_replaced, timeout=REDEPLOY_SECONDS, retry_interval_ms=200)
    load.end()
    load.join()
    wait_for_quiet(served.url)
    jobs = survey(served.url, list(load.accepted)).jobs
    assert load.refusals == []
    assert {job["status"] for job in jobs.values()} == {"completed"}
    assert httpx.get(f"{served.url}/health").status_code == 200
    with sqlite3.connect(served.data_dir / "cyberimage.db") as database:
        (attempts,) = database.execute("SELECT max(attempts) FROM jobs").fetchone()
    assert attempts <= Settings().queue.max_attempts, "by default, a job would have failed"
