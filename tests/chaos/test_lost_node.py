"""Nodes of a cluster are lost under load: every job ends, once, with its images; and the tracker moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from ray._common.test_utils import wait_for_condition

from tests.chaos.aftermath import pixels, survey, wait_for_quiet
from tests.chaos.load import Order, submit
from tests.chaos.many_nodes import ManyNodes
from tests.chaos.served import PROJECT, Role
from tests.chaos.thorough import thorough_only
from tests.support.postgresql import PostgresqlServer
from tests.support.s3_server import REGION, S3Server

MAX_BATCH = 4
ONGOING_JOBS = 2 * MAX_BATCH  # of a replica
MOVE_SECONDS = 120
DEPLOYMENTS = [
    {"name": "Ingress", "max_replicas_per_node": 1, "ray_actor_options": {"num_cpus": 0.1}},
    {"name": "model-shapes", "max_replicas_per_node": 1, "ray_actor_options": {"num_cpus": 0.5}},
]


def catalog(folder: Path) -> str:
    """A catalog of the built-in model, with two small replicas."""
    text = (PROJECT / "configs" / "cpu.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)
    found["models"]["shapes"] |= {"max_batch": MAX_BATCH, "replicas": {"min": 2, "max": 2, "num_cpus": 0.5}}
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump(found))
    return str(path)


@dataclass(frozen=True)
class SharedService:
    """The service on several nodes, and what they share."""

    nodes: ManyNodes
    postgresql: PostgresqlServer
    database: str
    s3: S3Server
    bucket: str

    def rows(self, table_and_condition: str) -> int:
        return int(self.postgresql.execute(f"SELECT count(*) FROM {table_and_condition}", self.database))

    def load_until_every_replica_has_jobs(self, seeds: Iterator[int]) -> dict[str, Order]:
        """Submit jobs until more of them are being made than one of the two replicas can have; returns them all."""
        accepted = {}

        def are_both_busy() -> bool:
            while self.rows("jobs WHERE state = 'pending'") < ONGOING_JOBS:
                order = Order("a large red circle on a blue background", next(seeds), 2, 25)
                accepted[submit(self.nodes.url, order, str(uuid4()))] = order
            return self.rows("jobs WHERE state = 'processing' AND phase = 'generating'") > ONGOING_JOBS

        wait_for_condition(are_both_busy, timeout=MOVE_SECONDS, retry_interval_ms=50)
        return accepted

    def require_all_completed(self, accepted: dict[str, Order]) -> None:
        """Every job has its own images, in the records and in the bucket, and there are no others."""
        wait_for_quiet(self.nodes.url)
        aftermath = survey(self.nodes.url, list(accepted))
        assert {job["status"] for job in aftermath.jobs.values()} == {"completed"}, aftermath.jobs
        for job_id, order in accepted.items():
            assert len(aftermath.jobs[job_id]["images"]) == order.num_images
        assert len(aftermath.pictures) == sum(order.num_images for order in accepted.values())
        assert {pixels(picture).shape for picture in aftermath.pictures.values()} == {(64, 64, 3)}
        assert self.rows("images") == len(self.objects())

    def objects(self) -> list[str]:
        """Names of the images in the bucket, without their thumbnails."""
        pages = self.s3.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return [key for key in keys if key.endswith(".png")]


@pytest.fixture
def service(tmp_path: Path, postgresql: PostgresqlServer, s3: S3Server) -> Iterator[SharedService]:
    database, bucket = postgresql.create_database(), s3.create_bucket()
    settings: dict[str, Any] = {
        "catalog": catalog(tmp_path),
        "data_dir": str(tmp_path / "data"),
        "database_url": postgresql.url(database),
        "ingress_replicas": 2,
        "queue": {"lease_seconds": 10},
        "storage": {"kind": "s3", "bucket": bucket, "endpoint_url": s3.url, "region": REGION, "path_style": True},
        "tracker": {"resources": {"tracker": 0.001}},
    }
    nodes = ManyNodes(tmp_path, settings, DEPLOYMENTS, workers=3, resources={"tracker": 1})
    try:
        nodes.start()
        yield SharedService(nodes, postgresql, database, s3, bucket)
    finally:
        nodes.stop()
        postgresql.drop_database(database)


@thorough_only
@pytest.mark.timeout(900)
def test_every_job_ends_once_when_a_node_is_lost_and_when_another_is_taken_back(service: SharedService) -> None:
    nodes, seeds = service.nodes, count()
    models, ingresses = nodes.nodes_of(Role.MODEL), nodes.nodes_of(Role.INGRESS)
    (tracker,) = nodes.nodes_of(Role.TRACKER)
    assert len(set(models)) == len(set(ingresses)) == 2, "replicas are not spread"

    accepted = service.load_until_every_replica_has_jobs(seeds)
    nodes.lose(next(node for node in models if node != tracker))
    service.require_all_completed(accepted)
    assert service.rows("jobs WHERE attempts > 1") > 0, "no job was under way at the lost node"
    assert service.rows("jobs WHERE excused > 0") == 0

    # By now or soon there is another replica, so that both nodes that are left have one.
    accepted |= service.load_until_every_replica_has_jobs(seeds)
    nodes.drain_and_stop(tracker)
    service.require_all_completed(accepted)
    assert service.rows("jobs WHERE excused > 0") > 0, "the end of a drained node cost its jobs an attempt"
    (moved,) = nodes.nodes_of(Role.TRACKER)
    assert moved != tracker
