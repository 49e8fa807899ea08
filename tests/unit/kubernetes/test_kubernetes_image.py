"""The Dockerfile of k8s/; building it takes a network and minutes."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.manifests import FOLDER, OVERLAYS, PROJECT, each_overlay, pod_templates, ray_service

TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = [line.split(maxsplit=1) for line in TEXT.replace("\\\n", " ").splitlines() if re.match(r"[A-Z]+ ", line)]


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, by its name; the last one's is empty."""
    found: dict[str, list[str]] = {}
    for word, rest in INSTRUCTIONS:
        if word == "FROM":
            found[rest.partition(" AS ")[2]] = lines = []
        elif found:
            lines.append(f"{word} {rest}")
    return found


STAGES = stages()


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
    assert arguments("ARG") == ["DEVICE=cpu", "TORCH_INDEX=https://pypi.org/simple"]
    assert {"torch-cpu", "torch-cuda"} <= set(STAGES)
    assert arguments("FROM")[-1] == "torch-${DEVICE}"


def test_only_the_stage_for_cuda_has_compilers_and_packages_for_gpus() -> None:
    compilers = {stage for stage, lines in STAGES.items() if re.search(r"apt-get install.*\bgcc\b", " ".join(lines))}
    quantization = {stage for stage, lines in STAGES.items() if "/requirements/cuda.txt" in " ".join(lines)}

    assert compilers == quantization == {"torch-cuda"}


def test_what_a_step_borrows_from_another_stage_is_there() -> None:
    mounts = [mount for line in arguments("RUN") for mount in re.findall(r"--mount=type=bind,from=([\w-]+)", line)]

    assert set(mounts) == {"requirements", "wheel"}
    assert set(mounts) < set(STAGES)


def test_every_installation_from_an_index_is_constrained() -> None:
    steps = [step for line in arguments("RUN") for step in re.findall(r"pip install [^&]*", line)]

    assert steps
    for step in steps:
        assert "--constraint constraints.txt" in step or step.strip().endswith("--no-deps /wheels/*.whl")


def test_no_step_leaves_a_cache_behind() -> None:
    for line in arguments("RUN"):
        assert "pip " not in line or "--no-cache-dir" in line
        assert "apt-get" not in line or "rm -rf /var/lib/apt/lists/*" in line


def test_requirements_are_those_of_the_project(tmp_path: Path) -> None:
    (step,) = [line for line in STAGES["requirements"] if line.startswith("RUN python ")]
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", step.removeprefix("RUN ")], cwd=tmp_path, env=environment, check=True)

    table = project_table()
    assert (tmp_path / "all.txt").read_text().splitlines() == table["dependencies"]
    assert (tmp_path / "cuda.txt").read_text().splitlines() == table["optional-dependencies"]["quantization"]


def test_what_the_extra_for_cuda_brings_has_a_tested_version() -> None:
    pinned = {line.partition("==")[0] for line in (PROJECT / "constraints.txt").read_text().splitlines()}

    assert {Requirement(each).name for each in project_table()["optional-dependencies"]["quantization"]} <= pinned


def test_labels_are_those_of_this_version() -> None:
    (labels,) = arguments("LABEL")
    values = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', labels))

    assert (values["version"], values["licenses"]) == (project_table()["version"], project_table()["license"])
    assert values["base.name"] == f"docker.io/library/{arguments('FROM')[0].partition(' ')[0]}"


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (503, False)])
def test_health_is_what_the_service_says_of_itself(status: int, is_healthy: bool) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    (line,) = arguments("HEALTHCHECK")
    _, *command = json.loads(line.partition("CMD ")[2])
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        environment = {**os.environ, "PORT": str(server.server_port)}
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=False)
        thread.join()

    assert asked == ["/health"]
    assert (done.returncode == 0) == is_healthy


def test_has_no_common_mistake() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if hadolint is None:
        assert not os.environ.get("CI"), "hadolint is not installed"
        pytest.skip("hadolint is not installed: make setup")
    done = subprocess.run([hadolint, "--no-color", FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("", 0)


def test_what_is_copied_is_sent_to_the_builder_and_is_no_test() -> None:
    allowed = [line.removeprefix("!") for line in ignored_lines() if line.startswith("!")]

    sources = {source for line in arguments("COPY") for source in line.split()[:-1]}
    assert sources == set(allowed)
    assert all((PROJECT / source).exists() for source in sources)
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
