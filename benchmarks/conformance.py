"""How many of diffusers' pipeline classes make the same images in the engine as on their own.

Walks the text- and image-conditioned pipeline classes of the installed diffusers. Of each, a pipeline with tiny random
components is assembled by the type hints of its constructor, makes three different images alone, and the same three
in the engine: on the CPU, and on the pretended GPU of the tests, where devices must not mix, and forwards must be as
many and as wide. Nothing is downloaded.

    make conformance
"""

from __future__ import annotations

import argparse
import inspect
import multiprocessing
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from benchmarks.conformance_cases import COMPONENTS, SIZES, three_requests
from deployments.engine.costs import ForwardCosts
from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.request import ImageRequest
from tests.support.drawing import draw_image
from tests.support.forward_counts import counted_forwards
from tests.support.gpu_runs import without_chance
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_pipeline

TOLERANCE = 1e-3
AGREES, DIFFERS, FAILS = "agrees", "differs", "fails in the engine"
AS_ON_CPU = "as on the CPU"
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
        on_gpu: Where it agrees, how it does on a pretended GPU, in one line.
    """

    name: str
    verdict: str
    difference: float | None = None
    grouped_share: float | None = None
    reason: str = ""
    on_gpu: str = ""


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

    def build() -> DiffusionPipeline:
        return tiny_pipeline(pipeline_class, SIZES.get(name), **COMPONENTS.get(name, {})).to(dtype)

    try:
        pipeline = build()
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
    try:
        together = _draw_together(pipeline, requests)
    except Exception as error:
        return Verdict(name, FAILS, reason=_one_line(error))
    difference = max(_distance(mine, theirs) for mine, theirs in zip(together.images, alone, strict=True))
    if difference > TOLERANCE:
        return Verdict(name, DIFFERS, difference, together.grouped_share)
    return Verdict(name, AGREES, difference, together.grouped_share, on_gpu=_on_gpu(build, requests, together))


class _Together(NamedTuple):
    """Images of one engine, and the forwards that ran for them."""

    images: list[np.ndarray[Any, Any]]
    forwards: Counter[tuple[str, int]]
    grouped_share: float


def _draw_together(pipeline: DiffusionPipeline, requests: Sequence[ImageRequest]) -> _Together:
    first, *others = requests
    generations: list[Generation] = []

    def submit_others(_: str) -> None:
        if not generations:
            generations.extend(engine.submit(request) for request in others)

    with without_chance(), counted_forwards(pipeline) as forwards:
        engine = Engine(pipeline, max_batch=8, costs=_WidthIsFree())
        forwards.clear()
        try:
            # On the engine's thread, at the first call of a module: whatever the machine does, they come together.
            images = [engine.submit(replace(first, on_stage=submit_others)).future.result()]
            images += [generation.future.result() for generation in generations]
        finally:
            engine.stop()
    return _Together(images, forwards, engine.statistics.grouped_share)


def _on_gpu(build: Callable[[], DiffusionPipeline], requests: Sequence[ImageRequest], expected: _Together) -> str:
    with pretend_gpu() as gpu:
        try:
            together = _draw_together(build().to("cuda"), requests)
        except Exception as error:
            return f"fails, {_like_stock(build, requests)}: {_one_line(error)}"
    if gpu.faults:
        return f"{_like_stock(build, requests)}: {gpu.faults[0].what} {gpu.faults[0].where}"
    difference = max(_distance(mine, theirs) for mine, theirs in zip(together.images, expected.images, strict=True))
    if difference > TOLERANCE:
        return f"differs by {difference:.0e}"
    return AS_ON_CPU if together.forwards == expected.forwards else "groups otherwise"


def _like_stock(build: Callable[[], DiffusionPipeline], requests: Sequence[ImageRequest]) -> str:
    """Whether its stock run has faults on a GPU as well."""
    with pretend_gpu() as gpu, torch.inference_mode():
        try:
            pipeline = build().to("cuda")
            for request in requests:
                draw_image(pipeline, request)
        except Exception:
            return "as its stock run"
    return "as its stock run" if gpu.faults else "unlike its stock run"


def _distance(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The largest difference of values in 0..1; what is no picture is measured by its largest value."""
    return float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))


def _one_line(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 160 else text[:157] + "..."


def _line(verdict: Verdict) -> str:
    if verdict.difference is None:
        return f"{verdict.name}: {verdict.verdict} ({verdict.reason})"
    line = f"{verdict.name}: {verdict.verdict}, {verdict.difference:.1e}, grouped {verdict.grouped_share:.0%}"
    return f"{line}; on a GPU {verdict.on_gpu}" if verdict.on_gpu else line


def _summary(verdicts: Sequence[Verdict]) -> str:
    count = Counter(verdict.verdict for verdict in verdicts)
    built = len(verdicts) - count[NOT_BUILT]
    on_gpu = sum(verdict.on_gpu == AS_ON_CPU for verdict in verdicts)
    return (
        f"{count[AGREES]} of the {built} pipeline classes that could be built agree with their stock runs within "
        f"{TOLERANCE:g}; {count[DIFFERS]} differ, {count[FAILS]} fail, {count[UNREPEATABLE]} differ from themselves. "
        f"{count[NOT_BUILT]} could not be built. On a pretended GPU, {on_gpu} of the {count[AGREES]} that agree make "
        "the same images in as many forwards of the same widths, and mix no devices."
    )


def table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a page in Markdown."""
    lines = [
        _summary(verdicts),
        "",
        "Made by `make conformance`",
        f"with diffusers {diffusers.__version__} and torch {torch.__version__}, on a CPU in float32. Of each class, a",
        "tiny pipeline of random weights made three different images alone and in the engine; deprecated classes are",
        "left out. Grouped is the share of module calls that ran in company. On a GPU is the comparison with",
        "one that `tests/support/pretended_gpu` pretends.",
        "",
        "| class | verdict | largest difference | grouped | on a GPU | why |",
        "|---|---|---|---|---|---|",
    ]
    for verdict in verdicts:
        difference = "" if verdict.difference is None else f"{verdict.difference:.0e}"
        share = "" if verdict.grouped_share is None else f"{verdict.grouped_share:.0%}"
        reason, on_gpu = (text.replace("|", "\\|") for text in (verdict.reason, verdict.on_gpu))
        lines.append(f"| {verdict.name} | {verdict.verdict} | {difference} | {share} | {on_gpu} | {reason} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
