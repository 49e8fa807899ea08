"""What the HTTP routes work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from deployments.catalog.catalog import Catalog
from deployments.decoding.limits import Limits
from deployments.decoding.workers import PictureWorkers
from deployments.model.prompt_tokens import PromptTokens
from deployments.settings.service import Settings
from deployments.storage.base import Storage
from deployments.tracker.job_tracker import JobTracker
from serve.protection.protection import Protection
from serve.services.enrichment import Enricher
from serve.services.intake import Intake
from serve.services.job_feed import JobFeed, Rhythm


@dataclass(frozen=True)
class Services:
    """The parts behind the edge.

    Attributes:
        settings: The service's settings.
        catalog: The models.
        tracker: The job tracker.
        storage: Where image bytes are.
        rhythm: How jobs are followed for those who watch them.
    """

    settings: Settings
    catalog: Catalog
    tracker: JobTracker
    storage: Storage
    rhythm: Rhythm = field(default_factory=Rhythm)

    @cached_property
    def feed(self) -> JobFeed:
        """The one subscription of this process to changes of jobs."""
        return JobFeed(self.tracker, self.rhythm)

    @cached_property
    def intake(self) -> Intake:
        """Submits the jobs of this process."""
        return Intake(self.tracker)

    @cached_property
    def picture_workers(self) -> PictureWorkers:
        """Decodes and encodes pictures for clients."""
        return PictureWorkers(self.settings.picture_workers, Limits(self.settings.max_upload_pixels))

    @cached_property
    def protection(self) -> Protection:
        """Authenticates requests and limits their rates."""
        return Protection(self.settings, self.tracker)

    @cached_property
    def enricher(self) -> Enricher:
        """Expands prompts."""
        return Enricher(self.settings.enrich)

    @cached_property
    def prompt_tokens(self) -> PromptTokens:
        """Counts tokens of prompts."""
        return PromptTokens(self.catalog)
