"""What the doctor says of machines: of a good one, and of a bad one on which everything is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.accelerator import NvidiaDriver
from deployments.catalog.catalog import load_catalog
from deployments.doctor.checkup import OF_MACHINE, examine_models
from deployments.doctor.facts.gpus import Gpu, GpuUser
from deployments.doctor.facts.hub import Access, Hub, Repository
from deployments.doctor.facts.machine import Machine, Memory, Torch, Volume
from deployments.doctor.facts.ports import Port
from deployments.doctor.finding import Finding, Level
from tests.support.machines import BAD, CARD, GOOD

SILENT = Hub("https://huggingface.co", "Nobody asked it.", ())


def examine(machine: Machine) -> dict[str, Finding]:
    """All findings about a machine alone, by their checks."""
    return {finding.check: finding for check in OF_MACHINE for finding in check(machine)}


def of_models(machine: Machine, tmp_path: Path, *lines: str, hub: Hub = SILENT) -> list[Finding]:
    """What is wrong with the models of a catalog on a machine."""
    file = tmp_path / "catalog.yaml"
    file.write_text("\n".join(lines))
    findings = examine_models(machine, load_catalog(file, {}), hub)
    return [finding for finding in findings if finding.level is not Level.OK and finding.check != "hub"]


def test_a_good_machine_is_ok_in_every_line() -> None:
    assert {finding.level for finding in examine(GOOD).values()} == {Level.OK}


def test_a_bad_machine_has_what_mends_it_in_every_line() -> None:
    findings = examine(BAD)

    assert {check: finding.level for check, finding in findings.items()} == {
        "Python": "problem",
        "torch": "problem",
        "GPU 0": "problem",
        "GPU 1": "warning",
        "main memory": "warning",
        "shared memory": "warning",
        "open files": "warning",
        "disk of the data": "problem",
        "HTTP port": "problem",
        "Ray's ports": "warning",
    }
    for check, finding in findings.items():
        assert finding.remedy or check == "torch"


@pytest.mark.parametrize(
    ("check", "sentence", "remedy"),
    [
        ("Python", "3.10.12 is too old; 3.11 or newer is needed.", "PYTHON=python3.12"),
        ("torch", "The NVIDIA driver 535.183.01 is too old for torch 2.13.0+cu130", ""),
        (
            "GPU 0",
            "Tesla V100-PCIE-16GB, capability 7.0, driver 535.183.01: torch 2.13.0+cu130 has code for sm_75, ",
            "CUDA_VISIBLE_DEVICES",
        ),
        ("GPU 1", "4.0 GB of 24.0 GB are free; in use by python3 (process 4711, 19.0 GB).", "nvidia-smi"),
        ("main memory", "1.5 GB of 8.0 GB are available", "docker run --memory"),
        ("shared memory", "67 MB of 67 MB in /dev/shm are free", "docker run --shm-size 1g"),
        ("open files", "A process may open 1024", "ulimit -n 65536"),
        ("disk of the data", "30 MB of 50.0 GB at /srv/cyberimage are free.", "CYBERIMAGE_DATA_DIR="),
        ("HTTP port", "8000 is in use by nginx (process 812).", "PORT=8001 make run"),
        ("Ray's ports", "8265 by a process of another user, 6379 by redis-server (process 640)", "--dashboard-port"),
    ],
)
def test_each_fault_is_named_with_its_way_out(check: str, sentence: str, remedy: str) -> None:
    finding = examine(BAD)[check]

    assert sentence in finding.sentence
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("change", "check", "level", "sentence"),
    [
        ({"torch": Torch(failure="ImportError: libcudart.so.13")}, "torch", "problem", "ImportError: libcudart.so.13"),
        ({"torch": Torch("2.13.0+cpu")}, "torch", "ok", "2.13.0+cpu, built for the CPU, uses the CPU"),
        ({"driver": NvidiaDriver("")}, "GPU 0", "ok", "capability 8.9: 23.0 GB"),
        ({"gpus": (Gpu(0, "NVIDIA GB10", None, None, None),)}, "GPU 0", "ok", "the driver does not tell its memory."),
        ({"gpus": (replace(CARD, free_bytes=10**9),)}, "GPU 0", "warning", "processes that the driver does not name"),
        (
            {"gpus": (replace(CARD, free_bytes=10**9, users=(GpuUser(1, "ray::ServeReplica", None),)),)},
            "GPU 0",
            "ok",
            "1.0 GB of 24.0 GB are free.",
        ),
        ({"shared_memory": None}, "shared memory", "ok", "Ray does without"),
        (
            {"shared_memory": Volume(Path("/dev/shm"), 32 * 10**9, 10**8)},
            "shared memory",
            "warning",
            "100 MB of 32.0 GB",
        ),
        ({"memory": Memory(10**9, 10**9)}, "main memory", "warning", "1.0 GB of 1.0 GB"),
        ({"data": Volume(Path("/srv"), 10**11, 4 * 10**9)}, "disk of the data", "warning", "4.0 GB of 100.0 GB"),
        ({"data": Volume(Path("/srv"), 10**11, 10**11, False)}, "disk of the data", "problem", "cannot be written"),
        ({"ports": (Port(80, failure="Permission denied"),)}, "HTTP port", "problem", "80 cannot be used: Permission"),
        (
            {
                "ports": (
                    Port(8000, "ray::ProxyActor (process 5)", is_rays=True),
                    Port(8265, "ray (process 6)", is_rays=True),
                )
            },
            "HTTP port",
            "ok",
            "as where the service runs",
        ),
        (
            {"ports": (Port(8000), Port(8265, "ray::DashboardHead (process 6)", is_rays=True))},
            "Ray's ports",
            "ok",
            "In use by a cluster: 8265 by ray::DashboardHead (process 6).",
        ),
    ],
)
def test_one_fact_that_differs(change: dict, check: str, level: str, sentence: str) -> None:
    finding = examine(replace(GOOD, **change))[check]

    assert finding.level == level
    assert sentence in finding.sentence
    assert (finding.remedy == "") == (level == "ok")


def test_a_machine_whose_settings_are_wrong_has_no_data_folder() -> None:
    assert "disk of the data" not in examine(replace(GOOD, data=None))


class TestModels:
    @pytest.mark.parametrize(
        ("why_unusable", "level"), [("The driver is too old.", Level.PROBLEM), ("", Level.WARNING)]
    )
    def test_need_a_gpu(self, tmp_path, why_unusable, level):
        torch = replace(GOOD.torch, accelerator=None, why_unusable=why_unusable)
        (found,) = of_models(replace(GOOD, torch=torch), tmp_path, "models: {m: {repo: a/b}}")

        assert (found.check, found.level) == ("models on a GPU", level)
        assert "configs/cpu.yaml" in found.remedy

    def test_that_park_need_main_memory(self, tmp_path):
        lines = ("models: {m: {repo: a/b, pool: p}}", "pools: {p: {parked_memory: 96GiB}}")
        (found,) = of_models(GOOD, tmp_path, *lines)

        assert (found.level, found.remedy) == ("warning", "lower pools.p.parked_memory in the catalog")
        assert found.sentence == "Pool p may park 103.1 GB there, and this machine has 64.0 GB."

    def test_that_are_offloaded_need_main_memory(self, tmp_path):
        repository = Repository(
            "m", "a/b", None, "*/*.safetensors", None, "", False, True, access=Access.GRANTED, total_bytes=65 * 10**9
        )
        lines = ("models: {m: {repo: a/b, loading: {offload: model}}}",)
        (found,) = of_models(GOOD, tmp_path, *lines, hub=Hub("https://huggingface.co", "", (repository,)))

        assert (found.check, found.level) == ("models in main memory", "problem")
        assert found.sentence == "m keeps 65.0 GB there, by loading.offload, and this machine has 64.0 GB."
