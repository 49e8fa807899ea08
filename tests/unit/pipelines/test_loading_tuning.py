"""What is switched on in a pipeline does what diffusers has it do, and an engine over it draws the same."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from torch._dynamo.utils import counters

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading, SchedulerChoice
from deployments.engine.engine import Engine
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.offload import offload_encoders, offload_groups, offload_modules
from deployments.pipelines.tuning import tune_pipeline
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion

WAIT = 120
TOLERANCE = 1e-4


@pytest.fixture
def pipeline():
    return tiny_stable_diffusion()


def tuned(pipeline, **changes):
    tune_pipeline(pipeline, ModelEntry(repo="owner/name", loading=Loading(**changes)), "cpu")
    return pipeline


def refusal(pipeline, **changes) -> str:
    with pytest.raises(ModelLoadError) as caught:
        tuned(pipeline, **changes)
    return str(caught.value)


def assert_engine_agrees(pipeline) -> None:
    """Two rounds: what diffusers does after an image must not take away the engine's gates."""
    requests = [image_request(seed=seed, num_inference_steps=3 + seed) for seed in range(4)]
    expected = [draw_image(pipeline, request) for request in requests]
    engine = Engine(pipeline, max_batch=4, costs=FixedCosts())
    try:
        for _ in range(2):
            generations = [engine.submit(request) for request in requests]
            pictures = [generation.future.result(WAIT) for generation in generations]
            for picture, alone in zip(pictures, expected, strict=True):
                assert np.abs(picture - alone).max() <= TOLERANCE
    finally:
        engine.stop(WAIT)
    steps = sum(request.settings.num_inference_steps for request in requests)
    forwards = engine.statistics.forwards
    assert sum(width * count for (name, width), count in forwards.items() if name.startswith("UNet2D")) >= 2 * steps
    assert max(width for (name, width), _ in forwards.items() if name.startswith("UNet2D")) > 1


class TestDefaults:
    def test_nothing_is_changed(self, pipeline):
        expected = draw_image(tiny_stable_diffusion(), image_request())
        assert np.array_equal(draw_image(tuned(pipeline), image_request()), expected)


class TestScheduler:
    def test_is_another_one_with_the_models_own_config(self, pipeline):
        beta = pipeline.scheduler.config.beta_end
        tuned(pipeline, scheduler=SchedulerChoice(name="EulerDiscreteScheduler", config={"use_karras_sigmas": True}))

        assert isinstance(pipeline.scheduler, EulerDiscreteScheduler)
        assert pipeline.scheduler.config.use_karras_sigmas
        assert pipeline.scheduler.config.beta_end == beta

    def test_draws_as_it_does_in_diffusers(self, pipeline):
        stock = tiny_stable_diffusion()
        stock.scheduler = EulerDiscreteScheduler.from_config(stock.scheduler.config, use_karras_sigmas=True)
        expected = draw_image(stock, image_request())
        tuned(pipeline, scheduler=SchedulerChoice(name="EulerDiscreteScheduler", config={"use_karras_sigmas": True}))

        assert np.array_equal(draw_image(pipeline, image_request()), expected)

    @pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "StableDiffusionPipeline", "NoSuchScheduler"])
    def test_of_another_family_is_refused_with_those_there_are(self, pipeline, name):
        message = refusal(pipeline, scheduler=SchedulerChoice(name=name))

        assert message.startswith(f"this model cannot use the scheduler {name}; it can use DDIMScheduler, ")
        assert "UniPCMultistepScheduler" in message

    def test_an_argument_that_it_does_not_have_is_refused(self, pipeline):
        message = refusal(pipeline, scheduler=SchedulerChoice(name="EulerDiscreteScheduler", config={"karras": True}))

        assert message == "EulerDiscreteScheduler has no argument karras."


class Checker(torch.nn.Identity):
    dtype = torch.float32
    device = torch.device("cpu")


class TestSafetyChecker:
    def test_is_left_out(self, pipeline):
        pipeline.register_modules(safety_checker=Checker())
        tuned(pipeline, safety_checker=False)

        assert pipeline.components["safety_checker"] is None

    def test_stays_where_nothing_is_said(self, pipeline):
        checker = Checker()
        pipeline.register_modules(safety_checker=checker)

        assert tuned(pipeline).safety_checker is checker

    def test_a_pipeline_without_one_stays_as_it_is(self):
        pipeline = tiny_pipeline(diffusers.FluxPipeline)
        components = dict(pipeline.components)
        tuned(pipeline, safety_checker=False)

        assert pipeline.components == components


class TestLayerwiseCasting:
    @pytest.mark.parametrize("storage", ["float8_e4m3fn", "float8_e5m2"])
    def test_keeps_the_denoiser_small_and_draws_nearly_the_same(self, pipeline, storage):
        expected = draw_image(pipeline, image_request())
        tuned(pipeline, layerwise_casting=storage)
        kept = {parameter.dtype for parameter in pipeline.unet.parameters()}

        assert getattr(torch, storage) in kept
        assert {parameter.dtype for parameter in pipeline.text_encoder.parameters()} == {torch.float32}
        difference = np.abs(draw_image(pipeline, image_request()) - expected).max()
        assert 0 < difference < 0.2

    def test_an_engine_over_it_draws_the_same(self, pipeline):
        assert_engine_agrees(tuned(pipeline, layerwise_casting="float8_e4m3fn"))


class TestVae:
    def test_slicing(self, pipeline):
        tuned(pipeline, vae_slicing=True)

        assert pipeline.vae.use_slicing
        assert_engine_agrees(pipeline)

    def test_tiling_decodes_in_parts(self, pipeline):
        expected = draw_image(pipeline, image_request(width=32, height=32))
        tuned(pipeline, vae_tiling=True)
        picture = draw_image(pipeline, image_request(width=32, height=32))

        assert pipeline.vae.use_tiling
        assert picture.shape == expected.shape
        assert 0 < np.abs(picture - expected).max() < 1

    def test_an_autoencoder_that_cannot_is_told(self, pipeline):
        pipeline.vae = torch.nn.Identity()

        message = refusal(pipeline, vae_slicing=True)
        assert message == "the autoencoder of a StableDiffusionPipeline has no enable_slicing."


class TestCompile:
    def test_compiles_the_blocks_that_repeat(self, pipeline, monkeypatch):
        expected = draw_image(pipeline, image_request())
        compile_blocks = UNet2DConditionModel.compile_repeated_blocks
        asked = []

        def compile_without_code(self, **arguments):
            asked.append(arguments)
            compile_blocks(self, **arguments, backend="eager")

        monkeypatch.setattr(UNet2DConditionModel, "compile_repeated_blocks", compile_without_code)
        tuned(pipeline, compile=True)

        assert asked == [{"dynamic": True}]
        blocks = [each for each in pipeline.unet.modules() if type(each).__name__ == "BasicTransformerBlock"]
        assert blocks
        assert all(block._compiled_call_impl for block in blocks)
        assert np.abs(draw_image(pipeline, image_request()) - expected).max() <= TOLERANCE

    def test_a_step_cache_decides_outside_of_what_is_compiled(self):
        pipeline = tiny_pipeline(diffusers.FluxPipeline)
        pipeline.transformer.compile_repeated_blocks(dynamic=True, backend="eager")
        counters.clear()
        engine = Engine(pipeline, max_batch=1, costs=FixedCosts(), has_step_cache=True)
        try:
            generation = engine.submit(image_request(num_inference_steps=6, step_cache=0.5))
            generation.future.result(WAIT)
        finally:
            engine.stop(WAIT)

        assert generation.skipped_passes
        assert not counters["graph_break"]
        assert counters["stats"]["unique_graphs"] == 2  # one for each kind of block

    def test_a_denoiser_without_such_blocks_is_told(self, pipeline, monkeypatch):
        monkeypatch.setattr(UNet2DConditionModel, "_repeated_blocks", [])

        assert "names no repeated blocks" in refusal(pipeline, compile=True)


class TestOffload:
    @pytest.mark.parametrize("offload", ["model", "group"])
    def test_needs_a_gpu(self, pipeline, offload):
        assert refusal(pipeline, offload=offload).startswith(f"offload: {offload} needs a GPU")

    def test_an_engine_over_offloaded_groups_draws_the_same(self, pipeline):
        expected = draw_image(tiny_stable_diffusion(), image_request())
        offload_groups(pipeline, "cpu")

        assert np.abs(draw_image(pipeline, image_request()) - expected).max() <= TOLERANCE
        assert_engine_agrees(pipeline)

    def test_an_engine_over_offloaded_encoders_draws_the_same(self, pipeline):
        expected = draw_image(tiny_stable_diffusion(), image_request())
        offload_encoders(pipeline, "cpu")

        assert np.abs(draw_image(pipeline, image_request()) - expected).max() <= TOLERANCE
        assert_engine_agrees(pipeline)

    def test_encoders_that_are_not_there_cannot_be_offloaded(self, pipeline):
        pipeline.text_encoder = None

        with pytest.raises(ModelLoadError, match="has none"):
            offload_encoders(pipeline, "cpu")

    def test_an_engine_over_offloaded_modules_draws_the_same(self, pipeline):
        expected = draw_image(tiny_stable_diffusion(), image_request())
        offload_modules(pipeline, "cpu")

        assert np.abs(draw_image(pipeline, image_request()) - expected).max() <= TOLERANCE
        assert_engine_agrees(pipeline)

    def test_a_module_that_is_called_sends_all_others_away(self, pipeline):
        offload_modules(pipeline, "cpu")
        sent = []
        for hook in pipeline._all_hooks:
            # On this device a module seems to wait on the other one, and to come back is all that it does.
            hook.hook.init_hook = sent.append
        called, *others = pipeline._all_hooks
        for other in others:
            other.model.to("meta")
        called.model.forward(torch.ones((1, 4), dtype=torch.long))

        assert {id(module) for module in sent} == {id(other.model) for other in others}
