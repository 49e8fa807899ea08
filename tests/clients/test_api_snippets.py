"""The Python of docs/api.md, run as it stands but for the address."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
PARTS = {name: part for part in f"\n{PAGE}".split("\n# ")[1:] for name in [part.split("\n")[0]]}
SNIPPETS = {name: "\n".join(re.findall(r"```python\n(.*?)```", part, re.DOTALL)) for name, part in PARTS.items()}


@pytest.mark.parametrize("name", ["HTTP API", "OpenAI Images", "AUTOMATIC1111", "Model Context Protocol"])
def test_the_snippets_of_a_dialect_run(service, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    here = httpx.URL(service.url)
    snippet = SNIPPETS[name].replace("http://127.0.0.1:8000", service.url).replace("port=8000", f"port={here.port}")

    assert "import" in snippet
    exec(compile(snippet, name, "exec"), {"__name__": "__main__"})
