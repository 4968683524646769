"""A page in a real browser, from a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def opened(page_file: Path) -> Iterator[Any]:
    """The page, open without a network; behind it nothing has failed, and nothing was asked for."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda asked: None if asked.url.startswith("file:") else problems.append(asked.url))
        page.on("dialog", lambda dialog: problems.append("a script from the data ran"))
        page.goto(page_file.as_uri())
        yield page
        assert problems == []
        browser.close()
