"""The RayServices of k8s/: what KubeRay and Ray would refuse, drop or run otherwise than meant."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.cluster import tracker_resources
from deployments.settings.service import Settings, load_settings
from serve.app import model_options
from serve.http.front import IMPORT_PATH
from serve.http.origins import HostRules, UnknownHostError
from tests.support.manifests import (
    FOLDER,
    PROJECT,
    arguments,
    each_overlay,
    environment,
    objects,
    ray_container,
    ray_groups,
    ray_service,
    serve_config,
)
from tests.support.serve_schema import config_problems

# What the pods' environment may have beside settings.
OTHER_VARIABLES = re.compile(r"RAY_\w+|HF_(HOME|TOKEN)|AWS_\w+")
each_local_overlay = pytest.mark.parametrize("overlay", ["cpu", "one-gpu"])


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(Settings.model_fields):
        monkeypatch.delenv(f"CYBERIMAGE_{name.upper()}", raising=False)


def catalog(overlay: str) -> Catalog:
    return load_catalog(PROJECT / "configs" / Path(arguments(overlay)["catalog"]).name, {})


def is_setting(variable: str) -> bool:
    """Whether a variable of the service has the name of a setting."""
    parts = variable.removeprefix("CYBERIMAGE_").lower().split("__")
    model: Any = Settings
    for part in parts:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return False
        model = field.annotation
    return True


class TestServeConfig:
    @each_overlay
    def test_is_valid(self, overlay: str) -> None:
        assert config_problems(ray_service(overlay)["serveConfigV2"]) == []

    @each_overlay
    def test_misspelled_key_is_told(self, overlay: str) -> None:
        text = ray_service(overlay)["serveConfigV2"].replace("route_prefix:", "route_perfix:", 1)

        assert config_problems(text) == ["applications[0].route_perfix: unknown key"]

    @each_overlay
    def test_runs_the_shipped_application_on_the_address_of_the_pod(self, overlay: str) -> None:
        here = yaml.safe_load((PROJECT / "serve_config.yaml").read_text(encoding="utf-8"))
        there = serve_config(overlay)

        assert there["http_options"] == {**here["http_options"], "host": "0.0.0.0"}
        for key in ("name", "route_prefix", "import_path"):
            assert there["applications"][0][key] == here["applications"][0][key]

    @each_overlay
    def test_service_takes_the_settings_on_that_address(self, overlay: str) -> None:
        load_settings(arguments(overlay)).require_protection(serve_config(overlay)["http_options"]["host"])

    @each_overlay
    def test_catalog_and_data_are_where_the_image_and_the_volumes_have_them(self, overlay: str) -> None:
        args = arguments(overlay)

        assert Path(args["catalog"]).parent == Path("/opt/cyberimage/configs")
        assert catalog(overlay).models
        for group in ray_groups(overlay).values():
            assert args["data_dir"] in [mount["mountPath"] for mount in ray_container(group)["volumeMounts"]]

    def test_production_asks_for_keys_and_shares_jobs_and_images(self) -> None:
        settings = load_settings(arguments("production"))

        assert settings.auth.mode == "keys"
        assert settings.storage.kind == "s3"
        for group in ray_groups("production").values():
            assert "CYBERIMAGE_DATABASE_URL" in environment(ray_container(group))

    def test_production_only_adds_to_what_the_catalog_says_of_each_deployment(self) -> None:
        (application,) = serve_config("production")["applications"]
        said = {each["name"]: each["ray_actor_options"] for each in application["deployments"]}

        assert set(said) == {"Ingress", *(f"model-{model_id}" for model_id in catalog("production").models)}
        for model_id, entry in catalog("production").models.items():
            options = model_options(model_id, entry)["ray_actor_options"]
            assert {"num_gpus": 0, **said[f"model-{model_id}"]}.items() >= options.items()

    def test_production_has_a_worker_group_for_each_deployment(self) -> None:
        (application,) = serve_config("production")["applications"]
        for deployment in application["deployments"]:
            options = deployment["ray_actor_options"]
            (resource,) = options["resources"]
            (group,) = [each for each in ray_groups("production").values() if resource in each.get("resources", {})]
            limits = ray_container(group)["resources"]["limits"]
            assert options["num_cpus"] <= int(limits["cpu"])
            assert options.get("num_gpus", 0) <= int(limits.get("nvidia.com/gpu", 0))
            assert not resource.lower().endswith("gpu"), "KubeRay would take it for a number of GPUs"

    def test_production_keeps_the_tracker_where_there_is_always_a_pod(self) -> None:
        (resource,) = tracker_resources(load_settings(arguments("production")))
        (group,) = [each for each in ray_groups("production").values() if resource in each.get("resources", {})]

        assert group["minReplicas"] > 0

    def test_production_has_as_many_pods_as_its_fewest_copies_need(self) -> None:
        groups = ray_groups("production")

        assert groups["edge"]["minReplicas"] >= arguments("production")["ingress_replicas"]
        always_there = [each for each in catalog("production").models.values() if each.replicas.min]
        assert groups["gpu-large"]["minReplicas"] >= sum(each.replicas.num_gpus for each in always_there)
        assert groups["gpu-small"]["minReplicas"] == 0


class TestCluster:
    @each_overlay
    def test_ray_is_the_installed_one_and_wants_a_token(self, overlay: str) -> None:
        cluster = ray_service(overlay)["rayClusterConfig"]

        assert cluster["rayVersion"] == metadata.version("ray")
        assert cluster["authOptions"] == {"mode": "token"}

    @each_overlay
    def test_head_takes_no_replicas(self, overlay: str) -> None:
        parameters = ray_groups(overlay)["head"]["rayStartParams"]

        assert parameters["num-cpus"] == parameters["num-gpus"] == "0"
        assert ray_service(overlay)["excludeHeadPodFromServeSvc"] is True

    @each_overlay
    def test_ray_start_parameters_are_text_and_say_nothing_twice(self, overlay: str) -> None:
        for group in ray_groups(overlay).values():
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())
            if group.get("resources"):
                assert not {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"])

    @each_overlay
    def test_ports_have_the_names_that_kuberay_and_prometheus_look_for(self, overlay: str) -> None:
        head, *workers = [
            {port["name"]: port["containerPort"] for port in ray_container(group)["ports"]}
            for group in ray_groups(overlay).values()
        ]

        metrics = {"metrics": 8080, "as-metrics": 44217, "dash-metrics": 44227}
        assert head == {"gcs-server": 6379, "dashboard": 8265, "serve": 8000, **metrics}
        for ports in workers:
            assert ports == {"metrics": 8080, "serve": 8000}

    @each_overlay
    def test_workers_are_ready_when_their_proxy_is(self, overlay: str) -> None:
        for name, group in ray_groups(overlay).items():
            if name != "head":
                probe = ray_container(group)["readinessProbe"]["httpGet"]
                assert probe == {"path": "/-/healthz", "port": "serve"}

    @each_overlay
    def test_every_variable_is_a_setting_or_somebody_elses(self, overlay: str) -> None:
        containers = {name: ray_container(group) for name, group in ray_groups(overlay).items()}
        containers |= {
            name: job["spec"]["template"]["spec"]["containers"][0] for name, job in objects(overlay, "Job").items()
        }
        for place, container in containers.items():
            for name in environment(container):
                assert OTHER_VARIABLES.fullmatch(name) or is_setting(name), f"{place}: {name}"

    @each_overlay
    def test_settings_and_credentials_are_the_same_in_every_ray_pod(self, overlay: str) -> None:
        head, *workers = [environment(ray_container(group)) for group in ray_groups(overlay).values()]

        shared = {name: value for name, value in head.items() if not re.match(r"RAY_(GRAFANA|PROMETHEUS)", name)}
        for worker in workers:
            assert worker.items() >= shared.items()

    @each_overlay
    def test_every_proxy_has_the_front(self, overlay: str) -> None:
        for name, group in ray_groups(overlay).items():
            variable = environment(ray_container(group))["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
            assert variable["value"] == IMPORT_PATH, name

    @pytest.mark.parametrize("name", ["CYBERIMAGE_STORAGE__BUCKETS", "CYBERIMAGE_CATALOGUE", "CYBERIMAGE_CATALOG__X"])
    def test_variable_that_is_no_setting_is_told(self, name: str) -> None:
        assert not is_setting(name)
        assert is_setting("CYBERIMAGE_STORAGE__BUCKET")

    @each_overlay
    def test_tokens_of_the_catalog_reach_those_who_load_the_models(self, overlay: str) -> None:
        wanted = {entry.token_env for entry in catalog(overlay).models.values()} - {None}

        for name, group in ray_groups(overlay).items():
            if "nvidia.com/gpu" in ray_container(group)["resources"]["limits"]:
                assert wanted <= set(environment(ray_container(group))), name


class TestOneNode:
    @each_local_overlay
    def test_answers_under_the_names_of_its_service_without_keys(self, overlay: str) -> None:
        (namespace,) = {each["metadata"]["namespace"] for each in objects(overlay, "RayService").values()}
        rules = HostRules(load_settings(arguments(overlay)).allowed_hosts)
        names = ["cyberimage-serve-svc", namespace, "svc", "cluster", "local"]

        rules.refuse_others([f"{'.'.join(names[:length])}:8000" for length in (1, 2, 3, 5)])
        with pytest.raises(UnknownHostError):
            rules.refuse_others([f"{names[0]}.other.svc"])

    @each_local_overlay
    def test_worker_is_where_the_head_is(self, overlay: str) -> None:
        groups = ray_groups(overlay)
        (name,) = set(groups) - {"head"}
        head, worker = groups["head"]["template"], groups[name]["template"]

        assert [groups[name][key] for key in ("replicas", "minReplicas", "maxReplicas")] == [1, 1, 1]
        (rule,) = worker["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert rule["topologyKey"] == "kubernetes.io/hostname"
        selector = rule["labelSelector"]["matchLabels"]
        assert selector.items() <= head["metadata"]["labels"].items()
        assert not selector.items() <= worker["metadata"]["labels"].items()
        assert head["spec"].get("nodeSelector") == worker["spec"].get("nodeSelector")
        assert head["spec"].get("tolerations") == worker["spec"].get("tolerations")

    @each_local_overlay
    def test_no_second_cluster_is_started_beside_the_first(self, overlay: str) -> None:
        assert ray_service(overlay)["upgradeStrategy"] == {"type": "None"}

    @each_local_overlay
    def test_jobs_and_images_are_on_a_volume_that_every_pod_has(self, overlay: str) -> None:
        settings = load_settings(arguments(overlay))
        claims = {
            volume["persistentVolumeClaim"]["claimName"]
            for group in ray_groups(overlay).values()
            for volume in group["template"]["spec"]["volumes"]
            if volume["name"] == "data"
        }

        assert settings.storage.shared
        assert claims == {"cyberimage-data"}

    def test_both_tell_ray_serve_the_same_but_for_the_catalog(self) -> None:
        cpu, gpu = serve_config("cpu"), serve_config("one-gpu")
        cpu["applications"][0]["args"]["catalog"] = arguments("one-gpu")["catalog"]

        assert cpu == gpu

    def test_one_gpu_runs_the_models_that_need_it(self) -> None:
        limits = ray_container(ray_groups("one-gpu")["gpu"])["resources"]["limits"]

        assert limits["nvidia.com/gpu"] == "1"
        for entry in catalog("one-gpu").models.values():
            assert entry.replicas.num_gpus <= 1
            assert entry.replicas.num_cpus < int(limits["cpu"])


class TestProduction:
    def test_old_cluster_outlives_its_longest_job(self) -> None:
        spec = ray_service("production")
        longest = max(entry.replicas.graceful_shutdown_timeout_s for entry in catalog("production").models.values())

        assert spec["upgradeStrategy"] == {"type": "NewCluster"}
        assert spec["rayClusterDeletionDelaySeconds"] > longest

    def test_pods_that_go_have_time_for_their_longest_job(self) -> None:
        longest = max(entry.replicas.graceful_shutdown_timeout_s for entry in catalog("production").models.values())
        for name, group in ray_groups("production").items():
            if name != "head":
                drain = float(environment(ray_container(group))["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"]["value"])
                assert longest < drain < group["template"]["spec"]["terminationGracePeriodSeconds"], name

    def test_pods_come_and_go_with_the_load(self) -> None:
        cluster = ray_service("production")["rayClusterConfig"]

        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        for name, group in ray_groups("production").items():
            if name != "head":
                assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
                assert group["minReplicas"] < group["maxReplicas"]
                assert "restartPolicy" not in group["template"]["spec"], "autoscaler v2 takes none but its own"

    def test_gpu_pods_go_to_gpu_nodes_and_no_others_do(self) -> None:
        for name, group in ray_groups("production").items():
            pod = group["template"]["spec"]
            has_gpu = "nvidia.com/gpu" in ray_container(group)["resources"]["limits"]
            tolerates = any(each["key"] == "nvidia.com/gpu" for each in pod.get("tolerations", []))
            assert (has_gpu, has_gpu) == (tolerates, "nodeSelector" in pod), name

    def test_head_remembers_in_redis(self) -> None:
        options = ray_service("production")["rayClusterConfig"]["gcsFaultToleranceOptions"]
        service = objects("production", "Service")["cyberimage-redis"]

        assert options["redisAddress"] == f"cyberimage-redis:{service['spec']['ports'][0]['port']}"
        redis = objects("production", "StatefulSet")["cyberimage-redis"]["spec"]["template"]["spec"]["containers"][0]
        assert environment(redis)["REDIS_PASSWORD"]["valueFrom"] == options["redisPassword"]["valueFrom"]


class TestIngress:
    def annotations(self) -> dict[str, str]:
        return objects("production", "Ingress")["cyberimage"]["metadata"]["annotations"]

    def test_leads_to_the_service_that_kuberay_makes(self) -> None:
        (name,) = objects("production", "RayService")
        (rule,) = objects("production", "Ingress")["cyberimage"]["spec"]["rules"]

        (path,) = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": f"{name}-serve-svc", "port": {"name": "serve"}}

    def test_waits_longer_than_any_answer_takes(self) -> None:
        longest = load_settings(arguments("production")).answer_seconds

        assert int(self.annotations()["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > longest
        for name, value in self.annotations().items():
            if name.endswith(("timeout-server", "timeout-client")):
                assert int(value.removesuffix("h")) * 3600 > longest

    def test_passes_events_on_at_once(self) -> None:
        assert self.annotations()["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"

    def test_lets_bodies_through_that_the_service_would_take(self) -> None:
        settings = load_settings(arguments("production"))
        size = int(self.annotations()["nginx.ingress.kubernetes.io/proxy-body-size"].removesuffix("m")) << 20

        assert size > max(settings.max_body_bytes, settings.max_upload_bytes)


def test_guide_and_folder_name_every_overlay() -> None:
    guide = (PROJECT / "docs" / "kubernetes.md").read_text(encoding="utf-8")

    for overlay in (FOLDER / "overlays").iterdir():
        assert f"k8s/overlays/{overlay.name}" in guide
