"""A step cache skips what hardly changes, image by image, and no image's decisions or pixels depend on its company."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel, UNet2DConditionModel

from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from deployments.engine.step_cache import CachedPass, Passenger, StepCache
from deployments.pipelines.exceptions import ModelLoadError
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_stable_diffusion

WAIT = 120


def tiny_unet() -> torch.nn.Module:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


def tiny_sd3() -> torch.nn.Module:
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=4,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=8,
        pooled_projection_dim=8,
        out_channels=4,
        pos_embed_max_size=8,
    ).eval()


def tiny_flux() -> torch.nn.Module:
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
    ).eval()


@dataclass
class CountedPass(CachedPass):
    """Counts its full steps."""

    computed: int = 0

    def note(self, change: torch.Tensor, *, skips: bool) -> None:
        super().note(change, skips=skips)
        self.computed += not skips


class Walk:
    """Latents that change from step to step, and a denoiser's answers to them."""

    def __init__(self, seed: int, pace: float, denoiser: torch.nn.Module) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (2, 16, 4) if isinstance(denoiser, FluxTransformer2DModel) else (2, 4, 8, 8)
        self.start = torch.randn(shape, generator=generator)
        self.way = pace * torch.randn(shape, generator=generator)
        self.words = torch.randn(2, 5, 8, generator=generator)
        self.pooled = torch.randn(2, 8, generator=generator)

    def latents(self, step: int) -> torch.Tensor:
        return self.start + step * self.way


def run(denoiser: torch.nn.Module, walks: list[Walk], step: int) -> list[torch.Tensor]:
    latents = torch.cat([walk.latents(step) for walk in walks])
    words = torch.cat([walk.words for walk in walks])
    pooled = torch.cat([walk.pooled for walk in walks])
    times = torch.full((len(latents),), 500.0)
    if isinstance(denoiser, UNet2DConditionModel):
        result = denoiser(latents, times, words).sample
    elif isinstance(denoiser, SD3Transformer2DModel):
        result = denoiser(latents, words, pooled, times).sample
    else:
        ids = {"txt_ids": torch.zeros(5, 3), "img_ids": torch.zeros(16, 3)}
        result = denoiser(latents, words, pooled, times / 1000, **ids).sample
    return list(result.split(2))


@pytest.fixture(params=[tiny_unet, tiny_sd3, tiny_flux], ids=["unet", "sd3", "flux"])
def make_denoiser(request) -> Callable[[], torch.nn.Module]:
    """Makes the same denoiser again and again."""
    return request.param


@pytest.fixture
def denoiser(make_denoiser) -> torch.nn.Module:
    return make_denoiser()


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def walk_cached(
    denoiser: torch.nn.Module, walks: list[Walk], thresholds: list[float | None], steps: int = 8, *, fixed: bool = False
) -> tuple[list[list[torch.Tensor]], list[CountedPass | None]]:
    """Each walk's answers step by step, and what it kept."""
    cache = StepCache(denoiser)
    passes = [None if threshold is None else CountedPass(threshold) for threshold in thresholds]
    answers = []
    for step in range(steps):
        with cache.carrying([Passenger(2, kept) for kept in passes], fixed_width=fixed):
            answers.append(run(denoiser, walks, step))
    return [list(answer) for answer in zip(*answers, strict=True)], passes


def test_without_passengers_nothing_is_different(denoiser):
    walks = [Walk(1, 0.1, denoiser)]
    before = run(denoiser, walks, 0)
    StepCache(denoiser)
    assert torch.equal(before[0], run(denoiser, walks, 0)[0])


def test_a_threshold_of_nothing_skips_nothing_and_changes_nothing(denoiser):
    walks = [Walk(1, 0.1, denoiser)]
    expected = [run(denoiser, walks, step)[0] for step in range(8)]
    (answers,), (kept,) = walk_cached(denoiser, walks, [0.0])
    assert (kept.computed, kept.skipped) == (8, 0)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(answers, expected, strict=True))


def test_steps_that_change_little_are_skipped_and_come_close(denoiser):
    walks = [Walk(1, 0.005, denoiser)]
    expected = [run(denoiser, walks, step)[0] for step in range(8)]
    (answers,), (kept,) = walk_cached(denoiser, walks, [0.05])
    assert kept.skipped >= 4
    assert kept.computed + kept.skipped == 8
    scale = torch.stack(expected).abs().mean()
    assert all((one - other).abs().mean() < 0.2 * scale for one, other in zip(answers, expected, strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(answers, expected, strict=True))


def test_decisions_and_answers_are_the_same_alone_and_in_company(make_denoiser):
    walks = [Walk(1, 0.005, make_denoiser()), Walk(2, 0.1, make_denoiser()), Walk(3, 0.02, make_denoiser())]
    thresholds = [0.05, 0.05, None]
    together, company = walk_cached(make_denoiser(), walks, thresholds)
    for walk, threshold, answers, kept in zip(walks, thresholds, together, company, strict=True):
        (alone,), (lone,) = walk_cached(make_denoiser(), [walk], [threshold])
        assert kept is None or (kept.computed, kept.skipped) == (lone.computed, lone.skipped)
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(alone, answers, strict=True))
    assert company[0].skipped > company[1].skipped


def test_with_a_fixed_width_the_answers_are_the_same_to_the_bit(make_denoiser):
    walks = [Walk(1, 0.01, make_denoiser()), Walk(2, 0.05, make_denoiser())]
    strangers = [Walk(3, 0.2, make_denoiser()), Walk(4, 0.01, make_denoiser())]
    (first, _), _ = walk_cached(make_denoiser(), walks, [0.05, 0.05], fixed=True)
    (again, _), _ = walk_cached(make_denoiser(), [walks[0], strangers[0]], [0.05, None], fixed=True)
    (third, _), _ = walk_cached(make_denoiser(), [walks[0], strangers[1]], [0.05, 0.5], fixed=True)
    for one, two, three in zip(first, again, third, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_only_rows_that_need_it_are_computed(make_denoiser):
    denoiser = make_denoiser()
    widths: list[int] = []
    inner = denoiser.mid_block if hasattr(denoiser, "mid_block") else denoiser.transformer_blocks[1]
    forward = inner.forward

    def watched(hidden_states, *args, **kwargs):
        widths.append(len(hidden_states))
        return forward(hidden_states, *args, **kwargs)

    inner.forward = watched
    watched.__wrapped__ = forward
    walks = [Walk(1, 0.001, denoiser), Walk(2, 0.001, denoiser)]
    walk_cached(denoiser, walks, [0.5, None], steps=4)
    assert widths == [4, 2, 2, 2]


def test_padding_neither_decides_nor_is_served(make_denoiser):
    denoiser = make_denoiser()
    cache, kept = StepCache(denoiser), CountedPass(0.5)
    walks = [Walk(1, 0.001, denoiser), Walk(2, 0.001, denoiser)]
    for step in range(4):
        with cache.carrying([Passenger(2, kept), Passenger(2, is_padding=True)], fixed_width=True):
            run(denoiser, walks, step)
    assert (kept.computed, kept.skipped) == (1, 3)


@pytest.mark.parametrize("make_denoiser", [tiny_unet, tiny_sd3], ids=["unet", "sd3"])
def test_two_sizes_take_turns(make_denoiser):
    denoiser = make_denoiser()
    cache = StepCache(denoiser)
    kept = {8: CountedPass(0.9), 12: CountedPass(0.9)}
    for step in range(3):
        for side, kept_at in kept.items():
            walk = Walk(1, 0.001, denoiser)
            walk.start, walk.way = torch.ones(2, 4, side, side), torch.zeros(2, 4, side, side)
            with cache.carrying([Passenger(2, kept_at)], fixed_width=False):
                (answer,) = run(denoiser, [walk], step)
            assert answer.shape == (2, 4, side, side)
    assert all(each.skipped == 2 for each in kept.values())


def test_a_module_without_blocks_is_refused():
    with pytest.raises(ValueError, match="Linear has no blocks"):
        StepCache(torch.nn.Linear(2, 2))


class TestInTheEngine:
    def request(self, **changes) -> ImageRequest:
        values = {"prompt": "a ring", "num_inference_steps": 12, "guidance_scale": 3.0, "width": 16, "height": 16}
        return image_request(**(values | {"seed": 1} | changes))

    def engine(self, **changes) -> Engine:
        return Engine(tiny_stable_diffusion(), max_batch=8, costs=FixedCosts(), has_step_cache=True, **changes)

    def test_a_request_without_it_is_the_stock_pipelines(self):
        expected = draw_image(tiny_stable_diffusion(), self.request())
        engine = self.engine()
        generation = engine.submit(self.request())
        assert np.abs(generation.future.result(WAIT) - expected).max() <= 1e-4
        assert generation.skipped_passes == 0
        engine.stop(WAIT)

    def test_deterministic_images_skip_the_same_steps_to_the_bit_alone_and_in_company(self):
        request = self.request(step_cache=0.5, deterministic=True)
        engine = self.engine()
        alone = engine.submit(request)
        picture = alone.future.result(WAIT)
        crowd = [engine.submit(self.request(seed=seed, num_inference_steps=5 + seed)) for seed in range(2, 6)]
        company = engine.submit(request)
        assert np.array_equal(company.future.result(WAIT), picture)
        assert company.skipped_passes == alone.skipped_passes > 0
        for each in crowd:
            each.future.result(WAIT)
        assert all(each.skipped_passes == 0 for each in crowd)
        engine.stop(WAIT)

    def test_a_pipeline_without_a_denoiser_to_cache_is_refused(self):
        pipeline = tiny_stable_diffusion()
        pipeline.unet = torch.nn.Linear(2, 2)
        with pytest.raises(ModelLoadError, match="step_cache: Linear has no blocks"):
            Engine(pipeline, max_batch=8, has_step_cache=True)


def test_the_host_waits_once_for_the_decisions_of_all_images():
    with pretend_gpu() as gpu:
        engine = Engine(tiny_stable_diffusion().to("cuda"), max_batch=8, costs=FixedCosts(), has_step_cache=True)
        gpu.forget()
        wanted = [image_request(seed=seed, num_inference_steps=6, step_cache=0.2) for seed in range(4)]
        for generation in [engine.submit(each) for each in wanted]:
            generation.future.result(120)
        engine.stop(120)
        forwards = sum(count for (owner, _), count in engine.statistics.forwards.items() if "UNet" in owner)
        syncs = sum(count for (_, where), count in gpu.syncs.items() if "step_cache" in where)
        assert 0 < syncs <= forwards
