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
from deployments.pipelines.weights import Weights
from tests.support.image_requests import image_request
from tests.support.loading_samples import save_folder, save_lora
from tests.support.tiny_pipelines import tiny_stable_diffusion
from tests.unit.pipelines.test_loading_quantization import write_gguf


class Device:
    """Stands for a GPU: its memory is other memory than the one that weights are kept in."""

    def __init__(self, most_copies: int | None = None) -> None:
        self.copies: list[torch.Tensor] = []
        self._most_copies = most_copies

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if len(self.copies) == self._most_copies:
            raise torch.OutOfMemoryError
        self.copies.append(tensor.clone())
        return self.copies[-1]


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
    pipeline = load_pipeline(entry, "cpu")
    kept = addresses(pipeline)
    device = Device()
    weights = Weights(pipeline, "cpu", device)
    request = image_request(loras=(("ink", 0.8),)) if kind == "lora" else image_request()

    weights.bring_in()
    assert not set(addresses(pipeline)) & set(kept)
    engine = Engine(pipeline, max_batch=1)
    first = engine.submit(request).future.result(timeout=60)
    weights.park()
    assert addresses(pipeline) == kept
    for copy in device.copies:
        copy.zero_()  # whoever still used them would draw something else
    weights.bring_in()
    second = engine.submit(request).future.result(timeout=60)
    engine.stop()

    assert np.array_equal(first, second)


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


def test_weights_that_do_not_fit_leave_nothing_on_the_device() -> None:
    pipeline = tiny_stable_diffusion()
    kept = addresses(pipeline)
    with pytest.raises(torch.OutOfMemoryError):
        Weights(pipeline, "cpu", Device(most_copies=20)).bring_in()

    assert addresses(pipeline) == kept
