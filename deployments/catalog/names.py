"""Names that people give in the catalog: of models, LoRAs and pools."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LORA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # torch has no dots in the names of modules
_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _model_id(value: str) -> str:
    if not _MODEL_ID.fullmatch(value):
        raise PydanticCustomError(
            "model_id", "not a model id: letters, digits, '.', '_' and '-', a letter or digit first, at most 64"
        )
    return value


def _lora_name(value: str) -> str:
    if not _LORA_NAME.fullmatch(value):
        raise PydanticCustomError(
            "lora_name", "not a name: letters, digits, '_' and '-', a letter or digit first, at most 64"
        )
    return value


def _pool_name(value: str) -> str:
    if not _POOL_NAME.fullmatch(value):
        raise PydanticCustomError(
            "pool_name", "not a pool's name: letters, digits, '.', '_' and '-', a letter or digit first, at most 64"
        )
    return value


ModelId = Annotated[str, AfterValidator(_model_id)]
LoraName = Annotated[str, AfterValidator(_lora_name)]
PoolName = Annotated[str, AfterValidator(_pool_name)]
