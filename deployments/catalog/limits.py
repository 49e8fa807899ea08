"""Limits of a request for a model: steps, guidance and size."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from deployments.catalog.part import CatalogPart

MOST_STEPS = 1000


class StepLimits(CatalogPart):
    """How many denoising steps a model takes."""

    fixed: int | None = Field(
        default=None,
        ge=1,
        le=MOST_STEPS,
        description="The only number of steps the model works with; excludes the rest.",
    )
    minimum: int = Field(default=1, ge=1, le=MOST_STEPS, description="Fewest steps.")
    maximum: int = Field(default=100, ge=1, le=MOST_STEPS, description="Most steps.")
    default: int = Field(default=30, ge=1, le=MOST_STEPS, description="Steps of a request that does not say.")

    @model_validator(mode="before")
    @classmethod
    def _fixed_is_all(cls, data: Any) -> Any:
        """Copy a fixed number to minimum, maximum and default, so that readers need not look twice."""
        fixed = data.get("fixed") if isinstance(data, dict) else None
        if type(fixed) is not int or not 1 <= fixed <= MOST_STEPS:
            return data
        rest = ("minimum", "maximum", "default")
        cls.refuse([(name, "does not go with fixed") for name in rest if data.get(name, fixed) != fixed])
        return {**data, **dict.fromkeys(rest, fixed)}

    @model_validator(mode="after")
    def _default_within(self) -> Self:
        self.refuse(self.range_problems(self.minimum, self.maximum, "default"))
        return self


class GuidanceLimits(CatalogPart):
    """How strongly a prompt may be followed: the classifier-free guidance scale."""

    minimum: float = Field(default=0.0, ge=0, description="Smallest guidance scale.")
    maximum: float = Field(default=30.0, ge=0, description="Largest guidance scale.")
    default: float = Field(default=5.0, ge=0, description="Guidance scale of a request that does not say.")

    @model_validator(mode="after")
    def _default_within(self) -> Self:
        self.refuse(self.range_problems(self.minimum, self.maximum, "default"))
        return self


class SizeLimits(CatalogPart):
    """How large an image may be."""

    default_width: int = Field(default=1024, ge=8, description="Pixels, for a request that does not say.")
    default_height: int = Field(default=1024, ge=8, description="Pixels, for a request that does not say.")
    multiple_of: int = Field(default=16, ge=1, description="Width and height are multiples of it, in pixels.")
    minimum: int = Field(default=256, ge=8, description="Smallest width and height, in pixels.")
    maximum: int = Field(default=2048, ge=8, description="Largest width and height, in pixels.")
    max_pixels: int = Field(default=2048 * 2048, ge=64, description="Most pixels of an image: width times height.")

    @model_validator(mode="after")
    def _default_allowed(self) -> Self:
        names = ("default_width", "default_height")
        problems = self.range_problems(self.minimum, self.maximum, *names)
        for name in names:
            if getattr(self, name) % self.multiple_of:
                problems.append((name, f"{getattr(self, name)} is not a multiple of {self.multiple_of} (multiple_of)"))
        pixels = self.default_width * self.default_height
        if pixels > self.max_pixels:
            problems.append(("max_pixels", f"{self.max_pixels} is less than the default size's {pixels}"))
        self.refuse(problems)
        return self

    def fit(self, width: int, height: int) -> tuple[int, int]:
        """The size within these limits that is nearest to a picture's, in pixels, its shape kept as far as possible.

        Args:
            width: Of the picture, in pixels.
            height: Of the picture, in pixels.
        """
        scale = max(1.0, self.minimum / min(width, height))
        scale = min(scale, self.maximum / max(width, height), (self.max_pixels / (width * height)) ** 0.5)
        unit = self.multiple_of
        smallest, largest = -(-self.minimum // unit), self.maximum // unit
        for rounded in (round, int):
            sides = [min(max(rounded(side * scale / unit), smallest), largest) for side in (width, height)]
            if sides[0] * sides[1] * unit**2 <= self.max_pixels:
                break
        while sides[0] * sides[1] * unit**2 > self.max_pixels:
            sides[sides.index(max(sides))] -= 1
        return sides[0] * unit, sides[1] * unit


class StepCacheLimits(CatalogPart):
    """How different a step must be from the last full one for the whole denoiser to run."""

    maximum: float = Field(
        default=0.0, ge=0, le=1, description="Largest threshold that a request may ask for; 0: there is no step cache."
    )
    default: float = Field(
        default=0.0, ge=0, le=1, description="Threshold of a request that does not say; 0: every step is a full one."
    )

    @model_validator(mode="after")
    def _default_within(self) -> Self:
        self.refuse(self.range_problems(0.0, self.maximum, "default"))
        return self
