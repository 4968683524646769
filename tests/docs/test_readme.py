"""The tables of README and docs are what the committed records give."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.records import read_records
from ckl_bench.results.report import page
from ckl_bench.storage.files import leaderboards_dir
from helpers.readme import README, block, printed


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
    assert (README.parent / shown).is_file()
    assert len({first, *others}) == len(others) + 1


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows_of(path: Path, header: str) -> Iterator[tuple[str, list[str]]]:
    """(stack, other cells) of the rows of the Markdown table with that header."""
    for line in path.read_text(encoding="utf-8").split(header)[1].splitlines()[2:]:
        if not line.startswith("|"):
            return
        name, *cells = cells_of(line)
        yield name.strip("`"), cells


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"[-+]?\d+(?:\.\d+)?", text)]


def means(row: dict[str, str], *headings: str) -> str:
    """What a row has under some headings, without deviations."""
    return " / ".join(row[heading].partition("±")[0] for heading in headings)


def worth(row: dict[str, str]) -> str:
    """The gain alone; nothing is gained over itself."""
    gain = row["gain"].partition(" ")[0]
    return gain if float(gain) else "0"


def test_the_results_are_those_of_the_records() -> None:
    """To the last digit: a number that was rounded twice may be another one."""
    rows = committed("lama-ckl", "lama-ckl-mini")
    shown = dict(rows_of(README, "| stack | n | gain |"))
    by_name = {
        "restate+lora-null": "lora-null+restate",
        "restate": "lora+restate",
        "taalm+wiseft": "taalm+lora+wiseft",
        "wiseft": "lora+wiseft",
        "taalm+mixreview": "taalm+lora+mixreview",
        "mixreview": "lora+mixreview",
        "recadam(t0=36.0)": "lora+recadam(t0=36.0)",
        "taalm+recadam(t0=36.0)": "taalm+lora+recadam(t0=36.0)",
        "rho1": "rho1+lora",
        "entity-tokens": "entity-tokens+lora",
    }
    assert {by_name.get(name, name) for name in shown} == set(rows)
    wrong = []
    for name, (seeds, gain, accuracies, exact, otherwise, *_) in shown.items():
        row = rows[by_name.get(name, name)]
        cells = {
            "n": (seeds, row["n"]),
            "gain": (gain.partition(" ")[0], worth(row)),
            "accuracies": (accuracies, means(row, "Top Acc", "NF Acc", "Total Knowledge")),
            "whole facts": (exact, means(row, "exact learned", "exact kept")),
            "asked otherwise": (otherwise, row["asked otherwise"]),
        }
        wrong += [f"{name}, {cell}: {a}, of the records {b}" for cell, (a, b) in cells.items() if a != b]
        if "(" in gain:  # two decimals here, three there
            assert gain[-1] == row["gain"][-1], name
            ends = [numbers(text.partition("(")[2]) for text in (gain, row["gain"])]
            assert ends[0] == pytest.approx(ends[1], abs=5e-3 + 1e-9), name
    assert wrong == []


def test_the_months_are_those_of_the_records() -> None:
    rows = committed("temporalwiki", "temporalwiki-mini")
    path = README.parent / "docs" / "results.md"
    shown = dict(rows_of(path, "| method | gain |"))
    (head,) = (cells_of(line) for line in path.read_text(encoding="utf-8").splitlines() if "| method | gain |" in line)
    assert set(shown) == set(rows)
    for name, (gain, *cells) in shown.items():
        row = rows[name]
        assert gain == worth(row), name
        assert [cell or "-" for cell in cells] == [row[heading] for heading in head[2:]], name
