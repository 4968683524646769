"""The first table of the README, as `ckl-bench run --method taalm` prints it, and that of `docs/results.md`.

`python -m helpers.readme` writes both anew. What the second one says of a stack beside its numbers stays as it is.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from rich.console import Console

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.records import read_records, write_record
from ckl_bench.results.output import table_beside_committed
from ckl_bench.storage.files import leaderboards_dir

README = Path(__file__).resolve().parents[2] / "README.md"
RESULTS = README.parent / "docs" / "results.md"
BEGIN, END = "<!-- table: {} -->\n\n", "\n<!-- end of table -->"
FIRST, OF_RECORDS = "ckl-bench run --method taalm", "lama-ckl-mini"
TAKEN = (
    "method",
    "n",
    "gain",
    "Top Acc",
    "NF Acc",
    "Total Knowledge",
    "exact learned",
    "exact kept",
    "asked otherwise",
)
OURS = ("published, Llama2-7B", "in a sentence")


def printed(method: str = "taalm+lora", benchmark: str = "lama-ckl-mini") -> str:
    """The table of 80 columns that a first run of a method ends in, its own row beside the committed ones."""
    now = load_benchmark(benchmark).hash
    runs = [r for r in read_records(leaderboards_dir()) if (r.spec.benchmark_hash, r.spec.method) == (now, method)]
    first = min(runs, key=lambda run: run.spec.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder), first)
        console = Console(file=io.StringIO(), width=80, record=True)
        console.print(table_beside_committed(Path(folder), first))
    return "".join(f"    {line}".rstrip() + "\n" for line in console.export_text().splitlines())


def cells(line: str) -> list[str]:
    """A row of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def leading(kind: str = "lama-ckl") -> list[dict[str, str]]:
    """The rows of the first league of a committed table, cells by the names of their columns."""
    league = (leaderboards_dir() / f"{kind}.md").read_text(encoding="utf-8").split("\n## ")[1]
    header, _, *rows = (cells(line) for line in league.splitlines() if line.startswith("|"))
    return [dict(zip(header, row, strict=True)) for row in rows]


def results(have: str) -> str:
    """The first league with what `have`, the table as it was, says of each stack; nothing of one that is new in it."""
    said = {row[0]: row[-len(OURS) :] for row in map(cells, have.splitlines()[2:])}
    lines = [[*TAKEN, *OURS], ["---", *["--:"] * (len(TAKEN) - 1), *["---"] * len(OURS)]]
    for row in leading():
        name = row["method"].partition("@")[0].strip("*\\= ")
        lines.append([f"`{name}`", *(row[column] for column in TAKEN[1:]), *said.get(f"`{name}`", ["", ""])])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def block(text: str, name: str = FIRST) -> str:
    """What stands in a page for the table of that name."""
    return text.split(BEGIN.format(name))[1].split(END)[0]


def written(page: Path, name: str, table: str) -> None:
    """Put the table into the page."""
    have = page.read_text(encoding="utf-8")
    begin = BEGIN.format(name)
    page.write_text(have.replace(begin + block(have, name), begin + table), encoding="utf-8")


if __name__ == "__main__":
    written(README, FIRST, printed())
    written(RESULTS, OF_RECORDS, results(block(RESULTS.read_text(encoding="utf-8"), OF_RECORDS)))
