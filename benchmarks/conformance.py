"""How many of diffusers' pipeline classes make the same images in the engine as on their own.

Walks the text- and image-conditioned pipeline classes of the installed diffusers. Of each, a pipeline with tiny random
components is assembled by the type hints of its constructor, makes three different images alone, and the same three
in the engine. Nothing is downloaded.

    HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 python -m benchmarks.conformance --write docs/conformance.md
"""

from __future__ import annotations

import argparse
import inspect
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from benchmarks.conformance_cases import COMPONENTS, SIZES, three_requests
from deployments.engine.costs import ForwardCosts
from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from tests.support.drawing import draw_image
from tests.support.tiny_pipelines import tiny_pipeline

TOLERANCE = 1e-3
AGREES, DIFFERS, FAILS = "agrees", "differs", "fails in the engine"
UNREPEATABLE, NOT_BUILT = "differs from itself alone", "could not be built"
_CONDITIONS = ("prompt", "image", "images", "video", "control_image", "image_embeds")


@dataclass(frozen=True)
class Verdict:
    """What became of one class.

    Attributes:
        name: Of the class.
        verdict: One of the five.
        difference: The largest of a value in 0..1, if there are images to compare; else of the largest value.
        grouped_share: Of the module calls, those that ran in company.
        reason: Why there is nothing to compare, in one line.
    """

    name: str
    verdict: str
    difference: float | None = None
    grouped_share: float | None = None
    reason: str = ""


class _WidthIsFree(ForwardCosts):
    """Tiny forwards gain so much by company that measuring it is a waste of time."""

    def cap(self, name: str, most_rows: int, waiting_rows: int) -> int:
        return most_rows


def main() -> None:
    """Examine the classes and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classes", nargs="*", help="names of pipeline classes; all if left out")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one class")
    parser.add_argument("--write", type=Path, help="the Markdown file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.classes or conditioned_classes()
    verdicts = []
    for name in names:
        started = time.monotonic()
        verdicts.append(examine_within(name, options.limit))
        print(f"{time.monotonic() - started:5.1f} s  {_line(verdicts[-1])}", flush=True)
        if options.write:
            options.write.write_text(table(verdicts), encoding="utf-8")
    print(_summary(verdicts))


def conditioned_classes() -> list[str]:
    """The names of the pipeline classes that are given a prompt, an image or a video, less the deprecated ones."""
    names = []
    for name in sorted(dir(diffusers)):
        member = getattr(diffusers, name, None)
        if not (inspect.isclass(member) and issubclass(member, DiffusionPipeline)) or member is DiffusionPipeline:
            continue
        if member.__module__.startswith("diffusers.pipelines.deprecated"):
            continue
        if any(condition in inspect.signature(member.__call__).parameters for condition in _CONDITIONS):
            names.append(name)
    return names


def examine_within(name: str, limit: float) -> Verdict:
    """Examine a class in a process of its own, which a hang or a crash costs nothing but its time.

    Args:
        name: Of the class.
        limit: Seconds.
    """
    # A fork has everything imported already.
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(name, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        too_late = Verdict(name, NOT_BUILT, reason=f"took more than {limit:.0f} s")
        verdict: Verdict = mine.recv() if mine.poll(limit) else too_late
    except EOFError:
        return Verdict(name, NOT_BUILT, reason="its process died")
    else:
        return verdict
    finally:
        process.kill()
        process.join()


def _report(name: str, connection: Connection) -> None:
    warnings.simplefilter("ignore")
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    connection.send(examine(name))


def _stand_in_for_ftfy() -> None:
    """Many pipelines mend the prompt's encoding with ftfy; those of the examination need no mending."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith("diffusers.pipelines.") and hasattr(module, "basic_clean"):
            vars(module).setdefault("ftfy", SimpleNamespace(fix_text=str))


def examine(name: str) -> Verdict:
    """Make three images with a pipeline class, alone and in the engine.

    Where they differ, random weights may only have made much of the last bits: then the images agree in float64.

    Args:
        name: Of the class.
    """
    verdict = _examine(name, torch.float32)
    if verdict.verdict != DIFFERS:
        return verdict
    precise = _examine(name, torch.float64)
    reason = f"in float64; in float32 its weights make {verdict.difference:.0e} of the last bits"
    return replace(precise, reason=reason) if precise.verdict == AGREES else verdict


def _examine(name: str, dtype: torch.dtype) -> Verdict:
    pipeline_class = getattr(diffusers, name)
    _stand_in_for_ftfy()
    torch.set_default_dtype(dtype)
    try:
        pipeline = tiny_pipeline(pipeline_class, SIZES.get(name), **COMPONENTS.get(name, {})).to(dtype)
        requests = three_requests(pipeline_class)
        with torch.inference_mode():
            alone = [draw_image(pipeline, request) for request in requests]
            again = draw_image(pipeline, requests[0])
    except Exception as error:
        return Verdict(name, NOT_BUILT, reason=_one_line(error))
    if not all(np.isfinite(image).all() for image in alone):
        return Verdict(name, NOT_BUILT, reason="its images are not numbers")
    if _distance(again, alone[0]) > TOLERANCE:
        return Verdict(name, UNREPEATABLE, reason="it draws random numbers without the request's generator")
    if any(np.array_equal(image, alone[0]) for image in alone[1:]):
        return Verdict(name, NOT_BUILT, reason="its images do not depend on the request")
    return _compare(name, pipeline, requests, alone)


def _compare(
    name: str, pipeline: DiffusionPipeline, requests: Sequence[ImageRequest], alone: Sequence[np.ndarray[Any, Any]]
) -> Verdict:
    engine = Engine(pipeline, max_batch=8, costs=_WidthIsFree())
    try:
        generations = [engine.submit(request) for request in requests]
        together = [generation.future.result() for generation in generations]
    except Exception as error:
        return Verdict(name, FAILS, reason=_one_line(error))
    difference = max(_distance(mine, theirs) for mine, theirs in zip(together, alone, strict=True))
    verdict = AGREES if difference <= TOLERANCE else DIFFERS
    return Verdict(name, verdict, difference, engine.statistics.grouped_share)


def _distance(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The largest difference of values in 0..1; what is no picture is measured by its largest value."""
    return float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))


def _one_line(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 160 else text[:157] + "..."


def _line(verdict: Verdict) -> str:
    if verdict.difference is None:
        return f"{verdict.name}: {verdict.verdict} ({verdict.reason})"
    return f"{verdict.name}: {verdict.verdict}, {verdict.difference:.1e}, grouped {verdict.grouped_share:.0%}"


def _summary(verdicts: Sequence[Verdict]) -> str:
    count = Counter(verdict.verdict for verdict in verdicts)
    built = len(verdicts) - count[NOT_BUILT]
    return (
        f"{count[AGREES]} of the {built} pipeline classes that could be built agree with their stock runs within "
        f"{TOLERANCE:g}; {count[DIFFERS]} differ, {count[FAILS]} fail, {count[UNREPEATABLE]} differ from themselves. "
        f"{count[NOT_BUILT]} could not be built."
    )


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a page in Markdown."""
    lines = [
        _summary(verdicts),
        "",
        "Made by `HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 python -m benchmarks.conformance --write docs/conformance.md`",
        f"with diffusers {diffusers.__version__} and torch {torch.__version__}, on a CPU in float32. Of each class, a",
        "tiny pipeline of random weights made three different images alone and in the engine; deprecated classes are",
        "left out. Grouped is the share of module calls that ran in company.",
        "",
        "| class | verdict | largest difference | grouped | why |",
        "|---|---|---|---|---|",
    ]
    for verdict in verdicts:
        difference = "" if verdict.difference is None else f"{verdict.difference:.0e}"
        share = "" if verdict.grouped_share is None else f"{verdict.grouped_share:.0%}"
        reason = verdict.reason.replace("|", "\\|")
        lines.append(f"| {verdict.name} | {verdict.verdict} | {difference} | {share} | {reason} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
