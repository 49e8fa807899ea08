"""Prompts of any length, with weights, for pipelines that read them with CLIP.

CLIP sees 77 tokens. A longer prompt is encoded in pieces of that size, and the denoiser is given all of them in a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.prompt_weights import read_weights

_GIVEN_EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "clip_skip")


def encode_long_prompts(pipeline: DiffusionPipeline, device: str) -> None:
    """Make a pipeline encode its prompts piece by piece; its ``encode_prompt`` does the rest as before.

    The text encoders are called by way of the pipeline's modules, so the gates of an engine see each piece.

    Args:
        pipeline: Its ``encode_prompt`` is replaced, on this object and its copies.
        device: Where it computes.

    Raises:
        ModelLoadError: If it does not read its prompts with CLIP alone.
    """
    if not reads_with_clip_alone(pipeline):
        raise ModelLoadError(
            "prompt_encoding: long is for pipelines with CLIP text encoders alone, not for a "
            f"{type(pipeline).__name__}."
        )
    pipeline.encode_prompt = _LongPromptEncoder(pipeline, device)


def reads_with_clip_alone(pipeline: DiffusionPipeline) -> bool:
    """Whether a pipeline has the text encoder of SD 1 and 2, or the two of SDXL."""
    first, second, third = (getattr(pipeline, f"text_encoder{part}", None) for part in ("", "_2", "_3"))
    is_second = second is None or isinstance(second, CLIPTextModelWithProjection)
    known = inspect.signature(getattr(type(pipeline), "encode_prompt", int)).parameters
    return isinstance(first, CLIPTextModel) and is_second and third is None and "negative_prompt_embeds" in known


class _LongPromptEncoder:
    """In the place of a pipeline's ``encode_prompt``."""

    def __init__(self, pipeline: DiffusionPipeline, device: str) -> None:
        self._stock: Callable[..., Any] = type(pipeline).encode_prompt.__get__(pipeline)
        self._signature = inspect.signature(self._stock)
        if getattr(pipeline, "text_encoder_2", None) is None:
            self._encoders = [_ClipEncoder(pipeline.tokenizer, pipeline.text_encoder, device, is_penultimate=False)]
        else:
            self._encoders = [
                _ClipEncoder(pipeline.tokenizer, pipeline.text_encoder, device, is_penultimate=True),
                _ClipEncoder(pipeline.tokenizer_2, pipeline.text_encoder_2, device, is_penultimate=True),
            ]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = self._signature.bind(*args, **kwargs).arguments
        prompt, negative = arguments.get("prompt"), arguments.get("negative_prompt")
        is_given = any(arguments.get(name) is not None for name in _GIVEN_EMBEDDINGS)
        if is_given or not isinstance(prompt, str) or not isinstance(negative, str | None):
            return self._stock(**arguments)
        # Where there is no negative prompt, SDXL takes zeros in place of an embedding.
        zeros_stand_in = negative is None and len(self._encoders) > 1
        texts = [prompt] if zeros_stand_in else [prompt, negative or ""]
        embeddings = self._encode(texts)
        arguments["prompt_embeds"] = embeddings[0]
        if not zeros_stand_in:
            arguments["negative_prompt_embeds"] = embeddings[1]
        if len(self._encoders) > 1:
            arguments["pooled_prompt_embeds"] = self._encoders[1].pooled(prompt)
            if not zeros_stand_in:
                arguments["negative_pooled_prompt_embeds"] = self._encoders[1].pooled(negative or "")
        return self._stock(**arguments)

    def _encode(self, texts: list[str]) -> list[torch.Tensor]:
        """Embeddings of equal shape, (1, tokens, channels): shorter ones are filled up with empty pieces."""
        parts = [[encoder(text) for text in texts] for encoder in self._encoders]
        longest = max(part.shape[1] for row in parts for part in row)
        filled = [
            [encoder.fill(part, longest) for part in row] for encoder, row in zip(self._encoders, parts, strict=True)
        ]
        return [torch.cat(row, dim=-1) for row in zip(*filled, strict=True)]


class _ClipEncoder:
    """One tokenizer with its CLIP text encoder."""

    def __init__(self, tokenizer: Any, text_encoder: Any, device: str, *, is_penultimate: bool) -> None:
        from compel import EmbeddingsProvider, ReturnedEmbeddingsType  # noqa: PLC0415 - only where it is asked for

        if is_penultimate:
            layer = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
        else:
            layer = ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
        self._device = device
        self._provider = EmbeddingsProvider(
            tokenizer,
            text_encoder,
            truncate=False,
            returned_embeddings_type=layer,
            device=self._device,
        )

    def __call__(self, text: str) -> torch.Tensor:
        """The embedding of a text, of shape (1, a multiple of the encoder's tokens, channels)."""
        fragments = read_weights(text)
        embedding: torch.Tensor = self._provider.get_embeddings_for_weighted_prompt_fragments(
            [[fragment.text for fragment in fragments]],
            [[fragment.weight for fragment in fragments]],
            device=self._device,
        )
        return embedding

    def fill(self, embedding: torch.Tensor, length: int) -> torch.Tensor:
        """Append the embedding of an empty text until there are ``length`` tokens."""
        missing = length - embedding.shape[1]
        if not missing:
            return embedding
        empty = self("")
        return torch.cat([embedding, *[empty] * (missing // empty.shape[1])], dim=1)

    def pooled(self, text: str) -> torch.Tensor:
        """The embedding of the text's first piece as a whole, of shape (1, channels)."""
        plain = "".join(fragment.text for fragment in read_weights(text))
        embedding: torch.Tensor = self._provider.get_pooled_embeddings([plain], device=self._device)
        return embedding
