"""The engine's order in simulated time, against first come, first served: ``python -m benchmarks.engine_order``.

The policy is the engine's own; forwards are not run, but take the time they are said to take. So hundreds of loads take
a minute, and a busy machine does not show in the figures.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.engine_loads import Arrival, mixed_requests, poisson
from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import RUNS, ForwardCosts, name_of
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call, read_call
from deployments.engine.policy import Policy
from deployments.engine.request import ImageRequest
from deployments.parameters import GenerationSettings

MAX_BATCH, LOAD, CROWD = 8, 0.8, 8


@dataclass(frozen=True)
class Regime:
    """What forwards cost, and what is asked for.

    Attributes:
        name: For people.
        cost: Of a forward of so many rows, in any unit of time.
        steps: Step counts of the mixture.
    """

    name: str
    cost: Callable[[int], float]
    steps: tuple[int, ...]


REGIMES = (
    Regime("overhead-bound, c(b) = 12 + 1.8 b", lambda rows: 12 + 1.8 * rows, (4, 10, 20, 50)),
    Regime("compute-bound, c(b) = b", float, (2, 4, 8, 16)),
)


def main() -> None:
    """Read the command line, simulate, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=100, help="Poisson loads of each regime")
    parser.add_argument("--images", type=int, default=200, help="images of each load")
    options = parser.parse_args()
    for regime in REGIMES:
        print(f"\n{regime.name}; {options.loads} loads of {options.images} images, policy / first come, first served")
        ratios = [_compare(regime, seed, options.images) for seed in range(options.loads)]
        for name, found in zip(("p50", "p95", "p95 of the shortest"), zip(*ratios, strict=True), strict=True):
            quartiles = np.percentile(found, (25, 50, 75))
            print(f"  {name:<24}{quartiles[1]:.2f} (quartiles {quartiles[0]:.2f} and {quartiles[2]:.2f})")
    waits = [_newcomer(REGIMES[-1], after) for after in range(10, CROWD * 50, 10)]
    print(f"  4 steps that come at any time among {CROWD} of 50, over the same alone: at worst {max(waits):.2f}")


def _compare(regime: Regime, seed: int, images: int) -> tuple[float, float, float]:
    requests = mixed_requests(images, regime.steps, 64, seed=seed)
    seconds = [_alone(regime, request) for request in requests]
    load = poisson(requests, LOAD / statistics.mean(seconds), seed=seed)
    serial, together = _serve_serially(load, seconds), _serve_together(load, regime.cost)
    short = [
        index for index, request in enumerate(requests) if request.settings.num_inference_steps == min(regime.steps)
    ]
    pairs = [(np.percentile(together, 50), np.percentile(serial, 50))]
    pairs.append((np.percentile(together, 95), np.percentile(serial, 95)))
    pairs.append((np.percentile(together[short], 95), np.percentile(serial[short], 95)))
    p50, p95, shortest = (float(mine / theirs) for mine, theirs in pairs)
    return p50, p95, shortest


def _newcomer(regime: Regime, after: int) -> float:
    """How much longer a four-step image takes that comes so many forwards after eight of fifty steps."""
    like = _of_steps(50)
    short = _of_steps(4)
    crowd = [Arrival(like) for _ in range(CROWD)]
    late = Arrival(short, (after - 0.5) * regime.cost(2))
    return float(_serve_together([*crowd, late], regime.cost)[-1]) / _alone(regime, short)


def _of_steps(steps: int) -> ImageRequest:
    settings = GenerationSettings(
        num_images=1, num_inference_steps=steps, guidance_scale=3.0, width=64, height=64, seed=0
    )
    return ImageRequest("", settings)


def _alone(regime: Regime, request: ImageRequest) -> float:
    return request.settings.num_inference_steps * regime.cost(_rows(request))


def _rows(request: ImageRequest) -> int:
    return 2 if request.settings.guidance_scale > 1 else 1


def _serve_serially(load: Sequence[Arrival], seconds: Sequence[float]) -> np.ndarray:
    now, latencies = 0.0, []
    for arrival, own in zip(load, seconds, strict=True):
        now = max(now, arrival.at) + own
        latencies.append(now - arrival.at)
    return np.array(latencies)


def _serve_together(load: Sequence[Arrival], cost: Callable[[int], float]) -> np.ndarray:
    costs = ForwardCosts()
    policy = Policy(costs, CheckedGroups(), MAX_BATCH, exact_rows=8)
    name = name_of(_call(1))
    for rows in (1, 2, 4, 8, 16) * RUNS:
        costs.note(name, rows, cost(rows))
    now, latencies = 0.0, np.zeros(len(load))
    coming, waiting = list(enumerate(load)), dict[Generation, int]()
    while coming or waiting:
        now = now if waiting else max(now, coming[0][1].at)
        while coming and coming[0][1].at <= now:
            index, arrival = coming.pop(0)
            generation = Generation(arrival.request)
            generation.waiting_call = _call(_rows(arrival.request))
            generation.arrival = arrival.at
            waiting[generation] = index
        group = policy.choose(list(waiting))
        assert group is not None
        policy.note_lost(group, list(waiting))
        seconds = cost(sum(call.rows for call in group.calls))
        policy.note(policy.launch(group.calls), seconds)
        now += seconds
        for generation in group.generations:
            generation.steps_done += 1
            if not generation.steps_left:
                index = waiting.pop(generation)
                latencies[index] = now - load[index].at
    return latencies


def _call(rows: int) -> Call:
    return read_call(_step, "Denoiser", (torch.zeros(rows, 1), torch.tensor(1.0)), {})


def _step(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return sample


if __name__ == "__main__":
    main()
