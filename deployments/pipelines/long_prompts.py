"""Prompts of any length, with weights, for pipelines that read them with CLIP.

CLIP sees 77 tokens. A longer prompt is encoded in pieces of that size, and the denoiser is given all of them in a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DiffusionPipeline
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.prompt_weights import read_weights

_GIVEN_EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds")


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
        self._device = device
        self._parts = [(pipeline.tokenizer, pipeline.text_encoder)]
        if getattr(pipeline, "text_encoder_2", None) is not None:
            self._parts.append((pipeline.tokenizer_2, pipeline.text_encoder_2))
        self._encoders_of = cache(self._encoders_skipping)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        arguments = self._signature.bind(*args, **kwargs).arguments
        prompt, negative = arguments.get("prompt"), arguments.get("negative_prompt")
        is_given = any(arguments.get(name) is not None for name in _GIVEN_EMBEDDINGS)
        if is_given or not isinstance(prompt, str) or not isinstance(negative, str | None):
            return self._stock(**arguments)
        # Where there is no negative prompt, SDXL takes zeros in place of an embedding.
        is_xl = len(self._parts) > 1
        zeros_stand_in = negative is None and is_xl
        # As in the library, only the prompt skips layers, and not where its embedding is pooled.
        encoders = self._encoders_of(0)
        texts = [(self._encoders_of(arguments.get("clip_skip") or 0), prompt)]
        if not zeros_stand_in:
            texts.append((encoders, negative or ""))
        embeddings = _encode(texts)
        arguments["prompt_embeds"] = embeddings[0]
        if not zeros_stand_in:
            arguments["negative_prompt_embeds"] = embeddings[1]
        if is_xl:
            arguments["pooled_prompt_embeds"] = encoders[1].pooled(prompt)
            if not zeros_stand_in:
                arguments["negative_pooled_prompt_embeds"] = encoders[1].pooled(negative or "")
        return self._stock(**arguments)

    def _encoders_skipping(self, clip_skip: int) -> list[_ClipEncoder]:
        is_normalized = len(self._parts) == 1
        return [_ClipEncoder(*part, self._device, clip_skip, is_normalized=is_normalized) for part in self._parts]


def _encode(texts: Sequence[tuple[Sequence[_ClipEncoder], str]]) -> list[torch.Tensor]:
    """Embeddings of texts by their encoders, of equal shape (1, tokens, channels).

    Shorter ones are filled up with empty pieces.
    """
    parts = [[encoder(text) for encoder in encoders] for encoders, text in texts]
    longest = max(part.shape[1] for row in parts for part in row)
    return [
        torch.cat([encoder.fill(part, longest) for encoder, part in zip(encoders, row, strict=True)], dim=-1)
        for (encoders, _), row in zip(texts, parts, strict=True)
    ]


class _ClipEncoder:
    """One tokenizer with its CLIP text encoder.

    Args:
        tokenizer: Of the pipeline.
        text_encoder: Of the pipeline.
        device: Where it computes.
        clip_skip: How many of the last layers are left out.
        is_normalized: Whether the text is read after the final layer norm, as SD does; else it is read one layer
            earlier and without it, as SDXL does.
    """

    def __init__(
        self, tokenizer: Any, text_encoder: Any, device: str, clip_skip: int = 0, *, is_normalized: bool
    ) -> None:
        from compel import EmbeddingsProvider, ReturnedEmbeddingsType  # noqa: PLC0415 - only where it is asked for

        if clip_skip:
            text_encoder = _EarlierLayer(text_encoder, clip_skip, is_normalized=is_normalized)
        if clip_skip or is_normalized:
            layer = ReturnedEmbeddingsType.LAST_HIDDEN_STATES_NORMALIZED
        else:
            layer = ReturnedEmbeddingsType.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED
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


class _EarlierLayer:
    """A CLIP text encoder whose last hidden state is an earlier one, which ``encode_prompt`` would choose."""

    def __init__(self, text_encoder: Any, clip_skip: int, *, is_normalized: bool) -> None:
        self._text_encoder = text_encoder
        self._place = -(clip_skip + (1 if is_normalized else 2))
        self._is_normalized = is_normalized

    @property
    def device(self) -> Any:
        """Where its weights are."""
        return self._text_encoder.device

    @property
    def dtype(self) -> Any:
        """Of its weights."""
        return self._text_encoder.dtype

    def __call__(self, token_ids: torch.Tensor, attention_mask: torch.Tensor | None, **_: Any) -> SimpleNamespace:
        """Encode a piece of a text; its token ids and its mask have the shape (1, tokens)."""
        output = self._text_encoder(token_ids, attention_mask, output_hidden_states=True, return_dict=True)
        state = output.hidden_states[self._place]
        return SimpleNamespace(
            last_hidden_state=self._text_encoder.text_model.final_layer_norm(state) if self._is_normalized else state
        )
