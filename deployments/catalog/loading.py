"""How a model is loaded and tuned: what of diffusers is switched on for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from deployments.catalog.names import ClassName
from deployments.catalog.part import CatalogPart, Problem

PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".pkl", ".pickle", ".pt", ".pth"})
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)

_KINDS = {"torchao": ("int8", "float8"), "bitsandbytes": ("int8", "nf4", "fp4"), "gguf": ()}


def pickle_problem(path: str) -> str:
    """Why a file of weights is refused: a pickle can run code when it is read; empty for any other name."""
    if Path(path).suffix.lower() in PICKLE_SUFFIXES:
        return "a pickle can run code when it is read; give a .safetensors file"
    return ""


def absolute_path(path: str, folder: Path) -> str:
    """A path of the catalog, which is relative to its file's folder."""
    return str(folder / Path(path).expanduser())


Offload = Literal["none", "encoders", "model", "group"]
"""What of a model waits in main memory."""


class WeightsPart(CatalogPart):
    """A part of the catalog that names weights, on the hub or on this machine."""

    if TYPE_CHECKING:  # each kind has fields of its own, in its own order
        repo: str
        source: str

    @property
    def is_local(self) -> bool:
        """Whether the weights are on this machine; then nothing is downloaded."""
        return self.source != "huggingface"

    @property
    def public_name(self) -> str:
        """What clients may read: of a path only the last part."""
        return Path(self.repo).name if self.is_local else self.repo

    def with_absolute_path(self, folder: Path) -> Self:
        """The same with a local path looked up in a folder."""
        return self if self.source != "local" else self.model_copy(update={"repo": absolute_path(self.repo, folder)})


class Lora(WeightsPart):
    """Weights that are laid over the model's own."""

    repo: str = Field(min_length=1, description="A hub id (owner/name); or a .safetensors file or its folder.")
    source: Literal["huggingface", "local"] = Field(
        default="huggingface", description="Where repo is: huggingface, or local, relative to the catalog file."
    )
    weight_name: str | None = Field(
        default=None, description="The .safetensors file in repo; needed where there are several."
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit on the hub; empty: its main branch.")
    scale: float = Field(default=1.0, description="How strongly it works: 0 is not at all.")

    @model_validator(mode="after")
    def _file_is_safe(self) -> Self:
        problems = []
        for name in ("repo", "weight_name"):
            problem = pickle_problem(getattr(self, name) or "")
            if problem:
                problems.append((name, problem))
        if not problems and self.source == "huggingface" and not HUB_ID.fullmatch(self.repo):
            problems.append(("repo", "not a hub id (owner/name); for a file set source: local"))
        if not problems and self.weight_name is not None and not self.weight_name.endswith(".safetensors"):
            problems.append(("weight_name", "not the name of a .safetensors file"))
        self.refuse(problems)
        return self


class SchedulerChoice(CatalogPart):
    """The sampler, where it is not the model's own."""

    name: ClassName = Field(description="A scheduler class of diffusers, such as EulerDiscreteScheduler.")
    config: dict[str, Any] = Field(
        default_factory=dict, description="Its arguments, where they differ from the model's own."
    )


class Quantization(CatalogPart):
    """Weights in fewer bits than they are computed with."""

    method: Literal["torchao", "bitsandbytes", "gguf"] = Field(
        description="Whose quantization: torchao, bitsandbytes or gguf; the package must be installed."
    )
    kind: Literal["int8", "int4", "float8", "nf4", "fp4"] | None = Field(
        default=None, description="torchao: int8 or float8; bitsandbytes: int8, nf4 or fp4; gguf: empty."
    )
    components: tuple[str, ...] = Field(
        default=(), strict=False, description="Components to quantize; empty: the U-Net or the transformer."
    )
    file: str | None = Field(
        default=None, description="For gguf: the .gguf file of the denoiser, relative to the catalog file."
    )

    @property
    def words(self) -> str:
        """For people, such as ``int8 (torchao)``."""
        return f"{self.kind or Path(self.file or '').name} ({self.method})"

    @property
    def packs_encoders(self) -> bool:
        """Whether text encoders are of bitsandbytes, whose weights cannot be moved layer by layer."""
        return self.method == "bitsandbytes" and any(name.startswith("text_encoder") for name in self.components)

    def with_absolute_path(self, folder: Path) -> Self:
        """The same with its file looked up in a folder."""
        return self if self.file is None else self.model_copy(update={"file": absolute_path(self.file, folder)})

    @model_validator(mode="after")
    def _fields_go_together(self) -> Self:
        kinds = _KINDS[self.method]
        problems: list[Problem] = []
        if kinds and self.kind == "int4":
            problems.append(("kind", "int4 needs kernels that no package index has; take nf4 of bitsandbytes, or gguf"))
        elif kinds and self.kind not in kinds:
            problems.append(("kind", f"{self.method} needs one of {', '.join(kinds)}"))
        if not kinds and self.kind is not None:
            problems.append(("kind", "a .gguf file has its own kind; leave it out"))
        if self.method == "gguf" and self.components:
            problems.append(("components", "a .gguf file holds the denoiser only; leave it out"))
        if self.method == "gguf" and not (self.file or "").endswith(".gguf"):
            problems.append(("file", "gguf needs the path of a .gguf file"))
        if self.method != "gguf" and self.file is not None:
            problems.append(("file", f"{self.method} quantizes the model's own weights; leave it out"))
        self.refuse(problems)
        return self


class Loading(CatalogPart):
    """What is switched on when the model is loaded; all of it off by default."""

    device: Literal["auto", "cpu", "cuda", "xpu", "mps"] = Field(
        default="auto",
        description="Where it computes: cpu; cuda (NVIDIA, AMD), xpu (Intel) or mps (Apple); auto: the copy's GPU, if "
        "it has one.",
    )
    config: str | None = Field(
        default=None,
        description="For a single file: a folder, written ./name or /name, or a hub id with its components' configs.",
    )
    attention_backend: Literal["auto", "native", "xformers", "flash", "flash_varlen", "flex", "sage", "sage_varlen"] = (
        Field(default="auto", description="Attention kernels; auto is native, torch's own, which every model can use.")
    )
    memory: Literal["auto", "manual"] = Field(
        default="auto",
        description="auto: offload, vae_slicing, vae_tiling and a quantization are chosen where they are left out, so "
        "that the model fits the GPU; manual: they are off.",
    )
    offload: Offload = Field(
        default="none",
        description="What waits in main memory: none, encoders (those of text, by layers), model (whole modules) or "
        "group (their layers).",
    )
    layerwise_casting: Literal["none", "float8_e4m3fn", "float8_e5m2"] = Field(
        default="none", description="Number format in which the denoiser's layers are kept between their uses."
    )
    vae_slicing: bool = Field(default=False, description="Decode the images of a batch one after another.")
    vae_tiling: bool = Field(default=False, description="Decode large images in overlapping tiles.")
    compile: bool = Field(default=False, description="Compile the blocks that the denoiser repeats.")
    quantization: Quantization | None = Field(default=None, description="Quantized weights; see below.")
    may_quantize: tuple[Quantization, ...] = Field(
        default=(), strict=False, description="Quantizations that memory: auto may choose, the most wanted first."
    )
    loras: tuple[Lora, ...] = Field(default=(), strict=False, description="LoRAs, all at work at once; see below.")
    scheduler: SchedulerChoice | None = Field(default=None, description="Another sampler than the model's own.")
    safety_checker: bool = Field(default=True, description="Keep the model's own safety checker, where it has one.")

    @model_validator(mode="after")
    def _switches_go_together(self) -> Self:
        problems: list[Problem] = []
        if self.offload != "none" and self.device == "cpu":
            problems.append(("offload", "needs a GPU to load from main memory to; device is cpu"))
        if self.quantization and self.layerwise_casting != "none":
            problems.append(("layerwise_casting", "does not go with quantization, which keeps weights small already"))
        if self.quantization and self.quantization.method == "bitsandbytes" and self.device == "cpu":
            problems.append(("quantization", "bitsandbytes needs a GPU; torchao and gguf work on a CPU too"))
        if self.quantization and self.quantization.method == "bitsandbytes" and self.offload == "group":
            problems.append(("offload", "group does not go with bitsandbytes; take model, or torchao"))
        if self.quantization and self.offload == "encoders" and self.quantization.packs_encoders:
            problems.append(("offload", "encoders does not go with text encoders that bitsandbytes quantizes"))
        if self.may_quantize and self.memory == "manual":
            problems.append(("may_quantize", "nothing is chosen where memory is manual; give quantization"))
        if self.may_quantize and self.quantization:
            problems.append(("may_quantize", "quantization is given already; leave one of them out"))
        if self.compile and self.offload == "group":
            problems.append(("compile", "does not go with offload: group, which moves what is compiled"))
        self.refuse(problems)
        return self

    def gpu_problems(self) -> list[Problem]:
        """The fields that need a GPU."""
        problems = []
        if self.device not in ("auto", "cpu"):
            problems.append(("loading.device", f"{self.device} needs replicas.num_gpus above 0"))
        if self.offload != "none":
            problems.append(("loading.offload", "needs a GPU, and replicas.num_gpus is 0"))
        if self.quantization and self.quantization.method == "bitsandbytes":
            problems.append(("loading.quantization", "bitsandbytes needs a GPU, and replicas.num_gpus is 0"))
        if self.attention_backend not in ("auto", "native", "flex"):
            problems.append(
                ("loading.attention_backend", f"{self.attention_backend} needs a GPU, and replicas.num_gpus is 0")
            )
        return problems

    def with_absolute_paths(self, folder: Path) -> Loading:
        """The same with the local files it names looked up in a folder.

        Args:
            folder: What relative paths are relative to.
        """
        changes: dict[str, Any] = {"loras": tuple(lora.with_absolute_path(folder) for lora in self.loras)}
        if self.quantization:
            changes["quantization"] = self.quantization.with_absolute_path(folder)
        changes["may_quantize"] = tuple(each.with_absolute_path(folder) for each in self.may_quantize)
        if self.config and not HUB_ID.fullmatch(self.config):
            changes["config"] = absolute_path(self.config, folder)
        return self.model_copy(update=changes)
