"""The policy as Ray Serve calls it: within Ray's own wrapper, which adds delays and a rule for cold deployments."""

from typing import Any

import pytest
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID
from ray.serve._private.config import DeploymentConfig
from ray.serve.autoscaling_policy import _apply_app_level_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments import autoscaling
from deployments.autoscaling import autoscaling_fields

NAME = "deployments.autoscaling:GpuSharing"


class Application:
    """Deployments whose replicas are ready at once, under the policy as Ray Serve makes it."""

    def __init__(self, least: int = 0, **policy_kwargs: Any) -> None:
        policy = AutoscalingPolicy(policy_function=NAME, policy_kwargs=policy_kwargs)
        self._policy = _apply_app_level_autoscaling_config(_resolve_policy_callable(policy))
        config = AutoscalingConfig(
            min_replicas=least, max_replicas=2, target_ongoing_requests=4, downscale_delay_s=60, **autoscaling_fields(1)
        )
        # As it comes to the controller.
        sent = DeploymentConfig(autoscaling_config=config).to_proto_bytes()
        self._config = DeploymentConfig.from_proto_bytes(sent).autoscaling_config
        self._state: dict[DeploymentID, dict[str, Any]] = {}
        self.requests = {"a": 0.0, "b": 0.0}
        self.targets = {"a": least, "b": least}
        self.now = 1000.0

    def decide(self, seconds: float = 0.1) -> dict[str, int]:
        """One decision; returns the targets after it."""
        self.now += seconds
        ids = {name: DeploymentID(name=name, app_name="app") for name in self.requests}
        contexts = {ids[name]: self._context(ids[name]) for name in ids}
        decided, self._state = self._policy(contexts)
        self.targets |= {deployment.name: number for deployment, number in decided.items()}
        return self.targets

    def _context(self, deployment: DeploymentID) -> AutoscalingContext:
        name = deployment.name
        return AutoscalingContext(
            deployment_id=deployment,
            deployment_name=name,
            app_name="app",
            current_num_replicas=self.targets[name],
            target_num_replicas=self.targets[name],
            running_replicas=[],
            total_num_requests=self.requests[name],
            total_queued_requests=0,
            aggregated_metrics=None,
            raw_metrics=None,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=dict(self._state.get(deployment, {})),
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=self.now,
            config=self._config,
        )


def test_a_cold_model_with_jobs_waits_for_its_turn_and_gets_it() -> None:
    application = Application(gpus=1, residency_s=15)
    application.requests |= {"a": 3, "b": 3}

    assert application.decide() == {"a": 1, "b": 0}
    assert application.decide(14) == {"a": 1, "b": 0}
    assert application.decide(16) == {"a": 0, "b": 1}


def test_an_idle_replica_goes_at_once_for_another_model_whatever_its_delay_is() -> None:
    application = Application(gpus=1)
    application.requests["a"] = 1
    application.decide()
    application.requests |= {"a": 0, "b": 1}

    assert application.decide() == {"a": 0, "b": 1}


def test_an_idle_replica_that_nobody_waits_for_stays_for_the_delay_of_its_model() -> None:
    application = Application(gpus=1)
    application.requests["a"] = 1
    application.decide()
    application.requests["a"] = 0
    application.decide()

    assert application.decide(59)["a"] == 1
    assert application.decide(2)["a"] == 0


def test_an_application_that_has_just_started_is_scaled_by_its_least_replicas() -> None:
    assert Application(least=1, gpus=2).decide() == {"a": 1, "b": 1}


def test_the_gpus_of_the_cluster_are_counted_where_none_are_given_but_not_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[float] = []

    def resources() -> dict[str, float]:
        counts.append(len(counts) + 1)
        return {"GPU": counts[-1]}

    monkeypatch.setattr(autoscaling.ray, "cluster_resources", resources)
    application = Application()
    application.requests |= {"a": 3, "b": 3}

    assert application.decide() == {"a": 1, "b": 0}
    application.decide(5)
    assert counts == [1]
    assert application.decide(6) == {"a": 1, "b": 1}


def test_an_application_without_deployments_that_scale_is_left_alone() -> None:
    policy = _resolve_policy_callable(AutoscalingPolicy(policy_function=NAME))

    assert policy({}) == ({}, {})
