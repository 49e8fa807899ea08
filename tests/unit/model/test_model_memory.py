"""A model is planned before it is loaded: it fits, is refused, or is loaded as the catalog has it."""

import logging
from pathlib import Path

import pytest

from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import SizeLimits
from deployments.catalog.loading import Loading
from deployments.memory_plan import config_files
from deployments.memory_plan.choice import TooLargeError
from deployments.memory_plan.plan import CONTEXT_BYTES, WORKSPACE_BYTES
from deployments.model import memory
from deployments.model.loaded_model import LoadedModel
from deployments.model.loading import weights_of
from deployments.model.memory import settle_memory
from tests.support.pretended_gpu import pretend_gpu
from tests.support.stage_bytes import save_configs
from tests.support.tiny_pipelines.families import FAMILIES

MIB = 1 << 20
SIZE = SizeLimits(default_width=128, default_height=128, minimum=64, maximum=128, max_pixels=128 * 128)
ASIDE = CONTEXT_BYTES + WORKSPACE_BYTES + 256 * MIB  # the last for encoded prompts


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A hub that has one model; gives the patterns of the files that were asked for."""
    folder = save_configs(FAMILIES["flux"].build(), tmp_path / "flux")
    asked: list[list[str]] = []

    def download(repo: str, *, allow_patterns: list[str], **_: object) -> str:
        if repo != "owner/flux":
            raise OSError("there is no such repository")
        asked.append(allow_patterns)
        return str(folder)

    monkeypatch.setattr(config_files, "snapshot_download", download)
    return asked


def entry(repo: str = "owner/flux", **loading: object) -> ModelEntry:
    return ModelEntry(repo=repo, dtype="float32", size=SIZE, loading=Loading.model_validate(loading))


def test_what_fits_is_loaded_whole(hub: list[list[str]], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, memory.__name__)
    with pretend_gpu(capacity=ASIDE + 64 * MIB):
        settled = settle_memory(entry(), {})

    assert settled.fit is not None
    assert settled.entry.loading.offload == "none"
    assert "everything on the GPU: one 128x128 image needs" in caplog.text


def test_only_configs_are_downloaded(hub: list[list[str]]) -> None:
    with pretend_gpu():
        settle_memory(entry(), {})

    assert all(pattern.endswith(".json") for patterns in hub for pattern in patterns)


def test_what_cannot_fit_is_refused_before_its_weights_are_downloaded(
    hub: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.model.loaded_model.load_model", lambda *_, **__: pytest.fail("it was loaded"))
    loaded = LoadedModel("flux", entry())
    with pretend_gpu(capacity=ASIDE + MIB):
        loaded.load()

    assert loaded.failure.startswith("owner/flux does not fit the GPU: one 128x128 image needs ")
    assert "take a smaller model or a larger GPU." in loaded.failure


def test_a_share_of_the_gpu_is_all_that_counts(hub: list[list[str]]) -> None:
    shared = entry().model_copy(update={"replicas": entry().replicas.model_copy(update={"num_gpus": 0.5})})
    with pretend_gpu(capacity=ASIDE + 64 * MIB):
        settle_memory(entry(), {})
        with pytest.raises(TooLargeError):
            settle_memory(shared, {})


def test_without_its_configs_it_is_loaded_as_the_catalog_has_it(
    hub: list[list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, memory.__name__)
    with pretend_gpu(capacity=ASIDE):
        settled = settle_memory(entry("owner/other"), {})

    assert settled.fit is None
    assert settled.entry == entry("owner/other")
    assert "there is no such repository" in caplog.text


def test_on_the_cpu_nothing_is_planned(hub: list[list[str]]) -> None:
    assert settle_memory(entry(device="cpu"), {}).fit is None
    assert hub == []


def test_where_weights_wait_is_no_part_of_their_name() -> None:
    assert weights_of(entry(offload="group")) == weights_of(entry(memory="manual"))
    assert weights_of(entry(vae_tiling=True)) != weights_of(entry())
