"""The parts of the job store, by the names of their attributes."""

from __future__ import annotations

from deployments.jobs.images.gallery import Gallery
from deployments.jobs.images.holdings import Holdings
from deployments.jobs.images.images import Images
from deployments.jobs.images.inputs import Inputs
from deployments.jobs.images.lineage import Lineages
from deployments.jobs.images.upkeep import UpkeepRecords
from deployments.jobs.keys import Keys
from deployments.jobs.queue.administration import Administration
from deployments.jobs.queue.attempts import Attempts
from deployments.jobs.queue.claims import Claims
from deployments.jobs.queue.counts import Counts
from deployments.jobs.queue.deadlines import Deadlines
from deployments.jobs.queue.jobs import Jobs
from deployments.jobs.queue.outbox import Outbox
from deployments.jobs.queue.queue import Queue
from deployments.jobs.queue.views import Views
from deployments.jobs.transaction.audit import Audit


class OpenParts:
    """The parts that need nothing but the database: whoever has the job tracker may call them as they are."""

    administration: Administration
    audit: Audit
    counts: Counts
    gallery: Gallery
    holdings: Holdings
    images: Images
    inputs: Inputs
    jobs: Jobs
    keys: Keys
    lineages: Lineages
    upkeep: UpkeepRecords


class StoreParts(OpenParts):
    """All parts: those that the job tracker calls with its settings, or notes in its memory, among them."""

    attempts: Attempts
    claims: Claims
    deadlines: Deadlines
    outbox: Outbox
    queue: Queue
    views: Views
