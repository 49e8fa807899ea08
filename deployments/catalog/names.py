"""Names that people give in the catalog: of models, LoRAs, pools and classes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError


def _named(pattern: str, problem: str) -> AfterValidator:
    """A check that a whole text has a pattern; the problem is what is said of any other text."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError("name", "{problem}", {"problem": problem})
        return value

    return AfterValidator(check)


_RULE = "letters, digits, '.', '_' and '-', a letter or digit first, at most 64"
_LORA_RULE = "letters, digits, '_' and '-', a letter or digit first, at most 64"

ModelId = Annotated[str, _named(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", f"not a model id: {_RULE}")]
PoolName = Annotated[str, _named(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", f"not a pool's name: {_RULE}")]
# torch has no dots in the names of modules
LoraName = Annotated[str, _named(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", f"not a name: {_LORA_RULE}")]
ClassName = Annotated[str, _named(r"[A-Z][A-Za-z0-9]*", "not the name of a class, such as EulerDiscreteScheduler")]
