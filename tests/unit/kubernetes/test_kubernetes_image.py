"""The Dockerfile of k8s/; building it takes a network and minutes."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from typing import Any

from packaging.requirements import Requirement

from tests.support.manifests import FOLDER, OVERLAYS, PROJECT, each_overlay, pod_templates, ray_service

TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [line.split(maxsplit=1) for line in TEXT.replace("\\\n", " ").splitlines() if re.match(r"[A-Z]+ ", line)]


def arguments(instruction: str) -> list[str]:
    return [rest for word, rest in INSTRUCTIONS if word == instruction]


def project_table() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def ignored_lines() -> list[str]:
    text = (PROJECT / ".dockerignore").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_user_is_the_one_of_the_pods() -> None:
    assert arguments("USER")[-1] == "1000:1000"


def test_base_has_a_version_and_the_python_of_the_project() -> None:
    assert re.match(r"python:3\.11-\S+ AS base$", arguments("FROM")[0])


def test_there_is_a_stage_for_each_device() -> None:
    stages = [line.rsplit(" AS ", 1)[1] for line in arguments("FROM") if " AS " in line]

    assert arguments("ARG") == ["DEVICE=cpu"]
    assert {"torch-cpu", "torch-cuda"} <= set(stages)
    assert arguments("FROM")[-1] == "torch-${DEVICE}"


def test_every_installation_from_an_index_is_constrained() -> None:
    steps = [step for line in arguments("RUN") for step in re.findall(r"pip install [^&]*", line)]

    assert steps
    for step in steps:
        assert "--constraint constraints.txt" in step or step.startswith("pip install --no-deps .")


def test_what_is_copied_is_sent_to_the_builder_and_is_no_test() -> None:
    allowed = [line.removeprefix("!") for line in ignored_lines() if line.startswith("!")]

    sources = {source for line in arguments("COPY") for source in line.split()[:-1]}
    assert sources == set(allowed)
    assert not any(source.startswith("tests") for source in sources)


def test_nothing_else_is_sent_to_the_builder() -> None:
    assert ignored_lines()[0] == "*"
    assert any(fnmatch.fnmatch("models/training", line) for line in ignored_lines())


def test_command_is_the_installed_one() -> None:
    program, *_ = json.loads(arguments("CMD")[-1])

    assert program in project_table()["scripts"]


@each_overlay
def test_pods_have_the_image_of_this_version_for_their_device(overlay: str) -> None:
    device = "cpu" if overlay == "cpu" else "cuda"
    images = {
        container["image"]
        for name, template in pod_templates(overlay).items()
        for container in template["spec"]["containers"]
        if name.startswith("ray/") or "warm-up" in name
    }

    assert images == {f"cyberimage:{project_table()['version']}-{device}"}


def test_ray_of_the_manifests_is_allowed_by_the_project() -> None:
    (ray,) = [each for each in map(Requirement, project_table()["dependencies"]) if each.name == "ray"]

    for overlay in OVERLAYS:
        assert ray_service(overlay)["rayClusterConfig"]["rayVersion"] in ray.specifier
