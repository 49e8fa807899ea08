"""A service's records and pictures in one tar file, and back into an empty place."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.errors import CyberImageError
from deployments.jobs.database.database import Database
from deployments.jobs.database.schema import upgrade
from deployments.jobs.database.tables import images, inputs
from deployments.jobs.images.export import read_rows, require_empty, write_rows
from deployments.storage.base import MissingObjectError, Storage, check_key
from deployments.version import package_version

_FORMAT = 1
_MANIFEST, _ROWS, _FILES = "manifest.json", "rows.jsonl", "files/"
_IN_MEMORY = 16 * 2**20
_LARGEST_MANIFEST, _LARGEST_PICTURE = 2**20, 2**30  # in bytes: they are read whole


class BackupError(CyberImageError):
    """The backup cannot be used."""


@dataclass
class BackupOutcome:
    """What went into a backup, or came out of it.

    Attributes:
        files: Pictures.
        rows: Lines of records.
        problems: A sentence for each picture that is missing or damaged.
    """

    files: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)


async def write_backup(
    url: str, storage: Storage, target: Path, on_file: Callable[[int, int], None] = lambda done, total: None
) -> BackupOutcome:
    """Write all records, as they are at one moment, and the pictures that they name; the service may run meanwhile.

    Thumbnails are left out: they are made again when somebody asks for them. The file appears when it is complete.

    Args:
        url: Of the job database.
        storage: Where the pictures are.
        target: The file; it must not be there.
        on_file: Called with how many pictures of how many are done.

    Raises:
        BackupError: The file is there already, or cannot be written.
        StoreUnavailableError: The database cannot be used.
        StorageError: A picture could not be read.
    """
    unfinished = _unfinished(target)
    with _explained(target), tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as rows:
        revision, wanted = await _snapshot(url, rows)
        outcome = BackupOutcome(rows=_lines_in(rows))
        try:
            with tarfile.open(unfinished, "w") as archive:
                manifest = {
                    "format": _FORMAT, "version": package_version(), "revision": revision, "files": len(wanted)
                }  # fmt: skip
                _add(archive, _MANIFEST, io.BytesIO(json.dumps(manifest).encode()))
                _add(archive, _ROWS, rows)
                for done, (key, sha256) in enumerate(wanted, 1):
                    await _add_picture(archive, storage, key, sha256, outcome)
                    on_file(done, len(wanted))
            _finish(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    return outcome


async def restore_backup(
    url: str, storage: Storage, source: Path, on_file: Callable[[int, int], None] = lambda done, total: None
) -> BackupOutcome:
    """Bring a backup's records into an empty database, and its pictures into the storage.

    The pictures go first: a restore that was interrupted finds the database empty, and can be repeated.

    Args:
        url: Of the job database, of either kind.
        storage: Where the pictures go.
        source: A file that :func:`write_backup` wrote.
        on_file: Called with how many pictures of how many are done.

    Raises:
        BackupError: The file is not a backup, or damaged.
        StoreUnavailableError: The database cannot be used, or is not empty.
        StorageError: A picture could not be written.
    """
    await require_empty(url)
    outcome = BackupOutcome()
    with _explained(source), tarfile.open(source, "r:") as archive, tempfile.SpooledTemporaryFile(_IN_MEMORY) as rows:
        manifest = _manifest_of(archive)
        for member in archive:
            content = _content_of(archive, member)
            if content is None:
                continue
            if member.name == _ROWS:
                rows.writelines(content)
            elif member.name.startswith(_FILES):
                _check_size(member, _LARGEST_PICTURE)
                await storage.write(check_key(member.name.removeprefix(_FILES)), content.read())
                outcome.files += 1
                on_file(outcome.files, manifest["files"])
        rows.seek(0)
        outcome.rows = await read_rows(url, manifest["revision"], rows)
    return outcome


async def _snapshot(url: str, rows: IO[bytes]) -> tuple[str, list[tuple[str, str]]]:
    """Write the rows; gives the schema's revision, and key and checksum of each picture."""
    database = Database(url)

    async def work(connection: AsyncConnection) -> tuple[str, list[tuple[str, str]]]:
        rows.seek(0)
        rows.truncate()
        revision = await write_rows(connection, rows)
        wanted: list[tuple[str, str]] = []
        for table in (images, inputs):
            found = await connection.execute(select(table.c.key, table.c.sha256).order_by(table.c.number))
            wanted += [(key, sha256) for key, sha256 in found]
        return revision, wanted

    try:
        await upgrade(database)
        return await database.read(work)
    finally:
        await database.close()


async def _add_picture(
    archive: tarfile.TarFile, storage: Storage, key: str, sha256: str, outcome: BackupOutcome
) -> None:
    try:
        content = await storage.read(key)
    except MissingObjectError as error:
        outcome.problems.append(str(error))
        return
    if hashlib.sha256(content).hexdigest() != sha256:
        outcome.problems.append(f"The image file {key} is damaged: its SHA-256 is not {sha256}.")
    await asyncio.to_thread(_add, archive, _FILES + key, io.BytesIO(content))
    outcome.files += 1


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = content.seek(0, os.SEEK_END)
    content.seek(0)
    archive.addfile(member, content)


def _manifest_of(archive: tarfile.TarFile) -> dict[str, Any]:
    member = archive.next()
    content = _content_of(archive, member) if member is not None and member.name == _MANIFEST else None
    if member is None or content is None:
        raise BackupError("The file is not a backup of CyberImage.")
    _check_size(member, _LARGEST_MANIFEST)
    manifest: dict[str, Any] = json.load(content)
    if manifest.get("format") != _FORMAT:
        raise BackupError(f"The backup is of another version of CyberImage: {manifest.get('version')}.")
    return manifest


def _content_of(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes] | None:
    """Open a member; None for one that is no file. A sparse one would unpack to any number of zeros."""
    if member.issparse():
        raise BackupError(f"The file is not a backup of CyberImage: {member.name} is sparse.")
    return archive.extractfile(member)


def _check_size(member: tarfile.TarInfo, most: int) -> None:
    if member.size > most:
        raise BackupError(f"{member.name} has {member.size} bytes; in a backup it has at most {most}.")


def _lines_in(file: IO[bytes]) -> int:
    file.seek(0)
    return sum(1 for _ in file)


def _unfinished(target: Path) -> Path:
    """Where the file is until it is complete: for the owner alone, as the hashes of API keys are in it."""
    if target.exists():
        raise BackupError(f"{target} is there already; a backup does not overwrite a file.")
    unfinished = target.with_name(f"{target.name}.unfinished")
    with _explained(target):
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    return unfinished


def _finish(unfinished: Path, target: Path) -> None:
    descriptor = os.open(unfinished, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.rename(target)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, ValueError, KeyError) as error:
        raise BackupError(f"{path} is not a backup, or damaged: {error}") from error
    except OSError as error:
        raise BackupError(f"{path}: {error.strerror or error}") from error
