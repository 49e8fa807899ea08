"""Reads the pictures and LoRAs of the command line."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from serve.cli.client import Client


def upload_pictures(client: Client, files: Mapping[str, Path | None]) -> dict[str, str]:
    """Upload pictures, and return their ids by field; None is no picture.

    Args:
        client: Of the service.
        files: Paths by the request's field: ``image``, ``mask``, ``control_image``.

    Raises:
        typer.BadParameter: A file cannot be read.
        ServiceError: The service takes one of them for no picture.
    """
    contents = {name: (path, _read(path)) for name, path in files.items() if path is not None}
    return {name: client.upload(content, _media_type(path)) for name, (path, content) in contents.items()}


def read_loras(texts: Sequence[str]) -> list[dict[str, Any]] | None:
    """Parse LoRAs for a request; None where there are none.

    Args:
        texts: Each a name, or a name and a scale: ``ink:0.7``.

    Raises:
        typer.BadParameter: A scale is not a number.
    """
    return [_lora(text) for text in texts] or None


def _lora(text: str) -> dict[str, Any]:
    name, separator, scale = text.partition(":")
    if not separator:
        return {"name": name}
    try:
        return {"name": name, "scale": float(scale)}
    except ValueError:
        raise typer.BadParameter(f"--lora {text}: {scale!r} is not a number; write NAME or NAME:SCALE") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"Cannot read {path}: {error.strerror}") from None


def _media_type(path: Path) -> str:
    """Return the media type by the file's name; the service checks the content anyway."""
    guessed = mimetypes.guess_type(path.name)[0] or ""
    return guessed if guessed.startswith("image/") else "image/png"
