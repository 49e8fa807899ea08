"""The one actor of a cluster that is its job tracker: found, started, replaced."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from deployments.job_tracker import JobTracker
from deployments.tracker_settings import TrackerSettings, fingerprint

TRACKER_NAME = "job-tracker"
TRACKER_NAMESPACE = "cyberimage"

# Long polls of every ingress replica and every watching client sit in the actor at once.
MAX_CONCURRENCY = 1000
REPLACE_ATTEMPTS = 50
REPLACE_PAUSE_SECONDS = 0.2
DESCRIBE_TIMEOUT_SECONDS = 60.0


def connect_tracker(
    settings: TrackerSettings,
    name: str = TRACKER_NAME,
    namespace: str = TRACKER_NAMESPACE,
    resources: Mapping[str, float] | None = None,
) -> ActorHandle[Any]:
    """Return the cluster's tracker with these settings, started if need be.

    A living tracker of another version or with other settings is killed and replaced: each of its methods is one
    transaction, so it may die at any point, and its callers ask the new one. Several callers may do this at once.
    Blocks, for seconds where a tracker has to start.

    Args:
        settings: What the tracker is built with.
        name: The actor's name.
        namespace: The actor's namespace.
        resources: Custom resources of the node it belongs on, needed where the database is a file of one node.

    Raises:
        RuntimeError: Others kept replacing the tracker by one with other settings.
    """
    wanted = fingerprint(settings)
    for _ in range(REPLACE_ATTEMPTS):
        tracker = _get_or_start(settings, name, namespace, dict(resources or {}))
        try:
            reply: ray.ObjectRef[dict[str, Any]] = tracker.describe.remote()
            found = ray.get(reply, timeout=DESCRIBE_TIMEOUT_SECONDS)
        except RayActorError:
            time.sleep(REPLACE_PAUSE_SECONDS)  # it was just killed; its name is free in a moment
            continue
        if found["fingerprint"] == wanted:
            return tracker
        # The handle names this one actor: a successor under the same name is not touched.
        ray.kill(tracker, no_restart=True)
    raise RuntimeError(f"The tracker {name!r} keeps being replaced by one with other settings.")


def _get_or_start(
    settings: TrackerSettings, name: str, namespace: str, resources: dict[str, float]
) -> ActorHandle[Any]:
    actor_class: Any = ray.remote(JobTracker)
    handle: ActorHandle[Any] = actor_class.options(
        name=name,
        namespace=namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=MAX_CONCURRENCY,
        num_cpus=0,
        resources=resources,
    ).remote(**settings)
    return handle
