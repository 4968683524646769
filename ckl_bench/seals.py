"""Folders that are made once and read often: whether one still is as it was made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ckl_bench.errors import UserError
from ckl_bench.files import read_json, sha256_file, write_json

SEAL = "sha256.json"


def seal_folder(folder: Path) -> None:
    """Write down the hash of every file in a folder, for `is_sealed`."""
    write_json(folder / SEAL, _hashes(folder))


def is_sealed(folder: Path) -> bool:
    """Whether a folder holds exactly the files that were there when it was sealed, unchanged."""
    with suppress(UserError, OSError):
        return bool(read_json(folder / SEAL) == _hashes(folder))
    return False


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
