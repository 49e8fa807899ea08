"""The service as a process of its own, as a person runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.service import WAIT_SECONDS, Service

CYBERIMAGE = [sys.executable, "-m", "serve"]


class ServiceProcess:
    """`cyberimage serve` in a session of its own, so that what it leaves behind can be found."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.service = Service(f"http://127.0.0.1:{port}", data_dir)
        self._command = [*CYBERIMAGE, "serve", "--port", str(port), "--data-dir", str(data_dir)]
        self.process = self._start()

    def wait_for_announcement(self) -> str:
        """Read what it prints up to the curl line."""
        printed = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            printed += line
            if "curl " in line:
                return printed
        raise AssertionError(f"it never announced itself: {printed}")

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """Press Ctrl-C, or send another signal, and return the exit status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=WAIT_SECONDS)
        return self.process.returncode

    def restart(self) -> None:
        """Press Ctrl-C, and start it again on the same port and folder."""
        assert self.interrupt() == 0
        self.process = self._start()
        self.wait_for_announcement()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@contextmanager
def serving(data_dir: Path, port: int) -> Iterator[ServiceProcess]:
    """A service that is gone in the end, whatever happens."""
    running = ServiceProcess(data_dir, port)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            os.killpg(running.process.pid, signal.SIGKILL)
            running.process.wait()
