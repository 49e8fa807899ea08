"""A job that has an id ends, whichever process is killed under it."""

import os
import signal

import httpx
import ray
from ray import serve
from ray._common.test_utils import wait_for_condition

from deployments.tracker.actor import TRACKER_NAME, TRACKER_NAMESPACE
from models.training.judge import Verdict
from tests.support.service import APP_NAME, WAIT_SECONDS, judged


def model_pid() -> int:
    handle = serve.get_deployment_handle("model-shapes", app_name=APP_NAME)
    return handle.describe.remote().result(timeout_s=WAIT_SECONDS)["pid"]


def tracker_pid() -> int:
    tracker = ray.get_actor(TRACKER_NAME, namespace=TRACKER_NAMESPACE)
    return ray.get(tracker.describe.remote())["pid"]


def ingress_pid() -> int:
    (pid,) = {
        actor["Pid"]
        for actor in ray._private.state.actors().values()
        if actor["State"] == "ALIVE" and actor["ActorClassName"].endswith(":Ingress")
    }
    return pid


def replaced(read_pid, killed: int) -> bool:
    try:
        return read_pid() != killed
    except (ValueError, ray.exceptions.RayError, ray.serve.exceptions.RayServeException):
        return False


def kill_and_wait_for_the_next(read_pid) -> None:
    killed = read_pid()
    os.kill(killed, signal.SIGKILL)
    wait_for_condition(lambda: replaced(read_pid, killed), timeout=WAIT_SECONDS, retry_interval_ms=200)


def test_a_killed_model_replica_costs_a_job_an_attempt_and_nothing_else(service):
    running = service.submit("a large red circle on a blue background", num_images=4, num_inference_steps=100, seed=3)
    waiting = service.submit("a large green square on a white background", seed=5)
    service.wait_for_step(running, 5)
    kill_and_wait_for_the_next(model_pid)
    job = service.wait_until(running, "completed")
    assert len(job["images"]) == 4
    verdict = judged(service.image(job["images"][0]["id"]))
    assert verdict == Verdict("circle", "red", "blue", "centre")
    service.wait_until(waiting, "completed")


def test_a_killed_tracker_comes_back_with_every_job(service):
    done = service.submit("a red cross", num_inference_steps=1)
    service.wait_until(done, "completed")
    running = service.submit("a red cross", num_images=4, num_inference_steps=100)
    service.wait_for_step(running, 5)
    kill_and_wait_for_the_next(tracker_pid)
    assert len(service.wait_until(running, "completed")["images"]) == 4
    assert service.status(done)["status"] == "completed"


def test_a_killed_ingress_loses_no_job(service):
    running = service.submit("a red cross", num_images=4, num_inference_steps=100)
    service.wait_for_step(running, 5)
    killed = ingress_pid()
    os.kill(killed, signal.SIGKILL)

    def answers_again() -> bool:
        try:
            return service.http.get("/health").status_code == 200 and ingress_pid() != killed
        except (httpx.HTTPError, ValueError):
            return False

    wait_for_condition(answers_again, timeout=WAIT_SECONDS, retry_interval_ms=200)
    assert len(service.wait_until(running, "completed")["images"]) == 4
    service.wait_until(service.submit("a red cross", num_inference_steps=1), "completed")
