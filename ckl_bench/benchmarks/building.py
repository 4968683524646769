"""A build is made once: a stopped one goes on, a finished one is found again, two of one kind do not meet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError, utf8
from ckl_bench.progress import log
from ckl_bench.storage.files import read_sealed
from ckl_bench.storage.locks import locked
from ckl_bench.storage.sums import sha256_checked
from ckl_bench.storage.writing import refuse_existing


def building(out: Path) -> AbstractContextManager[None]:
    """Hold the lock of a benchmark directory that is being built; UserError where another process builds it.

    Its name goes into the manifest, so that one that is no text is refused.
    """
    if not utf8(out.name):
        raise UserError(f"{out}: this name is not UTF-8; give another --out")
    return locked(out.absolute().with_name(f".{out.name}.lock"), f"the build of {out}")


def described(files: Sequence[Path], licence: str, root: Path | None = None) -> list[dict[str, str]]:
    """What a manifest says of its sources: each one's name (under `root`, where one is given), SHA-256 and licence.

    Raises UserError where a list of checksums beside a file, or in `root`, says that it is another.
    """
    return [
        {
            "file": path.relative_to(root).as_posix() if root else path.name,
            "sha256": sha256_checked(path, root),
            "licence": licence,
        }
        for path in files
    ]


def built(out: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """The counts of a benchmark that this very build (`about`, its manifest's entries) has made; None where none is.

    Raises UserError where `out` is anything else.
    """
    if not (out / "manifest.json").is_file():
        refuse_existing(out)
        return None
    manifest = read_sealed(out / "manifest.json")
    if {name: manifest.get(name) for name in about} != json.loads(json.dumps(about)):
        raise UserError(f"{out} exists already, from other sources or settings; give another --out, or remove it first")
    log(f"{out} is there already, built from these sources with these settings")
    counts: dict[str, Any] = manifest["counts"]
    return counts
