"""The files of k8s/: what Kubernetes would refuse or drop, and what must not be in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.manifests import FOLDER, PROJECT, each_overlay, mappings_in, objects, pod_templates, render

SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = ("1.31", "1.37")
SECRET_NAME = re.compile(r"token|password|passwd|secret|api_?key|access_?key|credential", re.IGNORECASE)
GUIDE = (PROJECT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


def problems_of(manifest: dict[str, Any]) -> list[str]:
    """What the schemas of the custom resources, or else those of Kubernetes itself, say against an object."""
    schema = SCHEMAS / f"{manifest['kind'].lower()}-{manifest['apiVersion'].rpartition('/')[2]}.json"
    if schema.is_file():
        validator = jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest)]
    try:
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


def test_every_file_belongs_to_a_kustomization() -> None:
    listed: set[Path] = set()
    for path in FOLDER.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = [*kustomization.get("resources", []), *kustomization.get("components", [])]
        names += [patch["path"] for patch in kustomization.get("patches", [])]
        names += [name for made in kustomization.get("configMapGenerator", []) for name in made["files"]]
        listed |= {(path.parent / name).resolve() for name in names} | {path}

    files = {path for path in FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files - listed == {FOLDER / "Dockerfile", FOLDER / "README.md"}
    assert all(path.exists() for path in listed)


@each_overlay
def test_objects_are_as_their_schemas_want_them(overlay: str) -> None:
    problems = {f"{each['kind']}/{each['metadata']['name']}": problems_of(each) for each in render(overlay)}

    assert {name: found for name, found in problems.items() if found} == {}


@each_overlay
def test_pods_are_as_kubernetes_wants_them(overlay: str) -> None:
    for name, template in pod_templates(overlay).items():
        assert problems_of({"apiVersion": "v1", "kind": "PodTemplate", "template": template}) == [], name


@pytest.mark.parametrize(
    ("kind", "api_version", "where"),
    [
        ("RayService", "ray.io/v1", ("spec", "rayClusterConfig", "headGroupSpec")),
        ("PodMonitor", "monitoring.coreos.com/v1", ("spec", "podMetricsEndpoints", 0)),
        ("PrometheusRule", "monitoring.coreos.com/v1", ("spec", "groups", 0, "rules", 0)),
        ("NetworkPolicy", "networking.k8s.io/v1", ("spec",)),
    ],
)
def test_misspelled_key_is_told(kind: str, api_version: str, where: tuple[str | int, ...]) -> None:
    manifest = json.loads(json.dumps(next(iter(objects("production", kind).values()))))
    assert manifest["apiVersion"] == api_version
    place = manifest
    for key in where:
        place = place[key]
    place["mispelled"] = True

    (problem,) = problems_of(manifest)

    assert "mispelled" in problem


@each_overlay
def test_objects_are_in_the_namespace_of_the_guide(overlay: str) -> None:
    assert {each["metadata"]["namespace"] for each in render(overlay)} == {"cyberimage"}


@each_overlay
def test_no_secret_is_written_out(overlay: str) -> None:
    for mapping in mappings_in(render(overlay)):
        if SECRET_NAME.search(str(mapping.get("name", ""))):
            assert "value" not in mapping, f"{mapping['name']}: use valueFrom.secretKeyRef"
    text = yaml.safe_dump(render(overlay))
    assert not re.search(r"hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|://[^/\s]+:[^/\s]+@", text)


@each_overlay
def test_guide_says_how_to_make_each_secret(overlay: str) -> None:
    for mapping in mappings_in(render(overlay)):
        if reference := mapping.get("secretKeyRef"):
            commands = re.findall(rf"create secret generic {reference['name']} (.*?[^\\])\n", GUIDE, re.DOTALL)
            assert commands
            assert all(f"--from-literal={reference['key']}=" in command for command in commands)


@each_overlay
def test_volumes_are_claimed_and_mounts_have_volumes(overlay: str) -> None:
    claims = objects(overlay, "PersistentVolumeClaim")
    maps = objects(overlay, "ConfigMap")
    for name, template in pod_templates(overlay).items():
        pod = template["spec"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps
        if not name.startswith("StatefulSet/"):
            mounted = {mount["name"] for each in pod["containers"] for mount in each.get("volumeMounts", [])}
            assert mounted == set(volumes), name


@each_overlay
def test_pods_are_not_root_and_may_do_nothing_special(overlay: str) -> None:
    for name, template in pod_templates(overlay).items():
        context = template["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        if name.startswith("ray/") or "warm-up" in name:
            assert context["fsGroup"] == context["runAsUser"] == 1000
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@each_overlay
def test_only_the_autoscaler_may_ask_kubernetes(overlay: str) -> None:
    may = {
        name for name, template in pod_templates(overlay).items() if template["spec"]["automountServiceAccountToken"]
    }

    assert may == ({"ray/head"} if overlay == "production" else set())


@each_overlay
def test_memory_is_requested_as_it_is_limited(overlay: str) -> None:
    for name, template in pod_templates(overlay).items():
        for container in template["spec"]["containers"]:
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert requests["memory"] == limits["memory"], f"{name}: more than requested is taken back by killing"
            assert requests.get("nvidia.com/gpu") == limits.get("nvidia.com/gpu")


@each_overlay
def test_images_have_fixed_versions(overlay: str) -> None:
    for template in pod_templates(overlay).values():
        for container in template["spec"]["containers"]:
            assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", container["image"])


class TestNetworkPolicies:
    @each_overlay
    def test_every_pod_has_one(self, overlay: str) -> None:
        selectors = [each["spec"]["podSelector"]["matchLabels"] for each in objects(overlay, "NetworkPolicy").values()]

        for name, template in pod_templates(overlay).items():
            labels = template["metadata"]["labels"]
            assert any(selector.items() <= labels.items() for selector in selectors), name

    @each_overlay
    def test_labels_that_let_others_in_are_in_the_guide(self, overlay: str) -> None:
        for mapping in mappings_in(list(objects(overlay, "NetworkPolicy").values())):
            for key, value in mapping.get("namespaceSelector", {}).get("matchLabels", {}).items():
                assert f"{key}={value}" in GUIDE

    @each_overlay
    def test_credentials_of_the_machine_are_out_of_reach(self, overlay: str) -> None:
        for rule in objects(overlay, "NetworkPolicy")["cyberimage"]["spec"]["egress"]:
            inside = "to" in rule
            assert inside or 80 not in [port["port"] for port in rule["ports"]]

    def test_production_reaches_its_database_and_its_redis(self) -> None:
        egress = objects("production", "NetworkPolicy")["cyberimage"]["spec"]["egress"]
        reached = {
            (rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"], rule["ports"][0]["port"])
            for rule in egress
            if "to" in rule and "ports" in rule
        }

        assert reached == {("cyberimage-postgresql", 5432), ("cyberimage-redis", 6379)}


class TestDisruptionBudget:
    BUDGET_OF = "cyberimage-edge"

    def test_keeps_a_number_of_pods_that_leaves_one_to_drain(self) -> None:
        budget = objects("production", "PodDisruptionBudget")[self.BUDGET_OF]["spec"]
        (replicas,) = [
            group["minReplicas"]
            for group in next(iter(objects("production", "RayService").values()))["spec"]["rayClusterConfig"][
                "workerGroupSpecs"
            ]
            if budget["selector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()
        ]

        assert isinstance(budget["minAvailable"], int)
        assert 0 < budget["minAvailable"] < replicas
