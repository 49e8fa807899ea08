"""Three models take turns on one GPU: Ray's defaults, tuned ones, the service's policy, and a pool.

    python -m benchmarks.swap

The GPU is a number in Ray's books and the weights are artificial: to read them (imports and disk) takes two seconds, to
move them onto the GPU 0.2 s, and an image 0.2 s. Everything around them is Ray Serve's own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.autoscaling import DRAIN_CHECK_SECONDS, autoscaling_fields
from deployments.pools.pool import ModelPool
from deployments.pools.residency import Residency

MODELS = ("a", "b", "c")
READ_SECONDS, MOVE_SECONDS, IMAGE_SECONDS = 2.0, 0.2, 0.2
JOBS_AT_ONCE = 4
RESIDENCY_SECONDS = 15.0
CUT_OFF_SECONDS = 90.0
_APP = "swap"


_QUICK = {**autoscaling_fields(num_gpus=1), "upscale_delay_s": 0.0}
_DRAIN = {"graceful_shutdown_timeout_s": 60.0, "graceful_shutdown_wait_loop_s": DRAIN_CHECK_SECONDS}
WAYS: dict[str, dict[str, Any]] = {
    "Ray's defaults": {"autoscaling": {}, "options": {}},
    "Ray's own policy, tuned": {"autoscaling": {**_QUICK, "downscale_to_zero_delay_s": 2.0}, "options": _DRAIN},
    "turns: `GpuSharing`": {
        "autoscaling": {**_QUICK, "downscale_delay_s": 60.0},
        "options": _DRAIN,
        "policy": {
            "policy_function": "deployments.autoscaling:GpuSharing",
            "policy_kwargs": {"residency_s": RESIDENCY_SECONDS},
        },
    },
    "a pool of the three": {"autoscaling": {**_QUICK, "min_replicas": 1}, "options": _DRAIN, "pool": True},
}


class Model:
    """A replica of one model, which draws one image after another."""

    def __init__(self) -> None:
        time.sleep(READ_SECONDS + MOVE_SECONDS)
        self._lock = asyncio.Lock()

    async def draw(self, _: str) -> None:
        """Take as long as an image."""
        async with self._lock:
            await asyncio.sleep(IMAGE_SECONDS)


class ArtificialWeights:
    """Of a model in a pool."""

    def load(self) -> int:
        """Take as long as reading them, and be as large as the whole pool."""
        time.sleep(READ_SECONDS)
        return 1

    def bring_in(self) -> None:
        """Take as long as moving them."""
        time.sleep(MOVE_SECONDS)

    def park(self) -> None:
        """Take no time: what is in main memory already is forgotten on the GPU."""

    drop = park

    def give_up(self, reason: str) -> None:
        """Never called."""


class PooledModels:
    """A replica of a pool with all the models, of which each draws one image after another."""

    def __init__(self) -> None:
        residency = Residency(MODELS, 1, None, RESIDENCY_SECONDS, time.monotonic)
        self._pool = ModelPool("swap", {name: ArtificialWeights() for name in MODELS}, residency)
        self._lock = asyncio.Lock()

    async def draw(self, model: str) -> None:
        """Take as long as an image, once the model is there."""
        await self._pool.enter(model)
        try:
            async with self._lock:
                await asyncio.sleep(IMAGE_SECONDS)
        finally:
            self._pool.leave(model)


class Front:
    """What hands jobs to the models, as the ingress does; Ray Serve counts the jobs here."""

    def __init__(self, models: dict[str, Any]) -> None:
        self._models = models

    async def draw(self, model: str) -> None:
        """Have one of the models draw an image."""
        await self._models[model].draw.remote(model)


def build(args: dict[str, Any]) -> Application:
    """The application; Ray Serve calls this.

    Args:
        args: ``options`` of each model's deployment, fields of its ``autoscaling`` configuration, and whether there is
            one ``pool`` instead.
    """
    options = {
        "max_ongoing_requests": JOBS_AT_ONCE,
        "ray_actor_options": {"num_cpus": 0.1, "num_gpus": 1},
        "autoscaling_config": {"min_replicas": 0, "max_replicas": 1, **args["autoscaling"]},
        **args["options"],
    }
    if args["pool"]:
        options["max_ongoing_requests"] *= len(MODELS)
        models = dict.fromkeys(MODELS, serve.deployment(name="pool", **options)(PooledModels).bind())
    else:
        models = {name: serve.deployment(name=f"model-{name}", **options)(Model).bind() for name in MODELS}
    front = serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0.1})(Front)
    application: Application = front.bind(models)
    return application


@dataclass
class Result:
    """What one way was measured to do.

    Attributes:
        switches: Seconds from a job for a model that is not loaded to its image, nobody else waiting.
        images: Those of each model that were made under load.
        waits: Seconds from each job to its image under load, or to the end where there was none.
        load_seconds: How long the load lasted.
    """

    switches: list[float] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    load_seconds: float = 0.0

    def row(self, name: str) -> str:
        """As a line of a table."""
        switch = statistics.median(self.switches)
        minutes = self.load_seconds / 60
        least = min(self.images[model] for model in MODELS)
        worst = max(self.waits)
        return (
            f"| {name} | {_seconds(switch, CUT_OFF_SECONDS)} | {sum(self.images.values()) / minutes:.0f} "
            f"| {least / minutes:.0f} | {_seconds(worst, self.load_seconds)} |"
        )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[""], help="measure the ways that have one of these in the name")
    parser.add_argument("--switches", type=int, default=5, help="changes of the model, one job at a time")
    parser.add_argument("--load-seconds", type=float, default=75.0, help="how long all three models are asked at once")
    arguments = parser.parse_args()
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"location": "NoServer"}, logging_config={"log_level": "ERROR"})
    print("| way | first image after a switch | images a minute | of the least served model | worst wait |")
    print("|---|---|---|---|---|")
    for name, way in WAYS.items():
        if any(each in name for each in arguments.only):
            result = asyncio.run(_measure(way, arguments.switches, arguments.load_seconds))
            print(result.row(name), flush=True)
    serve.shutdown()
    ray.shutdown()


async def _measure(way: dict[str, Any], switches: int, load_seconds: float) -> Result:
    result = Result()
    async with _deployed(way) as draw:
        await _switch(draw, switches, result)
        await _load(draw, load_seconds, result)
    return result


@asynccontextmanager
async def _deployed(way: dict[str, Any]) -> AsyncIterator[Callable[[str], Any]]:
    application = {
        "name": _APP,
        "route_prefix": None,
        "import_path": "benchmarks.swap:build",
        "args": {"autoscaling": way["autoscaling"], "options": way["options"], "pool": way.get("pool", False)},
        "autoscaling_policy": way.get("policy"),
    }
    client = _get_global_client()
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}), _blocking=True)
    yield serve.get_app_handle(_APP).draw.remote
    serve.delete(_APP)


async def _switch(draw: Callable[[str], Any], switches: int, result: Result) -> None:
    await draw(MODELS[0])
    for index in range(1, switches + 1):
        began = time.perf_counter()
        try:
            await asyncio.wait_for(_draw(draw, MODELS[index % len(MODELS)]), CUT_OFF_SECONDS)
        except TimeoutError:
            result.switches.append(CUT_OFF_SECONDS)
            return
        result.switches.append(time.perf_counter() - began)


async def _load(draw: Callable[[str], Any], seconds: float, result: Result) -> None:
    """Each model has some jobs at all times, and each image is followed by another job."""
    ends = time.perf_counter() + seconds

    async def ask(model: str) -> None:
        while time.perf_counter() < ends:
            began = time.perf_counter()
            try:
                await asyncio.wait_for(_draw(draw, model), ends - began)
            except TimeoutError:
                pass
            else:
                result.images[model] += 1
            result.waits.append(time.perf_counter() - began)

    await asyncio.gather(*(ask(model) for model in MODELS for _ in range(JOBS_AT_ONCE)))
    result.load_seconds = seconds


async def _draw(draw: Callable[[str], Any], model: str) -> None:
    await draw(model)


def _seconds(measured: float, limit: float) -> str:
    return f"> {limit:.0f} s" if measured >= limit else f"{measured:.1f} s"


if __name__ == "__main__":
    main()
