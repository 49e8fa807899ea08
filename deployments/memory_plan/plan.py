"""How much of a GPU's memory a model needs: by stage, size, number of images, and where its weights wait."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from deployments.catalog.loading import Offload, Quantization

MIB = 1 << 20
CONTEXT_BYTES = 640 * MIB
"""What the driver and the kernels take of a GPU before the first tensor: 0.5 to 0.65 GiB on cards of today."""
WORKSPACE_BYTES = 192 * MIB
"""What libraries take for themselves: cuBLAS 8 to 64 MiB a stream
(https://docs.nvidia.com/cuda/cublas/index.html#cublassetworkspace), attention and reductions the rest."""
FRAGMENTED_SHARE = 0.08
"""What lies idle between tensors, as a share of those that come and go: PyTorch's allocator rounds to 2 MiB, and to
20 MiB or more beyond 1 MiB (https://docs.pytorch.org/docs/stable/notes/cuda.html#memory-management)."""

# Of a pixel that was decoded: three colours in float32, once as tiles and once joined to a picture.
_FINISHED_BYTES = 3 * 4 * 2


class UncountableError(Exception):
    """The model's memory cannot be planned from its config files."""


class Role(StrEnum):
    """What a component is for."""

    TEXT_ENCODER = "text encoder"
    DENOISER = "denoiser"
    AUTOENCODER = "autoencoder"
    OTHER = "other"


class PlanPart(BaseModel):
    """A frozen part of a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(PlanPart):
    """The weights of one component.

    Attributes:
        component: Its name in the pipeline.
        class_name: Its class.
        role: What it is for.
        size: All of them, in bytes.
        layers: The most bytes of two layers that follow each other: one computes, the other is fetched meanwhile.
        unpacked: The most bytes of one layer's weights that are unpacked to be computed with; 0 where none is packed.
    """

    component: str
    class_name: str
    role: Role
    size: int
    layers: int
    unpacked: int = 0


class CountedSize(PlanPart):
    """Bytes that were counted at one size of the picture.

    Attributes:
        pixels: Width times height.
        first: For one image.
        further: For each image more in the same forward.
        workspace: For each image besides, what convolutions take for themselves.
    """

    pixels: int
    first: int
    further: int
    workspace: int = 0


class Need(PlanPart):
    """What the calls of one component need besides the weights.

    Attributes:
        component: Its name in the pipeline.
        stage: What the calls are for: encoding, denoising or decoding.
        sizes: What was counted, by rising size.
        tile: For decoding, bytes that the first tiles of a large picture need; None where it cannot be done in tiles.
    """

    component: str
    stage: str
    sizes: tuple[CountedSize, ...]
    tile: int | None = None

    def bytes_for(self, pixels: int, images: int = 1, *, saves_decoding: bool = False) -> int:
        """Bytes of the tensors that a forward needs, those that its images keep included.

        Between counted sizes, and beyond them, it is linear in the pixels: attention keeps no matrix of pixels by
        pixels, and everything else has an entry or some for each of them.

        Args:
            pixels: Width times height of each image.
            images: How many share the forward.
            saves_decoding: Whether decoding goes one image after another, and in tiles.
        """
        first, further = self._at(pixels, "first"), self._at(pixels, "further")
        if saves_decoding and self.tile is not None:
            finished = pixels * _FINISHED_BYTES
            return round(min(first, self.tile + finished) + (images - 1) * finished)
        return round(first + (images - 1) * further)

    def workspace_for(self, pixels: int, images: int = 1, *, saves_decoding: bool = False) -> int:
        """Bytes that convolutions take for themselves; arguments as of :meth:`bytes_for`."""
        workspace = self._at(pixels, "workspace")
        if saves_decoding and self.tile is not None:
            # What was counted of tiles has it.
            return round(min(workspace, max(0.0, self.tile - self._at(pixels, "first"))))
        return round(images * workspace)

    def _at(self, pixels: int, name: str) -> float:
        """Linear between the nearest two sizes, or through the first or last two beyond them; never below 0."""
        points = [(each.pixels, int(getattr(each, name))) for each in self.sizes]
        if len(points) == 1:
            return points[0][1] * pixels / points[0][0]
        pairs = list(pairwise(points))
        (low, small), (high, large) = next((pair for pair in pairs if pixels <= pair[1][0]), pairs[-1])
        return max(0.0, small + (large - small) * (pixels - low) / (high - low))


class Choice(PlanPart):
    """Where a model's weights wait, and how it saves memory.

    Attributes:
        offload: As in the catalog.
        saves_decoding: Whether the autoencoder decodes one image after another, and large ones in tiles.
        quantization: Of its weights; None for none.
    """

    offload: Offload = "none"
    saves_decoding: bool = False
    quantization: Quantization | None = None

    @property
    def words(self) -> str:
        """For people: ``VAE slicing and tiling, encoder offload``, or ``everything on the GPU``."""
        parts = []
        if self.quantization is not None:
            parts.append(self.quantization.words)
        if self.saves_decoding:
            parts.append("VAE slicing and tiling")
        if self.offload != "none":
            parts.append(f"{'encoder' if self.offload == 'encoders' else self.offload} offload")
        return ", ".join(parts) or "everything on the GPU"


class QuantizedWeights(PlanPart):
    """All weights under one quantization.

    Attributes:
        quantization: None for the weights as they are.
        weights: By component.
    """

    quantization: Quantization | None
    weights: tuple[Weights, ...]


class MemoryPlan(PlanPart):
    """What a model needs, as counted from its config files.

    Attributes:
        class_name: Of its pipeline.
        dtype: In which it computes.
        variants: Its weights: first as the catalog has them, then under each quantization that it allows.
        needs: Of the calls of its components.
        encodings: Most bytes of encoded prompts that the engine keeps.
    """

    class_name: str
    dtype: str
    variants: tuple[QuantizedWeights, ...]
    needs: tuple[Need, ...]
    encodings: int = 0

    def weights_of(self, choice: Choice) -> tuple[Weights, ...]:
        """The weights under a choice's quantization."""
        return next(each.weights for each in self.variants if each.quantization == choice.quantization)

    def counted(self, choice: Choice, pixels: int, images: int = 1) -> dict[str, int]:
        """Most bytes of weights and tensors at once, by stage.

        Args:
            choice: Where the weights wait.
            pixels: Width times height of each image.
            images: How many share each forward.
        """
        stages: dict[str, int] = {}
        for need in self.needs:
            tensors = need.bytes_for(pixels, images, saves_decoding=choice.saves_decoding)
            size = self._resident(choice, need) + tensors
            stages[need.stage] = max(stages.get(need.stage, 0), size)
        return stages

    def needed(self, choice: Choice, pixels: int, images: int = 1) -> dict[str, int]:
        """Bytes that must be free on the GPU, by stage: what is counted, and what else takes memory.

        Args:
            choice: Where the weights wait.
            pixels: Width times height of each image.
            images: How many share each forward.
        """
        stages: dict[str, int] = {}
        aside = WORKSPACE_BYTES + self.encodings
        for need in self.needs:
            tensors = need.bytes_for(pixels, images, saves_decoding=choice.saves_decoding)
            tensors += need.workspace_for(pixels, images, saves_decoding=choice.saves_decoding)
            size = self._resident(choice, need) + round(tensors * (1 + FRAGMENTED_SHARE)) + aside
            stages[need.stage] = max(stages.get(need.stage, 0), size)
        return stages

    def most(self, choice: Choice, pixels: int, free: int, limit: int, stages: Sequence[str]) -> int:
        """Most images that fit into one forward of each of these stages; 0 where not even one does.

        Args:
            choice: Where the weights wait.
            pixels: Width times height of each image.
            free: Bytes that are free for the model.
            limit: Most images that are of interest.
            stages: Those that count.
        """
        fitting = 0
        for images in range(1, limit + 1):
            needed = self.needed(choice, pixels, images)
            if any(needed.get(stage, 0) > free for stage in stages):
                break
            fitting = images
        return fitting

    def main_memory(self, choice: Choice) -> int:
        """Bytes of weights that wait in main memory."""
        weights = self.weights_of(choice)
        if choice.offload == "none":
            return 0
        waiting = [each for each in weights if choice.offload != "encoders" or each.role is Role.TEXT_ENCODER]
        return sum(each.size for each in waiting)

    def _resident(self, choice: Choice, need: Need) -> int:
        """Bytes of weights on the device during a component's call."""
        called = next((each for each in self.weights_of(choice) if each.component == need.component), None)
        unpacked = 0 if called is None else called.unpacked
        return unpacked + sum(_on_device(choice.offload, each, each is called) for each in self.weights_of(choice))


def _on_device(offload: Offload, weights: Weights, is_called: bool) -> int:
    if offload == "none" or (offload == "encoders" and weights.role is not Role.TEXT_ENCODER):
        return weights.size
    if not is_called:
        return 0
    return weights.size if offload == "model" else weights.layers
