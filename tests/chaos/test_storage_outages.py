"""A storage that fails for a while costs no job and leaves nothing half written."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray._common.test_utils import wait_for_condition

from tests.chaos.aftermath import Aftermath, survey, wait_for_quiet
from tests.chaos.load import ORDERS, Load, fetch, submit
from tests.chaos.served import SETTINGS, ServedCluster
from tests.chaos.test_storm import draw_in_calm
from tests.chaos.thorough import thorough_only
from tests.support.faulty_proxy import Fault, faulty_proxy
from tests.support.s3_server import S3Server

OUTAGE_SECONDS = 10.0
FAILING_SHARE = 0.2
FULL_SECONDS = 5.0
SEED = 11


class SomeFail:
    """In place of a proxy's list of faults: one request in so many fails, and for a while all of them do."""

    def __init__(self, share: float) -> None:
        self._choice = random.Random(SEED)
        self._share = share
        self._all_until = 0.0

    def fail_all_for(self, seconds: float) -> None:
        self._all_until = time.monotonic() + seconds

    def __bool__(self) -> bool:
        return time.monotonic() < self._all_until or self._choice.random() < self._share

    def popleft(self) -> Fault:
        return self._choice.choice([Fault.BUSY, Fault.DROPPED])


@thorough_only
@pytest.mark.timeout(600)
def test_a_bucket_that_fails_in_one_call_of_five_and_then_altogether(tmp_path: Path, s3: S3Server):
    bucket = s3.create_bucket()
    with faulty_proxy(s3.url) as proxy:
        storage = {"kind": "s3", "bucket": bucket, "endpoint_url": proxy.url, "path_style": True, "region": "us-east-1"}
        cluster = ServedCluster(tmp_path, {**SETTINGS, "storage": storage})
        try:
            cluster.start()
            expected = draw_in_calm(cluster.url)
            faults: Any = SomeFail(FAILING_SHARE)
            proxy.faults = faults
            load = Load(cluster.url, jobs=60, every_seconds=0.3, seed=SEED)
            load.start()
            wait_for_condition(lambda: len(load.accepted) > 20, timeout=120)
            faults.fail_all_for(OUTAGE_SECONDS)
            load.join()
            wait_for_quiet(cluster.url)
            aftermath = survey(cluster.url, list(load.accepted))
            aftermath.check(load.accepted, expected)
        finally:
            cluster.stop()
    listed = s3.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    kept = {entry["Key"] for page in listed for entry in page.get("Contents", ())}
    images = {Path(key).name.partition(".")[0] for key in kept}
    assert set(aftermath.pictures) <= images
    calm_images = sum(order.num_images for order in ORDERS)
    assert len(images) == len(aftermath.pictures) + calm_images, "files that no job owns"


@pytest.mark.timeout(600)
def test_a_disk_that_is_full_for_a_while(tmp_path: Path):
    images_dir = tmp_path / "data" / "images"
    images_dir.mkdir(parents=True)
    cluster = ServedCluster(tmp_path, SETTINGS, prefix=small_disk_at(images_dir))
    try:
        cluster.start()
        expected = draw_in_calm(cluster.url)
        disk = cluster.file_system_at(images_dir)
        with filled(disk):
            accepted = {submit(cluster.url, order, f"full-{order.seed}"): order for order in ORDERS}
            first = next(iter(accepted))
            wait_for_condition(
                lambda: fetch(cluster.url, f"/api/status/{first}").json()["progress"]["saving"], timeout=120
            )
            time.sleep(FULL_SECONDS)
            assert {fetch(cluster.url, f"/api/status/{job_id}").json()["status"] for job_id in accepted} <= {
                "pending",
                "processing",
            }
        wait_for_quiet(cluster.url)
        aftermath = survey(cluster.url, list(accepted))
        aftermath.check(accepted, expected)
        assert list((disk / ".unfinished").iterdir()) == []
        assert_no_strangers(disk, aftermath)
    finally:
        cluster.stop()


def small_disk_at(folder: Path) -> tuple[str, ...]:
    """A command that gives the one after it a file system of its own at a folder; or none, told loudly."""
    command = ("unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=16m tmpfs "$0" && exec "$@"', str(folder))
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return command
    reason = f"no file system can be mounted here to be filled ({tried.stderr.strip()})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no room on a disk for as long as the block runs."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        file.write(bytes(64 << 20))  # as much of it as there is room for
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.write(bytes(4096))
    yield
    filler.unlink()


def assert_no_strangers(disk: Path, aftermath: Aftermath) -> None:
    """Every file is an image of some job, or a thumbnail of it."""
    calm_images = sum(order.num_images for order in ORDERS)
    names = {path.name.partition(".")[0] for path in disk.rglob("*.*") if path.is_file()}
    assert set(aftermath.pictures) <= names
    assert len(names) == len(aftermath.pictures) + calm_images
