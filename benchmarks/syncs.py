"""How often the engine waits for the GPU, and copies to and from it, beyond what the stock pipeline does.

Counted on the pretended GPU of the tests, with tiny pipelines. The test of the budget holds the engine to what is
written down, which may only fall:

    OMP_NUM_THREADS=1 python -m benchmarks.syncs --write tests/unit/engine/sync_budget.yaml
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path

import yaml
from diffusers.utils import logging as diffusers_logging

from tests.support.sync_counts import Counts, count_syncs, places_of_syncs
from tests.support.tiny_pipelines.families import FAMILIES

_HEAD = "# Beyond the stock pipeline, by family: made by benchmarks/syncs.py; may only fall.\n"


def main() -> None:
    """Count by family, and print or write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="all if left out")
    parser.add_argument("--write", type=Path, help="the budget to write")
    parser.add_argument("--places", action="store_true", help="print where one watched image of each family waits")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    diffusers_logging.set_verbosity_error()
    names = options.families or list(FAMILIES)
    if options.places:
        for name in names:
            print(
                name, *(f"{n:4} {kind} {place}" for (kind, place), n in places_of_syncs(name).most_common()), sep="\n"
            )
        return
    counts = {name: count_syncs(name) for name in names}
    print(table(counts))
    if options.write:
        options.write.write_text(_HEAD + yaml.safe_dump(budget(counts), sort_keys=False), encoding="utf-8")


def budget(counts: Mapping[str, Mapping[str, Counts]]) -> dict[str, dict[str, dict[str, float]]]:
    """What is beyond the stock pipeline, by family and mode."""
    return {
        name: {mode: each.beyond(modes["stock"])._asdict() for mode, each in modes.items() if mode != "stock"}
        for name, modes in counts.items()
    }


def table(counts: Mapping[str, Mapping[str, Counts]]) -> str:
    """The counts in Markdown: syncs and copies per step, and in brackets per image besides."""
    modes = ["stock", "alone", "watched", "in company"]
    lines = [
        "Syncs / copies per denoising step, and in brackets per image besides; copies that are syncs count as both.",
        "",
        f"| family | {' | '.join(modes)} |",
        f"|---|{'---|' * len(modes)}",
    ]
    for name, each in counts.items():
        lines.append(f"| {name} | {' | '.join(_cell(each[mode]) for mode in modes)} |")
    return "\n".join(lines)


def _cell(counts: Counts) -> str:
    syncs, copies, image_syncs, image_copies = counts
    return f"{syncs:g} / {copies:g} ({image_syncs:g} / {image_copies:g})"


if __name__ == "__main__":
    main()
