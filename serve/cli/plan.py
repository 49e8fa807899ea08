"""``cyberimage plan``: how much GPU memory a model needs, and what the service would choose for it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.text import Text

from deployments.catalog.catalog import load_catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.file import CatalogError
from deployments.catalog.loading import HUB_ID, Quantization
from deployments.settings.service import SettingsError, load_settings
from serve.cli.session import FAILURE, WRONG_USE, fail, plain, print_json, print_table

if TYPE_CHECKING:  # they import torch
    from deployments.accelerator import Accelerator
    from deployments.memory_plan.plan import Choice, MemoryPlan

_SIDES = (512, 1024)
_MOST_IMAGES = 64
# Shown where the catalog names none, so that a person sees what they would bring.
_USUAL_QUANTIZATIONS = (
    Quantization(method="torchao", kind="int8"),
    Quantization(method="bitsandbytes", kind="nf4"),
)
# A card of today, for which bfloat16 is the dtype where the catalog names none.
_CAPABILITY = (8, 6)


def plan(
    model: Annotated[str, typer.Argument(help="A model of the catalog, a hub id (owner/name) or a folder.")],
    gpu: Annotated[
        str | None, typer.Option(help="Memory of the GPU, such as 24GiB; left out, that of this machine.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Size of the images, such as 1024x768.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Model catalog, as of `serve`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show how much GPU memory a model needs, stage by stage, and what the service would choose so that it fits.

    Only config files are downloaded, some kilobytes. The exit code is 1 where the model does not fit.
    """
    entry = _sized(_find(model, catalog), size)
    total = None if gpu is None else _bytes_of(gpu)
    # All that follows imports torch and diffusers, which takes seconds, and says what this command does not need.
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    for library in ("torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from deployments.accelerator import Accelerator, find_accelerator  # noqa: PLC0415
    from deployments.memory_plan.counting import plan_entry  # noqa: PLC0415
    from deployments.memory_plan.plan import UncountableError  # noqa: PLC0415

    found = find_accelerator() if total is None else None
    card = found or Accelerator("cuda", "", total or 0, _CAPABILITY)
    try:
        counted = plan_entry(_with_usual_quantizations(entry), card, os.environ)
    except UncountableError as error:
        fail(f"The memory of {model} cannot be planned: {error}")
    report = _report(model, entry, counted, card if card.total_bytes else None)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report["chosen"] is None and report["gpu"] is not None:
        raise typer.Exit(FAILURE)


def _find(model: str, catalog: Path | None) -> ModelEntry:
    try:
        settings = load_settings({} if catalog is None else {"catalog": str(catalog)})
        models = load_catalog(settings.catalog_path, os.environ).models
    except (SettingsError, CatalogError) as error:
        fail(str(error), WRONG_USE)
    if model in models:
        return models[model]
    if Path(model).exists():
        return ModelEntry(repo=str(Path(model).absolute()), source="local")
    if not HUB_ID.fullmatch(model) or "/" not in model:
        fail(f'"{model}" is no model of the catalog ({", ".join(models)}), no hub id and no folder.', WRONG_USE)
    return ModelEntry(repo=model, token_env="HF_TOKEN")  # noqa: S106 - a variable's name # nosec B106


def _sized(entry: ModelEntry, size: str | None) -> ModelEntry:
    if size is None:
        return entry
    width, _, height = size.partition("x")
    if not (width.isdigit() and height.isdigit()):
        fail(f'--size: "{size}" is not WIDTHxHEIGHT, such as 1024x768.', WRONG_USE)
    default = {"default_width": int(width), "default_height": int(height)}
    try:
        limits = type(entry.size).model_validate({**entry.size.model_dump(), **default})
    except ValidationError as error:
        fail(f"--size: {'; '.join(problem['msg'] for problem in error.errors())}", WRONG_USE)
    return entry.model_copy(update={"size": limits})


def _bytes_of(text: str) -> int:
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        fail(f'--gpu: "{text}" is no amount of memory, such as 24GiB.', WRONG_USE)


def _with_usual_quantizations(entry: ModelEntry) -> ModelEntry:
    loading = entry.loading
    if loading.quantization or loading.may_quantize or loading.layerwise_casting != "none" or entry.is_single_file:
        return entry
    return entry.model_copy(update={"loading": loading.model_copy(update={"may_quantize": _USUAL_QUANTIZATIONS})})


def _report(model: str, entry: ModelEntry, counted: MemoryPlan, card: Accelerator | None) -> dict[str, Any]:
    from deployments.accelerator import free_bytes  # noqa: PLC0415
    from deployments.memory_plan.choice import Room, TooLargeError, choose_memory  # noqa: PLC0415

    room = None if card is None else Room.on(card.total_bytes, min(1.0, entry.replicas.num_gpus))
    if room is not None and card is not None and card.name:
        room = room.beside(free_bytes())
    chosen, conclusion = None, "Give --gpu, such as 24GiB, to see whether it fits; this machine has no usable GPU."
    if room is not None:
        try:
            fit = choose_memory(entry, counted, room)
        except TooLargeError as error:
            conclusion = str(error)
        else:
            chosen, conclusion = fit.choice, f"The service would choose {fit.reason}."
    free = None if room is None else room.gpu
    return {
        "model": model,
        "pipeline": counted.class_name,
        "dtype": counted.dtype,
        "size": f"{entry.size.default_width}x{entry.size.default_height}",
        "gpu": None if card is None else {"name": card.name, "total": card.total_bytes, "free": free},
        "weights": [each.model_dump(include={"component", "class_name", "role", "size"}) for each in _weights(counted)],
        "choices": [_row(entry, counted, choice, free) for choice in _shown(entry, counted)],
        "chosen": None if chosen is None else chosen.words,
        "conclusion": conclusion,
    }


def _weights(counted: MemoryPlan) -> Any:
    return counted.variants[0].weights


def _shown(entry: ModelEntry, counted: MemoryPlan) -> Iterator[Choice]:
    """Each way once: the weights as the catalog has them, and under each quantization without offload."""
    from deployments.memory_plan.choice import alternatives  # noqa: PLC0415
    from deployments.memory_plan.plan import Choice  # noqa: PLC0415

    first = counted.variants[0].quantization
    choices = [choice for choice in alternatives(entry, counted) if choice.quantization == first]
    saves = any(choice.saves_decoding for choice in choices)
    yield from (choice for choice in choices if choice.offload == "none" or choice.saves_decoding == saves)
    for variant in counted.variants[1:]:
        yield Choice(quantization=variant.quantization)


def _row(entry: ModelEntry, counted: MemoryPlan, choice: Choice, free: int | None) -> dict[str, Any]:
    needed = counted.needed(choice, entry.size.default_width * entry.size.default_height)
    row: dict[str, Any] = {"choice": choice.words, "needed": needed, "main_memory": counted.main_memory(choice)}
    if free is not None:
        row["fits"] = max(needed.values()) <= free
        row["most_images"] = {
            str(side): counted.most(choice, side * side, free, _MOST_IMAGES, ("encoding", "denoising"))
            if counted.most(choice, side * side, free, 1, ("decoding",))
            else 0
            for side in _SIDES
        }
    return row


def _print(report: dict[str, Any]) -> None:
    console = Console(soft_wrap=True)
    console.print(Text(plain(f"{report['model']}: {report['pipeline']}, {report['dtype']}"), style="bold"))
    weights = report["weights"]
    rows = [(each["component"], each["class_name"], each["role"], _gib(each["size"])) for each in weights]
    total = ("all", "", "", _gib(sum(each["size"] for each in weights)))
    print_table(("Weights", "Class", "For", "GiB"), [*rows, total])
    names = ["Choice", "Encode", "Denoise", "Decode"]
    title = f"GiB that an image of {report['size']} needs, by stage"
    if report["gpu"] is not None:
        names += ["Fits", *(f"{side}x{side}" for side in _SIDES)]
        title += "; images that fit into one forward, by size"
    console.print(Text(title))
    print_table(names, [_cells(row) for row in report["choices"]])
    console.print(Text(plain(report["conclusion"])))


def _cells(row: dict[str, Any]) -> list[str]:
    choice = row["choice"].replace("VAE slicing and tiling", "tiled VAE")
    cells = [choice, *(_gib(row["needed"].get(stage)) for stage in ("encoding", "denoising", "decoding"))]
    if "fits" in row:
        most = (f"{count}+" if count == _MOST_IMAGES else str(count) for count in row["most_images"].values())
        cells += ["yes" if row["fits"] else "no", *most]
    return cells


def _gib(count: int | None) -> str:
    return "" if count is None else f"{math.ceil(count / (1 << 30) * 10) / 10:.1f}"
