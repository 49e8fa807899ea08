"""The one actor of a cluster that is its job tracker: found, started, replaced."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError

from deployments.private_files import keep_files_private
from deployments.settings.telemetry import LoggingSettings
from deployments.settings.tracker import TrackerSettings
from deployments.telemetry.logs import configure_logs
from deployments.tracker.job_tracker import JobTracker

TRACKER_NAME = "job-tracker"
TRACKER_NAMESPACE = "cyberimage"

# Calls of every replica, and long polls of every ingress replica, are in the actor at once; those beyond would wait
# unseen in front of it, behind each other.
MAX_CONCURRENCY = 10_000
REPLACE_ATTEMPTS = 50
REPLACE_PAUSE_SECONDS = 0.2
DESCRIBE_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class TrackerLogs:
    """What a tracker logs; no part of what makes it another tracker.

    Attributes:
        settings: What is logged, and how.
        folder: Of the files, where the settings name none.
    """

    settings: LoggingSettings
    folder: Path


class JobTrackerActor(JobTracker):
    """The tracker in a process of its own.

    Args:
        logs: What it logs, and where; None for Python's own way.
        settings: Its settings.
    """

    def __init__(self, logs: TrackerLogs | None, settings: TrackerSettings) -> None:
        keep_files_private()
        if logs is not None:
            configure_logs(logs.settings, "tracker", logs.folder)
        super().__init__(settings)


def connect_tracker(
    settings: TrackerSettings,
    name: str = TRACKER_NAME,
    namespace: str = TRACKER_NAMESPACE,
    logs: TrackerLogs | None = None,
) -> ActorHandle[Any]:
    """Return the cluster's tracker with these settings, started if need be.

    A living tracker of another version or with other settings is killed and replaced: each of its methods is one
    transaction, so it may die at any point, and its callers ask the new one. Several callers may do this at once.
    Blocks, for seconds where a tracker has to start.

    Args:
        settings: Of the tracker.
        name: The actor's name.
        namespace: The actor's namespace.
        logs: What it logs, and where; None for Python's own way. A tracker that lives already keeps its own.

    Raises:
        RuntimeError: Others kept replacing the tracker by one with other settings, or it does not start.
    """
    wanted = settings.fingerprint
    for _ in range(REPLACE_ATTEMPTS):
        tracker = _get_or_start(settings, logs, name, namespace)
        try:
            reply: ray.ObjectRef[dict[str, Any]] = tracker.describe.remote()
            found = ray.get(reply, timeout=DESCRIBE_TIMEOUT_SECONDS)
        except RayActorError:
            time.sleep(REPLACE_PAUSE_SECONDS)  # it was just killed; its name is free in a moment
            continue
        except GetTimeoutError as error:
            where = settings.resources or "no resources"
            raise RuntimeError(
                f"The tracker {name!r} did not answer within {DESCRIBE_TIMEOUT_SECONDS:g} s; it waits for a node with "
                f"{where} (tracker.resources)."
            ) from error
        if found["fingerprint"] == wanted:
            return tracker
        # The handle names this one actor: a successor under the same name is not touched.
        ray.kill(tracker, no_restart=True)
    raise RuntimeError(f"The tracker {name!r} keeps being replaced by one with other settings.")


def _get_or_start(settings: TrackerSettings, logs: TrackerLogs | None, name: str, namespace: str) -> ActorHandle[Any]:
    actor_class: Any = ray.remote(JobTrackerActor)
    handle: ActorHandle[Any] = actor_class.options(
        name=name,
        namespace=namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=MAX_CONCURRENCY,
        num_cpus=0,
        resources=settings.resources,
    ).remote(logs, settings)
    return handle
