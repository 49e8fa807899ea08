"""The system's Chromium, for tests, pictures and measurements of the page."""

from __future__ import annotations

import os
import shutil

from playwright.sync_api import Browser, Playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


# The first has no windows and takes half the time of the others.
PROGRAMS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"]


def find_chromium() -> str | None:
    """Return the path of the program: of the environment variable CHROMIUM, or the one that is installed."""
    installed = (path for program in PROGRAMS if (path := shutil.which(program)))
    return os.environ.get("CHROMIUM") or next(installed, None)


def launch(playwright: Playwright, executable: str, *arguments: str) -> Browser:
    """Start it, without windows and without requests of its own."""
    return playwright.chromium.launch(executable_path=executable, args=[*ARGUMENTS, *arguments])
