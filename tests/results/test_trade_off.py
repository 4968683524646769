"""The trade-off figure by its numbers: the spread of seeds, and lines of equal Total Knowledge."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from ckl_bench.results.report.standings import standings
from ckl_bench.results.report.trade_off import trade_off
from helpers.runs import record

# to learn, not to forget: the means of both probes after each epoch, a seed each
SEEDS = [([0.0, 0.2, 0.6], [1.0, 0.9, 0.5]), ([0.0, 0.3, 0.4], [1.0, 0.7, 0.8]), ([0.0, 0.1, 0.5], [1.0, 1.0, 0.8])]


def drawn(page: bool = True) -> tuple[Any, dict[str, Any]]:
    """The axis of a figure with a stack of three seeds and one of one, and its named lines."""
    runs = [
        record([[a] * 2 for a in learned], [[n] * 2 for n in kept], seed=seed)
        for seed, (learned, kept) in enumerate(SEEDS)
    ]
    runs.append(record([[0.0] * 2, [0.1] * 2, [0.3] * 2], [[1.0] * 2, [0.9] * 2, [0.6] * 2], method="lora+ewc"))
    (league,) = standings(runs)
    (axis,) = trade_off(league.series, page).figure.axes
    number = {one.row["method"]: one.index for one in league.series}
    lines = {line.get_gid(): line for line in axis.lines if line.get_gid()}
    assert set(number) == {"lora", "lora+ewc"}
    named = {"path": f"path-m{number['lora']}", "cross": f"spread-m{number['lora']}"}
    assert f"spread-m{number['lora+ewc']}" not in lines  # one seed has no range
    return axis, {name: lines[gid] for name, gid in named.items()} | {"star": lines["star"]}


@pytest.mark.parametrize("page", [True, False])
def test_the_cross_of_an_end_point_spans_its_seeds(page: bool) -> None:
    _, lines = drawn(page)
    ends = np.array([(learned[-1], kept[-1]) for learned, kept in SEEDS])
    (low, bottom), (high, top), (x, y) = ends.min(0), ends.max(0), ends.mean(0)
    expected = [(low, y), (high, y), (np.nan, np.nan), (x, bottom), (x, top)]
    assert lines["cross"].get_xydata() == pytest.approx(np.array(expected), nan_ok=True)
    assert lines["path"].get_xydata()[-1] == pytest.approx([x, y])


def test_a_point_on_a_line_of_equal_total_adds_up_to_its_name() -> None:
    axis, lines = drawn()
    straight = [line for line in axis.lines if not line.get_gid()]
    sums = [line.get_xydata().sum(axis=1) for line in straight]
    assert all(total == pytest.approx(total[0]) for total in sums)
    names = [text for text in axis.texts if re.fullmatch(r"\d\.\d", text.get_text())]
    assert len(names) >= 3
    for name in names:
        assert sum(name.xy) == pytest.approx(float(name.get_text()))
        assert any(total[0] == pytest.approx(float(name.get_text())) for total in sums), name.get_text()
    # The untrained model lies on the line of doing nothing, which its words name.
    (nothing,) = (text for text in axis.texts if text.get_text() == "worse than doing nothing")
    assert sum(nothing.get_position()) == pytest.approx(lines["star"].get_xydata()[0].sum()) == pytest.approx(1.0)
    assert any(total[0] == pytest.approx(1.0) for total in sums)
