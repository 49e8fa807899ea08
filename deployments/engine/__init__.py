"""Step batching of unmodified diffusers pipelines."""
