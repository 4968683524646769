"""The page's table: columns of what a benchmark asks beside the usual."""

from __future__ import annotations

import re

from ckl_bench.records import Record
from ckl_bench.results.report.standings import standings
from ckl_bench.results.report.table import table
from helpers.runs import KEPT, LEARNED, record, scores


def asked_otherwise() -> Record:
    """A run of a benchmark that asks for what is learned in other words, too."""
    plain = record(LEARNED, KEPT)
    stage = plain.stages[0]
    epochs = [e.model_copy(update={"sets": {**e.sets, "asked_otherwise": scores([0.125, 0.0])}}) for e in stage.epochs]
    ids = {**stage.probe_ids, "asked_otherwise": ["o0", "o1"]}
    return plain.model_copy(update={"stages": [stage.model_copy(update={"epochs": epochs, "probe_ids": ids})]})


def test_what_was_asked_otherwise_has_a_column_where_there_is_such_a_set() -> None:
    for run, there in ((asked_otherwise(), True), (record(LEARNED, KEPT), False)):
        (league,) = standings([run])
        text = table(league, 0)
        heads = [re.sub("<[^>]*>", "", head) for head in re.findall("<th.*?</th>", text)]
        cells = [re.sub("<[^>]*>", "", cell) for cell in re.findall("<td.*?</td>", text)]
        assert ("asked otherwise" in heads) == there
        assert len(heads) == len(cells)
        assert not there or cells[heads.index("asked otherwise")] == "0.062"
