"""The memory plan's error by family and size, against the bytes that are counted on the pretended GPU.

Run it with ``python -m benchmarks.memory_plan``; ``--figures`` prints what the plan says of each model of full size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import GuidanceLimits, SizeLimits
from deployments.memory_plan import stand_ins
from deployments.memory_plan.counting import plan_model
from deployments.memory_plan.plan import Choice
from tests.support.image_requests import image_request
from tests.support.stage_bytes import measure_stages, save_configs
from tests.support.tiny_pipelines.families import FAMILIES

MODELS = Path(__file__).parent / "model_configs"
GIB = 1 << 30
_SIDES = (96, 128)
_IMAGES = (1, 3)
_LONG_PROMPT = "a fox in the snow " * 90


def main() -> None:
    """Print the errors, or the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", action="store_true", help="print the plans of the models of full size")
    if parser.parse_args().figures:
        print_figures()
    else:
        print_errors()


def print_errors() -> None:
    """Compare the plan of each family with the bytes that the stock pipeline takes of the pretended GPU."""
    stand_ins.CHARACTERS_PER_TOKEN = 1  # the tiny tokenizers have a token for each character
    found: list[float] = []
    print("family, size, images: encoding, denoising, decoding")
    for name in FAMILIES:
        for (side, images), errors in errors_of(name).items():
            found += errors.values()
            print(f"{name}, {side}x{side}, {images}: {', '.join(f'{error:+.1%}' for error in errors.values())}")
    print(f"median {statistics.median(map(abs, found)):.2%}, worst {max(map(abs, found)):.2%} of {len(found)}")


def errors_of(name: str) -> dict[tuple[int, int], dict[str, float]]:
    """The plan's error by size and number of images, by stage."""
    family = FAMILIES[name]
    guidance, largest = family.guidance_scales[0], _SIDES[-1]
    entry = ModelEntry(
        repo="owner/name",
        guidance=GuidanceLimits(maximum=guidance, default=guidance),
        size=SizeLimits(
            default_width=largest, default_height=largest, minimum=64, maximum=largest, max_pixels=largest**2
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_model(entry, save_configs(family.build(), Path(folder)), torch.float32, inputs=family.inputs)
    errors = {}
    for side in _SIDES:
        for images in _IMAGES:
            request = image_request(
                prompt=_LONG_PROMPT,
                negative_prompt=_LONG_PROMPT,
                width=side,
                height=side,
                num_inference_steps=1,
                guidance_scale=guidance,
                inputs=family.inputs,
            )
            peaks: dict[str, int] = {}
            for call in measure_stages(family.build(), request, images):
                peaks[call.stage] = max(peaks.get(call.stage, 0), call.peak)
            counted = plan.counted(Choice(), side * side, images)
            errors[side, images] = {stage: counted[stage] / peak - 1 for stage, peak in peaks.items()}
    return errors


def print_figures() -> None:
    """Print weights, tensors and needs of each model of full size at 1024x1024, in GiB."""
    print("model: weights; tensors of encoding, denoising, decoding (with workspaces); most needed by choice")
    for folder in sorted(path for path in MODELS.iterdir() if path.is_dir()):
        plan = plan_model(ModelEntry(repo="owner/name"), folder, torch.bfloat16)
        weights = sum(each.size for each in plan.variants[0].weights)
        pixels = 1024 * 1024
        tensors = {}
        for need in plan.needs:
            size = need.bytes_for(pixels) + need.workspace_for(pixels)
            tensors[need.stage] = max(tensors.get(need.stage, 0), size)
        choices = [Choice(), *(Choice(offload=offload) for offload in ("encoders", "model", "group"))]
        needed = (f"{choice.words} {max(plan.needed(choice, pixels).values()) / GIB:.1f}" for choice in choices)
        parts = ", ".join(f"{size / GIB:.2f}" for size in tensors.values())
        print(f"{folder.name}: {weights / GIB:.2f}; {parts}; {', '.join(needed)}")


if __name__ == "__main__":
    main()
