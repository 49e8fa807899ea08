"""The files that documents name, and the links between documents."""

from __future__ import annotations

import re
from functools import cache
from itertools import count
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
DOCUMENTS = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "k8s/README.md", "models/README.md")]
DOCUMENTS += sorted((PROJECT / "docs").glob("*.md"))
EVERY_DOCUMENT = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))

# Where a path may begin. A name alone belongs to a file of any folder: the text around it says which.
ROOTS = [PROJECT / name for name in (".", "serve", "serve/web", "deployments", "deployments/jobs", "k8s")]
FOLDERS = ("benchmarks", "configs", "deployments", "k8s", "models", "scripts", "serve", "tests")
SOURCE = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|js|yaml))`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def prose_of(document: Path) -> str:
    return FENCED.sub("", document.read_text(encoding="utf-8"))


@cache
def anchors_of(document: Path) -> set[str]:
    """The ids that GitHub gives the headings: small letters, hyphens for spaces; a number behind one that comes again.

    https://docs.github.com/en/get-started/writing-on-github, "Section links".
    """
    found: set[str] = set()
    for heading in HEADING.findall(prose_of(document)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        numbered = (f"{slug}-{number}" for number in count(1))
        found.add(slug if slug not in found else next(each for each in numbered if each not in found))
    return found


@cache
def names_of_files() -> set[str]:
    return {path.name for folder in FOLDERS for path in (PROJECT / folder).rglob("*.*")}


def exists(path: str) -> bool:
    return any((root / path).is_file() for root in ROOTS) or path in names_of_files()


@EVERY_DOCUMENT
def test_files_that_are_named_exist(document):
    named = SOURCE.findall(document.read_text(encoding="utf-8"))
    missing = sorted({path for path in named if not exists(path)})
    assert not missing


@EVERY_DOCUMENT
def test_links_lead_somewhere(document):
    broken = []
    for link in LINK.findall(prose_of(document)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert not broken
