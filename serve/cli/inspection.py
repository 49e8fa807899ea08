"""``cyberimage inspect``: the parameters in an image file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from deployments.storage.metadata.image_file import UnreadableImageError, read_metadata, read_parameters
from serve.cli.session import WRONG_USE, fail, plain


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
        fail(f"Cannot read {file}: {error.strerror}", WRONG_USE)
    except UnreadableImageError as error:
        fail(f"{file}: {error}")
    if metadata and not parameters:
        typer.echo(json.dumps(metadata, indent=2))
    elif text:
        typer.echo(plain(text))
    else:
        fail(f"{file}: it carries no parameters")
