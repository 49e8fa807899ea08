"""How many tokens prompts have, counted where their models are not loaded: from the files of the tokenizers alone."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.pipelines.prompt_length import CLIP_TOKENS, TOKENIZERS, PromptLength, tokens_read

_CLIP_MARKS = 2  # around each prompt
# As transformers has it, in CLIPTokenizer.
_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class PromptTokens:
    """Counts tokens, of several tokenizers with the one that reads most, as ``engine.prompt_length`` does.

    Tokenizers are at hand in a model's folder, and of the hub's models where this node has fetched them.

    Args:
        catalog: The models.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def count(self, model_id: str, prompt: str) -> PromptLength:
        """Return a prompt's length. The first count of a model reads its tokenizers.

        Raises:
            UnknownModelError: There is no such model.
        """
        entry = self._catalog.get(model_id)
        found = [_length(entry, config, prompt) for config in _configs(entry)]
        return max(found, key=lambda length: length.limit or 0, default=PromptLength())


def _configs(entry: ModelEntry) -> list[Path]:
    """The files ``tokenizer_config.json`` of a model, beside which the tokenizers' own are."""
    names = [f"{folder}/tokenizer_config.json" for folder in TOKENIZERS]
    if entry.source != "huggingface":
        return [path for name in names if (path := Path(entry.location()) / name).is_file()]
    cached = [try_to_load_from_cache(entry.repo, name, revision=entry.revision) for name in names]
    return [Path(path) for path in cached if isinstance(path, str)]


def _length(entry: ModelEntry, config: Path, prompt: str) -> PromptLength:
    tokenizer, marks = _read(config)
    if tokenizer is None:
        return PromptLength()
    tokens = len(tokenizer.encode(prompt).ids) + marks
    if entry.prompt_encoding == "long":
        return PromptLength(tokens)
    own = int(json.loads(config.read_text("utf-8")).get("model_max_length", CLIP_TOKENS))
    return PromptLength(tokens, tokens_read(own, entry.max_sequence_length))


@lru_cache(maxsize=16)
def _read(config: Path) -> tuple[Tokenizer | None, int]:
    """The tokenizer, and how many marks it leaves out; None where its files are of a kind that is not read here."""
    file, vocabulary, merges = (config.with_name(name) for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    if file.is_file():
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer, 0
    if vocabulary.is_file() and merges.is_file():
        return _clip(vocabulary, merges), _CLIP_MARKS
    return None, 0


def _clip(vocabulary: Path, merges: Path) -> Tokenizer:
    unknown = "<|endoftext|>"
    tokenizer = Tokenizer(
        models.BPE.from_file(str(vocabulary), str(merges), end_of_word_suffix="</w>", unk_token=unknown)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer
