"""How a sweep is shown: a live table in a terminal, a line for every change elsewhere, JSON lines for machines."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ckl_bench.errors import printable
from ckl_bench.progress import duration, log
from ckl_bench.running.sweep import Board, Run
from ckl_bench.storage.json import jsonl

_STYLES = {"running": "cyan", "failed": "bold red", "stopped": "yellow", "waiting": "dim", "done": "green"}  # by rank
_AROUND = 6  # lines of a terminal that are not for runs
_EVERY = 0.5  # seconds between two drawings


class JsonLines(Board):
    """A line of JSON on stdout for every change of a run: what is not known or does not apply is left out."""

    def begin(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self.changed(run)

    def changed(self, run: Run) -> None:
        heard, request = run.heard, run.task.request
        line = {
            "run": run.task.run_id,
            "name": run.task.name,
            "method": request.method,
            "benchmark": request.benchmark,
            "model": request.model,
            "seed": request.seed,
            "state": run.state,
            "stage": heard.stage if heard else None,
            "epoch": heard.epoch if heard else None,
            "epochs": heard.epochs if heard else None,
            "scores": heard.scores if heard else None,
            "seconds_left": None if (left := run.left()) is None else round(left, 1),
            "failures": run.failures or None,
            "losses": run.losses or None,
            "finished_before": run.before or None,
            "error": run.error if run.state in ("failed", "waiting") else None,
        }
        sys.stdout.write(jsonl([{key: value for key, value in line.items() if value not in (None, "", {})}]))
        sys.stdout.flush()


class Lines(Board):
    """A line on stderr when a run begins, ends, or is to be started again."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._again: dict[str, int] = {}

    def begin(self, runs: Sequence[Run]) -> None:
        self._states = {run.task.run_id: run.state for run in runs}
        for run in runs:
            if run.state == "done":
                log(f"done already: {run.task.name}  {_scores(run)}".rstrip())

    def changed(self, run: Run) -> None:
        again = run.failures + run.losses
        if self._states[run.task.run_id] == run.state and self._again.get(run.task.run_id, 0) == again:
            return
        self._states[run.task.run_id], self._again[run.task.run_id] = run.state, again
        ended = sum(state in ("done", "failed") for state in self._states.values())
        if run.state == "waiting":
            log(f"again: {run.task.name}: {run.error}")
        elif run.state == "failed":
            log(f"failed: {run.task.name}: {run.error} ({ended} of {len(self._states)})")
        elif run.state == "done":
            log(f"done: {run.task.name}  {_scores(run)} ({ended} of {len(self._states)})")
        else:
            log(f"{run.state}: {run.task.name}")


class LiveTable(Board):
    """One table on the terminal, of as many runs as there is room for; errors stand under it at the end."""

    def __init__(self, console: Console) -> None:
        self._console, self._runs, self._drawn = console, list[Run](), 0.0
        self._live = Live(console=console, auto_refresh=False, get_renderable=self.table)

    def begin(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)
        self._live.start(refresh=True)

    def look(self) -> None:
        if time.monotonic() - self._drawn > _EVERY:
            self._drawn = time.monotonic()
            self._live.refresh()

    def end(self) -> None:
        self._live.refresh()
        self._live.stop()
        for run in self._runs:
            if run.state == "failed":
                log(f"failed: {run.task.name}: {run.error}")

    def table(self) -> Table:
        """Run, state, epoch, scores and time left; what runs comes before what does not where room is short."""
        table = Table(box=None, pad_edge=False, caption=Text(self._summary(), style="dim"), caption_justify="left")
        table.add_column("run", overflow="ellipsis", no_wrap=True, ratio=1)
        for column in ("state", "epoch", "scores", "left"):
            table.add_column(column, no_wrap=True)
        room = max(self._console.height - _AROUND, 1)
        ranks = list(_STYLES)
        first = sorted(self._runs, key=lambda run: ranks.index(run.state))[:room]
        shown = {run.task.run_id for run in first}
        for run in self._runs:
            if run.task.run_id in shown:
                table.add_row(*(Text(cell, style=_STYLES[run.state]) for cell in _cells(run)))
        return table

    def _summary(self) -> str:
        counts: Counter[str] = Counter(run.state for run in self._runs)
        parts = [f"{counts['done']} of {len(self._runs)} done"]
        return ", ".join(parts + [f"{counts[state]} {state}" for state in _STYLES if state != "done" and counts[state]])


def _cells(run: Run) -> list[str]:
    heard = run.heard
    several = run.failures + run.losses
    state = f"{run.state} again" if several and run.state in ("running", "waiting") else run.state
    epoch = ""
    if heard is not None and run.state != "waiting":
        epoch = f"{heard.stage} {heard.epoch}/{heard.epochs}".strip() if heard.epochs else "starting"
    left = run.left()
    return [printable(run.task.name), state, epoch, _scores(run), "" if left is None else duration(left)]


def _scores(run: Run) -> str:
    return run.heard.measured if run.heard is not None else ""
