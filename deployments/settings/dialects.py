"""Settings of what clients made for other services meet: OpenAI's names of models, and a language model for prompts."""

from __future__ import annotations

from pydantic import Field

from deployments.settings.group import SettingsGroup

_OPENAI_MODELS = ("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5")


class ClientSettings(SettingsGroup):
    """What clients of other services are met with."""

    cancel_on_disconnect: bool = Field(
        default=False, description="Whether a job is cancelled when the client that waits for its images goes away."
    )
    wait_for_load: bool = Field(
        default=True,
        description="Whether a client that waits for its images waits for a cold model too; false: it is told 503 and "
        "when to come again.",
    )
    model_aliases: dict[str, str] = Field(
        default=dict.fromkeys(_OPENAI_MODELS, ""),
        description="Other names of models, for the OpenAI dialect; an empty one means the catalog's default model.",
    )


class EnrichSettings(SettingsGroup):
    """Who writes a short prompt out: a chat endpoint in OpenAI's form."""

    base_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="The endpoint, as http://host:port/v1; empty: POST /api/enrich is not available.",
    )
    api_key: str = Field(default="", repr=False, description="Its API key, where it asks for one.")
    model: str = Field(default="", description="Its model; needed where there is a base_url.")
    timeout_seconds: float = Field(default=30.0, gt=0, description="Longest wait for its answer.")
