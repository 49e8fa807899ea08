"""A prompt that is cut off is told with how much of it was read."""

import diffusers
import pytest

from deployments.pipelines.prompt_length import PromptLength, PromptLimit
from tests.support.tiny_pipelines import tiny_pipeline, tiny_stable_diffusion
from tests.support.tiny_pipelines.text import tiny_tokenizer

MARKS = 2  # one token at the start and one at the end; every character is a token


@pytest.fixture(scope="module")
def flux():
    """A pipeline with two text encoders: one reads 77 tokens, the other as many as the call says."""
    return tiny_pipeline(diffusers.FluxPipeline, tokenizer=tiny_tokenizer(77), tokenizer_2=tiny_tokenizer(512))


def test_a_prompt_that_fits_is_not_mentioned():
    limit = PromptLimit(tiny_stable_diffusion())
    assert limit.check("") is None
    assert limit.check("a large red circle on a blue background") is None


def test_a_prompt_that_is_too_long_is_told_with_its_length():
    pipeline = tiny_stable_diffusion()
    most = pipeline.tokenizer.model_max_length
    limit = PromptLimit(pipeline)
    assert limit.check("red " * (most - MARKS)) is None
    assert limit.check("red " * (most - MARKS + 1)) == PromptLength(tokens=most + 1, limit=most)


def test_the_encoder_that_reads_most_counts(flux):
    limit = PromptLimit(flux)
    assert limit.check("x" * (512 - MARKS)) is None
    assert limit.check("x" * 600) == PromptLength(tokens=602, limit=512)


def test_what_the_request_says_counts(flux):
    limit = PromptLimit(flux)
    assert limit.check("x" * 300, max_sequence_length=256) == PromptLength(tokens=302, limit=256)
    assert limit.check("x" * 300, max_sequence_length=400) is None


def test_long_prompts_are_read_to_their_end():
    assert PromptLimit(tiny_stable_diffusion(), takes_long_prompts=True).check("red " * 1000) is None


def test_the_pipelines_own_tokenizer_is_left_alone():
    pipeline = tiny_stable_diffusion()
    limit = PromptLimit(pipeline)
    pipeline.tokenizer = None
    assert limit.check("red " * 1000) is not None
