"""The bodies of all dialects: their base, and the types of their fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_LARGEST = 2**63 - 1


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")  # noqa: TRY004 - pydantic reports ValueError as a bad field
    return value


def _of_64_bits(value: int) -> int:
    if abs(value) > _LARGEST:
        raise ValueError(f"the number is beyond {_LARGEST}")
    return value


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL is not allowed")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not valid Unicode: half of a surrogate pair") from None
    return text


Whole = Annotated[int, BeforeValidator(_no_bool), AfterValidator(_of_64_bits)]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_storable)]
Flag = Annotated[bool, Field(strict=True)]


class Body(BaseModel):
    """What a client sends or receives; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


def shared_fields(body: type[BaseModel], *records: object) -> dict[str, Any]:
    """Return the fields of a body that records have under the same names; the first record that has one counts."""
    return {
        name: value for record in reversed(records) for name, value in vars(record).items() if name in body.model_fields
    }
