"""The facts of this machine are read as they are."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deployments import accelerator
from deployments.doctor.facts.gpus import Gpu, GpuUser, find_nvidia_gpus
from deployments.doctor.facts.machine import (
    look_at_machine,
    look_at_memory,
    look_at_open_files,
    look_at_torch,
    look_at_volume,
)
from deployments.doctor.facts.ports import look_at_port
from tests.support.ports import free_port

MIB = 2**20
# What nvidia-smi prints, by how its question begins.
TWO_CARDS = {
    "gpu": "GPU-a, 0, NVIDIA GeForce RTX 4090, 8.9, 24564, 4000\nGPU-b, 1, Tesla V100-PCIE-16GB, 7.0, 16384, 16300\n",
    "compute-apps": "GPU-a, 4711, /usr/bin/python3, 19000\nGPU-a, 4712, ray::ServeReplica, [N/A]\n",
}


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of that name on the PATH, which prints the given answers and ends with a status."""

    def install(answers: dict[str, str], status: int = 0) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nanswers = {json.dumps(answers)}\n"
            "known = [begin for begin in answers if sys.argv[1].startswith(f'--query-{begin}')]\n"
            f"print(answers[max(known, key=len)] if known else '', end='')\nsys.exit({status})\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


class TestGpus:
    def test_are_those_of_the_driver_with_who_uses_them(self, nvidia_smi):
        nvidia_smi(TWO_CARDS)

        assert find_nvidia_gpus() == (
            Gpu(
                0,
                "NVIDIA GeForce RTX 4090",
                (8, 9),
                24564 * MIB,
                4000 * MIB,
                (GpuUser(4711, "python3", 19000 * MIB), GpuUser(4712, "ray::ServeReplica", None)),
            ),
            Gpu(1, "Tesla V100-PCIE-16GB", (7, 0), 16384 * MIB, 16300 * MIB),
        )

    def test_are_there_although_the_driver_does_not_describe_them(self, nvidia_smi):
        nvidia_smi({"gpu": "GPU-a, 0, NVIDIA GB10, [N/A], [N/A], [N/A]\n", "compute-apps": "GPU-a, [N/A], a, [N/A]\n"})

        assert find_nvidia_gpus() == (Gpu(0, "NVIDIA GB10", None, None, None),)

    @pytest.mark.parametrize("status", [0, 9])
    def test_are_none_where_the_driver_fails(self, nvidia_smi, status):
        nvidia_smi({"gpu": "Failed to initialize NVML: Driver/library version mismatch\n"}, status)

        assert find_nvidia_gpus() == ()

    def test_are_none_without_a_driver(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))

        assert find_nvidia_gpus() == ()


class TestPorts:
    def test_that_nobody_has(self):
        found = look_at_port(free_port())

        assert (found.holder, found.failure) == ("", "")

    @pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
    def test_that_a_process_has_names_it(self, address):
        with socket.socket() as listener:
            listener.bind((address, 0))
            listener.listen()
            found = look_at_port(listener.getsockname()[1])

        assert "(process " in found.holder
        assert (found.is_rays, found.is_own) == (False, True)

    def test_that_a_process_of_ray_has(self):
        program = (
            "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
        )
        with subprocess.Popen(
            ["ray::ProxyActor", "-c", program],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            found = look_at_port(int(process.stdout.readline()))
            process.communicate("\n")

        assert found.is_rays
        assert str(process.pid) in found.holder


class TestMemory:
    def test_is_the_machines(self):
        memory = look_at_memory()

        assert 0 < memory.available <= memory.total

    @pytest.mark.parametrize(
        ("limit", "use"),
        [
            ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
        ],
    )
    def test_is_what_a_container_may_have(self, tmp_path, limit, use):
        for name, content in ((limit, 512 * MIB), (use, 500 * MIB)):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")
        memory = look_at_memory(tmp_path)

        assert (memory.total, memory.available) == (512 * MIB, 12 * MIB)

    def test_is_the_machines_where_a_container_has_no_limit(self, tmp_path):
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")

        assert look_at_memory(tmp_path).total == look_at_memory().total


class TestVolumes:
    def test_of_a_folder_that_is_not_there_yet_are_those_of_its_parent(self, tmp_path):
        found = look_at_volume(tmp_path / "a" / "b")

        assert (found.total, found.is_writable) == (look_at_volume(tmp_path).total, True)
        assert not (tmp_path / "a").exists()

    def test_that_cannot_be_written(self):
        assert not look_at_volume(Path("/proc/sys")).is_writable


@pytest.mark.parametrize(("soft", "hard", "found"), [(256, 256, 256), (256, 1024, 1024)])
def test_open_files_are_as_many_as_ray_gets(soft, hard, found):
    program = "from deployments.doctor.facts.machine import look_at_open_files as look; print(look())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout) == found


def test_open_files_without_a_limit(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))

    assert look_at_open_files() == 65536


def test_torch_is_the_installed_one():
    found = look_at_torch()

    assert (found.version, found.failure) == (torch.__version__, "")


def test_torch_of_a_driver_that_is_too_old(nvidia_smi, monkeypatch):
    nvidia_smi({**TWO_CARDS, "gpu=driver_version": "535.183.01, Tesla V100-PCIE-16GB\n"})
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    found = look_at_torch()

    assert found.platform == "CUDA 13.0"
    assert found.why_unusable.startswith("The NVIDIA driver 535.183.01 is too old for torch ")


def test_torch_beside_a_card_without_a_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(accelerator, "_has_pci_display", lambda vendor: True)

    assert look_at_torch().why_unusable.startswith("An NVIDIA card is there, but no driver for torch ")


def test_torch_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)

    assert "ModuleNotFoundError" in look_at_torch().failure


def test_a_whole_machine_is_looked_at(tmp_path):
    machine = look_at_machine(tmp_path / "data", free_port())

    assert machine.python == sys.version_info[:3]
    assert not (tmp_path / "data").exists()
