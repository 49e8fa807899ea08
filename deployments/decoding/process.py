"""One worker process, as its owner sees it."""

from __future__ import annotations

import os
import subprocess  # nosec B404
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from deployments.decoding.frames import read_frame, write_frame

# Requests are answered first, and on few cores the models too. It is the kernel's largest: Ray's workers have 15.
_NICENESS = 19
# A picture that takes a worker over finds no password in its environment.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ", "SYSTEMROOT")


class WorkerDiedError(Exception):
    """The process has ended without an answer.

    Args:
        status: Its exit status; negative for the number of the signal that ended it.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class WorkerProcess:
    """A process that decodes pictures; it starts with the first request at the latest, and ends with its owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # a kill may come while the process starts
        self._process: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    @property
    def has_ended(self) -> bool:
        """Whether it has started, and runs no more."""
        return self._process is not None and self._process.poll() is not None

    def start(self) -> None:
        """Start the process, which then gets ready by itself.

        Raises:
            WorkerDiedError: It was killed before.
        """
        self._running()

    def ask(self, fields: Mapping[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        """Send a request, and wait for the answer; for a thread.

        Args:
            fields: What :mod:`deployments.decoding.child` reads.
            content: The file.

        Raises:
            WorkerDiedError: The process has ended, or was killed.
        """
        process = self._running()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101,PT018 - as they are pipes # nosec B101
        try:
            write_frame(process.stdin, fields, content)
            return read_frame(process.stdout)
        except (OSError, EOFError):
            self.kill()
            raise WorkerDiedError(process.wait()) from None

    def kill(self) -> None:
        """End the process at once; from any thread, also while a request is under way."""
        with self._lock:
            self._is_killed = True
            if self._process is not None:
                self._process.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_killed:
                raise WorkerDiedError(0)
            self._process = self._process or _started()
            return self._process


def _started() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # nosec B603
        [sys.executable, "-m", "deployments.decoding.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "2"},
        start_new_session=True,  # Ctrl-C is for its owner
    )
    # From its beginning on: a client that hangs up again and again makes others start.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
    return process
