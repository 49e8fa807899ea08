"""What the doctor learns of the hub's models, over HTTP, and what it says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.doctor.checkup import examine_models
from deployments.doctor.facts import hub as hub_facts
from deployments.doctor.facts.hub import Access, Hub, ask_hub
from deployments.doctor.finding import Finding
from tests.support.fake_hub import COMMIT, HubRepository, fake_hub
from tests.support.machines import BAD, GOOD
from tests.support.ports import free_port

TOKEN = "hf_" + "a" * 30
GB = 10**9
PIPELINE = {
    "model_index.json": 500,
    "whole.safetensors": 24 * GB,  # the same weights once more, for other programs
    "transformer/a-00001-of-00002.safetensors": 10 * GB,
    "transformer/a-00002-of-00002.safetensors": 4 * GB,
    "vae/a.safetensors": GB,
    "vae/a.fp16.safetensors": GB // 2,
    "vae/a.bin": GB,
}
OPEN = HubRepository(PIPELINE)
GATED = HubRepository(PIPELINE, is_gated=True, readers=frozenset({TOKEN}))


@pytest.fixture(autouse=True)
def _own_tokens(monkeypatch) -> None:
    """Only the test's tokens, not those of this machine."""
    monkeypatch.setattr(hub_facts, "get_token", lambda: None)


def catalog_of(tmp_path: Path, *fields: str) -> Catalog:
    """A catalog with a model ``m`` that has these fields."""
    file = tmp_path / "catalog.yaml"
    lines = "".join(f"    {field}\n" for field in fields)
    file.write_text(f"models:\n  m:\n    replicas: {{num_gpus: 1}}\n{lines}")
    return load_catalog(file, {})


def ask(tmp_path: Path, repository: HubRepository | None, *fields: str, token: str = "") -> Hub:
    """Ask a hub that has one repository, a/b, about the model ``m``."""
    catalog = catalog_of(tmp_path, "repo: a/b", *fields)
    repositories = {} if repository is None else {"a/b": repository}
    with fake_hub(repositories, frozenset({TOKEN})) as endpoint:
        return ask_hub(catalog, {"HF_TOKEN": token} if token else {}, endpoint, tmp_path / "cache")


def findings(tmp_path: Path, hub: Hub, machine=GOOD) -> dict[str, Finding]:
    catalog = catalog_of(tmp_path, "repo: a/b")
    return {finding.check: finding for finding in examine_models(machine, catalog, hub)}


def download(cache: Path, *names: str) -> None:
    """Put files where a download puts them."""
    folder = cache / "models--a--b"
    for name in names:
        file = folder / "snapshots" / COMMIT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)


class TestWhatIsToBeDownloaded:
    def test_is_the_weights_in_the_folders_of_the_components(self, tmp_path):
        (found,) = ask(tmp_path, OPEN).repositories

        assert (found.access, found.total_bytes, found.missing_bytes) == (Access.GRANTED, 15 * GB, 15 * GB)

    def test_is_those_of_the_variant_where_there_are_any(self, tmp_path):
        (found,) = ask(tmp_path, OPEN, "variant: fp16").repositories

        assert found.total_bytes == 14 * GB + GB // 2

    def test_is_not_what_is_on_this_machine(self, tmp_path):
        download(tmp_path / "cache", "transformer/a-00001-of-00002.safetensors", "vae/a.safetensors")
        (found,) = ask(tmp_path, OPEN).repositories

        assert (found.missing_bytes, found.is_cached) == (4 * GB, False)

    def test_is_nothing_where_all_is_on_this_machine(self, tmp_path):
        download(tmp_path / "cache", *PIPELINE)
        (found,) = ask(tmp_path, OPEN).repositories

        assert (found.missing_bytes, found.is_cached) == (0, True)

    def test_is_also_that_of_controlnets_and_loras(self, tmp_path):
        catalog = catalog_of(
            tmp_path,
            "repo: a/b",
            "tasks: []",
            "controlnet: {repo: a/control, tasks: [text2image]}",
            "loading: {loras: [{repo: a/lora, weight_name: one.safetensors}]}",
        )
        repositories = {
            "a/b": OPEN,
            "a/control": HubRepository({"model.safetensors": 3 * GB}),
            "a/lora": HubRepository({"one.safetensors": GB, "two.safetensors": GB}),
        }
        with fake_hub(repositories) as endpoint:
            found = ask_hub(catalog, {}, endpoint, tmp_path / "cache").repositories

        assert {each.repo: each.missing_bytes for each in found} == {
            "a/b": 15 * GB,
            "a/control": 3 * GB,
            "a/lora": GB,
        }

    def test_must_fit_on_the_disk(self, tmp_path):
        hub = ask(tmp_path, OPEN)
        good, bad = (findings(tmp_path, hub, machine)["disk of the models"] for machine in (GOOD, BAD))

        assert (good.level, bad.level) == ("ok", "problem")
        assert bad.sentence == (
            "15.0 GB are to be downloaded (a/b 15.0 GB), and 12.0 GB are free at /home/ann/.cache/huggingface/hub; "
            "too few for a/b."
        )
        assert "HF_HOME" in bad.remedy

    def test_may_be_more_than_the_disk_holds_at_once(self, tmp_path):
        (found,) = ask(tmp_path, OPEN).repositories
        half = replace(found, missing_bytes=7 * GB)
        hub = Hub("https://huggingface.co", "", (half, replace(half, repo="a/c")))
        disk = findings(tmp_path, hub, BAD)["disk of the models"]

        assert disk.level == "warning"
        assert disk.sentence.endswith("too few for all of them.")


class TestAccess:
    @pytest.mark.parametrize(
        ("repository", "fields", "token", "access", "sentence", "remedy"),
        [
            (GATED, ["token_env: HF_TOKEN"], TOKEN, "granted", "a/b is gated, and may be read with this token.", ""),
            (GATED, ["token_env: HF_TOKEN"], "", "gated", "a/b is gated, and HF_TOKEN is not set.", "export HF_TOKEN="),
            (GATED, [], "", "gated", "a/b is gated, and HF_TOKEN is not set.", "https://huggingface.co/a/b"),
            (
                HubRepository(PIPELINE, is_gated=True),
                ["token_env: HF_TOKEN"],
                TOKEN,
                "gated",
                "its licence is not accepted by the owner of the token in HF_TOKEN.",
                "accept the licence at https://huggingface.co/a/b",
            ),
            (OPEN, ["token_env: HF_TOKEN"], "hf_wrong", "refused", "does not accept the token", "settings/tokens"),
            (None, [], "", "unknown", "The hub has no repository a/b, or it is private.", "mend repo"),
            (OPEN, ["revision: other"], "", "no revision", "a/b has no revision other.", "mend revision"),
        ],
    )  # fmt: skip
    def test_of_a_repository(self, tmp_path, repository, fields, token, access, sentence, remedy):
        hub = ask(tmp_path, repository, *fields, token=token)
        found = findings(tmp_path, hub)["model m"]

        assert hub.repositories[0].access == access
        assert found.level == ("ok" if access == "granted" else "problem")
        assert sentence in found.sentence
        assert remedy in found.remedy
        assert TOKEN not in found.sentence + found.remedy

    def test_of_one_for_everybody_is_not_worth_a_line(self, tmp_path):
        assert "model m" not in findings(tmp_path, ask(tmp_path, OPEN))


class TestSilence:
    @pytest.fixture
    def nobody(self) -> str:
        return f"http://127.0.0.1:{free_port()}"

    def test_of_a_hub_that_cannot_be_reached(self, tmp_path, nobody):
        hub = ask_hub(catalog_of(tmp_path, "repo: a/b"), {}, nobody, tmp_path / "cache")
        found = findings(tmp_path, hub)["hub"]

        assert found.level == "warning"
        assert found.sentence.startswith(f"Not asked. {nobody} cannot be reached: ")
        assert found.sentence.endswith("Not on this machine: a/b.")

    def test_of_a_hub_that_shall_not_be_asked(self, tmp_path, nobody, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        download(tmp_path / "cache", *PIPELINE)
        hub = ask_hub(catalog_of(tmp_path, "repo: a/b"), {}, nobody, tmp_path / "cache")
        found = findings(tmp_path, hub)

        assert (found["hub"].level, found["hub"].sentence) == ("ok", "Not asked. HF_HUB_OFFLINE is set.")
        assert found["disk of the models"].level == "ok"

    @pytest.mark.parametrize(
        ("token", "is_here", "level"), [("", False, "problem"), ("", True, "ok"), (TOKEN, False, "ok")]
    )
    def test_leaves_the_licence_open(self, tmp_path, nobody, token, is_here, level):
        if is_here:
            download(tmp_path / "cache", *PIPELINE)
        catalog = catalog_of(tmp_path, "repo: a/b", "token_env: HF_TOKEN")
        hub = ask_hub(catalog, {"HF_TOKEN": token} if token else {}, nobody, tmp_path / "cache")
        found = findings(tmp_path, hub)["model m"]

        assert found.level == level
        assert "not asked" in found.sentence

    def test_of_a_catalog_without_models_of_the_hub(self, tmp_path, nobody):
        catalog = load_catalog("configs/cpu.yaml", {})

        assert ask_hub(catalog, {}, nobody, tmp_path).silence == "No model of the catalog comes from it."
