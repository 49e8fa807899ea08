"""Checks of who may read the service's files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from deployments.doctor.finding import Finding, Level
from deployments.private_files import Readers, readers_of
from deployments.settings.service import Settings

MOST_LOOKED_AT = 2000
"""Files and folders of which the first one that others may read is named; a whole tree would take minutes."""

_LEVELS = {Readers.OWNER: Level.OK, Readers.GROUP: Level.WARNING, Readers.EVERYBODY: Level.PROBLEM}


def check_data_folder(settings: Settings) -> Finding:
    """Who may read the data folder."""
    return check_file("data folder", settings.data_dir, f"chmod go-rwx {shlex.quote(str(settings.data_dir))}")


def check_database(settings: Settings) -> Finding:
    """Who may read the database's file, in which the secret of links and the hashes of keys are."""
    path = settings.database_file
    if path is None:
        return Finding("database", Level.OK, "A database server keeps it.")
    return check_file("database", path, f"chmod go-rwx {shlex.quote(str(path))}*")


def check_pictures(settings: Settings) -> Finding:
    """Who may read the pictures."""
    if settings.storage.kind != "local":
        return Finding("pictures", Level.OK, "A bucket keeps them.")
    return _check_tree("pictures", settings.images_dir)


def check_logs(settings: Settings) -> Finding:
    """Who may read the log files."""
    return _check_tree("logs", settings.logs_dir)


def exposed(settings: Settings) -> list[Finding]:
    """What is worth a line at each start: the data folder or the database can be read by every user of this machine."""
    found = [check(settings) for check in (check_data_folder, check_database)]
    return [finding for finding in found if finding.level is Level.PROBLEM]


def check_file(check: str, path: Path, remedy: str) -> Finding:
    """Who may read a file or a folder.

    Args:
        check: The check's name.
        path: Of the file or the folder.
        remedy: The command that makes it private.
    """
    try:
        readers = readers_of(path)
    except FileNotFoundError:
        return Finding(check, Level.OK, f"{path} is not there yet.")
    except OSError as error:
        return Finding(check, Level.PROBLEM, f"{path} cannot be looked at: {error.strerror}.")
    level = _LEVELS[readers]
    return Finding(check, level, f"{path} can be read by {readers}.", "" if level is Level.OK else remedy)


def _check_tree(check: str, folder: Path) -> Finding:
    remedy = f"chmod -R go-rwx {shlex.quote(str(folder))}"
    found = check_file(check, folder, remedy)
    if found.level is Level.OK:  # what is in a private folder is private
        return found
    for path in islice(_below(folder), MOST_LOOKED_AT):
        inside = check_file(check, path, remedy)
        if inside.level is Level.PROBLEM and path.is_file():
            return inside
    return found


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in (*files, *folders))
