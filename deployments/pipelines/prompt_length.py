"""How much of a prompt a pipeline reads: what is past the limit of its text encoders is cut off."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

from diffusers import DiffusionPipeline

_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
_CLIP_TOKENS = 77


@dataclass(frozen=True)
class Truncation:
    """What became of a prompt that was too long.

    Attributes:
        tokens: Of the prompt, with the tokenizer's marks around it.
        limit: How many of them are read.
    """

    tokens: int
    limit: int


class PromptLimit:
    """Tells whether a pipeline will read a prompt to its end.

    Where a pipeline has several text encoders, the one that reads most counts. Safe from any thread: the tokenizers are
    copies, as those of the pipeline are in use on the engine's thread.

    Args:
        pipeline: As it was loaded.
        takes_long_prompts: Whether it encodes prompts of any length.
    """

    def __init__(self, pipeline: DiffusionPipeline, *, takes_long_prompts: bool = False) -> None:
        found = [getattr(pipeline, name, None) for name in _TOKENIZERS]
        self._tokenizers = [] if takes_long_prompts else [copy.deepcopy(each) for each in found if callable(each)]
        parameter = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
        self._default = parameter.default if parameter and isinstance(parameter.default, int) else None

    def check(self, prompt: str, max_sequence_length: int | None = None) -> Truncation | None:
        """What is cut off of a prompt; None where it is read to its end.

        Args:
            prompt: Any text.
            max_sequence_length: What the request says, for pipelines that take a limit.
        """
        truncations = []
        for tokenizer in self._tokenizers:
            limit = self._limit_of(tokenizer, max_sequence_length)
            tokens = len(tokenizer(prompt, truncation=False, verbose=False)["input_ids"])
            if tokens <= limit:
                return None
            truncations.append(Truncation(tokens, limit))
        return max(truncations, key=lambda each: each.limit, default=None)

    def _limit_of(self, tokenizer: Any, max_sequence_length: int | None) -> int:
        own = int(tokenizer.model_max_length)
        asked = max_sequence_length or self._default
        # CLIP has a place for each token and reads no fewer of them; the others read as many as the call says.
        return own if own <= _CLIP_TOKENS or asked is None else min(own, asked)
