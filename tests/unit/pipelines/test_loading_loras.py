"""LoRAs change the image by their scale, add up, and are refused where they do not belong."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading, Lora
from deployments.engine.engine import Engine
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.lora import add_loras
from deployments.pipelines.tuning import tune_pipeline
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_lora
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion

WAIT = 120


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_lora(tmp_path / "style")


def local(path: Path, **more) -> Lora:
    return Lora(repo=str(path), source="local", **more)


def picture_with(*loras: Lora):
    pipeline = tiny_stable_diffusion()
    add_loras(pipeline, loras)
    return draw_image(pipeline, image_request())


def refusal(*loras: Lora, pipeline=None) -> str:
    with pytest.raises(ModelLoadError) as caught:
        add_loras(pipeline or tiny_stable_diffusion(), loras)
    return str(caught.value)


def test_a_lora_works_by_its_scale(folder):
    without = picture_with()
    assert np.array_equal(picture_with(local(folder, scale=0.0)), without)
    half, whole = picture_with(local(folder, scale=0.5)), picture_with(local(folder))
    assert np.abs(half - without).max() > 0.01
    assert np.abs(whole - half).max() > 0.01


def test_it_is_the_weights_that_diffusers_makes_of_it(folder):
    stock = tiny_stable_diffusion()
    stock.load_lora_weights(str(folder))
    stock.set_adapters(["default_0"], [0.7])
    expected = draw_image(stock, image_request())
    assert np.array_equal(picture_with(local(folder, scale=0.7)), expected)


def test_a_file_is_named_directly_or_in_its_folder(folder):
    name = "pytorch_lora_weights.safetensors"
    assert np.array_equal(picture_with(local(folder / name)), picture_with(local(folder, weight_name=name)))


def test_several_work_at_once_in_any_order(tmp_path, folder):
    other = save_lora(tmp_path / "other", seed=1)
    one, two = local(folder, scale=0.2), local(other, scale=0.3)
    both = picture_with(one, two)
    assert np.abs(both - picture_with(two, one)).max() < 1e-4
    assert np.abs(both - picture_with(one)).max() > 0.01


def test_an_engine_over_it_and_layerwise_casting_draws_the_same(folder):
    pipeline = tiny_stable_diffusion()
    loading = Loading(loras=[local(folder, scale=0.1)], layerwise_casting="float8_e4m3fn")
    tune_pipeline(pipeline, ModelEntry(repo="owner/name", loading=loading), "cpu")
    requests = [image_request(seed=seed) for seed in range(3)]
    expected = [draw_image(pipeline, request) for request in requests]
    engine = Engine(pipeline, max_batch=4, costs=FixedCosts())
    generations = [engine.submit(request) for request in requests]
    for generation, alone in zip(generations, expected, strict=True):
        assert np.abs(generation.future.result(WAIT) - alone).max() <= 1e-4
    engine.stop(WAIT)


def test_weights_for_other_modules_are_refused(tmp_path):
    names = [f"transformer.transformer_blocks.0.attn.to_q.lora_{side}.weight" for side in "AB"]
    save_file({names[0]: torch.ones(4, 64), names[1]: torch.ones(64, 4)}, tmp_path / "flux.safetensors")
    message = refusal(local(tmp_path / "flux.safetensors"))
    assert message.startswith("the LoRA flux.safetensors has no weights for a StableDiffusionPipeline")


def test_weights_of_another_size_are_refused_in_one_line(tmp_path):
    larger = tiny_stable_diffusion()
    larger.unet = UNet2DConditionModel.from_config({**larger.unet.config, "cross_attention_dim": 32})
    message = refusal(local(save_lora(tmp_path / "sdxl", larger)))
    assert message.startswith("the LoRA sdxl cannot be used with a StableDiffusionPipeline")
    assert "\n" not in message
    assert str(tmp_path) not in message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert refusal(local(tmp_path / "none.safetensors")) == "the LoRA none.safetensors is not there."


def test_a_pipeline_that_takes_none_says_so(folder):
    pipeline = tiny_pipeline(diffusers.PixArtSigmaPipeline)
    assert refusal(local(folder), pipeline=pipeline) == "a PixArtSigmaPipeline takes no LoRAs."


def test_a_hub_id_is_asked_for_with_revision_and_token():
    asked = {}
    pipeline = tiny_stable_diffusion()
    pipeline.load_lora_weights = lambda location, **arguments: asked.update(arguments, location=location)
    lora = Lora(repo="owner/style", weight_name="style.safetensors", revision="v2")
    with pytest.raises(ModelLoadError):
        add_loras(pipeline, [lora], token="secret")
    assert asked == {
        "location": "owner/style",
        "adapter_name": "lora_0",
        "weight_name": "style.safetensors",
        "revision": "v2",
        "token": "secret",
        "use_safetensors": True,
        "local_files_only": False,
    }
