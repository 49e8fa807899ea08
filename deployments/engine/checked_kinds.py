"""What trials found out about kinds of groups: which may share a forward, and in what their calls may differ."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import diffusers
import transformers

from deployments.engine.grouping import Layout

Kind = frozenset[Layout]
"""The layouts of a group's calls."""


class CheckedKinds:
    """Findings of trials. They hold for a module's code and configuration on one device, and outlive the process.

    Args:
        kept: What earlier processes found out, and where new findings are added: JSON, by name.
        write: Keeps ``kept`` for later processes.
    """

    def __init__(self, kept: dict[str, Any] | None = None, write: Callable[[], None] = lambda: None) -> None:
        self._kept = {} if kept is None else kept
        self._write = write
        self._proved: dict[Kind, set[int] | None] = {}
        self._refused: dict[Kind, bool] = {}
        self._forms: dict[Layout, Hashable] = {}

    def is_refused(self, kind: Kind) -> bool:
        """Whether its calls must not share a forward."""
        known = self._refused.get(kind)
        if known is None:
            known = self._refused[kind] = self._kept.get(_name_of(*kind)) is False
        return known

    def proved_columns(self, kind: Kind) -> set[int] | None:
        """The columns in which the calls of a group may differ; None where no group of this kind was tried."""
        if kind not in self._proved:
            columns = self._kept.get(_name_of(*kind))
            self._proved[kind] = set(columns) if isinstance(columns, list) else None
        return self._proved[kind]

    def has_form(self, layout: Layout, form: Hashable) -> bool:
        """Whether a result has the form that the module gives for a call alone.

        Args:
            layout: Of the call.
            form: All of the result but its values.
        """
        if layout not in self._forms and self._kept.get(f"result {_name_of(layout)}") == _digest(form):
            self._forms[layout] = form
        return self._forms.get(layout) == form

    def refuse(self, kind: Kind) -> None:
        """Keep the calls of such groups apart from now on."""
        self._refused[kind] = True
        self._kept[_name_of(*kind)] = False
        self._write()

    def note(self, kind: Kind, columns: set[int], forms: Mapping[Layout, Hashable]) -> None:
        """Record that such a group gives what its calls give alone.

        Args:
            kind: Of the group.
            columns: In which its calls may differ, besides those that are known.
            forms: Those of the results alone, by the layouts of their calls.
        """
        proved = self._proved[kind] = columns | (self.proved_columns(kind) or set())
        self._kept[_name_of(*kind)] = sorted(proved)
        self._forms |= forms
        self._kept |= {f"result {_name_of(layout)}": _digest(form) for layout, form in forms.items()}
        self._write()


def _name_of(*layouts: Layout) -> str:
    """The same in each process, as long as the modules' code is the same."""
    return _digest([diffusers.__version__, transformers.__version__, *sorted(map(repr, layouts))])


def _digest(value: Any) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=16).hexdigest()
