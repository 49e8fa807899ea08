"""Prompts are counted without their models, and as their models count them."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.model.prompt_tokens import PromptTokens
from deployments.pipelines.prompt_length import PromptLength
from tests.support.api_service import CPU_CATALOG, PROJECT

TOKENIZER = PROJECT / "models" / "shapes" / "tokenizer"
PROMPTS = ["", "a large red circle on a blue background", "Two  rings,\nit's 1234 caf\u00e9s!", "\u9752 " * 60]


def tokens_of(entry: ModelEntry, prompt: str) -> PromptLength:
    return PromptTokens(Catalog(models={"it": entry})).count("it", prompt)


def local(folder: Path, **more) -> ModelEntry:
    return ModelEntry(repo=str(folder), source="local", **more)


def clip_folder(folder: Path, model_max_length: int = 77, name: str = "tokenizer") -> Path:
    """A model's folder with the two files that most CLIP tokenizers on the hub have."""
    place = folder / name
    place.mkdir(parents=True)
    model = json.loads((TOKENIZER / "tokenizer.json").read_text("utf-8"))["model"]
    (place / "vocab.json").write_text(json.dumps(model["vocab"]), "utf-8")
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    (place / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]), "utf-8")
    (place / "tokenizer_config.json").write_text(json.dumps({"model_max_length": model_max_length}), "utf-8")
    return folder


@pytest.mark.parametrize("prompt", PROMPTS)
def test_counts_are_those_of_the_tokenizer_of_the_pipeline(tmp_path, prompt):
    true = len(CLIPTokenizer.from_pretrained(TOKENIZER)(prompt)["input_ids"])
    assert PromptTokens(CPU_CATALOG).count("shapes", prompt) == PromptLength(true, 40)
    assert tokens_of(local(clip_folder(tmp_path)), prompt) == PromptLength(true, 77)


def test_the_tokenizer_that_reads_most_counts(tmp_path):
    folder = clip_folder(clip_folder(tmp_path), 512, "tokenizer_2")
    assert tokens_of(local(folder), "red").limit == 512
    assert tokens_of(local(folder, max_sequence_length=256), "red").limit == 256
    assert tokens_of(local(folder, prompt_encoding="long"), "red").limit is None


def test_what_is_not_at_hand_is_not_counted(tmp_path):
    shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "tokenizer.json").unlink()
    for entry in (local(tmp_path), ModelEntry(repo="owner/never-fetched")):
        assert tokens_of(entry, "red") == PromptLength()
