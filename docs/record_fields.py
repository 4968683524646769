"""The site's page of the record's fields, made of its schema whenever the site is built (a hook of mkdocs)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ckl_bench import records
from ckl_bench.spec import Spec

HEAD = """# The record's fields

A run is one JSON file, `runs/records/RUN_ID.json`: tables, comparisons and pages are made of it alone. This page is
made of its schema. Beside these fields a file has a `checksum` of its content.
"""
MODELS: tuple[type[BaseModel], ...] = (
    records.Record,
    Spec,
    records.Environment,
    records.Cost,
    records.Preparation,
    records.StageScores,
    records.EpochScores,
    records.SetScores,
    records.Perplexity,
    records.TokenWeights,
    records.Retained,
)


def page() -> str:
    """The page as it must stand in docs/."""
    parts = [HEAD]
    for model in MODELS:
        parts.append(f"## {model.__name__}\n\n{(model.__doc__ or '').strip()}\n")
        lines = ["| field | type | what it is |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            kind = str(field.annotation).replace("typing.", "").replace("ckl_bench.records.", "")
            kind = kind.removeprefix("<class '").removesuffix("'>").removeprefix("ckl_bench.spec.").replace("|", "or")
            text = " ".join((field.description or "").replace("|", "\\|").split())
            lines.append(f"| `{name}` | {kind} | {text} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def on_files(files: Any, config: Any) -> Any:
    """The page joins those of docs/."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "record.md", content=page()))
    return files
