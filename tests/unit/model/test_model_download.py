"""A model that cannot be downloaded is refused before its first byte, with the way out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from huggingface_hub import constants

from deployments.catalog.entry import ModelEntry
from deployments.doctor.facts import hub as hub_facts
from deployments.model.download import check_download
from deployments.model.loading import load_model
from deployments.pipelines.exceptions import ModelLoadError
from tests.support.fake_hub import HubRepository, fake_hub
from tests.support.ports import free_port

TOKEN = "hf_" + "a" * 30
GB = 10**9
FILES = {"model_index.json": 500, "transformer/a.safetensors": 14 * GB, "vae/a.safetensors": GB}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    """No model and no token of this machine, and a disk with 10 GB."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_facts, "get_token", lambda: None)
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: disk._replace(free=10 * GB))


@contextmanager
def hub_with(monkeypatch, repositories: Mapping[str, HubRepository]) -> Iterator[None]:
    with fake_hub(repositories, frozenset({TOKEN})) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield


def entry(**fields: object) -> ModelEntry:
    return ModelEntry.model_validate({"repo": "a/b", "replicas": {"num_gpus": 0}, **fields})


def refusal(model: ModelEntry, environ: Mapping[str, str]) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load_model(model, environ)
    return str(caught.value)


def test_a_disk_that_is_too_small(monkeypatch):
    with hub_with(monkeypatch, {"a/b": HubRepository(FILES)}):
        message = refusal(entry(), {})

    assert message.startswith(
        "a/b could not be loaded: 15.0 GB are to be downloaded (a/b 15.0 GB), and 10.0 GB are free"
    )
    assert "HF_HOME=/path/on/a/larger/disk" in message


def test_a_gated_model_without_a_token(monkeypatch):
    with hub_with(monkeypatch, {"a/b": HubRepository({}, is_gated=True)}):
        message = refusal(entry(token_env="HF_TOKEN"), {})

    assert "a/b is gated, and HF_TOKEN is not set; accept the licence at https://huggingface.co/a/b, then:" in message


def test_a_licence_that_was_not_accepted(monkeypatch):
    with hub_with(monkeypatch, {"a/b": HubRepository({}, is_gated=True)}):
        message = refusal(entry(token_env="HF_TOKEN"), {"HF_TOKEN": TOKEN})

    assert "its licence is not accepted by the owner of the token in HF_TOKEN" in message


def test_a_repository_that_is_not_there(monkeypatch):
    with hub_with(monkeypatch, {}):
        assert "has no repository a/b, or it is private" in refusal(entry(), {})


def test_what_may_be_read_and_fits_is_not_refused(monkeypatch):
    small = {"model_index.json": 500, "vae/a.safetensors": GB}
    with hub_with(monkeypatch, {"a/b": HubRepository(small, is_gated=True, readers=frozenset({TOKEN}))}):
        check_download(entry(token_env="HF_TOKEN"), {"HF_TOKEN": TOKEN})


def test_beside_a_gguf_file_less_is_downloaded(monkeypatch):
    quantization = {"method": "gguf", "file": "a.gguf"}
    with hub_with(monkeypatch, {"a/b": HubRepository(FILES)}):
        check_download(entry(loading={"quantization": quantization}), {})


def test_a_hub_that_does_not_answer_refuses_nothing(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")

    check_download(entry(token_env="HF_TOKEN"), {})


def test_local_models_ask_nobody(monkeypatch):
    monkeypatch.setattr("httpx.head", lambda *_, **__: pytest.fail("The hub was asked."))

    check_download(entry(source="local"), {})
