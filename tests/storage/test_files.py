"""Reading JSON as the standard has it, in bounds; writing files and folders whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.errors import UserError
from ckl_bench.storage import files
from ckl_bench.storage.files import read_json, read_jsonl, read_sealed
from ckl_bench.storage.json import sealed
from ckl_bench.storage.writing import new_folder, write_files, write_json


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN is not a number that JSON knows"),
        (b'{"a": -Infinity}', "not a number that JSON knows"),
        (b'{"a": 1e999}', "1e999 is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid UTF-8"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b'{"a": 1', "not valid JSON"),
        (b"", "not valid JSON"),
    ],
)
def test_what_is_no_json_is_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as raised:
        read_json(path)
    assert str(raised.value).startswith(f"{path}: ")
    if content:
        with pytest.raises(UserError, match=words) as raised:
            list(read_jsonl(path))
        assert str(raised.value).startswith(f"{path}:1: ")


def test_a_file_or_line_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_JSON", 1 << 20)
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    path = tmp_path / "a.json"
    path.write_text('"' + "x" * (1 << 20) + '"')
    with pytest.raises(UserError, match="larger than 1 MiB"):
        read_json(path)
    with pytest.raises(UserError, match=r"a.json:1: longer than 1 MiB"):
        list(read_jsonl(path))


def test_every_changed_byte_of_a_sealed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"name": "Zürich", "numbers": [1, 2.5, None, True]}
    write_json(path, sealed(value))
    content = path.read_bytes()
    assert read_sealed(path) == value
    for place in range(len(content)):
        for bit in (0, 5):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(bytes(changed))
            try:
                assert read_sealed(path) == value  # white space of another kind
            except UserError:
                continue


def test_several_files_get_their_names_together_or_not_at_all(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"old {name}")
    (tmp_path / "c").mkdir()  # a file cannot take its place
    (tmp_path / "c" / "full").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_files({tmp_path / name: b"new" for name in ("a", "b", "c")})
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["old a", "old b"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid literal"), new_folder(tmp_path / "made"):
        int("half-way, something fails")
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "made") as folder:
        (folder / "whole").touch()
        assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    with pytest.raises(UserError, match="exists already"), new_folder(tmp_path / "made"):
        pass
