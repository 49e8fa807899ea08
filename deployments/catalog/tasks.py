"""What a model does besides text-to-image: which tasks, with a ControlNet or without, and how that is found out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from deployments.catalog.loading import HUB_ID, WeightsPart, pickle_problem
from deployments.parameters import Task

ImageTask = Literal["image2image", "inpaint"]


class Abilities(NamedTuple):
    """What the pipelines of a family do, from an image and with a ControlNet.

    Attributes:
        tasks: From an image.
        control_tasks: With a ControlNet.
        unused_layers: Last layers of CLIP that they leave out anyway; None where they do not take ``clip_skip``.
    """

    tasks: tuple[ImageTask, ...]
    control_tasks: tuple[Task, ...] = ("text2image",)
    unused_layers: int | None = None


_BOTH: tuple[ImageTask, ...] = ("image2image", "inpaint")
# The edge must know it without importing diffusers. The families are those of its ``pipelines/auto_pipeline.py``.
FAMILIES = {
    "StableDiffusionPipeline": Abilities(_BOTH, ("text2image", *_BOTH), unused_layers=0),
    "StableDiffusionXLPipeline": Abilities(_BOTH, ("text2image", *_BOTH), unused_layers=1),
    "StableDiffusion3Pipeline": Abilities(_BOTH, unused_layers=1),
    "FluxPipeline": Abilities(_BOTH, ("text2image", *_BOTH)),
    "ChromaPipeline": Abilities(_BOTH),
    "QwenImagePipeline": Abilities(_BOTH),
    "ZImagePipeline": Abilities(_BOTH),
    "LatentConsistencyModelPipeline": Abilities(("image2image",), unused_layers=0),
    "SanaSprintPipeline": Abilities(("image2image",)),
}
_CLIP_ENCODERS = ("text_encoder", "text_encoder_2")


class ControlNet(WeightsPart):
    """A network beside the denoiser that makes an image follow the lines, depth or poses of another one."""

    repo: str = Field(min_length=1, description="A hub id (owner/name); or a folder in diffusers format.")
    source: Literal["huggingface", "local"] = Field(
        default="huggingface", description="Where repo is: huggingface, or local, relative to the catalog file."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub; empty: its main branch.")
    tasks: tuple[Task, ...] | None = Field(
        default=None,
        strict=False,
        description="What a control image goes with: text2image, image2image, inpaint; empty: found out likewise.",
    )

    @model_validator(mode="after")
    def _repo_is_sound(self) -> Self:
        problem = pickle_problem(self.repo)
        if not problem and self.source == "huggingface" and not HUB_ID.fullmatch(self.repo):
            problem = "not a hub id (owner/name); for a folder set source: local"
        self.refuse([("repo", problem)] if problem else [])
        return self


def abilities_of(folder: Path) -> Abilities:
    """What the pipeline of a local folder can do; text-to-image alone where its family is not known.

    Args:
        folder: In diffusers format.
    """
    return FAMILIES.get(str(_json_in(folder / "model_index.json").get("_class_name", "")), Abilities(()))


def max_clip_skip_of(folder: Path) -> int:
    """How many of CLIP's last layers the pipeline of a local folder can leave out, so that one remains.

    Args:
        folder: In diffusers format.
    """
    unused = abilities_of(folder).unused_layers
    configs = [_json_in(folder / encoder / "config.json") for encoder in _CLIP_ENCODERS]
    layers = [config["num_hidden_layers"] for config in configs if type(config.get("num_hidden_layers")) is int]
    return 0 if unused is None or not layers else max(0, min(layers) - 1 - unused)


def _json_in(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is none: what is wrong with it, loading it will tell."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
