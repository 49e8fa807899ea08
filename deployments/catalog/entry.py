"""One model of the catalog: the limits of its requests, how it is loaded, and its replicas."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from deployments.catalog.limits import GuidanceLimits, SizeLimits, StepCacheLimits, StepLimits
from deployments.catalog.loading import HUB_ID, Loading, Lora, WeightsPart, pickle_problem
from deployments.catalog.names import ClassName, LoraName, PoolName
from deployments.catalog.part import Problem
from deployments.catalog.replicas import Replicas
from deployments.catalog.tasks import ControlNet, ImageTask, abilities_of, max_clip_skip_of
from deployments.parameters import Task

PROJECT_ROOT = Path(__file__).resolve().parents[2]
BUILTIN_MODELS_VARIABLE = "CYBERIMAGE_BUILTIN_MODELS"

_BUILTIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HUB_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")  # the form of a Hugging Face user access token


class ModelEntry(WeightsPart):
    """One model of the catalog."""

    repo: str = Field(
        min_length=1,
        description="A hub id (owner/name); a folder or .safetensors file, relative to the catalog file; or a built-in "
        "model's name.",
    )
    description: str = Field(default="", description="One line for people.")
    source: Literal["builtin", "huggingface", "local"] = Field(
        default="huggingface", description="Where repo is: builtin, huggingface or local."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub; empty: its main branch.")
    token_env: str | None = Field(
        default=None, description="Name of the environment variable that holds the hub token; never the token itself."
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="Number format of the weights: auto, float32, float16 or bfloat16."
    )
    variant: str | None = Field(default=None, description="Variant of the weight files, such as fp16.")
    steps: StepLimits = Field(default_factory=StepLimits, description="Denoising steps.")
    guidance: GuidanceLimits = Field(default_factory=GuidanceLimits, description="Guidance scale.")
    size: SizeLimits = Field(default_factory=SizeLimits, description="Width and height.")
    max_images: int = Field(default=8, ge=1, le=8, description="Most images of one job.")
    max_batch: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Most images denoised together in one copy; without guidance, two count as one.",
    )
    max_prompt_characters: int = Field(
        default=10_000, ge=1, description="Longest prompt and longest negative prompt, in characters."
    )
    max_sequence_length: int | None = Field(
        default=None, ge=1, description="Most prompt tokens; empty for a pipeline that takes no such limit."
    )
    max_clip_skip: int | None = Field(
        default=None,
        ge=0,
        description="Most of CLIP's last layers that a request may skip; empty: found out where repo is a folder.",
    )
    clip_skip: int = Field(default=0, ge=0, description="Layers of CLIP that a request skips which does not say.")
    prompt_encoding: Literal["stock", "long"] = Field(
        default="stock", description="long: prompts of any length with (weights:1.2), for CLIP text encoders; or stock."
    )
    schedulers: tuple[ClassName, ...] = Field(
        default=(), strict=False, description="Schedulers that a request may choose; empty: only the model's own."
    )
    exact_rows: Literal["auto"] | Annotated[int, Field(ge=1, le=512)] = Field(
        default="auto",
        description="Rows of the forwards that decide about a deterministic image's bytes, at most max_batch; other "
        "numbers are used where they give the same. 1: it is denoised alone. auto: 1 on a GPU, 8 on a CPU.",
    )
    black_pictures: Literal["refused", "allowed"] = Field(
        default="refused",
        description="A picture that is black all over: refused fails its job, as overflows of float16 draw such; "
        "allowed keeps it. One that the safety checker painted over is kept, and flagged.",
    )
    tasks: tuple[ImageTask, ...] | None = Field(
        default=None,
        strict=False,
        description="What it does from an image: image2image, inpaint; empty: found out where repo is a folder.",
    )
    controlnet: ControlNet | None = Field(default=None, description="A ControlNet; see below.")
    request_loras: dict[LoraName, Lora] = Field(
        default_factory=dict, description="LoRAs that a request may choose, by name; off where none is chosen."
    )
    max_loras: int = Field(default=4, ge=1, le=16, description="Most LoRAs that one request may choose.")
    step_cache: StepCacheLimits = Field(
        default_factory=StepCacheLimits, description="Skipping what hardly changes between steps."
    )
    loading: Loading = Field(default_factory=Loading, description="How it is loaded and tuned.")
    replicas: Replicas = Field(default_factory=Replicas, description="Copies, and what each of them needs.")
    pool: PoolName | None = Field(
        default=None, description="The pool whose copies it shares with others, in place of its own; empty: none."
    )

    @model_validator(mode="after")
    def _names_are_sound(self) -> Self:
        problems: list[Problem] = []
        pickled = pickle_problem(self.repo)
        if pickled:
            problems.append(("repo", pickled))
        elif self.source == "huggingface" and not HUB_ID.fullmatch(self.repo):
            problems.append(("repo", "not a hub id (owner/name); for a folder set source: local"))
        if self.source == "builtin" and not _BUILTIN_NAME.fullmatch(self.repo):
            problems.append(("repo", "not the name of a built-in model"))
        if self.token_env is not None and _HUB_TOKEN.fullmatch(self.token_env):
            problems.append(("token_env", "this is a token; give the name of the variable that holds it"))
        elif self.token_env is not None and not _VARIABLE_NAME.fullmatch(self.token_env):
            problems.append(("token_env", "not the name of an environment variable"))
        self.refuse(problems)
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        problems = self.loading.gpu_problems() if self.replicas.num_gpus == 0 else []
        if self.loading.config is not None and not self.is_single_file:
            problems.append(("loading.config", "only for a single .safetensors file; a folder has its own configs"))
        if self.is_single_file and self.loading.quantization and self.loading.quantization.method != "gguf":
            problems.append(("loading.quantization", "a single file cannot be quantized; take a folder or a hub id"))
        if self.is_single_file and any(each.method != "gguf" for each in self.loading.may_quantize):
            problems.append(("loading.may_quantize", "a single file cannot be quantized; take a folder or a hub id"))
        if self.request_loras and self.loading.compile:
            problems.append(("request_loras", "does not go with loading.compile: each choice would be compiled anew"))
        if self.max_clip_skip is not None or self.source == "huggingface":
            problems += self.range_problems(0, self.max_clip_skip or 0, "clip_skip")
        self.refuse(problems)
        return self

    @property
    def is_single_file(self) -> bool:
        """Whether the model is one file with all its weights."""
        return self.source == "local" and self.repo.endswith(".safetensors")

    def location(self) -> str:
        """Return what a pipeline is loaded from: an absolute folder or file, or a hub id.

        Built-in models are in the folder of the environment variable CYBERIMAGE_BUILTIN_MODELS, else in the project's
        own ``models`` folder.
        """
        if self.source == "huggingface":
            return self.repo
        if self.source == "local":
            return str(Path(self.repo).absolute())
        folder = os.environ.get(BUILTIN_MODELS_VARIABLE) or PROJECT_ROOT / "models"
        return str(Path(folder).absolute() / self.repo)

    def token(self, environ: Mapping[str, str]) -> str | None:
        """Return the hub token, if the model names a variable for it; HUGGINGFACE_TOKEN stands in for HF_TOKEN.

        Args:
            environ: The environment.
        """
        if self.token_env is None:
            return None
        token = environ.get(self.token_env)
        if not token and self.token_env == "HF_TOKEN":  # noqa: S105 - a variable's name # nosec B105
            token = environ.get("HUGGINGFACE_TOKEN")
        return token or None

    @property
    def fingerprint(self) -> str:
        """A digest of the entry: it changes when the entry does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def most_ongoing_jobs(self) -> int:
        """How many jobs one replica takes at once: a full batch, and as many to follow it without a gap."""
        return 2 * self.max_batch

    @property
    def control_tasks(self) -> tuple[Task, ...]:
        """What a control image goes with; nothing where there is no ControlNet."""
        return () if self.controlnet is None else self.controlnet.tasks or ("text2image",)

    def with_found_tasks(self) -> ModelEntry:
        """The same with what the entry leaves open filled in from the model's folder."""
        folder = Path(self.location()) if self.source != "huggingface" else Path()
        known = abilities_of(folder)
        tasks = known.tasks if self.tasks is None else self.tasks
        controlnet = self.controlnet
        if controlnet is not None and controlnet.tasks is None:
            possible = tuple(task for task in known.control_tasks if task in ("text2image", *tasks))
            controlnet = controlnet.model_copy(update={"tasks": possible})
        skip = max_clip_skip_of(folder) if self.max_clip_skip is None else self.max_clip_skip
        return self.model_copy(update={"tasks": tasks, "controlnet": controlnet, "max_clip_skip": skip})

    def step_config(self) -> dict[str, Any]:
        """Return ``{"fixed_steps": N}`` or ``{"steps": {"min", "max", "default"}}``, as ``GET /api/models`` has it."""
        if self.steps.fixed is not None:
            return {"fixed_steps": self.steps.fixed}
        return {"steps": _range(self.steps)}

    def public(self, model_id: str) -> dict[str, Any]:
        """Return the model as ``GET /api/models`` shows it. A local folder's place on the server is not shown.

        Args:
            model_id: The model's key in the catalog.
        """
        return {
            "id": model_id,
            "repo": self.public_name,
            "description": self.description,
            "source": self.source,
            "type": "image",
            "step_config": self.step_config(),
            "guidance": _range(self.guidance),
            "size": self.size.model_dump(),
            "max_images": self.max_images,
            "max_prompt_characters": self.max_prompt_characters,
            "max_sequence_length": self.max_sequence_length,
            "clip_skip": {"maximum": self.max_clip_skip or 0, "default": self.clip_skip},
            "schedulers": list(self.schedulers),
            "tasks": ["text2image", *(self.tasks or ())],
            "control_tasks": list(self.control_tasks),
            "loras": list(self.request_loras),
            "lora_scales": {name: lora.scale for name, lora in self.request_loras.items()},
            "max_loras": self.max_loras,
            "max_batch": self.max_batch,
            "step_cache": self.step_cache.model_dump(),
            "default_settings": {
                "num_images": 1,
                "num_inference_steps": self.steps.default,
                "guidance_scale": self.guidance.default,
                "width": self.size.default_width,
                "height": self.size.default_height,
            },
        }


def _range(limits: StepLimits | GuidanceLimits) -> dict[str, float]:
    return {"min": limits.minimum, "max": limits.maximum, "default": limits.default}
