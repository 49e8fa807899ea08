"""A check of the image storage: whether it can be asked for an image."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from threading import Thread

from deployments.doctor.finding import Finding, Level
from deployments.settings.service import Settings
from deployments.storage.base import StorageError
from deployments.storage.opening import open_storage

_CHECK = "storage's answer"
_SECONDS = 5.0
_NO_IMAGE = "1970/01/01/00000000-0000-0000-0000-000000000000.png"


def check_storage_answers(settings: Settings) -> Iterator[Finding]:
    """Ask the storage for an image that is not there; nothing is written."""
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
    bucket = f"The bucket {settings.storage.bucket}"
    failures: list[str] = []

    def ask() -> None:
        try:
            asyncio.run(open_storage(settings.storage, settings.images_dir).exists(_NO_IMAGE))
        except StorageError as error:
            failures.append(str(error))

    thread = Thread(target=ask, daemon=True)  # boto3 repeats what fails, for longer than a person waits
    thread.start()
    thread.join(_SECONDS)
    remedy = "see docs/operations.md, A bucket for the images"
    if thread.is_alive():
        return Finding(_CHECK, Level.PROBLEM, f"{bucket} does not answer within {_SECONDS:.0f} s.", remedy)
    if failures:
        return Finding(_CHECK, Level.PROBLEM, failures[0], remedy)
    return Finding(_CHECK, Level.OK, f"{bucket} answers.")
