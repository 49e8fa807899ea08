"""Images with different LoRAs, a ControlNet or a picture to start from share an engine, and equal their stock runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading, Lora
from deployments.catalog.tasks import ControlNet
from deployments.engine.engine import Engine
from deployments.engine.lora_sets import LoraSets, lora_set
from deployments.engine.request import ImageRequest
from deployments.parameters import LoraChoice
from deployments.pipelines.exceptions import UnsuitableRequestError
from deployments.pipelines.loading import load_pipeline
from tests.support.company import TOLERANCE, WAIT, draw_in_company
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_controlnet, save_folder, save_lora
from tests.unit.pipelines.test_engine_tasks import left_half, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, two LoRAs, of which the second one is for the text encoder too, and a ControlNet."""
    folder = tmp_path_factory.mktemp("models")
    save_folder(folder / "model")
    save_lora(folder / "ink", seed=1)
    save_lora(folder / "gold", seed=2, with_text_encoder=True)
    save_controlnet(folder / "lines")
    return folder


def load(folder: Path, **fields: object) -> DiffusionPipeline:
    controlnet = ControlNet(repo=str(folder / "lines"), source="local")
    entry = ModelEntry(repo=str(folder / "model"), source="local", controlnet=controlnet, **fields)
    return load_pipeline(entry, "cpu")


def loaded_for_requests(folder: Path, **more: object) -> DiffusionPipeline:
    loras = {name: Lora(repo=str(folder / name), source="local") for name in ("ink", "gold")}
    return load(folder, request_loras=loras, **more)


def with_loras(request: ImageRequest, *loras: LoraChoice) -> ImageRequest:
    return replace(request, settings=request.settings.model_copy(update={"loras": loras}))


def stock_run(folder: Path, request: ImageRequest, always: tuple[tuple[str, float], ...] = ()) -> np.ndarray:
    """The picture of a pipeline that has the request's LoRAs and nothing else, in the library's own words."""
    pipeline = load(folder)
    loras = [*((lora.name, lora.scale) for lora in request.settings.loras), *always]
    for number, (name, _) in enumerate(loras):
        pipeline.load_lora_weights(str(folder / name), adapter_name=f"{name}{number}")
    if loras:
        names = [f"{name}{number}" for number, (name, _) in enumerate(loras)]
        pipeline.set_adapters(names, [scale for _, scale in loras])
    with torch.inference_mode():
        return draw_image(pipeline, with_loras(request))


def test_requests_of_all_kinds_in_one_engine_equal_their_stock_runs(folder):
    start, control = picture(1), picture(2)
    requests = [
        image_request(num_inference_steps=9),
        image_request(seed=2, num_inference_steps=7, loras=(("ink", 0.3),)),
        image_request(seed=3, num_inference_steps=6, loras=(("gold", 0.2),), prompt="ring"),
        image_request(seed=4, num_inference_steps=5, loras=(("ink", 0.3),), guidance_scale=1.0),
        image_request(seed=5, num_inference_steps=5, loras=(("gold", 0.1), ("ink", 0.2)), prompt="ring"),
        image_request(seed=6, num_inference_steps=5, loras=(("ink", 0.2), ("gold", 0.1)), negative_prompt="green"),
        image_request(seed=7, inputs={"control_image": control}, control_scale=0.5),
        image_request(seed=8, inputs={"control_image": control}, loras=(("gold", 0.2),)),
        image_request(seed=9, num_inference_steps=6, task="image2image", inputs={"image": start}, strength=0.7),
        image_request(
            seed=10,
            num_inference_steps=6,
            task="inpaint",
            inputs={"image": start, "mask_image": left_half()},
            strength=0.8,
            loras=(("ink", 0.3),),
        ),
        image_request(
            seed=11,
            num_inference_steps=6,
            task="image2image",
            inputs={"image": start, "control_image": control},
            strength=0.9,
            loras=(("ink", 0.3),),
        ),
    ]
    together, statistics = draw_in_company(loaded_for_requests(folder), requests)
    differences = [
        np.abs(mine - stock_run(folder, request)).max() for mine, request in zip(together, requests, strict=True)
    ]

    plain = stock_run(folder, requests[0])
    assert np.abs(plain - stock_run(folder, with_loras(requests[0], LoraChoice(name="ink", scale=0.3)))).max() > 1e-2
    assert len(differences) == len(requests)
    assert max(differences) <= TOLERANCE, differences
    assert len({each.tobytes() for each in together}) == len(requests)
    assert statistics.widest_batch > 1


def test_equal_sets_share_forwards_and_different_ones_do_not(folder):
    def widest(*sets) -> int:
        engine = Engine(loaded_for_requests(folder), max_batch=4, costs=FixedCosts())
        host = image_request(num_inference_steps=1, on_step=lambda _: generations.extend(map(engine.submit, others)))
        others = [image_request(seed=seed, num_inference_steps=6, loras=loras) for seed, loras in enumerate(sets)]
        generations: list = []
        engine.submit(host).future.result(WAIT)
        for generation in generations:
            generation.future.result(WAIT)
        engine.stop(WAIT)
        return max(width for owner, width in engine.statistics.forwards if owner == "UNet2DConditionModel")

    assert widest((("ink", 0.3),), (("ink", 0.3),)) == 2
    assert widest((("ink", 0.3), ("gold", 0.1)), (("gold", 0.1), ("ink", 0.3))) == 2
    assert widest((("ink", 0.3),), (("ink", 0.4),)) == 1
    assert widest((("ink", 0.3),), ()) == 1
    assert widest((("ink", 0.0),), ()) == 2


def test_those_that_are_always_on_stay_on(folder):
    always = (("gold", 0.2),)
    loading = Loading(loras=[Lora(repo=str(folder / "gold"), source="local", scale=0.2)])
    tuned = loaded_for_requests(folder, loading=loading)
    requests = [image_request(seed=1), image_request(seed=2, loras=(("ink", 0.3),)), image_request(seed=3)]
    together, _ = draw_in_company(tuned, requests)

    for mine, request in zip(together, requests, strict=True):
        assert np.abs(mine - stock_run(folder, request, always)).max() <= TOLERANCE


def test_one_that_the_model_does_not_have_fails_its_request_alone(folder):
    engine = Engine(loaded_for_requests(folder), max_batch=4, costs=FixedCosts())
    good, bad = engine.submit(image_request()), engine.submit(image_request(loras=(("oil", 1.0),)))
    with pytest.raises(UnsuitableRequestError, match='no LoRA "oil"'):
        bad.future.result(WAIT)
    assert good.future.result(WAIT).any()
    engine.stop(WAIT)


class TestSwitching:
    def test_touches_no_layer_where_the_set_is_the_same(self, folder):
        pipeline = loaded_for_requests(folder)
        sets = LoraSets(pipeline.components)
        chosen = sets.within(pipeline.unet, lora_set([LoraChoice(name="ink", scale=0.3)]))
        sets.activate(pipeline.unet, chosen)
        layers = [layer for layer in pipeline.unet.modules() if hasattr(layer, "set_scale")]
        assert layers
        for layer in layers:
            layer.set_scale = lambda *_: pytest.fail("a layer was switched")
        sets.activate(pipeline.unet, sets.within(pipeline.unet, lora_set([LoraChoice(name="ink", scale=0.3)])))

    def test_a_module_is_asked_for_its_own_only(self, folder):
        pipeline = loaded_for_requests(folder)
        sets = LoraSets(pipeline.components)
        asked = lora_set([LoraChoice(name="ink", scale=0.3), LoraChoice(name="gold", scale=0.2)])
        assert sets.within(pipeline.unet, asked) == (("gold", 0.2), ("ink", 0.3))
        assert sets.within(pipeline.text_encoder, asked) == (("gold", 0.2),)
        assert sets.within(pipeline.vae, asked) == ()
