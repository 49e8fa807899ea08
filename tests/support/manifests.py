"""The manifests of k8s/ as `kubectl apply -k` would send them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "k8s"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def render(overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed, so no overlay can be rendered")
    command = [kubectl, "kustomize", FOLDER / "overlays" / overlay]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def objects(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in render(overlay) if each["kind"] == kind}


def ray_service(overlay: str) -> dict[str, Any]:
    """The RayService's specification."""
    (found,) = objects(overlay, "RayService").values()
    return found["spec"]


def serve_config(overlay: str) -> dict[str, Any]:
    return yaml.safe_load(ray_service(overlay)["serveConfigV2"])


def arguments(overlay: str) -> dict[str, Any]:
    """The application's settings."""
    (application,) = serve_config(overlay)["applications"]
    return application["args"]


def ray_groups(overlay: str) -> dict[str, dict[str, Any]]:
    """The groups of Ray pods by name, the head's first."""
    cluster = ray_service(overlay)["rayClusterConfig"]
    return {"head": cluster["headGroupSpec"], **{group["groupName"]: group for group in cluster["workerGroupSpecs"]}}


def ray_container(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    return container


def pod_templates(overlay: str) -> dict[str, dict[str, Any]]:
    """The template of every pod that an overlay leads to, by what makes it."""
    found = {f"ray/{name}": group["template"] for name, group in ray_groups(overlay).items()}
    for each in render(overlay):
        if each["kind"] in {"Job", "StatefulSet", "Deployment"}:
            found[f"{each['kind']}/{each['metadata']['name']}"] = each["spec"]["template"]
    return found


def environment(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in container.get("env", [])}


def mappings_in(data: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within, at any depth."""
    if isinstance(data, dict):
        yield data
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else []:
        yield from mappings_in(value)
