"""The machine's accelerator is found by what torch can really use, and what it cannot use has a reason."""

import sys
import types
from pathlib import Path

import pytest
import torch

from deployments import accelerator
from deployments.accelerator import NvidiaDriver, find_accelerator, find_accelerators, find_nvidia_driver, why_unusable

BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
OLD_CARD = (7, 0)


@pytest.fixture
def machine(monkeypatch):
    """Says what torch and the system answer."""

    def says(
        kind="cuda",
        *,
        available=True,
        capability=(8, 6),
        error=None,
        cuda="13.0",
        hip=None,
        xpu=None,
        driver=None,
        architecture="gfx1100",
        built_for=BUILT_FOR,
        cards=1,
    ):
        def init():
            if error:
                raise RuntimeError(error)

        device = torch.device(kind) if kind else None
        properties = types.SimpleNamespace(name="Card", total_memory=24 << 30, gcnArchName=architecture)
        monkeypatch.setattr(
            torch.accelerator,
            "current_accelerator",
            lambda check_available=False: device if available or not check_available else None,
        )
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: available)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: cards)
        for name, value in (("cuda", cuda), ("hip", hip), ("xpu", xpu)):
            monkeypatch.setattr(torch.version, name, value, raising=False)
        for module in (torch.cuda, torch.xpu):
            monkeypatch.setattr(module, "get_device_properties", lambda device=None: properties)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Card")
        monkeypatch.setattr(
            torch.cuda,
            "get_device_capability",
            lambda device=0: capability[device] if isinstance(capability, list) else capability,
        )
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 << 30)
        monkeypatch.setattr(accelerator, "find_nvidia_driver", lambda: driver)
        monkeypatch.setattr(accelerator, "_has_pci_display", lambda vendor: False)
        for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)

    return says


class TestAll:
    @pytest.mark.parametrize("kind", ["cuda", "xpu"])
    def test_each_card_of_the_machine(self, machine, monkeypatch, kind):
        machine(kind)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 3)
        sizes = {0: 24 << 30, 1: 12 << 30, 2: 8 << 30}
        monkeypatch.setattr(
            torch.get_device_module(kind),
            "get_device_properties",
            lambda index: types.SimpleNamespace(name="Card", total_memory=sizes[index]),
        )

        assert [card.total_bytes for card in find_accelerators()] == list(sizes.values())
        assert {card.kind for card in find_accelerators()} == {kind}

    def test_none_where_torch_can_use_none(self, machine):
        machine(available=False)
        assert find_accelerators() == ()


class TestFound:
    def test_a_card_of_nvidia(self, machine):
        machine()
        found = find_accelerator()

        assert (found.kind, found.name, found.total_bytes, found.capability) == ("cuda", "Card", 24 << 30, (8, 6))
        assert found.has_bfloat16
        assert why_unusable() is None

    def test_a_card_without_native_bfloat16(self, machine):
        machine(capability=(7, 5))

        assert not find_accelerator().has_bfloat16

    def test_a_card_of_amd_has_no_cuda_capability(self, machine):
        machine(hip="7.0", cuda=None, built_for=["gfx942", "gfx1100"], architecture="gfx1100:sramecc+:xnack-")
        found = find_accelerator()

        assert (found.kind, found.capability, found.has_bfloat16) == ("cuda", None, True)

    @pytest.mark.parametrize(("kind", "total_bytes"), [("xpu", 24 << 30), ("mps", 12 << 30)])
    def test_other_makers(self, machine, kind, total_bytes):
        machine(kind, cuda=None)
        found = find_accelerator()

        assert (found.kind, found.total_bytes, found.capability) == (kind, total_bytes, None)

    def test_all_that_the_build_has_code_for(self, machine):
        machine(capability=[OLD_CARD, (8, 6), (9, 0)], cards=3)

        assert [found.capability for found in find_accelerators()] == [(8, 6), (9, 0)]
        assert find_accelerator() == find_accelerators()[0]

    def test_none(self, machine):
        machine(None, cuda=None)

        assert find_accelerator() is None
        assert why_unusable() is None

    @pytest.mark.parametrize(
        ("capability", "built_for"),
        [
            ((8, 9), ["sm_86"]),  # machine code runs on later cards of its generation
            ((9, 0), ["sm_80", "compute_80"]),  # an intermediate form is compiled for every later card
            ((10, 3), ["sm_100f"]),
            ((12, 0), []),  # a build that does not say what it has code for
        ],
    )
    def test_code_of_another_version_that_runs_on_the_card(self, machine, capability, built_for):
        machine(capability=capability, built_for=built_for)

        assert find_accelerator() is not None


class TestUnusable:
    def test_a_driver_too_old_for_the_build(self, machine):
        machine(available=False, error="too old", driver=NvidiaDriver("535.183.01", ("NVIDIA L4",)))

        assert find_accelerator() is None
        reason = why_unusable()
        assert reason.startswith("The NVIDIA driver 535.183.01 is too old for torch ")
        assert "(CUDA 13.0), which needs driver 580 or newer; update the driver, or install a build for it" in reason
        assert "whl/cu126" in reason

    def test_a_driver_too_old_for_every_build(self, machine):
        machine(available=False, error="too old", driver=NvidiaDriver("470.256.02"))

        assert why_unusable().endswith("needs driver 580 or newer; update the driver.")

    def test_a_card_too_old_for_the_build(self, machine):
        machine(capability=OLD_CARD, driver=NvidiaDriver("580.95.05"))

        assert find_accelerator() is None
        reason = why_unusable()
        assert reason.startswith("Card (capability 7.0), driver 580.95.05, is not among the cards that torch ")
        assert "sm_75, sm_80" in reason
        assert "whl/cu126" in reason

    def test_a_card_too_old_for_every_build(self, machine):
        machine(capability=(3, 5))

        assert why_unusable().endswith("use a newer card.")

    def test_machine_code_of_a_later_card_of_the_same_generation(self, machine):
        machine(capability=(8, 0), built_for=["sm_86", "sm_90"])

        assert find_accelerator() is None

    def test_a_card_of_amd_that_the_build_has_no_code_for(self, machine):
        machine(hip="7.0", cuda=None, built_for=["gfx942"], architecture="gfx1032")

        assert find_accelerator() is None
        assert "Card (gfx1032) is not among the cards" in why_unusable()
        assert "HSA_OVERRIDE_GFX_VERSION" in why_unusable()

    def test_a_card_that_does_not_start(self, machine):
        machine(error="CUDA-capable device(s) is/are busy or unavailable\nmore", driver=NvidiaDriver("580.1", ("L4",)))

        assert find_accelerator() is None
        assert "L4 (driver 580.1) is there, but torch" in why_unusable()
        assert "cannot start it: CUDA-capable device(s) is/are busy or unavailable. In a container" in why_unusable()

    def test_a_variable_that_hides_it(self, machine, monkeypatch):
        machine(available=False, error="No CUDA GPUs are available", driver=NvidiaDriver("580.1"))
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")

        assert 'CUDA_VISIBLE_DEVICES is "-1", which hides every GPU' in why_unusable()

    def test_a_build_for_the_cpu(self, machine):
        machine(None, cuda=None, driver=NvidiaDriver("580.1", ("NVIDIA L4",)))

        assert why_unusable().startswith("NVIDIA L4 (driver 580.1) is there, but torch ")
        assert "is a build for the CPU" in why_unusable()

    def test_a_driver_that_does_not_work(self, machine):
        machine(available=False, error="x", driver=NvidiaDriver("580.1", problem="Driver/library version mismatch"))

        assert why_unusable() == (
            "The NVIDIA driver 580.1 does not work, as nvidia-smi says: Driver/library version mismatch"
        )

    def test_a_card_without_a_driver(self, machine, monkeypatch):
        machine(available=False, error="x")
        monkeypatch.setattr(accelerator, "_has_pci_display", lambda vendor: vendor == "0x10de")

        assert why_unusable().startswith("An NVIDIA card is there, but no driver for torch ")


class TestDriver:
    def program(self, folder: Path, monkeypatch, text: str, status: int = 0) -> None:
        program = folder / "nvidia-smi"
        program.write_text(f"#!{sys.executable}\nprint({text!r})\nraise SystemExit({status})\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    def kernel_module(self, root: Path) -> None:
        file = root / "proc/driver/nvidia/version"
        file.parent.mkdir(parents=True)
        file.write_text(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (me@host)\n"
            "GCC version:  gcc version 12.2.0\n"
        )

    def test_and_its_cards(self, tmp_path, monkeypatch):
        self.program(tmp_path, monkeypatch, "535.183.01, NVIDIA L4\n535.183.01, NVIDIA A100, 80GB")

        assert find_nvidia_driver(tmp_path) == NvidiaDriver("535.183.01", ("NVIDIA L4", "NVIDIA A100, 80GB"))
        assert find_nvidia_driver(tmp_path).major == 535

    def test_of_the_kernel_where_there_is_no_program(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        self.kernel_module(tmp_path)

        assert find_nvidia_driver(tmp_path) == NvidiaDriver("580.65.06")

    def test_that_does_not_answer(self, tmp_path, monkeypatch):
        self.program(tmp_path, monkeypatch, "Failed to initialize NVML:\n Driver/library version mismatch", status=18)
        self.kernel_module(tmp_path)

        problem = "Failed to initialize NVML: Driver/library version mismatch"
        assert find_nvidia_driver(tmp_path) == NvidiaDriver("580.65.06", problem=problem)

    def test_that_is_not_there(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))

        assert find_nvidia_driver(tmp_path) is None


def test_without_a_gpu_nothing_is_limited_or_emptied():
    accelerator.empty_cache()
    accelerator.empty_host_cache()
    accelerator.limit_memory(0.5)
    assert accelerator.free_bytes() is None
