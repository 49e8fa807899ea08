"""A whole service for an attack: started from any checkout, watched from outside, stopped in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.ports import free_port
from tests.support.serve_run import wait_for_answer
from tests.support.sessions import processes_of

START_SECONDS = 180
STOP_SECONDS = 60
# The beginnings of the titles that Ray gives to processes.
_ROLES = {
    "ray::ProxyActor": "proxy",
    "ray::ServeReplica:cyberimage:Ingress": "ingress",
    "ray::JobTracker": "tracker",
    "ray::ServeReplica:cyberimage:model-": "model",
}
_REST = "rest"


class AttackedService:
    """``cyberimage serve`` that asks for API keys.

    Attributes:
        url: Where it listens.

    Args:
        tree: Folder of the checkout whose code it runs.
        folder: For its data and its log.
    """

    def __init__(self, tree: Path, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._tree = tree
        self._data_dir = folder / "data"
        self._log = folder / "log"
        # The paths of Ray's sockets must be short.
        self._ray_dir = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            "RAY_TMPDIR": str(self._ray_dir),
            "CYBERIMAGE_AUTH__MODE": "keys",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()

    def make_key(self, name: str) -> str:
        """Make an API key of this name; the service need not run."""
        command = [*self._command("keys"), "create", name, "--data-dir", str(self._data_dir)]
        made = subprocess.run(
            command, cwd=self._tree, env=self._environment, capture_output=True, text=True, check=True
        )
        return made.stdout.split()[-1]

    def start(self) -> None:
        """Start it, for the first time or again; it is healthy when this returns."""
        command = [*self._command("serve"), "--port", str(self.port), "--data-dir", str(self._data_dir)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._tree, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self._sessions.add(self._process.pid)
        wait_for_answer(f"{self.url}/health", self._process, self._log, START_SECONDS)

    def stop(self) -> None:
        """Stop it as an operator does, and kill what is left of it; it can be started again."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        left = processes_of(self._sessions)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, STOP_SECONDS)

    def remove(self) -> None:
        """Stop it for good, and remove what Ray wrote."""
        self.stop()
        shutil.rmtree(self._ray_dir, ignore_errors=True)

    def swell_images(self, image_ids: list[str], byte_count: int) -> None:
        """Pad the files of images to this size, as those of larger models are: the built-in one draws small ones."""
        for image_id in image_ids:
            (file,) = self._data_dir.rglob(f"{image_id}*.png")
            with file.open("r+b") as opened:
                opened.truncate(byte_count)

    def pids(self) -> dict[int, str]:
        """The processes that do its work, with their roles."""
        roles = {process.pid: _role_of(process) for process in processes_of(self._sessions)}
        return {pid: role for pid, role in roles.items() if role != _REST}

    def cpu_seconds(self) -> Counter[str]:
        """CPU seconds that its living processes have used, by role, with those of their children that have ended."""
        used: Counter[str] = Counter()
        for process in processes_of(self._sessions):
            with suppress(psutil.Error):
                times = process.cpu_times()
                used[_role_of(process)] += times.user + times.system + times.children_user + times.children_system
        return used

    def memory(self) -> Counter[str]:
        """Resident bytes of its processes, by role."""
        held: Counter[str] = Counter()
        for process in processes_of(self._sessions):
            with suppress(psutil.Error):
                held[_role_of(process)] += process.memory_info().rss
        return held

    def _command(self, command: str) -> list[str]:
        return [sys.executable, "-m", "serve", command]


def _role_of(process: psutil.Process) -> str:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return _REST
    return next((role for beginning, role in _ROLES.items() if title.startswith(beginning)), _REST)
