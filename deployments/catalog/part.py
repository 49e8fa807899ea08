"""What every part of the catalog is: frozen, strict, and clear about what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Problem = tuple[str, str]
"""A field, with dots where it is one of a part within, and what is wrong with it."""


class CatalogPart(BaseModel):
    """A frozen part of the catalog that refuses unknown fields and guesses no types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    @classmethod
    def refuse(cls, problems: Sequence[tuple[str | tuple[str, ...], str]]) -> None:
        """Raise the problems, each at its own field.

        Args:
            problems: Each a :data:`Problem`, or with the names that lead to the field, which may then have dots.

        Raises:
            ValidationError: There are problems.
        """
        if problems:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [
                    InitErrorDetails(
                        type=PydanticCustomError("rule", "{text}", {"text": text}),
                        loc=tuple(name.split(".")) if isinstance(name, str) else name,
                        input=None,
                    )
                    for name, text in problems
                ],
            )

    def range_problems(self, low: float, high: float, *names: str) -> list[Problem]:
        """Find the fields of these names that are outside a range."""
        problems = []
        for name in names:
            value = getattr(self, name)
            given = "" if name in self.model_fields_set else ", what it is when left out,"
            if not low <= value <= high:
                problems.append((name, f"{value}{given} is not within {low}..{high}"))
        return problems
