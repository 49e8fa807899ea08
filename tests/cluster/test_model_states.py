"""A model that cannot be loaded is told as such, and those beside it draw; some of them take turns in a pool."""

import httpx
import pytest
from ray import serve
from ray._common.test_utils import wait_for_condition

from serve.app import build_app
from tests.conftest import LEASE_SECONDS
from tests.support.service import WAIT_SECONDS, Service, shown

CATALOG = """
default: shapes
models:
  shapes: {repo: shapes, source: builtin, replicas: {min: 0, num_gpus: 0}}
  missing: {repo: weights, source: local, replicas: {min: 1, num_gpus: 0}}
  one: &pooled
    repo: shapes
    source: builtin
    pool: shared
    guidance: {default: 3.0}
    size: {default_width: 64, default_height: 64, multiple_of: 64, minimum: 64, maximum: 64}
  two: *pooled
pools:
  shared: {replicas: {min: 1, num_gpus: 0}, memory: 40MiB, residency_seconds: 0} # weights of one of them, not of both
"""
NAME = "with-a-missing-model"


@pytest.fixture(scope="module")
def address(service, tmp_path_factory):
    """A second application beside the session's own, with the same jobs and another catalog."""
    catalog = tmp_path_factory.mktemp("models") / "catalog.yaml"
    catalog.write_text(CATALOG)
    arguments = {"data_dir": str(service.data_dir), "queue": {"lease_seconds": LEASE_SECONDS}, "catalog": str(catalog)}
    serve.run(build_app(arguments), name=NAME, route_prefix=f"/{NAME}")
    yield f"{service.url}/{NAME}"
    serve.delete(NAME)


def test_a_loaded_model_is_ready(service):
    service.draw("a red circle")
    wait_for_condition(lambda: service.http.get("/api/models").json()["models"]["shapes"]["state"] == "ready")


def test_a_model_that_cannot_be_loaded_is_unavailable_and_the_service_works(address):
    wait_for_condition(
        lambda: httpx.get(f"{address}/health", timeout=60).json()["status"] == "degraded", timeout=WAIT_SECONDS
    )
    health = httpx.get(f"{address}/health", timeout=60)
    missing = httpx.get(f"{address}/api/models", timeout=60).json()["models"]["missing"]

    assert health.status_code == 200
    assert health.json()["models"] == f"missing: {missing['reason']}"
    assert missing["state"] == "unavailable"
    assert missing["reason"] == "weights could not be loaded: there is no such folder or file."


def test_models_of_a_pool_draw_in_turns(service, address):
    other = Service(address, service.data_dir)
    jobs = [
        other.http.post(
            "/api/generate", json={"model_id": model_id, "prompt": f"a large {colour} circle on a white background"}
        ).json()["job_id"]
        for model_id, colour in [("one", "red"), ("two", "blue"), ("one", "green")]
    ]
    drawn = [other.wait_until(job_id, "completed")["images"][0]["id"] for job_id in jobs]

    assert [shown(other.image(image_id))[1] for image_id in drawn] == ["red", "blue", "green"]
