"""A deterministic image has the same bytes alone and in any company, and still has company."""

import functools
import json
import random
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from deployments.engine.costs import ForwardCosts
from deployments.engine.device_notes import DeviceNotes
from deployments.engine.engine import Engine
from deployments.engine.exactness import ExactWidths, exact_rows_on, has_same_bits
from deployments.engine.grouping import read_call
from deployments.engine.request import ImageRequest
from deployments.pipelines.exceptions import GenerationCancelledError
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_stable_diffusion

WAIT = 120


def request(index: int, **changes) -> ImageRequest:
    chance = random.Random(index)
    values = {
        "prompt": chance.choice(("a ring", "a large blue star on a white background", "circle, red")),
        "negative_prompt": chance.choice(("", "green")),
        "num_inference_steps": chance.randint(2, 12),
        "guidance_scale": chance.choice((1.0, 2.5, 7.0)),
        "width": 16,
        "height": chance.choice((16, 24)),
        "seed": index,
    }
    return image_request(**(values | changes))


def test_the_same_bytes_alone_and_in_a_changing_crowd():
    exact = [request(index, deterministic=True) for index in range(24)]
    lone = Engine(tiny_stable_diffusion(), max_batch=8, costs=FixedCosts())
    alone = [lone.submit(each).future.result(WAIT) for each in exact]
    lone.stop(WAIT)

    crowd = Engine(tiny_stable_diffusion(), max_batch=8, costs=FixedCosts())
    order = random.Random(7).sample(range(24), 24)
    together = {index: crowd.submit(exact[index]) for index in order[:8]}
    others = [crowd.submit(request(100 + index)) for index in range(6)]
    late: threading.Event = threading.Event()

    def join_and_leave(step: int) -> None:
        if step == 2:
            together.update({index: crowd.submit(exact[index]) for index in order[8:]})
            others[0].cancel()
            late.set()

    host = crowd.submit(request(200, num_inference_steps=12, on_step=join_and_leave))
    assert late.wait(WAIT)
    host.future.result(WAIT)
    pictures = {index: each.future.result(WAIT) for index, each in together.items()}
    crowd.stop(WAIT)

    assert len(pictures) == 24
    assert all(np.array_equal(alone[index], picture) for index, picture in pictures.items())
    assert crowd.statistics.widest_batch > 1
    assert crowd.statistics.padded_rows > 0
    with pytest.raises(GenerationCancelledError):
        others[0].future.result(WAIT)


class TestVerification:
    def call(self, forward, rows=2):
        return read_call(forward, "Denoiser", (torch.randn(rows, 4), torch.tensor(1.0)), {})

    def test_a_module_that_minds_only_its_own_rows_is_exact(self):
        assert has_same_bits(self.call(lambda sample, timestep: (sample * 2,)), 8, like=8)

    def test_a_module_that_looks_at_its_neighbours_is_not(self):
        assert not has_same_bits(self.call(lambda sample, timestep: (sample - sample.mean(),)), 8, like=8)

    def test_a_module_that_minds_the_place_of_its_rows_is_not(self):
        def forward(sample, timestep):
            return (sample + torch.arange(len(sample))[:, None],)

        assert not has_same_bits(self.call(forward), 8, like=8)

    def test_a_module_that_minds_where_among_odd_rows_it_stands_is_not(self):
        def forward(sample, timestep):
            return (sample + 1e-6 * (torch.arange(len(sample)) == 5)[:, None] * (sample[0] != sample[2]).any(),)

        assert not has_same_bits(self.call(forward), 8, like=8)

    def test_a_width_that_has_other_kernels_is_told_from_one_that_has_the_same(self):
        def forward(sample, timestep):
            return (sample * (3 if len(sample) < 16 else 3.0000005),)

        call = self.call(forward)
        assert has_same_bits(call, 4, like=8)
        assert has_same_bits(call, 12, like=8)
        assert not has_same_bits(call, 16, like=8)

    def test_a_call_as_wide_as_the_forward_has_no_company_to_mind(self):
        assert has_same_bits(self.call(lambda sample, timestep: (sample - sample.mean(),), rows=8), 8, like=8)


class TestWidths:
    def test_all_are_tried_until_they_are_known_to_differ(self):
        widths = ExactWidths(8, 16)
        assert widths.of("unet") == [4, 8, 12, 16]
        widths.note("unet", 12, may_be=False)
        widths.note("unet", 16, may_be=True)
        assert widths.of("unet") == [4, 8, 16]
        assert widths.of("transformer") == [4, 8, 12, 16]

    def test_there_is_none_where_not_even_the_deciding_one_bears_company(self):
        widths = ExactWidths(8, 16)
        widths.refuse("unet")
        assert widths.of("unet") == []

    def test_the_deciding_one_is_among_them_whatever_it_is(self):
        assert ExactWidths(5, 4).of("unet") == [2, 4, 5]

    def test_there_is_none_where_an_image_is_to_be_alone(self):
        assert ExactWidths(1, 16).of("unet") == []

    def test_what_was_found_out_is_kept_between_starts(self, tmp_path):
        notes = DeviceNotes(tmp_path / "notes.json", "cpu")
        ExactWidths(8, 16, notes).note("unet", 4, may_be=False)
        again = ExactWidths(8, 16, DeviceNotes(tmp_path / "notes.json", "cpu"))
        assert again.is_known("unet", 4)
        assert again.of("unet") == [8, 12, 16]
        assert not ExactWidths(4, 16, DeviceNotes(tmp_path / "notes.json", "cpu")).is_known("unet", 4)
        assert not ExactWidths(8, 16, DeviceNotes(tmp_path / "notes.json", "gpu")).is_known("unet", 4)

    @pytest.mark.parametrize("kept", [5, "no", [True]])
    def test_what_was_kept_and_cannot_be_understood_is_found_out_again(self, tmp_path, kept):
        file = tmp_path / "notes.json"
        file.write_text(json.dumps({"device": "cpu", "exact widths": {"unet as in 8 rows": kept}}))
        assert not ExactWidths(8, 16, DeviceNotes(file, "cpu")).is_known("unet", 8)


@pytest.mark.parametrize(("device", "rows"), [("cpu", 8), ("cuda", 1), ("xpu", 1), ("mps", 1)])
def test_on_an_accelerator_an_image_is_exact_alone(device, rows):
    assert exact_rows_on(torch.device(device)) == rows


@pytest.mark.parametrize("exact_rows", [1, None])
def test_alone_or_on_a_gpu_no_row_is_padded_and_none_is_computed_for_a_trial(exact_rows):
    pipeline = tiny_stable_diffusion()
    forward, widths = pipeline.unet.forward, []

    @functools.wraps(forward)
    def counted(sample, *args, **kwargs):
        widths.append(len(sample))
        return forward(sample, *args, **kwargs)

    pipeline.unet.forward = counted
    with pretend_gpu() if exact_rows is None else nullcontext():
        if exact_rows is None:
            pipeline.to("cuda")
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts(), exact_rows=exact_rows)
        exact = [request(index, deterministic=True, guidance_scale=3.0) for index in range(4)]
        alone = [engine.submit(each).future.result(WAIT) for each in exact]
        together = [engine.submit(each) for each in exact]
        assert all(np.array_equal(mine, each.future.result(WAIT)) for mine, each in zip(alone, together, strict=True))
        engine.stop(WAIT)
    steps = sum(each.settings.denoising_steps for each in exact)
    assert widths == [2] * (2 * steps)
    assert engine.statistics.padded_rows == 0
    assert engine.statistics.rows_computed_per_row_asked == 1.0


def test_after_a_restart_no_width_is_tried_again(tmp_path):
    def run() -> tuple[np.ndarray, Engine]:
        notes = DeviceNotes(tmp_path / "notes.json", "cpu")
        engine = Engine(tiny_stable_diffusion(), max_batch=8, costs=ForwardCosts(notes))
        picture = engine.submit(request(1, deterministic=True, guidance_scale=3.0)).future.result(WAIT)
        engine.stop(WAIT)
        return picture, engine

    (first, trying), (second, knowing) = run(), run()
    assert np.array_equal(first, second)
    assert knowing.statistics.checking_rows < trying.statistics.checking_rows


def test_where_the_device_is_not_exact_deterministic_images_run_alone_and_repeat():
    pipeline = tiny_stable_diffusion()
    forward = pipeline.unet.forward

    @functools.wraps(pipeline.unet.forward)
    def minds_its_neighbours(sample, *args, **kwargs):
        (result,) = forward(sample, *args, **{**kwargs, "return_dict": False})
        return (result + 1e-3 * sample.mean(),)

    pipeline.unet.forward = minds_its_neighbours
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    exact = request(1, deterministic=True)
    alone = engine.submit(exact).future.result(WAIT)
    crowd = [engine.submit(request(index)) for index in range(2, 6)]
    again = engine.submit(exact).future.result(WAIT)
    for each in crowd:
        each.future.result(WAIT)
    engine.stop(WAIT)
    assert np.array_equal(alone, again)
    assert engine.statistics.padded_rows == 0


@pytest.mark.parametrize("most_rows", [2, 4, 8])
def test_where_the_memory_is_too_small_for_wide_forwards_deterministic_images_are_made_in_narrower_ones(most_rows):
    pipeline = tiny_stable_diffusion()
    forward = pipeline.unet.forward

    @functools.wraps(pipeline.unet.forward)
    def hungry(sample, *args, **kwargs):
        if len(sample) > most_rows:
            raise torch.OutOfMemoryError("too many rows")
        return forward(sample, *args, **kwargs)

    pipeline.unet.forward = hungry
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    exact = [request(index, deterministic=True, height=16) for index in range(6)]
    alone = [engine.submit(each).future.result(WAIT) for each in exact]
    together = [engine.submit(each) for each in exact]
    assert all(np.array_equal(mine, each.future.result(WAIT)) for mine, each in zip(alone, together, strict=True))
    engine.stop(WAIT)


def test_an_image_that_needs_too_much_memory_even_alone_fails_by_itself():
    pipeline = tiny_stable_diffusion()

    @functools.wraps(pipeline.unet.forward)
    def hungry(sample, *args, **kwargs):
        raise torch.OutOfMemoryError("too many rows")

    pipeline.unet.forward = hungry
    engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
    with pytest.raises(torch.OutOfMemoryError):
        engine.submit(request(1, deterministic=True)).future.result(WAIT)
    engine.stop(WAIT)
