"""Pipelines of a few thousand random weights, built in code: they draw nothing, and do so exactly."""

from tests.support.tiny_pipelines.assembly import tiny_pipeline
from tests.support.tiny_pipelines.stable_diffusion import tiny_stable_diffusion

__all__ = ["tiny_pipeline", "tiny_stable_diffusion"]
