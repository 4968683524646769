"""Folders that are made once and read often, such as cached models: whether one still is as it was made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ckl_bench.errors import UserError
from ckl_bench.progress import log
from ckl_bench.storage.files import read_json, sha256_file
from ckl_bench.storage.locks import locked
from ckl_bench.storage.writing import new_folder, write_json

SEAL = "sha256.json"
_WHOLE: set[Path] = set()  # folders that were looked at: some have hundreds of megabytes to hash


def made_once(target: Path, make: Callable[[Path], object]) -> Path:
    """The folder `target`, which `make` fills where it is not there yet, whole or not at all.

    One that is not as it was made is made again. Two processes that want the same one take turns, and the second finds
    it there. Raises UserError where it cannot be written, and what `make` raises.
    """
    if target not in _WHOLE and not is_sealed(target):
        with locked(target.absolute().with_name(f".{target.name}.lock"), f"the making of {target}", wait=True):
            if not is_sealed(target):
                if target.exists():
                    log(f"{target} is not as it was made: it is made again")
                    shutil.rmtree(target)
                with new_folder(target) as folder:
                    make(folder)
                    seal_folder(folder)
    _WHOLE.add(target)
    return target


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
