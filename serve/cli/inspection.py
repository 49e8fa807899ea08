"""``cyberimage inspect``: what an image file says of how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from deployments.storage.image_file import UnreadableImageError, read_metadata, read_parameters

_FAILURE, _WRONG_USE = 1, 2


def inspect(
    file: Annotated[Path, typer.Argument(help="A PNG, JPEG, WebP or AVIF file.")],
    parameters: Annotated[
        bool, typer.Option("--parameters", help="Print the text that other programs read, not the JSON.")
    ] = False,
) -> None:
    """Print the parameters that made an image, from its file: as JSON, or as text where another program wrote them."""
    try:
        content = file.read_bytes()
        metadata, text = read_metadata(content), read_parameters(content)
    except OSError as error:
        _fail(f"Cannot read {file}: {error.strerror}", _WRONG_USE)
    except UnreadableImageError as error:
        _fail(f"{file}: {error}", _FAILURE)
    if metadata and not parameters:
        typer.echo(json.dumps(metadata, indent=2))
    elif text:
        typer.echo("".join(each for each in text if each.isprintable() or each in "\n\t"))
    else:
        _fail(f"{file}: it carries no parameters", _FAILURE)


def _fail(sentence: str, code: int) -> NoReturn:
    typer.secho(sentence, fg=typer.colors.RED, err=True)
    raise typer.Exit(code)
