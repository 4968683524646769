"""The rates and epochs of lama-ckl-mini are those that the log of `data/choose_defaults.py` gives as best."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEFAULTS = json.loads((ROOT / "data/benchmarks/lama-ckl-mini/manifest.json").read_text(encoding="utf-8"))["defaults"]
LOG = [json.loads(line) for line in (ROOT / "data/defaults.jsonl").read_text(encoding="utf-8").splitlines()]
POINTS = {(row["stack"], row["rate"], row["batch"]): row for row in reversed(LOG)}  # a point's first line chose
AT_8 = [row for row in LOG if row["batch"] == 8 and row in POINTS.values()]
STACKS = {row["stack"]: [other for other in AT_8 if other["stack"] == row["stack"]] for row in AT_8}

A_FACT = 1 / 29  # of the sum, where so many are to be kept


def best(stack: str) -> dict[str, Any]:
    return max(STACKS[stack], key=lambda row: float(row["best_total"]))


def test_every_line_says_of_itself_what_is_best() -> None:
    assert len(LOG) == len({row["run_id"] for row in LOG}) > 0
    repeated = [row for row in LOG if row not in POINTS.values()]
    assert [(row["stack"], row["rate"], row["batch"]) for row in repeated] == [("taalm+lora", 5e-4, 8)]
    for row in LOG:
        totals = [a + n for a, n in zip(row["to_learn accuracy"], row["not_to_forget accuracy"], strict=True)]
        assert abs(max(totals) - row["best_total"]) < 2e-4, row["run_id"]  # of numbers that were rounded before
        assert abs(totals[row["best_epoch"]] - row["best_total"]) < 2e-4, row["run_id"]


def test_the_manifest_has_the_rate_that_was_best_for_every_stack() -> None:
    rates = DEFAULTS["learning_rates"]
    assert {stack: best(stack)["rate"] for stack in STACKS} == {
        stack: rates.get(stack, DEFAULTS["learning_rate"]) for stack in STACKS
    }
    assert rates.keys() - STACKS.keys() == {"taalm+qlora"}  # which was not run: it takes LoRA's
    assert rates["taalm+qlora"] == rates["taalm+lora"]
    assert DEFAULTS["epochs"] == best("taalm+lora")["best_epoch"]


def test_the_script_says_which_points_are_missing_and_which_best_rates_are_at_an_edge() -> None:
    """Its docstring was written for these lines: whoever adds some, or other rates, says so there."""
    best_of = {stack: sorted(row["rate"] for row in rows).index(best(stack)["rate"]) for stack, rows in STACKS.items()}
    assert {stack: len(rows) for stack, rows in STACKS.items()} == {
        **dict.fromkeys(("taalm+lora", "taalm+kadapter", "taalm+finetune", "lora"), 3),
        **dict.fromkeys(("kadapter", "finetune", "oracle+lora"), 2),
    }
    assert best_of == {
        **dict.fromkeys(("lora", "kadapter", "finetune", "oracle+lora"), 0),
        **{"taalm+lora": 1, "taalm+kadapter": 2, "taalm+finetune": 2},
    }


def test_no_batch_is_ahead_by_a_fact_for_all_stacks_together_and_two_would_gain_by_another() -> None:
    """At the benchmark's epochs; where there are two lines at 8, the last had as many facts to keep as the others."""
    tried = {row["stack"] for row in LOG if row["batch"] != 8}
    assert tried == STACKS.keys()
    last, at_its_best = DEFAULTS["epochs"], {}
    after: dict[int, float] = dict.fromkeys((4, 8, 16), 0.0)
    for stack in tried:
        for batch in after:
            row = next(
                r
                for r in reversed(LOG)
                if (r["stack"], r["batch"]) == (stack, batch) and r["rate"] == best(stack)["rate"]
            )
            after[batch] += row["to_learn accuracy"][last] + row["not_to_forget accuracy"][last]
            at_its_best[stack, batch] = row["best_total"]
    assert DEFAULTS["batch_size"] == 8
    assert max(after.values()) - after[8] < len(tried) * A_FACT  # 8 was in use before
    gains = {key: total - at_its_best[key[0], 8] for key, total in at_its_best.items()}
    assert {key for key, gain in gains.items() if gain >= A_FACT} == {("taalm+finetune", 16), ("oracle+lora", 16)}


def test_the_benchmark_is_rebuilt_with_these() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    rates = {stack: float(rate) for stack, rate in re.findall(r"--lr-of (\S+)=(\S+)", text)}
    command = text[text.index("\nbenchmark:") : text.index("\ntemporal-benchmark:")]
    (plain,) = re.findall(r"--epochs (\d+) --batch-size (\d+) --lr (\S+) \$\(RATES\)", command)
    assert rates == DEFAULTS["learning_rates"]
    assert tuple(map(float, plain)) == tuple(DEFAULTS[name] for name in ("epochs", "batch_size", "learning_rate"))
