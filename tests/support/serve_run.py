"""What `serve run` is given, and how it is waited for."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from ray._common.test_utils import wait_for_condition

from tests.support.service import APP_NAME


def write_configuration(
    path: Path, port: int, arguments: Mapping[str, Any], deployments: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write a configuration file of Ray Serve.

    Args:
        path: The file.
        port: Where the service listens, on the loopback interface.
        arguments: Of the application.
        deployments: What differs from what the application says of them.
    """
    application = {
        "name": APP_NAME,
        "route_prefix": "/",
        "import_path": "serve.app:build_app",
        "args": dict(arguments),
        "deployments": list(deployments),
    }
    configuration = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "127.0.0.1", "port": port},
        "applications": [application],
    }
    path.write_text(yaml.safe_dump(configuration))


def wait_for_answer(url: str, process: subprocess.Popen[Any], log: Path, seconds: float) -> None:
    """Wait until an address answers with 200.

    Args:
        url: The address.
        process: Fails the test when it ends.
        log: What the process prints.
        seconds: The longest to wait.
    """

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for_condition(answers, timeout=seconds, retry_interval_ms=200, raise_exceptions=True)
