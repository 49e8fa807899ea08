"""A check of the image storage: whether it can be read, and a folder written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from deployments.doctor.finding import Finding, Level
from deployments.settings.service import Settings
from deployments.storage.base import Storage, StorageError
from deployments.storage.opening import open_storage

_CHECK = "storage's answer"
_SECONDS = 5.0


def check_storage_answers(settings: Settings) -> Iterator[Finding]:
    """Look at the folder, or list the first images of the bucket; nothing is written."""
    if settings.storage.kind == "local":
        yield _check_folder(settings)
    else:
        yield _check_bucket(settings)


def _check_folder(settings: Settings) -> Finding:
    folder = settings.images_dir
    if not folder.exists():
        return Finding(_CHECK, Level.OK, f"{folder} is not there yet; the service makes it.")
    if not folder.is_dir():
        return Finding(_CHECK, Level.PROBLEM, f"{folder} is a file in the place of a folder.", "move it away")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        sentence = f"{folder} cannot be read and written by this user."
        return Finding(_CHECK, Level.PROBLEM, sentence, f"chown -R {os.geteuid()} {folder}")
    return Finding(_CHECK, Level.OK, f"{folder} can be read and written.")


def _check_bucket(settings: Settings) -> Finding:
    try:
        asyncio.run(_list(open_storage(settings.storage, settings.images_dir, _SECONDS)))
    except StorageError as error:
        sentence = f"The bucket {settings.storage.bucket}: {error}"
        return Finding(_CHECK, Level.PROBLEM, sentence, "see docs/operations.md, A bucket for the images")
    return Finding(_CHECK, Level.OK, f"The bucket {settings.storage.bucket} answers.")


async def _list(storage: Storage) -> None:
    await anext(storage.pages(), None)
