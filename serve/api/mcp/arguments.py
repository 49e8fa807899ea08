"""Arguments of the tools. A language model reads their JSON schemas."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve.services.services import Services
from serve.submission.fields import Body, Number, Text, Whole
from serve.submission.request import GenerateBody
from serve.submission.settings import SettingsBody


class Arguments(Body):
    """Arguments of a tool."""


class GenerateArguments(Arguments):
    """A job."""

    prompt: Text = Field(description="What to draw.")
    negative_prompt: Text | None = Field(default=None, description="What to keep away from.")
    model: Text | None = Field(default=None, description="A model of list_models; the default one where left out.")
    num_images: Whole | None = Field(default=None, description="Images to make; 1 where left out.")
    width: Whole | None = Field(default=None, description="Pixels; the model's where left out.")
    height: Whole | None = Field(default=None, description="Pixels; the model's where left out.")
    num_inference_steps: Whole | None = Field(default=None, description="Denoising steps; the model's where left out.")
    guidance_scale: Number | None = Field(default=None, description="Guidance scale; the model's where left out.")
    seed: Whole | None = Field(default=None, description="The same seed gives the same image; random where left out.")
    wait: bool = Field(
        default=True, description="Whether to wait for the images; if false, ask for them with get_job later."
    )

    def job_body(self, services: Services) -> GenerateBody:
        """Return the job that is asked for."""
        settings = self.model_dump(exclude={"prompt", "negative_prompt", "model", "wait"})
        return GenerateBody(
            model_id=self.model or services.catalog.default,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            settings=SettingsBody(**settings),
        )


class GetJobArguments(Arguments):
    """Which job."""

    job_id: Text = Field(description="Id of the job.")
    include_images: bool = Field(default=True, description="Whether to answer with the images of a completed job.")


class CancelJobArguments(Arguments):
    """Which job."""

    job_id: Text = Field(description="Id of the job.")


class ListModelsArguments(Arguments):
    """Nothing."""


class SearchGalleryArguments(Arguments):
    """Which images."""

    search: Text = Field(default="", description="Words of the prompt or the model's id; every one must be there.")
    model: Text | None = Field(default=None, description="Only images of this model.")
    page: Annotated[Whole, Field(ge=1, le=100_000)] = Field(default=1, description="From 1.")
    limit: Annotated[Whole, Field(ge=1, le=50)] = Field(default=20, description="Images on a page.")
