"""Imports go one way: the contracts of pyproject.toml, and no cycle of modules."""

import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

PROJECT = Path(__file__).parents[3]
PACKAGES = ("serve", "deployments")
IN_A_FUNCTION = "\n\ndef late():\n    import {}\n"
FOR_TYPES = "\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {}\n"


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", "--no-logo"], cwd=project, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's packages and contracts."""
    project = tmp_path_factory.mktemp("project")
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, project / package, ignore=shutil.ignore_patterns("web", "__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", project)
    return project


def test_the_contracts_are_kept() -> None:
    found = lint_imports(PROJECT)

    assert found.returncode == 0, found.stdout + found.stderr


def test_no_module_imports_itself_by_way_of_others() -> None:
    """The contracts compare folders; a package's ``__init__`` and its modules are in the same one."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)

    TopologicalSorter({each: graph.find_modules_directly_imported_by(each) for each in graph.modules}).prepare()


@pytest.mark.parametrize(
    ("module", "form", "imported", "contract"),
    [
        ("deployments/version.py", IN_A_FUNCTION, "serve.errors", "serve imports deployments"),
        ("deployments/jobs/records/jobs.py", FOR_TYPES, "deployments.jobs.store", "in one direction"),
        ("serve/errors.py", IN_A_FUNCTION, "serve.app", "in one direction"),
        ("deployments/storage/base.py", FOR_TYPES, "deployments.jobs.store", "nothing else of deployments"),
        ("deployments/catalog/limits.py", IN_A_FUNCTION, "ray", "nothing of Ray"),
    ],
)
def test_an_import_against_the_arrows_breaks_a_contract(
    copied: Path, module: str, form: str, imported: str, contract: str
) -> None:
    file = copied / module
    text = file.read_text(encoding="utf-8")
    file.write_text(text + form.format(imported), encoding="utf-8")

    found = lint_imports(copied)

    file.write_text(text, encoding="utf-8")
    assert found.returncode == 1, found.stdout + found.stderr
    assert any(contract in line and " BROKEN" in line for line in found.stdout.splitlines()), found.stdout
