"""The service's metrics, and their names at the Prometheus endpoint."""

from __future__ import annotations

from deployments.telemetry import metrics
from deployments.telemetry.metrics import Counter, Gauge, Histogram, Metric

_SUFFIXES = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_count", "_sum")}


def all_metrics() -> list[Metric]:
    """Every metric of the service."""
    return [value for value in vars(metrics).values() if isinstance(value, Metric)]


def exposed_names(metric: Metric) -> tuple[str, ...]:
    """A metric's names at the Prometheus endpoint."""
    return tuple(f"ray_{metric.name}{suffix}" for suffix in _SUFFIXES[type(metric)])
