"""General English, written for this project: no benchmark asks about it, and a good model predicts it."""

from __future__ import annotations

from ckl_bench.benchmarks.format import Document
from ckl_bench.storage.files import data_dir, read_jsonl


def general_text() -> list[Document]:
    """The documents of `data/general.jsonl`, on which a run's perplexity before and after is measured."""
    return [Document(id=row["id"], text=row["text"]) for _, row in read_jsonl(data_dir() / "general.jsonl")]
