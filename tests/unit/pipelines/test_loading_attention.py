"""Attention kernels are chosen for one model, and none that compute something else than torch's own."""

from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models import attention_processor
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.models.attention_processor import (
    AttnProcessor2_0,
    SanaLinearAttnProcessor2_0,
    XFormersAttnProcessor,
    XFormersJointAttnProcessor,
)

from deployments.catalog.entry import ModelEntry
from deployments.pipelines.attention import check_attention, choose_attention
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.tuning import tune_pipeline
from tests.support.drawing import draw_image
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion

TOLERANCE = 1e-4
XFORMERS = {XFormersAttnProcessor, XFormersJointAttnProcessor}


def entry(backend: str) -> ModelEntry:
    return ModelEntry.model_validate(
        {
            "repo": "owner/name",
            "loading": {"attention_backend": backend},
            "size": {"minimum": 16, "default_width": 16, "default_height": 16},
            "steps": {"default": 2},
        }
    )


def attentions(pipeline):
    denoiser = pipeline.components.get("unet") or pipeline.transformer
    return [module for module in denoiser.modules() if hasattr(module, "processor")]


def processors(pipeline) -> set[type]:
    return {type(module.processor) for module in attentions(pipeline)}


def backends(pipeline) -> set:
    return {module.processor._attention_backend for module in attentions(pipeline)}


@pytest.fixture
def xformers(monkeypatch):
    """A package that computes what the real one does."""

    def attention(query, key, value, attn_bias=None, p=0.0, scale=None, op=None):
        has_heads = query.ndim == 4  # (batch, tokens, heads, channels), else (batch of heads, tokens, channels)
        parts = [part.transpose(1, 2) if has_heads else part for part in (query, key, value)]
        result = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=attn_bias, scale=scale)
        return result.transpose(1, 2) if has_heads else result

    ops = SimpleNamespace(memory_efficient_attention=attention)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "xformers")
    monkeypatch.setattr(attention_processor, "xformers", SimpleNamespace(ops=ops))
    return ops


class TestTorchsOwn:
    @pytest.mark.parametrize("backend", ["auto", "native"])
    def test_is_what_nothing_else_is_said_for(self, xformers, backend):
        flux, unet = tiny_pipeline(diffusers.FluxPipeline), tiny_stable_diffusion()
        tune_pipeline(flux, entry(backend), "cpu")
        tune_pipeline(unet, entry(backend), "cpu")
        check_attention(unet, entry(backend))

        assert backends(flux) == {None}
        assert processors(unet) == {AttnProcessor2_0}


class TestBackend:
    def test_is_set_on_every_layer_of_this_model_alone(self):
        pipeline = tiny_pipeline(diffusers.FluxPipeline)
        expected = draw_image(pipeline, image_request())
        active = _AttentionBackendRegistry.get_active_backend()
        choose_attention(pipeline, "_native_math")

        assert backends(pipeline) == {AttentionBackendName._NATIVE_MATH}
        assert np.abs(draw_image(pipeline, image_request()) - expected).max() <= TOLERANCE
        # Layers of other models, which have none of their own, would take the active one.
        assert _AttentionBackendRegistry.get_active_backend() == active

    def test_that_is_not_installed_is_refused(self):
        with pytest.raises(RuntimeError, match="flash"):
            choose_attention(tiny_pipeline(diffusers.FluxPipeline), "flash")

    def test_other_than_xformers_is_not_for_a_unet(self):
        with pytest.raises(ModelLoadError) as caught:
            choose_attention(tiny_stable_diffusion(), "flash")

        assert str(caught.value) == "UNet2DConditionModel takes the attention backends native and xformers only."


class TestXformers:
    @pytest.mark.parametrize("family", [diffusers.StableDiffusionXLPipeline, diffusers.StableDiffusion3Pipeline])
    def test_takes_the_place_of_what_it_computes_exactly(self, xformers, family):
        pipeline = tiny_pipeline(family)
        expected = draw_image(pipeline, image_request())
        choose_attention(pipeline, "xformers")

        assert processors(pipeline) <= XFORMERS
        assert np.abs(draw_image(pipeline, image_request()) - expected).max() <= TOLERANCE

    @pytest.mark.parametrize(
        ("family", "denoiser"),
        [
            (diffusers.AuraFlowPipeline, "AuraFlowTransformer2DModel"),
            (diffusers.HunyuanDiTPipeline, "HunyuanDiT2DModel"),
            (diffusers.LuminaPipeline, "LuminaNextDiT2DModel"),
            (diffusers.CogView4Pipeline, "CogView4Transformer2DModel"),
        ],
    )
    def test_is_refused_for_processors_that_do_more_than_it(self, xformers, family, denoiser):
        pipeline = tiny_pipeline(family)
        before = [module.processor for module in attentions(pipeline)]
        with pytest.raises(ModelLoadError) as caught:
            choose_attention(pipeline, "xformers")

        assert f"xformers does not compute what {denoiser} does (" in str(caught.value)
        assert [module.processor for module in attentions(pipeline)] == before

    def test_leaves_a_layer_as_it_is_that_it_cannot_compute(self, xformers):
        pipeline = tiny_stable_diffusion()
        first, second, *_ = attentions(pipeline)
        first.set_processor(SanaLinearAttnProcessor2_0())
        second.norm_q = torch.nn.Identity()
        choose_attention(pipeline, "xformers")

        assert [type(first.processor), type(second.processor)] == [SanaLinearAttnProcessor2_0, AttnProcessor2_0]
        assert XFormersAttnProcessor in processors(pipeline)


class TestComparison:
    def test_of_kernels_that_compute_the_same_changes_nothing(self, xformers):
        pipeline = tiny_stable_diffusion()
        expected = draw_image(pipeline, image_request())
        choose_attention(pipeline, "xformers")
        check_attention(pipeline, entry("xformers"))

        assert processors(pipeline) == {XFormersAttnProcessor}
        assert np.abs(draw_image(pipeline, image_request()) - expected).max() <= TOLERANCE

    @pytest.mark.parametrize("wrong", [lambda value: value + 1, lambda value: value * torch.nan])
    def test_of_kernels_that_compute_something_else_refuses_them(self, xformers, wrong):
        attention = xformers.memory_efficient_attention
        xformers.memory_efficient_attention = lambda *args, **kwargs: wrong(attention(*args, **kwargs))
        pipeline = tiny_stable_diffusion()
        choose_attention(pipeline, "xformers")
        with pytest.raises(ModelLoadError) as caught:
            check_attention(pipeline, entry("xformers"))

        assert "with xformers the result of UNet2DConditionModel differs by" in str(caught.value)
        assert str(caught.value).endswith("take native.")

    def test_of_kernels_that_fail_refuses_them_with_the_reason(self, xformers):
        def fail(*_, **__):
            raise NotImplementedError("No operator found for memory_efficient_attention")

        xformers.memory_efficient_attention = fail
        pipeline = tiny_pipeline(diffusers.StableDiffusion3Pipeline)
        choose_attention(pipeline, "xformers")
        with pytest.raises(ModelLoadError, match="SD3Transformer2DModel cannot use xformers: No operator found"):
            check_attention(pipeline, entry("xformers"))

    def test_of_a_backend(self, monkeypatch):
        pipeline = tiny_pipeline(diffusers.FluxPipeline)
        choose_attention(pipeline, "_native_math")
        check_attention(pipeline, entry("flex"))  # whatever is set is compared

        assert backends(pipeline) == {AttentionBackendName._NATIVE_MATH}
        monkeypatch.setitem(
            _AttentionBackendRegistry._backends,
            AttentionBackendName._NATIVE_MATH,
            lambda query, key, value, **_: query,
        )
        with pytest.raises(ModelLoadError, match="with flex the result of FluxTransformer2DModel differs"):
            check_attention(pipeline, entry("flex"))

    def test_that_cannot_be_made_refuses_what_was_chosen(self, xformers):
        pipeline = tiny_stable_diffusion()
        choose_attention(pipeline, "xformers")
        pipeline.text_encoder = None
        with pytest.raises(ModelLoadError, match="could not be compared with torch's own kernels; take native"):
            check_attention(pipeline, entry("xformers"))
