"""The machine's accelerator: which one torch can use, and why it cannot use one that is there.

Torch is imported inside the functions, so that a program which only reads settings starts quickly.
"""

from __future__ import annotations

import os
import shutil
import subprocess  # nosec B404 - it runs the driver's own nvidia-smi
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS_WITH_STREAMS = ("cuda", "xpu")
"""Those that can copy beside the computation, from pinned memory."""

# The first driver that runs a CUDA toolkit of each major version:
# https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/index.html#cuda-driver
_FIRST_DRIVERS = {11: 450, 12: 525, 13: 580}
# The wheel of the same torch that runs on the oldest drivers and cards.
_OLDEST_BUILD_DRIVER = _FIRST_DRIVERS[12]
_OLDEST_BUILD_CAPABILITY = (5, 0)
_OLDEST_BUILD = "pip install torch --index-url https://download.pytorch.org/whl/cu126"
# Capability from which bfloat16 has instructions of its own; before that torch emulates it.
_FIRST_BFLOAT16 = (8, 0)
_FIRST_MACOS_WITH_BFLOAT16 = (14, 0)
# What a process takes of a GPU beside torch's allocator: the driver's context, the kernels' code, libraries' buffers.
_CONTEXT_BYTES = 512 << 20
_SMI_SECONDS = 20
_PCI_NVIDIA, _PCI_AMD, _PCI_INTEL = "0x10de", "0x1002", "0x8086"
_PCI_DISPLAY = "0x03"
_NO_DEVICES = ("", "-1", "none", "nodevfiles")


@dataclass(frozen=True)
class Accelerator:
    """A GPU that torch can use.

    Attributes:
        kind: The type of its torch device: ``cuda`` (NVIDIA, and AMD by ROCm), ``xpu`` or ``mps``.
        name: What its maker calls it, such as ``NVIDIA H100 80GB HBM3``.
        total_bytes: Its memory.
        capability: The CUDA compute capability; None for other makers' devices.
    """

    kind: str
    name: str
    total_bytes: int
    capability: tuple[int, int] | None

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes bfloat16 natively; where it does not, float16 is faster."""
        import torch  # noqa: PLC0415

        if self.kind == "mps":
            return bool(torch.backends.mps.is_macos_or_newer(*_FIRST_MACOS_WITH_BFLOAT16))
        if self.kind == "xpu":
            return torch.xpu.is_bf16_supported(including_emulation=False)
        return self.capability is None or self.capability >= _FIRST_BFLOAT16


@dataclass(frozen=True)
class NvidiaDriver:
    """The driver of NVIDIA's cards on this machine.

    Attributes:
        version: Such as ``580.95.05``; empty where it cannot be read.
        cards: The names of its cards; empty where nvidia-smi does not list them.
        problem: What nvidia-smi says where it fails; empty where it works.
    """

    version: str
    cards: tuple[str, ...] = ()
    problem: str = ""

    @property
    def major(self) -> int | None:
        """The number that NVIDIA's compatibility tables name."""
        number = self.version.partition(".")[0]
        return int(number) if number.isdigit() else None


def find_accelerator() -> Accelerator | None:
    """Find the first GPU of this process that torch can use: its driver works, and the build has code for it.

    To know, torch starts the GPU, which takes some of its memory until the process ends: a process that lives long and
    computes nothing asks in a child process.
    """
    return next(_find(), None)


def find_accelerators() -> tuple[Accelerator, ...]:
    """All GPUs of this process that torch can use, in torch's order; see :func:`find_accelerator`."""
    return tuple(_find())


def why_unusable() -> str | None:
    """Say in one sentence why torch cannot use a GPU that is there, and the way out.

    Returns:
        None where there is no GPU, or where it works.
    """
    import torch  # noqa: PLC0415

    if find_accelerator() is not None:
        return None
    if torch.version.hip is not None:
        return _why_no_amd_card()
    if getattr(torch.version, "xpu", None) is not None:
        return _why_no_intel_card()
    return _why_no_nvidia_card()


def find_nvidia_driver(root: Path = Path("/")) -> NvidiaDriver | None:
    """Ask nvidia-smi for the driver and its cards, or read the kernel module's version; None without a driver.

    Args:
        root: Of the file system.
    """
    loaded = _kernel_module_version(root / "proc/driver/nvidia/version")
    program = shutil.which("nvidia-smi")
    if program is None:
        return None if loaded is None else NvidiaDriver(loaded)
    command = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=False)  # noqa: S603 # nosec B603
    except (OSError, subprocess.TimeoutExpired) as error:
        return NvidiaDriver(loaded or "", problem=str(error))
    lines = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode or not lines:
        return NvidiaDriver(loaded or "", problem=" ".join((answer.stdout + answer.stderr).split()))
    return NvidiaDriver(lines[0].partition(", ")[0], tuple(line.partition(", ")[2] for line in lines))


def runs_on(capability: tuple[int, int], built_for: Iterable[str]) -> bool:
    """Whether a card of NVIDIA runs any of a build's code; a build that does not say what it has runs everywhere.

    Machine code (``sm_86``) runs on cards of the same major version and no smaller minor one; an intermediate form
    (``compute_90``) is compiled for every later card:
    https://docs.nvidia.com/cuda/cuda-programming-guide/01-introduction/cuda-platform.html

    Args:
        capability: Of the card.
        built_for: From ``torch.cuda.get_arch_list()``.
    """
    names = list(built_for)
    for name in names:
        kind, _, digits = name.rstrip("af").partition("_")
        version = (int(digits[:-1]), int(digits[-1]))
        if version <= capability and (kind == "compute" or version[0] == capability[0]):
            return True
    return not names


def free_bytes() -> int | None:
    """Free memory of the process's GPU, in bytes; None where there is none, or where it cannot be known."""
    import torch  # noqa: PLC0415

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return None
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info()[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return None


def empty_cache() -> None:
    """Give back to the driver what torch's allocator keeps of the GPU's memory; nothing where there is no GPU."""
    import torch  # noqa: PLC0415

    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def empty_host_cache() -> None:
    """Give back to the system the pinned main memory that torch's allocator keeps; nothing where there is no GPU."""
    import torch  # noqa: PLC0415

    empty = getattr(torch.accelerator, "empty_host_cache", None)  # older versions have none
    if empty is not None and torch.accelerator.is_available():
        empty()


def share_bytes(share: float) -> int | None:
    """The memory that a process with a share of its GPU may take, in bytes; None where there is no GPU.

    Args:
        share: Above 0 and at most 1. Of less than 1, what the driver takes for the process itself goes off.
    """
    found = find_accelerator()
    if found is None:
        return None
    return max(0, int(share * found.total_bytes) - (_CONTEXT_BYTES if share < 1 else 0))


def limit_memory(share: float) -> None:
    """Have torch allocate no more than a share of the process's GPU; where torch cannot limit it, this does nothing.

    Args:
        share: As for :func:`share_bytes`.
    """
    import torch  # noqa: PLC0415

    found, most = find_accelerator(), share_bytes(share)
    if found is None or most is None or share >= 1:
        return
    limit = getattr(torch.get_device_module(found.kind), "set_per_process_memory_fraction", None)
    if limit is not None:
        limit(most / found.total_bytes)


def _find() -> Iterator[Accelerator]:
    import torch  # noqa: PLC0415

    device = torch.accelerator.current_accelerator(check_available=True)
    if device is None or (device.type == "cuda" and _start_error() is not None):
        return
    for index in range(torch.accelerator.device_count()):
        if device.type == "mps":
            yield Accelerator("mps", "Apple GPU", int(torch.mps.recommended_max_memory()), None)
        elif device.type == "xpu":
            properties = torch.xpu.get_device_properties(index)
            yield Accelerator("xpu", str(properties.name), int(properties.total_memory), None)
        elif device.type == "cuda" and _unsupported_card(index) is None:
            name, memory = torch.cuda.get_device_name(index), torch.cuda.get_device_properties(index).total_memory
            capability = None if torch.version.hip else torch.cuda.get_device_capability(index)
            yield Accelerator("cuda", name, int(memory), capability)


def _unsupported_card(index: int = 0) -> str | None:
    """A card that torch sees and its build has no code for, in words; None if it has."""
    import torch  # noqa: PLC0415

    built_for = torch.cuda.get_arch_list()
    name = torch.cuda.get_device_name(index)
    if torch.version.hip:
        architecture = str(torch.cuda.get_device_properties(index).gcnArchName).partition(":")[0]
        is_known = not built_for or any(each == architecture or "generic" in each for each in built_for)
        return None if is_known else f"{name} ({architecture})"
    capability = torch.cuda.get_device_capability(index)
    return None if runs_on(capability, built_for) else f"{name} (capability {capability[0]}.{capability[1]})"


def _hiding_variable(names: Iterable[str]) -> str | None:
    """An environment variable that hides every GPU from this process, in a sentence."""
    for name in names:
        value = os.environ.get(name)
        if value is not None and value.strip().lower() in _NO_DEVICES:
            return f'The environment variable {name} is "{value}", which hides every GPU; unset it.'
    return None


def _why_no_nvidia_card() -> str | None:
    import torch  # noqa: PLC0415

    driver = find_nvidia_driver()
    if torch.version.cuda is None:
        return _why_no_gpu_build(driver)
    build = f"torch {torch.__version__} (CUDA {torch.version.cuda})"
    error = _start_error()
    if error is None:
        return _why_card_is_too_old(build, driver)
    if driver is None:
        return _why_no_nvidia_driver(build)
    needed = _FIRST_DRIVERS.get(int(torch.version.cuda.partition(".")[0]), 0)
    if driver.major is not None and driver.major < needed:
        other = f", or install a build for it: {_OLDEST_BUILD}" if driver.major >= _OLDEST_BUILD_DRIVER else ""
        return (
            f"The NVIDIA driver {driver.version} is too old for {build}, which needs driver {needed} or newer; "
            f"update the driver{other}."
        )
    if driver.problem:
        return f"The NVIDIA driver{_after_space(driver.version)} does not work, as nvidia-smi says: {driver.problem}"
    return _hiding_variable(["CUDA_VISIBLE_DEVICES"]) or (
        f"{_cards_in_words(driver)} is there, but {build} cannot start it: {error} In a container, start it "
        "with the GPU (docker run --gpus all); otherwise restart the machine."
    )


def _why_no_gpu_build(driver: NvidiaDriver | None) -> str | None:
    import torch  # noqa: PLC0415

    if driver is not None:
        return (
            f"{_cards_in_words(driver)} is there, but torch {torch.__version__} is a build for the CPU; install one "
            "for CUDA: pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130."
        )
    if Path("/dev/kfd").exists():
        return (
            f"An AMD GPU is there, but torch {torch.__version__} is a build for the CPU; install one for ROCm, see "
            "https://pytorch.org/get-started/locally."
        )
    return None


def _why_card_is_too_old(build: str, driver: NvidiaDriver | None) -> str:
    import torch  # noqa: PLC0415

    card = f"{_unsupported_card()}{f', driver {driver.version},' if driver is not None and driver.version else ''}"
    has_build = torch.cuda.get_device_capability(0) >= _OLDEST_BUILD_CAPABILITY
    return (
        f"{card} is not among the cards that {build} has code for: {', '.join(torch.cuda.get_arch_list())}; "
        f"{f'install a build that has it: {_OLDEST_BUILD}' if has_build else 'use a newer card'}."
    )


def _why_no_nvidia_driver(build: str) -> str | None:
    if Path("/dev/dxg").exists():
        return (
            f"Windows offers a GPU, but no NVIDIA driver for {build}; install NVIDIA's newest driver in Windows, and "
            "none in WSL."
        )
    if _has_pci_display(_PCI_NVIDIA):
        return (
            f"An NVIDIA card is there, but no driver for {build}; install NVIDIA's driver, or start the container "
            "with the GPU (docker run --gpus all)."
        )
    return None


def _why_no_amd_card() -> str | None:
    import torch  # noqa: PLC0415

    build = f"torch {torch.__version__} (ROCm {torch.version.hip})"
    error = _start_error()
    if error is None:
        return (
            f"{_unsupported_card()} is not among the cards that {build} has code for: "
            f"{', '.join(torch.cuda.get_arch_list())}; set HSA_OVERRIDE_GFX_VERSION to one of the same generation."
        )
    if Path("/dev/kfd").exists():
        return _hiding_variable(["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"]) or (
            f"An AMD GPU is there, but {build} cannot start it: {error} Add the user to the groups render "
            "and video, or update the driver."
        )
    if _has_pci_display(_PCI_AMD):
        return (
            f"An AMD GPU is there, but no compute driver (/dev/kfd) for {build}; install amdgpu, or start the "
            "container with --device /dev/kfd --device /dev/dri."
        )
    return None


def _why_no_intel_card() -> str | None:
    import torch  # noqa: PLC0415

    if not _has_pci_display(_PCI_INTEL):
        return None
    return (
        f"An Intel GPU is there, but torch {torch.__version__} cannot start it; install Intel's level-zero driver, or, "
        "in a container, start it with --device /dev/dri."
    )


def _start_error() -> str | None:
    """What the driver says when torch cannot start the GPU, as a sentence."""
    import torch  # noqa: PLC0415

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:
        return str(error).strip().partition("\n")[0].rstrip(".") + "."
    return None


def _cards_in_words(driver: NvidiaDriver) -> str:
    card = driver.cards[0] if driver.cards else "An NVIDIA card"
    return f"{card} (driver {driver.version})" if driver.version else card


def _after_space(text: str) -> str:
    return f" {text}" if text else ""


def _kernel_module_version(file: Path) -> str | None:
    """From a line such as ``NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue ...``."""
    try:
        words = file.read_text().partition("\n")[0].split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), "")


def _has_pci_display(vendor: str, bus: Path = Path("/sys/bus/pci/devices")) -> bool:
    def text(file: Path) -> str:
        try:
            return file.read_text().strip()
        except OSError:
            return ""

    return any(
        text(device / "vendor") == vendor and text(device / "class").startswith(_PCI_DISPLAY)
        for device in (bus.iterdir() if bus.is_dir() else ())
    )
