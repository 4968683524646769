"""Colours of the page: one a stack in all leagues, and none twice among those that stand beside each other."""

from __future__ import annotations

import re

from ckl_bench.records import Record, TokenWeights, read_records
from ckl_bench.results.report.standings import COLOURS, League, standings
from ckl_bench.results.report.weights import opening
from ckl_bench.storage.files import leaderboards_dir
from helpers.runs import record

MANY = 40  # probes
KEPT = [[1.0] * MANY] * 2


def run(name: str, share: float, benchmark: str) -> Record:
    """A run of a stack that learns so much, with weights for one document."""
    learned = [[0.0] * MANY, [share] * MANY]
    made = record(learned, KEPT, method=name, hyperparameters={p: {} for p in name.split("+")}, benchmark=benchmark)
    weighed = TokenWeights(document="d", tokens=["one", " two"], weights=[share])  # of all tokens but the first
    stage = made.stages[0].model_copy(update={"token_weights": [weighed] if "+" in name else []})
    return made.model_copy(update={"stages": [stage]})


def seen_at_first(league: League) -> list[int]:
    """Numbers of the stacks that are in colour in a league's opening panel: in its figure and in its passage."""
    passage = {int(number) for number in re.findall(r"--m(\d+)", opening(league))}
    return sorted({one.index for one in league.series if one.shown} | passage)


def test_figure_and_passage_of_the_first_league_share_no_colour() -> None:
    known = {"taalm+lora": 0.5, "lora": 0.2, "finetune": 0.3, "oracle+lora": 0.7, "rho1+lora": 0.1}
    runs = [run(name, share, "first") for name, share in known.items()]
    runs += [run(f"more{i}", 0.05 + i / 100, "first") for i in range(6)]
    for i in range(12):  # later leagues, each with a best stack of its own
        runs += [run(f"best{i}", 0.9, f"later{i}"), run("lora", 0.2, f"later{i}")]
    made = standings(runs)
    numbers = seen_at_first(made[0])
    assert made[0].title.startswith("first")
    assert len(numbers) == 6  # four in colour, two of them no more than in the passage
    assert len({number % len(COLOURS) for number in numbers}) == len(numbers)
    every = {one.row["method"]: one.index for league in made for one in league.series}
    assert all(every[one.row["method"]] == one.index for league in made for one in league.series)
    assert len(set(every.values())) == len(every)


def test_no_opening_panel_of_the_committed_page_has_a_colour_twice() -> None:
    for league in standings(read_records(leaderboards_dir())):
        numbers = seen_at_first(league)
        assert len({number % len(COLOURS) for number in numbers}) == len(numbers) >= 6, league.title
