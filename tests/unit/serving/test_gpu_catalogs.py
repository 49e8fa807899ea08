"""What `make run` serves on a machine with a GPU, and what it says about it."""

import json
import subprocess
import types
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import ray
import torch

from deployments.accelerator import Accelerator
from deployments.catalog.catalog import load_catalog
from deployments.catalog.entry import PROJECT_ROOT
from deployments.memory_plan.choice import Room, TooLargeError, choose_memory
from deployments.memory_plan.counting import plan_model
from deployments.memory_plan.plan import MemoryPlan
from serve import launcher
from serve.gpu_catalogs import CARD_SIZES, REPORTED_SHARE, Gpus, catalog_for, choose_catalog, look_for_gpus
from tests.support.ports import free_port
from tests.support.published_models import build_parts, weight_bytes

GIB = 2**30
DENOISERS = {"unet", "transformer"}
# Of the same architecture as the model's own weights.
STAND_INS = {
    "Tongyi-MAI/Z-Image-Turbo": "Z-Image-Turbo",
    "black-forest-labs/FLUX.2-klein-4B": "FLUX.2-klein-4B",
    "Qwen/Qwen-Image-2512": "Qwen-Image",
    "SG161222/RealVisXL_V5.0": "stable-diffusion-xl-base-1.0",
    "cagliostrolab/animagine-xl-4.0": "stable-diffusion-xl-base-1.0",
    "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers": "Sana_Sprint_1.6B_1024px",
    "black-forest-labs/FLUX.1-schnell": "FLUX.1-schnell",
    "black-forest-labs/FLUX.1-dev": "FLUX.1-dev",
    "stabilityai/stable-diffusion-3.5-medium": "stable-diffusion-3.5-medium",
}


def card(gib: float, name: str = "Card") -> Accelerator:
    return Accelerator("cuda", name, int(gib * GIB), (8, 9))


@cache
def weights(repo: str) -> dict[str, int]:
    """Bytes of each part of a model, in 16 bits."""
    parts = {part: module.to(torch.bfloat16) for part, module in build_parts(STAND_INS[repo]).items()}
    return {part: weight_bytes(module) for part, module in parts.items()}


@cache
def planned(repo: str) -> MemoryPlan:
    """What a model needs; its limits are the same in all catalogs."""
    entry = next(
        each for each in load_catalog(PROJECT_ROOT / "configs/gpu.yaml", {}).models.values() if each.repo == repo
    )
    return plan_model(entry, PROJECT_ROOT / "benchmarks/model_configs" / STAND_INS[repo], torch.bfloat16)


@pytest.mark.parametrize(
    ("gib", "expected"),
    [
        (6, None),
        (7.6, "gpu-8gb"),
        (8, "gpu-8gb"),
        (10, "gpu-8gb"),
        (11.9, "gpu-12gb"),
        (12, "gpu-12gb"),
        (14.6, "gpu-16gb"),  # a T4
        (16, "gpu-16gb"),
        (22, "gpu-24gb"),  # an L4 or A10G
        (23.6, "gpu-24gb"),  # an RTX 4090
        (31.4, "gpu-24gb"),  # an RTX 5090
        (44.4, "gpu-48gb"),  # an L40S
        (48, "gpu-48gb"),
        (79.2, "gpu-80gb"),  # an H100
        (141, "gpu-80gb"),
    ],
)
def test_catalog_by_memory(gib: float, expected: str | None) -> None:
    assert catalog_for(int(gib * GIB)) == (expected and Path(f"configs/{expected}.yaml"))


def test_a_machine_without_a_gpu_says_nothing() -> None:
    choice = choose_catalog(Gpus())

    assert choice.catalog is None
    assert choice.announcement("shapes") == ""


def test_one_gpu_is_one_line() -> None:
    choice = choose_catalog(Gpus((card(23.65, "NVIDIA GeForce RTX 4090"),)))

    assert choice.announcement("z-image-turbo") == (
        "GPU: NVIDIA GeForce RTX 4090, 24 GB: serving configs/gpu-24gb.yaml (default z-image-turbo); "
        "another one: CYBERIMAGE_CATALOG=..."
    )


def test_the_smallest_of_several_gpus_decides() -> None:
    choice = choose_catalog(Gpus((card(79.2, "Large"), card(11.8, "Small"))))

    assert choice.catalog == Path("configs/gpu-12gb.yaml")
    assert choice.reason == "GPU: the smallest of 2 is Small, 12 GB"


def test_several_equal_gpus() -> None:
    assert choose_catalog(Gpus((card(24), card(24)))).reason == "GPU: 2 x Card, 24 GB each"


def test_a_gpu_that_is_too_small_stays_unused_and_has_a_way_out() -> None:
    choice = choose_catalog(Gpus((card(6),)))

    assert choice.catalog is None
    assert choice.announcement("shapes") == (
        "GPU: Card, 6 GB: less than the 8 GB that the catalogs for GPUs begin with; serving the built-in model on the "
        "CPU. To try all the same: CYBERIMAGE_CATALOG=configs/gpu-8gb.yaml"
    )


def test_a_card_without_bfloat16_gets_what_computes_in_float16() -> None:
    choice = choose_catalog(Gpus((card(14.6, "Tesla T4"),), bfloat16=False))
    catalog = load_catalog(PROJECT_ROOT / str(choice.catalog), {})

    assert choice.reason == "GPU: Tesla T4, 15 GB, without bfloat16"
    assert catalog.get(catalog.default).dtype == "float16"


def test_a_gpu_that_cannot_be_used_says_why_and_points_to_the_doctor() -> None:
    problem = (
        "The NVIDIA driver 550.1 is too old for torch 2.13 (CUDA 13.0), which needs driver 580 or newer; update it."
    )
    choice = choose_catalog(Gpus(problem=problem))

    assert choice.catalog is None
    assert choice.announcement("shapes") == (
        f"No GPU is used, and the built-in model is served on the CPU. {problem} More: cyberimage doctor"
    )


class TestLook:
    def answer(self, monkeypatch: pytest.MonkeyPatch, **answer: object) -> None:
        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            completed = subprocess.CompletedProcess(command, **answer)  # type: ignore[arg-type]
            completed.check_returncode()
            return completed

        monkeypatch.setattr(subprocess, "run", run)

    def test_what_torch_finds_comes_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gpus = Gpus((Accelerator("xpu", "Arc", GIB, None),), bfloat16=False, problem="none")
        self.answer(monkeypatch, returncode=0, stdout=f"a warning\n{json.dumps(asdict(gpus))}\n", stderr="")

        assert look_for_gpus() == gpus

    def test_a_driver_that_crashes_torch_is_a_problem_and_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, returncode=-11, stdout="", stderr="first\nit crashed")

        assert look_for_gpus() == Gpus(problem="The search for one failed: it crashed.")

    def test_it_runs_in_a_process_of_its_own(self) -> None:
        gpus = look_for_gpus()

        assert gpus.problem is None or not gpus.problem.startswith("The search")


class TestRay:
    @pytest.mark.parametrize(
        "error", [OSError("No space left on device"), RuntimeError(""), ray.exceptions.RayError("x")]
    )
    def test_what_keeps_it_from_starting_is_one_sentence(self, error: Exception) -> None:
        def init(**_: object) -> None:
            raise error

        stand_in = types.SimpleNamespace(init=init, exceptions=ray.exceptions)
        with pytest.raises(launcher.LaunchError, match=r"Ray does not start: .*(No space left|RuntimeError|x)"):
            launcher._start_ray(stand_in)

    @pytest.mark.parametrize(
        ("system", "machine", "gpus"), [("darwin", "arm64", 1), ("darwin", "x86_64", None), ("linux", "x86_64", None)]
    )
    def test_it_is_told_of_the_gpu_that_it_does_not_find(
        self, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, gpus: int | None
    ) -> None:
        given: dict[str, object] = {}
        monkeypatch.setattr(launcher.sys, "platform", system)
        monkeypatch.setattr(launcher.platform, "machine", lambda: machine)
        context = types.SimpleNamespace(dashboard_url="")
        launcher._start_ray(types.SimpleNamespace(init=lambda **options: given.update(options) or context))

        assert given["num_gpus"] == gpus


class TestLauncher:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CYBERIMAGE_CATALOG", raising=False)
        monkeypatch.setattr(launcher, "look_for_gpus", lambda: Gpus((card(24),)))
        monkeypatch.setattr(launcher, "_run", lambda settings, models, host, port: print("default:", models.default))

    def start(self, tmp_path: Path, catalog: Path | None = None) -> int:
        return launcher.launch("127.0.0.1", free_port(), catalog, tmp_path / "data")

    def test_it_serves_what_fits_the_gpu(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.start(tmp_path) == 0

        printed = capsys.readouterr().out
        assert "GPU: Card, 24 GB: serving configs/gpu-24gb.yaml (default z-image-turbo)" in printed
        assert "default: z-image-turbo" in printed

    @pytest.mark.parametrize("variable", ["CYBERIMAGE_CATALOG", "MODEL_1"])
    def test_the_operators_own_choice_stands(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
    ) -> None:
        values = {"CYBERIMAGE_CATALOG": "configs/cpu.yaml", "MODEL_1": "sana-sprint;owner/name;Mine;huggingface;false"}
        monkeypatch.setenv(variable, values[variable])

        assert self.start(tmp_path) == 0
        assert capsys.readouterr().out == "default: shapes\n"

    def test_a_port_that_is_in_use_points_to_the_doctor(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def in_use(host: str, port: int) -> None:
            raise launcher.LaunchError(f"{host}:{port} cannot be used")

        monkeypatch.setattr(launcher, "_check_port", in_use)

        assert self.start(tmp_path) == 1
        assert "cyberimage doctor" in capsys.readouterr().out

    def test_a_broken_catalog_does_not(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.start(tmp_path, tmp_path / "nowhere.yaml") == 1

        printed = capsys.readouterr().out
        assert "no such file" in printed
        assert "doctor" not in printed


class TestCatalogs:
    @pytest.mark.parametrize("size", CARD_SIZES)
    def test_the_default_needs_no_token(self, size: int) -> None:
        catalog = load_catalog(PROJECT_ROOT / f"configs/gpu-{size}gb.yaml", {})

        assert catalog.get(catalog.default).token_env is None

    @pytest.mark.parametrize("size", CARD_SIZES)
    def test_the_default_fits_the_smallest_card_of_its_size(self, size: int) -> None:
        catalog = load_catalog(PROJECT_ROOT / f"configs/gpu-{size}gb.yaml", {})
        entry = catalog.get(catalog.default)

        fit = choose_memory(entry, planned(entry.repo), Room.on(round(REPORTED_SHARE * size * GIB)))

        assert fit.most_images(entry.size.default_width, entry.size.default_height) >= 1

    def test_a_model_that_does_not_fit_is_noticed(self) -> None:
        catalog = load_catalog(PROJECT_ROOT / "configs/gpu-80gb.yaml", {})
        entry = catalog.get(catalog.default)

        with pytest.raises(TooLargeError):
            choose_memory(entry, planned(entry.repo), Room.on(2 * GIB))

    def test_the_numbers_of_the_comments_are_the_weights(self) -> None:
        path = PROJECT_ROOT / "configs" / "gpu.yaml"
        lines = {line.partition(":")[0].strip(): line for line in path.read_text(encoding="utf-8").splitlines()}
        for name, entry in load_catalog(path, {}).models.items():
            if entry.repo not in STAND_INS:
                continue
            parts = weights(entry.repo)
            denoiser = sum(number for part, number in parts.items() if part in DENOISERS)
            encoders = sum(number for part, number in parts.items() if part.startswith("text_encoder"))
            assert f"# {denoiser / 1e9:.1f} + {encoders / 1e9:.1f}" in lines[name]
