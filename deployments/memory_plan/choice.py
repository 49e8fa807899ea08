"""Chooses where a model's weights wait, so that it fits a GPU; or says why it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import ByteSize, ValidationError

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading, Offload
from deployments.memory_plan.plan import CONTEXT_BYTES, Choice, MemoryPlan
from deployments.pipelines.exceptions import ModelLoadError

# From the fastest to the one that needs the least.
_OFFLOADS: tuple[Offload, ...] = ("encoders", "model", "group")
_MOST_IMAGES = 256


class TooLargeError(ModelLoadError):
    """The model does not fit the GPU."""


@dataclass(frozen=True)
class Room:
    """The memory that a model may take.

    Attributes:
        gpu: Bytes of the GPU that are free for it.
        main: Bytes of main memory, for weights that wait there; None for no limit.
    """

    gpu: int
    main: int | None = None

    @classmethod
    def on(cls, total: int, share: float = 1.0) -> Room:
        """All of a GPU's memory but what the driver takes.

        Args:
            total: Bytes of the GPU.
            share: Of it that the model has.
        """
        return cls(gpu=max(0, round(total * share) - CONTEXT_BYTES))

    def beside(self, free: int | None) -> Room:
        """The same on this machine: with its main memory, and no more of the GPU than is free.

        Args:
            free: Bytes of the GPU; None where others leave it.
        """
        main = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Room(gpu=self.gpu if free is None else min(self.gpu, free), main=main)


@dataclass(frozen=True)
class MemoryFit:
    """A model in its place on a GPU.

    Attributes:
        plan: What it needs.
        choice: Where its weights wait.
        free: Bytes of the GPU that are free for it.
        reason: Why that was chosen, in one sentence.
    """

    plan: MemoryPlan
    choice: Choice
    free: int
    reason: str
    _known: dict[tuple[int, tuple[str, ...]], int] = field(default_factory=dict, repr=False, compare=False)

    def most_images(self, width: int, height: int) -> int:
        """Most images of a size that may share a forward of the encoders and the denoiser; at least 1.

        Args:
            width: In pixels.
            height: In pixels.
        """
        return self._most(width * height, ("encoding", "denoising"))

    def most_decoded(self, width: int, height: int) -> int:
        """Most images of a size that may be decoded together; at least 1.

        Args:
            width: In pixels.
            height: In pixels.
        """
        return self._most(width * height, ("decoding",))

    def _most(self, pixels: int, stages: tuple[str, ...]) -> int:
        known = self._known.get((pixels, stages))
        if known is None:
            known = max(1, self.plan.most(self.choice, pixels, self.free, _MOST_IMAGES, stages))
            self._known[pixels, stages] = known
        return known


def choose_memory(entry: ModelEntry, plan: MemoryPlan, room: Room) -> MemoryFit:
    """Choose the fastest way in which one image of the default size fits.

    Args:
        entry: What the catalog says of the model; what it leaves open is chosen.
        plan: What the model needs.
        room: What it may take.

    Raises:
        TooLargeError: It fits in no way that the catalog leaves open; the message says what would be right.
    """
    choices = list(alternatives(entry, plan))
    pixels = entry.size.default_width * entry.size.default_height
    for choice in choices:
        if _fits(plan, choice, pixels, room):
            chosen = _for_large_images(entry, plan, choice, choices, room)
            return MemoryFit(plan, chosen, room.gpu, _reason(entry, plan, chosen, choices[0], room))
    raise TooLargeError(_refusal(entry, plan, choices, room))


def alternatives(entry: ModelEntry, plan: MemoryPlan) -> Iterator[Choice]:
    """The ways that the catalog leaves open, from the fastest to the one that needs the least.

    Args:
        entry: What it says of the model.
        plan: What the model needs.
    """
    loading = entry.loading
    given = loading.model_fields_set if loading.memory == "auto" else set(Loading.model_fields)
    savings = [loading.vae_slicing and loading.vae_tiling]
    if not given & {"vae_slicing", "vae_tiling"}:
        savings = [False, True] if any(need.tile is not None for need in plan.needs) else [False]
    rungs: list[tuple[Offload, bool]] = [(loading.offload, saves) for saves in savings]
    if "offload" not in given and entry.pool is None:
        rungs += [(offload, saves) for offload in _OFFLOADS for saves in savings]
    for quantization in (loading.quantization, *loading.may_quantize):
        for offload, saves in rungs:
            choice = Choice(offload=offload, saves_decoding=saves, quantization=quantization)
            if _loading_for(loading, choice) is not None:
                yield choice


def in_words(count: int) -> str:
    """Bytes for people, such as ``14.2 GiB``."""
    return ByteSize(count).human_readable(separator=" ")


def settled(entry: ModelEntry, choice: Choice) -> ModelEntry:
    """The entry with what it leaves open as it was chosen.

    Args:
        entry: What the catalog says of the model.
        choice: One of its alternatives.
    """
    loading = _loading_for(entry.loading, choice)
    return entry if loading is None else entry.model_copy(update={"loading": loading})


def _loading_for(loading: Loading, choice: Choice) -> Loading | None:
    """How the model is loaded under a choice; None if the catalog does not allow these together."""
    given = loading.model_fields_set
    changes: dict[str, Any] = {"offload": choice.offload, "quantization": choice.quantization, "may_quantize": ()}
    if not given & {"vae_slicing", "vae_tiling"}:
        changes |= {"vae_slicing": choice.saves_decoding, "vae_tiling": choice.saves_decoding}
    try:
        return Loading.model_validate({**{name: getattr(loading, name) for name in given}, **changes})
    except ValidationError:
        return None


def _fits(plan: MemoryPlan, choice: Choice, pixels: int, room: Room) -> bool:
    has_main_memory = room.main is None or plan.main_memory(choice) <= room.main
    return has_main_memory and max(plan.needed(choice, pixels).values()) <= room.gpu


def _for_large_images(entry: ModelEntry, plan: MemoryPlan, choice: Choice, choices: list[Choice], room: Room) -> Choice:
    """The same with slicing and tiling, where only they let the largest images of the catalog be decoded."""
    saving = choice.model_copy(update={"saves_decoding": True})
    decoding = plan.needed(choice, entry.size.max_pixels).get("decoding", 0)
    return saving if decoding > room.gpu and saving in choices else choice


def _reason(entry: ModelEntry, plan: MemoryPlan, choice: Choice, first: Choice, room: Room) -> str:
    sentence = f"{choice.words}: {_need(entry, plan, choice)}, and {in_words(room.gpu)} is free"
    if choice.offload != "none":
        sentence += f"; {in_words(plan.main_memory(choice))} of weights wait in main memory"
    if choice == first or choice == first.model_copy(update={"saves_decoding": True}):
        return sentence
    return f"{sentence}; {first.words} would need {in_words(_most_needed(entry, plan, first))}"


def _refusal(entry: ModelEntry, plan: MemoryPlan, choices: list[Choice], room: Room) -> str:
    least = min(choices, key=lambda choice: _most_needed(entry, plan, choice))
    ways = []
    if entry.loading.offload != "none" or "offload" in entry.loading.model_fields_set:
        ways.append("leave loading.offload out")
    if entry.loading.quantization is None and not entry.loading.may_quantize and not entry.is_single_file:
        ways.append("allow a quantization (loading.may_quantize)")
    if _most_needed(entry, plan, least) <= room.gpu:
        waiting = in_words(plan.main_memory(least))
        ways.append(f"give it main memory: {waiting} of weights wait there, and it has {in_words(room.main or 0)}")
    else:
        ways.append("lower size.default_width and size.default_height")
    ways.append("take a smaller model or a larger GPU")
    way_out = ", or ".join(ways)
    return (
        f"{entry.public_name} does not fit the GPU: {_need(entry, plan, least)} even with {least.words}, and "
        f"{in_words(room.gpu)} is free for it. {way_out[0].upper()}{way_out[1:]}."
    )


def _need(entry: ModelEntry, plan: MemoryPlan, choice: Choice) -> str:
    size = f"{entry.size.default_width}x{entry.size.default_height}"
    return f"one {size} image needs {in_words(_most_needed(entry, plan, choice))}"


def _most_needed(entry: ModelEntry, plan: MemoryPlan, choice: Choice) -> int:
    return max(plan.needed(choice, entry.size.default_width * entry.size.default_height).values())
