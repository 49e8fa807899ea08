"""The Job that fills the model cache: it fetches what the replicas would."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deployments.catalog.catalog import Catalog, load_catalog
from tests.support.manifests import FOLDER, PROJECT, arguments, environment, objects, ray_container, ray_groups

each_cached_overlay = pytest.mark.parametrize("overlay", ["one-gpu", "production"])


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER / "components" / "model-cache")
    return importlib.import_module("warm_up")


def catalog(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    return load_catalog(path, {})


def job(overlay: str) -> dict[str, Any]:
    return objects(overlay, "Job")["cyberimage-warm-up"]["spec"]["template"]["spec"]


def test_fetches_pipelines_as_they_are_loaded(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "t")
    models = catalog(
        tmp_path,
        "models:\n  a: {repo: owner/a, revision: v1, variant: fp16, token_env: HF_TOKEN}\n"
        "  b: {repo: shapes, source: builtin}\n",
    )

    (found,) = script.downloads(models)

    assert (found.model_id, found.repo, found.is_pipeline) == ("a", "owner/a", True)
    assert found.arguments == {"revision": "v1", "variant": "fp16", "token": "t", "use_safetensors": True}


def test_fetches_loras_and_controlnets_too(script: ModuleType, tmp_path: Path) -> None:
    models = catalog(
        tmp_path,
        "models:\n  a:\n    repo: owner/a\n    controlnet: {repo: owner/edges}\n"
        "    loading: {loras: [{repo: owner/style, weight_name: s.safetensors}]}\n",
    )

    found = {each.repo: each.arguments.get("allow_patterns") for each in script.downloads(models)}

    assert found == {
        "owner/a": None,
        "owner/style": ["s.safetensors"],
        "owner/edges": ["*.json", "*.safetensors"],
    }


def test_goes_on_after_what_cannot_be_had_and_tells_it(script: ModuleType, tmp_path: Path) -> None:
    models = catalog(tmp_path, "models:\n  a: {repo: owner/gated}\n  b: {repo: owner/b}\n")
    fetched = []

    def fetch(download: Any) -> None:
        if "gated" in download.repo:
            raise OSError("403 Client Error:\n accept the licence")
        fetched.append(download.repo)

    assert script.warm_up(models, fetch) == ["a: owner/gated: 403 Client Error: accept the licence"]
    assert fetched == ["owner/b"]


@each_cached_overlay
def test_reads_the_catalog_of_the_service_into_the_cache_of_the_replicas(overlay: str) -> None:
    warm_up = job(overlay)
    (container,) = warm_up["containers"]
    of_job = environment(container)

    assert of_job["CYBERIMAGE_CATALOG"]["value"] == arguments(overlay)["catalog"]
    for group in ray_groups(overlay).values():
        replica = ray_container(group)
        if "nvidia.com/gpu" in replica["resources"]["limits"]:
            assert environment(replica)["HF_HOME"] == of_job["HF_HOME"]
            assert environment(replica)["HF_TOKEN"] == of_job["HF_TOKEN"]
            (mount,) = [each for each in replica["volumeMounts"] if each["mountPath"] == of_job["HF_HOME"]["value"]]
            (volume,) = [each for each in group["template"]["spec"]["volumes"] if each["name"] == mount["name"]]
            assert volume in warm_up["volumes"]


@each_cached_overlay
def test_volume_can_be_where_its_pods_are(overlay: str) -> None:
    (modes,) = [
        claim["spec"]["accessModes"]
        for name, claim in objects(overlay, "PersistentVolumeClaim").items()
        if name == "cyberimage-models"
    ]

    if overlay == "one-gpu":
        assert job(overlay)["nodeSelector"] == ray_groups(overlay)["gpu"]["template"]["spec"]["nodeSelector"]
    else:
        assert modes == ["ReadWriteMany"]


@each_cached_overlay
def test_runs_the_script_that_it_mounts(overlay: str) -> None:
    (container,) = job(overlay)["containers"]
    script = Path(container["command"][-1])

    assert str(script.parent) in [mount["mountPath"] for mount in container["volumeMounts"]]
    text = (FOLDER / "components" / "model-cache" / script.name).read_text(encoding="utf-8")
    assert objects(overlay, "ConfigMap")["cyberimage-warm-up"]["data"] == {script.name: text}
    assert (PROJECT / "configs").is_dir()
