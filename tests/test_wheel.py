"""The wheel works outside the repository, with its methods, data and leaderboard."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_an_installed_wheel_runs_anywhere(tmp_path: Path) -> None:
    source, site, elsewhere = tmp_path / "source", tmp_path / "site", tmp_path / "elsewhere"
    skip = shutil.ignore_patterns(".git", ".venv", "runs", "build", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, source, ignore=skip)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(source)], check=True)
    (wheel,) = tmp_path.glob("ckl_bench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shutil.rmtree(source)
    elsewhere.mkdir()
    code = (
        "import ckl_bench, sys\n"
        f"assert ckl_bench.__file__.startswith({str(site)!r}), ckl_bench.__file__\n"
        "from ckl_bench.cli.app import main\n"
        "main(['run', '--method', 'oracle+finetune', '--model', 'tiny', '--limit', '2', '--epochs', '1'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "oracle+finetune" in done.stdout
    assert len(list((elsewhere / "runs" / "records").glob("*.json"))) == 1
