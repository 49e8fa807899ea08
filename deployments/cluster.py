"""What the settings name, on a Ray cluster: the job tracker, and whether its nodes can share the images."""

from __future__ import annotations

from typing import cast

import ray
from ray.actor import ActorHandle
from ray.serve.context import _get_global_client

from deployments.settings.service import Settings, SettingsError
from deployments.settings.tracker import TrackerSettings
from deployments.tracker.actor import TRACKER_NAME, TRACKER_NAMESPACE, TrackerLogs, connect_tracker
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.remote import UnknownTrackerError, remote_tracker

_HEAD = {"node:__internal_head__": 0.001}  # every head has one of it


def open_tracker(settings: Settings) -> JobTracker:
    """The cluster's job tracker, started if need be. Blocks until it answers."""
    return remote_tracker(
        connect_tracker(
            TrackerSettings(
                database_url=settings.resolved_database_url,
                queue=settings.queue,
                quota=settings.quota,
                webhooks=settings.webhooks,
                resources=tracker_resources(settings),
            ),
            logs=TrackerLogs(settings.logging, settings.logs_dir),
        ),
        _find_tracker,
    )


def tracker_resources(settings: Settings) -> dict[str, float]:
    """Resources of the nodes that the tracker may be on; with SQLite that is the head where the settings name none."""
    if settings.tracker.resources:
        return settings.tracker.resources
    # A file stays where it is, while the tracker is started again on any node.
    return _HEAD if settings.resolved_database_url.startswith("sqlite") else {}


def _find_tracker() -> ActorHandle[JobTracker]:
    try:
        return cast(ActorHandle[JobTracker], ray.get_actor(TRACKER_NAME, TRACKER_NAMESPACE))
    except ValueError as error:  # it was killed, and its successor has yet to start
        raise UnknownTrackerError from error


def require_reachable_images(settings: Settings) -> None:
    """Refuse to keep images on the disk of one node where the cluster has several. Without a cluster there are none.

    Raises:
        SettingsError: They would be out of the other nodes' reach; one line says what to set.
    """
    storage = settings.storage
    if storage.kind != "local" or storage.shared or not ray.is_initialized():
        return
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]
    if nodes > 1:
        raise SettingsError(
            f"storage.shared (CYBERIMAGE_STORAGE__SHARED): the cluster has {nodes} nodes, and images on one's disk "
            "are not there for the others; set it to true if data_dir is on a file system that all of them have, or "
            "set storage.kind to s3"
        )


def listening_host() -> str | None:
    """The address that Ray Serve listens on for HTTP; None where it does not, or does not run."""
    if not ray.is_initialized():
        return None
    client = _get_global_client(raise_if_no_controller_running=False)
    return None if client is None else client.http_config.host
