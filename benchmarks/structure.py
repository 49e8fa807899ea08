"""How well the code shows where things are, in figures: of this tree, or of another one, such as an earlier commit's.

    python -m benchmarks.structure
    git worktree add /tmp/before COMMIT && python -m benchmarks.structure --tree /tmp/before
    python -m benchmarks.structure --parameter clip_skip --operation tag --details

Only files that git knows count. The frames from a route to its SQL statement are those of the project: the route's own,
and those of what it calls or waits for. All run in one process; the call of the tracker's process is one frame more.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.structure_guesses import GUESSES, look

PROBE = Path(__file__).with_name("structure_probe.py")
CORE = ("serve", "deployments")
MEASURED = (*CORE, "tests", "benchmarks")

Row = tuple[str, object]


def main() -> None:
    """Measure a tree, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path.cwd(), help="folder of a checkout")
    parser.add_argument("--parameter", default="guidance_scale", help="a generation parameter")
    parser.add_argument("--operation", default="untag", help="an operation on jobs or images")
    parser.add_argument("--details", action="store_true", help="name what is counted")
    asked = parser.parse_args()
    tree = Tree(asked.tree.resolve())
    probed = probe(tree.folder)
    rows = [
        *guesses(tree, details=asked.details),
        *layout(tree),
        *cycles(probed["cycles"], details=asked.details),
        *operations(tree, probed["ways"], asked.operation, details=asked.details),
        *parameters(tree, asked.parameter, details=asked.details),
        *texts(tree),
    ]
    for label, figure in rows:
        print(f"{label:64}{figure:>8}" if figure != "" else label)


class Tree:
    """A checkout.

    Args:
        folder: Its root.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True, check=True)
        self.files = [name for name in listed.stdout.split("\0") if (folder / name).is_file()]

    def python(self, *folders: str) -> list[str]:
        """The Python files under some folders of the root."""
        return [name for name in self.files if name.endswith(".py") and name.partition("/")[0] in folders]

    def text(self, name: str) -> str:
        """The text of a file; what is not UTF-8 in it is replaced."""
        return (self.folder / name).read_text(encoding="utf-8", errors="replace")

    def containing(self, pattern: str, names: Sequence[str]) -> list[str]:
        """Those of some files in whose text a pattern is found."""
        return [name for name in names if re.search(pattern, self.text(name))]


def probe(folder: Path) -> dict[str, Any]:
    """Measure what must run in the tree, in a process that imports from there."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-P", str(PROBE)]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def guesses(tree: Tree, *, details: bool) -> Iterator[Row]:
    """Behaviours that are where their name says."""
    looked = look(tree.folder, tree.python(*CORE))
    yield f"guesses that hit, of {len(GUESSES)}", sum(not scattered for scattered in looked.values())
    for guess, scattered in looked.items():
        if scattered:
            yield f"  missed: {guess.behaviour}, files", len(scattered)
        yield from _named(scattered, details=details)


def layout(tree: Tree) -> Iterator[Row]:
    """Files that are in no folder of their own, and lines."""
    for root in CORE:
        names = (PurePosixPath(name) for name in tree.python(root))
        loose = [name for name in names if len(name.parts) == 2 and name.stem not in {"__init__", "__main__"}]
        yield f"loose files in {root}/", len(loose)
    for root in MEASURED:
        yield f"lines of Python in {root}/", sum(len(tree.text(name).splitlines()) for name in tree.python(root))


def cycles(found: dict[str, list[list[str]]], *, details: bool) -> Iterator[Row]:
    """Modules, and children of a folder, that import each other in a circle."""
    for kind, label in (("modules", "of modules"), ("folders", "inside folders, at each depth")):
        circles = found[kind]
        yield f"import cycles {label}", len(circles)
        if circles:
            yield "  members of the largest", max(map(len, circles))
        yield from _named([" ".join(circle) for circle in circles], details=details)


def operations(tree: Tree, ways: dict[str, list[str]], operation: str, *, details: bool) -> Iterator[Row]:
    """Places that one operation passes through."""
    defining = tree.containing(rf"\bdef {re.escape(operation)}\(", tree.python("deployments"))
    yield f"files in deployments/ that define {operation}", len(defining)
    yield from _named(defining, details=details)
    for request, way in ways.items():
        files = {function.partition(":")[0] for function in way}
        yield f"frames from route to SQL: {request}", len(way)
        yield "  in files", len(files)
        yield from _named(way, details=details)


def parameters(tree: Tree, parameter: str, *, details: bool) -> Iterator[Row]:
    """Files that name a generation parameter."""
    others = [name for name in tree.files if not name.startswith("benchmarks/structure")]  # these name it as an example
    naming = tree.containing(rf"\b{re.escape(parameter)}\b", others)
    core = [name for name in naming if name in tree.python(*CORE)]
    shipped = [name for name in naming if not name.startswith("tests/")]
    yield f"files that name {parameter}, Python of serve/ and deployments/", len(core)
    yield from _named(core, details=details)
    yield "  everywhere but in tests", len(shipped)
    yield from _named([name for name in shipped if name not in core], details=details)
    yield "  in tests", len(naming) - len(shipped)


def texts(tree: Tree) -> Iterator[Row]:
    """Docstrings that only name another place, and the length of the architecture's description."""
    docstrings = (each for name in tree.python(*CORE) for each in _docstrings(ast.parse(tree.text(name))))
    yield 'docstrings that begin "See :meth:"', sum(each.startswith("See :meth:") for each in docstrings)
    yield "words of docs/architecture.md", len(tree.text("docs/architecture.md").split())


def _docstrings(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _named(names: Sequence[str], *, details: bool) -> Iterator[Row]:
    if details:
        yield from ((f"    {name}", "") for name in names)


if __name__ == "__main__":
    main()
