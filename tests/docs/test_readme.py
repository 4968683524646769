"""The tables of README and docs are what the committed records give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.records import read_records
from ckl_bench.results.report import page
from ckl_bench.results.report.standings import standings
from ckl_bench.storage.files import leaderboards_dir
from helpers.readme import OF_RECORDS, README, RESULTS, block, printed, results
from helpers.readme import cells as cells_of


def test_the_first_table_is_what_the_command_prints() -> None:
    assert block(README.read_text(encoding="utf-8")) == printed(), "make leaderboard writes it anew"


def committed(kind: str, benchmark: str) -> dict[str, dict[str, str]]:
    """The cells of a committed Markdown table, of a benchmark as it is now: by method, then by heading."""
    now = load_benchmark(benchmark).hash[:8]
    text = (leaderboards_dir() / f"{kind}.md").read_text(encoding="utf-8")
    (found,) = (part for part in text.split("\n## ")[1:] if part.partition("\n")[0].endswith(f"benchmark {now}"))
    head, _, *lines = (cells_of(line) for line in found.splitlines() if line.startswith("|"))
    rows = [dict(zip(head, cells, strict=True)) for cells in lines]
    return {row["method"].partition("@")[0].strip("*\\= "): row for row in rows}


def test_the_readmes_picture_is_that_of_the_first_league(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`report --figures` writes it anew under that name."""

    def named(_: object, target: Path, **more: object) -> list[Path]:
        return [target.with_name(f"{target.name}.png")]

    monkeypatch.setattr(page, "_figures", lambda league: {"trade-off": lambda series: None})
    monkeypatch.setattr(page, "save", named)
    first, *others = (path.name for path in page.write_figures(list(read_records(leaderboards_dir())), tmp_path))
    (shown,) = re.findall(r"^!\[.*\]\((.*-trade-off\.png)\)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == f"leaderboards/figures/{first}"
    with Image.open(README.parent / shown) as picture:  # of the records as they are now
        assert picture.info["Description"] == page.made_of(standings(read_records(leaderboards_dir()))[0])
    assert len({first, *others}) == len(others) + 1


def rows_of(path: Path, header: str) -> Iterator[tuple[str, list[str]]]:
    """(stack, other cells) of the rows of the Markdown table with that header."""
    for line in path.read_text(encoding="utf-8").split(header)[1].splitlines()[2:]:
        if not line.startswith("|"):
            return
        name, *cells = cells_of(line)
        yield name.strip("`"), cells


def worth(row: dict[str, str]) -> str:
    """The gain alone; nothing is gained over itself."""
    gain = row["gain"].partition(" ")[0]
    return gain if float(gain) else "0"


def test_the_results_are_those_of_the_records_and_each_is_put_into_words() -> None:
    have = block(RESULTS.read_text(encoding="utf-8"), OF_RECORDS)
    assert have == results(have), "make leaderboard writes it anew"
    assert [row[0] for row in map(cells_of, have.splitlines()[2:]) if not row[-1]] == []


def test_the_months_are_those_of_the_records() -> None:
    rows = committed("temporalwiki", "temporalwiki-mini")
    shown = dict(rows_of(RESULTS, "| method | gain |"))
    (head,) = (
        cells_of(line) for line in RESULTS.read_text(encoding="utf-8").splitlines() if "| method | gain |" in line
    )
    assert set(shown) == set(rows)
    for name, (gain, *cells) in shown.items():
        row = rows[name]
        assert gain == worth(row), name
        assert [cell or "-" for cell in cells] == [row[heading] for heading in head[2:]], name


def test_forgetting_hardly_follows_the_divergence_as_measures_says() -> None:
    now = load_benchmark("lama-ckl-mini").hash
    table = pd.read_csv(leaderboards_dir() / "lama-ckl.csv")
    rows = table[(table["benchmark_hash"] == now[:16]) & (table["method"] != "none")]
    assert len(rows) > 20
    for name in ("kl_documents", "kl_rehearsal"):
        assert abs(spearmanr(1 - rows["final_not_to_forget"], rows[name]).statistic) < 0.4
    assert "below 0.4" in " ".join((README.parent / "docs" / "measures.md").read_text(encoding="utf-8").split())
