"""An error in no dialect's form, and the choice of the dialect that renders it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fastapi import Response
from starlette.types import Scope

_NAMED_FIELD = re.compile(r"([A-Za-z_][\w.-]*)(?:, [A-Za-z_][\w.-]*)*: ")
_SETTING = re.compile(r"settings\.\w+")


@dataclass(frozen=True)
class Problem:
    """One error.

    Attributes:
        status: The HTTP status.
        code: A stable name for programs.
        message: One sentence for people.
        param: The field, parameter or header that is wrong, where one is.
        headers: Of the answer.
        job_id: The job that the request has queued, if any.
    """

    status: int
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    job_id: str | None = None

    def in_words_of(self, names: Mapping[str, str]) -> Problem:
        """Return the same problem with a dialect's names of the fields.

        Args:
            names: The dialect's name of a field of ``POST /api/generate``, such as ``settings.width``.
        """
        message = self.message
        if self.param is not None:
            named, rest = message.split(": ", 1)
            fields = dict.fromkeys(names.get(name, name) for name in named.split(", "))
            message = f"{', '.join(fields)}: {rest}"
        message = _SETTING.sub(lambda found: names.get(found[0], found[0]), message)
        return replace(self, message=message, param=field_named_in(message))


Renderer = Callable[[Problem], Response]
"""Puts a problem into a dialect's form."""


class Renderers:
    """Chooses the dialect of an error's answer by the request's path.

    Args:
        default: The renderer for all other paths.
        by_prefix: The renderers by the prefix of their dialect's paths, such as ``/v1``.
    """

    def __init__(self, default: Renderer, by_prefix: Mapping[str, Renderer]) -> None:
        self._default = default
        self._by_prefix = dict(by_prefix)

    def render(self, path: str, problem: Problem) -> Response:
        """Return the answer."""
        for prefix, renderer in self._by_prefix.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                return renderer(problem)
        return self._default(problem)


def answer_problem(scope: Scope, problem: Problem) -> Response:
    """Render a problem as the answer to a request.

    Args:
        scope: Of the request.
        problem: The error.
    """
    renderers: Renderers = scope["app"].state.renderers
    job_id = scope.get("state", {}).get("job_id")
    return renderers.render(path_in_app(scope), replace(problem, job_id=job_id))


def path_in_app(scope: Scope) -> str:
    """Return the path of a request without a proxy's prefix."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def field_named_in(message: str) -> str | None:
    """Return the field that a message begins with, as in ``width: ...``; None where it begins with none."""
    found = _NAMED_FIELD.match(message)
    return found[1] if found else None
