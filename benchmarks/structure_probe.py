"""What must run in the tree that is measured: its imports, and the way of a request to the database.

`benchmarks.structure` starts it as a process of its own, in that tree; it prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Iterator, Mapping
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import CodeType, CoroutineType
from typing import Any

import grimp
import httpx
from greenlet import getcurrent
from sqlalchemy import Engine, event

ROOTS = ("serve", "deployments")
TREE = Path.cwd()
BEFORE_THE_ROUTE = "run_endpoint_function"  # of FastAPI; calls what the route is

Arrows = Mapping[str, set[str]]


def circles(arrows: Arrows) -> list[list[str]]:
    """Return the groups of nodes from each of which all others of the group can be reached, two nodes and more."""
    reached = {node: _reachable(arrows, node) for node in arrows}
    groups = {frozenset(other for other in reached[node] if node in reached[other]) for node in arrows}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reachable(arrows: Arrows, start: str) -> set[str]:
    found, ahead = set(), [start]
    while ahead:
        new = arrows[ahead.pop()] - found
        found |= new
        ahead.extend(new)
    return found


def import_cycles() -> dict[str, list[list[str]]]:
    """Return the cycles of modules, and those of the children of each package. Every import counts."""
    graph = grimp.build_graph(*ROOTS, cache_dir=None)
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    levels: dict[str, dict[str, set[str]]] = {"": {root: set() for root in ROOTS}}
    for package in graph.modules:
        levels[package] = {child: set() for child in graph.find_children(package)}
    for importer, imported in ((one, other) for one, others in imports.items() for other in others):
        package, child, sibling = _where_they_part(importer, imported)
        if child and sibling:
            levels[package][child].add(sibling)
    return {"modules": circles(imports), "folders": [circle for level in levels.values() for circle in circles(level)]}


def _where_they_part(one: str, other: str) -> tuple[str, str, str]:
    """Return the deepest package that holds two modules, and the child of it that each is in ("" for itself)."""
    mine, theirs = one.split("."), other.split(".")
    shared = 0
    while shared < min(len(mine), len(theirs)) and mine[shared] == theirs[shared]:
        shared += 1
    children = [".".join(parts[: shared + 1]) if len(parts) > shared else "" for parts in (mine, theirs)]
    return ".".join(mine[:shared]), children[0], children[1]


async def ways_to_the_database() -> dict[str, list[str]]:
    """Make a request of each kind, and return the frames in which it runs its statement.

    Returns:
        A ``file:function`` for each frame of the project, from the route's own on. The call of the tracker's process is
        not among them.
    """
    helpers = "support" if (TREE / "tests" / "support").is_dir() else "unit"
    service_of = import_module(f"tests.{helpers}.api_service").api_service
    with tempfile.TemporaryDirectory() as folder:
        async with service_of(Path(folder)) as service:
            image, _ = await service.make_image()
            tagged = f"/api/image/{image.id}/tags/best"
            await service.http.put(tagged)
            body = {"model_id": "shapes", "prompt": "a red circle"}
            return {
                "untag an image": await _way(service.http.delete(tagged), "DELETE FROM"),
                "submit a job": await _way(service.http.post("/api/generate", json=body), "INSERT INTO jobs "),
            }


async def _way(request: Awaitable[httpx.Response], statement: str) -> list[str]:
    """Return the frames in which a request runs the statement that begins so."""
    ways = []

    def note(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        if text.startswith(statement):
            ways.append([_name(code) for code in reversed(_codes()) if _is_ours(code)])

    event.listen(Engine, "before_cursor_execute", note)
    (await request).raise_for_status()
    event.remove(Engine, "before_cursor_execute", note)
    (way,) = ways
    return way


def _codes() -> list[CodeType]:
    """The functions between the route and here, the innermost first."""
    inside = [list(_running())]
    # Where a task works for others, the route's own waits for it.
    inside += [inside[0] + waiting for waiting in map(_waiting, asyncio.all_tasks())]
    codes = next(each for each in inside if BEFORE_THE_ROUTE in {code.co_name for code in each})
    return list(takewhile(lambda code: code.co_name != BEFORE_THE_ROUTE, codes))


def _running() -> Iterator[CodeType]:
    """What this task is in. SQLAlchemy's own functions run in a greenlet, above the others."""
    running, frame = getcurrent(), sys._getframe()
    while running is not None:
        while frame is not None:
            yield frame.f_code
            frame = frame.f_back
        running = running.parent
        frame = running and running.gr_frame


def _waiting(task: asyncio.Task[Any]) -> list[CodeType]:
    """What a task that waits is in."""
    found, awaited = [], task.get_coro()
    while isinstance(awaited, CoroutineType):
        found.append(awaited.cr_code)
        awaited = awaited.cr_await
    return found[::-1]


def _is_ours(code: CodeType) -> bool:
    file = Path(code.co_filename)
    return any(file.is_relative_to(TREE / root) for root in ROOTS)


def _name(code: CodeType) -> str:
    return f"{code.co_filename.removeprefix(f'{TREE}/')}:{code.co_qualname}"


if __name__ == "__main__":
    print(json.dumps({"cycles": import_cycles(), "ways": asyncio.run(ways_to_the_database())}))
