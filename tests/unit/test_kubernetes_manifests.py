"""The files of k8s/: what Kubernetes, KubeRay and Ray would refuse, drop or run otherwise than meant."""

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from packaging.requirements import Requirement

from tests.unit.serve_schema import config_problems

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "k8s"
KUSTOMIZATION = FOLDER / "kustomization.yaml"
MANIFESTS = sorted(path for path in FOLDER.glob("*.yaml") if path != KUSTOMIZATION)
RAY_SERVICES = sorted(FOLDER.glob("rayservice-*.yaml"))
API_VERSIONS = {"PersistentVolumeClaim": "v1", "RayService": "ray.io/v1"}
SECRET_NAME = re.compile(r"token|password|passwd|secret|api_?key|access_?key|credential", re.IGNORECASE)

each_ray_service = pytest.mark.parametrize("path", RAY_SERVICES, ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert len(documents) == 1, f"{path.name}: one object a file"
    return documents[0]


def cluster_of(path: Path) -> dict[str, Any]:
    return load(path)["spec"]["rayClusterConfig"]


def pods_of(path: Path) -> list[dict[str, Any]]:
    """The pods' specifications, the head's first."""
    cluster = cluster_of(path)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def containers_of(path: Path) -> list[dict[str, Any]]:
    return [container for pod in pods_of(path) for container in pod["containers"]]


def project_table() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def mappings_in(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        yield data
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else []:
        yield from mappings_in(value)


def memory_bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


def test_kustomization_lists_each_manifest() -> None:
    kustomization = load(KUSTOMIZATION)

    assert kustomization["kind"] == "Kustomization"
    assert sorted(kustomization["resources"]) == [path.name for path in MANIFESTS]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kind_and_version_are_known(path: Path) -> None:
    manifest = load(path)

    assert manifest["apiVersion"] == API_VERSIONS[manifest["kind"]]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_no_secret_is_written_out(path: Path) -> None:
    for mapping in mappings_in(load(path)):
        if SECRET_NAME.search(str(mapping.get("name", ""))):
            assert "value" not in mapping, f"{mapping['name']}: use valueFrom.secretKeyRef"
    assert not re.search(r"hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|://[^/\s]+:[^/\s]+@", path.read_text(encoding="utf-8"))


@each_ray_service
def test_serve_configuration_is_valid(path: Path) -> None:
    assert config_problems(load(path)["spec"]["serveConfigV2"]) == []


@each_ray_service
def test_misspelled_key_of_the_serve_configuration_is_told(path: Path) -> None:
    text = load(path)["spec"]["serveConfigV2"].replace("route_prefix:", "route_perfix:", 1)

    assert config_problems(text) == ["applications[0].route_perfix: unknown key"]


@each_ray_service
def test_runs_the_shipped_application_on_the_address_of_the_pod(path: Path) -> None:
    here = yaml.safe_load((PROJECT / "serve_config.yaml").read_text(encoding="utf-8"))
    there = yaml.safe_load(load(path)["spec"]["serveConfigV2"])

    assert there["http_options"] == {**here["http_options"], "host": "0.0.0.0"}
    for key in ("name", "route_prefix", "import_path"):
        assert there["applications"][0][key] == here["applications"][0][key]


@each_ray_service
def test_catalog_and_data_are_where_the_image_and_the_volume_have_them(path: Path) -> None:
    args = yaml.safe_load(load(path)["spec"]["serveConfigV2"])["applications"][0]["args"]
    claims = {load(manifest)["metadata"]["name"] for manifest in MANIFESTS}

    catalog = Path(args["catalog"])
    assert catalog.parent == Path("/opt/cyberimage/configs")
    assert (PROJECT / "configs" / catalog.name).is_file()
    for pod in pods_of(path):
        volumes = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
        assert set(volumes.values()) <= claims
        (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] == args["data_dir"]]
        assert mount["name"] in volumes


@each_ray_service
def test_ray_is_the_installed_one_and_wants_a_token(path: Path) -> None:
    cluster = cluster_of(path)

    assert cluster["rayVersion"] == metadata.version("ray")
    assert cluster["authOptions"] == {"mode": "token"}


@each_ray_service
def test_head_takes_no_replicas(path: Path) -> None:
    parameters = cluster_of(path)["headGroupSpec"]["rayStartParams"]

    assert parameters["num-cpus"] == "0"
    assert parameters["num-gpus"] == "0"


@each_ray_service
def test_ray_start_parameters_are_text(path: Path) -> None:
    cluster = cluster_of(path)

    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@each_ray_service
def test_data_on_one_disk_has_one_worker_beside_the_head(path: Path) -> None:
    cluster = cluster_of(path)
    head_labels = cluster["headGroupSpec"]["template"]["metadata"]["labels"]

    (group,) = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"] == 1
    affinity = group["template"]["spec"]["affinity"]["podAffinity"]
    (rule,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"]["matchLabels"].items() <= head_labels.items()
    assert rule["labelSelector"]["matchLabels"].items() != group["template"]["metadata"]["labels"].items()
    assert load(path)["spec"]["upgradeStrategy"] == {"type": "None"}


@each_ray_service
def test_ports_have_the_names_that_kuberay_looks_for(path: Path) -> None:
    head, *workers = [
        {port.get("name"): port["containerPort"] for port in container["ports"]} for container in containers_of(path)
    ]

    assert head == {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "serve": 8000}
    for ports in workers:
        assert ports == {"metrics": 8080, "serve": 8000}


@each_ray_service
def test_every_container_says_what_it_needs(path: Path) -> None:
    for container in containers_of(path):
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert requests["memory"] == limits["memory"], "more than requested is taken back by killing"
        assert memory_bytes(limits["memory"]) >= 2 << 30
        assert int(requests["cpu"]) >= 1
        assert requests.get("nvidia.com/gpu") == limits.get("nvidia.com/gpu")


@each_ray_service
def test_workers_are_ready_when_their_proxy_is(path: Path) -> None:
    for container in containers_of(path)[1:]:
        assert container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}


@each_ray_service
def test_pods_are_not_root(path: Path) -> None:
    for pod in pods_of(path):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@each_ray_service
def test_image_is_one_fixed_version(path: Path) -> None:
    (image,) = {container["image"] for container in containers_of(path)}

    name, tag = image.rsplit(":", 1)
    assert name == "cyberimage"
    assert tag.startswith(f"{project_table()['version']}-")


class TestImage:
    """What the Dockerfile says; building it takes a network and minutes."""

    TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    INSTRUCTIONS: ClassVar = [
        line.split(maxsplit=1) for line in TEXT.replace("\\\n", " ").splitlines() if re.match(r"[A-Z]+ ", line)
    ]

    def arguments(self, instruction: str) -> list[str]:
        return [rest for word, rest in self.INSTRUCTIONS if word == instruction]

    def test_user_is_the_one_of_the_pods(self) -> None:
        assert self.arguments("USER")[-1] == "1000:1000"

    def test_base_has_a_version_and_the_python_of_the_project(self) -> None:
        base = self.arguments("FROM")[0]

        assert re.match(r"python:3\.11-\S+ AS base$", base)

    def test_there_is_a_stage_for_each_device(self) -> None:
        stages = [line.rsplit(" AS ", 1)[1] for line in self.arguments("FROM") if " AS " in line]

        assert self.arguments("ARG") == ["DEVICE=cpu"]
        assert {"torch-cpu", "torch-cuda"} <= set(stages)
        assert self.arguments("FROM")[-1] == "torch-${DEVICE}"

    def test_every_installation_from_an_index_is_constrained(self) -> None:
        steps = [step for line in self.arguments("RUN") for step in re.findall(r"pip install [^&]*", line)]

        assert steps
        for step in steps:
            assert "--constraint constraints.txt" in step or step.startswith("pip install --no-deps .")

    def test_what_is_copied_is_sent_to_the_builder_and_is_no_test(self) -> None:
        allowed = [line.removeprefix("!") for line in self.ignored_lines() if line.startswith("!")]

        sources = {source for line in self.arguments("COPY") for source in line.split()[:-1]}
        assert sources == set(allowed)
        assert not any(source.startswith("tests") for source in sources)

    def test_nothing_else_is_sent_to_the_builder(self) -> None:
        lines = self.ignored_lines()

        assert lines[0] == "*"
        assert any(fnmatch.fnmatch("models/training", line) for line in lines)

    def test_command_is_the_installed_one(self) -> None:
        program, *_ = json.loads(self.arguments("CMD")[-1])

        assert program in project_table()["scripts"]

    def test_ray_of_the_manifests_is_allowed_by_the_project(self) -> None:
        (ray,) = [
            requirement
            for requirement in map(Requirement, project_table()["dependencies"])
            if requirement.name == "ray"
        ]

        for path in RAY_SERVICES:
            assert cluster_of(path)["rayVersion"] in ray.specifier

    @staticmethod
    def ignored_lines() -> list[str]:
        text = (PROJECT / ".dockerignore").read_text(encoding="utf-8")
        return [line for line in text.splitlines() if line and not line.startswith("#")]
