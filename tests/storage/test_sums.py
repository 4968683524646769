"""Checksums that a publisher has put beside a file hold it, whatever reads it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckl_bench.errors import UserError
from ckl_bench.storage.files import data_dir
from ckl_bench.storage.sums import sha256_checked
from conftest import Command, write_lama
from harness.fuzz_sources import make_gguf


def lists(folder: Path, kind: str, name: str) -> None:
    """What the tools of every Linux write of all files below a folder."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    done = subprocess.run([f"{kind}sum", *files], cwd=folder, capture_output=True, text=True, check=True)
    (folder / name).write_text(done.stdout)


def lama(folder: Path) -> tuple[list[object], Path]:
    write_lama(folder)
    lists(folder, "sha256", "SHA256SUMS")  # names TREx/P36.jsonl from above
    return ["build", "lama-ckl", "--lama", folder, "--pretest-model", "tiny"], folder / "TREx" / "P36.jsonl"


def dumps(folder: Path) -> tuple[list[object], Path]:
    folder.mkdir()
    names: Any = [sorted(data_dir().glob(f"snapshots/{names}")) for names in ("wiki-*.xml.bz2", "wikidata-*.json.gz")]
    copied = [[shutil.copy(path, folder) for path in paths] for paths in names]
    lists(folder, "sha1", "enwiki-20230601-sha1sums.txt")  # as Wikimedia calls it
    return ["build", "temporalwiki", "--wikipedia", *copied[0], "--wikidata", *copied[1]], Path(copied[1][1])


def gguf(folder: Path) -> tuple[list[object], Path]:
    folder.mkdir()
    make_gguf(folder)
    lists(folder, "md5", "model.gguf.md5")
    return ["run", "--method", "lora", "--model", folder / "model.gguf"], folder / "model.gguf"


@pytest.mark.parametrize("source", [lama, dumps, gguf])
def test_a_changed_byte_of_a_listed_source_is_refused(
    source: Callable[[Path], tuple[list[object], Path]], command: Command, tmp_path: Path
) -> None:
    arguments, path = source(tmp_path / "source")
    content = bytearray(path.read_bytes())
    place = content.rindex(b"0")  # in a plain text one that could as well be another
    content[place] ^= 1
    path.write_bytes(bytes(content))
    result = command(*arguments, *(["--out", "built"] if arguments[0] == "build" else []))
    (line,) = (line for line in result.err.splitlines() if line.startswith("error: "))
    assert result.code == 2
    assert f"{path} is damaged, or of another version" in line
    assert not list(tmp_path.rglob("manifest.json"))
    assert not list(tmp_path.rglob("records"))


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_each_kind_of_list_is_understood(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "dump.xml"
    path.write_bytes(b"x" * 3_000_000)
    right, sha256 = hashlib.new(kind, path.read_bytes()).hexdigest(), hashlib.sha256(path.read_bytes()).hexdigest()
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    for name, line in (
        (f"dump.xml.{kind}", "{}"),
        (f"dump.xml.{kind}", "{}  dump.xml"),
        (f"{kind.upper()}SUMS", "{} *dump.xml\r"),
        (f"wiki-20230601-{kind}sums.txt", "{}  ./dump.xml"),
        (f"{kind}sum.txt", "# a remark\n" + "0" * len(right) + "  other.xml\n{}  dump.xml"),
    ):
        for digest in (right, right.upper()):
            (tmp_path / name).write_text(line.format(digest) + "\n")
            assert sha256_checked(path) == sha256
        for digest in (wrong, right[:-1], "z" + right[1:]):
            (tmp_path / name).write_text(line.format(digest) + "\n")
            with pytest.raises(UserError, match="fetch it again"):
                sha256_checked(path)
        (tmp_path / name).write_text(f"{wrong}  other.xml\n")  # says nothing of this file
        assert sha256_checked(path) == sha256
        (tmp_path / name).unlink()


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=50), st.data())
def test_no_change_of_a_listed_file_is_believed(content: bytes, data: st.DataObject) -> None:
    other = data.draw(st.binary(max_size=50).filter(lambda other: other != content))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a b.json")
        path.write_bytes(content)
        lists(path.parent, "sha1", "sha1sums.txt")
        assert sha256_checked(path) == hashlib.sha256(content).hexdigest()
        path.write_bytes(other)
        with pytest.raises(UserError, match="is damaged"):
            sha256_checked(path)
