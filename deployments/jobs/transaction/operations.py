"""Operations of the job store: methods that work within one transaction, marked with the kind of it that they need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar, get_type_hints

from sqlalchemy.ext.asyncio import AsyncConnection

from deployments.jobs.transaction.transaction import Transaction

Operation = TypeVar("Operation", bound=Callable[..., Awaitable[Any]])


class Access(Enum):
    """The kind of transaction that an operation needs."""

    READ = auto()
    """It sees one snapshot, and changes nothing."""
    TIMED_READ = auto()
    """As READ, and knows the time: a server's clock costs a statement."""
    CHANGE = auto()
    """It may change what it finds, and knows the time."""


_MARKED: dict[Callable[..., Any], Access] = {}


def reads(operation: Operation) -> Operation:
    """Mark an operation that only reads."""
    _MARKED[operation] = Access.READ
    return operation


def reads_clock(operation: Operation) -> Operation:
    """Mark an operation that only reads, and needs the time."""
    _MARKED[operation] = Access.TIMED_READ
    return operation


def changes(operation: Operation) -> Operation:
    """Mark an operation that may change what it finds."""
    _MARKED[operation] = Access.CHANGE
    return operation


@dataclass(frozen=True)
class Operations:
    """Operations within one transaction, which may call each other.

    Those that are marked can be called from outside, through :class:`JobStore`: each call is one transaction then.
    """

    transaction: Transaction

    @property
    def connection(self) -> AsyncConnection:
        """The transaction's connection."""
        return self.transaction.connection


def access_of(operations: type[Any], name: str) -> Access:
    """Return the mark of a class's operation.

    Raises:
        AttributeError: The class has no marked operation of this name.
    """
    access = _MARKED.get(getattr(operations, name, None))  # type: ignore[arg-type]
    if access is None:
        raise AttributeError(f"{operations.__name__} has no operation {name!r}")
    return access


Call = Callable[[str, str, tuple[Any, ...], Mapping[str, Any]], Awaitable[Any]]
"""Carries out an operation: the part's name, the operation's, its arguments."""


class _Calls:
    """Stands for an object of a class of operations, and passes their calls on."""

    def __init__(self, part: str, operations: type[Any], call: Call) -> None:
        self._part = part
        self._operations = operations
        self._call = call

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        access_of(self._operations, name)

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._call(self._part, name, args, kwargs)

        return call


def parts_of(owner: type[Any]) -> dict[str, type[Any]]:
    """Return the parts that a class declares: the classes of operations among its annotations, by attribute."""
    hints = get_type_hints(owner)
    return {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Operations)}


def set_parts(owner: object, declared_by: type[Any], call: Call) -> None:
    """Give an object the parts that a class declares, whose marked operations can be called and nothing else."""
    for name, operations in parts_of(declared_by).items():
        setattr(owner, name, _Calls(name, operations, call))
