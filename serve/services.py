"""What the HTTP routes work with."""

from __future__ import annotations

from dataclasses import dataclass

from deployments.catalog import Catalog
from deployments.job_tracker import JobTracker
from deployments.settings import Settings
from deployments.storage.base import Storage


@dataclass(frozen=True)
class Services:
    """The parts behind the edge.

    Attributes:
        settings: The service's settings.
        catalog: The models.
        tracker: The job tracker.
        storage: Where image bytes are.
    """

    settings: Settings
    catalog: Catalog
    tracker: JobTracker
    storage: Storage
