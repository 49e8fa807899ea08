"""How much of a prompt a pipeline reads: its text encoders cut off what is past their limit."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the front counts tokens without diffusers
    from diffusers import DiffusionPipeline

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
"""Names of the components that are tokenizers."""
CLIP_TOKENS = 77
"""How many tokens CLIP has places for."""


@dataclass(frozen=True)
class PromptLength:
    """How long a prompt is to a model.

    Attributes:
        tokens: With the tokenizer's marks around them; None where no tokenizer is at hand.
        limit: How many of them are read; None where there is no limit, or none is known.
    """

    tokens: int | None = None
    limit: int | None = None


class PromptLimit:
    """Finds out whether a pipeline reads a prompt to its end.

    Where a pipeline has several text encoders, the one that reads most counts. Safe from any thread: the tokenizers are
    copies, as those of the pipeline are in use on the engine's thread.

    Args:
        pipeline: As it was loaded.
        takes_long_prompts: Whether it encodes prompts of any length.
    """

    def __init__(self, pipeline: DiffusionPipeline, *, takes_long_prompts: bool = False) -> None:
        found = [getattr(pipeline, name, None) for name in TOKENIZERS]
        self._tokenizers = [] if takes_long_prompts else [copy.deepcopy(each) for each in found if callable(each)]
        parameter = inspect.signature(type(pipeline).__call__).parameters.get("max_sequence_length")
        self._default = parameter.default if parameter and isinstance(parameter.default, int) else None

    def check(self, prompt: str, max_sequence_length: int | None = None) -> PromptLength | None:
        """The length of a prompt of which the pipeline cuts something off; None where it reads it to its end.

        Args:
            prompt: Any text.
            max_sequence_length: What the request says, for pipelines that take a limit.
        """
        truncations = []
        for tokenizer in self._tokenizers:
            limit = tokens_read(int(tokenizer.model_max_length), max_sequence_length or self._default)
            tokens = len(tokenizer(prompt, truncation=False, verbose=False)["input_ids"])
            if tokens <= limit:
                return None
            truncations.append(PromptLength(tokens, limit))
        return max(truncations, key=lambda each: each.limit or 0, default=None)


def tokens_read(model_max_length: int, max_sequence_length: int | None) -> int:
    """How many tokens of a prompt a text encoder reads.

    CLIP has a place for each token and reads no fewer of them; the others read as many as the call says.

    Args:
        model_max_length: Of its tokenizer.
        max_sequence_length: Of the call; None where that sets no limit.
    """
    if model_max_length <= CLIP_TOKENS or max_sequence_length is None:
        return model_max_length
    return min(model_max_length, max_sequence_length)
