"""Stands in for tokenizers and processors, whose files are not needed: every prompt is as long as it may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import BatchEncoding

CHARACTERS_PER_TOKEN = 4
"""Of the words that pipelines put around a prompt: about what tokenizers make of English."""
_TOKEN = 1


class StandInTokenizer:
    """Gives each prompt as many tokens as the pipeline takes at most.

    Args:
        longest: Tokens of a prompt for which the pipeline names no limit.
    """

    pad_token_id = bos_token_id = unk_token_id = 0
    eos_token_id = 2
    pad_token = bos_token = eos_token = unk_token = ""  # nosec B105 - words, and no password
    padding_side = "right"
    vocab_size = 3
    image_token = ""  # nosec B105
    image_token_id = -1

    def __init__(self, longest: int) -> None:
        self.model_max_length = longest
        self.tokenizer = self
        self.added_tokens_encoder: dict[str, int] = {}

    def __call__(
        self, text: str | Sequence[str] | None = None, *_: Any, max_length: int | None = None, **__: Any
    ) -> BatchEncoding:
        """Tokens of prompts, and a mask that shows them all."""
        count = len(text) if isinstance(text, (list, tuple)) else 1
        tokens = torch.full((count, max_length or self.model_max_length), _TOKEN)
        return BatchEncoding({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})

    def apply_chat_template(self, *_: Any, tokenize: bool = True, return_dict: bool = True, **options: Any) -> Any:
        """A prompt's words, or its tokens."""
        if not tokenize:
            return ""
        encoded = self([""], max_length=options.get("max_length"))
        return encoded if return_dict else encoded["input_ids"]

    def tokenize(self, *_: Any, **__: Any) -> list[str]:
        """No words."""
        return []

    def encode(self, text: str, **_: Any) -> list[int]:
        """As many tokens as a text has, about."""
        return [_TOKEN] * -(-len(text) // CHARACTERS_PER_TOKEN)

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int]:
        """Of tokens that are not known."""
        return 0 if isinstance(tokens, str) else [0] * len(tokens)

    def batch_decode(self, sequences: Sequence[Any], **_: Any) -> list[str]:
        """No words."""
        return [""] * len(sequences)

    def decode(self, *_: Any, **__: Any) -> str:
        """No words."""
        return ""
