"""Skipped layers of CLIP: as one piece or in many, alone or in an engine, a prompt is what the library makes of it."""

from __future__ import annotations

import inspect
import json
from itertools import pairwise
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from pydantic import ValidationError

from deployments.catalog.entry import ModelEntry
from deployments.catalog.tasks import FAMILIES, max_clip_skip_of
from deployments.engine.engine import Engine
from deployments.pipelines.loading import load_pipeline
from deployments.pipelines.long_prompts import encode_long_prompts
from tests.support.company import assert_company_changes_nothing
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_pipeline

WAIT = 120
LAYERS = 4
CLASSES = ["StableDiffusionPipeline", "StableDiffusionXLPipeline"]
MOST = {"StableDiffusionPipeline": LAYERS - 1, "StableDiffusionXLPipeline": LAYERS - 2}


@pytest.fixture(scope="module", params=CLASSES)
def folder(request, tmp_path_factory) -> Path:
    deep = {"num_hidden_layers": LAYERS}
    folder = tmp_path_factory.mktemp("models") / request.param
    tiny_pipeline(getattr(diffusers, request.param), {"text_encoder": deep, "text_encoder_2": deep}).save_pretrained(
        folder
    )
    return folder


@pytest.fixture
def pipeline(folder) -> DiffusionPipeline:
    return load_pipeline(ModelEntry(repo=str(folder), source="local"), "cpu")


def encoded(pipeline: DiffusionPipeline, clip_skip: int | None, negative: str | None = "green") -> list[torch.Tensor]:
    """The embeddings of a short prompt and of a negative one, and the pooled ones of SDXL."""
    with torch.inference_mode():
        return pipeline.encode_prompt(
            prompt="a red circle",
            device=torch.device("cpu"),
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative,
            clip_skip=clip_skip,
        )


class TestLongPrompts:
    @pytest.mark.parametrize("negative", ["green", None])
    @pytest.mark.parametrize("clip_skip", [None, 1, 2])
    def test_a_short_one_has_the_embeddings_of_the_stock_pipeline(self, pipeline, clip_skip, negative):
        expected = encoded(pipeline, clip_skip, negative)
        encode_long_prompts(pipeline, "cpu")
        found = encoded(pipeline, clip_skip, negative)

        assert len(found) == len(expected)
        for mine, stock in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, stock, rtol=0, atol=1e-6)

    def test_each_number_of_layers_gives_other_embeddings(self, pipeline):
        encode_long_prompts(pipeline, "cpu")
        prompts = {encoded(pipeline, clip_skip)[0].numpy().tobytes() for clip_skip in (None, 1, 2, None, 1)}

        assert len(prompts) == 3

    def test_weights_and_pieces_count_at_an_earlier_layer_too(self, pipeline):
        encode_long_prompts(pipeline, "cpu")
        long = "a red circle on a blue background, " * 12
        pictures = [
            draw_image(pipeline, image_request(prompt, clip_skip=1))
            for prompt in ("a red circle", "a (red:1.8) circle", long, long + "a green star")
        ]

        assert min(np.abs(one - two).max() for one, two in pairwise(pictures)) > 1e-4


class TestInAnEngine:
    def test_kept_encodings_are_those_of_the_layer_that_is_asked_for(self, pipeline):
        requests = [image_request(clip_skip=clip_skip) for clip_skip in (0, 1, 0, 2, 1)]
        with torch.inference_mode():
            expected = [draw_image(pipeline, request) for request in requests]
        engine = Engine(pipeline, max_batch=8, costs=FixedCosts())
        pictures = [engine.submit(request).future.result(WAIT) for request in requests]
        engine.stop(WAIT)

        assert engine.statistics.cached_encodings > 0
        for picture, stock in zip(pictures, expected, strict=True):
            assert np.array_equal(picture, stock)
        assert len({picture.tobytes() for picture in pictures}) == 3

    @pytest.mark.parametrize("is_long", [False, True], ids=["stock", "long"])
    def test_images_of_different_layers_share_forwards_and_nothing_else(self, pipeline, is_long):
        if is_long:
            encode_long_prompts(pipeline, "cpu")
        requests = [image_request(clip_skip=index % 3, seed=index, num_inference_steps=9 - index) for index in range(6)]

        assert assert_company_changes_nothing(pipeline, requests).widest_batch > 1


class TestCatalog:
    def test_knows_how_many_layers_a_folder_can_skip(self, folder, pipeline):
        most = max_clip_skip_of(folder)

        assert most == MOST[folder.name]
        assert np.isfinite(draw_image(pipeline, image_request(clip_skip=most))).all()

    @pytest.mark.parametrize("name", FAMILIES)
    def test_knows_which_families_take_it(self, name):
        stem = name.removesuffix("Pipeline")
        found = [getattr(diffusers, f"{stem}{task}Pipeline", None) for task in ("", "Img2Img", "Inpaint")]
        takes = {"clip_skip" in inspect.signature(kind.__call__).parameters for kind in found if kind is not None}

        assert takes == {FAMILIES[name].unused_layers is not None}

    @pytest.mark.parametrize("fields", [{"max_clip_skip": 1}, {}])
    def test_the_default_is_within_what_a_model_can_skip(self, fields):
        with pytest.raises(ValidationError, match="2 is not within 0"):
            ModelEntry(repo="owner/name", clip_skip=2, **fields)

    @pytest.mark.parametrize("config", [None, "no JSON", json.dumps([1]), json.dumps({"num_hidden_layers": "12"})])
    def test_a_folder_that_does_not_say_has_none(self, tmp_path, config):
        (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        if config is not None:
            (tmp_path / "text_encoder").mkdir()
            (tmp_path / "text_encoder" / "config.json").write_text(config)

        assert max_clip_skip_of(tmp_path) == 0
