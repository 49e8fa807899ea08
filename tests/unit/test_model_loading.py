"""What the catalog says of a model's loading is what its pipeline is."""

from pathlib import Path

import numpy as np
import pytest

from deployments.catalog import ModelEntry, load_catalog
from deployments.engine.exceptions import ModelLoadError
from deployments.engine.generation import draw_image
from deployments.model_loading import load_model, weights_of
from tests.unit.loading_samples import image_request, save_folder, save_lora, save_single_file
from tests.unit.tiny_pipelines import tiny_stable_diffusion


def catalog_entry(folder: Path, text: str) -> ModelEntry:
    path = folder / "catalog.yaml"
    path.write_text(f"models:\n  tiny:\n    source: local\n    replicas: {{num_gpus: 0}}\n{text}")
    return load_catalog(path, {}).get("tiny")


def test_every_word_of_the_catalog_arrives(tmp_path):
    save_folder(tmp_path / "tiny")
    save_lora(tmp_path / "style")
    entry = catalog_entry(
        tmp_path,
        """
    repo: tiny
    dtype: float32
    prompt_encoding: long
    loading:
      attention_backend: native
      layerwise_casting: float8_e4m3fn
      vae_slicing: true
      vae_tiling: true
      safety_checker: false
      scheduler: {name: EulerDiscreteScheduler, config: {use_karras_sigmas: true}}
      loras: [{repo: style, source: local, weight_name: pytorch_lora_weights.safetensors, scale: 0.25}]
""",
    )
    pipeline = load_model(entry, {})

    assert type(pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert pipeline.scheduler.config.use_karras_sigmas
    assert pipeline.vae.use_slicing
    assert pipeline.vae.use_tiling
    assert pipeline.get_active_adapters() == ["lora_0"]
    assert "float8" in str({parameter.dtype for parameter in pipeline.unet.parameters()})
    assert "encode_prompt" in vars(pipeline)
    assert pipeline.device.type == "cpu"
    assert np.isfinite(draw_image(pipeline, image_request(prompt="a (red:1.2) circle " * 30))).all()


def test_a_single_file_and_its_configs(tmp_path):
    save_folder(tmp_path / "configs")
    save_single_file(tmp_path / "mine.safetensors")
    entry = catalog_entry(tmp_path, "    repo: mine.safetensors\n    loading: {config: ./configs}\n")
    expected = draw_image(tiny_stable_diffusion(), image_request())

    assert np.array_equal(draw_image(load_model(entry, {}), image_request()), expected)
    assert weights_of(entry).startswith("sha256:")


def test_the_folder_of_a_model_that_cannot_be_loaded_is_not_told(tmp_path):
    entry = catalog_entry(tmp_path, "    repo: none\n")
    with pytest.raises(ModelLoadError) as caught:
        load_model(entry, {})

    assert str(caught.value) == "none could not be loaded: there is no such folder or file."


def test_weights_of_the_hub_are_known_by_their_revision():
    assert weights_of(ModelEntry(repo="owner/name")) == "owner/name@main"
    assert weights_of(ModelEntry(repo="owner/name", revision="v1")) == "owner/name@v1"
