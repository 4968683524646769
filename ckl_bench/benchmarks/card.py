"""The dataset card: README.md of a benchmark directory, by which `datasets.load_dataset(DIR)` finds its tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ckl_bench.benchmarks.parts import CONFIGS, FACT, NESTED, Part
from ckl_bench.storage.json import json_text, sha256_json

MARK = "<!-- Made by ckl-bench from manifest.json; `ckl-bench card` writes it anew. -->"
# The hub's own names of licences; any other text is `other` there, with its name.
_LICENCES = re.compile(
    r"apache-2\.0|mit|bsd(-[23]-clause)?|cc|cc0-1\.0|cc-by-(2\.0|2\.5|3\.0|4\.0)|cc-by-(sa|nc|nc-sa|nc-nd)-(2\.0|3\.0|4\.0)|"
    r"cc-by-nd-4\.0|cdla-sharing-1\.0|cdla-permissive-[12]\.0|odc-by|odbl|pddl|gfdl|gpl(-[23]\.0)?|agpl-3\.0|unknown"
)
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_WHAT = {
    "documents": "texts to learn",
    "probes": "prompts that contain the answer (`object`): a model is scored on the answer's tokens",
    "attention": "documents with a task, to train the weighing of tokens on",
    "rehearsal": "documents that a method may replay",
}
_COLUMNS = {
    "id": "stable id",
    "text": "the document",
    "fact": "what the document is evidence of, where that is known: subject, relation (a Wikidata code), object, and "
    "`surface`, what the text calls the object where that is another form",
    "more_facts": "further facts of the same text",
    "prompt": "the question with its answer in it",
    "object": "the answer, as it stands in the prompt",
    "subject": "what is asked about",
    "relation": "what is asked of it",
    "was": "the answer that this one replaced, where a fact was updated",
}


def licences(manifest: Mapping[str, Any]) -> list[str]:
    """The licences of a manifest's sources, each once, in their order; `unknown` where it names none."""
    named = [part for source in manifest.get("sources", ()) for part in source.get("licence", "").split(", ")]
    return list(dict.fromkeys(filter(None, (re.sub(r"\s*\(.*\)$", "", name).strip() for name in named)))) or ["unknown"]


def dataset_card(manifest: Mapping[str, Any], parts: Sequence[Part], kinds: Mapping[str, type]) -> str:
    """README.md in Markdown, with what the hub and `datasets` read of it in front, in YAML."""
    import yaml

    front = yaml.safe_dump(_front(manifest, parts, kinds), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n{_body(manifest, parts)}"


def _front(manifest: Mapping[str, Any], parts: Sequence[Part], kinds: Mapping[str, type]) -> dict[str, Any]:
    there = [config for config in CONFIGS if any(part.config == config for part in parts)]
    total = sum(part.rows for part in parts)
    return {
        "pretty_name": manifest["name"],
        **_licence(licences(manifest)),
        "task_categories": ["text-generation", "question-answering"],
        "tags": ["ckl-bench", "continual-learning", "knowledge", str(manifest["kind"])],
        "size_categories": [next((name for most, name in _SIZES if total < most), "n>10M")],
        "configs": [
            {
                "config_name": config,
                **({"default": True} if config == there[0] else {}),
                "features": _features(kinds[config]),
                "data_files": [{"split": p.split, "path": _as_pattern(p.file)} for p in parts if p.config == config],
            }
            for config in there
        ],
    }


def _licence(names: Sequence[str]) -> dict[str, Any]:
    known = [name.lower() for name in names if _LICENCES.fullmatch(name.lower())]
    if len(known) == len(names):
        return {"license": known[0] if len(known) == 1 else known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.-]+", "-", "-and-".join(names).lower()).strip("-")}


def _features(kind: type) -> list[dict[str, Any]]:
    """The columns of a kind of row, as a card declares them: all text but for facts."""
    return [{"name": field.name, **_feature(field.name)} for field in fields(kind)]


def _feature(column: str) -> dict[str, Any]:
    if column not in NESTED:
        return {"dtype": "string"}
    fact = [{"name": name, "dtype": "string"} for name in FACT]  # made anew: a list that is shared becomes an anchor
    return {"list" if NESTED[column] else "struct": fact}


def _as_pattern(path: str) -> str:
    """A path that stands for itself where a pattern is expected."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def _body(manifest: Mapping[str, Any], parts: Sequence[Part]) -> str:
    tables = "\n".join(f"| {p.config} | {p.split} | {p.rows:,} | `{p.file}` |" for p in parts)
    seen = {name for part in parts for name in part.columns}
    columns = "\n".join(f"| {name} | {text} |" for name, text in _COLUMNS.items() if name in seen)
    what = "\n".join(f"- `{config}`: {_WHAT[config]}" for config in dict.fromkeys(p.config for p in parts))
    said = manifest.get("builder", {})  # of one's own script perhaps only a name
    builder = said if isinstance(said, Mapping) else {}
    tested = ", ".join(model.get("name", "") for model in manifest.get("pretest_models", ()))
    made = f"By `ckl-bench {builder['command']}`" if "command" in builder else f"By {said or 'ckl-bench'}"
    return f"""{MARK}

# {manifest["name"]}

A benchmark of continual knowledge learning, of kind `{manifest["kind"]}`: a language model learns the documents, stage
by stage, and is asked the probes before and after; it should learn what is new and forget nothing that it knew.

{what}

```python
from datasets import load_dataset

documents = load_dataset("path/of/this/folder", "{parts[0].config if parts else "documents"}")
```

`ckl-bench run --benchmark path/of/this/folder --method lora` runs a method on it.

| config | split | rows | file |
|---|---|--:|---|
{tables}

| column | what it is |
|---|---|
{columns}

## How it was made

{made}{f"; pre-tested on {tested}" if tested else ""}. Its hash, by which records of runs name it:
`{sha256_json(manifest)}`. `manifest.json` has the hash of every file and source.

```json
{json_text(builder.get("arguments", {})).strip()}
```

## Licence

{_sources(manifest)}
"""


def _sources(manifest: Mapping[str, Any]) -> str:
    """How many sources there are of each licence, and the first of them."""
    by: dict[str, list[str]] = {}
    for source in manifest.get("sources", ()):
        by.setdefault(source.get("licence", "unknown"), []).append(source.get("file", ""))
    if not by:
        return "The manifest names no source."
    return "\n".join(
        f"- {licence}: `{names[0]}`" + (f" and {len(names) - 1} more" if names[1:] else "")
        for licence, names in by.items()
    )
