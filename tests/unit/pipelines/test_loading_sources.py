"""A model draws the same from whatever form it is loaded, and unsafe forms are refused with what would be right."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.loading import load_pipeline, weights_fingerprint
from tests.support.drawing import draw_image
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_folder, save_single_file
from tests.support.tiny_pipelines import tiny_stable_diffusion


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def picture():
    return draw_image(tiny_stable_diffusion(), image_request())


def load(path: Path, config: str | None = None, **source):
    # Not checked: a catalog refuses some of these before they are read.
    entry = ModelEntry.model_construct(repo=str(path), source="local", loading=Loading(config=config), **source)
    return load_pipeline(entry, "cpu")


def refusal(path: Path, **source) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load(path, **source)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path.name} could not be loaded: ")
    assert str(path.parent) not in message
    return message


class TestForms:
    def test_a_folder(self, folder, picture):
        assert np.array_equal(draw_image(load(folder), image_request()), picture)

    def test_a_single_file_with_the_configs_of_a_folder(self, folder, picture, tmp_path):
        path = save_single_file(tmp_path / "mine.safetensors")
        pipeline = load(path, config=str(folder))
        assert np.array_equal(draw_image(pipeline, image_request()), picture)

    def test_a_dtype(self, folder):
        pipeline = load(folder, dtype="bfloat16")
        assert {pipeline.unet.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {torch.bfloat16}

    def test_a_hub_id_with_revision_and_token(self, monkeypatch):
        asked = {}

        def from_pretrained(location, **arguments):
            asked.update(arguments, location=location)
            return tiny_stable_diffusion()

        monkeypatch.setattr("deployments.pipelines.loading.DiffusionPipeline.from_pretrained", from_pretrained)
        entry = ModelEntry(repo="owner/name", revision="v1", variant="fp16", dtype="float16")
        load_pipeline(entry, "cpu", token="secret")

        assert asked == {
            "location": "owner/name",
            "revision": "v1",
            "token": "secret",
            "variant": "fp16",
            "dtype": torch.float16,
            "use_safetensors": True,
            "trust_remote_code": False,
            "local_files_only": False,
        }


class TestRefusals:
    @pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.bin"])
    def test_a_pickle(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"anything")
        assert "it is a pickle, which can run code" in refusal(tmp_path / name)

    def test_a_folder_with_pickled_weights(self, tmp_path):
        tiny_stable_diffusion().save_pretrained(tmp_path / "old", safe_serialization=False)
        message = refusal(tmp_path / "old")
        assert "the weights of unet are a pickle" in message
        assert "convert them to .safetensors" in message

    @pytest.mark.parametrize("where", ["model_index", "component"])
    def test_code_of_its_own_is_not_run(self, tmp_path, where):
        path = save_folder(tmp_path / "custom")
        index = json.loads((path / "model_index.json").read_text())
        (path / "mine.py").write_text("raise SystemExit('this ran')")
        (path / "unet" / "mine.py").write_text("raise SystemExit('this ran')")
        if where == "model_index":
            index["_class_name"] = ["mine", "MyPipeline"]
        else:
            index["unet"] = ["mine", "MyUNet"]
        (path / "model_index.json").write_text(json.dumps(index))
        assert "it brings code of its own, which is never run" in refusal(path)

    def test_a_folder_that_is_not_there(self, tmp_path):
        assert "there is no such folder or file" in refusal(tmp_path / "none")

    def test_a_folder_of_something_else(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "it has no model_index.json" in refusal(tmp_path / "empty")

    def test_a_file_of_something_else(self, tmp_path):
        (tmp_path / "notes.txt").write_text("notes")
        assert "must be a .safetensors file" in refusal(tmp_path / "notes.txt")

    def test_a_damaged_file(self, tmp_path):
        path = save_folder(tmp_path / "cut")
        weights = path / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        assert "diffusion_pytorch_model.safetensors" in refusal(path)

    def test_a_single_file_of_another_kind_than_its_config(self, tmp_path, folder):
        other = tiny_stable_diffusion()
        weights = tmp_path / "other.safetensors"
        save_single_file(weights, other)
        config = tmp_path / "config"
        save_folder(config)
        changed = json.loads((config / "unet" / "config.json").read_text())
        changed["layers_per_block"] = 2
        (config / "unet" / "config.json").write_text(json.dumps(changed))
        assert "its weights are not those that its config describes" in refusal(weights, config=str(config))

    def test_a_single_file_whose_config_is_no_model(self, tmp_path):
        path = save_single_file(tmp_path / "mine.safetensors")
        (tmp_path / "empty").mkdir()
        assert "its config empty has no model_index.json" in refusal(path, config=str(tmp_path / "empty"))

    def test_a_single_file_without_configs_and_hub(self, tmp_path, monkeypatch):
        def no_hub(location, **_):
            raise OSError(f"{location} cannot be reached.")

        monkeypatch.setattr("deployments.pipelines.loading.DiffusionPipeline.load_config", no_hub)
        path = save_single_file(tmp_path / "mine.safetensors")
        assert "loading.config" in refusal(path)


def test_fingerprints_change_with_the_weights(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"one")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.safetensors").write_bytes(b"one")
    first = weights_fingerprint(path)
    assert weights_fingerprint(tmp_path / "folder") == first
    path.write_bytes(b"two")
    assert weights_fingerprint(path) != first


def test_layers_of_clip_are_where_the_library_looks_for_them_and_have_no_parameter_twice(folder):
    pipeline = load(folder)
    with torch.inference_mode():
        skipped, *_ = pipeline.encode_prompt("a ring", torch.device("cpu"), 1, False, clip_skip=1)
        plain, *_ = pipeline.encode_prompt("a ring", torch.device("cpu"), 1, False)

    assert skipped.shape == plain.shape
    assert not torch.equal(skipped, plain)
    assert pipeline.text_encoder.state_dict().keys() == tiny_stable_diffusion().text_encoder.state_dict().keys()
