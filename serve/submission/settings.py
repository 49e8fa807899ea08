"""What may be set for a job: each parameter's field in a request, and what its model takes of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pydantic import Field

from deployments.catalog.entry import ModelEntry
from deployments.parameters import LoraChoice
from deployments.storage.formats import DEFAULT_FORMAT, FORMATS, available_formats
from serve.errors import InvalidRequestError
from serve.submission.fields import Body, Flag, Number, Text, Whole

_LARGEST_SEED = 2**63 - 1
_RANDOM_SEEDS = 2**32  # short enough to be noted and typed
_LARGEST_LORA_SCALE = 4.0


class LoraBody(Body):
    """A LoRA that shall be at work."""

    name: Text = Field(description="One of the model's `loras`.")
    scale: Number | None = Field(default=None, description="How strongly, -4 to 4; the model's own where left out.")


class SettingsBody(Body):
    """What may be set for a job; what is left out or null has the model's default, and its limits are the model's."""

    num_images: Whole | None = Field(default=None, description="Images to make; 1 where left out.", examples=[1])
    num_inference_steps: Whole | None = Field(default=None, description="Denoising steps.", examples=[20])
    guidance_scale: Number | None = Field(default=None, description="Guidance scale.", examples=[1.5])
    width: Whole | None = Field(default=None, description="Pixels.", examples=[64])
    height: Whole | None = Field(default=None, description="Pixels.", examples=[64])
    seed: Whole | None = Field(default=None, description="0 to 2^63-1; random where left out.", examples=[7])
    max_sequence_length: Whole | None = Field(default=None, description="Prompt tokens, where the model takes a limit.")
    clip_skip: Whole | None = Field(
        default=None, description="How many of the last layers of CLIP are skipped; the model's where left out."
    )
    scheduler: Text | None = Field(default=None, description="One of the model's `schedulers`; its own where left out.")
    deterministic: Flag | None = Field(
        default=None, description="Whether the same request shall always give the same bytes, whatever else runs."
    )
    step_cache: Number | None = Field(
        default=None, description="Relative change below which a step skips most of the model; 0: every step is full."
    )
    output_format: Text | None = Field(
        default=None, description="Of the files: `png` (where left out), `webp`, `jpeg` or `avif`.", examples=["png"]
    )
    quality: Whole | None = Field(
        default=None, description="1 to 100, for formats with loss; higher is truer and larger."
    )
    metadata: Flag | None = Field(
        default=None, description="Whether the files carry the parameters that made them; true where left out."
    )
    strength: Number | None = Field(
        default=None, description="How much of `image` is drawn anew, above 0 to 1; 0.8 where left out, with `mask` 1."
    )
    control_scale: Number | None = Field(
        default=None, description="How closely `control_image` is followed, 0 to 2; 1 where left out."
    )
    loras: list[LoraBody] | None = Field(default=None, description="LoRAs at work besides those that always are.")


def completed(entry: ModelEntry, asked: SettingsBody) -> dict[str, Any]:
    """Check the settings that depend on no picture, and fill in their defaults.

    Args:
        entry: Of the model.
        asked: What the client sent.

    Returns:
        Fields of :class:`deployments.parameters.GenerationSettings`.

    Raises:
        InvalidRequestError: Names the field, the value, the limit and what would be right.
    """
    settings = {name: rule(name, entry, getattr(asked, name)) for name, rule in _RULES.items()}
    return settings | {"quality": _quality(settings["output_format"], asked.quality)}


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside a range.

    Args:
        name: Of the setting.
        value: What it shall be.
        low: The least that the model takes.
        high: The most.

    Raises:
        InvalidRequestError: It is not within the range.
    """
    if not low <= value <= high:
        is_fixed = low == high and isinstance(value, int)
        taken = f"only {low}" if is_fixed else f"{_shown(low)} to {_shown(high)}"
        raise InvalidRequestError(f"settings.{name}: {_shown(value)} is not possible; this model takes {taken}.")


def listed(names: Iterable[str]) -> str:
    """Names in a sentence."""
    return ", ".join(names) or "none"


class _Limits(NamedTuple):
    """What a model takes of a number, and what it is for a request that does not say."""

    low: float
    high: float
    default: float


_Rule = Callable[[str, ModelEntry, Any], Any]
"""Gives the complete value of a setting, by its name, its model, and what was asked for or None."""


def _number(limits_of: Callable[[ModelEntry], _Limits]) -> _Rule:
    """A number within the model's limits."""

    def rule(name: str, entry: ModelEntry, asked: float | None) -> float:
        limits = limits_of(entry)
        value = limits.default if asked is None else asked
        within(name, value, limits.low, limits.high)
        return value

    return rule


def _optional(limits_of: Callable[[ModelEntry], _Limits]) -> _Rule:
    """A number within the limits of the models that have such a thing; 0 is without it."""
    number = _number(limits_of)

    def rule(name: str, entry: ModelEntry, asked: float | None) -> Any:
        if asked and not limits_of(entry).high:
            raise InvalidRequestError(f"settings.{name}: this model has none; leave it out.")
        return number(name, entry, asked)

    return rule


def _seed(name: str, _entry: ModelEntry, asked: int | None) -> int:
    if asked is None:
        return secrets.randbelow(_RANDOM_SEEDS)
    within(name, asked, 0, _LARGEST_SEED)
    return asked


def _sequence_length(name: str, entry: ModelEntry, asked: int | None) -> int | None:
    limit = entry.max_sequence_length
    if asked is None:
        return limit
    if limit is None:
        raise InvalidRequestError(f"settings.{name}: this model does not take it; leave it out.")
    within(name, asked, 1, limit)
    return asked


def _scheduler(name: str, entry: ModelEntry, asked: str | None) -> str | None:
    if asked is None or asked in entry.schedulers:
        return asked
    choice = f"it can use: {', '.join(entry.schedulers)}" if entry.schedulers else "it has only its own; leave it out"
    raise InvalidRequestError(f'settings.{name}: this model cannot use "{asked[:64]}"; {choice}.')


def _output_format(name: str, _entry: ModelEntry, asked: str | None) -> str:
    available = available_formats()
    if asked is None or asked in available:
        return asked or DEFAULT_FORMAT
    raise InvalidRequestError(f'settings.{name}: "{asked[:64]}" is not possible; available: {", ".join(available)}.')


def _quality(output_format: str, asked: int | None) -> int | None:
    if asked is None:
        return None
    if FORMATS[output_format].quality is None:
        raise InvalidRequestError(
            f"settings.quality: {output_format} loses nothing and takes none; leave it out, or choose another "
            "settings.output_format."
        )
    if not 1 <= asked <= 100:
        raise InvalidRequestError(f"settings.quality: {asked} is not possible; it is 1 to 100.")
    return asked


def _loras(name: str, entry: ModelEntry, asked: list[LoraBody] | None) -> tuple[LoraChoice, ...]:
    chosen = asked or []
    if len(chosen) > entry.max_loras:
        raise InvalidRequestError(
            f"settings.{name}: {len(chosen)} are too many; this model takes at most {entry.max_loras}."
        )
    names = [lora.name for lora in chosen]
    for index, lora in enumerate(chosen):
        if lora.name not in entry.request_loras:
            choice = f"it has: {listed(entry.request_loras)}" if entry.request_loras else "it has none to choose"
            raise InvalidRequestError(
                f'settings.{name}.{index}.name: this model has no LoRA "{lora.name[:64]}"; {choice}.'
            )
        if lora.name in names[:index]:
            raise InvalidRequestError(f'settings.{name}.{index}.name: "{lora.name}" is there twice; give it once.')
        if lora.scale is not None and not abs(lora.scale) <= _LARGEST_LORA_SCALE:
            raise InvalidRequestError(
                f"settings.{name}.{index}.scale: {lora.scale:g} is not possible; "
                f"it is {-_LARGEST_LORA_SCALE:g} to {_LARGEST_LORA_SCALE:g}."
            )
    return tuple(
        LoraChoice(name=lora.name, scale=entry.request_loras[lora.name].scale if lora.scale is None else lora.scale)
        for lora in chosen
    )


def _flag(default: bool) -> _Rule:
    return lambda _name, _entry, asked: default if asked is None else asked


# In the order in which they are checked.
_RULES: dict[str, _Rule] = {
    "num_inference_steps": _number(
        lambda entry: _Limits(entry.steps.minimum, entry.steps.maximum, entry.steps.default)
    ),
    "num_images": _number(lambda entry: _Limits(1, entry.max_images, 1)),
    "guidance_scale": _number(
        lambda entry: _Limits(entry.guidance.minimum, entry.guidance.maximum, entry.guidance.default)
    ),
    "seed": _seed,
    "max_sequence_length": _sequence_length,
    "clip_skip": _optional(lambda entry: _Limits(0, entry.max_clip_skip or 0, entry.clip_skip)),
    "scheduler": _scheduler,
    "deterministic": _flag(default=False),
    "step_cache": _optional(lambda entry: _Limits(0.0, entry.step_cache.maximum, entry.step_cache.default)),
    "output_format": _output_format,
    "metadata": _flag(default=True),
    "loras": _loras,
}


def _shown(number: float) -> str:
    return f"{number:g}" if isinstance(number, float) else str(number)
