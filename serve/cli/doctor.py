"""``cyberimage doctor``: looks at this machine and its configuration, and names what is to be mended."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from deployments.doctor.finding import Finding, Level
from deployments.private_files import keep_files_private
from serve.cli.session import FAILURE, plain
from serve.gpu_catalogs import choose_catalog, find_gpus, is_named

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    catalog: Annotated[Path | None, typer.Option(help="Model catalog, as of `serve`, left out too.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder, as of `serve`.")] = None,
    port: Annotated[int, typer.Option(envvar="PORT", min=1, max=65535, help="The port, as of `serve`.")] = 8000,
) -> None:
    """Check this machine, the settings, the catalog's models and who may read the service's data.

    Each line is ok, a warning or a problem with what mends it; the exit code is 1 where there is a problem. It changes
    nothing, and works whether the service runs or not.
    """
    from deployments.doctor.checkup import examine  # noqa: PLC0415 - what it imports takes a second

    keep_files_private()
    if catalog is None and not is_named(os.environ):
        catalog = _catalog_for_gpu()
    given = {"catalog": catalog, "data_dir": data_dir}
    findings = examine({name: str(value) for name, value in given.items() if value is not None}, port)
    if as_json:
        found = list(findings)
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in found]}, indent=2))
    else:
        found = _print(findings)
    if any(finding.level is Level.PROBLEM for finding in found):
        raise typer.Exit(FAILURE)


def _catalog_for_gpu() -> Path | None:
    """The catalog that `serve` takes on this machine; none where it takes the built-in one."""
    try:
        return choose_catalog(find_gpus()).catalog
    except ImportError:  # torch's; that is a finding of its own
        return None


def _print(findings: Iterable[Finding]) -> list[Finding]:
    """Print each finding as it comes, and at the end how many there were of each level."""
    console = Console(soft_wrap=True)
    found = []
    for finding in findings:
        found.append(finding)
        level = Text(f"{finding.level.value:<8}", style=_STYLES[finding.level])
        console.print(level, Text(plain(f"{finding.check}: {finding.sentence}")), sep="")
        if finding.remedy:
            console.print(Text(plain(f"{'':<8}{finding.remedy}"), style="bold"))
    levels = Counter(finding.level for finding in found)
    console.print(f"\nok: {levels[Level.OK]}, warnings: {levels[Level.WARNING]}, problems: {levels[Level.PROBLEM]}")
    return found
