"""The files of a build: which of them are a snapshot, and when they are hashed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckl_bench.benchmarks.temporalwiki.sources import Sources, hashed
from ckl_bench.errors import UserError


def test_files_of_a_date_or_a_folder_are_parts_of_a_snapshot(tmp_path: Path) -> None:
    def made(*names: str) -> list[Path]:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        return [tmp_path / name for name in names]

    parts = [f"w-20240101-{n}.xml-p{n}p{n}.bz2" for n in (1, 2)] + [f"w-20240201-{n}.xml-p{n}p{n}.bz2" for n in (1, 2)]
    made("old/a2.json", "old/a10.json", "old/README", "new/a1.json")
    sources = Sources(wikipedia=made(*parts), wikidata=[tmp_path / "old", tmp_path / "new"])
    first, second = sources.snapshots()
    assert [[p.name for p in s.wikipedia] for s in (first, second)] == [parts[:2], parts[2:]]
    assert [[p.name for p in s.wikidata] for s in (first, second)] == [["a2.json", "a10.json"], ["a1.json"]]
    assert (first.date, second.date) == ((2024, 1, 1), (2024, 2, 1))
    assert sources.names() == ["0101-0201"]
    undated = made("one.xml", "two.xml")
    assert Sources(wikipedia=undated, wikidata=undated).names() == ["1-2"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no dump"):
        Sources(wikipedia=[tmp_path / "empty"], wikidata=[]).snapshots()


def test_a_source_is_hashed_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckl_bench.benchmarks import building
    from ckl_bench.benchmarks.temporalwiki import sources

    seen = []

    def described(files: list[Path], licence: str) -> Any:
        seen.extend(files)
        return building.described(files, licence)

    monkeypatch.setattr(sources, "described", described)
    path, known = tmp_path / "a.xml", tmp_path / "work" / "hashes.json"
    path.write_text("one")
    first = hashed([path], "L", known)
    assert hashed([path], "L", known) == first
    assert seen == [path]
    path.write_text("another")
    assert hashed([path], "L", known) != first
    known.write_text("{")
    assert hashed([path], "L", known) == hashed([path], "L", known)
    assert len(seen) == 3
