"""What the service measures; every node's Prometheus endpoint has it, with ``ray_`` before the names.

Whoever measures imports this module, with a cluster or without: where Ray does not run, nothing is recorded, and Ray is
not imported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_JOB_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
_WRITE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Metric:
    """A metric: one number for each combination of label values.

    Attributes:
        name: The name in Ray.
        description: One line.
        labels: Names of its labels; Ray adds the process and the node.
    """

    name: str
    description: str
    labels: tuple[str, ...] = ()

    @cached_property
    def _of_ray(self) -> Any:
        from ray.util import metrics  # noqa: PLC0415

        return getattr(metrics, type(self).__name__)(self.name, self.description, tag_keys=self.labels)

    def _checked(self, labels: dict[str, str]) -> dict[str, str] | None:
        """The labels; None where there is nobody to tell.

        Raises:
            ValueError: They are not the metric's.
        """
        if set(labels) != set(self.labels):
            raise ValueError(f"{self.name} has the labels {', '.join(self.labels) or '(none)'}.")
        return labels if is_recording() else None


class Counter(Metric):
    """A number that only rises."""

    def add(self, amount: float = 1.0, **labels: str) -> None:
        """Increase the counter; adding nothing has no effect."""
        tags = self._checked(labels)
        if tags is not None and amount > 0:
            self._of_ray.inc(amount, tags=tags)


class Gauge(Metric):
    """A number that rises and falls. Ray forgets it unless it is set again from time to time."""

    def set(self, value: float, **labels: str) -> None:
        """Set the current value."""
        tags = self._checked(labels)
        if tags is not None:
            self._of_ray.set(value, tags=tags)


@dataclass(frozen=True)
class Histogram(Metric):
    """A histogram: how often a number fell into each range.

    Ray makes up the sum from the middles of the ranges, so quantiles can be had, and means cannot.

    Attributes:
        boundaries: The ranges' upper ends.
    """

    boundaries: tuple[float, ...] = ()

    @cached_property
    def _of_ray(self) -> Any:
        from ray.util import metrics  # noqa: PLC0415

        return metrics.Histogram(self.name, self.description, list(self.boundaries), self.labels)

    def observe(self, value: float, **labels: str) -> None:
        """Count an observed number."""
        tags = self._checked(labels)
        if tags is not None:
            self._of_ray.observe(max(0.0, value), tags=tags)

    @contextmanager
    def timing(self, **labels: str) -> Iterator[None]:
        """Observe the seconds that the block takes, also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.observe(time.monotonic() - began, **labels)


JOBS = Gauge("cyberimage_jobs", "Jobs in each state, as the job database counts them.", ("model", "state"))
QUEUE_LIMIT = Gauge("cyberimage_queue_limit", "Pending jobs above which new ones are refused.")
SUBMITTED_JOBS = Counter("cyberimage_submitted_jobs", "Jobs that were accepted.", ("model",))
REJECTED_REQUESTS = Counter(
    "cyberimage_rejected_requests", "HTTP requests that were answered with an error, by its kind.", ("reason",)
)
JOB_WAIT_SECONDS = Histogram(
    "cyberimage_job_wait_seconds",
    "From a job's submission until a replica has it; loading a cold model included.",
    ("model",),
    _JOB_SECONDS,
)
JOB_RUN_SECONDS = Histogram(
    "cyberimage_job_run_seconds", "That an attempt at a job took at its replica.", ("model",), _JOB_SECONDS
)
JOB_SECONDS = Histogram(
    "cyberimage_job_seconds", "From a job's submission to the end of an attempt at it.", ("model",), _JOB_SECONDS
)
DENOISING_STEPS = Counter("cyberimage_denoising_steps", "Denoising forwards.", ("model",))
DENOISING_SECONDS = Counter("cyberimage_denoising_seconds", "Time inside denoising forwards.", ("model",))
DENOISING_ROWS = Counter(
    "cyberimage_denoising_rows", "Rows of all denoising forwards: divided by these, how wide batches are.", ("model",)
)
PADDED_ROWS = Counter("cyberimage_padded_rows", "Rows computed only to keep a forward's width.", ("model",))
IMAGES_IN_PROGRESS = Gauge("cyberimage_images_in_progress", "Images in the making, of each replica.", ("model",))
FORWARD_SHARE = Gauge(
    "cyberimage_forward_share",
    "Share (0 to 1) of a replica's busy time since its start that it spent inside forwards.",
    ("model",),
)
# A time and no counter: each replica is a process of its own, whose counter would begin with 1: no rise to Prometheus.
COLD_START_TIME = Gauge(
    "cyberimage_cold_start_timestamp_seconds", "When a replica had loaded its model, since 1970.", ("model",)
)
LOAD_SECONDS = Gauge("cyberimage_load_seconds", "That a replica took to load its model.", ("model",))
MODEL_AVAILABLE = Gauge(
    "cyberimage_model_available", "1 where a replica could load its model, 0 where it could not.", ("model",)
)
IMAGE_WRITE_SECONDS = Histogram(
    "cyberimage_image_write_seconds",
    "That writing an image and its thumbnails to the storage took.",
    ("model",),
    _WRITE_SECONDS,
)
POOL_SWAPS = Counter("cyberimage_pool_swaps", "Models brought onto the device of their pool.", ("pool", "model"))
POOL_SWAP_SECONDS = Histogram(
    "cyberimage_pool_swap_seconds",
    "That bringing a model onto the device of its pool took, once it was read from the disk.",
    ("pool", "model"),
    _WRITE_SECONDS,
)
POOL_WEIGHT_BYTES = Gauge(
    "cyberimage_pool_weight_bytes",
    "Weights of each replica of a pool, on the device (resident) and in main memory only (parked).",
    ("pool", "place"),
)


def is_recording() -> bool:
    """Whether a cluster records metrics."""
    ray = sys.modules.get("ray")  # a process that never imported it is in no cluster
    return ray is not None and bool(ray.is_initialized())
