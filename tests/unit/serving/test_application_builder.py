"""What the builder hands to Ray Serve, read without a cluster."""

import os
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve._private.build_app import build_app as flatten
from ray.serve.deployment import Deployment

from deployments.catalog.file import CatalogError
from deployments.settings.service import SettingsError
from serve.app import build_app

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("CYBERIMAGE_", "MODEL_"))]:
        monkeypatch.delenv(name)


def deployments_of(args: dict[str, Any]) -> dict[str, Deployment]:
    """The deployments by name, made as Ray Serve makes them of ``args:`` in its configuration."""
    application = call_user_app_builder_with_args_if_necessary(build_app, args)
    built = flatten(application, name="cyberimage", make_deployment_handle=lambda deployment, _: deployment.name)
    assert built.ingress_deployment_name == "Ingress"
    return {deployment.name: deployment for deployment in built.deployments}


def write_catalog(folder: Path, text: str) -> dict[str, Any]:
    """Arguments with a catalog of this text."""
    path = folder / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    return {"catalog": str(path), "data_dir": str(folder / "data")}


def shipped(name: str, tmp_path: Path) -> dict[str, Any]:
    """Arguments with one of the project's own catalogs."""
    return {"catalog": str(CONFIGS / name), "data_dir": str(tmp_path / "data")}


EARLIER_MODELS = {"flux-schnell", "flux-1", "sd-3.5", "sd-3.5-medium", "animagine-xl", "sana-sprint"}


@pytest.mark.parametrize(
    ("catalog", "models"),
    [
        ("cpu.yaml", {"shapes"}),
        ("gpu-8gb.yaml", {"realvis-xl", "animagine-xl", "sana-sprint", "flux2-klein"}),
        ("gpu.yaml", EARLIER_MODELS | {"z-image-turbo", "flux2-klein", "qwen-image", "realvis-xl"}),
        ("cluster.yaml", {"flux-schnell", "flux-1", "sana-sprint", "shapes"}),
    ],
)
def test_one_deployment_for_each_model_and_the_ingress(tmp_path: Path, catalog: str, models: set[str]) -> None:
    names = set(deployments_of(shipped(catalog, tmp_path)))

    assert names == {"Ingress"} | {f"model-{model}" for model in models}


def test_ingress_gets_a_handle_of_each_model_by_its_id(tmp_path: Path) -> None:
    _, catalog, handles = deployments_of(shipped("cluster.yaml", tmp_path))["Ingress"].init_args

    assert handles == {model_id: f"model-{model_id}" for model_id in catalog.models}


def test_options_of_the_ingress(tmp_path: Path) -> None:
    ingress = deployments_of({**shipped("cpu.yaml", tmp_path), "ingress_replicas": 3})["Ingress"]

    assert ingress.num_replicas == 3
    assert ingress.max_ongoing_requests == 10_000
    assert ingress.ray_actor_options == {"num_cpus": 0.1}


def test_options_of_a_model(tmp_path: Path) -> None:
    args = write_catalog(
        tmp_path,
        """
models:
  one:
    repo: owner/one
    max_batch: 4
    replicas:
      min: 1
      max: 8
      num_cpus: 2
      num_gpus: 0.5
      target_ongoing_requests: 3
      upscale_delay_s: 7
      downscale_delay_s: 120
      downscale_to_zero_delay_s: 300
      graceful_shutdown_timeout_s: 1200
""",
    )

    deployment = deployments_of(args)["model-one"]

    assert deployment.init_args[0] == "one"
    assert deployment.max_ongoing_requests == 8
    assert deployment.ray_actor_options == {"num_cpus": 2, "num_gpus": 0.5}
    assert deployment._deployment_config.graceful_shutdown_timeout_s == 1200
    autoscaling = deployment._deployment_config.autoscaling_config
    assert (autoscaling.min_replicas, autoscaling.max_replicas) == (1, 8)
    assert autoscaling.target_ongoing_requests == 3
    assert autoscaling.upscale_delay_s == 7
    assert (autoscaling.downscale_delay_s, autoscaling.downscale_to_zero_delay_s) == (120, 300)
    assert autoscaling.policy.policy_kwargs == {"num_gpus": 0.5}


def test_a_model_on_the_cpu_asks_for_no_gpu(tmp_path: Path) -> None:
    deployment = deployments_of(shipped("cpu.yaml", tmp_path))["model-shapes"]

    assert deployment.ray_actor_options == {"num_cpus": 1, "num_gpus": 0}


def test_a_replica_takes_more_than_its_batch_so_that_the_next_one_waits_there(tmp_path: Path) -> None:
    for name, deployment in deployments_of(shipped("gpu.yaml", tmp_path)).items():
        if name != "Ingress":
            entry = deployment.init_args[1]
            assert entry.max_batch < deployment.max_ongoing_requests == entry.most_ongoing_jobs


def test_models_of_a_pool_share_a_deployment_with_room_for_the_jobs_of_each(tmp_path: Path) -> None:
    args = write_catalog(
        tmp_path,
        """
models:
  own: {repo: owner/own}
  one: {repo: owner/one, pool: shared, max_batch: 4}
  two: {repo: owner/two, pool: shared, max_batch: 2}
pools:
  shared: {replicas: {min: 1, num_gpus: 0.5}, memory: 8GiB}
  unused: {}
""",
    )

    deployments = deployments_of(args)
    pool = deployments["pool-shared"]
    _, catalog, handles = deployments["Ingress"].init_args
    assert set(deployments) == {"Ingress", "model-own", "pool-shared"}
    assert handles == {"own": "model-own", "one": "pool-shared", "two": "pool-shared"}
    assert pool.init_args[:3] == ("shared", catalog.pools["shared"], catalog.members("shared"))
    assert pool.max_ongoing_requests == 2 * (4 + 2)
    assert pool.ray_actor_options == {"num_cpus": 1, "num_gpus": 0.5}


def test_a_model_of_a_variable_has_a_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_1", "mine;owner/mine;Mine;huggingface;false")

    assert "model-mine" in deployments_of(shipped("cpu.yaml", tmp_path))


def test_data_folders_are_made(tmp_path: Path) -> None:
    build_app(shipped("cpu.yaml", tmp_path))

    assert (tmp_path / "data" / "images").is_dir()


def test_unknown_argument_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        build_app({**shipped("cpu.yaml", tmp_path), "catalogue": "x"})

    assert str(caught.value) == "catalogue (CYBERIMAGE_CATALOGUE): unknown setting"


def test_typo_in_the_catalog_is_told_with_file_line_and_field(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        build_app(write_catalog(tmp_path, "models:\n  one:\n    repo: owner/one\n    max_bacth: 2\n"))

    assert str(caught.value) == (
        f'{tmp_path}/catalog.yaml:4: models.one.max_bacth: unknown field; did you mean "max_batch"?'
    )
    assert not (tmp_path / "data").exists()


def test_data_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("", encoding="utf-8")

    with pytest.raises(SettingsError) as caught:
        build_app(shipped("cpu.yaml", tmp_path))

    assert str(caught.value) == f"data_dir {tmp_path}/data: a file is in the place of a folder"
