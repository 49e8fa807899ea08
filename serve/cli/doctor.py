"""``cyberimage doctor``: looks at this machine and its configuration, and names what is to be mended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from deployments.doctor.checkup import examine
from deployments.doctor.finding import Finding, Level
from deployments.private_files import keep_files_private
from serve.cli.session import FAILURE, plain

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    catalog: Annotated[Path | None, typer.Option(help="Model catalog, as of `serve`.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder, as of `serve`.")] = None,
) -> None:
    """Check the settings, the catalog, and who may read the service's data; the exit code is 1 where one is wrong.

    It changes nothing, and works whether the service runs or not.
    """
    keep_files_private()
    given = {"catalog": catalog, "data_dir": data_dir}
    findings = list(examine({name: str(value) for name, value in given.items() if value is not None}))
    if as_json:
        typer.echo(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    if any(finding.level is Level.ERROR for finding in findings):
        raise typer.Exit(FAILURE)


def _print(findings: Sequence[Finding]) -> None:
    console = Console(soft_wrap=True)
    for finding in findings:
        level = Text(f"{finding.level.value:<8}", style=_STYLES[finding.level])
        console.print(level, Text(plain(f"{finding.check}: {finding.sentence}")), sep="")
        if finding.remedy:
            console.print(Text(plain(f"{'':<8}{finding.remedy}"), style="bold"))
