"""The ``cyberimage`` command: registers all commands, and defines ``cyberimage serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.version import package_version
from serve.cli import jobs, keys, queue, storage, upkeep
from serve.cli.doctor import doctor
from serve.cli.generate import generate, replay
from serve.cli.inspection import inspect
from serve.cli.models import models
from serve.cli.plan import plan

app = typer.Typer(
    name="cyberimage",
    help="Text to image on your own machines: the client of a CyberImage service, and the service itself.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_show_locals=False,
)

app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(queue.app, name="queue")
app.add_typer(storage.app, name="storage")
app.command()(queue.audit)
app.command()(upkeep.backup)
app.command()(upkeep.restore)
for command in (doctor, inspect, generate, replay, models, plan, jobs.status, jobs.watch, jobs.cancel):
    app.command()(command)


def main() -> None:
    """Run the command line; the exit code is 0, 1 for a failure, 2 for wrong use, 130 for Ctrl-C."""
    app()


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    typer.echo(f"cyberimage {package_version()}")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    port: Annotated[int, typer.Option(envvar="PORT", min=1, max=65535, help="The port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    catalog: Annotated[
        Path | None,
        typer.Option(help="Model catalog (YAML); where left out, one that fits the GPU, or the built-in model."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where jobs and images are kept.")] = None,
) -> None:
    """Start the service on this machine and keep it running until Ctrl-C."""
    # Ray takes seconds to import, and no other command needs it.
    from serve.launcher import launch  # noqa: PLC0415

    raise typer.Exit(launch(host, port, catalog, data_dir))
