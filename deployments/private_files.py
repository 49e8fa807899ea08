"""Files that nobody but the service's own user may read: pictures, prompts, the hashes of keys, the secret of links."""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from pathlib import Path

_PRIVATE_UMASK = 0o077


class Readers(StrEnum):
    """Who can read a file, or something in a folder, apart from root."""

    OWNER = "its owner alone"
    GROUP = "its group"
    EVERYBODY = "every user of this machine"


def keep_files_private() -> None:
    """Create files from now on with mode 0600 and folders with 0700, in this process and those that it starts.

    Each process that writes data calls this when it begins: on a cluster that somebody else started it inherits nothing
    of ours. What is there already keeps its mode.
    """
    os.umask(_PRIVATE_UMASK)


def readers_of(path: Path) -> Readers:
    """Say who can read a file or a folder, by the permissions of its own and of all folders above it.

    Args:
        path: Absolute; symbolic links are followed. Access control lists are not looked at, beyond their mask.

    Raises:
        OSError: It is not there, or a folder above it cannot be entered.
    """
    path = path.resolve()
    status = path.stat()
    above = [folder.stat() for folder in path.parents]
    if status.st_mode & stat.S_IRWXO and all(each.st_mode & stat.S_IXOTH for each in above):
        return Readers.EVERYBODY
    if status.st_mode & stat.S_IRWXG and all(_lets_pass(each, status.st_gid) for each in above):
        return Readers.GROUP
    return Readers.OWNER


def _lets_pass(folder: os.stat_result, group: int) -> bool:
    entering = stat.S_IXGRP if folder.st_gid == group else stat.S_IXOTH
    return bool(folder.st_mode & entering)
