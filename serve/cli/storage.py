"""``cyberimage storage ...``: upkeep of the storage of images, for operators."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deployments.private_files import keep_files_private
from deployments.settings.service import SettingsError, load_settings
from deployments.storage.base import StorageError, StoredObject
from deployments.storage.opening import storage_at
from deployments.storage.transfer import Outcome, Transfer
from serve.cli import upkeep
from serve.cli.session import FAILURE, INTERRUPTED, Quiet, fail

_SHOWN_FAILURES = 10

app = typer.Typer(help="Look after the place where images are kept.", no_args_is_help=True)

app.command()(upkeep.sweep)
app.command()(upkeep.verify)


@app.command()
def copy(
    source: Annotated[str, typer.Option("--from", help="local, s3, s3://bucket/prefix, or a folder.")],
    target: Annotated[str, typer.Option("--to", help="The same.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="Read and compare what is at the target already, not only its size.")
    ] = False,
    delete_source: Annotated[
        bool, typer.Option("--delete-source", help="Delete each image from the source once it is surely at the target.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Copy all images from one storage to another; Ctrl-C stops it, and the same command goes on.

    `local` and `s3` are those of the settings (CYBERIMAGE_DATA_DIR, CYBERIMAGE_STORAGE__BUCKET and so on).
    """
    keep_files_private()
    try:
        settings = load_settings()
        origin, destination = (storage_at(place, settings.storage, settings.images_dir) for place in (source, target))
        transfer = Transfer(origin, destination, compare=compare, remove=delete_source)
        outcome = asyncio.run(_run(transfer, Console(stderr=True, quiet=quiet)))
    except (SettingsError, StorageError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        typer.echo("Stopped. What was copied stays; the same command goes on with the rest.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        typer.echo(_summary(outcome))
    if outcome.failures:
        _tell_failures(outcome.failures)
        raise typer.Exit(FAILURE)


async def _run(transfer: Transfer, console: Console) -> Outcome:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[megabytes]}", justify="right"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Counting", total=None, megabytes="")
        await transfer.check()
        inventory = await transfer.take_inventory()
        bar.update(task, description="Copying", total=inventory.objects)
        done = 0

        def show(found: StoredObject) -> None:
            nonlocal done
            done += found.size
            bar.update(task, advance=1, megabytes=f"{done / 1e6:.1f} of {inventory.bytes / 1e6:.1f} MB")

        return await transfer.run(show)


def _summary(outcome: Outcome) -> str:
    text = f"{outcome.copied} copied, {outcome.present} there already, {len(outcome.failures)} failed"
    return f"{text}, {outcome.removed} deleted from the source" if outcome.removed else text


def _tell_failures(failures: list[str]) -> None:
    for sentence in failures[:_SHOWN_FAILURES]:
        typer.secho(sentence, fg=typer.colors.RED, err=True)
    if len(failures) > _SHOWN_FAILURES:
        typer.secho(f"... and {len(failures) - _SHOWN_FAILURES} more", fg=typer.colors.RED, err=True)
