"""What the model catalog is read from: a YAML file, and the environment variables ``MODEL_<N>``.

Both come back as plain data together with the place of each value, so that an error can name a line or a variable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from deployments.errors import CyberImageError

Location = tuple[str | int, ...]

VARIABLE_FIELDS = ("name", "repo", "description", "source", "auth")
VARIABLE_FORMAT = f"{';'.join(VARIABLE_FIELDS)}[;options_json]"

_VARIABLE_NAME = re.compile(r"MODEL_(\d+)")
_AUTH = {"true": True, "requires token": True, "false": False}
_STEP_OPTIONS = {"min": "minimum", "max": "maximum", "default": "default"}
_VARIABLE_PARTS = {
    "": "name",
    "steps.fixed": "options_json.fixed_steps",
    **{f"steps.{field}": f"options_json.steps.{option}" for option, field in _STEP_OPTIONS.items()},
}


class CatalogError(CyberImageError):
    """The model catalog is not valid."""


@dataclass
class CatalogFile:
    """A YAML file as plain data.

    Attributes:
        name: The file's path as it was given.
        data: The top-level mapping.
        lines: The line, from 1, of each value, by the keys that lead to it.
        problems: What the file itself has wrong, one line each.
        included: The file that it includes, whose values stand in ``data`` where it has none of its own.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    included: CatalogFile | None = None

    def place_of(self, location: Location) -> str:
        """``file:line`` of a value, or of the nearest thing around it where neither file has it."""
        own = self._nearest(location)
        if self.included is not None and len(self.included._nearest(location)) > len(own):
            return self.included.place_of(location)
        return f"{self.name}:{self.lines.get(own, 1)}"

    def _nearest(self, location: Location) -> Location:
        while location and location not in self.lines:
            location = location[:-1]
        return location


@dataclass
class ModelVariables:
    """The models of the environment variables ``MODEL_<N>``.

    Attributes:
        models: Each model's catalog entry, as plain data, by its id.
        sources: The variable that each model comes from, by the model's id.
        problems: What cannot be read, one line each.
    """

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def suggestion(word: str, candidates: list[str]) -> str:
    """``; did you mean "..."?`` where a candidate is close to the word, else nothing."""
    close = get_close_matches(word, candidates, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def read_catalog_file(path: Path) -> CatalogFile:
    """Read a YAML file of one mapping.

    Args:
        path: The file; errors name it as it is given here.

    Raises:
        CatalogError: It cannot be read at all: missing, a folder, empty, not UTF-8, not YAML, not a mapping.
    """
    text = _read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        raise CatalogError(_syntax_problem(path, text, error)) from None
    if root is None:
        raise CatalogError(f"{path}: the file is empty")
    if not isinstance(root, yaml.MappingNode):
        raise CatalogError(f'{path}:{root.start_mark.line + 1}: expected "models:" and what belongs to it')
    file = CatalogFile(name=str(path))
    file.data = _NodeReader(file, loader).mapping(root, ())
    return file


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CatalogError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CatalogError(f"{path}: this is a folder, not a file") from None
    except OSError as error:
        raise CatalogError(f"{path}: {error.strerror or error}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CatalogError(f"{path}:{line}: this is not UTF-8 text") from None


def _syntax_problem(path: Path, text: str, error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        return f"{path}:{error.problem_mark.line + 1}: {problem}"
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        return f"{path}:{line}: a character that YAML does not allow"
    return f"{path}: too deeply nested"


class _NodeReader:
    """Turns YAML nodes into plain data, noting lines and problems in a ``CatalogFile``."""

    def __init__(self, file: CatalogFile, loader: yaml.SafeLoader) -> None:
        self._file = file
        self._loader = loader
        self._open: list[yaml.Node] = []
        self._seen: set[int] = set()

    def mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        if id(node) not in self._seen:  # a second look, by an alias, would take merged keys for duplicates
            self._seen.add(id(node))
            self._note_duplicates(node, location)
            self._loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(line, location, "a key must be one word")
                continue
            key = key_node.value  # as written: a model id such as 3.5 stays text
            self._file.lines[*location, key] = line
            values[key] = self._value(value_node, (*location, key))
        return values

    def _value(self, node: yaml.Node, location: Location) -> Any:
        line = self._file.lines.setdefault(location, node.start_mark.line + 1)
        if node in self._open:
            self._note(line, location, "refers to itself")
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, location)
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*location, index)) for index, item in enumerate(node.value)]
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._note(line, location, "cannot be read as a value")
            return None
        finally:
            self._open.pop()

    def _note_duplicates(self, node: yaml.MappingNode, location: Location) -> None:
        first: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key in first:
                self._note(line, (*location, key), f"given twice; first on line {first[key]}")
            elif key is not None:
                first[key] = line

    def _note(self, line: int, location: Location, problem: str) -> None:
        where = ".".join(str(part) for part in location) or "top level"
        self._file.problems.append(f"{self._file.name}:{line}: {where}: {problem}")


def read_model_variables(environ: Mapping[str, str]) -> ModelVariables:
    """Read the variables ``MODEL_<N>``, in the order of their numbers; empty ones are left out.

    The format is CyberImage's own ``.env``: ``name;repo;description;source;auth[;options_json]``, the whole or any part
    in quotes, ``auth`` ``true`` where the hub wants a token, the options ``{"fixed_steps": N}`` or
    ``{"steps": {"min": N, "max": N, "default": N}}``.

    Args:
        environ: The environment.
    """
    found = ModelVariables()
    numbered = [(int(match[1]), name) for name in environ if (match := _VARIABLE_NAME.fullmatch(name))]
    for _, variable in sorted(numbered):
        text = _unquoted(environ[variable])
        if not text:
            continue
        try:
            model_id, entry = _read_variable(text)
        except CatalogError as error:
            found.problems.append(f"{variable}: {error}")
            continue
        if model_id in found.sources:
            found.problems.append(f'{variable}: name: "{model_id}" is also the name of {found.sources[model_id]}')
            continue
        found.models[model_id] = entry
        found.sources[model_id] = variable
    return found


def _read_variable(text: str) -> tuple[str, dict[str, Any]]:
    parts = text.split(";", len(VARIABLE_FIELDS))
    values = dict(zip(VARIABLE_FIELDS, map(_unquoted, parts), strict=False))
    for name in VARIABLE_FIELDS:
        if not values.get(name) and not (name == "description" and name in values):
            raise CatalogError(f"{name}: missing; the format is {VARIABLE_FORMAT}")
    auth = values["auth"].lower()
    if auth not in _AUTH:
        raise CatalogError("auth: should be true or false")
    entry: dict[str, Any] = {
        "repo": values["repo"],
        "description": values["description"],
        "source": values["source"].lower(),
        "token_env": "HF_TOKEN" if _AUTH[auth] else None,
    }
    steps = _read_options(parts[-1]) if len(parts) > len(VARIABLE_FIELDS) else {}
    return values["name"], {**entry, "steps": steps} if steps else entry


def _read_options(text: str) -> dict[str, Any]:
    """Return the ``steps`` of a catalog entry, from the options of a variable."""
    try:
        # Not every reader of an .env file takes the backslashes off \" inside a quoted value.
        options = json.loads(re.sub(r'\\+"', '"', _unquoted(text)) or "{}")
    except json.JSONDecodeError as error:
        raise CatalogError(f"options_json: not JSON: {error.msg} at character {error.pos + 1}") from None
    if not isinstance(options, dict):
        raise CatalogError('options_json: should be an object such as {"fixed_steps": 2}')
    steps: dict[str, Any] = {}
    for name, value in options.items():
        if name == "fixed_steps":
            steps["fixed"] = value
        elif name == "steps" and isinstance(value, dict):
            steps |= _read_step_range(value)
        elif name == "steps":
            raise CatalogError('options_json.steps: should be an object with "min", "max" and "default"')
        else:
            raise CatalogError(f"options_json.{name}: unknown option{suggestion(name, ['fixed_steps', 'steps'])}")
    return steps


def _read_step_range(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name not in _STEP_OPTIONS:
            raise CatalogError(f"options_json.steps.{name}: unknown option{suggestion(name, list(_STEP_OPTIONS))}")
    return {_STEP_OPTIONS[name]: value for name, value in options.items()}


def _unquoted(text: str) -> str:
    return text.strip().strip("\"'").strip()


def explain_errors(
    error: ValidationError, model: type[BaseModel], file: CatalogFile, variables: ModelVariables
) -> list[str]:
    """One line for each of pydantic's errors, with its file and line or its variable, and its field.

    Args:
        error: What pydantic found in the data of the file and the variables together.
        model: The model that the data was validated against.
        file: Where values that have no variable are from.
        variables: Where the others are from.
    """
    lines = []
    for details in error.errors(include_url=False):
        location: Location = tuple(part for part in details["loc"] if part != "[key]")
        text = details["msg"].removeprefix("Input ")
        if details["type"] == "extra_forbidden":
            text = f"unknown field{suggestion(str(location[-1]), _fields_beside(model, location))}"
        elif details["type"] == "missing":
            text = "missing"
        elif details["type"] == "too_short":
            text = "at least one is needed"
        variable = variables.sources.get(str(location[1])) if len(location) > 1 else None
        if variable:
            part = ".".join(map(str, location[2:]))
            lines.append(f"{variable}: {_VARIABLE_PARTS.get(part, part)}: {text}")
        else:
            lines.append(f"{file.place_of(location)}: {'.'.join(map(str, location))}: {text}")
    return lines


def _fields_beside(model: type[BaseModel], location: Location) -> list[str]:
    """Return the fields that there are where an unknown one was found."""
    owner: Any = model
    for part in location[:-1]:
        if get_origin(owner) in (dict, tuple):
            owner = get_args(owner)[-1 if get_origin(owner) is dict else 0]
        else:
            owner = _without_none(owner).model_fields[str(part)].annotation
    return list(_without_none(owner).model_fields)


def _without_none(annotation: Any) -> Any:
    return next((kind for kind in get_args(annotation) if kind is not type(None)), annotation)
