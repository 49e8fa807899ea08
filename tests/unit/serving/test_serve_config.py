"""The shipped Ray Serve configuration, and the check that keeps it free of what Ray would drop silently."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deployments.catalog.catalog import load_catalog
from deployments.settings.service import load_settings
from tests.support.serve_schema import config_problems

PROJECT = Path(__file__).parents[3]
TEXT = (PROJECT / "serve_config.yaml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CYBERIMAGE_")]:
        monkeypatch.delenv(name)


def test_shipped_configuration_is_valid() -> None:
    assert config_problems(TEXT) == []


def test_shipped_catalog_is_valid() -> None:
    (application,) = yaml.safe_load(TEXT)["applications"]

    assert load_catalog(load_settings(application["args"]).catalog_path, {}).models


def test_listens_on_this_machine_only() -> None:
    assert yaml.safe_load(TEXT)["http_options"]["host"] == "127.0.0.1"


def test_import_path_is_a_function_and_imports_no_torch() -> None:
    (application,) = yaml.safe_load(TEXT)["applications"]
    program = (
        "import importlib, json, sys\n"
        "module, name = sys.argv[1].split(':')\n"
        "builder = getattr(importlib.import_module(module), name)\n"
        "heavy = [name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules]\n"
        "print(json.dumps({'callable': callable(builder), 'heavy': heavy}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, application["import_path"]],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == {"callable": True, "heavy": []}


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ("proxy_location:", "proxy_loaction:", "proxy_loaction: unknown key"),
        ("  host:", "  hots:", "http_options.hots: unknown key"),
        ("    route_prefix:", "    route_perfix:", "applications[0].route_perfix: unknown key"),
        (
            "    args:",
            "    deployments:\n      - {name: Ingress, max_ongoing_request: 5}\n    args:",
            "applications[0].deployments[0].max_ongoing_request: unknown key",
        ),
        (
            "    args:",
            "    deployments:\n      - {name: Ingress, ray_actor_options: {num_cpu: 1}}\n    args:",
            "applications[0].deployments[0].ray_actor_options.num_cpu: unknown key",
        ),
        (
            "    args:",
            "    deployments:\n      - {name: Ingress, autoscaling_config: {min_replica: 1}}\n    args:",
            "applications[0].deployments[0].autoscaling_config.min_replica: unknown key",
        ),
        ("      catalog:", "      catalogue:", "cyberimage: args: catalogue (CYBERIMAGE_CATALOGUE): unknown setting"),
        (
            "    args:",
            "    args:\n      queue: {limits: 5}",
            "cyberimage: args: queue.limits (CYBERIMAGE_QUEUE__LIMITS): unknown setting",
        ),
    ],
)
def test_misspelled_key_is_told(right: str, wrong: str, problem: str) -> None:
    assert right in TEXT

    assert config_problems(TEXT.replace(right, wrong, 1)) == [problem]


def test_wrong_value_is_told() -> None:
    (problem,) = config_problems(TEXT.replace("port: 8000", "port: eight", 1))

    assert problem.startswith("http_options.port: ")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("GpuShare", "module 'deployments.autoscaling' has no attribute 'GpuShare'"),
        (
            "GpuSharing\n      policy_kwargs: {gpu: 1}",
            "GpuSharing.__init__() got an unexpected keyword argument 'gpu'",
        ),
    ],
)
def test_a_policy_that_cannot_be_made_is_told(wrong: str, problem: str) -> None:
    assert config_problems(TEXT.replace("GpuSharing", wrong, 1)) == [f"cyberimage: autoscaling_policy: {problem}"]


def test_settings_and_runtime_environment_are_not_schemas_of_ray() -> None:
    text = TEXT.replace("    args:", "    runtime_env: {env_vars: {ANY_NAME: value}}\n    args:", 1)

    assert config_problems(text) == []
