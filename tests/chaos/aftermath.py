"""What is left after a storm: every job at its end, every picture right, nothing else."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from PIL import Image
from ray._common.test_utils import wait_for_condition

from tests.chaos.load import Order, fetch
from tests.chaos.storm import Storm, Strike
from tests.support.service import TERMINAL

QUIET_SECONDS = 300
LARGEST_DIFFERENCE = 1  # of 255: the same request gives the same picture, whatever else runs


@dataclass(frozen=True)
class Aftermath:
    """Jobs and pictures after a storm.

    Attributes:
        jobs: The status answer of each job that was accepted.
        pictures: The bytes of each image, by its id.
    """

    jobs: Mapping[str, dict[str, Any]]
    pictures: Mapping[str, bytes]

    def check(self, accepted: Mapping[str, Order], expected: Mapping[Order, Sequence[np.ndarray]]) -> None:
        """Every job completed, with its own pictures, each of them right, and none twice."""
        unfinished = {key: (job["status"], job["message"]) for key, job in self.jobs.items()}
        unfinished = {key: why for key, why in unfinished.items() if why[0] != "completed"}
        assert not unfinished, unfinished
        owners = [image["id"] for job in self.jobs.values() for image in job["images"]]
        assert len(owners) == len(set(owners)), "an image belongs to two jobs"
        for job_id, order in accepted.items():
            images = self.jobs[job_id]["images"]
            assert len(images) == order.num_images, job_id
            for image, right in zip(images, expected[order], strict=True):
                found = pixels(self.pictures[image["id"]])
                difference = np.abs(found.astype(int) - right.astype(int)).max()
                assert difference <= LARGEST_DIFFERENCE, (job_id, image["id"], difference)


def wait_for_quiet(url: str) -> None:
    """Wait until no job waits or runs."""

    def is_quiet() -> bool:
        counts = fetch(url, "/api/queue").json()
        return bool(counts["pending"] == counts["processing"] == 0)

    wait_for_condition(is_quiet, timeout=QUIET_SECONDS, retry_interval_ms=500)


def survey(url: str, job_ids: Sequence[str]) -> Aftermath:
    """Ask for every job, and fetch every picture."""
    jobs = {job_id: fetch(url, f"/api/status/{job_id}").json() for job_id in job_ids}
    assert {job["status"] for job in jobs.values()} <= TERMINAL
    images = [image["id"] for job in jobs.values() for image in job["images"]]
    return Aftermath(jobs, {image_id: fetch(url, f"/api/image/{image_id}").content for image_id in images})


def pixels(content: bytes) -> np.ndarray:
    """The pixels of a picture file."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def recovery_seconds(strikes: Sequence[Strike], jobs: Mapping[str, dict[str, Any]]) -> list[float]:
    """Of each strike: how long after it the first job was complete that had been accepted after it."""
    lives = [(_time(job["created_at"]), _time(job["completed_at"])) for job in jobs.values()]
    found = []
    for strike in strikes:
        later = [completed for created, completed in lives if created > strike.at]
        if later:
            found.append((min(later) - strike.at).total_seconds())
    return found


def report(name: str, storm: Storm, aftermath: Aftermath, accepted: Mapping[str, Order]) -> str:
    """The storm's figures, in a few lines."""
    recoveries = recovery_seconds(storm.strikes, aftermath.jobs)
    completed = [job for job in aftermath.jobs.values() if job["status"] == "completed"]
    images = sum(len(job["images"]) for job in completed)
    struck = ", ".join(f"{count} x {what}" for what, count in sorted(storm.kills().items()))
    return (
        f"{name}: {len(accepted)} jobs accepted, {len(completed)} completed, {len(accepted) - len(completed)} lost, "
        f"{images - len(aftermath.pictures)} images duplicated\n"
        f"  {len(storm.strikes)} strikes: {struck}\n"
        f"  from a strike to the completion of a job accepted after it: median {statistics.median(recoveries):.1f} s, "
        f"worst {max(recoveries):.1f} s"
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
