"""A run in the terminal: its curves as bars of text, and its token weights in colour."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ckl_bench.errors import printable
from ckl_bench.records import Record, StageScores, TokenWeights

from .tokens import pieces

_BARS = " ▁▂▃▄▅▆▇█"
# From the least weight to the most; black on colours reads on dark and on light terminals.
_SHADES = ("dim", "", "color(16) on color(223)", "color(16) on color(215)", "color(16) on color(208)")


def bars(values: list[float], low: float = 0.0, high: float = 1.0) -> str:
    """Values as a row of bars between `low` and `high`."""
    span = max(high - low, 1e-9)
    return "".join(_BARS[round(max(0.0, min(1.0, (value - low) / span)) * (len(_BARS) - 1))] for value in values)


def show(record: Record) -> RenderableType:
    """What a run measured, stage by stage."""
    spec = record.spec
    title = f"{spec.method} on {spec.benchmark} with {spec.model}, seed {spec.seed} ({record.run_id})"
    head = Text(printable(title), "bold")
    if record.status == "failed":
        return Group(head, Text(printable(f"failed: {record.error}"), "red"))
    parts: list[RenderableType] = [head]
    for stage in record.stages:
        parts += [_curves(stage), *(_weights(shown) for shown in stage.token_weights)]
    return Group(*parts)


def _curves(stage: StageScores) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(printable(f"stage {stage.name}")), title_justify="left")
    for name in ("set", "measure", "epochs 0 to " + str(len(stage.epochs) - 1), "first", "last"):
        table.add_column(name)
    for name in stage.probe_ids:
        for measure in ("accuracy", "nll"):
            values = [getattr(epoch.sets[name], measure) for epoch in stage.epochs]
            scale = (0.0, 1.0) if measure == "accuracy" else (min(values), max(values))
            table.add_row(Text(printable(name)), measure, bars(values, *scale), f"{values[0]:.3f}", f"{values[-1]:.3f}")
    return table


def _weights(shown: TokenWeights) -> Text:
    """A document whose tokens are shaded by their weight, the largest in full; what hardly counts is dim."""
    most = max(shown.weights, default=0.0) or 1.0
    text = Text.assemble((printable(f"{shown.document}\n"), "bold"))
    for token, weight in pieces(shown):
        text.append(printable(token), _SHADES[round(max(weight, 0.0) / most * (len(_SHADES) - 1))])
    return text.append("\n")


def print_run(record: Record) -> None:
    """Print a run to stdout."""
    Console(highlight=False).print(show(record))
