"""Check the service on this machine's accelerator, and write a report: ``python -m benchmarks.gpu_check``.

    make gpu-check
    python -m benchmarks.gpu_check --device cpu --only families

On a CPU the models are tiny, and the report says so.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.company import check_company
from benchmarks.gpu_check.exactness import check_exactness
from benchmarks.gpu_check.families import check_families
from benchmarks.gpu_check.faults import check_device_fault, check_out_of_memory
from benchmarks.gpu_check.machine import check_machine
from benchmarks.gpu_check.memory import check_memory
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.plots import plot_company
from benchmarks.gpu_check.report import Section, Verdict, write_report
from benchmarks.gpu_check.swaps import check_swaps
from benchmarks.gpu_check.syncs import check_syncs
from benchmarks.gpu_check.ways_to_load import check_ways_to_load
from deployments.accelerator import find_accelerator
from deployments.pipelines.loading import device_name

OF_MACHINE: dict[str, Callable[[Bench], Section]] = {
    "machine": check_machine,
    "families": check_families,
    "loading": check_ways_to_load,
    "fault": check_device_fault,
}
# Stock calls come first: the engine leaves its gates in front of the modules.
OF_MODEL: dict[str, Callable[[Bench, Model, DiffusionPipeline], Section]] = {
    "syncs": check_syncs,
    "memory": check_memory,
    "exactness": check_exactness,
    "company": check_company,
    "out-of-memory": check_out_of_memory,
    "swaps": check_swaps,
}


def main() -> None:
    """Read the command line, check, write the report, and exit with 1 if a check failed."""
    options = _parse()
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    accelerator = find_accelerator()
    device = torch.device(options.device or (accelerator.kind if accelerator else "cpu"))
    bench = Bench(device, time.monotonic() + options.seconds)
    heading = f"{device_name(bench.device)}, torch {torch.__version__}. " + (
        "Pipelines of full size with random weights."
        if bench.is_accelerator
        else "**On a CPU: tiny pipelines, which say nothing about speed on a GPU.**"
    )
    print(heading, flush=True)
    sections: list[Section] = []
    for section in _sections(bench, options):
        sections.append(section)
        print(f"{section.seconds:6.1f} s  {section.verdict.value:<9} {section.title}", flush=True)
        for row in section.rows:
            print("           ", *row, flush=True)
        for note in section.notes:
            print("           ", note, flush=True)
        write_report(options.output, heading, sections)
    print(f"Report: {options.output / 'report.md'}")
    sys.exit(any(section.verdict is Verdict.FAILED for section in sections))


def _sections(bench: Bench, options: argparse.Namespace) -> Iterator[Section]:
    def wanted(names: dict[str, Callable[..., Section]]) -> dict[str, Callable[..., Section]]:
        return {name: check for name, check in names.items() if not options.only or name in options.only}

    for name, check in wanted(OF_MACHINE).items():
        yield _run(bench, name, check, bench)
    of_model = wanted(OF_MODEL)
    if not of_model:
        return
    for model in bench.models():
        if options.models and model.name not in options.models:
            continue
        try:
            with bench.loaded(model) as pipeline:
                for name, check in of_model.items():
                    section = _run(bench, f"{model.name}: {name}", check, bench, model, pipeline)
                    if check is check_company:
                        plot_company(section, options.output, f"company-{model.name.lower().replace(' ', '-')}")
                    yield section
        except Exception as error:
            yield _failed(model.name, error)


def _run(bench: Bench, name: str, check: Callable[..., Section], *arguments: object) -> Section:
    began = time.monotonic()
    if bench.seconds_left < 0:
        return Section(name, verdict=Verdict.NOT_RUN, notes=["Time ended before."])
    try:
        section = check(*arguments)
    except Exception as error:
        section = _failed(name, error)
    section.seconds = time.monotonic() - began
    bench.free_memory()
    return section


def _failed(name: str, error: Exception) -> Section:
    traceback.print_exception(error)
    return Section(name, verdict=Verdict.FAILED, notes=[f"`{type(error).__name__}: {error}`"])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="of torch; left out: the accelerator, if there is one")
    parser.add_argument("--seconds", type=float, default=300, help="no check starts later (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("gpu-check"), help="folder of the report")
    parser.add_argument("--only", nargs="*", choices=[*OF_MACHINE, *OF_MODEL], help="these checks")
    parser.add_argument("--models", nargs="*", help="these models, by name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
