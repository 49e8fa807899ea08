"""The catalog that ``make run`` takes where none is named: by the memory of the machine's GPUs.

As a program it prints the GPUs as JSON. They are looked for in a process of its own: what asks the driver keeps some of
the GPU's memory until it ends.
"""

from __future__ import annotations

import json
import subprocess  # nosec B404 - it runs this module
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deployments.accelerator import Accelerator, find_accelerators, why_unusable
from deployments.catalog.file import read_model_variables

CARD_SIZES = (8, 12, 16, 24, 48, 80)
"""The GB on the boxes of the cards that there is a catalog for, ``configs/gpu-<size>gb.yaml``."""
REPORTED_SHARE = 0.9
"""Of them a card reports at least so much: its error correction and the driver take the rest."""

_GIB = 2**30
_LOOK_SECONDS = 120


@dataclass(frozen=True)
class Gpus:
    """The machine's GPUs, as torch sees them.

    Attributes:
        usable: Those that torch can use.
        bfloat16: Whether all of them compute in it; a card that does not emulates it, several times slower.
        problem: Why it can use none although there are some, and the way out, in one sentence; or None.
    """

    usable: tuple[Accelerator, ...] = ()
    bfloat16: bool = True
    problem: str | None = None


@dataclass(frozen=True)
class CatalogChoice:
    """A catalog, and why.

    Attributes:
        catalog: Relative to the project's folder; None is the one for machines without a GPU.
        reason: In words for whoever starts the service; empty where there is nothing to say.
    """

    catalog: Path | None
    reason: str = ""

    def announcement(self, default: str) -> str:
        """One line for whoever starts the service; empty where there is nothing to say.

        Args:
            default: The id of the catalog's default model.
        """
        if self.catalog is None:
            return self.reason
        return f"{self.reason}: serving {self.catalog} (default {default}); another one: CYBERIMAGE_CATALOG=..."


def catalog_for(memory: int) -> Path | None:
    """Choose the catalog for a GPU; None where it is too small for any.

    Args:
        memory: The GPU's, in bytes, as it reports it.
    """
    sizes = [size for size in CARD_SIZES if memory >= REPORTED_SHARE * size * _GIB]
    return _catalog_of(sizes[-1]) if sizes else None


def choose_catalog(gpus: Gpus) -> CatalogChoice:
    """Choose the catalog for a machine: its smallest GPU decides, as a model may run on any of them.

    Without bfloat16 it is the one for the smallest cards, whose default computes in float16.
    """
    if not gpus.usable:
        return CatalogChoice(None, _no_gpu(gpus.problem) if gpus.problem else "")
    smallest = min(gpus.usable, key=lambda gpu: gpu.total_bytes)
    catalog = catalog_for(smallest.total_bytes)
    words = _in_words(gpus.usable, smallest)
    if catalog is None:
        return CatalogChoice(None, _too_small(words))
    if not gpus.bfloat16:
        return CatalogChoice(_catalog_of(min(CARD_SIZES)), f"{words}, without bfloat16")
    return CatalogChoice(catalog, words)


def is_named(environ: Mapping[str, str]) -> bool:
    """Whether the operator names a catalog, or the models themselves.

    Args:
        environ: The environment.
    """
    return bool(environ.get("CYBERIMAGE_CATALOG") or read_model_variables(environ).sources)


def find_gpus() -> Gpus:
    """Find the machine's GPUs from within this process, which imports torch for it and keeps what the driver takes."""
    gpus = find_accelerators()
    return Gpus(gpus, all(gpu.has_bfloat16 for gpu in gpus), why_unusable())


def look_for_gpus() -> Gpus:
    """Find the machine's GPUs; where that fails, the problem says so."""
    command = [sys.executable, "-m", __name__]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_LOOK_SECONDS, check=True)  # noqa: S603 # nosec B603
        found = json.loads(answer.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        return Gpus(problem=f"The search for one failed: {(error.stderr.strip() or str(error)).splitlines()[-1]}.")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Gpus(problem=f"The search for one failed: {error}.")
    return Gpus(**{**found, "usable": tuple(Accelerator(**gpu) for gpu in found["usable"])})


def _catalog_of(size: int) -> Path:
    return Path("configs") / f"gpu-{size}gb.yaml"


def _no_gpu(problem: str) -> str:
    return f"No GPU is used, and the built-in model is served on the CPU. {problem} More: cyberimage doctor"


def _too_small(gpu: str) -> str:
    least = min(CARD_SIZES)
    return (
        f"{gpu}: less than the {least} GB that the catalogs for GPUs begin with; serving the built-in model on the "
        f"CPU. To try all the same: CYBERIMAGE_CATALOG={_catalog_of(least)}"
    )


def _in_words(gpus: Sequence[Accelerator], smallest: Accelerator) -> str:
    memory = f"{smallest.total_bytes / _GIB:.0f} GB"
    if len(gpus) == 1:
        return f"GPU: {smallest.name}, {memory}"
    if all(gpu == smallest for gpu in gpus):
        return f"GPU: {len(gpus)} x {smallest.name}, {memory} each"
    return f"GPU: the smallest of {len(gpus)} is {smallest.name}, {memory}"


if __name__ == "__main__":
    print(json.dumps(asdict(find_gpus())))  # noqa: T201 - for look_for_gpus
