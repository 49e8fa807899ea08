"""The service as `serve run` starts it: processes of its own that can be found, killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray._common.test_utils import wait_for_condition

from tests.support.ports import free_port
from tests.support.serve_run import wait_for_answer, write_configuration
from tests.support.sessions import processes_of, session_of

START_SECONDS = 180
STOP_SECONDS = 60
PROJECT = Path(__file__).parents[2]
SETTINGS = {
    "catalog": "configs/cpu.yaml",
    "ingress_replicas": 2,
    # So many kills would use up the attempts that a job has by default.
    "queue": {"lease_seconds": 5.0, "max_attempts": 50},
}

_GCS = "gcs_server"
_SERVE = str(Path(sys.executable).with_name("serve"))


class Role(StrEnum):
    """What a process of the service does; the value is the beginning of its title."""

    MODEL = "ray::ServeReplica:cyberimage:model-shapes"
    INGRESS = "ray::ServeReplica:cyberimage:Ingress"
    TRACKER = "ray::JobTracker"
    CONTROLLER = "ray::ServeController"
    PROXY = "ray::ProxyActor"


class ServedCluster:
    """A Ray cluster of one machine that serves the application of a configuration file.

    Attributes:
        ray_dir: Where Ray has its sockets and logs.

    Args:
        folder: For the configuration file, the log, and the data.
        settings: Arguments of the application besides ``data_dir``.
        prefix: A command that runs the one that follows it, such as ``unshare``.
        environment: Further variables of its processes.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._prefix = prefix
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: set[int] = set()
        # The paths of Ray's sockets must be short.
        self.ray_dir = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self._config = folder / "serve_config.yaml"
        self._configure(settings)

    def start(self) -> None:
        """Start it, for the first time or again; it is healthy when this returns."""
        self.begin_start()
        assert self._process is not None
        wait_for_answer(f"{self.url}/health", self._process, self.folder / "log", START_SECONDS)

    def begin_start(self) -> None:
        """Start its processes, without waiting for them."""
        environment = {
            **os.environ,
            "RAY_ADDRESS": "local",
            "RAY_TMPDIR": str(self.ray_dir),
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
            "RAY_USAGE_STATS_ENABLED": "0",
            # What the control store knows outlives it.
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(self.ray_dir / f"gcs-{len(self._sessions)}"),
            **self._environment,
        }
        command = [*self._prefix, _SERVE, "run", str(self._config)]
        self._process = self._begin(command, environment, PROJECT)

    def redeploy(self, settings: Mapping[str, Any]) -> None:
        """Deploy the application with other settings to the running cluster; returns when that was accepted."""
        self._configure(settings)
        done = self._ask_ray_serve("deploy", str(self._config))
        assert done.returncode == 0, done.stdout + done.stderr

    def wait_for_replicas(self) -> None:
        """Wait until each deployment has the replicas that it should have."""

        def has_all() -> bool:
            answer = self._ask_ray_serve("status")
            deployments = yaml.safe_load(answer.stdout)["applications"]["cyberimage"]["deployments"]
            return all(each["status"] == "HEALTHY" for each in deployments.values())

        wait_for_condition(has_all, timeout=START_SECONDS, retry_interval_ms=500)

    def stop(self) -> None:
        """Stop it as an operator does, and forget all but its data."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill_everything()
        shutil.rmtree(self.ray_dir, ignore_errors=True)

    def kill_everything(self) -> None:
        """Kill every one of its processes at once, as a power cut does."""
        for process in processes_of(self._sessions):
            process.kill()
        if self._process is not None:
            self._process.wait()
        wait_for_condition(lambda: not processes_of(self._sessions), timeout=STOP_SECONDS, retry_interval_ms=50)

    def restart_gcs(self) -> None:
        """Kill the cluster's control store, and start another over what it had written down, as a new head does."""
        (old,) = [process for process in processes_of(self._sessions) if f"/{_GCS} " in _title(process)]
        environment, folder = old.environ(), old.cwd()
        # It had taken any free port, which the others now know.
        (port,) = {found.laddr.port for found in old.net_connections("tcp") if found.status == psutil.CONN_LISTEN}
        command = [f"--gcs_server_port={port}" if "--gcs_server_port=" in part else part for part in old.cmdline()]
        old.kill()
        # Nobody reaps it: until its parent ends, it stays a zombie.
        wait_for_condition(lambda: session_of(old) is None, timeout=STOP_SECONDS, retry_interval_ms=20)
        self._begin(command, environment, folder)

    def pids(self, role: Role) -> list[int]:
        """The processes of a role that live."""
        return [process.pid for process in processes_of(self._sessions) if _title(process).startswith(role)]

    def file_system_at(self, folder: Path) -> Path:
        """A folder as its processes see it, which may have mounts of their own."""
        (raylet,) = [process for process in processes_of(self._sessions) if "/raylet " in _title(process)]
        return Path(f"/proc/{raylet.pid}/root{folder}")

    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "log").read_text(errors="replace")

    def _ask_ray_serve(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (dashboard,) = [
            process for process in processes_of(self._sessions) if "dashboard/dashboard.py" in _title(process)
        ]
        port = next(part.removeprefix("--port=") for part in dashboard.cmdline() if part.startswith("--port="))
        # Ray wrote a token for its own clusters; other shells must be told to send it.
        return subprocess.run(
            [_SERVE, command, *arguments, "--address", f"http://127.0.0.1:{port}"],
            cwd=PROJECT,
            env={**os.environ, "RAY_AUTH_MODE": "token"},
            capture_output=True,
            text=True,
            check=False,
        )

    def _begin(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
            )
        self._sessions.add(process.pid)
        return process

    def _configure(self, settings: Mapping[str, Any]) -> None:
        write_configuration(self._config, self.port, {"data_dir": str(self.data_dir), **settings})


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
