"""How many copies of a model run, and what each holds of the cluster."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from deployments.catalog.part import CatalogPart


class Replicas(CatalogPart):
    """How many copies run, and what each holds of the cluster."""

    min: int = Field(default=0, ge=0, description="Fewest copies; 0 frees the GPU of an idle model.")
    max: int = Field(default=1, ge=1, description="Most copies.")
    num_cpus: float = Field(default=1.0, ge=0, description="CPU cores of each copy.")
    num_gpus: float = Field(default=1.0, ge=0, description="GPU of each copy: 1, 0 for a CPU model, or a share of one.")
    target_ongoing_requests: float = Field(
        default=8.0, gt=0, description="Jobs at work per copy above which another copy is started."
    )
    upscale_delay_s: float = Field(
        default=10.0, ge=0, description="Seconds of more work before another copy is started; the first comes at once."
    )
    downscale_delay_s: float = Field(default=60.0, ge=0, description="Seconds of less work before a copy is stopped.")
    downscale_to_zero_delay_s: float | None = Field(
        default=None, ge=0, description="Seconds without work before the last copy is stopped; empty: the same."
    )
    graceful_shutdown_timeout_s: float = Field(
        default=600.0, ge=0, description="Seconds that a copy told to stop has for its jobs; above the longest job."
    )

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        problems = []
        if self.min > self.max:
            problems.append(("min", f"{self.min} is more than max, {self.max}"))
        if self.num_gpus > 1:
            problems.append(("num_gpus", "a copy computes on one GPU at most; for more at once raise max, the copies"))
        self.refuse(problems)
        return self
