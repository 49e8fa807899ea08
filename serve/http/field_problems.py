"""Describes what Pydantic finds wrong with a request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from serve.submission.request import GenerateBody
from serve.submission.settings import SettingsBody

_MOST_PROBLEMS = 5
_LONGEST_NAME = 64
_LONGEST_VALUE = 40

_FIELDS = {
    **{name: name for name in GenerateBody.model_fields},
    **{name: f"settings.{name}" for name in SettingsBody.model_fields},
}
# Names of the same fields in other dialects.
_OTHER_NAMES = {
    "batch_size": "settings.num_images",
    "cfg_scale": "settings.guidance_scale",
    "controlnet_conditioning_scale": "settings.control_scale",
    "denoising_strength": "settings.strength",
    "guidance": "settings.guidance_scale",
    "init_image": "image",
    "lora": "settings.loras",
    "mask_image": "mask",
    "model": "model_id",
    "n": "settings.num_images",
    "size": "settings.width",
    "steps": "settings.num_inference_steps",
}
_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of sensible size",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
}


def describe_problems(problems: Sequence[Mapping[str, Any]]) -> str:
    """Describe problems in one sentence.

    Args:
        problems: As ``RequestValidationError.errors`` gives them: Pydantic's ``ErrorDetails``, with ``loc`` beginning
            with ``body``, ``path``, ``query`` or ``header``.
    """
    text = "; ".join(_describe(problem) for problem in problems[:_MOST_PROBLEMS])
    more = len(problems) - _MOST_PROBLEMS
    if more > 0:
        text += f"; and {more} more"
    return text if text.endswith("?") else f"{text}."


def _describe(problem: Mapping[str, Any]) -> str:
    place, kind = problem.get("loc", ()), problem.get("type", "")
    if kind == "json_invalid":
        return f"body: it is not valid JSON ({problem['ctx']['error']}, at character {place[-1]})"
    if kind == "string_unicode":  # a key with half of a surrogate pair; Pydantic leaves it out of the place
        where = ".".join(map(_printable, place[1:])) or "body"
        return f"{where}: the field name {_shown(problem.get('input'))} is not valid Unicode"
    if place == ("body",):
        return _describe_body(problem.get("input"))
    return f"{'.'.join(_printable(part) for part in place[1:])}: {_describe_value(problem)}"


def _describe_value(problem: Mapping[str, Any]) -> str:
    kind = problem.get("type", "")
    if kind == "missing":
        return "it is missing"
    if kind == "extra_forbidden":
        return f"there is no such field{_suggestion(str(problem['loc'][-1]))}"
    if kind in _WANTED:
        return f"{_shown(problem.get('input'))} is not {_WANTED[kind]}"
    message = str(problem.get("msg", "it is not valid")).removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def _describe_body(given: Any) -> str:
    if given is None:
        return "body: it is missing; send a JSON object"
    if isinstance(given, bytes):
        return "body: send it as JSON, with the header Content-Type: application/json"
    return f"body: {_shown(given)} is not a JSON object"


def _suggestion(name: str) -> str:
    known = _OTHER_NAMES.get(name.lower())
    if known is None:
        close = get_close_matches(name.lower()[:_LONGEST_NAME], list(_FIELDS), n=1)
        known = _FIELDS[close[0]] if close else None
    return f'; did you mean "{known}"?' if known else ""


def _shown(value: Any) -> str:
    """Return a value as JSON, if it is short."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    # Escapes whatever a JSON answer could not hold; NaN and Infinity are written so too.
    text = json.dumps(value) if isinstance(value, str | int | float | None) else str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _printable(part: object) -> str:
    """Make a client's name safe for an answer: not too long, no half of a surrogate pair."""
    return str(part)[:_LONGEST_NAME].encode("utf-8", "backslashreplace").decode()
