"""What a report says in words: its claim, the names of months, and what it leaves out; on runs made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.records import Record
from ckl_bench.results.report.claim import claim
from ckl_bench.results.report.months import month_name
from ckl_bench.results.report.page import write_figures, write_report
from ckl_bench.results.report.standings import standings
from helpers.runs import THREE, record

MANY = 40  # probes, so that intervals are narrow
KNOWN = [[1.0] * MANY, [1.0] * MANY]
GOOD = [[0.0] * MANY, [0.5] * MANY]
NOTHING = [[0.0] * MANY, [0.0] * MANY]
LITTLE = [[0.0] * MANY, [0.05] * MANY]
LOSING = [[1.0] * MANY, [0.25] * MANY]
MIXED = [[1.0] * MANY, [0.0] * 20 + [1.0] * 20]


def said(*records: Record) -> str:
    return claim(standings(records)[0])


def run(learned: list[list[float]], kept: list[list[float]], name: str, **changes: object) -> Record:
    return record(learned, kept, **{"method": name, "hyperparameters": {name: {}}} | changes)


def test_the_claim_names_the_best_and_counts_the_worse() -> None:
    best, bad = run(GOOD, KNOWN, "good"), run(LITTLE, LOSING, "bad")
    text = said(best, bad, run(LITTLE, LOSING, "worst"))
    assert text.startswith("The best of 3 stacks, good, learns 50\u00a0% of the answers' tokens (0 of 40 facts whole)")
    assert "keeps 100\u00a0%: +0.500 over doing nothing (95\u00a0%: +0.50 to +0.50, one seed)." in text
    assert text.endswith("2 of 3 stacks are worse than doing nothing.")
    assert "2 seeds" in said(best, run(GOOD, KNOWN, "good", seed=1), bad)


def test_what_was_told_and_what_does_nothing_claim_nothing() -> None:
    told, nothing = run(GOOD, KNOWN, "oracle"), run(NOTHING, KNOWN, "none")
    assert "nothing to claim" in said(told, nothing)
    text = said(told, nothing, run(LITTLE, LOSING, "bad"), run(LITTLE, LOSING, "worst"))
    assert text.startswith("None of 2 stacks is clearly better than doing nothing. The best, ")
    assert "All 2 are worse." in text
    assert "oracle" not in text


@pytest.mark.parametrize(
    ("learned", "kept", "judged"),
    [
        (GOOD, KNOWN, "better"),
        (LITTLE, LOSING, "worse"),
        ([[0.0] * MANY, [0.5] * MANY], MIXED, "not clearly better"),
    ],
)
def test_one_stack_alone_is_judged(learned: list[list[float]], kept: list[list[float]], judged: str) -> None:
    text = said(run(learned, kept, "mine"))
    assert text.startswith("The one stack here, mine, learns")
    assert text.endswith(f"It is {judged} than doing nothing.")


def test_a_sequence_is_claimed_in_nats() -> None:
    """(5+8 + 5+9 + 5+9.5)/6 before; after each month (5.1+6 + 5.3+7 + 4.5+7.5)/6."""
    text = said(THREE)
    assert "lowers the NLL of the answers, over 3 months of changed and unchanged facts, from 6.92 to 5.90 nats" in text
    assert "+1.017 over doing nothing" in text


def test_months_are_named_as_people_do() -> None:
    names = {
        "0201-0301": "Feb→Mar",
        "20230101-20230201": "Jan 2023→Feb",
        "20221201-20230101": "Dec 2022→Jan 2023",
        "20230120-20230220": "20 Jan 2023→20 Feb",
        "facts": "facts",
        "1301-1401": "1301-1401",
        "0201-20230301": "0201-20230301",
        "m0": "m0",
    }
    assert {name: month_name(name) for name in names} == names


def test_what_has_too_few_points_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    short = run(GOOD, KNOWN, "good")  # one epoch: a path, no curve
    text = write_report([short], tmp_path / "report.html").read_text()
    assert "No curves: with fewer than two epochs" in text
    assert 'id="curve-to_learn' not in text
    assert 'id="path-m0"' in text
    names = {path.name for path in write_figures([short], tmp_path)}
    assert names == {f"made-up-tiny-trade-off.{kind}" for kind in ("png", "svg")}
    alone = THREE.model_copy(update={"stages": THREE.stages[:1], "before": {}})
    text = write_report([alone], tmp_path / "report.html").read_text()
    assert "No curves: a sequence of one month has none" in text
    assert 'id="month-' not in text


def test_the_untrained_model_alone_makes_a_page(tmp_path: Path) -> None:
    text = write_report([run(NOTHING, KNOWN, "none")], tmp_path / "report.html").read_text()
    assert "nothing to claim" in text
    assert "<figure>" not in text
    assert '"name":"none · made-up · tiny · seed 0"' in text  # its facts can be looked at
    assert not write_figures([run(NOTHING, KNOWN, "none")], tmp_path)


def test_of_a_rebuilt_benchmark_the_page_opens_with_what_it_is_now(tmp_path: Path) -> None:
    def at(day: int, made: Record) -> Record:
        return made.model_copy(
            update={"environment": made.environment.model_copy(update={"started": f"2026-01-0{day}"})}
        )

    older = [at(1, run(GOOD, KNOWN, name)) for name in ("one", "two", "three")]  # the larger league
    now = at(2, run(LITTLE, KNOWN, "one", benchmark_hash="b" * 64))
    text = write_report([*older, now], tmp_path / "report.html").read_text()
    heads = [part.split("</h2>")[0] for part in text.split("<h2>")[1:3]]
    assert heads == ["made-up · tiny, 1 epochs, benchmark bbbbbbbb", "made-up · tiny, 1 epochs, benchmark aaaaaaaa"]


def test_figures_of_two_leagues_do_not_share_a_file(tmp_path: Path) -> None:
    longer = run([*GOOD, GOOD[1]], [*KNOWN, KNOWN[1]], "good", model="hub/model")
    written = write_figures([run(GOOD, KNOWN, "good", model="hub/model"), longer], tmp_path)
    assert len({*written}) == len(written) == 6
    assert all(path.parent == tmp_path for path in written)
