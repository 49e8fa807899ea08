"""Weights come and go as a whole, and the pictures stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading, Lora, Quantization
from deployments.engine.engine import Engine
from deployments.pipelines.loading import load_pipeline
from deployments.pipelines.tuning import cast_layerwise
from deployments.pipelines.weights import Weights
from tests.support.drawing import draw_image
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_folder, save_lora
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines import tiny_stable_diffusion
from tests.unit.pipelines.test_loading_quantization import write_gguf


def addresses(pipeline) -> list[int]:
    return [tensor.data_ptr() for tensor in pipeline.unet.parameters()]


@pytest.mark.parametrize("kind", ["plain", "layerwise", "lora", "gguf"])
def test_an_engine_draws_the_same_after_its_weights_went_and_came(tmp_path: Path, kind: str) -> None:
    folder = save_folder(tmp_path / "tiny")
    loading, loras = Loading(), {}
    if kind == "layerwise":
        loading = Loading(layerwise_casting="float8_e4m3fn")
    if kind == "lora":
        loras = {"ink": Lora(repo=str(save_lora(tmp_path / "lora")), source="local")}
    if kind == "gguf":
        write_gguf(tmp_path / "unet.gguf", tiny_stable_diffusion().unet)
        loading = Loading(quantization=Quantization(method="gguf", file=str(tmp_path / "unet.gguf")))
    entry = ModelEntry(repo=str(folder), source="local", loading=loading, request_loras=loras)
    request = image_request(loras=(("ink", 0.8),)) if kind == "lora" else image_request()
    with pretend_gpu() as gpu:
        pipeline = load_pipeline(entry, "cuda", is_parked=True)
        weights = Weights(pipeline, "cuda")
        kept = addresses(pipeline)

        weights.bring_in()
        assert not set(addresses(pipeline)) & set(kept)
        assert gpu.live >= weights.size
        engine = Engine(pipeline, max_batch=1)
        first = engine.submit(request).future.result(timeout=60)
        engine.forget_encodings()
        on_device = [tensor.data for tensor in pipeline.unet.parameters()]
        weights.park()
        assert addresses(pipeline) == kept
        for copy in on_device:
            copy.zero_()  # whoever still used them would draw something else
        del on_device, copy
        weights.bring_in()
        second = engine.submit(request).future.result(timeout=60)
        engine.stop()
        assert not gpu.faults

    assert np.array_equal(first, second)


class TestCopies:
    """On the pretended GPU, which counts them."""

    def test_are_few_asynchronous_and_of_pinned_memory(self) -> None:
        with pretend_gpu() as gpu:
            pipeline = tiny_stable_diffusion()
            weights = Weights(pipeline, "cuda")
            gpu.forget()
            weights.bring_in()

            # One for each component, and for the few tensors that show the same values several times.
            assert sum(count for (kind, _), count in gpu.copies.items() if kind == "async H2D") == 3
            assert sum(gpu.copies.values()) <= 4
            assert {parameter.device.type for parameter in pipeline.unet.parameters()} == {"cuda"}

    def test_are_more_where_pieces_are_small(self) -> None:
        with pretend_gpu() as gpu:
            weights = Weights(tiny_stable_diffusion(), "cuda", piece_bytes=100_000)
            gpu.forget()
            weights.bring_in()

            assert sum(gpu.copies.values()) > 4

    def test_leave_nothing_on_the_device_where_they_do_not_fit(self) -> None:
        pipeline = tiny_stable_diffusion()
        size = Weights(pipeline, "cpu").size
        with pretend_gpu(capacity=size // 2) as gpu:
            weights = Weights(pipeline, "cuda", piece_bytes=size // 10)
            kept = addresses(pipeline)
            with pytest.raises(torch.OutOfMemoryError):
                weights.bring_in()

            assert addresses(pipeline) == kept
            assert gpu.live == 0

    def test_leave_no_memory_behind(self) -> None:
        with pretend_gpu() as gpu:
            weights = Weights(tiny_stable_diffusion(), "cuda")
            for _ in range(2):
                weights.bring_in()
                weights.park()

            assert gpu.live == 0


class TestPieces:
    def draw_on_device(self, pipeline) -> np.ndarray:
        with pretend_gpu() as gpu:
            weights = Weights(pipeline, "cuda")
            weights.bring_in()
            picture = draw_image(pipeline, image_request())
            weights.park()
            assert not gpu.faults
        return picture

    def test_do_not_change_a_pixel(self) -> None:
        expected = draw_image(tiny_stable_diffusion(), image_request())
        assert np.array_equal(self.draw_on_device(tiny_stable_diffusion()), expected)

    def test_keep_the_form_of_tensors(self) -> None:
        pipeline = tiny_stable_diffusion()
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.unet.register_buffer("shown_often", torch.ones(1).expand(7))
        pipeline.unet.register_buffer("empty", torch.ones(0))
        pipeline.unet.register_buffer("flags", torch.tensor([True, False, True]))
        before = {name: (each.stride(), each.clone()) for name, each in pipeline.unet.state_dict().items()}
        with pretend_gpu():
            weights = Weights(pipeline, "cuda")
            for _ in range(2):
                for name, each in pipeline.unet.state_dict().items():
                    stride, values = before[name]
                    assert each.stride() == stride or name == "shown_often"
                    assert torch.equal(each.cpu(), values)
                    assert each.data_ptr() % 16 == 0
                weights.bring_in()

    def test_have_what_is_shared_once(self) -> None:
        pipeline = tiny_stable_diffusion()
        pipeline.unet.tied = torch.nn.Parameter(pipeline.unet.conv_in.weight.detach())
        assert pipeline.unet.tied.data_ptr() == pipeline.unet.conv_in.weight.data_ptr()
        with pretend_gpu():
            weights = Weights(pipeline, "cuda")
            weights.bring_in()

            assert pipeline.unet.tied.data_ptr() == pipeline.unet.conv_in.weight.data_ptr()

    def test_of_layers_that_are_cast_are_not_held_by_each_other(self) -> None:
        with pretend_gpu() as gpu:
            pipeline = tiny_stable_diffusion()
            cast_layerwise(pipeline, torch.float8_e4m3fn)
            weights = Weights(pipeline, "cuda")
            weights.bring_in()
            before = gpu.live
            draw_image(pipeline, image_request())

            # Each forward replaces the weights of layers; the old ones must not stay.
            assert gpu.live <= before * 1.02

    def test_take_other_memory_where_none_can_be_pinned(self, monkeypatch, caplog) -> None:
        empty = torch.empty

        def empty_without_pinned(*args, pin_memory=False, **kwargs):
            if pin_memory:
                raise RuntimeError("CUDA error: out of memory\nmore")
            return empty(*args, **kwargs)

        expected = draw_image(tiny_stable_diffusion(), image_request())
        monkeypatch.setattr("torch.empty", empty_without_pinned)
        picture = self.draw_on_device(tiny_stable_diffusion())

        assert np.array_equal(picture, expected)
        assert [record.getMessage() for record in caplog.records if "not pinned" in record.getMessage()] == [
            "Parked weights stay in memory that is not pinned, and move slower: CUDA error: out of memory more"
        ]


def test_size_is_that_of_all_components_each_once() -> None:
    pipeline = tiny_stable_diffusion()
    expected = sum(
        tensor.nbytes
        for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder)
        for tensor in [*module.parameters(), *module.buffers()]
    )
    pipeline.register_modules(feature_extractor=None, safety_checker=None)
    assert Weights(pipeline, "cpu").size == expected

    pipeline.register_modules(image_encoder=pipeline.text_encoder)
    assert Weights(pipeline, "cpu").size == expected
