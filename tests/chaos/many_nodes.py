"""The service on a Ray cluster of several nodes, which are all on this machine and can be lost one by one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private.node import Node
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.chaos.served import PROJECT, START_SECONDS, STOP_SECONDS, Role
from tests.support.ports import free_port
from tests.support.serve_run import wait_for_answer, write_configuration

NODE: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 80 << 20}
# A node is missed some three seconds after it is gone.
NOTICES_LOSSES = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}


class ManyNodes:
    """A head, which runs nothing of the application, and workers.

    Args:
        folder: For the configuration file and the log.
        settings: Arguments of the application.
        deployments: What the configuration file says of them.
        workers: How many there are.
        resources: Of each worker, besides one CPU.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        deployments: Sequence[Mapping[str, Any]],
        workers: int,
        resources: Mapping[str, float],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._deployments = deployments
        self._workers = workers
        self._resources = dict(resources)
        self._service: subprocess.Popen[bytes] | None = None
        self._cluster: Any = None
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it; it is healthy when this returns."""
        os.environ.update(NOTICES_LOSSES)
        try:
            self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **NODE})
            for _ in range(self._workers):
                self._cluster.add_node(wait=False, num_cpus=1, resources=self._resources, **NODE)
        finally:
            for name in NOTICES_LOSSES:
                del os.environ[name]
        path = self._folder / "serve_config.yaml"
        write_configuration(path, self._port, self._settings, self._deployments)
        environment = {
            **os.environ,
            "RAY_ADDRESS": self._cluster.address,
            "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
        }
        with (self._folder / "log").open("ab") as log:
            command = [str(Path(sys.executable).with_name("serve")), "run", str(path)]
            self._service = subprocess.Popen(command, stdout=log, stderr=log, cwd=PROJECT, env=environment)
        wait_for_answer(f"{self.url}/health", self._service, self._folder / "log", START_SECONDS)

    def stop(self) -> None:
        """Stop it, and forget all."""
        if self._service is not None:
            self._service.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._service.wait(STOP_SECONDS)
            self._service.kill()
        if self._cluster is not None:
            self._cluster.shutdown()

    def nodes_of(self, role: Role) -> list[str]:
        """Ids of the nodes with processes of a role, one for each process."""
        raylets = {node.all_processes["raylet"][0].process.pid: node.node_id for node in self._cluster.list_all_nodes()}
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.ppid() in raylets and " ".join(process.cmdline()).startswith(role):
                    found.append(raylets[process.ppid()])
        return sorted(found)

    def lose(self, node_id: str) -> None:
        """Kill a worker at once, as a power cut does."""
        self._cluster.remove_node(self._worker(node_id), allow_graceful=False)

    def drain_and_stop(self, node_id: str) -> None:
        """Stop a worker after its drain was announced and its time is over, as a cloud takes a spot machine back.

        Ray is told to stop, as by a machine that is shut down or a deleted pod: it then says that it was drained.
        """
        reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
        control_store = ray._raylet.GcsClient(address=self._cluster.address)
        accepted, why_not = control_store.drain_node(node_id, reason, "taken back", int(time.time() * 1000))
        assert accepted, why_not
        self._cluster.remove_node(self._worker(node_id), allow_graceful=True)

    def _worker(self, node_id: str) -> Node:
        (node,) = [node for node in self._cluster.worker_nodes if node.node_id == node_id]
        return node
