"""What a league of a leaderboard comes to, in a sentence or two with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from ckl_bench.results.differences import UNTRAINED
from ckl_bench.results.rows import Row, in_months
from ckl_bench.results.terminal import BETTER, WORSE, verdict

from .standings import League


def claim(league: League) -> str:
    """How good the best stack is beside doing nothing, and how many are better and worse; of those not told answers.

    Better and worse are said where the 95 % interval over probes lies on one side of 0.
    """
    able = [row for row in league.rows if row["method"] != UNTRAINED and not row["told"]]
    if not able:
        return "No stack has been run here that was not told the answers: there is nothing to claim yet."
    best = max(able, key=lambda row: row["gain"])
    interval = f"95\u00a0%: {best['gain_low']:+.2f} to {best['gain_high']:+.2f}"
    worth = f"{best['gain']:+.3f} over doing nothing ({interval}, {_seeds(best)})"
    found = verdict(best)
    if len(able) == 1:
        judged = {BETTER: "better than doing nothing", WORSE: "worse than doing nothing"}
        return (
            f"The one stack here, {best['method']}, {_did(league, best)}: {worth}. "
            f"It is {judged.get(found, 'not clearly better than doing nothing')}."
        )
    if found == BETTER:
        opening = f"The best of {len(able)} stacks, {best['method']}, {_did(league, best)}: {worth}."
    else:
        opening = (
            f"None of {len(able)} stacks is clearly better than doing nothing. "
            f"The best, {best['method']}, {_did(league, best)}: {worth}."
        )
    return " ".join(filter(None, (opening, _counts([verdict(row) for row in able]))))


def _counts(verdicts: Sequence[str]) -> str:
    """How many are worse, better, and neither clearly, where that is not said already."""
    every, better, worse = len(verdicts), verdicts.count(BETTER), verdicts.count(WORSE)
    if every in (better, worse):
        return f"All {every} are {'better' if better else 'worse'}."
    said = [f"{worse} of {every} stacks {'is' if worse == 1 else 'are'} worse than doing nothing"] if worse else []
    said += [f"{better} are better"] if better > 1 else []
    said += [f"of {every - worse - better} it cannot be told"] if worse + better and every > worse + better else []
    text = ", ".join(said)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _did(league: League, row: Row) -> str:
    """What a stack learned and kept (LAMA-ckl), or by how much it lowered the loss (TemporalWiki)."""
    if in_months(row):
        months = "one month" if len(row["months"]) == 1 else f"{len(row['months'])} months"
        change = "lowers" if row["gain"] >= 0 else "raises"
        return (
            f"{change} the NLL of the answers, over {months} of changed and unchanged facts, "
            f"from {row['avg_nll'] + row['gain']:.2f} to {row['avg_nll']:.2f} nats a token"
        )
    runs = next(own for made, own in zip(league.rows, league.runs, strict=True) if made is row)
    stage = runs[0].stages[0]
    count = len(stage.probe_ids["to_learn"])
    learned, kept = (
        mean(run.stages[0].epochs[0].sets[name].accuracy for run in runs) for name in ("to_learn", "not_to_forget")
    )
    whole = f"{row['top_exact'] * count:.1f}".removesuffix(".0")
    before = f", before: {_share(learned)}" if round(learned, 2) else ""
    start = f" (before: {_share(kept)})" if round(kept, 2) != 1 else ""
    return (
        f"learns {_share(row['top_acc'])} of the answers' tokens ({whole} of {count} facts whole{before}) "
        f"and keeps {_share(row['nf_acc'])}{start}"
    )


def _share(value: float) -> str:
    return f"{100 * value:.0f}\u00a0%"


def _seeds(row: Row) -> str:
    return "one seed" if row["seeds"] == 1 else f"{row['seeds']} seeds"
