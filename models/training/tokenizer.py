"""A CLIP tokenizer in which every word of the language is one token and any other word is spelled out."""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from models.training.language import vocabulary

MAX_TOKENS = 40
_START, _END = "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"


def build_tokenizer() -> CLIPTokenizer:
    """Learn byte-pair merges from the vocabulary until each of its words is whole."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix=_END_OF_WORD))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        initial_alphabet=alphabet,
        # Given in order: characters that it finds in the words get ids in any order, and it breaks ties by id.
        special_tokens=[letter + _END_OF_WORD for letter in alphabet],
        end_of_word_suffix=_END_OF_WORD,
        show_progress=False,
    )
    learner.train_from_iterator(vocabulary(), trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(letter + _END_OF_WORD for letter in alphabet), *("".join(merge) for merge in merges)]
    ids = {token: index for index, token in enumerate(dict.fromkeys([*tokens, _START, _END]))}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=MAX_TOKENS)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids of shape (captions, 40), padded and cut as the pipeline does it."""
    ids: torch.Tensor = tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    return ids
