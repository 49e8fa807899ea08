"""The GPU check says what failed, and what it has not measured; on a CPU it says that it is one."""

from __future__ import annotations

import json
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check import exactness, families, faults
from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.company import Load, check_company
from benchmarks.gpu_check.memory import check_memory
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.plots import plot_company
from benchmarks.gpu_check.report import Section, Verdict, as_markdown
from benchmarks.gpu_check.servers import InEngine, WholeRequests
from benchmarks.gpu_check.swaps import check_swaps
from benchmarks.gpu_check.syncs import counted_syncs
from deployments.engine.engine import Engine
from tests.support.pretended_gpu import pretend_gpu
from tests.support.tiny_pipelines.families import FAMILIES


def bench(device: str = "cpu", seconds: float = 600) -> Bench:
    return Bench(torch.device(device), time.monotonic() + seconds)


def tiny(name: str = "flux") -> Model:
    return Model(name, lambda device: FAMILIES[name].build().to(device), sizes=(16, 24), steps=1, guidance_scale=3.0)


class WrongPictures(Engine):
    """An engine whose pictures differ from request to request."""

    def submit(self, request):
        generation = super().submit(request)
        generation.future.result(60)[0, 0, 0] += np.random.default_rng().uniform(0.1, 0.2)
        return generation


def test_one_failed_row_fails_a_section():
    section = Section("numbers", ("number", "verdict"))
    section.judge(True, 1)
    assert section.verdict is Verdict.PASSED
    section.judge(False, 2)
    section.judge(True, 3)
    assert section.verdict is Verdict.FAILED


def test_the_report_names_what_failed():
    good, bad = Section("good", ("n", "verdict")), Section("bad", ("n", "verdict"))
    good.judge(True, 0.12345)
    bad.judge(False, 1)

    text = as_markdown("A card.", [good, bad])

    assert "**Failed: bad**" in text
    assert "| 0.123 | passed |" in text
    assert "## bad: failed" in text
    assert "**Nothing failed.**" in as_markdown("A card.", [good])


def test_on_a_cpu_the_report_says_so(tmp_path, monkeypatch):
    arguments = ["--device", "cpu", "--only", "machine", "exactness", "syncs", "--models", "tiny flux"]
    monkeypatch.setattr(sys, "argv", ["gpu_check", *arguments, "--output", str(tmp_path)])

    with pytest.raises(SystemExit) as end:
        gpu_check.main()

    assert end.value.code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert "On a CPU: tiny pipelines" in report["heading"]
    verdicts = {section["title"]: section["verdict"] for section in report["sections"]}
    assert verdicts["tiny flux: deterministic"] == "passed"
    assert verdicts["tiny flux: synchronizations"] == "not run"
    assert "On a CPU" in (tmp_path / "report.md").read_text()


def test_no_check_starts_after_the_deadline(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys,
        "argv",
        ["gpu_check", "--device", "cpu", "--seconds", "-1", "--only", "families", "--output", str(tmp_path)],
    )
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 0
    (section,) = json.loads((tmp_path / "report.json").read_text())["sections"]
    assert (section["verdict"], section["notes"]) == ("not run", ["Time ended before."])


def test_a_check_that_breaks_is_a_failed_one(tmp_path, monkeypatch):
    def break_down(_: Bench) -> Section:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(gpu_check, "OF_MACHINE", {"machine": break_down})
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--device", "cpu", "--only", "machine", "--output", str(tmp_path)])
    monkeypatch.setattr(gpu_check, "OF_MODEL", {})
    with pytest.raises(SystemExit) as end:
        gpu_check.main()
    assert end.value.code == 1
    assert "no kernel image is available" in (tmp_path / "report.md").read_text()


def test_a_family_whose_pictures_differ_fails(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", {"flux": FAMILIES["flux"]})
    assert families.check_families(bench()).verdict is Verdict.PASSED
    monkeypatch.setattr(families, "Engine", WrongPictures)
    assert families.check_families(bench()).verdict is Verdict.FAILED


def test_other_bytes_of_a_deterministic_image_fail(monkeypatch):
    model = tiny()
    monkeypatch.setattr(exactness, "Engine", WrongPictures)
    assert exactness.check_exactness(bench(), model, model.build(torch.device("cpu"))).verdict is Verdict.FAILED


def test_syncs_are_counted_by_place(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    with counted_syncs() as places:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
        torch.cuda.synchronize()
    assert modes == ["warn", "default"]
    assert sorted(places.values()) == [1, 3]
    assert places["torch.cuda.synchronize"] == 1


def test_whole_requests_that_come_together_are_one_call_by_steps():
    calls = []
    together = threading.Barrier(4)

    def pipeline(**arguments):
        calls.append((arguments["num_inference_steps"], len(arguments["prompt"])))

    server = WholeRequests(pipeline)
    model = tiny()

    def ask(number: int) -> None:
        together.wait()
        server.draw(model.request(number, 16, num_inference_steps=1 + (number == 3)))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(4)))
    server.stop()

    assert sum(count for _, count in calls) == 4
    assert {steps for steps, _ in calls} == {1, 2}


def test_every_load_is_served_each_way_and_rows_are_counted(tmp_path):
    model = tiny()
    section = check_company(bench(), model, model.build(torch.device("cpu")))

    served = {(row[0], row[1], row[2]) for row in section.rows}
    assert len(served) == 7 * 3
    waste = {(row[0], row[1]): row[-1] for row in section.rows if row[2] == "engine"}
    assert min(waste.values()) == 1.0
    assert waste[16, "1"] == 1.0
    plot_company(section, tmp_path, "company")
    assert section.plots == {"company.svg": section.title}
    assert "<svg" in (tmp_path / "company.svg").read_text()


def test_a_mixed_load_has_clients_of_twice_the_steps():
    model, asked = tiny(), []

    class Server:
        def draw(self, request) -> None:
            asked.append(request.settings.num_inference_steps)

        def stop(self) -> None:
            """Nothing runs."""

    Load(16, 4, gap=1e-6).serve(Server(), model)
    assert sorted(asked) == [1, 1, 2, 2]


@pytest.mark.parametrize("check", [check_memory, check_swaps], ids=lambda check: check.__name__)
def test_on_a_device_memory_and_swaps_are_measured(check):
    with pretend_gpu():
        model = tiny()
        section = check(bench("cuda"), model, model.build(torch.device("cuda")))
    assert section.verdict is Verdict.MEASURED
    assert section.rows
    assert all(row[-1] == "" or row[-1] > 0 for row in section.rows)


def test_all_images_must_survive_too_little_memory(monkeypatch):
    class Forgetful(Engine):
        """An engine that fails the third image."""

        def submit(self, request):
            generation = super().submit(request)
            if request.settings.seed == 3:
                generation.cancel()
            return generation

    with pretend_gpu(capacity=1 << 30):
        model = tiny()
        check = partial(faults.check_out_of_memory, bench("cuda"), model)
        assert check(model.build(torch.device("cuda"))).verdict is Verdict.PASSED
        monkeypatch.setattr(faults, "Engine", Forgetful)
        section = check(model.build(torch.device("cuda")))
    assert section.verdict is Verdict.FAILED
    assert section.rows[0][1] == 7


def test_an_engine_in_company_counts_its_rows():
    model = tiny()
    server = InEngine(model.build(torch.device("cpu")))
    server.draw(model.request(1, 16))
    server.stop()
    assert server.engine.statistics.rows == 1
