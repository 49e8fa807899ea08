"""What the RayServices of k8s/ run, started for real: artificial weights, and neighbours on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ray._common.test_utils import wait_for_condition

from deployments.catalog.catalog import load_catalog
from deployments.telemetry import metrics
from tests.support.manifests import PROJECT, environment, ray_container, ray_groups, serve_config
from tests.support.metric_names import all_metrics, exposed_names
from tests.support.ports import free_port
from tests.support.postgresql import PostgresqlServer
from tests.support.s3_server import S3Server
from tests.support.serve_run import wait_for_answer
from tests.support.service import WAIT_SECONDS

FRONT = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
SERVE = [sys.executable, "-m", "ray.serve.scripts", "run"]
# What no test here does: pad a batch, and have a pool.
NOT_SEEN = {metrics.PADDED_ROWS, metrics.POOL_SWAPS, metrics.POOL_SWAP_SECONDS, metrics.POOL_WEIGHT_BYTES}


def local_catalog(overlay: str) -> dict[str, Any]:
    """The overlay's catalog with the weights of the built-in model in place of each model's, and no GPU."""
    name = Path(serve_config(overlay)["applications"][0]["args"]["catalog"]).name
    found = load_catalog(PROJECT / "configs" / name, {})
    (shapes,) = yaml.safe_load((PROJECT / "configs" / "cpu.yaml").read_text(encoding="utf-8"))["models"].values()
    models = {
        model_id: {
            **{field: shapes[field] for field in ("repo", "source", "dtype", "size")},
            "steps": entry.steps.model_dump(exclude_unset=True),
            "guidance": entry.guidance.model_dump(exclude_unset=True),
            "replicas": {**entry.replicas.model_dump(exclude_unset=True), "num_gpus": 0, "num_cpus": 1},
        }
        for model_id, entry in found.models.items()
    }
    return {"default": found.default, "models": models}


def local_config(overlay: str, folder: Path, port: int, **settings: Any) -> Path:
    """The overlay's serveConfigV2 for this machine."""
    config = serve_config(overlay)
    (application,) = config["applications"]
    catalog = folder / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(local_catalog(overlay)))
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    args = application["args"]
    storage = args["storage"] | settings.pop("storage", {})
    application["args"] = args | {"catalog": str(catalog), "data_dir": str(folder / "data"), "storage": storage}
    for deployment in application.get("deployments", []):
        deployment["ray_actor_options"] |= {"num_gpus": 0}
    path = folder / "serve_config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def environment_of_pods(overlay: str) -> dict[str, Any]:
    """What the head has, and every worker."""
    return environment(ray_container(ray_groups(overlay)["head"]))


def custom_resources(overlay: str) -> dict[str, float]:
    """What the worker groups offer, on one node."""
    return {name: 1 for group in ray_groups(overlay).values() for name in group.get("resources", {})}


@contextmanager
def serving(overlay: str, config: Path, port: int, **variables: str) -> Iterator[Path]:
    """Run `serve run` until it answers; gives the folder of its Ray cluster."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        more = {
            "RAY_ADDRESS": "local",
            "RAY_TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            FRONT: environment_of_pods(overlay)[FRONT]["value"],
            "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 8, **custom_resources(overlay)}),
            "RAY_metrics_report_interval_ms": "3000",  # gauges are forgotten after twice that
            **variables,
        }
        with (config.parent / "log").open("w") as log:
            process = subprocess.Popen(
                [*SERVE, str(config)],
                cwd=PROJECT,
                env=os.environ | more,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for_answer(f"http://127.0.0.1:{port}/live", process, config.parent / "log", WAIT_SECONDS)
            yield Path(folder)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def scrape(cluster: Path) -> str:
    """What Prometheus would read of the cluster's nodes."""
    (listing,) = cluster.glob("ray/session_latest/prom_metrics_service_discovery.json")
    targets = [target for each in json.loads(listing.read_text()) for target in each["targets"]]
    return "".join(httpx.get(f"http://{target}/metrics", timeout=10).text for target in targets)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path


def draw(client: httpx.Client, model_id: str) -> None:
    job = client.post("/api/generate", json={"model_id": model_id, "prompt": "a red circle"}).json()["job_id"]
    status = {"status": "pending"}

    def completed() -> bool:
        status.update(client.get(f"/api/status/{job}").json())
        assert status["status"] in {"pending", "processing", "completed"}, status
        return status["status"] == "completed"

    wait_for_condition(completed, timeout=WAIT_SECONDS, raise_exceptions=True)


def test_one_gpu_overlay_starts_a_model_when_it_is_asked_for_and_every_metric_can_be_scraped(folder: Path) -> None:
    port = free_port()
    with serving("one-gpu", local_config("one-gpu", folder, port), port) as cluster:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            draw(client, "sana-sprint")
            assert client.post("/api/generate", json={"model_id": "none", "prompt": "a"}).status_code == 400
            assert client.get("/-/routes").status_code == 404
            for host, status in (("cyberimage-serve-svc:8000", 200), ("evil.example:8000", 403)):
                assert client.get("/live", headers={"Host": host}).status_code == status

        wanted = {name for metric in all_metrics() for name in exposed_names(metric) if metric not in NOT_SEEN}
        missing = set(wanted)

        def all_there() -> bool:
            missing.clear()
            missing.update(wanted - set(re.findall(r"^(ray_cyberimage_\w+)", scrape(cluster), re.MULTILINE)))
            return not missing

        with suppress(RuntimeError):
            wait_for_condition(all_there, timeout=30, retry_interval_ms=1000)
        assert missing == set()


def test_production_overlay_draws_for_a_key_with_its_neighbours(
    folder: Path, postgresql: PostgresqlServer, moto: S3Server
) -> None:
    port, database, bucket = free_port(), postgresql.create_database(), moto.create_bucket()
    storage = {"endpoint_url": moto.url, "path_style": True, "bucket": bucket}
    config = local_config("production", folder, port, storage=storage)
    variables = {"CYBERIMAGE_DATABASE_URL": postgresql.url(database), **moto.environment}
    with serving("production", config, port, **variables):
        create = [sys.executable, "-m", "serve", "keys", "create", "ann", "--database-url", postgresql.url(database)]
        key = subprocess.run(create, capture_output=True, text=True, check=True).stdout.strip()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            assert client.get("/api/models").status_code == 401
            client.headers["Authorization"] = f"Bearer {key}"
            draw(client, "flux-schnell")
    assert moto.s3.list_objects_v2(Bucket=bucket)["KeyCount"] > 0
    postgresql.drop_database(database)
