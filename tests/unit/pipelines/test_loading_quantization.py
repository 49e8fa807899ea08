"""Quantized weights draw nearly the same, and what is missing for them is named."""

import importlib.metadata
import importlib.util
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from diffusers import BitsAndBytesConfig

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading, Quantization
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.loading import load_pipeline
from deployments.pipelines.quantization import check_quantized, quantization_arguments
from deployments.pipelines.weights import Weights
from tests.support.drawing import draw_image
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_folder
from tests.support.tiny_pipelines import tiny_stable_diffusion

INDEX = {
    "_class_name": "StableDiffusion3Pipeline",
    "transformer": ["diffusers", "SD3Transformer2DModel"],
    "text_encoder_3": ["transformers", "T5EncoderModel"],
    "image_encoder": [None, None],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_folder(tmp_path_factory.mktemp("models") / "tiny")


def load(folder: Path, method: str, kind: str | None = None, components: tuple[str, ...] = (), **more):
    # Not checked: a catalog refuses a kind for gguf.
    chosen = Quantization.model_construct(method=method, kind=kind, components=components, **more)
    loading = Loading.model_construct(quantization=chosen)
    return load_pipeline(ModelEntry(repo=str(folder), source="local", loading=loading), "cpu")


def refusal(folder: Path, *quantization, **more) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load(folder, *quantization, **more)
    return str(caught.value).removeprefix("tiny could not be loaded: ")


@pytest.fixture
def every_package_is_installed(monkeypatch):
    find_spec = importlib.util.find_spec
    known = {"torchao", "bitsandbytes", "gguf"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: name in known or find_spec(name, *more))
    version = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0" if name in known else version(name))


@pytest.mark.parametrize("method", ["torchao", "bitsandbytes", "gguf"])
def test_a_missing_package_is_named(folder, monkeypatch, method):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == method else find_spec(name, *more)
    )
    assert refusal(folder, method, "int8") == f'quantization with {method} needs its package: pip install "{method}".'


@pytest.mark.usefixtures("every_package_is_installed")
def test_a_missing_component_is_named_with_those_there_are(folder):
    message = refusal(folder, "bitsandbytes", "int8", ("transformer",))
    assert message == (
        "it has no component transformer to quantize; it has scheduler, text_encoder, tokenizer, unet, vae."
    )


class TestTorchAo:
    @pytest.fixture(autouse=True)
    def _is_installed(self):
        pytest.importorskip("torchao")

    @pytest.mark.parametrize(("kind", "weights"), [("int8", "Int8Tensor"), ("float8", "Float8Tensor")])
    def test_each_kind_draws_nearly_the_same(self, folder, kind, weights):
        expected = draw_image(tiny_stable_diffusion(), image_request())
        pipeline = load(folder, "torchao", kind)

        assert weights in {type(parameter).__name__ for parameter in pipeline.unet.parameters()}
        assert 0 < np.abs(draw_image(pipeline, image_request()) - expected).max() < 0.02

    def test_further_components(self, folder):
        pipeline = load(folder, "torchao", "int8", ("unet", "text_encoder"))

        for component in (pipeline.unet, pipeline.text_encoder):
            assert "Int8Tensor" in {type(parameter).__name__ for parameter in component.parameters()}

    def test_weights_go_to_a_device_and_back(self, folder):
        pipeline = load(folder, "torchao", "int8")
        expected = draw_image(pipeline, image_request())
        weights = Weights(pipeline, "cpu")
        weights.bring_in()
        weights.park()

        assert np.array_equal(draw_image(pipeline, image_request()), expected)


def test_a_component_of_which_nothing_can_be_quantized_is_refused():
    with pytest.raises(ModelLoadError) as caught:
        check_quantized(tiny_stable_diffusion(), Quantization(method="torchao", kind="int8"))

    assert str(caught.value) == (
        "loading.quantization: no layer of unet, a UNet2DConditionModel, can be quantized with torchao int8; "
        "leave it out."
    )


@pytest.mark.usefixtures("every_package_is_installed")
class TestBitsAndBytes:
    def test_the_denoiser_is_quantized_where_nothing_is_said(self):
        (arguments,) = quantization_arguments(
            Quantization(method="bitsandbytes", kind="nf4"), INDEX, "", torch.bfloat16
        ).values()
        (config,) = arguments.quant_mapping.values()
        assert list(arguments.quant_mapping) == ["transformer"]
        assert isinstance(config, BitsAndBytesConfig)
        assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
        assert config.bnb_4bit_compute_dtype == torch.bfloat16

    def test_each_component_has_the_config_of_its_library(self):
        chosen = Quantization(method="bitsandbytes", kind="int8", components=("transformer", "text_encoder_3"))
        (arguments,) = quantization_arguments(chosen, INDEX, "", torch.bfloat16).values()
        assert isinstance(arguments.quant_mapping["transformer"], BitsAndBytesConfig)
        assert isinstance(arguments.quant_mapping["text_encoder_3"], transformers.BitsAndBytesConfig)
        assert all(config.load_in_8bit for config in arguments.quant_mapping.values())


class TestGguf:
    def test_the_file_takes_the_place_of_the_denoiser(self, folder, tmp_path):
        stock = tiny_stable_diffusion()
        expected = draw_image(stock, image_request())
        path = tmp_path / "unet.gguf"
        write_gguf(path, stock.unet)
        pipeline = load(folder, "gguf", file=str(path))

        assert "GGUFLinear" in {type(module).__name__ for module in pipeline.unet.modules()}
        assert 0 < np.abs(draw_image(pipeline, image_request()) - expected).max() < 0.02

    def test_a_file_that_is_not_there_is_named(self, folder, tmp_path):
        assert refusal(folder, "gguf", file=str(tmp_path / "none.gguf")) == "the quantized file none.gguf is not there."


def write_gguf(path: Path, model: torch.nn.Module) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    writer = gguf.GGUFWriter(path, "sd")
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
