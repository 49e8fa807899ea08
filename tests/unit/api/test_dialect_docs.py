"""What docs/api.md says of the other dialects: each route is there, and each body is taken."""

from __future__ import annotations

import ast
import json
import re

import pytest

from tests.support.api_service import PROJECT, api_service
from tests.support.dialects import drawn
from tests.support.protected_service import every_route

PAGE = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
BODIES = re.findall(r"http://127\.0\.0\.1:8000(/\S*)[^`]*?--json '(\{.*?\})'\n", PAGE, re.DOTALL)
AT_ONCE = {"/sdapi/v1/options", "/api/mcp", "/api/prompts/count", "/mcp"}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def test_every_route_is_on_the_page():
    paths = {route.path for route in every_route() if not route.path.startswith("/docs/")}

    assert "/mcp" in paths
    assert [path for path in sorted(paths) if path not in PAGE] == []


def test_there_are_bodies_of_every_dialect():
    assert {path.split("/")[1] for path, _ in BODIES} == {"api", "v1", "sdapi", "mcp"}


@pytest.mark.parametrize(("path", "body"), [found for found in BODIES if found[0] != "/api/enrich"])
async def test_bodies_are_taken(tmp_path, path, body):
    async with api_service(tmp_path) as service:
        request = service.http.post(path, json=json.loads(body), headers=ACCEPT)
        response = await request if path in AT_ONCE else (await drawn(service, request))[0]
    assert response.status_code == 200, response.text


def test_python_is_python():
    snippets = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(snippets) > 4
    for snippet in snippets:
        assert ast.parse(snippet)
