"""``cyberimage storage sweep`` and ``verify``, ``cyberimage backup`` and ``restore``: for operators.

They work on the database and the storage of the settings, whether the service runs or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deployments.jobs.records.exceptions import StoreUnavailableError
from deployments.jobs.store import JobStore
from deployments.private_files import keep_files_private
from deployments.settings.service import Settings, SettingsError, load_settings
from deployments.storage.base import Storage, StorageError
from deployments.storage.opening import open_storage
from deployments.upkeep.backup import BackupError, restore_backup, write_backup
from deployments.upkeep.sweep import MOST_TOLD, Sweep, damaged_files
from serve.cli.session import INTERRUPTED, Quiet, fail, plain

_Result = TypeVar("_Result")


def sweep() -> None:
    """Remove files without a record and pictures that no job names, and name images without a file.

    What is removed must be older than CYBERIMAGE_UPKEEP__ORPHAN_SECONDS, or INPUT_SECONDS.
    """

    async def work(settings: Settings, store: JobStore, storage: Storage) -> None:
        found = await Sweep(store.upkeep, storage, settings.upkeep).run()
        megabytes = f"{found.orphan_bytes / 1e6:.1f} MB"
        typer.echo(f"{found.files} files, {found.orphans} without a record removed ({megabytes})")
        typer.echo(f"{found.unfinished} unfinished files removed, {found.inputs} unused inputs forgotten")
        if found.missing:
            more = "" if found.missing <= MOST_TOLD else ", ..."
            fail(f"{found.missing} images have no file: {', '.join(found.missing_ids)}{more}")

    _run(work)


def verify(quiet: Quiet = False) -> None:
    """Read every image and input and compare it with its checksum; the exit code is 1 where one is missing or wrong."""

    async def work(settings: Settings, store: JobStore, storage: Storage) -> None:
        images = sum(each.images for each in await store.holdings.of())
        problems = done = 0
        with _progress("Verifying", quiet=quiet) as advance:

            def note(count: int) -> None:
                nonlocal done
                done += count
                advance(done, max(done, images))  # inputs come after them

            async for problem in damaged_files(store.upkeep, storage, note):
                problems += 1
                typer.secho(problem, fg=typer.colors.RED, err=True)
        if problems:
            fail(f"{problems} of {done} pictures are missing or damaged")
        if not quiet:
            typer.echo(f"All {done} pictures are as they were written")

    _run(work)


def backup(
    file: Annotated[Path, typer.Argument(help="The tar file to write; it must not be there.")], quiet: Quiet = False
) -> None:
    """Write records and pictures, as they are at one moment, into FILE; the service may run."""
    keep_files_private()
    with _errors(), _progress("Backing up", quiet=quiet) as advance:
        settings = load_settings()
        storage = open_storage(settings.storage, settings.images_dir)
        outcome = asyncio.run(write_backup(settings.resolved_database_url, storage, file, advance))
    for problem in outcome.problems:
        typer.secho(problem, fg=typer.colors.RED, err=True)
    if outcome.problems:
        fail(f"{file} is written, but {len(outcome.problems)} pictures were missing or damaged")
    if not quiet:
        typer.echo(f"{outcome.rows} records and {outcome.files} pictures are in {plain(str(file))}")


def restore(file: Annotated[Path, typer.Argument(help="A file of `backup`.")], quiet: Quiet = False) -> None:
    """Bring the records and pictures of FILE into an empty database and the storage; stop the service before."""
    keep_files_private()
    with _errors(), _progress("Restoring", quiet=quiet) as advance:
        settings = load_settings()
        settings.prepare_data_dir()
        storage = open_storage(settings.storage, settings.images_dir)
        outcome = asyncio.run(restore_backup(settings.resolved_database_url, storage, file, advance))
    if not quiet:
        typer.echo(f"{outcome.rows} records and {outcome.files} pictures are restored")


def _run(work: Callable[[Settings, JobStore, Storage], Coroutine[Any, Any, _Result]]) -> _Result:
    async def opened(settings: Settings) -> _Result:
        store = await JobStore.open(settings.resolved_database_url)
        try:
            return await work(settings, store, open_storage(settings.storage, settings.images_dir))
        finally:
            await store.close()

    keep_files_private()
    with _errors():
        return asyncio.run(opened(load_settings()))


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (SettingsError, StorageError, StoreUnavailableError, BackupError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("Stopped. The same command can be given again.", INTERRUPTED)


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
