"""GPUs given in turns, by a clock of the test's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from deployments.autoscaling.gpu_turns import Demand, GpuTurns

RESIDENCY = 10.0
LONGEST = 60.0
LOAD = 4.0
TICK = 0.5

MODEL = Demand(
    requests=0,
    target=0,
    running=0,
    least=0,
    most=1,
    gpus=1,
    requests_per_replica=4,
    upscale_delay_s=5,
    downscale_delay_s=30,
    downscale_to_zero_delay_s=60,
)
BUSY = replace(MODEL, requests=4)
RUNNING = replace(MODEL, target=1, running=1)


@dataclass
class Cluster:
    """Does at once what it is told, but for loading: a replica is ready ``LOAD`` seconds after it was given a GPU."""

    demands: dict[str, Demand]
    gpus: int = 1
    load: Mapping[str, float] = field(default_factory=dict)
    now: float = 1000.0
    changes: list[tuple[float, str, int]] = field(default_factory=list)
    turns: GpuTurns = field(default_factory=lambda: GpuTurns(RESIDENCY, LONGEST))
    ready_at: dict[str, float] = field(default_factory=dict)

    def ask(self, **requests: float) -> None:
        """Give models jobs."""
        for model_id, number in requests.items():
            self.demands[model_id] = replace(self.demands[model_id], requests=number)

    def tick(self) -> dict[str, int]:
        """Let the policy decide once, and time go on."""
        targets = self.turns.replicas(self.demands, self.gpus, self.now)
        for model_id, target in targets.items():
            demand = self.demands[model_id]
            if target != demand.target:
                self.changes.append((self.now, model_id, target))
                if demand.target == 0:
                    self.ready_at[model_id] = self.now + self.load.get(model_id, LOAD)
            is_ready = self.now >= self.ready_at.get(model_id, 0)
            self.demands[model_id] = replace(demand, target=target, running=target if is_ready else 0)
        self.now += TICK
        return targets

    def run(self, seconds: float) -> dict[str, int]:
        """Let the policy decide for some time; returns the last targets."""
        for _ in range(int(seconds / TICK)):
            targets = self.tick()
        return targets

    def waits_of(self, model_id: str) -> list[float]:
        """How long the model was without a GPU, each time."""
        moments = [(at, target) for at, changed, target in self.changes if changed == model_id]
        lost = 1000.0
        found = []
        for at, target in moments:
            if target:
                found.append(at - lost)
            else:
                lost = at
        return found


def test_a_model_without_jobs_gets_no_gpu() -> None:
    assert Cluster({"a": MODEL}).run(5) == {"a": 0}


def test_a_model_with_jobs_gets_a_free_gpu_at_once() -> None:
    assert Cluster({"a": BUSY, "b": MODEL}).tick() == {"a": 1, "b": 0}


def test_an_idle_replica_is_given_up_at_once_when_another_model_waits() -> None:
    cluster = Cluster({"a": RUNNING, "b": MODEL})
    cluster.run(20)
    cluster.ask(b=1)

    assert cluster.tick() == {"a": 0, "b": 1}


def test_an_idle_replica_stays_warm_until_its_own_delay_is_over() -> None:
    cluster = Cluster({"a": RUNNING, "b": MODEL})

    assert cluster.run(60) == {"a": 1, "b": 0}
    assert cluster.run(2) == {"a": 0, "b": 0}


def test_the_replica_that_has_been_idle_longest_is_given_up() -> None:
    cluster = Cluster({"a": RUNNING, "b": replace(RUNNING, requests=1), "c": MODEL}, gpus=2)
    cluster.run(5)
    cluster.ask(b=0)
    cluster.run(5)
    cluster.ask(c=1)

    assert cluster.tick() == {"a": 0, "b": 1, "c": 1}


def test_a_model_with_jobs_keeps_its_gpu_for_its_residency() -> None:
    cluster = Cluster({"a": BUSY, "b": BUSY})
    cluster.run(LOAD + RESIDENCY)
    assert [model for _, model, _ in cluster.changes] == ["a"]

    cluster.run(2)
    assert [model for _, model, _ in cluster.changes] == ["a", "a", "b"]


def test_a_residency_is_as_long_as_its_load_where_that_is_more() -> None:
    cluster = Cluster({"a": BUSY, "b": BUSY}, load={"a": 3 * RESIDENCY})
    cluster.run(100)

    began, lost = [at for at, model, _ in cluster.changes if model == "a"][:2]
    assert lost - began == pytest.approx(6 * RESIDENCY, abs=2 * TICK)


def test_a_model_with_jobs_keeps_its_gpu_beyond_its_residency_where_nobody_waits() -> None:
    assert Cluster({"a": BUSY, "b": MODEL}).run(10 * RESIDENCY) == {"a": 1, "b": 0}


@pytest.mark.parametrize("models", [2, 3, 5])
def test_no_model_waits_longer_than_the_turns_of_the_others(models: int) -> None:
    names = [f"m{index}" for index in range(models)]
    cluster = Cluster(dict.fromkeys(names, BUSY))
    cluster.run(models * 200)

    for name in names:
        waits = cluster.waits_of(name)
        assert len(waits) > 5
        assert max(waits) <= (models - 1) * (RESIDENCY + LOAD + 2 * TICK)


def test_a_model_with_few_jobs_is_not_starved_by_one_with_many() -> None:
    cluster = Cluster({"many": replace(BUSY, requests=1000), "few": MODEL})
    cluster.run(100)
    cluster.ask(few=1)

    assert cluster.tick() == {"many": 0, "few": 1}


def test_one_that_waits_longest_is_next() -> None:
    cluster = Cluster({"a": BUSY, "b": MODEL, "c": MODEL})
    cluster.run(5)
    cluster.ask(c=1)
    cluster.run(5)
    cluster.ask(b=100)
    cluster.run(100)

    assert [model for _, model, target in cluster.changes if target][:3] == ["a", "c", "b"]


def test_alternating_jobs_do_not_make_the_models_alternate_faster_than_their_residency() -> None:
    cluster = Cluster({"a": BUSY, "b": BUSY, "c": BUSY})
    cluster.run(300)

    starts = [at for at, _, target in cluster.changes if target]
    assert min(later - earlier for earlier, later in pairwise(starts)) >= RESIDENCY + LOAD


def test_least_replicas_are_never_taken_away() -> None:
    cluster = Cluster({"a": replace(RUNNING, least=1), "b": BUSY, "c": BUSY}, gpus=2)
    cluster.run(100)

    assert "a" not in {model for _, model, _ in cluster.changes}
    assert {model for _, model, target in cluster.changes if target} == {"b", "c"}


def test_what_the_cluster_never_has_room_for_is_left_to_ray_and_holds_nobody_up() -> None:
    large = replace(BUSY, gpus=4)
    kept_out = {"warm": replace(RUNNING, least=1), "late": BUSY}

    assert Cluster({"a": BUSY, "large": large}).tick() == {"a": 1, "large": 1}
    assert Cluster(kept_out).tick() == {"warm": 1, "late": 1}


def test_models_on_the_cpu_scale_by_their_own_work_alone() -> None:
    on_cpu = replace(RUNNING, gpus=0, most=3, requests=100)
    cluster = Cluster({"cpu": on_cpu, "a": BUSY, "b": BUSY})

    assert cluster.run(5)["cpu"] == 1
    assert cluster.run(1)["cpu"] == 3
    cluster.ask(cpu=0)
    assert cluster.run(30)["cpu"] == 3
    assert cluster.run(1)["cpu"] == 1
    assert cluster.run(30)["cpu"] == 0


def test_fractions_share_a_gpu() -> None:
    half, third = replace(BUSY, gpus=0.5), replace(BUSY, gpus=1 / 3)

    assert Cluster({"a": half, "b": half, "c": half}).tick() == {"a": 1, "b": 1, "c": 0}
    assert Cluster({"a": third, "b": third, "c": third}).tick() == {"a": 1, "b": 1, "c": 1}


def test_a_fraction_of_each_gpu_is_not_a_whole_one() -> None:
    most_of_it = replace(BUSY, gpus=0.6)

    assert Cluster({"a": most_of_it, "b": most_of_it, "c": most_of_it}, gpus=2).tick() == {"a": 1, "b": 1, "c": 0}


def test_a_model_of_several_gpus_gets_them_although_smaller_ones_come_and_go() -> None:
    cluster = Cluster({"a": BUSY, "b": MODEL, "c": MODEL, "wide": MODEL}, gpus=2)
    cluster.run(7)
    cluster.ask(b=4)
    cluster.run(3)
    cluster.demands["wide"] = replace(BUSY, gpus=2)
    cluster.run(1)
    cluster.ask(c=4)
    cluster.run(100)

    (wait, *_) = cluster.waits_of("wide")
    assert wait - 10 <= RESIDENCY + LOAD + 2 * TICK


def test_further_replicas_come_after_their_delay_and_go_when_another_model_waits() -> None:
    cluster = Cluster({"a": replace(BUSY, requests=8, most=2), "b": MODEL}, gpus=2)
    cluster.run(LOAD + 1)
    assert cluster.demands["a"].target == 1
    assert cluster.run(6)["a"] == 2

    cluster.ask(b=1)
    assert cluster.tick() == {"a": 1, "b": 1}


def test_what_does_not_get_ready_holds_nobody_up() -> None:
    cluster = Cluster({"a": BUSY, "b": BUSY}, load={"a": 10_000})

    assert cluster.run(LONGEST) == {"a": 1, "b": 0}
    assert cluster.run(2) == {"a": 1, "b": 1}


def test_a_model_that_is_gone_is_forgotten() -> None:
    cluster = Cluster({"a": RUNNING, "b": MODEL})
    cluster.run(30)
    del cluster.demands["a"]

    cluster.ask(b=1)
    assert cluster.tick() == {"b": 1}
