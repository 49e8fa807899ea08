"""Keeps storage and records in step: files without a record, records without a file, files that are damaged."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar, get_args

from deployments.background import TaskSet, repeat_forever
from deployments.clock import utc_now
from deployments.jobs.images.upkeep import KeptFile, UpkeepRecords
from deployments.jobs.records.jobs import PictureKind
from deployments.settings.upkeep import UpkeepSettings
from deployments.storage.base import MissingObjectError, Storage, StoredObject
from deployments.storage.image_names import image_id

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

CHORE = "sweep"
MOST_TOLD = 100
_AT_ONCE = 8
_BATCH = 500
_LONGEST_LOOK_SECONDS = 600.0


@dataclass
class SweepOutcome:
    """What a sweep found.

    Attributes:
        files: Files that were looked at.
        orphans: Files without a record, which were removed.
        orphan_bytes: Their bytes.
        unfinished: Files of writes that were never finished, which were removed.
        inputs: Pictures that were sent and that no job names, whose records were removed.
        missing: Images whose file is not there.
        missing_ids: Ids of the first 100 of them.
    """

    files: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    unfinished: int = 0
    inputs: int = 0
    missing: int = 0
    missing_ids: list[str] = field(default_factory=list)


class Sweep:
    """One pass over storage and records; it can be stopped anywhere and begun again.

    Memory is bounded: a thousand files, or 500 records, are looked at at a time.

    Args:
        records: ``upkeep`` of the job store, or of the job tracker.
        storage: Where the files are.
        settings: How old what is removed has to be.
        now: The time, by the clock that dates the files.
    """

    def __init__(
        self, records: UpkeepRecords, storage: Storage, settings: UpkeepSettings, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._records = records
        self._storage = storage
        self._settings = settings
        self._now = now
        self.outcome = SweepOutcome()

    async def run(self) -> SweepOutcome:
        """Sweep storage and records.

        Raises:
            StorageError: The files could not be listed, or one could not be removed.
        """
        await self.forget_inputs()
        async for page in self._storage.pages():
            await self.remove_orphans(page)
        await self.find_missing()
        return self.outcome

    async def forget_inputs(self) -> None:
        """Remove the records of inputs that no job names, and what unfinished writes left; files go as orphans."""
        age = timedelta(seconds=self._settings.input_seconds)
        while forgotten := await self._records.forget_unused_inputs(age, _BATCH):
            self.outcome.inputs += forgotten
        self.outcome.unfinished += await self._storage.sweep_unfinished(self._grace)

    async def remove_orphans(self, page: Sequence[StoredObject]) -> None:
        """Remove those of some files that are old and belong to no image, no input and no job that has begun."""
        self.outcome.files += len(page)
        before = self._now() - self._grace
        old = [each for each in page if each.modified < before]
        if not old:
            return
        # Jobs first: the images of one that ends in between have their records by then.
        begun = await self._records.begun_jobs()
        made = {image_id(job.job_id, index) for job in begun for index in range(job.num_images)}
        known = await self._records.known_ids(list({_identity(each.key) for each in old}))
        for each in old:
            if _identity(each.key) not in known | made:
                await self._storage.delete(each.key)
                self.outcome.orphans += 1
                self.outcome.orphan_bytes += each.size

    async def find_missing(self) -> None:
        """Find the images whose file is not there."""
        async for batch in _batches(self._records, "image"):
            there = await _each(batch, lambda image: self._storage.exists(image.key))
            gone = [image.id for image, is_there in zip(batch, there, strict=True) if not is_there]
            # One that was deleted meanwhile has no record either.
            if gone:
                known = await self._records.known_ids(gone)
                gone = [each for each in gone if each in known]
            self.outcome.missing += len(gone)
            self.outcome.missing_ids += gone[: MOST_TOLD - len(self.outcome.missing_ids)]

    @property
    def _grace(self) -> timedelta:
        return timedelta(seconds=self._settings.orphan_seconds)


async def damaged_files(
    records: UpkeepRecords, storage: Storage, on_batch: Callable[[int], None] = lambda _: None
) -> AsyncIterator[str]:
    """Read every image and input, and compare it with its checksum; yields a sentence for each that is not right.

    Args:
        records: ``upkeep`` of the job store, or of the job tracker.
        storage: Where the files are.
        on_batch: Called with how many files were looked at, some at a time.

    Raises:
        StorageError: A file could not be read.
    """
    for kind in get_args(PictureKind):
        async for batch in _batches(records, kind):
            for problem in await _each(batch, lambda file: _problem_of(storage, file)):
                if problem:
                    yield problem
            on_batch(len(batch))


class Upkeep:
    """Sweeps at regular times; of several ingress replicas one does.

    Args:
        records: ``upkeep`` of the job store, or of the job tracker.
        storage: Where the files are.
        settings: How often, and what.
    """

    def __init__(self, records: UpkeepRecords, storage: Storage, settings: UpkeepSettings) -> None:
        self._records = records
        self._storage = storage
        self._settings = settings
        self._tasks = TaskSet()

    def start(self) -> None:
        """Begin, on the running event loop; without an interval there is nothing to do."""
        interval = self._settings.interval_seconds
        if interval is not None:
            sweep = partial(self.sweep_if_due, timedelta(seconds=interval))
            pause = min(interval, _LONGEST_LOOK_SECONDS)
            self._tasks.start(repeat_forever(sweep, pause, logger, "The sweep of the storage failed"))

    async def close(self) -> None:
        """Stop; the next sweep begins from the start."""
        await self._tasks.close()

    async def sweep_if_due(self, every: timedelta) -> SweepOutcome | None:
        """Sweep, unless a sweep began within the interval; None then."""
        if not await self._records.begin_chore(CHORE, every):
            return None
        outcome = await Sweep(self._records, self._storage, self._settings).run()
        if outcome.orphans:
            logger.info("Removed %d files without a record, %d bytes", outcome.orphans, outcome.orphan_bytes)
        if outcome.missing:
            logger.warning("%d images have no file: %s", outcome.missing, ", ".join(outcome.missing_ids))
        return outcome


def _identity(key: str) -> str:
    """The id of the image, or input, that a file is of; a thumbnail's is its image's."""
    return key.rpartition("/")[2].partition(".")[0]


async def _batches(records: UpkeepRecords, kind: PictureKind) -> AsyncIterator[list[KeptFile]]:
    last = 0
    while (batch := await records.files_after(kind, last, _BATCH)).files:
        yield batch.files
        last = batch.last


async def _each(files: Sequence[KeptFile], ask: Callable[[KeptFile], Awaitable[_T]]) -> list[_T]:
    """The answer for each of some files, a few at a time."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(file: KeptFile) -> _T:
        async with places:
            return await ask(file)

    return await asyncio.gather(*map(one, files))


async def _problem_of(storage: Storage, file: KeptFile) -> str:
    try:
        content = await storage.read(file.key)
    except MissingObjectError:
        return f"{file.id}: its file {file.key} is not there."
    if hashlib.sha256(content).hexdigest() != file.sha256:
        return f"{file.id}: its file {file.key} is damaged: its SHA-256 is not {file.sha256}."
    return ""
