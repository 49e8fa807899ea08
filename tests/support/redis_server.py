"""A Redis server of the tests' own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import redis
from tenacity import retry, stop_after_delay, wait_fixed

from tests.support.ports import free_port


def find_program() -> str | None:
    """The server's program: ``REDIS_SERVER``, or one that is installed, as ``scripts/setup`` does beside Python."""
    folders = [os.environ["PATH"], str(Path(sys.executable).parent)]
    return os.environ.get("REDIS_SERVER") or shutil.which("redis-server", path=os.pathsep.join(folders))


class RedisServer:
    """A server on a free port of the loopback interface; what it keeps is in memory."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it, for the first time or again; it answers when this returns."""
        options = {"bind": "127.0.0.1", "port": str(self._port), "save": "", "dir": tempfile.gettempdir()}
        command = [self._program, *(word for name, value in options.items() for word in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _wait_for(self.url)

    def hang(self) -> None:
        """Have it take connections and answer nothing, until it is stopped."""
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Kill it: all that it kept is gone."""
        self._process.kill()
        self._process.wait()


@retry(stop=stop_after_delay(30), wait=wait_fixed(0.02), reraise=True)
def _wait_for(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.ping()
