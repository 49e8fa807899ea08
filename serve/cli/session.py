"""Shared by the commands: common options, the connection to a service, output and exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from serve.cli.client import Client, ServiceError

FAILURE = 1
WRONG_USE = 2
INTERRUPTED = 130

Url = Annotated[str, typer.Option("--url", envvar="CYBERIMAGE_URL", help="Where the service answers.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="CYBERIMAGE_API_KEY", show_envvar=True, help="The API key, where the service asks for one."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the service's answer as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Cursor = Annotated[str | None, typer.Option("--cursor", help="Go on where a page of --json ended: its next_cursor.")]
JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id.")]


@contextmanager
def service(url: str, api_key: str | None) -> Iterator[Client]:
    """Open a client whose errors end the command with one line and exit code 1."""
    try:
        with connect(url, api_key) as client:
            yield client
    except ServiceError as error:
        fail(str(error))


def connect(url: str, api_key: str | None) -> Client:
    """Open a client; the caller closes it."""
    return Client(url, api_key=api_key)


def fail(sentence: str, code: int = FAILURE) -> NoReturn:
    """End the command with a sentence on standard error."""
    typer.secho(plain(sentence), fg=typer.colors.RED, err=True)
    raise typer.Exit(code)


def print_json(answer: dict[str, Any]) -> None:
    """Print a service's answer."""
    typer.echo(json.dumps(answer, indent=2))


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. Its cells are plain text: no markup, no control characters."""
    table = Table(*names)
    for row in rows:
        table.add_row(*(Text(plain(str(cell))) for cell in row))
    Console().print(table)


def plain(text: str) -> str:
    """Drop control characters: another user's prompt must not control this terminal."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")
