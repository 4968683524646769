"""The report page of a few runs of one's own: names lie whole in the figure, the explorer opens on what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckl_bench.results.report.page import write_report
from ckl_bench.results.report.standings import standings
from ckl_bench.results.report.trade_off import trade_off
from helpers.browser import opened
from helpers.runs import record

STEEP = [[0.1 * e] * 4 for e in range(4)], [[1 - 0.2 * e] * 4 for e in range(4)]
FLAT = [[0.3 * e] * 4 for e in range(4)], [[1 - 0.01 * e] * 4 for e in range(4)]
LOW = [[0.02 * e] * 4 for e in range(4)], [[0.05 - 0.01 * e] * 4 for e in range(4)]


@pytest.mark.parametrize("scores", [STEEP, FLAT, LOW])
def test_the_name_of_doing_nothing_s_line_is_whole(scores: tuple[list[list[float]], list[list[float]]]) -> None:
    (league,) = standings([record(*scores), record(*scores, method="lora+ewc", seed=1)])
    figure = trade_off(league.series).figure
    figure.draw_without_rendering()
    (axis,) = figure.axes
    (name,) = (text for text in axis.texts if text.get_text() == "worse than doing nothing")
    box, frame = name.get_window_extent(), axis.bbox
    assert frame.x0 <= box.x0 < box.x1 <= frame.x1
    assert frame.y0 <= box.y0 < box.y1 <= frame.y1


@pytest.mark.parametrize(("after", "count"), [([1.0, 0.0], "1 facts: 1 learned"), ([0.5, 0.5], "4 facts: 0 learned")])
def test_the_explorer_opens_on_a_run_with_something_to_see(after: list[float], count: str, tmp_path: Path) -> None:
    still = [[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2
    runs = [record(*still, method="none"), record([[0.0, 0.0], after], [[0.0, 0.0]] * 2)]
    with opened(write_report(runs, tmp_path / "report.html")) as page:
        assert count in page.locator("#count").text_content()
        assert page.locator("#facts tr").count() == int(count[0])
        assert page.locator("#relation").is_hidden()  # nothing to choose from
