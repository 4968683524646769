"""Checksums that lie beside a file: what its publisher says of its bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from ckl_bench.errors import UserError

_KINDS = {32: "md5", 40: "sha1", 64: "sha256"}  # by hexadecimal digits
_LIST = re.compile(r"(md5|sha1|sha256)sums?", re.IGNORECASE)  # SHA256SUMS, enwiki-20230601-sha1sums.txt, ...
_LINE = re.compile(
    r"(\S+)(?:\s+\*?(.+))?"
)  # as sha256sum writes it: digest, name; of one file the name may be left out
_LARGEST = 16 << 20  # bytes of a list
_BLOCK = 1 << 20


def sha256_checked(path: Path, root: Path | None = None) -> str:
    """Hex SHA-256 of a file whose bytes are as every list of checksums beside it says.

    Such a list is a file in the same folder or in `root`, called like `SHA256SUMS`, `enwiki-20230601-sha1sums.txt` or,
    for one file, `NAME.sha256`, with lines as `sha256sum` writes them (MD5, SHA-1 or SHA-256). A file that none names
    is believed. Raises UserError where the file or a list cannot be read, and where they do not agree.
    """
    try:
        folders = {path.parent: path.name} | ({root: path.relative_to(root).as_posix()} if root else {})
        listed = [entry for folder, name in folders.items() for entry in _listed(folder, name)]
        digests = {kind: hashlib.new(kind, usedforsecurity=False) for kind in ("sha256", *(k for k, _, _ in listed))}
        with open(path, "rb") as stream:
            while block := stream.read(_BLOCK):
                for digest in digests.values():
                    digest.update(block)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    found = {kind: digest.hexdigest() for kind, digest in digests.items()}
    for kind, expected, where in listed:
        if found[kind] != expected:
            raise UserError(
                f"{path} is damaged, or of another version: its {kind} is {found[kind][:12]}..., {where} says "
                f"{expected[:12]}...; fetch it again"
            )
    return found["sha256"]


def _listed(folder: Path, name: str) -> Iterator[tuple[str, str, Path]]:
    """What the lists in a folder say of a file under it: the kind of checksum, the checksum, the list."""
    own = {f"{name}.{kind}" for kind in _KINDS.values()}
    for beside in sorted(folder.iterdir()):
        if beside.name == name or not (beside.name in own or _LIST.search(beside.name)) or not beside.is_file():
            continue
        with open(beside, "rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UserError(f"{beside} has more than {_LARGEST >> 20} MiB, too much for a list of checksums; remove it")
        for line in content.decode(errors="replace").splitlines():
            parts = _LINE.fullmatch(line.strip())
            if parts and (parts[2].removeprefix("./") == name if parts[2] else beside.name in own):
                digest = parts[1].lower()
                if len(digest) not in _KINDS or not re.fullmatch("[0-9a-f]+", digest):
                    raise UserError(f"{beside}: no MD5, SHA-1 or SHA-256 stands before {name}; fetch it again")
                yield _KINDS[len(digest)], digest, beside
