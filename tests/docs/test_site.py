"""The site of docs/: it builds without a network, links to what there is, and asks nobody else for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ckl_bench import Record

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed")
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "own-knowledge.html").read_text(encoding="utf-8")
    assert "What must not be forgotten" in page
    elsewhere = re.compile(r'<(?:script|img|link)[^>]*(?:src|href)="(https?://[^"]+)')
    for path in tmp_path.glob("*.html"):
        assert elsewhere.findall(path.read_text(encoding="utf-8")) == []
    record = (tmp_path / "record.html").read_text(encoding="utf-8")
    for field in Record.model_fields:
        assert f"<code>{field}</code>" in record
