"""Starts the whole service on this machine, waits, and stops it again: what ``make run`` does."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.file import CatalogError
from deployments.doctor.files import exposed
from deployments.doctor.finding import POINTER, Level
from deployments.doctor.ray_token import check_token_file
from deployments.private_files import keep_files_private
from deployments.settings.protection import listens_elsewhere
from deployments.settings.service import Settings, SettingsError, load_settings
from deployments.storage.opening import prepare_storage
from deployments.telemetry.logs import configure_logs
from serve.gpu_catalogs import CatalogChoice, choose_catalog, is_named, look_for_gpus
from serve.http import front

_APP_NAME = "cyberimage"
_LEAST_LOGICAL_CPUS = 2
_FAILED = 1
_LOOK_SECONDS = 0.2

_console = Console(highlight=False)


class LaunchError(Exception):
    """The service cannot be started."""


def launch(host: str, port: int, catalog: Path | None = None, data_dir: Path | None = None) -> int:
    """Run the service until it is interrupted.

    Args:
        host: The address to listen on.
        port: The port to listen on.
        catalog: The model catalog; None for the setting, and where that is not set, for the one that fits the GPU.
        data_dir: The data folder; None for the setting's default.

    Returns:
        The exit status: 0 after a clean stop, 1 where it could not start.
    """
    keep_files_private()  # before Ray starts: its processes inherit it
    try:
        settings, models = _read_configuration(catalog, data_dir)
        _warn_of_exposed_files(settings)
        settings.require_protection(host)
        with _only_one(settings.data_dir, host, port):
            _check_port(host, port)
            _run(settings, models, host, port)
    except (LaunchError, SettingsError, CatalogError) as error:
        *lines, last = str(error).splitlines()
        if not isinstance(error, CatalogError):  # that one has its file and line
            last = f"{last.removesuffix('.')}. {POINTER}"
        for line in (*lines, last):
            _console.print(f"[red]CyberImage cannot start:[/] {line}", soft_wrap=True)
        return _FAILED
    return 0


def _read_configuration(catalog: Path | None, data_dir: Path | None) -> tuple[Settings, Catalog]:
    choice = _chosen_for_gpu() if catalog is None else CatalogChoice(catalog)
    given = {"catalog": choice.catalog, "data_dir": data_dir}
    settings = load_settings({name: str(value) for name, value in given.items() if value is not None})
    models = load_catalog(settings.catalog_path, os.environ)
    if choice.reason:
        _console.print(escape(choice.announcement(models.default)), soft_wrap=True)
    settings.prepare_data_dir()
    configure_logs(settings.logging, "launcher", settings.logs_dir)
    prepare_storage(settings.storage, settings.images_dir)
    return settings, models


def _chosen_for_gpu() -> CatalogChoice:
    """The catalog for this machine; none where the operator names one, or the models themselves."""
    if is_named(os.environ):
        return CatalogChoice(None)
    with _console.status("Looking for a GPU ..."):  # shown in a terminal only: a start that is refused prints one line
        return choose_catalog(look_for_gpus())


def _warn_of_exposed_files(settings: Settings) -> None:
    for finding in (*exposed(settings), check_token_file()):
        if finding.level is Level.PROBLEM:
            _console.print(
                f"[yellow]Warning:[/] {escape(finding.sentence)} Mend it with: {escape(finding.remedy)}", soft_wrap=True
            )


@contextmanager
def _only_one(data_dir: Path, host: str, port: int) -> Iterator[None]:
    """Hold the data folder's lock, which the kernel frees however this process ends."""
    with (data_dir / "service.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            where = lock.read().strip() or "another address"
            raise LaunchError(f"it already runs at {where} with the data folder {data_dir}") from None
        lock.truncate(0)
        lock.write(_address(host, port))
        lock.flush()
        yield
        lock.truncate(0)


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise LaunchError(f"{host}:{port} cannot be used ({error.strerror}); set PORT to another one") from None


def _run(settings: Settings, models: Catalog, host: str, port: int) -> None:
    interrupted = threading.Event()
    _end_by_signals(interrupted)
    prepare_environment()
    _keep_to_this_machine()
    with _Steps() as steps:
        steps.begin("Importing Ray")
        import ray  # noqa: PLC0415 - it takes seconds, and the checks before it should not
        from ray import serve  # noqa: PLC0415

        try:
            steps.begin("Starting Ray")
            dashboard = _start_ray(ray)
            _end_by_signals(interrupted)  # Ray has put a handler in their place that aborts at SIGTERM
            loaded = [model_id for model_id, entry in models.models.items() if entry.replicas.min]
            steps.begin(f"Starting the service{' and loading ' if loaded else ''}{', '.join(loaded)}")
            serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "WARNING"})
            links = settings.links.model_dump(exclude_none=True)
            if dashboard and not listens_elsewhere(host):  # it listens on this machine alone
                links.setdefault("ray_dashboard", f"http://{dashboard}")
            # The rest is in the environment, which the processes share: arguments are shown in the dashboard.
            _deploy({"catalog": str(settings.catalog_path), "data_dir": str(settings.data_dir), "links": links})
            _announce(models, host, port)
            steps.pause()
            interrupted.wait()
            steps.begin("Stopping")
        finally:
            # Not serve.shutdown(): it would wait for the longest job. Jobs under way go on after the next start.
            ray.shutdown()
    if settings.database_url is None:  # nobody else can use the embedded one: its data folder is locked
        asyncio.run(_release_jobs(settings))
    _console.print("Stopped.")


def _deploy(arguments: dict[str, Any]) -> None:
    """Deploy the application by its configuration, which alone can name a policy; returns when it runs."""
    from ray import serve  # noqa: PLC0415 - it takes seconds
    from ray.serve.context import _get_global_client  # noqa: PLC0415
    from ray.serve.schema import ApplicationStatus, ServeDeploySchema  # noqa: PLC0415

    application = {
        "name": _APP_NAME,
        "route_prefix": "/",
        "import_path": "serve.app:build_app",
        "autoscaling_policy": {"policy_function": "deployments.autoscaling:GpuSharing"},
        "args": arguments,
    }
    client: Any = _get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
    while (found := serve.status().applications[_APP_NAME]).status is not ApplicationStatus.RUNNING:
        if found.status is ApplicationStatus.DEPLOY_FAILED:
            raise LaunchError(found.message.strip().splitlines()[-1])
        time.sleep(_LOOK_SECONDS)


async def _release_jobs(settings: Settings) -> None:
    """Requeue the jobs under way, so that the next start need not wait for leases to lapse."""
    from deployments.jobs.store import JobStore  # noqa: PLC0415 - not needed until here

    store = await JobStore.open(settings.resolved_database_url)
    try:
        await store.attempts.release_all("the service was stopped.")
    finally:
        await store.close()


class _Steps:
    """Shows the progress of the start: one changing line in a terminal, a line for each stage elsewhere."""

    def __init__(self) -> None:
        self._status = _console.status("")

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def begin(self, step: str) -> None:
        if _console.is_terminal:
            self._status.update(f"{step} ...")
            self._status.start()
        else:
            _console.print(f"{step} ...")

    def pause(self) -> None:
        self._status.stop()


def _end_by_signals(interrupted: threading.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())


def prepare_environment() -> None:
    """Set what Ray reads when it is imported, unless the operator has set it."""
    # On few cores a busy model delays the proxy's answers to its health checks; a restart would cut off clients.
    os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S", "60")
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    # Which proxies are believed is a setting of ours; uvicorn would believe whoever is on this machine.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    # What the proxy does before the application sees a request.
    os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", front.IMPORT_PATH)
    # A self-hosted service reports to nobody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _keep_to_this_machine() -> None:
    """Make Ray's own servers listen on this machine only, unless the operator has set otherwise.

    The variable is named after the systems where Ray does so by itself; it must be set before Ray is imported.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def _start_ray(ray: Any) -> str | None:
    """Start a new cluster: ``ray.init()`` alone joins whatever the last one on this machine left behind.

    Returns:
        Host and port of its dashboard, if there is one.

    Raises:
        LaunchError: It does not start: no disk, no memory, a port that another program has.
    """
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)  # of this process only; its own lines say what happens
    try:
        context = ray.init(
            address="local",
            num_cpus=max(_LEAST_LOGICAL_CPUS, os.cpu_count() or 1),
            num_gpus=1 if _is_apple_silicon() else None,  # it finds those of all other makers by itself
            include_dashboard=True,
            log_to_driver=False,
            configure_logging=False,
        )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise LaunchError(f"Ray does not start: {str(error).strip() or type(error).__name__}") from error
    return context.dashboard_url or None


def _is_apple_silicon() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _announce(models: Catalog, host: str, port: int) -> None:
    address = _address(host, port)
    health = httpx.get(f"{address}/health", timeout=30)
    if health.status_code != httpx.codes.OK:
        raise LaunchError(f"the service is not healthy: {health.text}")
    body = f'{{"model_id": "{models.default}", "prompt": "a large red circle on a blue background"}}'
    _console.print(
        f"\n[bold]CyberImage[/] runs at [bold cyan]{address}[/] (API: {address}/docs). Ctrl-C stops it. Try:\n"
    )
    _console.print(
        f"  curl -s {address}/api/generate -H 'Content-Type: application/json' -d '{body}'\n", soft_wrap=True
    )


def _address(host: str, port: int) -> str:
    """Where this machine reaches the service."""
    with suppress(ValueError):  # a name
        if (address := ip_address(host)).is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
