"""One self-contained page: claim, figures, table, facts, token weights; works from a file, without a network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError
from ckl_bench.records import Record
from ckl_bench.results.reproduced import read_marks
from ckl_bench.results.rows import in_months
from ckl_bench.storage.json import sha256_json
from ckl_bench.storage.writing import write_text

from . import figures
from .claim import claim
from .drawing import DASHES, Drawing, save, svg
from .facts import STATES, facts, probes_of
from .retained import retained
from .standings import BRIGHT, COLOURS, League, Series, standings
from .table import table
from .trade_off import trade_off
from .weights import documents, opening


def write_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """The same figures as PNG and SVG files; returns their paths. What has too few points for one is left out."""
    written: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    for league in standings(records):
        row = league.rows[0]
        name = f"{row['benchmark']}-{row['model']}"
        if name in names:  # the first of these leagues has the plain name
            name += f"-{row['epochs']}-epochs" + (f"-first-{row['limit']}" if row["limit"] else "")
        if name in names:
            name += f"-{row['benchmark_hash'][:8]}-{row['model_revision'][:8]}"
        names.add(name)
        for title, draw in _figures(league).items():
            target = folder / re.sub(r"[^\w.+@-]+", "-", f"{name}-{title}")
            written += save(draw(league.series), target, legend=title != "trade-off", made_of=made_of(league))
    return written


def made_of(league: League) -> str:
    """The runs of a league, in short: so that a figure of other runs can be told from one of these."""
    return f"runs {sha256_json(sorted(run.run_id for runs in league.runs for run in runs))[:16]}"


def _figures(league: League) -> dict[str, Callable[[Sequence[Series]], Drawing]]:
    """The figures that a league has points for, by name."""
    if not league.series:
        return {}
    stages = league.series[0].runs[0].stages
    if in_months(league.rows[0]):
        return {"months": figures.months} if len(stages) > 1 else {}
    epochs = len(stages[0].epochs) - 1
    return ({"curves": figures.curves} if epochs > 1 else {}) | ({"trade-off": trade_off} if epochs else {})


def write_report(records: Sequence[Record], target: Path) -> Path:
    """Write the page of these records; UserError where there is no finished run."""
    leagues = standings(records)
    if not leagues:
        raise UserError("there is no finished run to report on; run a method first")
    marks = read_marks(target.parent)
    for row in (row for league in leagues for row in league.rows):
        row["reproduced"] = sum(run_id in marks for run_id in row["run_ids"].split())
    explorer = [found for league in leagues for found in _explored(league)]
    here = files("ckl_bench.results.report")
    page = here.joinpath("page.html").read_text(encoding="utf-8")
    for mark, text in (
        ("STYLE", here.joinpath("page.css").read_text(encoding="utf-8") + _colours(leagues)),
        ("BODY", "".join(_league(number, league) for number, league in enumerate(leagues))),
        ("DATA", json.dumps(explorer, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        ("SCRIPT", here.joinpath("page.js").read_text(encoding="utf-8")),
    ):
        page = page.replace(f"<!--{mark}-->", text)
    write_text(target, page)
    return target


def _colours(leagues: Sequence[League]) -> str:
    """A colour a stack, in the light and in the dark, for all that is marked with its number."""
    indices = sorted({one.index for league in leagues for one in league.series})
    light, dark = ("".join(f"--m{i}:{own[i % len(own)]};" for i in indices) for own in (COLOURS, BRIGHT))
    marks = "".join(f'svg [id$="-m{i}"]{{color:var(--m{i})}}' for i in indices)
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}{marks}"


def _league(number: int, league: League) -> str:
    """Claim, first figure and one passage; then the other figures, the table, every passage."""
    head = f"<h2>{escape(league.title)}</h2><p class='claim'>{escape(claim(league))}</p>"
    drawn = league.series
    have = _figures(league)
    first, then = "", ""
    if "trade-off" in have:
        first = _figure(
            [trade_off(drawn, page=True)],
            drawn,
            "What was learned against what was kept",
            "Up and to the right is better. A line is a stack, a dot an epoch, the large dot the last, a cross the "
            "range of its seeds; dashed: frontier of the stacks in colour. The star is the untrained model; a stack "
            "in the shaded half is worth less than doing nothing. The table is of the epoch at which most was learned.",
        )
    if "curves" in have:
        panels = [figures.curves(drawn, [name], page=True) for name in figures.ACCURACIES]
        then = _figure(
            panels, drawn, "Learning and keeping, epoch by epoch", "Accuracy on both probe sets; bands span the seeds."
        )
    elif drawn and not in_months(league.rows[0]):
        then = "<p class='note'>No curves: with fewer than two epochs there is nothing to draw between.</p>"
    if "months" in have:
        panels = [figures.months(drawn, [part], page=True) for part in figures.PARTS]
        first = _figure(panels, drawn, "Month after month", "Lower is better; dotted: before training.")
    elif drawn and in_months(league.rows[0]):
        then = "<p class='note'>No curves: a sequence of one month has none; its scores are in the table.</p>"
    passage = opening(league)
    wide = "" if passage and "trade-off" in have else " wide"
    top = f"<div class='top{wide}'><div>{first}{_legend(drawn) if have else ''}</div>{passage}</div>"
    body = [head, top, then, table(league, number), retained(league), documents(league)]
    return f'<section id="league-{number}">{"".join(body)}</section>'


def _legend(drawn: Sequence[Series]) -> str:
    """A button a stack, which puts it in colour in every figure of the section."""
    buttons = [
        f'<button type="button" class="key" data-m="{one.index}" aria-pressed="{str(one.shown).lower()}" '
        f'style="--c:var(--m{one.index})"><i class="dash-{one.index // len(COLOURS) % len(DASHES)}"></i>'
        f"{escape(one.label)}</button>"
        for one in sorted(drawn, key=lambda s: not s.shown)
    ]
    return f'<div class="legend" role="group" aria-label="Stacks in colour in the figures">{"".join(buttons)}</div>'


def _figure(panels: Sequence[Drawing], series: Sequence[Series], title: str, caption: str) -> str:
    """Panels beside each other, or below where a window is narrow, over a line that says what is pointed at."""
    drawn = "".join(svg(panel, series) for panel in panels)
    return (
        f"<figure><h3>{title}</h3><div class='panels'>{drawn}</div>"
        "<p class='said' aria-live='polite'>Point at a dot, or step on with the tab key, to read values.</p>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _explored(league: League) -> Iterator[dict[str, Any]]:
    """The facts of every row's first run, by what became of them."""
    labels = {id(one.row): one.label for one in league.series}
    keys = ("set", "relation", "prompt", "answer", "before", "after", "fate")
    for row, runs in zip(league.rows, league.runs, strict=True):
        spec = runs[0].spec
        found = sorted(facts(runs[0], probes_of(runs[0])), key=lambda fact: STATES.index(fact["fate"]))
        name = f"{labels.get(id(row), spec.method)} · {spec.benchmark} · {spec.model} · seed {spec.seed}"
        yield {"name": name, "states": STATES, "facts": [[fact[key] for key in keys] for fact in found]}
