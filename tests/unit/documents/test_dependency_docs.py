"""No dependency and no import of another's package without its row in docs/dependencies.md."""

import ast
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[3]
PAGE = (PROJECT / "docs" / "dependencies.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", 1) for section in PAGE.split("\n## ")[1:])
OWN_FOLDERS = ("serve", "deployments", "models", "tests", "benchmarks")


def rows(section: str) -> dict[str, list[str]]:
    """The cells after the first, by the canonical name of the package in the first."""
    found = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            found[package(name.strip("`"))] = cells
    return found


def package(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def declared() -> dict[str, set[str]]:
    """Packages of pyproject.toml, by the heading they belong under."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    groups = {"To run": project["dependencies"]}
    for extra, requirements in extras.items():
        (heading,) = [heading for heading in SECTIONS if heading.endswith(f"the extra `{extra}`")]
        groups[heading] = requirements
    return {heading: {package(each) for each in requirements} for heading, requirements in groups.items()}


def imported_packages() -> dict[str, set[str]]:
    """Third-party packages that the project's own files import: each with the import names it is known by."""
    names = set()
    for folder in OWN_FOLDERS:
        for path in (PROJECT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
    installed = metadata.packages_distributions()
    return {
        name: {canonicalize_name(each) for each in installed[name]}
        for name in names - sys.stdlib_module_names
        if name in installed and name not in OWN_FOLDERS
    }


def test_each_dependency_has_its_row_where_it_belongs() -> None:
    for heading, packages in declared().items():
        assert set(rows(SECTIONS[heading])) == packages, heading


def test_each_row_says_why_and_where() -> None:
    for section in SECTIONS.values():
        for name, cells in rows(section).items():
            assert len(cells) == 2, name
            assert all(cells), name


def test_each_imported_package_is_on_the_page() -> None:
    on_the_page = {name for section in SECTIONS.values() for name in rows(section)}

    missing = {name for name, packages in imported_packages().items() if not packages & on_the_page}

    assert missing == set()


def test_files_named_on_the_page_exist() -> None:
    for section in SECTIONS.values():
        for name, cells in rows(section).items():
            for quoted in cells[-1].split("`")[1::2]:
                if "/" in quoted and "://" not in quoted:
                    assert (PROJECT / quoted).exists(), f"{name}: {quoted}"
