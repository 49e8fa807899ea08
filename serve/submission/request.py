"""What a client asks for: the body of ``POST /api/generate``, which every other dialect is translated into."""

from __future__ import annotations

from pydantic import Field

from deployments.jobs.records.jobs import PriorityClass
from deployments.parameters import Task, task_of
from serve.submission.fields import Body, Text, Whole
from serve.submission.settings import SettingsBody


class GenerateBody(Body):
    """A job."""

    model_id: Text = Field(description="A model of `GET /api/models`.", examples=["shapes"])
    prompt: Text = Field(description="What to draw.", examples=["a large red circle on a blue background"])
    negative_prompt: Text | None = Field(default=None, description="What to keep away from.", examples=[""])
    settings: SettingsBody | None = Field(default=None, description="How to draw it.")
    image: Text | None = Field(default=None, description="Id of an input or an image, to start from.")
    mask: Text | None = Field(
        default=None, description="Id of an input or an image of the same size, whose white parts are drawn anew."
    )
    control_image: Text | None = Field(
        default=None, description="Id of an input or an image of the output's size, for a model with a ControlNet."
    )
    priority: PriorityClass | None = Field(
        default=None, description="`high`, `normal` (where left out) or `low`.", examples=["normal"]
    )
    expires_in: Whole | None = Field(
        default=None, description="Seconds after which it fails if it still waits, 1 to 31536000.", examples=[3600]
    )
    webhook_url: Text | None = Field(
        default=None,
        description="An http or https URL that is called, by POST, when the job has ended.",
        examples=["https://example.com/hook"],
    )

    @property
    def asked(self) -> SettingsBody:
        """The settings; an empty body where there are none."""
        return self.settings or SettingsBody()

    @property
    def task(self) -> Task:
        """What the images are to be made from."""
        return task_of(self.image, self.mask)
