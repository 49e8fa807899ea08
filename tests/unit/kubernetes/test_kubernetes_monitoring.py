"""Dashboard and alerts: they ask for metrics that there are, in words that Prometheus understands."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.serve
import yaml

import deployments.jobs.records.exceptions
import deployments.storage.base
from deployments.telemetry import metrics
from tests.support.manifests import FOLDER, PROJECT, objects, ray_container, ray_groups
from tests.support.metric_names import all_metrics, exposed_names

MONITORING = FOLDER / "components" / "monitoring"
DASHBOARD = json.loads((MONITORING / "cyberimage.json").read_text(encoding="utf-8"))
# Names that neither the service nor Ray Serve defines: the nodes' and the autoscaler's in Ray, and the kubelet's.
OTHERS = {"ray_node_gpus_utilization", "ray_node_gram_used", "ray_node_gram_available"}
OTHERS |= {"autoscaler_active_nodes", "autoscaler_pending_nodes"}
OTHERS |= {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}
GUIDE = (PROJECT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
CASES = Path(__file__).parent / "alert_cases.yaml"
METRIC = re.compile(r"\b(?:ray|autoscaler|kubelet)_[a-z_]+")


def alerts() -> list[dict[str, Any]]:
    (rule,) = objects("production", "PrometheusRule").values()
    return [alert for group in rule["spec"]["groups"] for alert in group["rules"]]


def queries() -> Iterator[str]:
    """Every expression of the dashboard, the variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$model", ".*")


def ours() -> dict[str, metrics.Metric]:
    return {name: metric for metric in all_metrics() for name in exposed_names(metric)}


def names_of_ray_serve() -> set[str]:
    """What the installed Ray Serve defines, as it is exposed: with the endings that a counter or histogram has."""
    sources = (Path(ray.serve.__file__).parent / "_private").rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    defined = set(re.findall(r'"(serve_[a-z_]+)"', text))
    for name in re.findall(r'f"(serve_[a-z_{}]+)"', text):
        defined.add(re.sub(r"{[a-z_]+}", "http", name))
    return {f"ray_{name}{ending}" for name in defined for ending in ("", "_total", "_bucket", "_count")}


@pytest.fixture(scope="module")
def promtool() -> str:
    beside_python = Path(sys.executable).parent / "promtool"
    found = str(beside_python) if beside_python.exists() else shutil.which("promtool")
    if found is None:
        reason = "promtool is not installed: scripts/setup fetches it on Debian; it is part of Prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class TestNames:
    @pytest.mark.parametrize("place", ["dashboard", "alerts"])
    def test_each_metric_exists(self, place: str) -> None:
        expressions = queries() if place == "dashboard" else (alert["expr"] for alert in alerts())
        asked = {name for expression in expressions for name in METRIC.findall(expression)}

        assert asked
        assert asked - set(ours()) - names_of_ray_serve() - OTHERS == set()

    @pytest.mark.parametrize("metric", all_metrics(), ids=lambda metric: metric.name)
    def test_dashboard_shows_each_metric_of_the_service(self, metric: metrics.Metric) -> None:
        asked = {name for expression in queries() for name in METRIC.findall(expression)}

        assert asked & set(exposed_names(metric))

    def test_sums_of_histograms_are_not_used_as_they_are_made_up(self) -> None:
        histograms = [metric for metric in all_metrics() if isinstance(metric, metrics.Histogram)]

        assert not [name for metric in histograms for text in queries() if (name := f"{metric.name}_sum") in text]

    @pytest.mark.parametrize("place", ["dashboard", "alerts"])
    def test_labels_of_our_metrics_are_those_they_have(self, place: str) -> None:
        for expression in queries() if place == "dashboard" else (alert["expr"] for alert in alerts()):
            for name, selector in re.findall(r"\b(ray_cyberimage_[a-z_]+)\{([^}]*)\}", expression):
                assert set(re.findall(r"(\w+)[=!]", selector)) <= set(ours()[name].labels), expression

    def test_reasons_of_rejections_are_those_of_errors_that_there_are(self) -> None:
        kinds = {
            re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Error")).lower()
            for module in (deployments.jobs.records.exceptions, deployments.storage.base)
            for name, _ in inspect.getmembers(module, inspect.isclass)
        }

        asked = {
            reason
            for alert in alerts()
            for reasons in re.findall(r'reason=~?"([^"]+)"', alert["expr"])
            for reason in reasons.split("|")
        }
        assert asked
        assert asked <= kinds


@pytest.mark.parametrize("metric", all_metrics(), ids=lambda metric: metric.name)
def test_guide_describes_each_metric(metric: metrics.Metric) -> None:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    row = f"| `{metric.name}` | {type(metric).__name__.lower()} | {labels} | {metric.description} |"

    assert row in GUIDE


class TestDashboard:
    def test_is_in_the_config_map_that_grafana_looks_for(self) -> None:
        found = objects("production", "ConfigMap")["cyberimage-dashboard"]

        assert json.loads(found["data"]["cyberimage.json"]) == DASHBOARD
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"

    def test_panels_have_titles_and_places_of_their_own(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in DASHBOARD["panels"]:
            place = panel["gridPos"]
            cells = {
                (place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])
            }
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24
            taken |= cells
        assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
        assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])

    def test_queries_are_understood(self, promtool: str, tmp_path: Path) -> None:
        rules = [{"record": f"panel:{index}", "expr": query} for index, query in enumerate(queries())]
        path = tmp_path / "queries.yaml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

        assert f"{len(rules)} rules found" in run(promtool, "check", "rules", path)


class TestAlerts:
    def test_texts_are_understood(self, promtool: str, tmp_path: Path) -> None:
        (rule,) = objects("production", "PrometheusRule").values()
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rule["spec"]))

        assert f"{len(alerts())} rules found" in run(promtool, "check", "rules", tmp_path / "alerts.yaml")

    def test_guide_says_where_to_look(self) -> None:
        assert [alert["alert"] for alert in alerts() if f"`{alert['alert']}`" not in GUIDE] == []

    def test_each_says_what_and_what_to_do(self) -> None:
        for alert in alerts():
            assert alert["alert"].startswith("CyberImage")
            assert alert["labels"]["severity"] in {"critical", "warning"}
            assert set(alert["annotations"]) == {"summary", "description"}
            assert all(text.strip().endswith(".") for text in alert["annotations"].values()), alert["alert"]

    def test_each_fires_when_it_should_and_not_when_it_should_not(self, promtool: str, tmp_path: Path) -> None:
        (rule,) = objects("production", "PrometheusRule").values()
        # The labels tell whether it is the right alert; texts with numbers in them would have to be written twice.
        groups = json.loads(json.dumps(rule["spec"]["groups"]))
        for alert in (alert for group in groups for alert in group["rules"]):
            del alert["annotations"]
        (tmp_path / "alerts.yaml").write_text(yaml.safe_dump({"groups": groups}))
        shutil.copy(CASES, tmp_path)

        run(promtool, "test", "rules", tmp_path / CASES.name)

    def test_every_alert_has_a_case_in_which_it_fires(self) -> None:
        cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
        fired = {each["alertname"] for case in cases for each in case["alert_rule_test"] if each["exp_alerts"]}

        assert fired == {alert["alert"] for alert in alerts()}


class TestScraping:
    def test_monitors_ask_the_ports_that_the_pods_have(self) -> None:
        monitors = objects("production", "PodMonitor")
        asked = {
            name: {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
            for name, monitor in monitors.items()
        }

        assert asked == {
            "cyberimage-head": {"metrics", "as-metrics", "dash-metrics"},
            "cyberimage-workers": {"metrics"},
        }
        for name, group in ray_groups("production").items():
            ports = {port["name"] for port in ray_container(group)["ports"]}
            assert asked["cyberimage-head" if name == "head" else "cyberimage-workers"] <= ports

    def test_ray_dashboard_knows_grafana_and_prometheus(self) -> None:
        names = {variable["name"] for variable in ray_container(ray_groups("production")["head"])["env"]}

        assert {"RAY_GRAFANA_HOST", "RAY_GRAFANA_IFRAME_HOST", "RAY_PROMETHEUS_HOST"} <= names
