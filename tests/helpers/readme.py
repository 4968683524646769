"""The README's first table, as `ckl-bench run --method taalm` prints it from the committed records.

`python -m helpers.readme` writes it anew.
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
BEGIN, END = "<!-- table: ckl-bench run --method taalm -->\n\n", "\n<!-- end of table -->"


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


def block(text: str) -> str:
    """What stands in the README for the table."""
    return text.split(BEGIN)[1].split(END)[0]


if __name__ == "__main__":
    have = README.read_text(encoding="utf-8")
    README.write_text(have.replace(BEGIN + block(have), BEGIN + printed()), encoding="utf-8")
