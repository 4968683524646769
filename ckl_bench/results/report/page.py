"""One self-contained page: figures, table, fact explorer, token weights; works from a file, without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.records import Record
from ckl_bench.results.rows import Row
from ckl_bench.results.tables import BOARDS, groups, rows
from ckl_bench.results.terminal import LAMA_CKL, Column, month_columns
from ckl_bench.storage.writing import write_text

from . import figures
from .facts import STATES, facts, probes_of
from .figures import Series
from .tokens import pieces

ALWAYS = ("taalm+lora", "lora", "oracle+lora", "finetune", "kadapter", "rho1+lora")


def write_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """The same figures as PNG and SVG files, of the stacks that the page shows first; returns their paths."""
    written: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    for kind, group in _leagues(records):
        drawn = [one for one in figures.series(group, ALWAYS) if one.shown]
        spec = group[0][0].spec
        name = f"{spec.benchmark}-{spec.model}"
        made = {"curves": figures.curves, "trade-off": figures.trade_off}
        if kind == "temporalwiki":
            made = {"months": figures.months}
        for title, draw in made.items():
            written += figures.save(draw(drawn), folder / f"{name}-{title}")
    return written


def write_report(records: Sequence[Record], target: Path) -> Path:
    """Write the page of these records; UserError where there is no finished run."""
    leagues = list(_leagues(records))
    if not leagues:
        raise UserError("there is no finished run to report on; run a method first")
    body = "".join(_league(number, kind, group) for number, (kind, group) in enumerate(leagues))
    explorer = [_run_facts(runs) for _, group in leagues for runs in group]
    here = files("ckl_bench.results.report")
    page = here.joinpath("page.html").read_text(encoding="utf-8")
    for mark, text in (
        ("STYLE", here.joinpath("page.css").read_text(encoding="utf-8")),
        ("BODY", body),
        ("DATA", json.dumps(explorer, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        ("SCRIPT", here.joinpath("page.js").read_text(encoding="utf-8")),
    ):
        page = page.replace(f"<!--{mark}-->", text)
    write_text(target, page)
    return target


def _leagues(records: Sequence[Record]) -> Any:
    """(kind, groups of runs in the order of the table), a benchmark and model each."""
    by_id = {group[0].run_id: group for group in groups(records)}
    for kind in BOARDS:
        made = rows(records, kind)
        for _, league in groupby(made, key=lambda r: (r["benchmark_hash"], r["model_revision"], r["limit"])):
            yield kind, [by_id[row["run_ids"].split(" ")[0]] for row in league]


def _league(number: int, kind: str, group: Sequence[Sequence[Record]]) -> str:
    drawn = figures.series(group, ALWAYS)
    spec = group[0][0].spec
    parts = [f'<section id="league-{number}"><h2>{escape(spec.benchmark)} · {escape(spec.model)}</h2>', _legend(drawn)]
    if kind == "lama-ckl":
        parts += [
            _figure(
                [figures.curves(drawn, [name]) for name in figures.ACCURACIES],
                "Learning and retention",
                "Accuracy on both probe sets after every epoch.",
            ),
            _figure(
                [figures.trade_off(drawn)],
                "The trade-off",
                "Every dot is an epoch, the large one the last; up and to the right is better.",
            ),
        ]
    else:
        panels = [figures.months(drawn, [part]) for part in figures.PARTS]
        parts.append(_figure(panels, "Month after month", "Lower is better; dotted: before training."))
    parts += [_table(kind, rows([run for runs in group for run in runs], kind)), _weights(group), "</section>"]
    return "".join(parts)


def _legend(drawn: Sequence[Series]) -> str:
    """A button a stack, which shows and hides it in every figure of the section."""
    buttons = [
        f'<button type="button" class="key" data-m="{one.index}" aria-pressed="{str(one.shown).lower()}" '
        f'style="--c:{one.colour}"><i></i>{escape(one.label)}</button>'
        for one in sorted(drawn, key=lambda s: s.index)
    ]
    return f'<div class="legend" role="group" aria-label="Stacks shown in the figures">{"".join(buttons)}</div>'


def _figure(panels: Sequence[Any], title: str, caption: str) -> str:
    """Panels beside each other, or below where a window is narrow."""
    drawn = ""
    for panel in panels:
        label = escape(": ".join(filter(None, (title, panel.axes[0].get_title()))))
        drawn += figures.svg(panel).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return f"<figure><h3>{title}</h3><div class='panels'>{drawn}</div><figcaption>{caption}</figcaption></figure>"


def _table(kind: str, made: Sequence[Row]) -> str:
    """The leaderboard; every heading is a button that sorts by it."""
    columns: list[Column] = [("rank", lambda row: str(row["rank"])), ("method", lambda row: row["method"])]
    columns += LAMA_CKL if kind == "lama-ckl" else month_columns(made)
    columns += [
        ("n", lambda row: str(row["seeds"])),
        ("trained", lambda row: f"{row['trainable_parameters']:,}"),
        ("tokens", lambda row: f"{row['train_tokens']:,}"),
        ("tok/s", lambda row: f"{row['train_tokens_per_second']:,}"),
        ("MB", lambda row: f"{row['peak_memory_mb']:,}"),
        ("seconds", lambda row: f"{row['seconds']:,}"),
    ]
    if any("prepare_seconds" in row for row in made):  # what was made before the run, such as φ
        columns += [
            ("with φ", lambda row: f"{row.get('seconds_and_prepare', row['seconds']):,}"),
            ("with a\nshare of φ", lambda row: f"{row.get('seconds_amortised', row['seconds']):,}"),
        ]
    names = [escape(name).replace("\n", " <br>") for name, _ in columns]
    head = "".join(f'<th aria-sort="none"><button type="button">{name}</button></th>' for name in names)
    # A stack's name may break behind each of its parts, so that a phone shows scores beside it.
    lines = ["".join(f"<td>{escape(cell(row)).replace('+', '+<wbr>')}</td>" for _, cell in columns) for row in made]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        "<h3>Leaderboard</h3><div class='scroll' tabindex='0'><table class='board'>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _weights(group: Sequence[Sequence[Record]]) -> str:
    """The same documents side by side, shaded by each method's token weights; stacks that share them share a line."""
    shown: dict[str, dict[str, list[str]]] = {}
    for runs in group:
        for item in runs[0].stages[0].token_weights:
            most = max(item.weights, default=0) or 1
            words = "".join(
                f'<span style="--w:{weight / most:.2f}">{escape(token)}</span>' for token, weight in pieces(item)
            )
            shown.setdefault(item.document, {}).setdefault(words, []).append(escape(runs[0].spec.method))
    if not shown:
        return ""
    parts = []
    for number, lines in enumerate(shown.values(), 1):
        drawn = (f"<div class='doc'><b>{', '.join(names)}</b><p>{words}</p></div>" for words, names in lines.items())
        opened = " open" if number == 1 else ""
        parts.append(f"<details{opened}><summary>Document {number}</summary>{''.join(drawn)}</details>")
    note = "<p class='note'>The darker, the more a token's loss counts; each document's largest weight is full.</p>"
    return f"<h3>Token weights</h3>{note}{''.join(parts)}"


def _run_facts(runs: Sequence[Record]) -> dict[str, Any]:
    record = runs[0]
    table = sorted(facts(record, probes_of(record)), key=lambda fact: STATES.index(fact["fate"]))
    keys = ("set", "relation", "prompt", "answer", "before", "after", "fate")
    name = f"{record.spec.method} · {record.spec.benchmark} · {record.spec.model} · seed {record.spec.seed}"
    return {"name": name, "states": STATES, "facts": [[fact[key] for key in keys] for fact in table]}
