"""The application's autoscaling policy, as Ray Serve runs it: GPUs go to the models in turns, by demand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import ray
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from deployments.autoscaling.gpu_turns import Demand, GpuTurns

# Between two looks at whether a replica that is to stop has ended its jobs.
DRAIN_CHECK_SECONDS = 0.5

_COUNT_SECONDS = 10.0


class GpuSharing:
    """An application-level policy of Ray Serve around :class:`GpuTurns`, named in the application's configuration.

    Ray Serve makes one of it in its controller, and calls it ten times a second. The models' own delays stay what they
    are in the catalog: the policy heeds them itself, so that it can pass over them where another model waits.

    Args:
        gpus: GPUs that the models share; None for those that the cluster has, counted again and again.
        residency_s: As :class:`GpuTurns`.
        longest_residency_s: As :class:`GpuTurns`.
    """

    def __init__(
        self, gpus: float | None = None, residency_s: float = 15.0, longest_residency_s: float = 120.0
    ) -> None:
        self._turns = GpuTurns(residency_s, longest_residency_s)
        self._gpus = _GpuCount() if gpus is None else lambda _: gpus

    def __call__(
        self, contexts: Mapping[DeploymentID, AutoscalingContext]
    ) -> tuple[dict[DeploymentID, int], dict[DeploymentID, dict[str, Any]]]:
        """Return how many replicas each deployment is to have; those that are left out stay as they are."""
        if not contexts:
            return {}, {}
        now = max(context.current_time or 0.0 for context in contexts.values())
        names = {deployment.name: deployment for deployment in contexts}
        demands = {deployment.name: _demand(context) for deployment, context in contexts.items()}
        replicas = self._turns.replicas(demands, self._gpus(now), now)
        for context in contexts.values():
            # Ray Serve would apply them once more, after the policy.
            context.config = _config(context).model_copy(
                update={"upscale_delay_s": 0.0, "downscale_delay_s": 0.0, "downscale_to_zero_delay_s": 0.0}
            )
        decided = {
            names[name]: number
            for name, number in replicas.items()
            # Of a cold deployment with requests, Ray Serve takes none for one: those that are to wait are left out.
            if number or demands[name].running or not demands[name].has_work
        }
        return decided, {}


def autoscaling_fields(num_gpus: float) -> dict[str, Any]:
    """The fields that the autoscaling configurations of all deployments share, and what they pass to the policy.

    Args:
        num_gpus: GPUs of each of its replicas.
    """
    return {
        # How often the jobs are counted, and how many seconds of that are averaged. With Ray's own 10 and 30 it is half
        # a minute before anybody knows that a model is idle; see docs/performance.md.
        "metrics_interval_s": 1.0,
        "look_back_period_s": 2.0,
        # Ray Serve hands the arguments of a deployment's own policy on to the application's; its default one has none.
        "policy": {"policy_kwargs": {"num_gpus": num_gpus}},
    }


class _GpuCount:
    """The number of GPUs of the cluster, cached: the call is too slow for every decision."""

    def __init__(self) -> None:
        self._gpus = 0.0
        self._until = 0.0

    def __call__(self, now: float) -> float:
        if now >= self._until:
            resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            self._gpus = resources.get("GPU", 0.0)
            self._until = now + _COUNT_SECONDS
        return self._gpus


def _demand(context: AutoscalingContext) -> Demand:
    config = _config(context)
    to_zero = config.downscale_to_zero_delay_s
    return Demand(
        requests=context.total_num_requests,
        target=context.target_num_replicas,
        running=context.current_num_replicas,
        least=context.capacity_adjusted_min_replicas,
        most=context.capacity_adjusted_max_replicas,
        gpus=config.policy.policy_kwargs.get("num_gpus", 0.0),
        requests_per_replica=config.get_target_ongoing_requests(),
        upscale_delay_s=config.upscale_delay_s,
        downscale_delay_s=config.downscale_delay_s,
        downscale_to_zero_delay_s=config.downscale_delay_s if to_zero is None else to_zero,
    )


def _config(context: AutoscalingContext) -> AutoscalingConfig:
    return cast(AutoscalingConfig, context.config)
